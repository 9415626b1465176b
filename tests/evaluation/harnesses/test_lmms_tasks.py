"""Tasks for lmms-eval: the same questions and the same metrics as those of `evaluate`."""

import json
import re
import runpy

import pytest

from llava_st_cli import main
from llava_st_hf.data.readers.registry import open_reader
from llava_st_hf.data.skips import SkippedRecord
from llava_st_hf.evaluation import StShapes, evaluate
from llava_st_hf.evaluation.harnesses.lmms_tasks import (
    doc_to_messages,
    process_results,
    read_sample,
    write_shapes_tasks,
    write_tasks,
)
from llava_st_hf.processing.media_llava_st import InputError


def read_docs(folder):
    return {path.stem: [json.loads(line) for line in path.open()] for path in sorted(folder.glob("*.jsonl"))}


def combine(folder, task, name, found):
    """Compute a metric with the function that the files of a task name for it."""
    (listed,) = re.findall(rf'metric: "{name}", aggregation: !function utils\.(\w+)', find_task_file(folder, task))
    utils = runpy.run_path(str(folder / "utils.py"))
    return utils[listed]([one[name] for one in found])


def find_task_file(folder, task):
    (path,) = folder.glob(f"*_{task}.yaml")
    return path.read_text()


def test_metrics_are_those_of_evaluate(make_model, processor, output_dir, tmp_path, tell_truths, few_training_samples):
    benchmark = StShapes(3)
    texts = [text if index % 3 else "{<t_3><t_60>} cut [<x_1>" for index, text in enumerate(tell_truths(benchmark))]
    metrics = evaluate(make_model(texts, benchmark=benchmark), processor, benchmark, output_dir, quiet=True)
    answers = dict(zip((benchmark.get_id(index) for index in range(len(benchmark))), texts, strict=True))
    names = write_shapes_tasks(tmp_path / "tasks", benchmark, 20)
    docs = read_docs(tmp_path / "tasks")
    assert sorted(names) == sorted(docs) and len(docs) == 7
    for task, lines in ((members[0]["task"], members) for members in docs.values()):
        found = [process_results(doc, [answers[doc["id"]]]) for doc in lines]
        expected = metrics["tasks"][task]["metrics"]
        assert {name: combine(tmp_path / "tasks", task, name, found) for name in found[0]} == expected


@pytest.fixture
def records(tmp_path, clip):
    """Records of one's own: a clip, and one that is not there."""
    lines = [
        {"video": clip.name, "query": "the circle", "span_seconds": [1.0, 2.0]},
        {"video": "gone.mp4", "query": "x", "span_seconds": [0, 1]},
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return open_reader("user_jsonl", tmp_path / "mine.jsonl", "mine", data_folder=clip.parent)


def test_records_with_files(records, tmp_path, clip):
    names, skipped = write_tasks(tmp_path / "tasks", "My set!", records, 20)
    assert names == ["llava_st_my_set__tvg"] and [one.reason for one in skipped] == ["missing_media"]
    (doc,) = read_docs(tmp_path / "tasks")["llava_st_my_set__tvg"]
    (message,) = doc_to_messages(doc)
    assert message["content"] == [{"type": "video", "url": str(clip)}, {"type": "text", "text": doc["question"]}]
    assert "the circle" in doc["question"]
    assert read_sample(doc).messages == records[0].messages
    # The clip has 3.9 s, so tokens 25 and 51 are near 1 and 2 s.
    assert process_results(doc, ["{<t_25><t_51>}"])["m_tIoU"] > 0.9
    assert process_results(doc, ["nothing at all"]) == {"m_tIoU": 0.0, "R@0.3": 0.0, "R@0.5": 0.0, "R@0.7": 0.0}


def test_utils_of_somebody_else_stay(records, tmp_path):
    for _ in range(2):
        write_tasks(tmp_path / "tasks", "mine", records, 20)
    utils = tmp_path / "tasks" / "utils.py"
    utils.write_text("mine = 1")
    with pytest.raises(InputError, match=r"utils\.py is there, of no tasks of ours; give another folder"):
        write_tasks(tmp_path / "tasks", "mine", records, 20)
    assert utils.read_text() == "mine = 1"


def test_media_that_are_gone_are_worth_0(records, tmp_path):
    write_tasks(tmp_path / "tasks", "mine", records, 20)
    (doc,) = read_docs(tmp_path / "tasks")["llava_st_mine_tvg"]
    doc["record"] = doc["record"].replace("circle.mp4", "gone.mp4")
    assert set(process_results(doc, ["{<t_25><t_51>}"]).values()) == {0.0}


def test_nothing_to_ask(tmp_path):
    with pytest.raises(InputError, match="no record has a task that can be scored"):
        write_tasks(tmp_path / "tasks", "mine", [], 20)
    gone = SkippedRecord("x", "mine", "missing_media", "video is 'x', which does not exist")
    with pytest.raises(InputError, match="none of 1 record can be asked; the first: video is 'x'"):
        write_tasks(tmp_path / "tasks", "mine", [gone], 20)


def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["lmms-tasks", "--num-clips", "1", "--output-dir", "out"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'out'}\n"
    assert "llava_st_shapes_tvg" in captured.err
    assert (tmp_path / "out" / "utils.py").is_file()
    assert main(["lmms-tasks", "--data-folder", "x"]) == 1
    assert "--data-folder is x: it goes with --annotations only" in capsys.readouterr().err
