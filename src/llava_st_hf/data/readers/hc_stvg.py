"""HC-STVG, version 1 and 2: when and where a described person acts in a video of 20 seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...processing.media_llava_st import format_count
from ..annotation_checks import check_frame, check_numbers, require, require_frame, require_size, require_text
from ..annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from ..skips import make_error
from .base import FileReader, Part, name_event
from .json_files import load_json

_DURATION_SECONDS = 20.0  # of every video; the frame rate follows from `img_num`


@dataclass(eq=False)
class HcStvgReader(FileReader):
    """
    The file is an object of {video name: entry}. Read are, of an entry: `img_num` (frames of the video); `st_frame`
    (first frame of the event, counted from 1); `bbox`, [left, top, width, height] in pixels for each frame of the
    event from the first on to its end; the sentence, `English` (version 2) or `caption` (version 1); and the size of
    the frames, `img_size` = [height, width] (version 2) or `width` and `height` (version 1).

    The task is `"stvg"`, `"svg"` (the span is in the question), `"tvg"` (without boxes) or `"elc"` (the sentence is in
    the answer).
    """

    tasks = ("stvg", "svg", "tvg", "elc")
    default_task = "stvg"

    def list_entries(self) -> Sequence[Part]:
        content = load_json(self.path, dict, "a file of HC-STVG, {video name: entry}")
        return [Part(raw, name or None, name) for name, raw in content.items()]

    def annotate(self, entry: Part) -> Annotation:
        raw, _, name = entry
        frame_count = require_frame(raw, "img_num")
        first = require_frame(raw, "st_frame") - 1
        boxes = require(raw, "bbox")
        if not isinstance(boxes, list) or not boxes:
            raise make_error("bbox", boxes, "give a list of [left, top, width, height] in pixels")
        last = first + len(boxes) - 1
        if first < 0 or last >= frame_count:
            raise make_error(
                "st_frame",
                first + 1,
                f"counted from 1, with {format_count(len(boxes), 'box')} it does not lie in the {frame_count} frames "
                "of img_num",
            )
        tube = {first + number: AnnotatedBox(box, "xywh", field=f"bbox[{number}]") for number, box in enumerate(boxes)}
        sentence = require_text(raw, "English" if raw.get("English") else "caption")
        return Annotation(
            task=self.task,
            media_type="video",
            media=self.folder.find_media([name, f"{name}.mp4"], "video", "video name"),
            query=name_event(sentence),
            answer=sentence,
            spans=(AnnotatedSpan((first, last), "frames", field="st_frame"),),
            tubes=(AnnotatedTube(tube, "frames", interpolate=False, field="bbox"),),
            size=_read_size(raw),
            frame_count=frame_count,
            duration_seconds=_DURATION_SECONDS,
        )


def _read_size(raw: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height of the frames."""
    size = raw.get("img_size")
    if size is None:
        return require_size(raw)
    size = size[:2] if isinstance(size, list) and len(size) == 3 else size  # with the channels behind
    height, width = check_numbers(size, 2, "img_size", "[height, width] in pixels")
    return check_frame(width, "img_size"), check_frame(height, "img_size")
