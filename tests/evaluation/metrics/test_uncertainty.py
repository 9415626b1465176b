"""Intervals and calibration against values worked out by hand."""

import numpy as np
import pytest

from llava_st_hf.evaluation.metrics.uncertainty import (
    Statistic,
    compute_interval,
    compute_intervals,
    compute_reliability,
    compute_risk_coverage,
)
from llava_st_hf.processing.media_llava_st import InputError


def test_interval_is_that_of_the_normal_distribution_where_items_are_many():
    values = np.random.default_rng(1).random(2000)
    interval = compute_interval(values, num_resamples=2000)
    error = values.std() / len(values) ** 0.5
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)
    assert interval == compute_interval(values, num_resamples=2000)  # seeded


def test_clips_are_drawn_with_all_their_items():
    values, groups = np.repeat([0.0, 1.0] * 10, 50), np.repeat(np.arange(20), 50)
    alone, together = compute_interval(values), compute_interval(values, groups=groups)
    assert together.high - together.low > 5 * (alone.high - alone.low)


def test_items_left_out_do_not_count():
    assert compute_interval([np.nan, 1.0, 1.0]) == (1, 1, 1)
    with pytest.raises(InputError, match="at least one"):
        compute_interval([np.nan])


def test_paired_difference():
    values = np.random.default_rng(2).random(300)
    interval = compute_interval(values + 0.1, others=values)
    assert interval.low == pytest.approx(0.1)
    assert interval.high == pytest.approx(0.1)


def test_interval_of_what_is_no_mean():
    values = np.arange(100.0)
    ratio = Statistic(np.column_stack([values, values**2]), lambda sums: sums[0] ** 2 / sums[1])
    found = compute_intervals({"mean": values, "nothing": np.full(100, np.nan)}, {"ratio": ratio})
    assert [*found] == ["mean", "ratio"]
    assert found["ratio"].value == ratio.value == pytest.approx(4950**2 / (values**2).sum())
    assert found["ratio"].low < found["ratio"].value < found["ratio"].high
    assert found["mean"] == compute_interval(values)
    whole = compute_intervals({}, {"ratio": ratio}, groups=[0] * 100)["ratio"]
    assert whole.low == whole.high == pytest.approx(ratio.value)


def test_reliability():
    found = compute_reliability([0.95, 0.95, 0.15, 1.0], [1.0, 0.0, 0.0, 1.0])
    assert found.counts.tolist() == [1, 3]
    assert found.ece == pytest.approx((0.15 + 3 * abs(2.9 / 3 - 2 / 3)) / 4)
    assert compute_reliability([1.0, 0.0], [1.0, 0.0]).ece == 0


def test_risk_and_coverage():
    found = compute_risk_coverage([0.9, 0.1, 0.5], [1.0, 0.0, 0.5])
    assert found.risks == pytest.approx([0, 0.25, 0.5])
    assert found.area == pytest.approx(0.25)
    # Equal confidences: in any order.
    assert compute_risk_coverage([1, 1], [0, 1]).area == compute_risk_coverage([1, 1], [1, 0]).area == 0.5


@pytest.mark.parametrize(("confidences", "message"), [([], "give one of each"), ([np.nan], "hold NaN")])
def test_what_cannot_be_calibrated_is_named(confidences, message):
    with pytest.raises(InputError, match=message):
        compute_reliability(confidences, [1.0] * len(confidences))
