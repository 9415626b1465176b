"""Sets of answers against values worked out by hand."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llava_st_hf.evaluation.metrics import compute_temporal_iou
from llava_st_hf.evaluation.metrics.sets import (
    compute_average_precision,
    compute_best_iou,
    compute_event_f1,
    compute_ranked_precision,
    compute_soda,
    match_one_to_one,
)

MATRICES = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: arrays(float, shape, elements=st.floats(0, 1))
)


def test_best_of_k():
    ious = [[0.2, 0.1], [0.0, 0.7], [0.9, 0.0]]
    assert [compute_best_iou(ious, k) for k in (1, 2, 3, 9)] == [0.2, 0.7, 0.9, 0.9]
    assert compute_best_iou(np.zeros((0, 2))) == 0


def test_as_many_pairs_as_can_be():
    assert match_one_to_one([[0.6, 0.9], [0.0, 0.8]], 0.5) == [(0, 0), (1, 1)]
    assert match_one_to_one([[0.6, 0.9]], 0.5) == [(0, 1)]
    assert match_one_to_one([[0.6], [0.9]], 0.5) == [(1, 0)]
    assert match_one_to_one([[0.0, 0.4]], 0.5) == match_one_to_one(np.zeros((0, 3))) == []


@settings(deadline=None)
@given(MATRICES)
def test_pairs_have_the_largest_sum(matrix):
    matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    pairs = match_one_to_one(matrix)
    # Of all ways: as many pairs as can be, then the largest sum.
    count, total = max(
        (
            sum(row[column] > 0 for row, column in zip(matrix, columns, strict=True)),
            sum(row[column] for row, column in zip(matrix, columns, strict=True)),
        )
        for columns in permutations(range(matrix.shape[1]), len(matrix))
    )
    assert len(pairs) == count
    assert sum(matrix[pair] for pair in pairs) == pytest.approx(total)


def test_f1_of_events():
    # One of two answers fits the one truth up to 0.5: 2 * 1 / 3 at three of four thresholds.
    assert compute_event_f1([[0.6], [0.0]]) == pytest.approx(3 / 4 * 2 / 3)
    assert compute_event_f1(np.eye(3)) == 1
    assert compute_event_f1(np.zeros((0, 2))) == 0


def test_average_precision():
    assert compute_average_precision([[0.9, 0.0], [0.0, 0.9]], 0.5) == 1
    assert compute_average_precision([[0.2, 0.1], [0.9, 0.0]], 0.5) == 0.25
    # Right, false, right: precisions 1 and 2/3 at recalls 1/2 and 1.
    assert compute_average_precision([[0.9, 0.0], [0.9, 0.0], [0.0, 0.5]], 0.5) == pytest.approx((1 + 2 / 3) / 2)
    assert compute_average_precision(np.zeros((0, 2)), 0.5) == 0
    assert compute_ranked_precision([[0.72]]) == pytest.approx((0.5, 1, 0))  # 0.5, 0.55, 0.6, 0.65, 0.7


def test_qvhighlights_by_hand():
    # Three windows, the surest first, of two true ones. At .5 and .55 right, false, right: (1 + 2/3) / 2. From .6 to
    # .9 right, false, false: 1/2. At .95 none.
    ious = [[0.9, 0.0], [0.9, 0.0], [0.0, 0.55]]
    expected = (2 * (1 + 2 / 3) / 2 + 7 * 0.5) / 10, (1 + 2 / 3) / 2, 0.5
    assert compute_ranked_precision(ious) == pytest.approx(expected)
    # The eleventh window does not count.
    assert compute_ranked_precision([[0.0]] * 10 + [[1.0]]) == (0, 0, 0)
    assert compute_ranked_precision([[0.0]] * 9 + [[1.0]]) == pytest.approx((0.1, 0.1, 0.1))


def test_a_second_answer_takes_the_next_truth():
    ious = [[0.9, 0.6], [0.8, 0.7]]
    assert compute_average_precision(ious, 0.5) == 1
    assert compute_average_precision(ious, 0.75) == 0.5


def test_soda():
    assert compute_soda(np.eye(3), np.ones((3, 3))) == 1
    # In the other order only one pair can be kept.
    assert compute_soda(np.eye(3)[::-1], np.ones((3, 3))) == pytest.approx(1 / 3)
    assert compute_soda([[0.5, 0.0, 0.0]], [[0.4, 1, 1]]) == pytest.approx(2 * 0.2 * (0.2 / 3) / (0.2 + 0.2 / 3))
    assert compute_soda(np.zeros((0, 2)), np.zeros((0, 2))) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 50)), min_size=1, max_size=6, unique=True))
def test_a_perfect_answer_is_worth_one_in_any_order(spans):
    spans = np.array([(start, start + length) for start, length in spans])
    order = np.random.default_rng(0).permutation(len(spans))
    ious = compute_temporal_iou(spans[order][:, None], spans[None])
    assert compute_event_f1(ious) == pytest.approx(1)
    assert compute_ranked_precision(ious) == pytest.approx((1, 1, 1))
