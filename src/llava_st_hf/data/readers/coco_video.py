"""COCO-style JSON of objects in videos, in the forms of COCO-VID, TAO and YouTube-VIS."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ...processing import InputError
from ..annotation_checks import check_frame
from ..skips import RecordError
from .json_files import get_list, index_by_id, load_json
from .tracks import Track, TrackedVideo, TracksReader

_FRAME_KEYS = ("frame_index", "frame_id", "frame_idx")
_TRACK_KEYS = ("track_id", "instance_id")
_PHRASE_KEYS = ("caption", "phrase", "expression")


@dataclass(eq=False)
class CocoVideoReader(TracksReader):
    """
    In the form of COCO-VID and TAO an image of `images` has `id`, `video_id`, `file_name` and its frame (`frame_id` or
    `frame_index`, from 0, or from 1 where every video begins so), and an annotation has `image_id`, `bbox` ([left,
    top, width, height] in pixels), `category_id` and the object (`instance_id` or `track_id`). In the form of
    YouTube-VIS a video has `file_names`, and an annotation has `video_id`, `category_id` and `bboxes`, one for each of
    these or `null`; the number in the name of a file is that of its frame. A frame of `images` without a box of an
    object says that the object is not to be seen there.

    The media are a video file named as the video (`name`), or else the pictures that the file lists. A `caption` or
    `phrase` of an annotation describes its object in words. The tasks are those of `TracksReader`.
    """

    def list_tracks(self) -> Sequence[Track]:
        content = load_json(self.path)
        self._videos = index_by_id(content, "videos", self.path)
        annotations = [one for one in get_list(content, "annotations", self.path) if isinstance(one, Mapping)]
        self._categories = index_by_id(content, "categories", self.path, is_required=False)
        if any({"bboxes", "segmentations"} & one.keys() for one in annotations):
            return [self._read_listed(one, number) for number, one in enumerate(annotations)]
        return self._collect(get_list(content, "images", self.path), annotations)

    def _read_listed(self, one: Mapping[str, Any], number: int) -> Track:
        """Return a track of YouTube-VIS."""
        video = self._videos.get(one.get("video_id"), {})
        boxes = one.get("bboxes") if isinstance(one.get("bboxes"), list) else []
        names = video.get("file_names") or ()
        frames = _read_frames([str(file_name) for file_name in names])
        # Without numbers the pictures are the whole video: one with more frames is another.
        count = None if frames else len(names)
        rows = [(frames[place] if place < len(frames) else place, place, box) for place, box in enumerate(boxes)]
        name = str(one.get("id", f"annotation {number}"))
        return self._make_track(name, video, tuple(map(str, names)), [one], rows, count)

    def _collect(self, images: list[Any], annotations: list[Mapping[str, Any]]) -> list[Track]:
        """Return the tracks of COCO-VID and TAO: the annotations of each object, with the frames without it."""
        frames: dict[Any, list[tuple[int, Mapping[str, Any]]]] = {}
        for image in images:
            if isinstance(image, Mapping) and image.get("video_id") in self._videos:
                frames.setdefault(image["video_id"], []).append((self._read_frame(image), image))
        # Files that are made of MOT count from 1: no video of theirs begins at 0.
        first = int(bool(frames) and {min(frame for frame, _ in items) for items in frames.values()} == {1})
        owners = {image["id"]: video for video, items in frames.items() for _, image in items if "id" in image}
        groups: dict[tuple[Any, Any], list[Mapping[str, Any]]] = {}
        for number, one in enumerate(annotations):
            video = owners.get(one.get("image_id"), one.get("video_id"))
            track = next((one[key] for key in _TRACK_KEYS if one.get(key) is not None), f"annotation {number}")
            groups.setdefault((video, track), []).append(one)
        tracks = []
        for (video, track), group in groups.items():
            items = sorted(frames.get(video, ()), key=lambda item: item[0])
            boxes: dict[Any, list[Any]] = {}  # of one object in an image; two of them are an error
            for one in group:
                boxes.setdefault(one.get("image_id"), []).append(one.get("bbox", ()))
            rows = [
                (frame - first, place, box)
                for place, (frame, image) in enumerate(items)
                for box in boxes.get(image.get("id"), [None])
            ]
            names = tuple(str(image.get("file_name")) for _, image in items)
            entry = {**(items[0][1] if items else {}), "file_name": None, **self._videos.get(video, {})}
            tracks.append(self._make_track(f"{entry.get('name', video)} {track}", entry, names, group, rows))
        return tracks

    def _read_frame(self, image: Mapping[str, Any]) -> int:
        key = next((key for key in _FRAME_KEYS if image.get(key) is not None), _FRAME_KEYS[0])
        try:
            return check_frame(image.get(key), f"images: {key}")
        except RecordError as error:
            raise InputError(f"{self.path}: {error}") from error

    def _make_track(
        self,
        name: str,
        video: Mapping[str, Any],
        names: tuple[str, ...],
        group: Sequence[Mapping[str, Any]],
        rows: Sequence[tuple[Any, Any, Any]],
        frame_count: int | None = None,
    ) -> Track:
        size, rate = (video.get("width"), video.get("height")), video.get("fps")
        folder = names[0].rpartition("/")[0] if names else ""
        tracked = TrackedVideo(
            str(video.get("name") or video.get("file_name") or folder or name),
            names,
            size=size if all(isinstance(side, int) for side in size) else None,
            frame_count=frame_count,
            frame_rate=rate if isinstance(rate, (int, float)) and rate > 0 else None,
        )
        label = self._categories.get(group[0].get("category_id"), {}).get("name")
        phrases = (one[key] for one in group for key in _PHRASE_KEYS if isinstance(one.get(key), str))
        is_crowd = any(one.get("iscrowd") for one in group)
        return Track(name, tracked, label, rows, phrase=next(phrases, None), is_crowd=is_crowd)


def _read_frames(names: Sequence[str]) -> list[int]:
    """Return which frame of the video each picture is, by the rising numbers in their names; none where they lack."""
    digits = [re.findall(r"\d+", name.rpartition("/")[2].rpartition(".")[0]) for name in names]
    numbers = [int(found[-1]) if found else -1 for found in digits]
    if not all(before < after for before, after in pairwise([-1, *numbers])):
        return []
    return [number - (numbers[0] == 1) for number in numbers]
