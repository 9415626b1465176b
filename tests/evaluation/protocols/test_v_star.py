"""V-STaR's when and where against values worked out by hand, from files as they are published."""

import json
import re

import numpy as np
import pytest

from llava_st_hf.evaluation.predictions import read_predictions
from llava_st_hf.evaluation.protocols import get_protocol
from llava_st_hf.evaluation.scoring import format_scores, score_predictions
from llava_st_hf.evaluation.summary import summarize_predictions
from llava_st_hf.evaluation.truths import read_truths
from llava_st_hf.processing.grounding_results_llava_st import GroundingResult, Tube, TubeArrays
from llava_st_hf.processing.media_llava_st import MediaInfo
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary

ELEMENT = {
    "vid": "a",
    "domain": "Animals",
    "fps": 10.0,
    "width": 100,
    "height": 100,
    "frame_count": 200,
    "question": "What jumps?",
    "answer": "A dog.",
    "temporal_question": "When does the dog jump?",
    "timestamps": [2.0, 6.0],
    "spatial_question": "Where is the dog when it jumps?",
    "bboxes": [
        {"frame_index": 10 * second, "timestamp": second, "xmin": 0, "ymin": 0, "xmax": 10, "ymax": 10}
        for second in (2, 3, 4, 5)
    ],
}
ANSWER = {
    "answer_temporal": [4.0, 8.0],
    # Right; the right one is the second of two; half of it; no box at 5 s; one at another time.
    "answer_spatial": {
        "2": [0, 0, 10, 10],
        "3": [[50, 50, 60, 60], [0, 0, 10, 10]],
        "4": [0, 0, 10, 5],
        "9": [0, 0, 1, 1],
    },
}


@pytest.fixture
def score(tmp_path):
    """Score a file of answers, elements of the annotations with the answers beside them, as the demo writes it."""
    truth_path, answer_path = tmp_path / "V_STaR_test.json", tmp_path / "answers.json"

    def score_file(*answers, form="v_star"):
        truth_path.write_text(json.dumps([ELEMENT | {"vid": vid} for vid, _ in answers]))
        answer_path.write_text(json.dumps([ELEMENT | {"vid": vid} | answer for vid, answer in answers]))
        truths = read_truths(truth_path)
        predictions = read_predictions(answer_path, truths.items, form, "pixels")
        protocol = get_protocol("v_star")
        lines = score_predictions(truths.items, predictions, protocol)
        return lines, predictions, format_scores(summarize_predictions(lines, protocol), protocol, truths, predictions)

    return score_file


def test_by_hand(score):
    (when, where, _), predictions, text = score(("a", ANSWER))
    assert (when["id"], where["id"], predictions.problems) == ("a when", "a where", ())
    assert when["scores"]["tiou"] == pytest.approx(2 / 6)
    expected = {"viou": 2.5 / 4, "AP@0.1": 0.75, "AP@0.3": 0.75, "AP@0.5": 0.75, "AP@0.7": 0.5, "AP@0.9": 0.5}
    assert where["scores"] == pytest.approx(expected)
    assert re.search(r"tvg +\| m_tIoU +\| 0\.333 ", text) and re.search(r"svg +\| m_vIoU +\| 0\.625 ", text)


def test_elements_of_one_video_and_answers_that_cannot_be_read(score):
    texts = {"answer_temporal": [], "answer_temporal_pre": "From 2.0 to 6.0 s", "answer_spatial_pre": "Here: {2: x"}
    lines, predictions, _ = score(("a", texts), ("a", {"answer_vqa": "A dog."}), ("b", ANSWER))
    assert [line["id"] for line in lines] == [
        f"{name} {kind}" for name in ("a", "a 2", "b") for kind in ("when", "where", "what")
    ]
    assert [next(iter(line["scores"].values())) for line in lines] == pytest.approx(
        [1, 0, 0, 0, 0, None, 1 / 3, 0.625, 0]
    )
    assert [(problem.id, problem.reason) for problem in predictions.problems] == [
        ("a where", "unreadable_answer"),
        ("a 2 when", "no_answer"),
        ("a 2 where", "no_answer"),
    ]


def test_both_chains_and_what_the_public_scorer_prints_of_them(score):
    judged = {"answer_vqa": "A dog.", "VQA_score": 2}
    second = {"answer_temporal_2": [2.0, 6.0], "answer_spatial_2": {"2": [0, 0, 10, 10]}}
    answers = (("a", ANSWER | judged | second), ("b", ANSWER | judged | {"VQA_score": -1}))
    # Worked out by hand: accuracy, m_tIoU and m_vIoU of each chain, the mean of them and of their -ln(1 - x).
    for form, values in (("v_star", (0.5, 1 / 3, 0.625)), ("v_star_2", (0.5, 0.5, 0.125))):
        _, predictions, text = score(*answers, form=form)
        assert len(predictions.problems) == (2 if form == "v_star_2" else 0)  # b has no second chain
        am, lgm = np.mean(values), -np.log(1 - np.array(values)).mean()
        assert f"AM of all: {am:.4f}\nLGM of all: {lgm:.4f}\n" in text


@pytest.mark.parametrize("points", [None, "x"])
def test_without_a_judge_there_is_no_mean_of_all(score, points):
    lines, _, text = score(("a", ANSWER | {"answer_vqa": "A dog.", "VQA_score": points}))
    assert lines[2]["scores"] == {"correct": None}
    assert "AM of all" not in text


def test_a_perfect_chain_has_a_finite_mean():
    tasks = {"video_qa": "accuracy", "tvg": "m_tIoU", "svg": "m_vIoU"}
    found = {task: {"items": 2, "counted": {name: 2}, "metrics": {name: 1.0}} for task, name in tasks.items()}
    joined = get_protocol("v_star").join_tasks(found)
    assert joined["AM"] == 1 and 20 < joined["LGM"] < 40


def test_a_model_that_sees_a_frame_every_three_seconds_moves_evenly_between():
    def make(seconds, boxes):
        media = MediaInfo("video", 100, 100, tuple(range(0, 130, 30)), tuple(float(s) for s in range(0, 13, 3)))
        frames = np.rint(np.array(seconds) * 10).astype(int)
        tube = Tube.from_arrays(TubeArrays(np.array(seconds, dtype=float), frames, np.array(boxes, dtype=float)))
        return GroundingResult("", tubes=(tube,), media=media)

    boxes = [[left, 0, left + 10, 10] for left in range(0, 40, 10)]
    truth, protocol = make([3, 4, 5, 6], boxes), get_protocol("v_star")
    values = [
        protocol.score("svg", answer, truth, CoordinateVocabulary())["viou"]
        for answer in (make([3, 6], boxes[::3]), make([0, 6], [boxes[3], boxes[3]]), truth)
    ]
    # Between 0 and 6 s there is a frame that has no box: nothing is filled in.
    assert values == pytest.approx([1, 0.25, 1])


def test_metrics_of_an_item_without_an_answer():
    protocol = get_protocol("v_star")
    assert set(protocol.compute_metrics("svg", [protocol.score_nothing("svg")]).values()) == {0.0}
    assert protocol.get_headline("stvg")[:2] == ("m_tIoU", "m_vIoU")
    assert "stvg_several" not in protocol.list_tasks()
