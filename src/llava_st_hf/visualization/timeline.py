"""The strips beside a picture: above it what was asked and how sure the answer is, below it the time line."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from ..processing import GroundingResult
from .drawing import FAINT_INK, INK, PAPER, RAIL, Style, draw_chip, draw_chips, prepare, wrap
from .fonts import Typeface, join_words
from .marks import Mark, as_results, get_words

_MAX_QUERY_LINES = 8
_MAX_LANES = 8


class DrawnTimeline(NamedTuple):
    """What the time line shows, in seconds."""

    start: float
    end: float

    def share(self, seconds: float) -> float:
        """Return where a moment lies between start (0) and end (1)."""
        return min(max((seconds - self.start) / max(self.end - self.start, 1e-9), 0.0), 1.0)


class Bar(NamedTuple):
    """A period of a thing in a lane of the time line."""

    lane: int
    start: float
    end: float
    mark: Mark


def describe_mark(mark: Mark) -> str:
    """Write when a thing is and how sure the answer is, each in one piece where lines are broken."""
    periods = [f"{start:.2f}\xa0-\xa0{end:.2f}\xa0s" for start, end in mark.periods[:3]]
    parts = [", ".join(periods) + (", ..." if len(mark.periods) > 3 else "")] if periods else []
    return ", ".join([*parts, *([f"{mark.confidence:.0%}\xa0sure"] if mark.confidence is not None else [])])


def _fit_row(label: str, details: str, font: Typeface, width: float, max_lines: int) -> list[str]:
    """Break a row into lines; where it is too long, words of the label are left out, not what follows it."""
    kept = label
    while True:
        words = f"{kept}..." if len(kept) < len(label) else kept.rstrip(".\u3002")
        lines = wrap(join_words(words, details), font, width, max_lines + 1)
        if len(lines) <= max_lines or not kept:
            return lines[:max_lines]
        kept = kept[: len(kept) * 9 // 10].rstrip()


def make_header(
    results: GroundingResult | Sequence[GroundingResult],
    marks: Sequence[Mark],
    style: Style,
    width: int,
    height: int = 0,
    max_row_lines: int = 3,
) -> Image.Image:
    """
    Draw the strip above a picture: the query, what is answered in words, and a row for each thing in its colour.

    Args:
        results (`GroundingResult` or a sequence of them): The answer; of several the rows have the queries.
        marks (`Sequence[Mark]`): The things that get a row.
        style (`Style`): Sizes.
        width (`int`): Of the strip, in pixels.
        height (`int`, *optional*, defaults to 0): Least height of it.
        max_row_lines (`int`, *optional*, defaults to 3): Lines that a row may take.
    """
    results, room = as_results(results), width - 2 * style.pad
    query = results[0].query if len(results) == 1 else None
    lines = wrap(prepare(query or ""), style.font, room, _MAX_QUERY_LINES)
    indent = round(style.font_size * 2.3)  # more than a chip, which takes two at most
    words = []
    for result in results:
        if said := get_words(result):
            text = said if len(results) == 1 or not result.query else f"{result.query}: {said}"
            words += wrap(prepare(text), style.font, room - indent, _MAX_QUERY_LINES)
    rows = []
    for mark in marks:
        label = prepare(mark.label) if mark.has_own_words or len(results) > 1 else ""
        row = _fit_row(label, describe_mark(mark), style.font, room - indent, max_row_lines)
        if row or len(marks) > 1:  # a colour alone says nothing of the only thing
            rows.append((mark, row or [""]))
    num_lines = len(lines) + len(words) + sum(len(row) for _, row in rows)
    needed = num_lines * style.line_height + 2 * style.pad if num_lines else 0
    strip = Image.new("RGB", (width, max(height, needed)), PAPER)
    draw, top = ImageDraw.Draw(strip), style.pad
    for left, line in (*((style.pad, line) for line in lines), *((style.pad + indent, line) for line in words)):
        style.font.write(draw, (left, top + style.line_height / 2), line, INK)
        top += style.line_height
    for mark, row in rows:
        number = mark.number if len(marks) > 1 or mark.number > 1 else None
        draw_chip(draw, (style.pad, top + style.font_size * 0.1), number, mark.color, style)
        for line in row:
            style.font.write(draw, (style.pad + indent, top + style.line_height / 2), line, INK)
            top += style.line_height
    return strip


def arrange_bars(marks: Sequence[Mark]) -> list[Bar]:
    """Put the periods of things into lanes: each into the first lane in which nothing else is at that time."""
    ends, bars = [], []
    periods = [(*period, each) for each in marks for period in each.periods]
    for start, end, mark in sorted(periods, key=lambda period: (period[0], period[2].number)):
        lane = next((number for number, taken in enumerate(ends) if taken <= start), len(ends))
        if lane == len(ends):
            ends.append(end)
        ends[lane] = end
        bars.append(Bar(min(lane, _MAX_LANES - 1), start, end, mark))
    return bars


def make_footer(bars: Sequence[Bar], timeline: DrawnTimeline, style: Style, width: int) -> Image.Image:
    """Draw the strip below a picture, with a line of text left free at its top and a lane for what is at one time."""
    thickness, (left, right) = get_thickness(style), get_rail(style, width)
    num_lanes = max((bar.lane + 1 for bar in bars), default=1)
    top = style.line_height + 2 * style.pad
    pitch = thickness + max(2, thickness // 2)
    strip = Image.new("RGB", (width, top + num_lanes * pitch + style.pad), PAPER)
    draw = ImageDraw.Draw(strip)
    for lane in range(num_lanes):
        draw.rectangle((left, top + lane * pitch, right, top + lane * pitch + thickness - 1), fill=RAIL)
    for bar in bars:
        start, end = (left + timeline.share(seconds) * (right - left) for seconds in (bar.start, bar.end))
        end = min(max(end, start + style.line + 1), right)
        start = min(start, end - style.line - 1)
        draw.rectangle(
            (start, top + bar.lane * pitch, end, top + bar.lane * pitch + thickness - 1), fill=bar.mark.color
        )
    return strip


def get_thickness(style: Style) -> int:
    """Return the height of a lane of the time line in pixels."""
    return max(6, style.font_size // 2)


def get_rail(style: Style, width: int) -> tuple[int, int]:
    """Return the left and right end of the time line in a strip."""
    return 2 * style.pad, width - 1 - 2 * style.pad


def draw_position(
    strip: Image.Image,
    timeline: DrawnTimeline,
    style: Style,
    seconds: float,
    active: Sequence[Mark],
    has_numbers: bool,
) -> None:
    """Write the moment into the strip below a picture, with what is there then, and draw a line through its lanes."""
    draw, (left, right) = ImageDraw.Draw(strip), get_rail(style, strip.width)
    middle = style.pad + style.line_height / 2
    text = f"{seconds:.2f} / {timeline.end:.2f} s"
    style.font.write(draw, (left, middle), text, INK if active else FAINT_INK)
    free = (left + style.font.getlength(text), right)
    draw_chips(draw, active[:_MAX_LANES], free, style.pad, style, has_numbers)
    x = left + timeline.share(seconds) * (right - left)
    half, top = style.line / 2, style.line_height + style.pad
    draw.rectangle((x - half - 1, top, x + half + 1, strip.height), fill=PAPER)
    draw.rectangle((x - half, top, x + half, strip.height), fill=INK)
