"""VidSTG: when and where a described object is in a video, with the boxes of VidOR."""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...processing.media_llava_st import InputError
from ..media_probe import find_media
from ..samples import Sample
from ..skips import RecordError
from .base import MediaFolder, Reader, require_object
from .refcoco import load_json
from .tubes import (
    DEFAULT_NUM_FRAMES,
    SampledFrames,
    check_count,
    check_numbers,
    check_task,
    make_error,
    require,
    require_frame,
    require_text,
    write_grounding_turns,
)


class VidStgReader(Reader):
    """
    The sentences of an annotation file of VidSTG, one record each: captions and questions.

    Read are, of an entry of the file: `vid`; `frame_count`, `width`, `height`; `used_segment` and `temporal_gt`, each
    {`begin_fid`, `end_fid`}, where the end is the frame after the last one; and `captions` and `questions`, lists of
    {`description`, `target_id`}. `used_segment` is the clip, `temporal_gt` the event in it.

    Boxes are in the annotations of VidOR, one file `VID.json` for each video: `video_path`, and `trajectories`, which
    has for each frame a list of {`tid`, `bbox`: {`xmin`, `ymin`, `xmax`, `ymax`}} in pixels. An entry that has
    `trajectories` itself needs no such file.

    The video is `video_path` of VidOR, or `VID.mp4`, in `data_folder` or in a folder right below it.

    Args:
        path (`str` or `Path`): The annotation file of VidSTG; it is held in memory.
        source (`str`): Name of the data set.
        data_folder (`str` or `Path`, *optional*): Folder of the videos.
        task (`str`, *optional*, defaults to `"stvg"`):
            `"stvg"`, `"svg"` (the span is in the question), `"tvg"` (without boxes) or `"elc"` (captions only, they
            are the answer).
        vidor_folder (`str` or `Path`, *optional*): Folder of VidOR's annotations; folders below it are searched too.
        num_frames (`int`, *optional*, defaults to 100): How many frames of a clip are sampled.

    Raises:
        `InputError`: If the file is no JSON list, or `vidor_folder` is no folder.

    Example:

    ```python
    >>> reader = VidStgReader("val_annotations.json", "vidstg", "vidor/video", vidor_folder="vidor/annotation")
    >>> reader[0].frame_range
    (0, 209)
    ```
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        data_folder: str | Path | None = None,
        task: str | None = None,
        vidor_folder: str | Path | None = None,
        num_frames: int = DEFAULT_NUM_FRAMES,
    ):
        self.source = source
        self.task = check_task(task, ("stvg", "svg", "tvg", "elc"), "vidstg")
        self.num_frames = check_count("num_frames", num_frames)
        self._folder = MediaFolder(data_folder)
        self._vidor_paths = None if vidor_folder is None else _find_json_files(vidor_folder)
        self._entries = load_json(path)
        if not isinstance(self._entries, list):
            raise InputError(f"{path} holds no list: give an annotation file of VidSTG.")
        kinds = ("captions",) if self.task == "elc" else ("captions", "questions")
        # An entry that cannot be read is one record, so that it is reported.
        self._places = [
            place
            for number, entry in enumerate(self._entries)
            for place in (_list_sentences(number, entry, kinds) or [(number, None, 0)])
        ]

    def __len__(self) -> int:
        return len(self._places)

    def get_id(self, index: int) -> str:
        """Return the number of the entry, and kind and number of the sentence in it."""
        number, kind, place = self._places[index]
        return f"entry {number}" if kind is None else f"entry {number} {kind} {place}"

    def read(self, index: int) -> Sample:
        """Read one record; raises `RecordError` if it cannot be used."""
        number, kind, place = self._places[index]
        entry = require_object(self._entries[number])
        if kind is None:
            raise make_error("captions", entry.get("captions"), "give captions or questions, lists of sentences")
        vid = entry.get("vid")
        if isinstance(vid, bool) or not isinstance(vid, (str, int)) or not str(vid).strip():
            raise make_error("vid", vid, "give the name of the video")
        sentence = require_object(entry[kind][place])
        query = require_text(sentence, "description", f"{kind}[{place}].")
        num_frames = require_frame(entry, "frame_count")
        clip = SampledFrames(*_read_frames(entry, "used_segment", num_frames - 1), self.num_frames)
        start, end = _read_frames(entry, "temporal_gt", num_frames - 1)
        span = (
            clip.compute_fraction(start, "temporal_gt.begin_fid"),
            clip.compute_fraction(end, "temporal_gt.end_fid"),
        )
        frames, names = self._get_trajectories(entry, str(vid))
        tube = ()
        if self.task != "tvg":
            target = require(sentence, "target_id", f"{kind}[{place}].")
            boxes = _find_boxes(frames, target, start, end)
            tube = clip.compute_tube(boxes, require_frame(entry, "width"), require_frame(entry, "height"), "bbox")
        return Sample(
            id=self.get_id(index),
            source=self.source,
            task=self.task,
            media_type="video",
            media=find_media(self._folder, names, "video", "vid"),
            messages=write_grounding_turns(self.task, query, span, tube),
            frame_range=(clip.first, clip.last),
        )

    def _get_trajectories(self, entry: Mapping[str, Any], vid: str) -> tuple[list[Any], list[str]]:
        """Return the boxes of each frame, and names that the video may have."""
        names = [f"{vid}.mp4"]
        vidor: Mapping[str, Any] = entry
        if self._vidor_paths is not None:
            path = self._vidor_paths.get(vid)
            if path is None:
                raise make_error("vid", vid, "vidor_folder has no file of this name; get VidOR's annotations")
            vidor = _load_vidor(path)
            if isinstance(vidor.get("video_path"), str):
                names.insert(0, vidor["video_path"])
        if self.task == "tvg":
            return [], names
        if vidor.get("trajectories") is None:
            raise RecordError(
                "invalid_field",
                "trajectories",
                f"trajectories of video {vid} are missing: give vidor_folder, the folder of VidOR's annotations.",
            )
        if not isinstance(vidor["trajectories"], list):
            raise make_error("trajectories", vidor["trajectories"], "give a list of boxes for each frame")
        return vidor["trajectories"], names


def _list_sentences(number: int, entry: Any, kinds: tuple[str, ...]) -> list[tuple[int, str, int]]:
    """Return the place of each sentence: number of the entry, kind, number in the list."""
    if not isinstance(entry, Mapping):
        return []
    return [
        (number, kind, place)
        for kind in kinds
        if isinstance(entry.get(kind), list)
        for place in range(len(entry[kind]))
    ]


def _find_json_files(folder: str | Path) -> dict[str, str]:
    """Return the path of each JSON file below a folder, by its name without the ending."""
    if not os.path.isdir(folder):
        raise InputError(
            f"vidor_folder is {str(folder)!r}, which is no folder: give the folder of VidOR's annotations."
        )
    return {
        name[: -len(".json")]: os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.endswith(".json")
    }


@lru_cache(maxsize=16)
def _load_vidor(path: str) -> Mapping[str, Any]:
    try:
        return require_object(load_json(path))
    except RecordError:
        raise
    except InputError as error:
        raise RecordError("invalid_json", "vid", str(error)) from error


def _read_frames(entry: Mapping[str, Any], name: str, last: int) -> tuple[int, int]:
    """Return the first and the last frame of a stretch, which the file gives with the frame after it."""
    part = require(entry, name)
    begin, end = (require_frame(part, key, f"{name}.") for key in ("begin_fid", "end_fid"))
    if not begin < end <= last + 1:
        raise make_error(name, part, f"give begin_fid < end_fid, end_fid at most frame_count = {last + 1}")
    return begin, end - 1


def _find_boxes(frames: list[Any], target: Any, start: int, end: int) -> dict[int, list[float]]:
    """Return the boxes of one object by frame, from `start` to `end`."""
    boxes = {}
    for frame in range(start, min(end + 1, len(frames))):
        for item in frames[frame] if isinstance(frames[frame], list) else ():
            if isinstance(item, Mapping) and item.get("tid") == target:
                field = f"trajectories[{frame}].bbox"
                box = require(item, "bbox", f"trajectories[{frame}].")
                sides = [require(box, side, f"{field}.") for side in ("xmin", "ymin", "xmax", "ymax")]
                boxes[frame] = check_numbers(sides, 4, field, "xmin, ymin, xmax, ymax in pixels")
    if not boxes:
        raise make_error("target_id", target, f"no frame from {start} to {end} has a box of this object")
    return boxes


__all__ = ["VidStgReader"]
