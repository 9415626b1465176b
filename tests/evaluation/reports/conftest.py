"""Runs that were written down, without a model."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from run_lines import make_line, media_to_dict

from llava_st_hf.evaluation.benchmarks.st_shapes import StShapes
from llava_st_hf.evaluation.protocols import get_protocol
from llava_st_hf.evaluation.questions import read_truth
from llava_st_hf.evaluation.summary import summarize_predictions
from llava_st_hf.processing.media_llava_st import MediaInfo
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary


@pytest.fixture
def write_run(tmp_path) -> Callable[..., Path]:
    """Write the folder of a run of given lines."""

    def write(lines: Sequence[dict[str, Any]], name: str = "run", **settings: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        settings = {"benchmark": "mine", "model": name, "protocol": "default", **settings}
        found = summarize_predictions(lines, get_protocol(settings["protocol"]))
        facts = {
            "settings": settings,
            "command": "llava-st evaluate",
            "versions": {"torch": "2.13.0"},
            "device": "cpu",
        }
        (folder / "run.json").write_text(json.dumps(settings))
        (folder / "metrics.json").write_text(json.dumps({**found, **facts}))
        (folder / "predictions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return folder

    return write


@pytest.fixture(scope="session")
def shapes_lines() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """True answers to a few items of ST-Shapes, and the settings of the run."""
    benchmark = StShapes(3, ("stvg", "rec"), num_frames=8)
    protocol, lines = get_protocol("default"), []
    for index in range(len(benchmark)):
        sample, task = benchmark.read(index), benchmark.get_task(index)
        frames = sample.media[0].frames
        seconds = tuple(number / sample.video_fps for number in range(8)) if sample.media_type == "video" else ()
        media = MediaInfo(sample.media_type, 72, 72, tuple(range(len(seconds))), seconds)
        assert frames.shape[-3:] == (72, 72, 3)
        truth = read_truth(sample, (media,))
        scores = protocol.score(task, truth, truth, CoordinateVocabulary())
        line = make_line(index, 1.0, id=benchmark.get_id(index), task=task, scores=scores, baseline=None)
        lines.append({**line, "result": {**truth.to_dict(), "media": media_to_dict(media)}, "truth": truth.to_dict()})
    return lines, benchmark.get_settings()
