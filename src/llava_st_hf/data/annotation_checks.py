"""Checked values of annotation files: fields that are there, texts, whole numbers, lists of numbers."""

import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from ..processing import InputError
from ..processing.media_llava_st import show
from .skips import RecordError, make_error, make_fault

# Below the first, a clock counts to 59: "1:75" is no time, but perhaps a minute and three quarters.
_CLOCK = re.compile(
    r"(?:(?P<hours>\d{1,3}):(?=[0-5]?\d:))?(?P<minutes>\d{1,2}):(?P<seconds>[0-5]?\d(?:\.\d*)?)", re.ASCII
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)


def require_object(raw: Any) -> Mapping[str, Any]:
    """Return an element of an annotation file if it is an object, else raise `RecordError`."""
    if not isinstance(raw, Mapping):
        hint = " Name a file that is one array .json." if isinstance(raw, list) else ""
        raise RecordError("invalid_json", "record", f"the record is {show(raw)}: give an object {{...}}.{hint}")
    return raw


def require(raw: Mapping[str, Any], name: str, where: str = "") -> Any:
    """
    Return a field of a record, or of the part of it that messages call `where`, such as `"meta."`.

    A record or part that is no object, and a field that is missing or null, raise `RecordError`.
    """
    if not where:
        require_object(raw)
    elif not isinstance(raw, Mapping):
        raise make_error(where.rstrip("."), raw, f"give an object with the key {name!r}")
    if raw.get(name) is None:
        raise make_fault(f"{where}{name}", "is missing", "every record of this format has it")
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


def require_size(raw: Any, where: str = "") -> tuple[int, int]:
    """Return `width` and `height` of the frames, whole numbers of pixels."""
    return require_frame(raw, "width", where), require_frame(raw, "height", where)


def read_size(raw: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return `width` and `height` as `require_size` does, or `None` where one of them is not said."""
    return None if raw.get("width") is None or raw.get("height") is None else require_size(raw)


def require_positive(raw: Mapping[str, Any], name: str) -> float:
    """Return a field that is a number above 0, also as text, such as frames a second; else raise `RecordError`."""
    value = read_number(require(raw, name))
    if not is_number(value) or not 0 < value < 1e15:
        raise make_error(name, value, "give a number above 0")
    return value


def check_frame(value: Any, field: str) -> int:
    """Return a value that is a whole number from 0, also as text or as 3.0; else raise `RecordError`."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        return int(value)
    if not is_number(value) or value < 0 or value % 1:
        raise make_error(field, value, "give a whole number from 0")
    return int(value)


def check_numbers(value: Any, count: int, field: str, expected: str) -> tuple[float, ...]:
    """
    Return the numbers of a list, whole ones as they are; anything but `count` finite numbers raises `RecordError`.

    `expected` says in its message what they are, for example `"[start, end] in seconds"`.
    """
    numbers = value if isinstance(value, (list, tuple)) else ()
    if len(numbers) != count or not all(isinstance(item, Real) and not isinstance(item, bool) for item in numbers):
        raise make_error(field, value, f"give {count} numbers, {expected}")
    if not all(abs(number) < 1e15 for number in numbers):  # NaN too is not below
        raise make_error(field, value, f"give {count} finite numbers, {expected}")
    return tuple(numbers)


def is_number(value: Any) -> bool:
    """Tell whether a value is a number: no flag, no NaN, and none that no float holds exactly."""
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) < 2**53


def read_number(value: Any) -> Any:
    """Return the number that a text such as `"3.5"` holds; anything else as it is."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    return value


def read_seconds(value: Any) -> Any:
    """Return the seconds of a text such as `"3.5"`, `"00:03.5"` or `"1:02:03"`; anything else as it is."""
    match = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return read_number(value)
    return 3600 * int(match["hours"] or 0) + 60 * int(match["minutes"]) + float(match["seconds"])


def check_count(name: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Return an option that is a whole number from `low` to `high`; anything else raises `InputError`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low or (high and value > high):
        end = "" if high is None else f" to {high}"
        raise InputError(f"{name} is {show(value)}: give a whole number from {low}{end}.")
    return int(value)
