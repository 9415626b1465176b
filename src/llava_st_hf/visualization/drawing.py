"""How boxes and labels look, and what every picture shares: style, colours, text that fits."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..processing.grounding_results_llava_st import Box, GroundingResult

Color = tuple[int, int, int]

# One for each tube or box in turn: bright, so that black label text is legible on all of them.
BOX_COLORS: tuple[Color, ...] = (
    (255, 196, 0),
    (0, 204, 255),
    (255, 105, 145),
    (140, 230, 90),
    (190, 150, 255),
    (255, 150, 70),
)
SPAN_COLOR: Color = (0, 214, 150)
INK: Color = (255, 255, 255)
FAINT_INK: Color = (150, 156, 166)
PAPER: Color = (20, 22, 27)


@dataclass(frozen=True)
class Style:
    """Sizes in pixels that go with the shorter side of the picture, so that 320 and 4,000 pixels look alike."""

    line: int
    font_size: int

    @classmethod
    def for_size(cls, width: int, height: int) -> "Style":
        """Return the style of a picture of that size."""
        shorter = min(width, height)
        return cls(line=max(2, round(shorter / 180)), font_size=max(12, round(shorter / 30)))

    @cached_property
    def font(self) -> ImageFont.FreeTypeFont:
        """Pillow's built-in font at `font_size`."""
        return ImageFont.load_default(self.font_size)

    @property
    def pad(self) -> int:
        """Space around a text."""
        return max(3, self.font_size // 3)

    @property
    def line_height(self) -> int:
        """Height of a line of text."""
        return round(self.font_size * 1.3)


def draw_on_image(image: Image.Image, result: GroundingResult) -> Image.Image:
    """
    Draw the boxes of a result onto a copy of its image.

    Args:
        image (`PIL.Image.Image`): The image that was asked about; at another size the boxes are scaled to it.
        result (`GroundingResult`): Its boxes are labelled with their phrase, or else with the query.

    Returns:
        `PIL.Image.Image`: An RGB image, turned upright as its EXIF data says.

    Example:

    ```python
    >>> result = GroundingResult("...", boxes=(Box(10, 10, 40, 40),), query="a dog")
    >>> draw_on_image(Image.new("RGB", (64, 64)), result).size
    (64, 64)
    ```
    """
    canvas = ImageOps.exif_transpose(image).convert("RGB")
    media = result.media
    scale = (canvas.width / media.width, canvas.height / media.height) if media else (1.0, 1.0)
    style = Style.for_size(*canvas.size)
    for number, row in enumerate(result.labelled_boxes()):
        color = BOX_COLORS[number % len(BOX_COLORS)]
        draw_box(canvas, row.box, color, write_label(row.box, row.label), style, scale)
    return canvas


def draw_box(
    canvas: Image.Image,
    box: Box,
    color: Color,
    label: str,
    style: Style,
    scale: tuple[float, float] = (1.0, 1.0),
    top_limit: int = 0,
) -> None:
    """
    Draw a box, its line centred on the edge and kept inside the picture, with a dark rim for bright scenes.

    Args:
        canvas (`PIL.Image.Image`): Drawn onto, in place.
        box (`Box`): In pixels of the original frame.
        color (`tuple[int, int, int]`): RGB.
        label (`str`): Written on the top edge: above it, or inside where there is no room above.
        style (`Style`): Line width and font.
        scale (`tuple[float, float]`): Pixels of the canvas for one pixel of the original frame, across and down.
        top_limit (`int`): Row of the canvas above which no label is written.
    """
    draw = ImageDraw.Draw(canvas)
    half, rim = style.line // 2, max(1, style.line // 3)
    x1, x2 = (_clamp(round(x * scale[0]), half, canvas.width - 1 - half) for x in (box.x1, box.x2))
    y1, y2 = (_clamp(round(y * scale[1]), half, canvas.height - 1 - half) for y in (box.y1, box.y2))
    outer = (x1 - half, y1 - half, max(x2 + half, x1), max(y2 + half, y1))
    draw.rectangle((outer[0] - rim, outer[1] - rim, outer[2] + rim, outer[3] + rim), outline=PAPER, width=rim)
    draw.rectangle(outer, outline=color, width=style.line)
    if label:
        _draw_tag(draw, label, outer, color, style, canvas.width, top_limit)


def _draw_tag(
    draw: ImageDraw.ImageDraw,
    label: str,
    box: tuple[int, int, int, int],
    color: Color,
    style: Style,
    canvas_width: int,
    top_limit: int,
) -> None:
    text = shorten(make_printable(label), style.font, canvas_width - 2 * style.pad)
    width = round(style.font.getlength(text)) + 2 * style.pad
    height = style.line_height
    left = _clamp(box[0], 0, max(0, canvas_width - width))
    top = box[1] - height if box[1] - height >= top_limit else max(box[1], top_limit)
    draw.rectangle((left, top, left + width, top + height), fill=color)
    draw.text((left + style.pad, top + height / 2), text, fill=(0, 0, 0), font=style.font, anchor="lm")


def write_label(box: Box, label: str) -> str:
    """Return the label of a box with its confidence, where it has one."""
    return label if box.confidence is None else f"{label} {box.confidence:.0%}".strip()


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def make_printable(text: str, max_characters: int = 400) -> str:
    """Put a text on one line and take out what no font can measure (control characters, lone surrogates)."""
    text = text[:max_characters].encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Cut a text that is wider than `width` pixels, with three dots at its end."""
    if font.getlength(text) <= width:
        return text
    return text[: _count_fitting(text, font, width - font.getlength("..."))].rstrip() + "..."


def _count_fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """How many characters of a text fit into a width."""
    return max(bisect_right(range(len(text) + 1), width, key=lambda k: font.getlength(text[:k])) - 1, 0)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float, max_lines: int) -> list[str]:
    """Break a text into lines at spaces, and inside words that are longer than a line."""
    rest, lines = make_printable(text), []
    while rest and len(lines) < max_lines - 1:
        fitting = max(_count_fitting(rest, font, width), 1)
        # The last space up to there, unless all of it fits or a word is longer than the line.
        cut = fitting if fitting == len(rest) else rest.rfind(" ", 0, fitting + 1)
        cut = cut if cut > 0 else fitting
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*lines, shorten(rest, font, width)] if rest else lines


__all__ = [
    "BOX_COLORS",
    "FAINT_INK",
    "INK",
    "PAPER",
    "SPAN_COLOR",
    "Color",
    "Style",
    "draw_box",
    "draw_on_image",
    "make_printable",
    "shorten",
    "wrap",
    "write_label",
]
