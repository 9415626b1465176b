"""Annotation files for the tests of scoring: real ones with boxes of our own, and small ones by hand."""

import json
from pathlib import Path

import numpy as np

from llava_st_hf.processing.grounding_results_llava_st import GroundingResult, Span, Tube, TubeArrays


def write_vidstg(path: Path, entries: list[dict], moves: bool = True) -> Path:
    """Write entries of VidSTG with a box of each target in each frame, which VidOR has in files of its own."""
    for entry in entries:
        sides = {"xmin": 10, "ymin": 20, "xmax": 110, "ymax": 120}
        targets = {sentence["target_id"] for sentence in entry["captions"] + entry["questions"]}
        entry["trajectories"] = [
            [
                {"tid": target, "bbox": {name: side + (frame % 7 if moves else 0) for name, side in sides.items()}}
                for target in targets
            ]
            for frame in range(entry["frame_count"])
        ]
    path.write_text(json.dumps(entries))
    return path


def write_hc_stvg(path: Path, frames: int = 40) -> Path:
    """Write one record of HC-STVG: from frame 101 on, counted from 1, of 400 in 20 seconds."""
    boxes = [[10 + number, 20, 50, 60] for number in range(frames)]
    record = {"img_num": 400, "st_frame": 101, "bbox": boxes, "caption": "he walks", "width": 320, "height": 240}
    path.write_text(json.dumps({"1_a.mp4": record}))
    return path


def shift(answer: GroundingResult, frames: int, rate: float) -> GroundingResult:
    """Return an answer some frames later."""
    (span,), (tube,) = answer.spans, answer.tubes
    seconds, indices, boxes = tube.arrays[:3]
    moved = Tube.from_arrays(TubeArrays(seconds + frames / rate, indices + frames, boxes))
    spans = (Span(span.start_seconds + frames / rate, span.end_seconds + frames / rate),)
    return GroundingResult("", spans=spans, tubes=(moved,), media=answer.media)


def take_every(answer: GroundingResult, step: int) -> GroundingResult:
    """Return an answer with some of its boxes only, the first and the last among them."""
    arrays = answer.tubes[0].arrays
    kept = np.unique([*range(0, len(arrays.seconds), step), len(arrays.seconds) - 1])
    tube = Tube.from_arrays(TubeArrays(*(column[kept] for column in arrays[:3])))
    return GroundingResult("", spans=answer.spans, tubes=(tube,), media=answer.media)
