"""COCO-style JSON of boxes in images, as referring expression comprehension or as region captions."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...processing.tasks_llava_st import get_task
from ..samples import Sample
from .base import MediaFolder, Reader, require_object
from .refcoco import get_list, load_json
from .tubes import (
    check_numbers,
    check_task,
    choose_variant,
    compute_box_fractions,
    convert_xywh,
    make_error,
    require,
    require_frame,
    require_text,
    write_box,
    write_turns,
)

logger = logging.getLogger(__name__)

_PHRASE_FIELDS = ("caption", "phrase")


class CocoReader(Reader):
    """
    The annotations of a COCO-style file, one record each.

    The file is `{"images": [...], "annotations": [...], "categories": [...]}`. Read are, of an image: `id`,
    `file_name`, `width` and `height` in pixels; of an annotation: `bbox` ([left, top, width, height] in pixels),
    `image_id`, `category_id`, `iscrowd`, and `caption` or `phrase`, which describe the object in words; of a
    category: `id` and `name`. A box is clipped to the image.

    For the task `rec` a record asks for the phrase, or for "the" and the name of the category. A name says which
    object is meant only where the image has one of its kind: annotations of a category that the image has several
    times are no records, unless they have a phrase of their own. For the task `rc` each annotation is a record, and
    the answer is the phrase or the name. Crowds (`iscrowd`) are no records. How many annotations are none is said in
    a warning. No other task can be made of boxes with names alone.

    Args:
        path (`str` or `Path`): The JSON file; it is held in memory.
        source (`str`): Name of the data set.
        data_folder (`str` or `Path`, *optional*): Folder of the images.
        task (`str`, *optional*, defaults to `"rec"`): `"rec"` or `"rc"`.
        vary_prompts (`bool`, *optional*, defaults to `False`):
            Whether a record's name chooses one of the published prompts, instead of the first.

    Raises:
        `InputError`: If the file does not have this form.

    Example:

    ```python
    >>> reader = CocoReader("instances_val2017.json", "coco", data_folder="val2017", task="rc")
    >>> reader[0].messages[1]["content"]
    'cat'
    ```
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        data_folder: str | Path | None = None,
        task: str | None = None,
        vary_prompts: bool = False,
    ):
        self.source = source
        self.task = check_task(task, ("rec", "rc"), "coco")
        self._vary_prompts = vary_prompts
        self._folder = MediaFolder(data_folder)
        content = load_json(path)
        self._images = _index_by_id(get_list(content, "images", path))
        annotations = get_list(content, "annotations", path)
        categories = get_list(content, "categories", path) if "categories" in content else []
        self._categories = _index_by_id(categories)
        kinds = Counter(_get_kind(annotation) for annotation in annotations)
        self._annotations = [
            (number, annotation)
            for number, annotation in enumerate(annotations)
            if not isinstance(annotation, Mapping)
            or (
                not annotation.get("iscrowd")
                and (self.task == "rc" or _has_phrase(annotation) or kinds[_get_kind(annotation)] == 1)
            )
        ]
        if len(self._annotations) < len(annotations):
            logger.warning(
                "%s: %d of %d annotations make no record of the task %s: crowds, or objects that their name alone "
                "does not tell from others in the image.",
                path,
                len(annotations) - len(self._annotations),
                len(annotations),
                self.task,
            )

    def __len__(self) -> int:
        return len(self._annotations)

    def get_id(self, index: int) -> str:
        """Return the `id` of the annotation, or its place in the file where it has none."""
        number, annotation = self._annotations[index]
        named = isinstance(annotation, Mapping) and isinstance(annotation.get("id"), (int, str))
        return str(annotation["id"]) if named and str(annotation["id"]).strip() else f"annotation {number}"

    def read(self, index: int) -> Sample:
        """Read one record; raises `RecordError` if it cannot be used."""
        annotation = require_object(self._annotations[index][1])
        image = _look_up(self._images, annotation, "image_id")
        box = check_numbers(require(annotation, "bbox"), 4, "bbox", "[left, top, width, height] in pixels")
        width, height = require_frame(image, "width", "image."), require_frame(image, "height", "image.")
        written = write_box(compute_box_fractions(convert_xywh(box), width, height, "bbox", clip=True))
        variant = choose_variant(self.task, self.source, self.get_id(index), self._vary_prompts)
        task = get_task(self.task)
        phrase = self._read_phrase(annotation)
        if self.task == "rc":
            turns = write_turns(task.write_prompt(variant, box=written), phrase)
        else:
            query = phrase if _has_phrase(annotation) else f"the {phrase}"
            turns = write_turns(task.write_prompt(variant, query=query), written)
        return Sample(
            id=self.get_id(index),
            source=self.source,
            task=self.task,
            media_type="image",
            media=self._folder.open_media(require_text(image, "file_name", "image."), "image", "image.file_name"),
            messages=turns,
        )

    def _read_phrase(self, annotation: Mapping[str, Any]) -> str:
        for name in _PHRASE_FIELDS:
            if annotation.get(name) is not None:
                return require_text(annotation, name).strip()
        return require_text(_look_up(self._categories, annotation, "category_id"), "name", "category.").strip()


def _index_by_id(items: list[Any]) -> dict[Any, Mapping[str, Any]]:
    return {item["id"]: item for item in items if isinstance(item, Mapping) and isinstance(item.get("id"), (int, str))}


def _look_up(items: Mapping[Any, Mapping[str, Any]], annotation: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    name = require(annotation, field)
    if not isinstance(name, (int, str)) or name not in items:
        raise make_error(field, name, "the file has nothing with this id; fix one of the two")
    return items[name]


def _has_phrase(annotation: Mapping[str, Any]) -> bool:
    return any(annotation.get(name) is not None for name in _PHRASE_FIELDS)


def _get_kind(annotation: Any) -> tuple[str, str] | None:
    """Return which category of which image an annotation is of, crowds included."""
    if not isinstance(annotation, Mapping):
        return None
    return repr(annotation.get("image_id")), repr(annotation.get("category_id"))


__all__ = ["CocoReader"]
