"""RefCOCO, RefCOCO+ and RefCOCOg: where a described object is in an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...processing import TASKS, InputError
from ..annotation_checks import require, require_size, require_text
from ..annotations import AnnotatedBox, Annotation
from ..skips import make_error, show
from .base import FileReader
from .json_files import get_list, load_json


@dataclass(eq=False)
class RefCocoReader(FileReader):
    """
    The file is `{"images": [...], "annotations": [...]}`, and a record is an image with one annotation. Of an image
    `id`, `file_name`, `width`, `height` (pixels) and `caption` (the phrase) are read; of an annotation `bbox` ([left,
    top, width, height] in pixels) and `image_id`, or `id` in a file where that pairs more of them, which names the
    image. A caption that holds `<image>` is the whole question.
    """

    # Which of the published prompts all records get; each record's id chooses one by default.
    prompt_variant: int | None = None
    tasks = ("rec",)
    default_task = "rec"

    def list_entries(self) -> Sequence[Any]:
        last = len(TASKS["rec"].prompts) - 1
        if self.prompt_variant is not None and self.prompt_variant not in range(last + 1):
            raise InputError(f"prompt_variant is {show(self.prompt_variant)}: give a number from 0 to {last}.")
        content = load_json(self.path)
        images = get_list(content, "images", self.path)
        annotations = get_list(content, "annotations", self.path)
        # The published files pair equal ids; an `image_id` that they may have, too, is that of COCO, and some of
        # those are also ids of other images here. So one key is meant in all of the file: that which pairs more.
        by_image, by_id = (_pair(images, annotations, key) for key in ("image_id", "id"))
        return by_image if _count_pairs(by_image) >= _count_pairs(by_id) else by_id

    def get_entry_id(self, entry: Any) -> Any:
        return super().get_entry_id(entry[0])

    def annotate(self, entry: Any) -> Annotation:
        image, found = entry
        name = require(image, "id")
        if len(found) != 1:
            raise make_error("id", name, f"{len(found)} annotations name this image; give one for each image")
        caption = require_text(image, "caption")
        return Annotation(
            task="rec",
            media_type="image",
            media=self.folder.find_media([require_text(image, "file_name")], "image", "file_name"),
            query=caption,
            prompts=(caption,) if "<image>" in caption else (),
            boxes=(AnnotatedBox(require(found[0], "bbox"), "xywh", field="bbox"),),
            size=require_size(image),
        )

    def choose_variant(self, record_id: str) -> int:
        return super().choose_variant(record_id) if self.prompt_variant is None else self.prompt_variant


def _pair(images: list[Any], annotations: list[Any], key: str) -> list[tuple[Any, list[Any]]]:
    """Return each image with the annotations that name it by a key."""
    found: dict[Any, list[Any]] = {}
    for annotation in annotations:
        found.setdefault(_get_name(annotation, key), []).append(annotation)
    return [(image, found.get(_get_name(image, "id"), [])) for image in images]


def _count_pairs(pairs: list[tuple[Any, list[Any]]]) -> tuple[int, int]:
    """Return how many images have one annotation, and how many have any."""
    return sum(len(found) == 1 for _, found in pairs), sum(bool(found) for _, found in pairs)


def _get_name(raw: Any, field: str) -> int | str | None:
    """Return a field, if it can be a name."""
    value = raw.get(field) if isinstance(raw, Mapping) else None
    return value if isinstance(value, (int, str)) else None
