"""What the scripts of the tiny model are tried with."""

from collections.abc import Callable
from pathlib import Path

import make_model
import pretrain
import pytest


@pytest.fixture(scope="session")
def write_start() -> Callable[[Path], None]:
    """Return a function that runs the step `start`, two steps of training long."""

    def write_start(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(make_model, "NUM_TEXTS", 50)
            pretrain.run_step("start", folder, num_steps=2, seed=3, bf16=True)

    return write_start


@pytest.fixture(scope="session")
def start(write_start, tmp_path_factory) -> Path:
    """What the step `start` writes."""
    folder = tmp_path_factory.mktemp("tiny")
    write_start(folder)
    return folder / "start"


@pytest.fixture
def load(start):
    """Return a function that loads the start as the other steps do."""
    return lambda: pretrain.load_step(start)
