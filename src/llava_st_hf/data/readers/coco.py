"""COCO-style JSON of boxes in images, as referring expression comprehension or as region captions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..annotation_checks import require, require_object, require_size, require_text
from ..annotations import AnnotatedBox, Annotation
from ..skips import make_error
from .base import FileReader, Part, write_label
from .json_files import get_list, index_by_id, load_json

_PHRASE_FIELDS = ("caption", "phrase")


@dataclass(eq=False)
class CocoReader(FileReader):
    """
    The file is `{"images": [...], "annotations": [...], "categories": [...]}`. Read are, of an image: `id`,
    `file_name`, `width` and `height` in pixels; of an annotation: `bbox` ([left, top, width, height] in pixels),
    `image_id`, `category_id`, `iscrowd`, and `caption` or `phrase`, which describe the object in words; of a category:
    `id` and `name`.

    For the task `rec` a record asks for the phrase, or for "the" and the name of the category. A name says which
    object is meant only where the image has one of its kind: annotations of a category that the image has several
    times are no records, unless they have a phrase of their own. For the task `rc` each annotation is a record, and
    the answer is the phrase or the name. Crowds (`iscrowd`) are no records. How many annotations are none is said in a
    warning. No other task can be made of boxes with names alone.
    """

    tasks = ("rec", "rc")
    default_task = "rec"

    def list_entries(self) -> Sequence[Part]:
        """Return the annotations that make a record; one without an `id` is called by its place in the file."""
        content = load_json(self.path)
        self._images = index_by_id(content, "images", self.path)
        annotations = get_list(content, "annotations", self.path)
        self._categories = index_by_id(content, "categories", self.path, is_required=False)
        kinds = Counter(_get_kind(annotation) for annotation in annotations)
        entries = [
            Part(annotation, f"annotation {number}" if (id := self.get_entry_id(annotation)) is None else id)
            for number, annotation in enumerate(annotations)
            if not isinstance(annotation, Mapping)
            or (
                not annotation.get("iscrowd")
                and (self.task == "rc" or _find_phrase(annotation) or kinds[_get_kind(annotation)] == 1)
            )
        ]
        self.warn_of_left_out(len(annotations) - len(entries), len(annotations), "annotations")
        return entries

    def annotate(self, entry: Part) -> Annotation:
        raw = require_object(entry.raw)
        image = _look_up(self._images, raw, "image_id")
        key = _find_phrase(raw)
        if key is None:
            phrase = write_label(require_text(_look_up(self._categories, raw, "category_id"), "name", "category."))
        else:
            phrase = require_text(raw, key).strip()
        return Annotation(
            task=self.task,
            media_type="image",
            media=self.folder.find_media([require_text(image, "file_name", "image.")], "image", "image.file_name"),
            query=f"the {phrase}" if key is None else phrase,
            answer=phrase,
            boxes=(AnnotatedBox(require(raw, "bbox"), "xywh", field="bbox"),),
            size=require_size(image, "image."),
        )


def _look_up(items: Mapping[Any, Mapping[str, Any]], raw: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    name = require(raw, field)
    if not isinstance(name, (int, str)) or name not in items:
        raise make_error(field, name, "the file has nothing with this id; fix one of the two")
    return items[name]


def _find_phrase(raw: Mapping[str, Any]) -> str | None:
    """Return under which key an annotation has words of its own."""
    return next((name for name in _PHRASE_FIELDS if raw.get(name) is not None), None)


def _get_kind(raw: Any) -> tuple[str, str] | None:
    """Return which category of which image an annotation is of, crowds included."""
    if not isinstance(raw, Mapping):
        return None
    return repr(raw.get("image_id")), repr(raw.get("category_id"))
