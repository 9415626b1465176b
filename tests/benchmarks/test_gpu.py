"""The script for a machine with a GPU, tried at its tiny size."""

import importlib
import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_it_runs_at_the_tiny_size(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    metrics = importlib.import_module("gpu").main(
        ["--size", "tiny", "--skip-tests", "--output", str(tmp_path / "gpu.json")]
    )
    assert json.loads((tmp_path / "gpu.json").read_text()) == metrics
    assert metrics["stvg_boxes"] == 100
    assert metrics["lora_video_tokens"] == 280  # 20 slow frames of 9 cells, and a fast one for each of 100 frames
    assert metrics["stvg_tokens"] > 8 * metrics["stvg_boxes"]
    assert 0 < metrics["stvg_passes"] < metrics["stvg_tokens"]
    assert metrics["lora_tokens"] == metrics["lora_video_tokens"] + 720
    assert metrics["lora_trained_weights"] > 0
    precision = "bf16" if torch.cuda.is_available() else "float32"
    assert (metrics["recipe_precision"], metrics["recipe_same_answers"]) == (precision, 1)
    assert metrics["recipe_last_loss"] < metrics["recipe_first_loss"]


def test_the_full_size_is_refused_without_a_gpu(monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("gpu")
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        module.main([])
    assert "--size 7b needs a GPU" in capsys.readouterr().err
