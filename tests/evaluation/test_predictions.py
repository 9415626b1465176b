"""Answers of other systems: units, resampling, and what is wrong in a file changes nothing else."""

import json

import numpy as np
import pytest

from llava_st_hf.evaluation.predictions import PROBLEMS, read_predictions, resample_answer
from llava_st_hf.evaluation.protocols import get_protocol
from llava_st_hf.evaluation.scoring import score_predictions
from llava_st_hf.evaluation.truths import Truth, read_truths
from llava_st_hf.processing.grounding_results_llava_st import Box, GroundingResult, Span, Tube, TubeArrays
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo

RATE = 10
MEDIA = MediaInfo("video", 200, 100, tuple(range(100)), tuple(frame / RATE for frame in range(100)))


def make_truth() -> Truth:
    frames = np.arange(20, 41)
    boxes = np.stack([frames, frames * 0 + 10, frames + 50, frames * 0 + 60], axis=1).astype(float)
    tube = Tube.from_arrays(TubeArrays(frames / RATE, frames, boxes))
    return Truth("stvg", GroundingResult("", spans=(Span(2.0, 4.0),), tubes=(tube,), media=MEDIA))


TRUTHS = {name: make_truth() for name in "abc"}
PERFECT = {"span": [2.0, 4.0], "tube": {"2": [20, 10, 70, 60], "4": [40, 10, 90, 60]}}


def read(tmp_path, records, **options):
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in records))
    return read_predictions(path, TRUTHS, **options)


def score(predictions):
    protocol = get_protocol("default")
    return {line["id"]: line for line in score_predictions(TRUTHS, predictions, protocol)}


def test_two_boxes_of_a_steady_thing_are_a_perfect_answer(tmp_path):
    predictions = read(tmp_path, [{"id": "a", **PERFECT}])
    assert predictions.problems == ()
    lines = score(predictions)
    assert lines["a"]["scores"] == pytest.approx({"tiou": 1, "siou": 1, "viou": 1})
    assert (lines["a"]["failure"], lines["b"]["failure"]) == (None, "no_answer")
    assert set(lines["b"]["scores"].values()) == {0}


@pytest.mark.parametrize(
    ("box", "options"),
    [
        ([0.1, 0.1, 0.35, 0.6], {"unit": "fraction"}),
        ([100, 100, 350, 600], {"unit": "thousandth"}),
        ([20, 10, 50, 50], {"box_form": "xywh"}),
        ([20, 10, 70, 60], {}),
    ],
)
def test_units_are_declared(tmp_path, box, options):
    predictions = read(tmp_path, [{"id": "a", "tube": {"2": box}}], **options)
    assert predictions.results["a"].tubes[0].arrays.boxes_pixels[0].tolist() == pytest.approx([20, 10, 70, 60])
    assert predictions.results["a"].spans == (Span(2.0, 2.0),)


def test_an_entry_may_declare_its_own_unit_and_times_may_be_fractions(tmp_path):
    records = [{"id": "a", "span": [0.0, 0.5], "tube": {"0.5": [0.1, 0.1, 0.35, 0.6]}, "box_unit": "fraction"}]
    found = read(tmp_path, records, time_unit="fraction").results["a"]
    assert found.spans == (Span(0.0, 9.9 / 2),)
    assert found.tubes[0].arrays.seconds.tolist() == [9.9 / 2]


def test_units_that_cannot_be_compared(tmp_path):
    truth = make_truth()
    unsized = {"a": Truth("stvg", truth.result, ("pixels",), False)}
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"id": "a", "span": [0.1, 0.2], "tube": {"2": [0, 0, 1, 1]}}))
    assert read_predictions(path, unsized, unit="fraction").count_problems() == {"unknown_unit": 1}
    assert read_predictions(path, unsized, time_unit="fraction").results["a"].spans == ()
    with pytest.raises(InputError, match="unit is missing: say what the boxes of a file of qwen are in"):
        read_predictions(path, unsized, "qwen")
    with pytest.raises(InputError, match="box is 'inches': choose one of pixels"):
        read_predictions(path, unsized, unit="inches")


HOSTILE = [
    ("{", {"unreadable_line": 1}),
    ("[1]", {"unreadable_line": 1}),
    ({"span": [1, 2]}, {"missing_id": 1}),
    ({"id": ["b"], "span": [1, 2]}, {"missing_id": 1}),
    ({"id": "nobody", "span": [1, 2]}, {"unknown_id": 1}),
    ({"id": "b"}, {"no_answer": 1}),
    ('{"id": "b", "span": [NaN, 2]}', {"not_a_number": 1}),
    ('{"id": "b", "span": [1e999, 2]}', {"not_a_number": 1}),
    ({"id": "b", "span": [4, 2]}, {"reversed_span": 1}),
    ({"id": "b", "span": "bald"}, {"not_a_number": 1}),
    ({"id": "b", "spans": {"a": 1}}, {"unreadable_spans": 1, "no_answer": 1}),
    ({"id": "b", "tube": {"2": [9, 9, 1, 1]}}, {"reversed_box": 1}),
    ({"id": "b", "tube": {"2": [9, 9, 9, 12]}}, {"box_without_area": 1}),
    ({"id": "b", "tube": {"two": [1, 1, 2, 2], "3": [1, 1, 2, 2, 3], "4": None}}, {"not_a_number": 3}),
    ({"id": "b", "tube": 7}, {"unreadable_tube": 1, "no_answer": 1}),
    ({"id": "b", "text": "x" * 1_000_000}, {}),
    ({"id": "b", "tube": {"3": [[1, 1, 2 + place, 2] for place in range(10_000)]}}, {}),
    ({"id": "b", "span": [10**400, 2]}, {"not_a_number": 1}),
]


@pytest.mark.parametrize(("record", "problems"), HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_wrong_is_listed_and_changes_no_other_item(tmp_path, record, problems):
    good = {"id": "a", **PERFECT}
    alone, beside = score(read(tmp_path, [good])), read(tmp_path, [record, good, {**good, "id": "c"}])
    assert beside.count_problems() == problems
    assert set(problems) <= set(PROBLEMS)
    lines = score(beside)
    assert lines["a"] == alone["a"]
    assert lines["c"]["scores"] == alone["a"]["scores"]
    assert all(0 <= value <= 1 for value in lines["b"]["scores"].values())


def test_answers_to_items_that_cannot_be_scored_are_told_apart(tmp_path):
    records = [{"id": name, "span": [1, 2]} for name in ("a", "d", "e" * 300)]
    assert read(tmp_path, records, unusable={"d"}).count_problems() == {"unusable_item": 1, "unknown_id": 1}


def test_of_two_answers_of_a_name_the_first_counts(tmp_path):
    predictions = read(tmp_path, [{"id": "a", **PERFECT}, {"id": "a", "span": [0, 1]}])
    assert predictions.problems == (("a", "repeated_id", 1),)
    assert score(predictions)["a"]["scores"]["tiou"] == 1


def test_runs_of_boxes_are_spans(tmp_path):
    predictions = read(tmp_path, [{"id": "a", "tube": {time: [1, 1, 9, 9] for time in ("1", "2", "6", "7")}}])
    assert predictions.results["a"].spans == (Span(1.0, 2.0), Span(6.0, 7.0))
    frames = resample_answer(predictions.results["a"], TRUTHS["a"]).tubes[0].arrays.frame_indices
    assert frames.tolist() == [*range(10, 21), *range(60, 71)]  # none between the two


def test_boxes_hold_for_half_a_second_and_those_outside_stay(tmp_path):
    predictions = read(tmp_path, [{"id": "a", "span": [1, 5], "tube": {"3": [1, 1, 9, 9], "8": [2, 2, 3, 3]}}])
    frames = resample_answer(predictions.results["a"], TRUTHS["a"]).tubes[0].arrays.frame_indices
    assert frames.tolist() == [*range(25, 36), 80]


def test_boxes_of_images(tmp_path):
    media = MediaInfo("image", 200, 100)
    truths = {"a": Truth("rec", GroundingResult("", boxes=(Box(0, 0, 100, 50),), media=media))}
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"id": "a", "answer": "[0, 0, 500, 500]", "confidence": 0.5}))
    predictions = read_predictions(path, truths, "qwen", unit="thousandth")
    assert predictions.results["a"].boxes == (Box(0, 0, 100, 50),)
    (line,) = score_predictions(truths, predictions, get_protocol("default"))
    assert line["scores"] == {"iou": 1}


def test_dense_captions_in_the_form_of_activitynet(tmp_path):
    truth_path, path = tmp_path / "val_1.json", tmp_path / "answers.json"
    sentences = ["A red dog runs.", "Two men play."]
    video = {"duration": 10.0, "timestamps": [[0, 4], [4, 11]], "sentences": sentences}
    truth_path.write_text(json.dumps(dict.fromkeys(("v_1", "v_2", "v_3"), video)))
    right = [{"sentence": text, "timestamp": times} for text, times in zip(sentences, [[0, 4], [4, 10]], strict=True)]
    results = {"v_1": right[::-1], "v_2": [right[0], {"sentence": "x", "timestamp": [5, 3]}], "v_9": right}
    path.write_text(json.dumps({"version": "VERSION 1.0", "results": results, "external_data": {}}))
    truths = read_truths(truth_path, task="dvc")
    predictions = read_predictions(path, truths.items, "activitynet")
    assert predictions.count_problems() == {"reversed_span": 1, "unknown_id": 1}
    lines = score_predictions(truths.items, predictions, get_protocol("default"))
    # One of two events: 2 * 1 / 3 of precision 1 and recall 1/2.
    assert [line["scores"]["soda"] for line in lines] == pytest.approx([1, 2 / 3, 0])
    assert [line["failure"] for line in lines] == [None, None, "no_answer"]
    # Three sentences that are right, and an empty one of the video without an answer.
    found = get_protocol("default").compute_intervals("dvc", [line["scores"] for line in lines])
    assert found["ROUGE_L"].value == pytest.approx(3 / 4)
    assert found["CIDEr"].low < found["CIDEr"].value < 10
