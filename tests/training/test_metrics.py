"""What is logged, by hand."""

import pytest
import torch

from llava_st_hf.processing import TASKS
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary
from llava_st_hf.training.metrics import TrainingMetrics

VOCABULARY = CoordinateVocabulary(num_temporal_tokens=5, num_spatial_tokens=5, offset=10)
T, X = 10, 15  # the first time and the first place


def make_batch() -> dict[str, torch.Tensor]:
    labels = torch.tensor(
        [
            [-100, 3, T, T, T, X, X, X, X, X],
            [-100, -100, X, 4, -100, -100, -100, -100, -100, -100],
            [-100, -100, -100, -100, -100, -100, -100, -100, -100, -100],
        ]
    )
    return {
        "labels": labels,
        "attention_mask": torch.ones_like(labels),
        "task_ids": torch.tensor([list(TASKS).index("stvg"), list(TASKS).index("rec"), -1]),
        "pixel_values_videos": torch.zeros(2, 1, 3, 4, 4),
        "num_records": torch.tensor(4),
    }


def test_metrics_by_hand():
    metrics = TrainingMetrics(VOCABULARY)
    losses = torch.arange(1.0, 12.0)
    nan = torch.nan
    errors = torch.tensor([nan, 1.0, 3.0, 50.0, 2.0, 2.0, 2.0, 2.0, 90.0, 6.0, nan])
    metrics.add(make_batch(), losses, errors)
    found = metrics.report(lambda sums: sums)
    assert found["loss"] == pytest.approx(6)
    assert found["loss_text"] == pytest.approx((1 + 11) / 2)
    assert found["loss_time"] == pytest.approx((2 + 3 + 4) / 3)
    assert found["loss_space"] == pytest.approx((5 + 6 + 7 + 8 + 9 + 10) / 6)
    assert found["loss_stvg"] == pytest.approx(5)
    assert found["loss_rec"] == pytest.approx(10.5)
    assert "loss_tvg" not in found
    assert found["error_bins_time"] == pytest.approx(54 / 3)
    assert found["error_bins_span"] == pytest.approx(2)  # the first two times of an answer
    assert found["error_bins_space"] == pytest.approx(104 / 6)
    assert found["error_bins_first_box"] == pytest.approx((8 + 6) / 5)  # the first four places of each answer
    assert found["skipped_records"] == 2
    assert found["tokens_per_second"] > found["clips_per_second"] > 0


def test_reports_begin_anew_and_add_up_processes():
    metrics = TrainingMetrics(VOCABULARY)
    losses, errors = torch.ones(11), torch.zeros(11)
    assert metrics.report(lambda sums: sums) == {}
    for _ in range(2):
        metrics.add(make_batch(), losses, errors)
        assert metrics.report(lambda sums: 2 * sums)["loss"] == 1
    assert metrics.num_skipped == 8
    metrics.add(make_batch(), losses, errors)
    assert not any(name.endswith("_per_second") for name in metrics.report(lambda sums: sums, with_speed=False))


def test_time_that_is_left_out_does_not_count():
    metrics = TrainingMetrics(VOCABULARY)
    metrics._start_seconds -= 1000
    metrics.leave_out(999)
    metrics.add(make_batch(), torch.ones(11), torch.zeros(11))
    assert 20 < metrics.report(lambda sums: sums)["tokens_per_second"] <= 30
