"""The text form of spans, boxes and tubes: written for prompts and training targets, taken out of an answer.

In text a span is `{<t_10><t_42>}`, a box `[<x_1><y_2><x_30><y_40>]` and a tube `<t_10>:[box], <t_11>:[box]`. The
continuous form of a coordinate is `<t=0.409>`; the `format_` functions write it. `grounding_parsing_llava_st` reads
both forms.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from .media_llava_st import PromptError

# One coordinate, whole, malformed or cut off, or one bracket. The bound on the body keeps the search linear.
LEXEME_PATTERN = re.compile(r"<([txy])([_=])([^<>\[\]{}\s]{0,64})(>?)|[\[\]{}]")


def remove_coordinates(text: str) -> str:
    """Return the words of an answer: coordinates, the brackets around them and what joins them are taken out."""
    lexemes = list(LEXEME_PATTERN.finditer(text))
    part_of_group = [bool(lexeme[1]) for lexeme in lexemes]
    for i in reversed(range(len(lexemes) - 1)):  # an opening bracket goes with the coordinate after it
        part_of_group[i] |= lexemes[i][0] in ("[", "{") and part_of_group[i + 1]
    for i in range(1, len(lexemes)):
        part_of_group[i] |= lexemes[i][0] in ("]", "}") and part_of_group[i - 1]
    pieces, position, was_group = [], 0, False
    for lexeme, is_group in zip(lexemes, part_of_group, strict=True):
        gap = text[position : lexeme.start()]
        if not (was_group and is_group) or re.search(r"\w", gap):
            pieces.append(gap)
        pieces.append(" " if is_group else lexeme[0])
        position, was_group = lexeme.end(), is_group
    words = " ".join("".join([*pieces, text[position:]]).split())
    words = re.sub(r" ([,.;:!?])", r"\1", words)
    # "{span}, sentence. {span}, sentence." leaves a comma at the start of each sentence.
    return re.sub(r"(^|[.!?])[,;:]+", r"\1", words).strip()


def _format_fraction(axis: Literal["t", "x", "y"], fraction: float) -> str:
    """Write one continuous coordinate, `<t=0.409>`, with up to 6 decimals; raises `PromptError` outside 0 to 1."""
    if axis not in ("t", "x", "y"):
        raise PromptError(f"axis is {axis!r}: give 't', 'x' or 'y'.")
    if not 0.0 <= fraction <= 1.0:
        raise PromptError(f"the {axis} coordinate is {fraction}: give a fraction of the media from 0 to 1.")
    return f"<{axis}={_decimal(fraction)}>"


def format_span(start_fraction: float, end_fraction: float) -> str:
    """
    Write a span in the continuous form, `{<t=0.1><t=0.5>}`.

    Args:
        start_fraction (`float`): Start, a fraction of the clip from 0 to 1.
        end_fraction (`float`): End, a fraction of the clip from 0 to 1, not before the start.

    Raises:
        `PromptError`: If a fraction is outside 0 to 1 or the span is reversed.
    """
    if start_fraction > end_fraction:
        raise PromptError(f"the span {start_fraction} to {end_fraction} is reversed: give the earlier time first.")
    return f"{{{_format_fraction('t', start_fraction)}{_format_fraction('t', end_fraction)}}}"


def format_box(x1: float, y1: float, x2: float, y2: float) -> str:
    """
    Write a box in the continuous form, `[<x=0.1><y=0.2><x=0.3><y=0.4>]`.

    Args:
        x1 (`float`): Left edge, a fraction of the width from 0 to 1.
        y1 (`float`): Top edge, a fraction of the height from 0 to 1.
        x2 (`float`): Right edge, a fraction of the width, greater than `x1`.
        y2 (`float`): Bottom edge, a fraction of the height, greater than `y1`.

    Raises:
        `PromptError`: If a fraction is outside 0 to 1, or the box has no area at 6 decimals.
    """
    text = "".join(_format_fraction(axis, value) for axis, value in zip("xyxy", (x1, y1, x2, y2), strict=True))
    if round(x1, 6) >= round(x2, 6) or round(y1, 6) >= round(y2, 6):
        raise PromptError(
            f"the box {(x1, y1, x2, y2)} has no area: give left, top, right, bottom with x1 < x2, y1 < y2."
        )
    return f"[{text}]"


def format_tube(entries: Sequence[tuple[float, tuple[float, float, float, float]]]) -> str:
    """
    Write a tube in the continuous form, `<t=0.1>:[box], <t=0.2>:[box]`.

    Args:
        entries (`Sequence[tuple[float, tuple[float, float, float, float]]]`):
            For each moment its fraction of the clip, and the x1, y1, x2, y2 of its box as for `format_box`.

    Raises:
        `PromptError`: If a fraction is outside 0 to 1, a box has no area or the times do not increase.
    """
    times = [round(time, 6) for time, _ in entries]
    if any(after <= before for before, after in pairwise(times)):
        raise PromptError("the times of the tube do not increase: give one box for each time, in order.")
    return ", ".join(f"{_format_fraction('t', time)}:{format_box(*box)}" for time, box in entries)


def _decimal(fraction: float) -> str:
    return f"{fraction:.6f}".rstrip("0").rstrip(".")


__all__ = ["LEXEME_PATTERN", "format_box", "format_span", "format_tube", "remove_coordinates"]
