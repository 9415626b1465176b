"""How boxes, labels and time lines look, and what every picture shares: style, colours, text that fits."""

import logging
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from ..processing import Box, GroundingResult
from .fonts import LEFT_TO_RIGHT_MARK, Typeface, describe_missing_fonts, put_on_line, replace_undrawable
from .marks import Color, Mark, as_results, list_marks

logger = logging.getLogger(__name__)

INK: Color = (255, 255, 255)
FAINT_INK: Color = (160, 166, 176)
PAPER: Color = (20, 22, 27)
RAIL: Color = (70, 75, 84)
MIN_FONT_SIZE = 14  # pixels
MIN_WIDTH = 240  # pixels: of less, lines of text hold hardly a word
_MAX_ENLARGED = 4096  # pixels of height, to which a narrow image is enlarged
_VEIL_OPACITY = 112  # of 255


@dataclass(frozen=True)
class Style:
    """Sizes in pixels that go with the shorter side of the picture, so that 240 and 4,000 pixels look alike."""

    line: int
    font_size: int

    @classmethod
    def for_size(cls, width: int, height: int) -> "Style":
        """Return the style of a picture of that size."""
        shorter = min(width, height)
        return cls(line=max(2, round(shorter / 180)), font_size=max(MIN_FONT_SIZE, round(shorter / 30)))

    @property
    def font(self) -> Typeface:
        """The fonts, at `font_size`."""
        return Typeface(self.font_size)

    @property
    def pad(self) -> int:
        """Space around a text."""
        return max(3, self.font_size // 3)

    @property
    def line_height(self) -> int:
        """Height of a line of text."""
        return round(self.font_size * 1.3)


def draw_on_image(image: Image.Image, results: GroundingResult | Sequence[GroundingResult]) -> Image.Image:
    """
    Draw the boxes of one or several answers onto a copy of their image.

    Args:
        image (`PIL.Image.Image`): The image that was asked about; at another size the boxes are scaled to it.
        results (`GroundingResult` or a sequence of them): The boxes get phrase or query and confidence as label.

    Returns:
        `PIL.Image.Image`: An RGB image, turned upright as its EXIF data says; one that is too small for the labels is
        enlarged by a whole number.

    Example:

    ```python
    >>> result = GroundingResult("...", boxes=(Box(10, 10, 40, 40),), query="a dog")
    >>> draw_on_image(Image.new("RGB", (640, 480)), result).size
    (640, 480)
    ```
    """
    canvas = ImageOps.exif_transpose(image).convert("RGB")
    media = next((result.media for result in as_results(results) if result.media), None)
    width, height = (media.width, media.height) if media else canvas.size
    marks = list_marks(results)
    marked = [(box, mark) for mark in marks for box in _list_boxes(mark)]
    if (factor := min(MIN_WIDTH // canvas.width, _MAX_ENLARGED // canvas.height)) > 1 and marked:
        canvas = canvas.resize((canvas.width * factor, canvas.height * factor))
    scale, style = (canvas.width / width, canvas.height / height), Style.for_size(*canvas.size)
    for box, mark in marked:
        draw_box(canvas, box, mark.color, style, scale)
    taken: list[tuple[float, float, float, float]] = []
    for box, mark in marked:  # above all lines
        place = _place_box(canvas, box, style, scale)
        # Of several, no label may run over all the others.
        width = canvas.width if len(marked) == 1 else max(place[2] - place[0], canvas.width / 2)
        _draw_tag(canvas, mark.label, box.confidence, place, mark.color, style, min(width, canvas.width), taken)
    missing = describe_missing_fonts(*(mark.label for mark in marks))
    if missing:
        logger.warning("%s", missing)
    return canvas


def _list_boxes(mark: Mark) -> list[Box]:
    return [*mark.boxes, *([entry.box for entry in mark.tube.boxes] if mark.tube is not None else [])]


def draw_box(
    canvas: Image.Image,
    box: Box,
    color: Color,
    style: Style,
    scale: tuple[float, float] = (1.0, 1.0),
    number: int | None = None,
) -> None:
    """
    Draw a box, its line centred on the edge and kept inside the picture, with a dark rim for bright scenes.

    The box is in pixels of the original frame, of which `scale` has those of the canvas, across and down; a number is
    written into its upper left corner.
    """
    draw = ImageDraw.Draw(canvas)
    rim = max(1, style.line // 3)
    outer = _place_box(canvas, box, style, scale)
    draw.rectangle((outer[0] - rim, outer[1] - rim, outer[2] + rim, outer[3] + rim), outline=PAPER, width=rim)
    draw.rectangle(outer, outline=color, width=style.line)
    if number is not None:
        draw_chip(draw, (outer[0], outer[1]), number, color, style)


def tint_mask(canvas: Image.Image, mask: np.ndarray, color: Color) -> None:
    """Lay a colour over the pixels of a mask of the whole picture, `bool` of shape (height, width), in place."""
    veil = Image.fromarray(mask.astype(np.uint8) * _VEIL_OPACITY).resize(canvas.size)
    canvas.paste(color, (0, 0, *canvas.size), veil)


def _place_box(canvas: Image.Image, box: Box, style: Style, scale: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return the outer edges of the line around a box."""
    half = style.line // 2
    x1, x2 = (_clamp(round(x * scale[0]), half, canvas.width - 1 - half) for x in (box.x1, box.x2))
    y1, y2 = (_clamp(round(y * scale[1]), half, canvas.height - 1 - half) for y in (box.y1, box.y2))
    return x1 - half, y1 - half, max(x2 + half, x1), max(y2 + half, y1)


def draw_chip(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], number: int | None, color: Color, style: Style
) -> float:
    """Draw a small field of a thing's colour, with its number, down and right of a place; return its width."""
    text, width = "" if number is None else str(number), measure_chip(number, style)
    right, below = place[0] + width, place[1] + style.font_size * 1.1
    draw.rectangle((*place, right, below), fill=color)
    style.font.write(draw, ((place[0] + right) / 2, (place[1] + below) / 2), text, choose_ink(color), "m")
    return width


def measure_chip(number: int | None, style: Style) -> float:
    """Return the width of a chip."""
    needed = 0 if number is None else style.font.getlength(str(number)) + style.font_size / 2
    return min(max(style.font_size, needed), 2 * style.font_size)


def draw_chips(
    draw: ImageDraw.ImageDraw,
    marks: Sequence[Mark],
    free: tuple[float, float],
    top: float,
    style: Style,
    numbered: bool,
) -> None:
    """Draw the chips of things side by side at the right end of a free strip; what it has no room for is left out."""
    numbers = [mark.number if numbered else None for mark in marks]
    ends = list(accumulate(measure_chip(number, style) + style.font_size / 2 for number in numbers))
    kept = bisect_right(ends, free[1] - free[0])
    x = free[1] - (ends[kept - 1] if kept else 0) + style.font_size / 2
    for mark, number in zip(marks[:kept], numbers, strict=False):
        x += draw_chip(draw, (x, top), number, mark.color, style) + style.font_size / 2


def _draw_tag(
    canvas: Image.Image,
    label: str,
    confidence: float | None,
    box: tuple[int, int, int, int],
    color: Color,
    style: Style,
    max_width: float,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write a label above a box, or inside or below it where there is no room or another label."""
    percent = "" if confidence is None else f" {confidence:.0%}"
    room = max_width - 2 * style.pad - style.font.getlength(percent)
    text = (shorten(prepare(label), style.font, room) + percent).strip()
    width, height = round(style.font.getlength(text)) + 2 * style.pad, style.line_height
    left = _clamp(box[0], 0, max(0, canvas.width - width))
    tops = [top for top in (box[1] - height, box[3], box[1], box[3] - height) if 0 <= top <= canvas.height - height]
    free = [
        top for top in tops if not any(_overlap((left, top, left + width, top + height), other) for other in taken)
    ]
    top = (free or tops or [0])[0]
    taken.append((left, top, left + width, top + height))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((left, top, left + width, top + height), fill=color)
    style.font.write(draw, (left + style.pad, top + height / 2), text, choose_ink(color))


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def choose_ink(color: Color) -> Color:
    """Return black or white, whichever stands out more on a colour (relative luminance as WCAG 2 defines it)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in color)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else INK


def prepare(text: str) -> str:
    """Return a text as it can be drawn: on one line, with the name of a script in the place of what no font has."""
    return replace_undrawable(put_on_line(text))


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def shorten(text: str, font: Typeface, width: float) -> str:
    """Cut a text that is wider than `width` pixels, with three dots at its end."""
    if font.getlength(text) <= width:
        return text
    return text[: _count_fitting(text, font, width - font.getlength("..."))].rstrip() + "..."


def _count_fitting(text: str, font: Typeface, width: float) -> int:
    """How many characters of a text fit into a width; marks stay with their letter."""
    count = max(bisect_right(range(len(text) + 1), width, key=lambda k: font.getlength(text[:k])) - 1, 0)
    while 0 < count < len(text) and unicodedata.category(text[count]).startswith("M"):
        count -= 1
    return count


def wrap(text: str, font: Typeface, width: float, max_lines: int) -> list[str]:
    """Break a prepared text into lines at spaces and between ideographs, and inside words longer than a line."""
    rest, lines = text, []
    while rest and len(lines) < max_lines - 1:
        fitting = max(_count_fitting(rest, font, width), 1)
        breaks = [k for k in range(1, fitting + 1) if k == len(rest) or rest[k] == " " or _is_ideograph(rest[k - 1])]
        cut = breaks[-1] if breaks else fitting
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip(f" {LEFT_TO_RIGHT_MARK}")
    return [*lines, shorten(rest, font, width)] if rest else lines


def _is_ideograph(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"
