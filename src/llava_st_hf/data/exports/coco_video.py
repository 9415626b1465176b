"""COCO, and for clips COCO-VID: one file for all answers."""

import json
from collections.abc import Sequence
from typing import Any

from ...processing import GroundingResult
from .clips import AnsweredClip


class _Merged:
    """The files of single answers as one, with new ids."""

    def __init__(self) -> None:
        self.content: dict[str, list[dict[str, Any]]] = {
            "videos": [],
            "images": [],
            "annotations": [],
            "categories": [],
        }
        self._categories: dict[str, int] = {}
        self._images: dict[Any, int] = {}

    def add(self, coco: dict[str, Any], place: Any, video: dict[str, Any] | None = None, num_tracks: int = 0) -> None:
        """Add a file of `to_coco`; `place` tells images apart, `num_tracks` are those that its video has already."""
        names = {category["id"]: category["name"] for category in coco["categories"]}
        images = {}
        for image in coco["images"]:
            key = (place, image.get("frame_index"))
            if key not in self._images:
                self._images[key] = len(self._images) + 1
                link = {} if video is None else {"video_id": video["id"]}
                self.content["images"].append({**image, **link, "id": self._images[key]})
            images[image["id"]] = self._images[key]
        for one in coco["annotations"]:
            name = names[one["category_id"]]
            if name not in self._categories:
                self._categories[name] = len(self._categories) + 1
                self.content["categories"].append({"id": self._categories[name], "name": name})
            link = {} if video is None else {"video_id": video["id"], "track_id": one["track_id"] + num_tracks}
            ids = {"id": len(self.content["annotations"]) + 1, "category_id": self._categories[name]}
            self.content["annotations"].append(
                {**one, **link, **ids, "image_id": images[one["image_id"]], "caption": name}
            )


def write_coco_video(clips: Sequence[AnsweredClip], pictures: Sequence[GroundingResult]) -> dict[str, str]:
    """
    Write the tubes of clips, and the boxes of images.

    A frame of a clip with a box is an image with its `frame_index` (from 0), `seconds` and `video_id`; its `file_name`
    is where `ffmpeg -i clip.mp4 -start_number 0 clip/%06d.jpg` writes it, as readers tell images by their files. In
    COCO-VID an image without a box of an object says that it is not to be seen: where one tube names a time, the
    others of its clip have a box, too, as far as they last. `is_named` of an annotation says that the answer has it
    and it was not interpolated. A video has the `name` and `file_name` of its clip, and `spans` in seconds.
    """
    merged = _Merged()
    for number, clip in enumerate(clips, start=1):
        video: dict[str, Any] = {"id": number, "name": clip.path.name, "spans": []}
        num_tracks = 0
        for result in clip.results:
            named = [{entry.frame_index for entry in tube.boxes} for tube in result.tubes]
            coco = clip.fill(result).to_coco()
            kept = [one for one in coco["annotations"] if one["track_id"] is not None]
            for one in kept:
                one["is_named"] = one["frame_index"] in named[one["track_id"] - 1]
            used = {one["image_id"] for one in kept}
            images = [image for image in coco["images"] if image["id"] in used]
            for image in images:
                image["file_name"] = f"{clip.name}/{image['frame_index']:06}.jpg"
            coco |= {"annotations": kept, "images": images}
            (entry,) = coco["videos"]
            video = {**entry, **video, "spans": video["spans"] + entry["spans"]}
            merged.add(coco, number, video, num_tracks)
            num_tracks += len(result.tubes)
        merged.content["videos"].append(video)
    for number, result in enumerate(pictures):
        merged.add(result.to_coco(), result.media.source or f"image {number}")
    content = {name: rows for name, rows in merged.content.items() if rows or name != "videos"}
    return {"annotations.json": json.dumps(content, indent=2) + "\n"}
