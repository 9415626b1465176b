"""Coordinates written inside text: read them, check them, give them units, turn them into tokens.

Three ways to write one coordinate, on the axes `t` (time), `x` (width) and `y` (height):

- `<t=0.409>`, `<x=0.35>`: a fraction of the clip or of the frame, in [0, 1];
- `<t=3.5s>`, `<x=120px>`: seconds of the file or pixels of the original frame, which need the media to be known;
- `<t_41>`: a token of the vocabulary itself.

Two ways to write a group: a span `{<t..><t..>}` and a box `[<x..><y..><x..><y..>]`, top left corner first.
"""

import bisect
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .media_llava_st import MediaInfo, PromptError

# `<t=...>` with anything inside, so that an unreadable value is reported instead of passing as plain text, and
# `<t_...>` where a number is meant: `<x_axis>` stays plain text.
COORDINATE_PATTERN = r"<(?P<axis>[txy])(?:\s*=(?P<value>[^<>]*)|_(?P<bin>[-+]?\d[^<>]*))>"
_COORDINATE = re.compile(COORDINATE_PATTERN)
_DIGITS = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER = re.compile(rf"(?P<number>{_DIGITS})\s*(?P<unit>[A-Za-z%]*)")
# `<q=1s>`, `<T=0.5>` and `<t:3>`; `<p=0.05>`, `<n=5>` and `<b:1>` may be words of a question and stay plain text.
_MISSPELLED = re.compile(
    rf"<(?![txy]\s*=)(?:[A-Za-z]\s*=\s*{_DIGITS}\s*(?:s|px)|[TXY]\s*=\s*{_DIGITS}|"
    rf"[TXYtxy]\s*:\s*{_DIGITS}\s*(?:s|px)?)>"
)
_GROUP = re.compile(r"\{[^{}\[\]]*\}|\[[^{}\[\]]*\]")
_AXIS_NAMES = {"t": "time", "x": "width", "y": "height"}
_AXIS_UNITS = {"t": ("s", "seconds"), "x": ("px", "pixels"), "y": ("px", "pixels")}
_BOX_AXES = ("x", "y", "x", "y")


class InlineCoordinate(NamedTuple):
    """
    One coordinate as it stands in a text.

    Args:
        axis (`str`): `"t"`, `"x"` or `"y"`.
        value (`float`): The number as written.
        unit (`str`): `"fraction"` of the clip or frame, `"seconds"`, `"pixels"`, or `"bin"` for a token `<t_41>`.
        start (`int`): Index in the text of its `<`.
        end (`int`): Index in the text after its `>`.

    Example:

    ```python
    >>> find_coordinates("until <t=3.5s>")[0]
    InlineCoordinate(axis='t', value=3.5, unit='seconds', start=6, end=14)
    ```
    """

    axis: str
    value: float
    unit: str
    start: int
    end: int


def read_coordinate(match: re.Match) -> InlineCoordinate:
    """Read one match of `COORDINATE_PATTERN`; a value that is no number, or in a wrong unit, raises `PromptError`."""
    text, axis = match.group(), match["axis"]
    if match["bin"] is not None:
        if not match["bin"].isdecimal():
            raise PromptError(f"the coordinate token {text} has no whole number: write for example <{axis}_41>.")
        return InlineCoordinate(axis, int(match["bin"]), "bin", *match.span())
    suffix, unit_name = _AXIS_UNITS[axis]
    number = _NUMBER.fullmatch(match["value"].strip())
    value = float(number["number"]) if number else math.nan
    if not math.isfinite(value):
        raise PromptError(
            f"the {_AXIS_NAMES[axis]} coordinate {text} is not a finite number: write a fraction such as "
            f"<{axis}=0.35>, or {unit_name} such as <{axis}=120{suffix}>."
        )
    if number["unit"] not in ("", suffix):
        raise PromptError(
            f"the {_AXIS_NAMES[axis]} coordinate {text} has the unit {number['unit']!r}: write <{axis}=0.35> for a "
            f"fraction or <{axis}=120{suffix}> for {unit_name}."
        )
    return InlineCoordinate(axis, value, unit_name if number["unit"] else "fraction", *match.span())


def find_coordinates(text: str) -> list[InlineCoordinate]:
    """Return every coordinate of `text` in its order; one that cannot be read raises `PromptError`."""
    return [read_coordinate(match) for match in _COORDINATE.finditer(text)]


def format_coordinate(axis: str, value: float, unit: str = "fraction") -> str:
    """
    Write one coordinate, so that reading it again gives the same number.

    Args:
        axis (`str`): `"t"`, `"x"` or `"y"`.
        value (`float`): The number.
        unit (`str`, *optional*, defaults to `"fraction"`): `"fraction"`, `"seconds"` or `"pixels"`.

    Returns:
        `str`: For example `"<t=3.5s>"`.
    """
    suffix = "" if unit == "fraction" else _AXIS_UNITS[axis][0]
    number = repr(float(value))
    if "e" in number:  # 1e-05, which is no coordinate of an answer
        number = np.format_float_positional(value, trim="0")
    return f"<{axis}={number}{suffix}>"


def write_time(fraction: float) -> str:
    """Return `<t=0.1>`."""
    return format_coordinate("t", fraction)


def write_span(start_fraction: float, end_fraction: float) -> str:
    """Return `{<t=0.1><t=0.5>}`."""
    return f"{{{write_time(start_fraction)}{write_time(end_fraction)}}}"


def write_box(box: tuple[float, float, float, float]) -> str:
    """Return `[<x=0.1><y=0.2><x=0.5><y=0.6>]` of the fractions left, top, right, bottom."""
    return "[" + "".join(format_coordinate(axis, value) for axis, value in zip(_BOX_AXES, box, strict=True)) + "]"


def write_tube(entries: Sequence[tuple[float, tuple[float, float, float, float]]]) -> str:
    """Return `<t=0.1>:[box], <t=0.2>:[box]` of fractions."""
    return ", ".join(f"{write_time(time)}:{write_box(box)}" for time, box in entries)


def format_coordinate_token(axis: str, index: int) -> str:
    """Return the vocabulary token of a bin, for example `"<t_41>"`."""
    return f"<{axis}_{index}>"


def compute_fraction(
    coordinate: InlineCoordinate, media: Sequence[MediaInfo], num_bins: int, preceding: int | None = None
) -> float:
    """
    Turn one coordinate into a fraction of its medium.

    Args:
        coordinate (`InlineCoordinate`): What was written.
        media (`Sequence[MediaInfo]`): The media of the sample, in the order of their placeholders.
        num_bins (`int`): How many tokens its axis has.
        preceding (`int`, *optional*):
            How many of `media` stand before the coordinate in the text; seconds and pixels are of the nearest of
            these that has them, or of the first of all. Defaults to all of them.

    Returns:
        `float`: The fraction, in [0, 1].

    Raises:
        `PromptError`: For a number outside its range, or seconds or pixels where the sample has no such medium.
        `MediaError`: For a time outside the clip.
    """
    axis, value, unit = coordinate.axis, coordinate.value, coordinate.unit
    if unit == "bin":
        if value >= num_bins:
            raise PromptError(
                f"the coordinate token <{axis}_{value}> does not exist: give an index from 0 to {num_bins - 1}."
            )
        return value / max(num_bins - 1, 1)
    if unit == "fraction":
        if not 0 <= value <= 1:
            raise PromptError(
                f"the {_AXIS_NAMES[axis]} coordinate <{axis}={value:g}> is outside 0 to 1: write a fraction, or give "
                f"its unit as in <{axis}={value:g}{_AXIS_UNITS[axis][0]}>."
            )
        return value
    medium = _select_medium(coordinate, media, len(media) if preceding is None else preceding)
    if unit == "seconds":
        return medium.fraction_at(value)
    size = medium.width if axis == "x" else medium.height
    if not 0 <= value <= size:
        raise PromptError(
            f"the {_AXIS_NAMES[axis]} coordinate <{axis}={value:g}px> is outside the frame of "
            f"{medium.width}x{medium.height} pixels: give a value from 0 to {size}."
        )
    return value / size


def _select_medium(coordinate: InlineCoordinate, media: Sequence[MediaInfo], preceding: int) -> MediaInfo:
    """Return the medium that seconds or pixels are meant of: the nearest before them, else the first."""
    # Only a clip has seconds: an image between the clip and the time does not take the time for itself.
    usable = [medium for medium in media if coordinate.unit == "pixels" or medium.media_type == "video"]
    before = [medium for medium in media[:preceding] if any(medium is other for other in usable)]
    if not usable:
        written = format_coordinate(coordinate.axis, coordinate.value, coordinate.unit)
        wanted = "a video" if coordinate.unit == "seconds" else "an image or a video"
        raise PromptError(
            f"the coordinate {written} is in {coordinate.unit}, but the sample has no such medium: give {wanted} with "
            f"the prompt, or write a fraction such as <{coordinate.axis}=0.35>."
        )
    return before[-1] if before else usable[0]


def check_groups(text: str, coordinates: Sequence[InlineCoordinate], values: Sequence[float]) -> None:
    """
    Check every span and box of a text that is made of coordinates only.

    Args:
        text (`str`): The text.
        coordinates (`Sequence[InlineCoordinate]`): Its coordinates, in their order.
        values (`Sequence[float]`):
            What to compare, one value per coordinate; NaN for one that is not known yet, which is never out of order.

    Raises:
        `PromptError`: When a `{...}` does not hold a start and an end, or a `[...]` not x, y, x, y, in order.
    """
    starts = [coordinate.start for coordinate in coordinates]
    for match in _GROUP.finditer(text) if coordinates else ():
        first = bisect.bisect_left(starts, match.start())
        last = bisect.bisect_left(starts, match.end())
        if first == last or _COORDINATE.sub("", match.group()[1:-1]).strip(" ,;\n"):
            continue  # brackets around words are words
        axes = tuple(coordinate.axis for coordinate in coordinates[first:last])
        group = values[first:last]
        if match.group().startswith("{"):
            if axes != ("t", "t"):
                raise PromptError(
                    f"the span {match.group()} holds {_describe(axes)}: a span is a start and an end, "
                    "{<t=0.1><t=0.5>}."
                )
            if group[0] > group[1]:
                raise PromptError(f"the span {match.group()} ends before it starts: give the earlier time first.")
        elif axes != _BOX_AXES:
            raise PromptError(
                f"the box {match.group()} holds {_describe(axes)}: a box is left, top, right, bottom, "
                "[<x=0.1><y=0.2><x=0.5><y=0.6>]."
            )
        elif group[0] >= group[2] or group[1] >= group[3]:
            raise PromptError(
                f"the box {match.group()} has no area: give the left top corner first, then the right bottom one."
            )


def _describe(axes: tuple[str, ...]) -> str:
    """Say in words which coordinates a group holds."""
    return f"{len(axes)} coordinate{'s' * (len(axes) != 1)} ({' '.join(axes)})"


def check_misspelled(text: str) -> None:
    """Raise `PromptError` for what can only be a coordinate with a slip of the pen, such as `<q=1s>` or `<t:3>`."""
    if match := _MISSPELLED.search(text):
        raise PromptError(
            f"{match.group()} is no coordinate: the axes are t (time), x (width) and y (height), as in <t=0.35>, "
            "<t=3.5s> or <x=120px>."
        )


def check_prompt_coordinates(text: str) -> None:
    """
    Check the coordinates of a prompt as far as that is possible before the media are known.

    Args:
        text (`str`): The prompt.

    Raises:
        `PromptError`: For an unreadable number, an unknown axis, a fraction outside [0, 1], or a span or box that is
            not one.
    """
    check_misspelled(text)
    coordinates = find_coordinates(text)
    for coordinate in coordinates:
        if coordinate.unit == "fraction":
            compute_fraction(coordinate, (), 1)
    # A group that mixes units can be compared only with the media at hand: the processor does so.
    one_unit = {coordinate.axis: set() for coordinate in coordinates}
    for coordinate in coordinates:
        one_unit[coordinate.axis].add(coordinate.unit)
    check_groups(text, coordinates, [c.value if len(one_unit[c.axis]) == 1 else math.nan for c in coordinates])


def compute_bins(fractions: np.ndarray | Sequence[float], num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Split fractions into the token of their lower bin and the way to the next one.

    Args:
        fractions (`np.ndarray`): Fractions of shape (n,); what is outside [0, 1] counts as the nearer end.
        num_bins (`int`): How many tokens the axis has, N.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Bins k (int64) and offsets r (float32) of shape (n,) with
        p (N - 1) = k + r and r in [0, 1); the end of the axis is k = N - 1, r = 0.

    Example:

    ```python
    >>> compute_bins([0.5, 1.0], num_bins=10)
    (array([4, 9]), array([0.5, 0. ], dtype=float32))
    ```
    """
    positions = np.clip(np.asarray(fractions, dtype=np.float64), 0, 1) * (num_bins - 1)
    bins = np.floor(positions)
    # Rounding to float32 may reach 1, which is the next bin's name for the same place: stay below.
    below_one = np.nextafter(np.float32(1), np.float32(0))
    offsets = np.minimum((positions - bins).astype(np.float32), below_one)
    return bins.astype(np.int64), offsets


__all__ = [
    "COORDINATE_PATTERN",
    "InlineCoordinate",
    "check_groups",
    "check_misspelled",
    "check_prompt_coordinates",
    "compute_bins",
    "compute_fraction",
    "find_coordinates",
    "format_coordinate",
    "format_coordinate_token",
    "read_coordinate",
    "write_box",
    "write_span",
    "write_time",
    "write_tube",
]
