"""CVAT for video: tracks of objects as XML."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from ...processing import InputError
from ..annotation_checks import read_number
from .tables import read_xml
from .tracks import Track, TrackedVideo, TracksReader

_SIDES = ("xtl", "ytl", "xbr", "ybr")
_PHRASE_NAMES = ("caption", "phrase", "description")


@dataclass(eq=False)
class CvatVideoReader(TracksReader):
    """
    Read are the tracks (`label`, `id`) and their boxes (`frame`, from 0; `xtl`, `ytl`, `xbr`, `ybr` in pixels;
    `outside="1"` where the object is not to be seen; of one with a `rotation`, the upright box around it), and from
    `meta` the name of the video (`source`, or `name` of the task), its `original_size`, and its `size` in frames. An
    attribute `caption`, `phrase` or `description` describes the object in words. The tasks are those of
    `TracksReader`.

    Between its boxes an object moves as in CVAT, which exports every frame of it, or its key frames alone: evenly from
    one to the next, and before one that is outside it stays where it was. With gaps between its boxes, or one box
    only, it stays after the last of them up to the end of the task.
    """

    def list_tracks(self) -> Sequence[Track]:
        root = read_xml(self.path)
        if root.tag != "annotations":
            raise InputError(f"{self.path} holds <{root.tag}>, not <annotations>: export it as 'CVAT for video'.")
        whole = _read_video(root)
        # An export of a whole project has the video of each task, and names the task at each track.
        tasks = {task.findtext("id"): task for task in root.iter("task")}
        tracks = []
        for number, track in enumerate(root.iter("track")):
            video = _read_video(tasks[track.get("task_id")]) if track.get("task_id") in tasks else whole
            rows = []
            for box in track.iter("box"):
                frame = read_number(box.get("frame"))
                rows.append((frame, frame, None if box.get("outside") == "1" else _read_sides(box)))
            rows = _hold(rows, video.last_frame)
            words = [part for part in track.iter("attribute") if part.get("name") in _PHRASE_NAMES]
            phrase = next((part.text.strip() for part in words if part.text and part.text.strip()), None)
            name = f"{video.clip.name or Path(self.path).stem} track {track.get('id', number)}"
            tracks.append(Track(name, video.clip, track.get("label"), rows, "xyxy", phrase))
        return tracks


def _read_sides(box: Element) -> list[Any]:
    """Return left, top, right and bottom of a box; of one that is turned around its centre, of what it covers."""
    sides = [read_number(box.get(side)) for side in _SIDES]
    degrees = read_number(box.get("rotation", "0"))
    if degrees == 0.0 or not all(isinstance(value, float) for value in (*sides, degrees)):
        return sides
    left, top, right, bottom = sides
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    half_width = ((right - left) * cosine + (bottom - top) * sine) / 2
    half_height = ((right - left) * sine + (bottom - top) * cosine) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return [x - half_width, y - half_height, x + half_width, y + half_height]


def _hold(rows: list[tuple[Any, Any, Any]], last_frame: float | None) -> list[tuple[Any, Any, Any]]:
    """Return the boxes of a track with one more where one stays: up to where the object is outside, or all ends."""
    frames = [row[0] for row in rows]
    if not all(isinstance(frame, float) for frame in frames) or frames != sorted(frames):
        return rows  # what is wrong with them is said when the track is read
    is_sparse = len(rows) == 1 or any(after[0] - row[0] > 1 for row, after in pairwise(rows))
    ends = [(last_frame + 1, None, None)] if is_sparse and last_frame is not None else []
    held = []
    for (frame, place, sides), (following, _, after) in pairwise([*rows, *(ends or [(-1.0, None, None)])]):
        held.append((frame, place, sides))
        if sides is not None and after is None and following - frame > 1:
            held.append((following - 1, following - 1, sides))
    return held


class _Task(NamedTuple):
    clip: TrackedVideo
    last_frame: float | None  # of the video, as the task has it


def _read_video(part: Element) -> _Task:
    """Return the video that the meta data of a file or of a task name."""
    # Labels, too, have a <name>.
    places = (".//source", "meta/task/name", "meta/job/name", "name")
    name = next((text for place in places if (text := part.findtext(place))), None)
    size = [read_number(part.findtext(f".//original_size/{side}")) for side in ("width", "height")]
    count = read_number(part.findtext(".//size"))
    # A task that leaves frames out, or begins later, counts its own frames, but its boxes have those of the video.
    is_whole = part.findtext(".//start_frame") in (None, "0") and not part.findtext(".//frame_filter")
    clip = TrackedVideo(
        (name or "").strip(),
        size=(int(size[0]), int(size[1])) if all(isinstance(side, float) and side >= 1 for side in size) else None,
        frame_count=int(count) if isinstance(count, float) and count >= 1 and is_whole else None,
    )
    last = read_number(part.findtext(".//stop_frame"))
    return _Task(clip, last if isinstance(last, float) else clip.frame_count and clip.frame_count - 1.0)
