"""What all commands share: what is an option, what an error becomes, and what a terminal must not see."""

import inspect
import threading
import typing
import urllib.error
import warnings
from dataclasses import dataclass

import pytest
import typer
from huggingface_hub import constants
from torch._utils import ExceptionWrapper

from llava_st_cli import running
from llava_st_cli.options import argument, expand_dataclasses, flag, option
from llava_st_cli.running import Command, CommandError, check_folder, check_repository, clean, naming, summarize_error
from llava_st_hf import InputError
from llava_st_hf.data.skips import RecordError
from llava_st_hf.demo import SHIPPED_CHECKPOINT


class SeveralNames(Command):
    """A command for the tests."""

    takes_several = frozenset({"--names"})


@pytest.fixture
def run(capsys):
    """Run a command that does what it is told to; return the exit code, what it got and standard error."""
    got, app = {}, typer.Typer(rich_markup_mode=None)

    @app.callback()
    def start(debug: bool = False) -> None:
        """Start."""

    @app.command(cls=SeveralNames)
    def work(
        words: typing.Annotated[list[str], argument("WORD", "words")],
        pair: typing.Annotated[tuple[float, float] | None, option("A B", "two numbers")] = None,
        names: typing.Annotated[list[str] | None, option("NAME ...", "names")] = None,
        is_on: typing.Annotated[bool, flag("--on", "a switch")] = False,
    ) -> None:
        """Work."""
        got.update(words=words, pair=pair, names=names, on=is_on)
        if run.error is not None:
            raise run.error

    def run(*arguments: str, error: Exception | None = None) -> tuple[int, dict, str]:
        run.error = error
        got.clear()
        with pytest.raises(SystemExit) as end:
            typer.main.get_command(app)(args=["work", *arguments], prog_name="llava-st")
        return end.value.code, dict(got), capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a", "b"], {"words": ["a", "b"]}),
        (["-0.5", "--on", "-.5"], {"words": ["-0.5", "-.5"], "on": True}),
        (["--pair", "-1", "-2", "a"], {"words": ["a"], "pair": (-1.0, -2.0)}),
        (["-5 degrees", "--on"], {"words": ["-5 degrees"], "on": True}),
        (["-the hat"], {"words": ["-the hat"]}),
        (["-"], {"words": ["-"]}),
        (["a", "--", "--on"], {"words": ["a", "--on"]}),
        (["--names", "x", "y", "--on", "a"], {"words": ["a"], "names": ["x", "y"], "on": True}),
        (["a", "--names", "x", "--names=y"], {"words": ["a"], "names": ["x", "y"]}),
        (["a", "--names=x y"], {"words": ["a"], "names": ["x y"]}),
    ],
)
def test_words_and_options_in_any_order(run, arguments, expected):
    assert run(*arguments) == (0, {"pair": None, "names": None, "on": False, **expected}, "")


@pytest.mark.parametrize(
    "arguments",
    [["a", "--of"], ["a", "--pair", "1"], ["a", "-x"], ["--on"], ["a", "--names"], ["a", "--names", "--on"]],
)
def test_what_is_no_option_is_refused(run, arguments):
    code, got, err = run(*arguments)
    assert (code, got) == (2, {})
    assert err.startswith("Usage: llava-st work ")


def wrapped(message: str, cause: Exception) -> Exception:
    error = OSError(message)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CommandError("--pair is 3: give two."), "--pair is 3: give two."),
        (InputError("pair is 3: give two."), "pair is 3: give two."),
        (InputError("pair is 3.", field="pair"), "pair is 3. (on the command line: --pair A B)"),
        (InputError("it is on.", field="on"), "it is on. (on the command line: --on)"),
        (InputError("words is none.", field="words"), "words is none. (on the command line: WORD)"),
        (InputError("this is wrong.", field="other"), "this is wrong."),
        (RecordError("invalid_field", "pair", "pair is 3."), "pair is 3."),
        (InputError("two\n lines \x1b[2J\udcff"), r"two lines ?[2J\udcff"),
        (KeyError("key"), "KeyError: 'key'"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (MemoryError(), "MemoryError: MemoryError"),
        (wrapped("it failed because:", ValueError("\n of this\n and that")), "OSError: of this"),
    ],
)
def test_any_error_is_one_line(run, error, line):
    assert run("a", error=error)[::2] == (1, f"llava-st: error: {line}\n")


def pass_on(error: Exception) -> Exception:
    """Return an error as the `DataLoader` of PyTorch raises that of one of its processes."""
    try:
        raise error from ValueError("why")
    except type(error):
        wrapper = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(type(error), match="DataLoader worker process 0") as passed:
        wrapper.reraise()
    return passed.value


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("clip.mp4 is damaged: make it anew."), "clip.mp4 is damaged: make it anew."),
        (InputError("two\n lines"), "two lines"),
        (InputError("InputError: it"), "InputError: it"),
        (OSError("OSError: it\nis full"), "OSError: OSError: it"),
        (KeyError("key"), "KeyError: 'key'"),
        (MemoryError(), "MemoryError: Caught MemoryError in DataLoader worker process 0."),
    ],
)
def test_an_error_of_a_process_that_reads_is_told_as_one_of_this(run, error, line):
    assert run("a", error=pass_on(error))[::2] == (1, f"llava-st: error: {line}\n")


def test_a_warning_that_nobody_can_act_on_is_not_shown():
    class Model:
        @property
        def is_gradient_checkpointing(self) -> bool:
            warnings.warn("`is_gradient_checkpointing` is deprecated", FutureWarning, stacklevel=1)

    app = typer.Typer(rich_markup_mode=None)

    @app.command(cls=Command)
    def work() -> None:
        """Work."""
        _ = Model().is_gradient_checkpointing
        warnings.warn("another", FutureWarning, stacklevel=1)

    with pytest.warns(FutureWarning) as seen, pytest.raises(SystemExit):
        typer.main.get_command(app)(args=[], prog_name="llava-st")
    assert [str(each.message) for each in seen] == ["another"]


def test_errors_of_libraries_say_what_they_are_about():
    with pytest.raises(CommandError, match=r"^--model m cannot be read: no file$"), naming("--model m", "read"):
        raise OSError("no file\nat all")
    with pytest.raises(InputError, match=r"^as it is$"), naming("--model m"):
        raise InputError("as it is")
    assert summarize_error(ValueError()) == "ValueError"


def test_a_folder_that_is_meant_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # as the user has set it: nothing is asked
    for name in (None, "me/model", str(tmp_path), f"{tmp_path}/"):
        check_folder("--model", name)
    for name in ("", " ", "./nowhere", "nowhere/", "~/no/where"):
        with pytest.raises(CommandError, match="--model is"):
            check_folder("--model", name)


def test_clean_keeps_lines():
    assert clean("é\n\x1b[2J\x07\t.") == "é\n?[2J??."


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


@pytest.mark.parametrize("name", [SHIPPED_CHECKPOINT.name, f"src/llava_st_hf/assets/{SHIPPED_CHECKPOINT.name}"])
def test_the_shipped_model_by_its_name_is_told_where_it_lies(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=f"no such folder here; the model that ships is {SHIPPED_CHECKPOINT}"):
        check_repository("--model", name)


@pytest.mark.parametrize("name", ["owner/name", "some-model", f"me/{SHIPPED_CHECKPOINT.name}"])
def test_without_network_a_wrong_name_is_said_at_once(monkeypatch, tmp_path, name):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CommandError, match=f"--model is {name}: no such folder, and the Hub cannot be reached"):
        check_folder("--model", name)
    # What was fetched before is used, and the Hub is not asked for each file again.
    (tmp_path / f"models--{name.replace('/', '--')}").mkdir()
    check_folder("--model", name)
    assert constants.HF_HUB_OFFLINE


def test_a_hub_that_says_no_can_be_reached(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.HTTPError("http://hub", 404, "not here", None, None)

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    check_folder("--model", "owner/name")
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_does_not_answer_is_waited_for_briefly(monkeypatch):
    monkeypatch.setattr(running, "_MAX_WAIT_SECONDS", 0.01)
    is_over = threading.Event()

    def wait(*args, **kwargs):
        is_over.wait(10)
        raise TimeoutError

    monkeypatch.setattr("urllib.request.urlopen", wait)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(CommandError, match="cannot be reached"):
        check_folder("--model", "owner/name")
    is_over.set()
