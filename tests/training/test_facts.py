"""What a run knows of itself for the card of its model."""

from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerState

from llava_st_hf.training.facts import find_held_out, name_hardware


@pytest.mark.parametrize(
    ("is_best_loaded", "step", "expected"), [(True, None, 3.4), (False, None, 3.5), (True, 10, 3.5), (True, 7, None)]
)
def test_what_was_held_out_is_of_the_weights_that_are_saved(is_best_loaded, step, expected):
    logs = [
        {"step": 5, "loss": 3.9},
        {"step": 5, "eval_loss": 3.4, "eval_stvg_m_tIoU": 0.5, "eval_runtime": 2.0, "eval_skipped_records": 1},
        {"step": 10, "eval_loss": 3.5, "eval_stvg_m_tIoU": 0.5, "eval_samples_per_second": 2.0},
    ]
    state = TrainerState(global_step=10, best_global_step=5, log_history=logs)
    found = find_held_out(state, SimpleNamespace(load_best_model_at_end=is_best_loaded), step)
    assert found == ({} if expected is None else {"loss": expected, "stvg_m_tIoU": 0.5})


def test_the_hardware_is_that_of_the_run_and_not_of_the_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    names = [name_hardware(torch.device(name), 2) for name in ("cpu", "cuda:1", "mps")]
    assert names[0].startswith("CPU, 2 processes of ") and names[1:] == ["2 x GPU 1", "2 x mps"]
