"""What is written is whole, replaces nothing but what was written before, and by one process at a time."""

import json
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import warm_process
from hostile_process import check_refused, run_commands
from PIL import Image

from llava_st_cli import main
from llava_st_hf import GroundingResult, InputError
from llava_st_hf.data.readers.registry import open_reader
from llava_st_hf.data.samples import Sample
from llava_st_hf.data.shapes import ShapesDataset, write_shapes
from llava_st_hf.data.skips import SkipReport
from llava_st_hf.data.tools.convert import convert_annotations
from llava_st_hf.data.tools.publish import publish_dataset
from llava_st_hf.data.tools.stats import DataStatistics, write_statistics
from llava_st_hf.demo import write_demo_clip
from llava_st_hf.utils.atomic_files import LOCK_FILE, write_text_whole, writing_whole
from llava_st_hf.utils.folder_locks import locking, locking_folder
from llava_st_hf.visualization import check_output

HOLD = """
import time
from llava_st_hf.utils.folder_locks import locking_folder
with locking_folder(path, "evaluates a model"):
    ready.send(True)
    time.sleep(1000)
"""
HALF = """
import time
from llava_st_hf.utils.atomic_files import writing_whole
with writing_whole(path) as half:
    half.write_text("half")
    ready.send(True)
    time.sleep(1000)
"""


@contextmanager
def running(program: str, path: Path) -> Iterator[int]:
    """Run a program up to where it holds what it is to hold, and kill it at the end; gives its number."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = warm_process.start(exec, program, {"path": path, "ready": sender}, folder=path.parent)
    try:
        assert receiver.poll(timeout=100) and receiver.recv()
        yield process.pid
    finally:
        process.kill()
        process.join()


def test_a_second_process_is_refused_and_told_who_is_there(tmp_path):
    folder = tmp_path / "run"
    with running(HOLD, folder) as number:
        words = f"in use by process {number} on .*, which evaluates a model"
        with pytest.raises(InputError, match=words), locking_folder(folder, "trains a model"):
            raise AssertionError("two at a time")
        with pytest.raises(InputError, match="in use by process"):
            publish_dataset([], folder)
    with locking_folder(folder, "trains a model"):  # a lock goes with its owner
        assert str(os.getpid()) in (folder / LOCK_FILE).read_text()
    assert not (folder / LOCK_FILE).exists()


def test_a_folder_that_nothing_came_into_is_not_left(tmp_path):
    with pytest.raises(KeyError), locking_folder(tmp_path / "a" / "b", "tests"):
        raise KeyError
    assert not (tmp_path / "a" / "b").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"), locking_folder(tmp_path / "file" / "b", "tests"):
        pass
    (tmp_path / "link.lock").symlink_to(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written"), locking(tmp_path / "link.lock", "tests"):
        pass
    assert (tmp_path / "file").read_bytes() == b""


def test_leftovers_of_killed_processes_are_removed_at_the_next_start(tmp_path):
    path = tmp_path / f"{'é' * 100}.json"
    path.write_text("old")
    with running(HALF, path):
        write_text_whole(path, "new")  # of a process that lives
        assert len(list(tmp_path.iterdir())) == 2
    write_text_whole(tmp_path / "other.json", "{}")
    assert len(list(tmp_path.iterdir())) == 3
    write_text_whole(path, "new")
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([path.name, "other.json"])
    assert path.read_text() == "new"


def test_a_full_disk_leaves_the_old_answer(tmp_path):
    """An answer that does not fit: the limit on the size of a file stands for a full disk."""
    path = tmp_path / "answer.json"
    GroundingResult("old").save(path)
    before = path.read_bytes()
    program = (
        "import resource, signal\n"
        "from llava_st_hf import GroundingResult\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    GroundingResult('new' * 10000).save(path)\n"
        "except Exception as error:\n"
        "    problem.send(str(error))\n"
    )
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = warm_process.start(exec, program, {"path": path, "problem": sender}, folder=tmp_path)
    assert receiver.poll(timeout=100) and "could not be written" in receiver.recv()
    process.join()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["answer.json"]


def test_clips_of_st_shapes_are_written_whole(tmp_path, monkeypatch):
    shapes = ShapesDataset(["rec"], 1, size=54)
    write_shapes(tmp_path, shapes)
    (path,) = (tmp_path / "media").iterdir()
    before = path.read_bytes()

    def fill_disk(self, content):
        with open(self, "wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        write_shapes(tmp_path, shapes)
    assert [each.name for each in (tmp_path / "media").iterdir()] == [path.name]
    with open(path, "rb") as file:
        assert file.read() == before


@pytest.mark.parametrize("name", ["mine.json", "mine.csv", "mine.html"])
def test_a_file_of_somebody_else_is_replaced_only_when_that_is_asked_for(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"mine": 1}')
    with pytest.raises(InputError, match="not written here before, give another name or --overwrite"):
        GroundingResult("new").save(path)
    assert path.read_text() == '{"mine": 1}'
    GroundingResult("new").save(path, overwrite=True)
    GroundingResult("newer").save(path)  # an earlier output
    assert path.read_text() != '{"mine": 1}'


def test_numbers_and_clips_replace_only_their_own(tmp_path):
    statistics = DataStatistics(1, 1, 0)
    statistics.counts["s", "tvg"] = 1
    for _ in range(2):
        assert [path.name for path in write_statistics(statistics, tmp_path)] == ["stats.json", "records.png"]
    for name in ("stats.json", "records.png", "tokens.png"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("{}")
        with pytest.raises(InputError, match=f"{name} is there, and was not written here"):
            write_statistics(statistics, folder)
        assert [path.name for path in folder.iterdir()] == [name]
        write_statistics(statistics, folder, overwrite=True)
    path = tmp_path / "clip.mp4"
    for _ in range(2):
        write_demo_clip(path)
    path.write_text("mine")
    with pytest.raises(InputError, match="not written here"):
        write_demo_clip(path)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_no_input_is_written_over_by_another_name(clip, tmp_path, link):
    source, other = tmp_path / "source.mp4", tmp_path / "other.mp4"
    source.write_bytes(clip.read_bytes())
    link(source, other)
    with pytest.raises(InputError, match="is what is drawn on"):
        check_output(other, [".mp4"], [source], overwrite=True)


def test_ground_writes_over_nothing(checkpoint, clip, tmp_path):
    queries = tmp_path / "queries.json"
    queries.write_text("it")
    mine = tmp_path / "mine.json"
    mine.write_text("[1]")
    linked = tmp_path / "linked.json"
    os.link(queries, linked)
    picture = tmp_path / "mine.png"
    Image.new("RGB", (8, 8)).save(picture)
    before = {path: path.read_bytes() for path in (queries, mine, picture, checkpoint / "config.json")}
    few = ["--frames", 4, "--max-new-tokens", 80, "--model", checkpoint, "--quiet"]
    refused = [
        ["--json", mine],
        ["--json", queries, "--overwrite"],
        ["--json", linked, "--overwrite"],
        ["--json", checkpoint / "config.json", "--overwrite"],
        ["--contact-sheet", picture],
        ["--json", tmp_path / "a.json", "--contact-sheet", tmp_path / "a.json"],
    ]
    commands = [["ground", clip, "--queries", queries, *few, *outputs] for outputs in refused]
    ended = run_commands(commands, tmp_path)
    for each in ended:
        check_refused(each)
    assert all(path.read_bytes() == content for path, content in before.items())
    answers = [tmp_path / name for name in ("a.json", "a.mp4", "a.png")]
    outputs = ["--json", answers[0], "--annotated", answers[1], "--contact-sheet", answers[2]]
    for _ in range(2):  # the second time they are earlier outputs
        assert main([*map(str, ["ground", clip, "it", *few, *outputs])]) == 0
    assert main([*map(str, ["ground", clip, "it", *few, "--json", mine, "--overwrite"])]) == 0
    assert json.loads(mine.read_text())["query"] == "it"


def test_conversions_of_one_file_do_not_meet(clip, tmp_path):
    source, target = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text(json.dumps({"video": clip.name, "query": "it", "span_seconds": [0, 1], "task": "tvg"}) + "\n")
    reader = open_reader("user_jsonl", source, "a", data_folder=clip.parent)
    assert isinstance(reader[0], Sample), reader[0]
    with locking(f"{target}.partial.lock", "converts"), pytest.raises(InputError, match="in use by process"):
        convert_annotations(reader, target, SkipReport())
    assert convert_annotations(reader, target, SkipReport()).num_written == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_conversion_begins_with_a_file_of_its_own(clip, tmp_path, link):
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps({"video": clip.name, "query": "it", "span_seconds": [0, 1], "task": "tvg"}) + "\n")
    before = source.read_bytes()
    reader = open_reader("user_jsonl", source, "a", data_folder=clip.parent)
    link(source, tmp_path / "b.jsonl.partial")
    with pytest.raises(InputError, match=r"b\.jsonl\.partial is there, and of no conversion: delete it"):
        convert_annotations(reader, tmp_path / "b.jsonl", SkipReport())
    assert source.read_bytes() == before
    for name in ("c.jsonl", "c.jsonl.partial"):
        with pytest.raises(InputError, match=r"the report is .*: give it another name"):
            convert_annotations(reader, tmp_path / "c.jsonl", SkipReport(tmp_path / name))
    with pytest.raises(InputError, match="it cannot be written"):
        convert_annotations(reader, source / "c.jsonl", SkipReport())


def test_what_is_written_by_this_process_is_not_taken_for_a_leftover(tmp_path):
    with writing_whole(tmp_path / "a.txt") as first:
        first.write_text("1")
        with writing_whole(tmp_path / "a.txt") as second:
            second.write_text("2")
        assert first.exists()
    assert (tmp_path / "a.txt").read_text() == "1"
