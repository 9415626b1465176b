"""Referring expressions in the form of Shikra: a line for each expression, with its image and its box."""

from dataclasses import dataclass
from typing import Any

from ..annotation_checks import read_size, require, require_text
from ..annotations import AnnotatedBox, Annotation
from .base import FileReader


@dataclass(eq=False)
class ShikraRecReader(FileReader):
    """
    Read are `img_path`, `expression` and `bbox`, [left, top, right, bottom] in pixels; and `width` and `height` of the
    image where they are there, which spares opening it. The task is `"rec"`, or `"rc"`, whose answer is the
    expression.
    """

    tasks = ("rec", "rc")
    default_task = "rec"

    def annotate(self, entry: Any) -> Annotation:
        path, expression = require_text(entry, "img_path"), require_text(entry, "expression").strip()
        names = [path, path.rpartition("/")[2]]
        return Annotation(
            task=self.task,
            media_type="image",
            media=self.folder.find_media(names, "image", "img_path"),
            query=expression,
            answer=expression,
            boxes=(AnnotatedBox(require(entry, "bbox"), field="bbox"),),
            size=read_size(entry),
        )
