"""Options that several commands take, and the model that is chosen by them."""

import inspect
import typing
from dataclasses import dataclass

import pytest

from llava_st_cli.options import ModelChoice, expand_dataclasses, option
from llava_st_cli.running import CommandError
from llava_st_hf.demo import SHIPPED_CHECKPOINT


def test_a_dataclass_stands_for_its_options():
    @dataclass(frozen=True)
    class Pair:
        first: typing.Annotated[int, option("N", "first")]
        second: typing.Annotated[int, option("N", "second")] = 2

    @expand_dataclasses
    def add(factor: int, pair: Pair, last: int = 0) -> None:
        found.append((factor, pair, last))

    found = []
    parameters = inspect.signature(add).parameters
    assert [(name, each.default) for name, each in parameters.items()][1:3] == [
        ("first", inspect.Parameter.empty),
        ("second", 2),
    ]
    add(factor=3, first=1, second=5, last=7)
    assert found == [(3, Pair(1, 5), 7)]


def test_a_model_that_is_not_named_is_the_one_that_ships():
    assert ModelChoice(dtype="bfloat16").load().model.name_or_path == str(SHIPPED_CHECKPOINT)
    with pytest.raises(CommandError, match=r"--model is \./nowhere: no such folder"):
        ModelChoice("./nowhere")


def test_a_model_that_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{broken")
    with pytest.raises(CommandError, match=f"^--model {tmp_path} cannot be loaded: "):
        ModelChoice(str(tmp_path)).load()
