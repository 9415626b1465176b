"""Metrics against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_st_hf.evaluation.metrics import (
    compute_box_iou,
    compute_mean,
    compute_recall,
    compute_temporal_iou,
    compute_tube_iou,
    compute_union_iou,
    normalize_text,
)
from llava_st_hf.processing.grounding_results_llava_st import Box, Tube, TubeBox
from llava_st_hf.processing.media_llava_st import InputError

NUMBERS = st.floats(-10, 10)


def make_tube(boxes: dict[int, tuple[float, float, float, float]]) -> Tube:
    return Tube(tuple(TubeBox(frame / 10, frame, Box(*box)) for frame, box in sorted(boxes.items())))


@pytest.mark.parametrize(
    ("span", "other", "iou"),
    [
        ((0, 4), (2, 6), 2 / 6),
        ((0, 4), (0, 4), 1),
        ((0, 10), (4, 5), 1 / 10),
        ((0, 4), (4, 8), 0),  # they touch
        ((0, 1), (9, 10), 0),
        ((3, 3), (3, 3), 1),  # one frame
        ((3, 3), (4, 4), 0),
        ((3, 3), (0, 6), 0),  # an instant has no length
        ((4, 0), (0, 4), 0),  # reversed
        ((4, 0), (4, 0), 0),
        ((np.nan, 4), (0, 4), 0),
    ],
)
def test_temporal_iou(span, other, iou):
    assert compute_temporal_iou(span, other) == pytest.approx(iou, abs=1e-15)
    assert compute_temporal_iou(other, span) == pytest.approx(iou, abs=1e-15)


@pytest.mark.parametrize(
    ("spans", "others", "iou"),
    [
        ([(0, 2), (4, 6)], [(1, 6)], 3 / 6),
        ([(0, 2), (1, 3)], [(0, 3)], 1),  # they overlap
        ([(4, 6), (0, 2)], [(0, 2), (4, 6)], 1),  # in any order
        ([(0, 1)], [(2, 3), (4, 5)], 0),
        ([(0, 4), (3, 3)], [(0, 4)], 1),  # an instant has no length
        ([(3, 3)], [(3, 3)], 1),
        ([(3, 3)], [(4, 4)], 0),
        ([(3, 3)], [(3, 3), (4, 4)], 0),
        ([(4, 0)], [(0, 4)], 0),  # reversed
    ],
)
def test_iou_of_several_spans(spans, others, iou):
    assert compute_union_iou(spans, others) == pytest.approx(iou)
    assert compute_union_iou(others, spans) == pytest.approx(iou)


@given(st.lists(NUMBERS, min_size=2, max_size=2, unique=True), st.lists(NUMBERS, min_size=2, max_size=2, unique=True))
def test_iou_of_one_span_each_is_the_temporal_iou(span, other):
    span, other = sorted(span), sorted(other)
    assert compute_union_iou([span], [other]) == pytest.approx(float(compute_temporal_iou(span, other)), abs=1e-6)


@pytest.mark.parametrize(
    ("box", "other", "iou"),
    [
        ((0, 0, 10, 10), (5, 0, 15, 10), 50 / 150),
        ((0, 0, 10, 10), (5, 5, 15, 15), 25 / 175),
        ((0, 0, 10, 10), (0, 0, 10, 10), 1),
        ((0, 0, 10, 10), (2, 3, 4, 5), 4 / 100),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0),
        ((0, 0, 10, 10), (20, 20, 30, 30), 0),
        ((3, 3, 3, 9), (3, 3, 3, 9), 0),  # no area
        ((10, 10, 0, 0), (10, 10, 0, 0), 0),  # reversed on both axes
        ((0, 0, np.nan, 10), (0, 0, 10, 10), 0),
    ],
)
def test_box_iou(box, other, iou):
    assert compute_box_iou(box, other) == pytest.approx(iou, abs=1e-15)
    assert compute_box_iou(other, box) == pytest.approx(iou, abs=1e-15)


def test_many_at_once():
    spans = np.array([[0, 4], [2, 6], [5, 6]])
    assert compute_temporal_iou(spans[:, None], spans).shape == (3, 3)
    assert np.diag(compute_temporal_iou(spans[:, None], spans)).tolist() == [1, 1, 1]
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10]])
    assert compute_box_iou(boxes[:, None], boxes).tolist() == [[1, 1 / 3], [1 / 3, 1]]


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[NUMBERS] * 8))
def test_ious_are_ratios(numbers):
    temporal = compute_temporal_iou(numbers[:2], numbers[2:4])
    spatial = compute_box_iou(numbers[:4], numbers[4:])
    assert 0 <= temporal <= 1 + 1e-12
    assert 0 <= spatial <= 1 + 1e-12


def test_wrong_shapes_are_named():
    with pytest.raises(InputError, match=r"others has the shape \(3,\): give \(\.\.\., 2\)"):
        compute_temporal_iou([0, 1], [0, 1, 2])
    with pytest.raises(InputError, match=r"boxes has the shape \(\)"):
        compute_box_iou(1.0, [0, 0, 1, 1])


def test_tubes_are_compared_over_shared_frames_and_over_all():
    truth = make_tube(dict.fromkeys((2, 3, 4), (0, 0, 10, 10)))
    answer = make_tube({3: (0, 0, 10, 10), 4: (5, 0, 15, 10), 5: (0, 0, 10, 10)})
    ious = compute_tube_iou(answer, truth, frame_indices=range(10))
    assert ious.spatial == pytest.approx((1 + 1 / 3) / 2)
    assert ious.volume == pytest.approx((1 + 1 / 3) / 4)


def test_tubes_without_a_shared_frame():
    truth, answer = make_tube({1: (0, 0, 10, 10)}), make_tube({5: (0, 0, 10, 10)})
    assert compute_tube_iou(answer, truth, frame_indices=range(10)) == (0, 0)


def test_boxes_belong_to_the_nearest_seen_frame():
    seen = (0, 10, 20, 30)
    truth = make_tube({10: (0, 0, 10, 10), 20: (0, 0, 10, 10)})
    # 9 and 22 are 10 and 20. Of 9 and 12 the nearer counts, whichever comes last; 15 is as near to 10 as to 20.
    answer = make_tube({9: (0, 0, 10, 10), 12: (50, 50, 60, 60), 22: (5, 0, 15, 10)})
    ious = compute_tube_iou(answer, truth, seen)
    assert ious.spatial == ious.volume == pytest.approx((1 + 1 / 3) / 2)
    assert compute_tube_iou(make_tube({15: (0, 0, 10, 10)}), truth, seen) == (1.0, 0.5)


def test_two_boxes_as_near_to_a_frame():
    truth = make_tube({10: (0, 0, 10, 10)})
    answer = make_tube({8: (50, 50, 60, 60), 12: (0, 0, 10, 10)})
    assert compute_tube_iou(answer, truth, (0, 10, 20)).spatial == 1


def test_repeated_frames_of_a_short_clip_count_once():
    truth = make_tube({0: (0, 0, 10, 10), 1: (0, 0, 10, 10)})
    assert compute_tube_iou(truth, truth, frame_indices=(0, 0, 1, 1)) == (1, 1)


def test_tube_without_frames_is_refused():
    tube = make_tube({0: (0, 0, 10, 10)})
    with pytest.raises(InputError, match="frame_indices is empty"):
        compute_tube_iou(tube, tube, ())


def test_metrics_count_every_item():
    values = [0.5, 0.499, 0.0, 0.9]
    assert compute_recall(values, 0.5) == 0.5  # equal counts
    assert compute_mean(values) == pytest.approx(0.47475)
    for compute in (compute_mean, lambda empty: compute_recall(empty, 0.5)):
        with pytest.raises(InputError, match="at least one"):
            compute([])


def test_normalized_text():
    assert normalize_text(" The red  Circle\nmoves left. ") == "the red circle moves left"
    assert normalize_text("a. b.") == "a. b"
    assert normalize_text("") == ""
