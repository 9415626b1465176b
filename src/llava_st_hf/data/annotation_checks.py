"""Checked values of annotation files: fields that are there, whole numbers, boxes that lie in their frame."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from ..processing.media_llava_st import InputError
from .skips import RecordError, make_error, show

# How far a box may reach over the edge of the frame, as hand-drawn ones do: the larger of the two counts.
MAX_OVERHANG_PIXELS = 2.0
MAX_OVERHANG_SHARE = 0.01

BoxValues = tuple[float, float, float, float]


def require_object(raw: Any) -> Mapping[str, Any]:
    """Return an element of an annotation file if it is an object, else raise `RecordError`."""
    if not isinstance(raw, Mapping):
        raise RecordError("invalid_json", "record", f"the record is {show(raw)}: give an object {{...}}.")
    return raw


def require(raw: Mapping[str, Any], name: str, where: str = "") -> Any:
    """
    Return a field of a record.

    Args:
        raw (`Mapping[str, Any]`): The record, or a part of it.
        name (`str`): The field.
        where (`str`, *optional*): Name of the part, for messages, for example `"meta."`.

    Raises:
        `RecordError`: If the part is no object, or the field is missing or null.
    """
    if not isinstance(raw, Mapping):
        raise make_error(where.rstrip(".") or "record", raw, f"give an object with the key {name!r}")
    if raw.get(name) is None:
        raise RecordError(
            "invalid_field", f"{where}{name}", f"{where}{name} is missing: every record of this format has it."
        )
    return raw[name]


def require_text(raw: Mapping[str, Any], name: str, where: str = "") -> str:
    """Return a field that is a text and not blank; anything else raises `RecordError`."""
    value = require(raw, name, where)
    if not isinstance(value, str) or not value.strip():
        raise make_error(f"{where}{name}", value, "give a text that is not empty")
    return value


def require_frame(raw: Mapping[str, Any], name: str, where: str = "") -> int:
    """Return a field that is a frame or a number of frames, a whole number from 0; else raise `RecordError`."""
    return check_frame(require(raw, name, where), f"{where}{name}")


def check_frame(value: Any, field: str) -> int:
    """Return a value that is a whole number from 0, also as text or as 3.0; else raise `RecordError`."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        return int(value)
    is_whole = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and value % 1 == 0
    if not is_whole or not 0 <= value < 2**53:
        raise make_error(field, value, "give a whole number from 0")
    return int(value)


def check_numbers(value: Any, count: int, field: str, expected: str) -> tuple[float, ...]:
    """
    Return the numbers of a list, whole ones as they are.

    Args:
        value (`Any`): What the record has.
        count (`int`): How many it should hold.
        field (`str`): Field of the record, for messages.
        expected (`str`): What they are, for messages, for example `"[start, end] in seconds"`.

    Raises:
        `RecordError`: For anything but a list of so many finite numbers.
    """
    numbers = value if isinstance(value, (list, tuple)) else ()
    if len(numbers) != count or not all(isinstance(item, Real) and not isinstance(item, bool) for item in numbers):
        raise make_error(field, value, f"give {count} numbers, {expected}")
    if not all(abs(number) < 1e15 for number in numbers):  # NaN too is not below
        raise make_error(field, value, f"give {count} finite numbers, {expected}")
    return tuple(numbers)


def check_count(name: str, value: Any) -> int:
    """Return an option that is a whole number from 1; anything else raises `InputError`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} is {show(value)}: give a whole number from 1.")
    return int(value)


def compute_box_fractions(
    box_pixels: Sequence[float], width: float, height: float, field: str, clip: bool = False
) -> BoxValues:
    """
    Turn a box into fractions of its frame.

    Args:
        box_pixels (`Sequence[float]`): Left, top, right, bottom in pixels.
        width (`float`): Width of the frame in pixels.
        height (`float`): Height of the frame in pixels.
        field (`str`): Field of the record, for messages.
        clip (`bool`, *optional*, defaults to `False`):
            Whether a box may reach over the edge of the frame by any length, and not by `MAX_OVERHANG_PIXELS` or
            `MAX_OVERHANG_SHARE` of the side only. What reaches over is cut off.

    Returns:
        `tuple[float, float, float, float]`: Left, top, right, bottom in [0, 1].

    Raises:
        `RecordError`: For a box that has no area, or lies outside of the frame, or reaches over by too much; or that
            lies in the first pixel, as one in fractions does.
    """
    x1, y1, x2, y2 = box_pixels
    size = f"the frame of {width:g} x {height:g} pixels"
    if not (width > 0 and height > 0):
        raise make_error(field, list(box_pixels), f"{size} has no area; fix width and height")
    if x1 >= x2 or y1 >= y2:
        raise make_error(field, list(box_pixels), "it has no area; give left, top, right, bottom in pixels")
    if min(x1, y1) >= 0 and max(x2, y2) <= 1 < min(width, height):
        raise make_error(
            field, list(box_pixels), f"it lies in the first pixel of {size}; give pixels, not fractions of the frame"
        )
    for low, high, side in ((x1, x2, width), (y1, y2, height)):
        if min(high, side) <= max(low, 0):
            raise make_error(field, list(box_pixels), f"it lies outside of {size}; give pixels of the displayed frame")
        if not clip and max(-low, high - side) > max(MAX_OVERHANG_PIXELS, MAX_OVERHANG_SHARE * side):
            raise make_error(
                field, list(box_pixels), f"it reaches far out of {size}; give pixels of the displayed frame"
            )
    sides = (width, height, width, height)
    fractions = tuple(min(max(value / side, 0.0), 1.0) for value, side in zip(box_pixels, sides, strict=True))
    if fractions[0] >= fractions[2] or fractions[1] >= fractions[3]:  # thinner than the last digit of a fraction
        raise make_error(field, list(box_pixels), "it has no area; give left, top, right, bottom in pixels")
    return fractions


__all__ = [
    "MAX_OVERHANG_PIXELS",
    "MAX_OVERHANG_SHARE",
    "BoxValues",
    "check_count",
    "check_frame",
    "check_numbers",
    "compute_box_fractions",
    "require",
    "require_frame",
    "require_object",
    "require_text",
]
