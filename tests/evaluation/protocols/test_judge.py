"""Open answers: the file for a judge, and what its scores are worth."""

import json

import pytest

from llava_st_hf.evaluation.benchmarks.annotation_file import find_source, open_benchmark
from llava_st_hf.evaluation.judging import JUDGE_FILE
from llava_st_hf.evaluation.predictions import read_predictions
from llava_st_hf.evaluation.protocols import get_protocol
from llava_st_hf.evaluation.runner import evaluate
from llava_st_hf.evaluation.scoring import format_scores, score_predictions
from llava_st_hf.evaluation.summary import summarize_predictions
from llava_st_hf.evaluation.truths import read_truths

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def questions(tmp_path, clip):
    (tmp_path / "v_1.mp4").write_bytes(clip.read_bytes())
    path = tmp_path / "generic_qa.json"
    elements = [
        {"video_name": "v_1", "Q": "What turns?", "A": "A circle."},
        {"video_name": "v_gone", "Q": "What is it?", "A": "A dog."},
        {"video_name": "v_1", "Q1": "What stops?", "Q2": "Which thing stops?", "A": "The bar."},
    ]
    path.write_text(json.dumps(elements))
    return path


def judge(path, score):
    """Score answers as the public scripts do: a number behind each name, in the order of the names."""
    elements, counts, judged = json.loads(path.read_text()), {}, {}
    for element in elements:
        name = element["video_name"]
        counts[name] = counts.get(name, -1) + 1
        said = {key.lower(): value for key, value in element.items() if key != "video_name"}
        judged[f"{name}_{counts[name]}"] = [{"score": score(said)}, said]
    return judged


def test_from_questions_to_scores_and_back(questions, make_model, processor, output_dir, tmp_path):
    benchmark = open_benchmark(find_source(str(questions), tmp_path)).fit(20, 54)
    assert benchmark.name == "generic_qa.json (partial: 3 of 4 items)"
    texts = ["A circle turns.", "The bar.", "A dog."]
    metrics = evaluate(make_model(texts, benchmark=benchmark), processor, benchmark, output_dir, quiet=True)
    assert metrics["tasks"]["video_qa"]["metrics"]["ROUGE_L"] > 0.5
    element, pair = json.loads((output_dir / JUDGE_FILE).read_text())
    assert element == {"video_name": "v_1_0", "Q": "What turns?", "A": "A circle.", "pred": "A circle turns."}
    assert [pair[key] for key in ("Q1", "Q2", "pred1", "pred2")] == [
        "What stops?",
        "Which thing stops?",
        "The bar.",
        "A dog.",
    ]
    assert "judge.json has the open answers for a judge" in (output_dir / "report.md").read_text()
    path = tmp_path / "judged.json"
    path.write_text(json.dumps(judge(output_dir / JUDGE_FILE, lambda said: 4 if "pred" in said else 2.5)))
    truths, protocol = read_truths(questions), get_protocol("judge")
    predictions = read_predictions(path, truths.items, "judged")
    lines = score_predictions(truths.items, predictions, protocol)
    # What was not judged counts as 0.
    assert {line["id"]: line["scores"]["judge"] for line in lines} == {
        "v_1_0": 4,
        "v_gone_0": 0,
        "v_1_1 Q1": 2.5,
        "v_1_1 Q2": 2.5,
    }
    text = format_scores(summarize_predictions(lines, protocol), protocol, truths, predictions)
    assert "| video_qa | judge (0 to 5) | 2.250 |" in text and "1 no_answer" in text


def test_the_public_names_and_scores_that_are_none(questions, tmp_path):
    path, truths = tmp_path / "judged.json", read_truths(questions)
    said = {"q": "", "a": "", "pred": "A circle."}
    path.write_text(
        json.dumps({"v_1_0": [{"score": "3"}, said], "v_gone_0": [{"score": 9}, said], "v_2_0": [{}, said]})
    )
    predictions = read_predictions(path, truths.items, "judged")
    assert [(problem.id, problem.reason) for problem in predictions.problems] == [
        ("v_gone_0", "unreadable_score"),
        ("v_2_0", "unknown_id"),
    ]
    lines = score_predictions(truths.items, predictions, get_protocol("judge"))
    assert [line["scores"]["judge"] for line in lines] == [3, 0, 0, 0]
