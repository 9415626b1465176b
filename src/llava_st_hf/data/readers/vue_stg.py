"""VUE-STG: each stretch of a video in which a described thing is to be seen, and where, second by second."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...processing import InputError
from ..annotation_checks import read_number, require_positive, require_text
from ..annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from ..skips import make_error
from .base import FileReader, name_event
from .tables import read_csv

_SIDES = ("x0", "y0", "x1", "y1")
# What is clamped to the frame, and is no number of pixels.
_MAX_FRACTION = 2


@dataclass(eq=False)
class VueStgReader(FileReader):
    """
    The path is `query.csv` (`query_id`, `query_text`, `video_id`) or its folder; beside it lie `video.csv`
    (`video_id`, `video_duration` in seconds) and `tubes.csv` (`query_id`, `time_ms`, `x0`, `y0`, `x1`, `y1` from 0 to
    1). As in the published measure, times are rounded to whole seconds, of several boxes of a second the first counts,
    corners are put in order, and boxes without area do not count. Seconds in a row are one span, from the first to the
    last of them.

    The task is `"stvg_several"` or `"tvg_several"`: all spans of a query are its answer. As `"stvg"`, `"svg"` or
    `"tvg"` only queries with one span can be read.
    """

    tasks = ("stvg_several", "tvg_several", "stvg", "svg", "tvg")
    default_task = "stvg_several"
    id_key = "query_id"

    def list_entries(self) -> Sequence[Mapping[str, str]]:
        """Return the queries; their boxes and the lengths of the videos are kept beside them."""
        folder = Path(self.path) if os.path.isdir(self.path) else Path(self.path).parent
        videos = read_csv(folder / "video.csv", ("video_id", "video_duration"))
        self._durations = {row["video_id"]: row.get("video_duration") for row in videos if "video_id" in row}
        self._boxes: dict[str, list[Mapping[str, str]]] = {}
        for row in read_csv(folder / "tubes.csv", ("query_id", "time_ms", *_SIDES)):
            self._boxes.setdefault(row.get("query_id", ""), []).append(row)
        queries = read_csv(folder / "query.csv", ("query_id", "query_text", "video_id"))
        if not queries:
            raise InputError(f"{folder / 'query.csv'} holds no query: give the files of VUE-STG.")
        return queries

    def annotate(self, entry: Any) -> Annotation:
        video = require_text(entry, "video_id")
        duration = {"video_duration": read_number(self._durations.get(video))}
        boxes = _read_boxes(self._boxes.get(entry.get("query_id"), ()))
        seconds = sorted(boxes)
        if not seconds:
            raise make_error("query_id", entry.get("query_id"), "tubes.csv has no box of it with an area")
        gaps = [(before, after) for before, after in pairwise(seconds) if after > before + 1]
        starts = [seconds[0], *(after for _, after in gaps)]
        ends = [*(before for before, _ in gaps), seconds[-1]]
        spans = tuple(AnnotatedSpan(span, field="time_ms") for span in zip(starts, ends, strict=True))
        return Annotation(
            task=self.task,
            media_type="video",
            media=self.folder.find_video(video, "video_id"),
            query=name_event(require_text(entry, "query_text")),
            spans=spans,
            tubes=() if self.task.startswith("tvg") else (AnnotatedTube(boxes, field="tubes.csv"),),
            duration_seconds=require_positive(duration, "video_duration"),
        )


def _read_boxes(rows: Sequence[Mapping[str, str]]) -> dict[float, AnnotatedBox]:
    """Return the boxes by second, as the published measure reads them."""
    boxes: dict[float, AnnotatedBox] = {}
    for row in rows:
        values = [read_number(row.get(name)) for name in ("time_ms", *_SIDES)]
        if not all(isinstance(value, float) for value in values):
            raise make_error("tubes.csv", dict(row), "give numbers for time_ms, x0, y0, x1 and y1")
        if max(abs(value) for value in values[1:]) > _MAX_FRACTION:
            raise make_error("tubes.csv", values[1:], "give x0, y0, x1 and y1 as fractions of the frame, from 0 to 1")
        second = float((2 * int(values[0]) + 1000) // 2000)
        x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in values[1:])
        box = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        boxes.setdefault(second, AnnotatedBox(box, unit="fraction", field=f"tubes.csv at {second:g} s"))
    return {
        second: box for second, box in boxes.items() if box.values[0] < box.values[2] and box.values[1] < box.values[3]
    }
