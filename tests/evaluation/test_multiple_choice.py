"""Questions with choices, from the file to the table of their sub-tasks."""

import json

import pytest

from llava_st_hf.evaluation.benchmarks.annotation_file import find_source, open_benchmark
from llava_st_hf.evaluation.predictions import read_predictions
from llava_st_hf.evaluation.protocols import get_protocol
from llava_st_hf.evaluation.runner import evaluate
from llava_st_hf.evaluation.scoring import format_scores, score_predictions
from llava_st_hf.evaluation.summary import summarize_predictions
from llava_st_hf.evaluation.truths import read_truths

pytestmark = pytest.mark.usefixtures("one_thread")
ELEMENT = {"video": "a.mp4", "question": "What turns?", "candidates": ["a bar", "a circle"], "answer": "a circle"}


@pytest.fixture
def folder(tmp_path, clip):
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "json").mkdir()
    for name, answers in (("action_sequence", ["a circle", "a bar"]), ("state_change", ["a circle"] * 2)):
        elements = [ELEMENT | {"answer": answer} for answer in answers]
        (tmp_path / "json" / f"{name}.json").write_text(json.dumps(elements))
    return tmp_path


def test_a_model_is_asked_and_each_sub_task_has_its_accuracy(folder, make_model, processor, output_dir):
    source = find_source("mvbench", folder)
    assert source.path == folder / "json"
    benchmark = open_benchmark(source).fit(20, 54)
    # Right, wrong, the words of the choice, and none.
    texts = ["(B) a circle", "B", "A circle.", "It turns."]
    metrics = evaluate(make_model(texts, benchmark=benchmark), processor, benchmark, output_dir, quiet=True)
    found = metrics["tasks"]["multiple_choice"]
    assert (found["metrics"], found["failures"]) == ({"accuracy": 0.5}, {"missing_choice": 1})
    assert found["groups"] == {
        "sub-task": {
            "action_sequence": {"items": 2, "metrics": {"accuracy": 0.5}},
            "state_change": {"items": 2, "metrics": {"accuracy": 0.5}},
        }
    }
    report = (output_dir / "report.md").read_text()
    assert "| sub-task        | accuracy | items |" in report and "| state_change    |    0.500 |     2 |" in report


def test_answers_of_another_system(folder, tmp_path):
    path, truths = tmp_path / "answers.jsonl", read_truths(folder / "json")
    answers = {"action_sequence 0": "a circle", "action_sequence 1": "The answer is (A).", "state_change 1": "A or B"}
    path.write_text("\n".join(json.dumps({"id": name, "text": text}) for name, text in answers.items()))
    predictions, protocol = read_predictions(path, truths.items), get_protocol("default")
    lines = score_predictions(truths.items, predictions, protocol)
    assert [line["scores"]["choice"] for line in lines] == [1, 1, 0, 0]
    text = format_scores(summarize_predictions(lines, protocol), protocol, truths, predictions)
    assert "| state_change                |    0.000 |     2 |" in text
    assert "1 no_answer, 1 missing_choice" in text
