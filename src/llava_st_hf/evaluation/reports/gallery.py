"""Answers drawn beside the truth on the frames that they are about: the best, some in the middle, the worst."""

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...data.shapes.encoding import encode_sample
from ...processing import GroundingResult, InputError, open_image
from ...processing.image_loading_llava_st import is_url
from ...processing.notation_llava_st import NOTATION
from ...utils.public_names import hide_folders
from ...visualization import draw_contact_sheet, draw_on_image
from ..benchmarks.st_shapes import StShapes
from .document import Picture
from .items import Items, Run

_SHEET = {"columns": 4, "rows": 2, "cell_pixels": 200}
_IMAGE_PIXELS = 640
_MAX_RAW = 300  # characters of an answer that cannot be read
_QUALITY = 82  # of the JPEG files


class Gallery:
    """
    Draws items of a run.

    Clips and images are those that the predictions name; those of ST-Shapes are made again.

    Args:
        run (`Run`): The run.
    """

    def __init__(self, run: Run):
        settings = run.settings
        self._shapes: StShapes | None = None
        if settings["benchmark"] == StShapes.name:
            options = ("num_clips", "tasks", "seed", "num_frames", "size", "difficulty")
            self._shapes = StShapes(**{name: settings[name] for name in options if name in settings})

    def draw(self, title: str, lines: Mapping[str, Mapping[str, Any]]) -> Picture:
        """Draw what is right and what was answered in lines about one item, by their names, each in its colour."""
        first = next(iter(lines.values()))
        words = [first["question"] or "", f"truth: {_describe(first['truth'])}"]
        words += [f"{name}: {_describe(line['result'], line['failure'])}" for name, line in lines.items()]
        try:
            content = self._draw(lines)
        except (InputError, OSError, KeyError, TypeError, ValueError) as error:
            return Picture(title, None, [f"no picture: {hide_folders(str(error))}", *words])
        return Picture(title, content, words)

    def _draw(self, lines: Mapping[str, Mapping[str, Any]]) -> bytes:
        first = next(iter(lines.values()))
        answers = {name: GroundingResult.from_dict(line["result"]) for name, line in lines.items()}
        media = next(iter(answers.values())).media
        truth = GroundingResult.from_dict({**first["truth"], "media": None})
        results = [
            replace(result, query=name, captions=(), media=media)
            for name, result in {"truth": truth, **answers}.items()
        ]
        source = self._open(first["id"], media.source)
        if media.media_type == "image":
            picture = open_image(source)
            picture = picture.resize(_fit(picture.size))
            picture = draw_on_image(picture, results)
        else:
            picture = draw_contact_sheet(source, results, **_SHEET)
        file = io.BytesIO()
        picture.save(file, format="JPEG", quality=_QUALITY)
        return file.getvalue()

    def _open(self, name: str, source: str | None) -> Any:
        """Return the file of a medium, or its content."""
        if self._shapes is not None:
            task, _, number = name.split("-")
            index = self._shapes.tasks.index(task) * self._shapes.num_clips + int(number)
            return encode_sample(self._shapes.read(index)).media[0].content
        if source is None or is_url(source):
            raise InputError(f"the file of item {name!r} is not known.")
        return source


def _describe(result: Mapping[str, Any] | None, failure: str | None = None) -> str:
    """Write when, how many boxes and which words; of an answer that cannot be read all that it is."""
    if not isinstance(result, Mapping):
        return ""
    if failure is not None:
        return f"{failure}: {result['text'][:_MAX_RAW]}"
    parts = [f"{span['start_seconds']:.2f} to {span['end_seconds']:.2f} s" for span in result["spans"][:3]]
    num_boxes = len(result["boxes"]) + sum(len(tube["boxes"]) for tube in result["tubes"])
    parts += [f"{num_boxes} box{'es' * (num_boxes > 1)}"] if num_boxes else []
    words = [caption["text"] for caption in result["captions"]] or [NOTATION.remove_coordinates(result["text"])]
    return ", ".join([*parts, *(text for text in words if any(map(str.isalnum, text)))])


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    scale = _IMAGE_PIXELS / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def choose_items(items: Items, count: int = 2) -> dict[str, list[int]]:
    """
    Choose items to look at, among those that have an answer and a truth: `count` each of best, median and worst.

    Returned are places in `items.lines`, none of them twice.
    """
    values = items.values[items.decisive]
    shown = [
        place
        for place, line in enumerate(items.lines)
        if isinstance(line["result"], dict) and not np.isnan(values[place])
    ]
    order = sorted(shown, key=lambda place: -values[place])
    best, rest = order[:count], order[count:]
    worst, rest = rest[max(len(rest) - count, 0) :][::-1], rest[: max(len(rest) - count, 0)]
    middle = max((len(rest) - count) // 2, 0)
    return {"best": best, "median": rest[middle : middle + count], "worst": worst}
