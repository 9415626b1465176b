"""HC-STVG, version 1 and 2: when and where a described person acts in a video of 20 seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...processing.media_llava_st import InputError
from ..media_probe import find_media
from ..samples import Sample
from .base import MediaFolder, Reader, require_object
from .refcoco import load_json
from .tubes import (
    DEFAULT_NUM_FRAMES,
    SampledFrames,
    check_count,
    check_frame,
    check_numbers,
    check_task,
    convert_xywh,
    make_error,
    require,
    require_frame,
    require_text,
    write_grounding_turns,
)


class HcStvgReader(Reader):
    """
    The records of an annotation file of HC-STVG.

    The file is an object of {video name: entry}. Read are, of an entry: `img_num` (frames of the video); `st_frame`
    (first frame of the event, counted from 1); `bbox`, [left, top, width, height] in pixels for each frame of the
    event from the first on; the sentence, `English` (version 2) or `caption` (version 1); and the size of the frames,
    `img_size` = [height, width] (version 2) or `width` and `height` (version 1). The event ends with its last box.

    The video is the name, with or without `.mp4`, in `data_folder` or in a folder right below it.

    Args:
        path (`str` or `Path`): The annotation file; it is held in memory.
        source (`str`): Name of the data set.
        data_folder (`str` or `Path`, *optional*): Folder of the videos.
        task (`str`, *optional*, defaults to `"stvg"`):
            `"stvg"`, `"svg"` (the span is in the question), `"tvg"` (without boxes) or `"elc"` (the sentence is in
            the answer).
        num_frames (`int`, *optional*, defaults to 100): How many frames of a video are sampled.

    Raises:
        `InputError`: If the file is no JSON object.

    Example:

    ```python
    >>> reader = HcStvgReader("train_v2.json", "hc_stvg", data_folder="v2_video")
    >>> reader[0].id
    '10__Gvp-cj3bmIY.mp4'
    ```
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        data_folder: str | Path | None = None,
        task: str | None = None,
        num_frames: int = DEFAULT_NUM_FRAMES,
    ):
        self.source = source
        self.task = check_task(task, ("stvg", "svg", "tvg", "elc"), "hc_stvg")
        self.num_frames = check_count("num_frames", num_frames)
        self._folder = MediaFolder(data_folder)
        content = load_json(path)
        if not isinstance(content, Mapping):
            raise InputError(f"{path} holds no object: give an annotation file of HC-STVG, {{video name: entry}}.")
        self._entries = list(content.items())

    def __len__(self) -> int:
        return len(self._entries)

    def get_id(self, index: int) -> str:
        """Return the name of the video, which is unique in the file."""
        return self._entries[index][0] or super().get_id(index)

    def read(self, index: int) -> Sample:
        """Read one record; raises `RecordError` if it cannot be used."""
        name, entry = self._entries[index]
        entry = require_object(entry)
        num_frames = require_frame(entry, "img_num")
        first = require_frame(entry, "st_frame") - 1
        boxes = require(entry, "bbox")
        if not isinstance(boxes, list) or not boxes:
            raise make_error("bbox", boxes, "give a list of [left, top, width, height] in pixels")
        last = first + len(boxes) - 1
        if first < 0 or last >= num_frames:
            raise make_error(
                "st_frame", first + 1, f"with {len(boxes)} boxes it does not lie in the {num_frames} frames of img_num"
            )
        clip = SampledFrames(0, num_frames - 1, self.num_frames)
        span = (clip.compute_fraction(first, "st_frame"), clip.compute_fraction(last, "bbox"))
        tube = ()
        if self.task != "tvg":
            boxes_by_frame = {
                frame: convert_xywh(check_numbers(boxes[frame - first], 4, f"bbox[{frame - first}]", "in pixels"))
                for frame in clip.frames
                if first <= frame <= last
            }
            tube = clip.compute_tube(boxes_by_frame, *_read_size(entry), "bbox")
        return Sample(
            id=self.get_id(index),
            source=self.source,
            task=self.task,
            media_type="video",
            media=find_media(self._folder, [name, f"{name}.mp4"], "video", "video name"),
            messages=write_grounding_turns(
                self.task, require_text(entry, "English" if "English" in entry else "caption"), span, tube
            ),
        )


def _read_size(entry: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height of the frames."""
    if entry.get("img_size") is None:
        return require_frame(entry, "width"), require_frame(entry, "height")
    height, width = check_numbers(entry["img_size"], 2, "img_size", "[height, width] in pixels")
    return check_frame(width, "img_size"), check_frame(height, "img_size")


__all__ = ["HcStvgReader"]
