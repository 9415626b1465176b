"""A checkpoint as it ships."""

import json

import pytest
import ship_checkpoint
import yaml
from huggingface_hub import ModelCard

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.evaluation.runner import fingerprint_weights


def test_what_ships_loads_and_has_a_card_with_its_metrics(checkpoint, tmp_path, monkeypatch):
    tvg = {"metrics": {"R@0.5": 0.876}, "baseline": {"R@0.5": 0.123}, "headline": ["R@0.5"]}
    tvg |= {"items": 9, "counted": {"R@0.5": 9}, "failures": {}}
    settings = {"num_clips": 9, "num_frames": 20, "size": 72, "difficulty": "standard", "seed": 1_000_000}
    settings |= {
        "benchmark": "st-shapes",
        "model": "/runs/tiny",
        "protocol": "default",
        "weights": "those of another model",
    }

    def ship(folder: str = "shipped") -> None:
        facts = {"command": "llava-st evaluate st-shapes", "date": "2026-01-31", "versions": {}, "device": "cpu"}
        (tmp_path / "metrics.json").write_text(json.dumps({"tasks": {"tvg": tvg}, "settings": settings, **facts}))
        ship_checkpoint.ship_checkpoint(checkpoint, tmp_path, tmp_path / folder)

    with pytest.raises(ValueError, match="evaluate it again"):
        ship()
    settings["weights"] = fingerprint_weights(LlavaSTForConditionalGeneration.from_pretrained(checkpoint))
    ship()
    ship()  # what is there is replaced
    card = (tmp_path / "shipped" / "README.md").read_text()
    (tmp_path / "shipped" / "README.md").write_text("old")
    ship_checkpoint.ship_checkpoint(tmp_path / "shipped", tmp_path, tmp_path / "shipped")
    assert (tmp_path / "shipped" / "README.md").read_text() == card
    assert "0.876" in card
    assert "0.123" in card
    assert "Measured on 2026-01-31 by `llava-st evaluate st-shapes --num-clips 9`" in card and "1000000" in card
    assert [result.metric_value for result in ModelCard(card).data.eval_results] == [0.876]
    (entry,) = yaml.safe_load((tmp_path / "shipped" / ".eval_results" / "st-shapes.yaml").read_text())
    assert (entry["value"], str(entry["date"])) == (0.876, "2026-01-31")
    names = {*ship_checkpoint.FILES, "README.md", ".eval_results"}
    assert {path.name for path in (tmp_path / "shipped").iterdir()} == names
    model = LlavaSTForConditionalGeneration.from_pretrained(tmp_path / "shipped")
    assert f"{model.num_parameters():,} parameters" in card
    assert LlavaSTProcessor.from_pretrained(tmp_path / "shipped").chat_template
    with pytest.raises(ValueError, match=r"'metrics\.json', which is of no checkpoint"):
        ship(".")
    monkeypatch.setattr(ship_checkpoint, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="no more than 1,000 ship"):
        ship("again")
    assert not (tmp_path / "again").exists()
