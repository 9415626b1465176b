"""What the rules of other scorers make of made answers, and of a file."""

import numpy as np
import pytest

from llava_st_hf.evaluation.audit import RULES, audit_predictions, make_adversaries
from llava_st_hf.evaluation.predictions import Predictions
from llava_st_hf.evaluation.truths import Truth
from llava_st_hf.processing.grounding_results_llava_st import Box, GroundingResult, Span, Tube, TubeArrays
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo


def make_truth(first: int, box: tuple[float, float, float, float]) -> Truth:
    media = MediaInfo("video", 100, 100, tuple(range(40)), tuple(map(float, range(40))))
    frames = np.arange(first, first + 10)
    tube = Tube.from_arrays(TubeArrays(frames.astype(float), frames, np.tile(np.array(box, float), (10, 1))))
    spans = (Span(float(first), float(first + 9)),)
    return Truth("stvg", GroundingResult("", spans=spans, tubes=(tube,), media=media))


def make_image(box: Box, size: int = 200) -> Truth:
    return Truth("rec", GroundingResult("", boxes=(box,), media=MediaInfo("image", size, size)))


CLIPS = {"a": make_truth(0, (0, 0, 30, 30)), "b": make_truth(20, (50, 50, 90, 90))}
IMAGES = {"a": make_image(Box(0, 0, 50, 50)), "b": make_image(Box(100, 100, 200, 200))}


def test_rules_of_tubes_like_what_they_are_said_to():
    audit = audit_predictions(CLIPS, Predictions({}))
    table = audit.table
    assert set(table["the truth"].values()) == {1.0}
    assert set(table["the file"].values()) == set(table["empty"].values()) == {0.0}
    one, fifty = table["one box of it"], table["fifty boxes"]
    assert (one["shared seconds"], one["where defined"], one["best of boxes"]) == (1, 1, 0.1)
    assert one["ours"] < 0.3
    assert fifty["best of boxes"] > 0.5 > 0.1 > fifty["ours"]
    assert table["whole clip"]["ours"] < table["whole clip"]["shared seconds"]


def test_the_item_that_differs_most():
    near = CLIPS["b"].result
    results = {"a": make_adversaries(CLIPS)["one box of it"](CLIPS["a"]), "b": near}
    audit = audit_predictions(CLIPS, Predictions(results))
    found = audit.differences["shared seconds"]
    assert (found.id, found.theirs) == ("a", 1)
    assert found.ours < 0.3
    assert "most different: item a" in audit.format()
    # Refusing the hard one: its own mean stands for what is left out.
    audit = audit_predictions(CLIPS, Predictions({"b": near}))
    assert audit.table["the file"]["where defined"] == 1
    assert audit.table["the file"]["ours"] == 0.5
    assert audit.differences["where defined"] == ("a", 0, None)
    assert audit.counted == {"shared seconds": 2, "best of boxes": 2, "where defined": 1}
    assert "left out by this rule" in audit.format()


def test_rules_of_boxes():
    # Pixels of one, thousandths of the other, and a wrong box first.
    wrong = Box(0, 0, 10, 10)
    many = GroundingResult("", boxes=(wrong, Box(0, 0, 250, 250)))
    audit = audit_predictions(IMAGES, Predictions({"a": many}))
    row = audit.table["the file"]
    assert row["nearest box"] == 0.5
    assert row["answers only"] == pytest.approx(100 / 2500)
    assert row["ours"] == pytest.approx(100 / 2500 / 2)
    assert audit.table["fifty boxes"]["nearest box"] == pytest.approx(2 * audit.table["fifty boxes"]["ours"])
    assert {rule.part for rule in audit.rules} == {"box"}
    assert {rule.part for rule in RULES} == {"box", "tube"}


SPAN_ONLY = GroundingResult("", spans=(Span(0, 1),), media=CLIPS["a"].result.media)


@pytest.mark.parametrize(
    "truths", [{"a": Truth("tvg", SPAN_ONLY)}, {"a": CLIPS["a"], "b": IMAGES["b"]}], ids=["no boxes", "both kinds"]
)
def test_items_without_boxes_or_of_both_kinds_are_refused(truths):
    with pytest.raises(InputError, match="give those of one task"):
        audit_predictions(truths, Predictions({}))
