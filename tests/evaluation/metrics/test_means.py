"""Means and shares against values worked out by hand."""

import pytest

from llava_st_hf.evaluation.metrics import compute_mean, compute_recall
from llava_st_hf.processing.media_llava_st import InputError


def test_metrics_count_every_item():
    values = [0.5, 0.499, 0.0, 0.9]
    assert compute_recall(values, 0.5) == 0.5  # equal counts
    assert compute_mean(values) == pytest.approx(0.47475)
    for compute in (compute_mean, lambda empty: compute_recall(empty, 0.5)):
        with pytest.raises(InputError, match="at least one"):
            compute([])
