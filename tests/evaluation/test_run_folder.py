"""A run that is stopped anywhere goes on where it was; another one is refused."""

import json

import pytest

from llava_st_hf.evaluation.run_folder import PREDICTIONS_FILE, RunFolder
from llava_st_hf.processing.media_llava_st import InputError

SETTINGS = {"model": "tiny", "seed": 1_000_000, "tasks": ("tvg", "rec")}


def test_predictions_survive(output_dir):
    folder = RunFolder(output_dir, SETTINGS)
    folder.append([{"id": "a", "text": "\ud800 é"}, {"id": "b"}])
    again = RunFolder(output_dir, SETTINGS)
    assert again.read_predictions() == {"a": {"id": "a", "text": "\ud800 é"}, "b": {"id": "b"}}


def test_a_line_that_was_cut_off_is_written_anew(output_dir):
    folder = RunFolder(output_dir, SETTINGS)
    folder.append([{"id": "a"}, {"id": "b", "text": "long"}])
    path = output_dir / PREDICTIONS_FILE
    path.write_bytes(path.read_bytes()[:-8])
    folder = RunFolder(output_dir, SETTINGS)
    assert list(folder.read_predictions()) == ["a"]
    folder.append([{"id": "b", "text": "anew"}])
    assert folder.merge(["a", "b"]) == [{"id": "a"}, {"id": "b", "text": "anew"}]
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "b"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "other"}, "holds a run with model='tiny', and now model is 'other'"),
        ({"seed": 1}, "holds a run with seed=1000000, and now seed is 1"),
        ({"constrained": True}, "holds a run with constrained=None, and now constrained is True"),
    ],
)
def test_another_run_is_refused(output_dir, changed, message):
    RunFolder(output_dir, SETTINGS)
    with pytest.raises(InputError, match=message):
        RunFolder(output_dir, {**SETTINGS, **changed})


@pytest.mark.parametrize("name", [PREDICTIONS_FILE, "metrics.json", "judge.json", "report.md", "report.html"])
def test_files_of_nobody_are_refused(output_dir, name):
    output_dir.mkdir()
    (output_dir / name).write_text("")
    with pytest.raises(InputError, match=rf"it holds {name} but no run\.json"):
        RunFolder(output_dir, SETTINGS)
    assert [path.name for path in output_dir.iterdir()] == [name]


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_broken_settings(output_dir, text):
    output_dir.mkdir()
    (output_dir / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json cannot be read .* name another"):
        RunFolder(output_dir, SETTINGS)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="it cannot be made"):
        RunFolder(tmp_path / "file", SETTINGS)


def test_processes_share_a_folder(output_dir):
    first, second = RunFolder(output_dir, SETTINGS), RunFolder(output_dir, SETTINGS, rank=1)
    second.append([{"id": "b"}, {"id": "d"}])
    first.append([{"id": "a"}])
    with pytest.raises(InputError, match="lacks 1 of 4 predictions, the first of 'c'"):
        first.merge(["a", "b", "c", "d"])
    first.append([{"id": "c"}])
    assert [prediction["id"] for prediction in first.merge(["a", "b", "c", "d"])] == ["a", "b", "c", "d"]
    assert sorted(path.name for path in output_dir.iterdir()) == [PREDICTIONS_FILE, "run.json"]


def test_the_first_of_two_predictions_counts(output_dir):
    """As left behind by a kill between the merging of files and their removal."""
    folder = RunFolder(output_dir, SETTINGS)
    folder.append([{"id": "a", "n": 1}, {"id": "a", "n": 2}])
    assert folder.merge(["a"]) == [{"id": "a", "n": 1}]
