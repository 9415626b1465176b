"""VidSTG: when and where a described object is in a video, with the boxes of VidOR."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...processing import InputError
from ..annotation_checks import require, require_frame, require_object, require_positive, require_size, require_text
from ..annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from ..skips import RecordError, make_error, make_fault
from .base import FileReader, Part, name_event
from .json_files import load_json


@dataclass(eq=False)
class VidStgReader(FileReader):
    """
    Each sentence is a record. Read are, of an entry: `vid`; `frame_count`, `fps`, `width`, `height`; `used_segment`,
    {`begin_fid`, `end_fid`}, the clip, where the end is its last frame; `temporal_gt`, the event in it, where the end
    is the frame after its last one; and `captions` and `questions`, lists of {`description`, `target_id`}.

    Boxes are in the annotations of VidOR, one file `VID.json` for each video: `video_path`, which else is `VID.mp4`,
    and `trajectories`, which has for each frame a list of {`tid`, `bbox`: {`xmin`, `ymin`, `xmax`, `ymax`}} in pixels.
    An entry that has `trajectories` itself needs no such file.

    The task is `"stvg"`, `"svg"` (the span is in the question), `"tvg"` (without boxes) or `"elc"` (captions only,
    they are the answer). Captions are asked after in lower case and without the full stop.
    """

    vidor_folder: str | Path | None = None  # folder of VidOR's annotations; folders below it are searched too
    tasks = ("stvg", "svg", "tvg", "elc")
    default_task = "stvg"

    def list_entries(self) -> Sequence[Part]:
        """Return the sentences; an entry without any is one record, so that it is reported."""
        self._vidor_paths = None if self.vidor_folder is None else _find_json_files(self.vidor_folder)
        content = load_json(self.path, list, "an annotation file of VidSTG")
        kinds = ("captions",) if self.task == "elc" else ("captions", "questions")
        sentences = []
        for number, entry in enumerate(content):
            lists = {kind: entry.get(kind) for kind in kinds} if isinstance(entry, Mapping) else {}
            found = [
                Part(entry, f"entry {number} {kind} {place}", (kind, place))
                for kind, values in lists.items()
                for place in range(len(values) if isinstance(values, list) else 0)
            ]
            sentences += found or [Part(entry, f"entry {number}")]
        return sentences

    def annotate(self, entry: Part) -> Annotation:
        raw = require_object(entry.raw)
        if entry.part is None:
            raise make_error("captions", raw.get("captions"), "give captions or questions, lists of sentences")
        kind, place = entry.part
        vid = raw.get("vid")
        if isinstance(vid, bool) or not isinstance(vid, (str, int)) or not str(vid).strip():
            raise make_error("vid", vid, "give the name of the video")
        where = f"{kind}[{place}]."
        sentence = raw[kind][place]
        description = require_text(sentence, "description", where)
        frame_count = require_frame(raw, "frame_count")
        first, last = _read_frames(raw, "used_segment", frame_count)
        start, end = _read_frames(raw, "temporal_gt", frame_count + 1)
        vidor, names = self._find_vidor(raw, str(vid))
        tubes = ()
        if self.task != "tvg":
            target = require(sentence, "target_id", where)
            tubes = (_read_tube(vidor, str(vid), target, start, end - 1),)
        return Annotation(
            task=self.task,
            media_type="video",
            media=self.folder.find_media(names, "video", "vid"),
            query=name_event(description, f"{where}description"),
            asks_subject=kind == "questions",
            answer=description.strip(),
            spans=(AnnotatedSpan((start, end - 1), "frames", field="temporal_gt"),),
            tubes=tubes,
            size=require_size(raw) if tubes else None,
            frame_range=(first, last),
            frame_count=frame_count,
            frame_rate=None if raw.get("fps") is None else require_positive(raw, "fps"),
        )

    def _find_vidor(self, raw: Mapping[str, Any], vid: str) -> tuple[Mapping[str, Any], list[str]]:
        """Return what has the boxes, and names that the video may have."""
        names = [f"{vid}.mp4"]
        if self._vidor_paths is None:
            return raw, names
        path = self._vidor_paths.get(vid)
        if path is None:
            raise make_error("vid", vid, "vidor_folder has no file of this name; get VidOR's annotations")
        vidor = _load_vidor(path)
        if isinstance(vidor.get("video_path"), str):
            names.insert(0, vidor["video_path"])
        return vidor, names


def _find_json_files(folder: str | Path) -> dict[str, str]:
    """Return the path of each JSON file below a folder, by its name without the ending."""
    if not os.path.isdir(folder):
        raise InputError(
            f"vidor_folder is {str(folder)!r}, which is no folder: give the folder of VidOR's annotations."
        )
    return {path.stem: str(path) for path in Path(folder).rglob("*.json")}


@lru_cache(maxsize=16)
def _load_vidor(path: str) -> Mapping[str, Any]:
    try:
        return load_json(path, dict, "annotations of VidOR, {video_path, trajectories, ...}")
    except InputError as error:
        raise RecordError("invalid_json", "vid", str(error)) from error


def _read_frames(raw: Mapping[str, Any], name: str, limit: int) -> tuple[int, int]:
    """Return begin and end of a stretch as they stand there."""
    part = require(raw, name)
    begin, end = (require_frame(part, key, f"{name}.") for key in ("begin_fid", "end_fid"))
    if not begin <= end < limit:
        raise make_error(name, part, f"give begin_fid before end_fid, end_fid below {limit} by frame_count")
    return begin, end


def _read_tube(vidor: Mapping[str, Any], vid: str, target: Any, first: int, last: int) -> AnnotatedTube:
    """Return the boxes of one object by frame, from `first` to `last`."""
    trajectories, boxes = vidor.get("trajectories"), {}
    if trajectories is None:
        fix = "give vidor_folder, the folder of VidOR's annotations"
        raise make_fault("trajectories", f"of video {vid} are missing", fix)
    if not isinstance(trajectories, list):
        raise make_error("trajectories", trajectories, "give a list of boxes for each frame")
    for frame, items in enumerate(trajectories[first : last + 1], start=first):
        for item in items if isinstance(items, list) else ():
            if isinstance(item, Mapping) and item.get("tid") == target:
                field = f"trajectories[{frame}].bbox"
                box = require(item, "bbox", f"trajectories[{frame}].")
                sides = [require(box, side, f"{field}.") for side in ("xmin", "ymin", "xmax", "ymax")]
                boxes[frame] = AnnotatedBox(sides, field=field)
    if not boxes:
        raise make_error("target_id", target, f"no frame from {first} to {last} has a box of this object")
    return AnnotatedTube(boxes, "frames", interpolate=False, field="bbox")
