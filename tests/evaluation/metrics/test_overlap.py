"""IoU of spans and boxes against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_st_hf.evaluation.metrics import compute_box_iou, compute_temporal_iou, compute_union_iou
from llava_st_hf.processing.media_llava_st import InputError

NUMBERS = st.floats(-10, 10)


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


@given(st.tuples(*[st.floats(0, 9)] * 2, *[st.floats(0.1, 9)] * 2), st.floats(0.1, 100), st.floats(0, 0.5))
def test_iou_of_boxes_has_no_unit_and_falls_with_the_distance(numbers, scale, shift):
    left, top, width, height = numbers
    box = np.array([left, top, left + width, top + height])
    ious = [float(compute_box_iou(box + [step * width * shift, 0] * 2, box)) for step in (0, 1, 2)]
    assert ious[0] == pytest.approx(1)
    assert ious[0] + 1e-9 >= ious[1] >= ious[2] - 1e-9
    moved = box + [width * shift, 0] * 2
    assert compute_box_iou(moved * scale, box * scale) == pytest.approx(ious[1], abs=1e-6)
