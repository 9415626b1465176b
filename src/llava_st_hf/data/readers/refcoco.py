"""RefCOCO, RefCOCO+ and RefCOCOg: where a described object is in an image."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...processing.media_llava_st import InputError
from ...processing.tasks_llava_st import TASKS, get_task
from ..samples import Sample
from ..skips import show
from .base import MediaFolder, Reader, require_object
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


class RefCocoReader(Reader):
    """
    The records of RefCOCO, RefCOCO+ or RefCOCOg, as referring expression comprehension (rec).

    The file is `{"images": [...], "annotations": [...]}`. Of an image `id`, `file_name`, `width`, `height` (pixels)
    and `caption` (the phrase) are read. Of an annotation `bbox` ([left, top, width, height] in pixels) and
    `image_id`, or where there is none `id`, which names the image. Each image has one annotation. A box is clipped to
    the image. A caption that holds `<image>` is the whole question.

    Args:
        path (`str` or `Path`): The JSON file; it is held in memory.
        source (`str`): Name of the data set.
        data_folder (`str` or `Path`, *optional*): Folder of the images.
        task (`str`, *optional*): Only `"rec"`.
        prompt_variant (`int`, *optional*, defaults to 0): Which of the published prompts is written.
        vary_prompts (`bool`, *optional*, defaults to `False`):
            Whether a record's name chooses its prompt, instead of `prompt_variant`.

    Raises:
        `InputError`: If the file does not have this form.

    Example:

    ```python
    >>> reader = RefCocoReader("refcoco_val.json", "refcoco", data_folder="train2014")
    >>> reader[0].messages[0]["content"]
    'Where can I find the dog in this image?'
    ```
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        data_folder: str | Path | None = None,
        task: str | None = None,
        prompt_variant: int = 0,
        vary_prompts: bool = False,
    ):
        self.source = source
        self.task = check_task(task, ("rec",), "refcoco")
        if prompt_variant not in range(len(TASKS[self.task].prompts)):
            raise InputError(
                f"prompt_variant is {show(prompt_variant)}: give a number from 0 to "
                f"{len(TASKS[self.task].prompts) - 1}."
            )
        self._prompt_variant = prompt_variant
        self._vary_prompts = vary_prompts
        self._folder = MediaFolder(data_folder)
        content = load_json(path)
        self._images = get_list(content, "images", path)
        self._annotations: dict[Any, list[Any]] = {}
        for annotation in get_list(content, "annotations", path):
            name = _get_image_id(annotation)
            self._annotations.setdefault(name, []).append(annotation)

    def __len__(self) -> int:
        return len(self._images)

    def get_id(self, index: int) -> str:
        """Return the `id` of the image, or its place where it has none."""
        image = self._images[index]
        named = isinstance(image, Mapping) and isinstance(image.get("id"), (int, str)) and str(image["id"]).strip()
        return str(image["id"]) if named else super().get_id(index)

    def read(self, index: int) -> Sample:
        """Read one record; raises `RecordError` if it cannot be used."""
        image = require_object(self._images[index])
        name = require(image, "id")
        found = self._annotations.get(name, []) if isinstance(name, (int, str)) else []
        if len(found) != 1:
            raise make_error("id", name, f"{len(found)} annotations name this image; give one for each image")
        box = check_numbers(require(found[0], "bbox"), 4, "bbox", "[left, top, width, height] in pixels")
        width, height = require_frame(image, "width"), require_frame(image, "height")
        box = compute_box_fractions(convert_xywh(box), width, height, "bbox", clip=True)
        caption = require_text(image, "caption")
        variant = self._prompt_variant
        if self._vary_prompts:
            variant = choose_variant(self.task, self.source, self.get_id(index), vary_prompts=True)
        prompt = caption if "<image>" in caption else get_task(self.task).write_prompt(variant, query=caption)
        return Sample(
            id=self.get_id(index),
            source=self.source,
            task=self.task,
            media_type="image",
            media=self._folder.open_media(require_text(image, "file_name"), "image", "file_name"),
            messages=write_turns(prompt, write_box(box)),
        )


def load_json(path: str | Path) -> Any:
    """
    Return what a whole JSON file holds.

    Raises:
        `InputError`: If it cannot be read, or is no JSON.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        # Of a file that is named so already, another format is meant.
        is_lines = getattr(error, "msg", "") == "Extra data" and Path(path).suffix.lower() == ".json"
        fix = " Name a file with one record per line .jsonl." if is_lines else ""
        raise InputError(f"{path} cannot be read as a JSON file: {error}.{fix}") from error


def get_list(content: Any, name: str, path: str | Path) -> list[Any]:
    """Return a list of a JSON file that is one object; `InputError` where it has none of this name."""
    values = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(values, list):
        raise InputError(f"{path} has no list {name!r}: give a file of the form {{'{name}': [...], ...}}.")
    return values


def _get_image_id(annotation: Any) -> Any:
    """Return the name of the image of an annotation; `None` where it has none, which is no image's."""
    if not isinstance(annotation, Mapping):
        return None
    name = annotation.get("image_id", annotation.get("id"))
    return name if isinstance(name, (int, str)) else None


__all__ = ["RefCocoReader", "get_list", "load_json"]
