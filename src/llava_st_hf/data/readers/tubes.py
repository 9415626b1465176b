"""Checked numbers of annotation files, and spans, boxes and tubes of them as text: what the readers have in common.

Fractions are written by `repr`, so that what is read again is the same number.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from ...processing.frame_sampling_llava_st import compute_frame_indices
from ...processing.media_llava_st import InputError
from ...processing.notation_llava_st import write_box, write_span, write_time, write_tube
from ...processing.tasks_llava_st import TASKS, get_task
from ..skips import RecordError, show

# How far a box may reach over the edge of the frame, as hand-drawn ones do: the larger of the two counts.
MAX_OVERHANG_PIXELS = 2.0
MAX_OVERHANG_SHARE = 0.01
# How long a box holds where no second one tells how it moves on.
HOLD_SECONDS = 0.5
# Frames that the published system samples of each clip.
DEFAULT_NUM_FRAMES = 100

BoxValues = tuple[float, float, float, float]
TubeEntries = Sequence[tuple[float, BoxValues]]


# --------------------------------------------------------------------------------------------------
# Values of a record
# --------------------------------------------------------------------------------------------------
def make_error(field: str, value: Any, fix: str) -> RecordError:
    """Return the error of a field with a value that it cannot have."""
    return RecordError("invalid_field", field, f"{field} is {show(value)}: {fix}.")


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


def check_numbers(value: Any, count: int, field: str, wanted: str) -> list[float]:
    """
    Return the numbers of a list.

    Args:
        value (`Any`): What the record has.
        count (`int`): How many it should hold.
        field (`str`): Field of the record, for messages.
        wanted (`str`): What they are, for messages, for example `"[start, end] in seconds"`.

    Raises:
        `RecordError`: For anything but a list of so many finite numbers.
    """
    numbers = value if isinstance(value, (list, tuple)) else ()
    if len(numbers) != count or not all(isinstance(item, Real) and not isinstance(item, bool) for item in numbers):
        raise make_error(field, value, f"give {count} numbers, {wanted}")
    if not all(abs(number) < 1e15 for number in numbers):  # NaN too is not below
        raise make_error(field, value, f"give {count} finite numbers, {wanted}")
    return [float(number) for number in numbers]


def check_times(value: Any, field: str, wanted: str) -> tuple[float, float]:
    """Return a start and an end in this order; anything else raises `RecordError`. `wanted` names the unit."""
    start, end = check_numbers(value, 2, field, wanted)
    if start > end:
        raise make_error(field, value, f"it ends before it starts; give {wanted}")
    return start, end


def check_task(task: str | None, allowed: Sequence[str], format_name: str) -> str:
    """
    Return the task that a reader makes of its records, the first of `allowed` where none is given.

    Raises:
        `InputError`: For a task that the format cannot be read as.
    """
    if task is None:
        return allowed[0]
    if task not in allowed:
        raise InputError(f"task is {show(task)}: the format {format_name} can be read as {' or '.join(allowed)}.")
    return task


# --------------------------------------------------------------------------------------------------
# Fractions
# --------------------------------------------------------------------------------------------------
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


def convert_xywh(box_pixels: Sequence[float]) -> list[float]:
    """Return a box given as left, top, width, height as left, top, right, bottom."""
    left, top, width, height = box_pixels
    return [left, top, left + width, top + height]


class SampledFrames:
    """
    The frames that the model sees of a clip, and fractions of it.

    Args:
        first (`int`): First frame of the clip.
        last (`int`): Last frame of the clip, included.
        num_frames (`int`): How many frames the model is given; a short clip has some of them twice.

    Example:

    ```python
    >>> clip = SampledFrames(100, 200, num_frames=5)
    >>> clip.frames, clip.compute_fraction(150, "frame")
    ([100, 125, 150, 175, 200], 0.5)
    ```
    """

    def __init__(self, first: int, last: int, num_frames: int):
        self.first = first
        self.last = last
        self.frames = np.unique(compute_frame_indices(num_frames, first, last)).tolist()

    def compute_fraction(self, frame: int, field: str) -> float:
        """Return the way of a frame from the first to the last one; outside of them raises `RecordError`."""
        if not self.first <= frame <= self.last:
            raise make_error(field, frame, f"it is outside of the clip; give a frame from {self.first} to {self.last}")
        return (frame - self.first) / max(self.last - self.first, 1)

    def compute_tube(
        self, boxes_by_frame: Mapping[int, Sequence[float]], width: float, height: float, field: str
    ) -> TubeEntries:
        """
        Return time and box, as fractions, of each sampled frame that has a box.

        Args:
            boxes_by_frame (`Mapping[int, Sequence[float]]`): Left, top, right, bottom in pixels by frame.
            width (`float`): Width of a frame in pixels.
            height (`float`): Height of a frame in pixels.
            field (`str`): Field of the record, for messages.

        Raises:
            `RecordError`: If no sampled frame has a box, or a box lies outside of its frame.
        """
        entries = [
            (
                self.compute_fraction(frame, field),
                compute_box_fractions(boxes_by_frame[frame], width, height, f"{field} of frame {frame}", clip=True),
            )
            for frame in self.frames
            if frame in boxes_by_frame
        ]
        if not entries:
            raise RecordError(
                "invalid_field",
                field,
                f"{field} has {len(boxes_by_frame)} boxes, none of them at one of the {len(self.frames)} sampled "
                f"frames from {self.first} to {self.last}: give more boxes, or a larger num_frames.",
            )
        return entries


def interpolate_boxes(
    boxes_by_second: Mapping[float, BoxValues | None], seconds: Sequence[float]
) -> list[BoxValues | None]:
    """
    Return the box at each of some times.

    Between two boxes it moves evenly from one to the other. Before the first, after the last and beside a `None`,
    which says that there is no box at that time, the nearest box holds for `HOLD_SECONDS`.

    Args:
        boxes_by_second (`Mapping[float, BoxValues | None]`): Boxes by time, in any order.
        seconds (`Sequence[float]`): Times at which boxes are asked for.

    Returns:
        `list[BoxValues | None]`: A box for each time, `None` where there is none.
    """
    times = sorted(boxes_by_second)
    boxes = [boxes_by_second[time] for time in times]
    found: list[BoxValues | None] = []
    for second in seconds:
        after = int(np.searchsorted(times, second))  # first time not before it
        if after < len(times) and times[after] == second:
            found.append(boxes[after])
            continue
        neighbours = [(times[i], boxes[i]) for i in (after - 1, after) if 0 <= i < len(times) and boxes[i] is not None]
        if len(neighbours) == 2:
            (start, first), (end, last) = neighbours
            share = (second - start) / (end - start)
            found.append(tuple((1 - share) * a + share * b for a, b in zip(first, last, strict=True)))
        else:
            found.append(next((box for time, box in neighbours if abs(second - time) <= HOLD_SECONDS), None))
    return found


# --------------------------------------------------------------------------------------------------
# Text
# --------------------------------------------------------------------------------------------------
def write_end_caption(end_fraction: float, caption: str, entries: TubeEntries) -> str:
    """Return the answer of event localization and captioning, in the published form."""
    return f"Ends in {write_time(end_fraction)}, {_close(caption)} Object bounding box: {write_tube(entries)}"


def _close(caption: str) -> str:
    """End a sentence with a full stop, unless it ends already."""
    caption = caption.strip()
    return caption if caption.endswith((".", "!", "?")) else caption + "."


def write_turns(prompt: str, answer: str) -> tuple[dict[str, str], ...]:
    """Return one question and its answer as the messages of a record."""
    return ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})


def write_grounding_turns(
    task: str, text: str, span: tuple[float, float], entries: TubeEntries = (), start: float | None = None
) -> tuple[dict[str, str], ...]:
    """
    Write the conversation of a task about an event in a clip.

    Args:
        task (`str`): `"tvg"`, `"stvg"`, `"svg"` or `"elc"`.
        text (`str`): What is asked about; for `"elc"` the caption that is to be answered.
        span (`tuple[float, float]`): Start and end, fractions of the clip.
        entries (`TubeEntries`, *optional*): Times and boxes as fractions; not for `"tvg"`.
        start (`float`, *optional*): The start that the prompt of `"elc"` names; that of the span by default.
    """
    template = get_task(task)
    if task == "elc":
        first = write_time(span[0] if start is None else start)
        prompt = template.write_prompt(start=first, box=write_box(entries[0][1]))
        return write_turns(prompt, write_end_caption(span[1], text, entries))
    if task == "svg":
        return write_turns(template.write_prompt(query=text, span=write_span(*span)), write_tube(entries))
    answer = write_span(*span) if task == "tvg" else f"{write_span(*span)} {write_tube(entries)}"
    return write_turns(template.write_prompt(query=text), answer)


def choose_variant(task: str, source: str, record_id: str, vary_prompts: bool) -> int:
    """Return which prompt of a task a record gets: 0, or one that depends on its name only."""
    if not vary_prompts:
        return 0
    digest = hashlib.sha256(f"{source}\n{record_id}".encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[:8], "big") % len(TASKS[task].prompts)


def check_count(name: str, value: Any) -> int:
    """Return an option that is a whole number from 1; anything else raises `InputError`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} is {show(value)}: give a whole number from 1.")
    return int(value)


__all__ = [
    "DEFAULT_NUM_FRAMES",
    "HOLD_SECONDS",
    "MAX_OVERHANG_PIXELS",
    "MAX_OVERHANG_SHARE",
    "BoxValues",
    "SampledFrames",
    "TubeEntries",
    "check_count",
    "check_frame",
    "check_numbers",
    "check_task",
    "check_times",
    "choose_variant",
    "compute_box_fractions",
    "convert_xywh",
    "interpolate_boxes",
    "make_error",
    "require",
    "require_frame",
    "require_text",
    "write_end_caption",
    "write_grounding_turns",
    "write_turns",
]
