"""A run that is killed at any moment and started again ends as if nothing had happened."""

import json
import time
from pathlib import Path

import pytest
import torch
import training_process
import warm_process

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = {
    "records": 16,
    "max_steps": 8,
    "save_strategy": "steps",
    "save_steps": 1,
    "stage": "coordinate_alignment",
    "dropout": 0.2,
    "lr_scheduler_type": "cosine",
}


def read_numbers(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "read-0.txt").read_text().split()]


@pytest.fixture(scope="module")
def whole(checkpoint, tmp_path_factory) -> Path:
    """A run that was not disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    training_process.main(folder, checkpoint, SETTINGS)
    return folder


# After which moment the run is killed: a checkpoint is whole, one is being written, a later record is read.
MOMENTS = {
    "after_a_checkpoint": lambda folder: (folder / "checkpoint-2").exists(),
    "while_saving": lambda folder: (folder / "unfinished" / "checkpoint-4").exists(),
    "between": lambda folder: len(read_numbers(folder)) > 11 if (folder / "read-0.txt").exists() else False,
}


@pytest.mark.parametrize(
    "moment", ["while_saving", *(pytest.param(m, marks=pytest.mark.slow) for m in ("after_a_checkpoint", "between"))]
)
def test_a_killed_run_ends_with_the_same_weights(whole, checkpoint, tmp_path, moment):
    process = warm_process.start(training_process.main, tmp_path, checkpoint, SETTINGS, folder=tmp_path.parent)
    deadline = time.monotonic() + 240
    while not MOMENTS[moment](tmp_path):
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.join()
    assert not (tmp_path / "losses.json").exists()
    numbers = [int(path.name.rpartition("-")[2]) for path in tmp_path.glob("checkpoint-*")]
    assert numbers
    for path in tmp_path.glob("checkpoint-*"):
        assert (path / "trainer_state.json").is_file() and (path / "rng_state.pth").is_file()
    (tmp_path / "read-0.txt").unlink()
    training_process.main(tmp_path, checkpoint, {**SETTINGS, "resume": True})
    assert read_numbers(tmp_path) == list(range(2 * max(numbers), 16))
    expected = torch.load(whole / "weights.pt")
    actual = torch.load(tmp_path / "weights.pt")
    assert expected.keys() == actual.keys()
    assert all(torch.equal(actual[name], value) for name, value in expected.items())
    losses = [
        [entry["loss"] for entry in json.loads((folder / "losses.json").read_text())] for folder in (whole, tmp_path)
    ]
    assert losses[0] == losses[1]
