"""What an annotation file says about one clip or image, in its own units: seconds or frames, pixels or fractions.

A reader gives these; `make_sample` turns them into records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from .annotation_checks import check_numbers
from .samples import Media
from .skips import make_error

# How far a box may reach over the edge of the frame, as hand-drawn ones do: the larger of the two counts.
MAX_OVERHANG_PIXELS = 2.0
MAX_OVERHANG_SHARE = 0.01
# How large an end in fractions may be that is cut off; a larger one is in seconds, or wrong.
MAX_END_FRACTION = 1.1

TimeUnit = Literal["seconds", "frames", "fraction"]
BoxForm = Literal["xyxy", "xywh"]
BoxUnit = Literal["pixels", "fraction", "thousandth"]
BoxValues = tuple[float, float, float, float]  # left, top, right, bottom
# Width and height of any frame, in the units that do not depend on its size.
_SIDES: Mapping[str, tuple[int, int]] = {"fraction": (1, 1), "thousandth": (1000, 1000)}
_UNIT_NAMES: Mapping[str, str] = {"pixels": "pixels", "fraction": "fractions", "thousandth": "thousandths"}


@dataclass(frozen=True)
class AnnotatedSpan:
    """
    When something happens; making one checks it.

    Args:
        times (`Sequence[float]`): Start and end, as the file has them.
        unit (`str`, *optional*, defaults to `"seconds"`):
            `"seconds"` of the file; `"frames"`, counted from 0, the last one included; or `"fraction"` of the clip.
        caption (`str`, *optional*): What happens then, where each span has words of its own.
        field (`str`, *optional*, defaults to `"span"`): Field of the file, for messages.
        cut_end (`bool`, *optional*, defaults to `False`):
            Whether an end behind the clip, as some data sets have them, is cut off, and noted, and not refused.

    Raises:
        `RecordError`: For anything but two numbers in order.
    """

    times: Sequence[float]
    unit: TimeUnit = "seconds"
    caption: str | None = None
    field: str = "span"
    cut_end: bool = False

    def __post_init__(self):
        expected = f"[start, end] in {self.unit}" if self.unit != "fraction" else "[start, end] as fractions, 0 to 1"
        times = check_numbers(self.times, 2, self.field, expected)
        if times[0] > times[1]:
            raise make_error(self.field, list(times), f"it ends before it starts; give {expected}")
        if self.unit == "fraction" and not (
            0 <= times[0] <= 1 and times[1] <= (MAX_END_FRACTION if self.cut_end else 1)
        ):
            raise make_error(self.field, list(times), f"give {expected}")
        object.__setattr__(self, "times", times)


@dataclass(frozen=True)
class AnnotatedBox:
    """
    Where something is in a frame; making one checks that it holds four numbers.

    Args:
        values (`Sequence[float]`): The numbers, as the file has them.
        form (`str`, *optional*, defaults to `"xyxy"`):
            `"xyxy"` for left, top, right, bottom; `"xywh"` for left, top, width, height.
        unit (`str`, *optional*, defaults to `"pixels"`):
            `"pixels"`; `"fraction"` of the frame, from 0 to 1; or `"thousandth"` of it, from 0 to 1000.
        field (`str`, *optional*, defaults to `"box"`): Field of the file, for messages.

    Raises:
        `RecordError`: For anything but four numbers.
    """

    values: Sequence[float]
    form: BoxForm = "xyxy"
    unit: BoxUnit = "pixels"
    field: str = "box"

    def __post_init__(self):
        sides = "right, bottom" if self.form == "xyxy" else "width, height"
        values = check_numbers(self.values, 4, self.field, f"[left, top, {sides}] in {self.unit}")
        object.__setattr__(self, "values", values)

    @property
    def xyxy(self) -> BoxValues:
        """Left, top, right, bottom."""
        left, top, right, bottom = self.values
        return (left, top, right, bottom) if self.form == "xyxy" else (left, top, left + right, top + bottom)

    def compute_fractions(self, size: tuple[float, float], cut_overhang: bool = False) -> BoxValues:
        """
        Return the box as fractions of its frame, in [0, 1].

        Args:
            size (`tuple[float, float]`): Width and height of the frame in pixels.
            cut_overhang (`bool`, *optional*, defaults to `False`):
                Whether the box may reach over the edge of the frame by any length, and not by `MAX_OVERHANG_PIXELS`
                or `MAX_OVERHANG_SHARE` of the side only. What reaches over is cut off.

        Raises:
            `RecordError`: For a box that has no area, or lies outside of the frame, or reaches over by too much; or
                that lies in the first pixel, as one in fractions does.
        """
        x1, y1, x2, y2 = self.xyxy
        width, height = _SIDES.get(self.unit, size)
        unit = _UNIT_NAMES[self.unit]
        frame, fix, fix_unit = (
            f"the frame of {width:g} x {height:g} {unit}",
            None,
            f"give {unit} of the displayed frame",
        )
        if self.unit == "pixels" and max(self.xyxy) <= _SIDES["thousandth"][0]:
            fix_unit += ", or unit: thousandth"
        if not (width > 0 and height > 0):
            fix = f"{frame} has no area; fix width and height"
        elif x1 >= x2 or y1 >= y2:
            is_xywh = x2 > 0 and y2 > 0 and x1 + x2 <= width and y1 + y2 <= height
            is_hinted = self.form == "xyxy" and is_xywh
            hint = "; or box_format: xywh, if it is [left, top, width, height]" if is_hinted else ""
            sides = "right, bottom" if self.form == "xyxy" else "width, height"
            fix = f"it has no area; give left, top, {sides} in {unit}{hint}"
        elif min(x1, y1) >= 0 and max(x2, y2) <= 1 < min(width, height):
            fix = f"it lies in the first pixel of {frame}; give {unit}, not fractions of the frame, or unit: fraction"
        elif min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
            fix = f"it lies outside of {frame}; {fix_unit}"
        elif not cut_overhang and any(
            overhang > max(MAX_OVERHANG_PIXELS if self.unit == "pixels" else 0, MAX_OVERHANG_SHARE * side)
            for overhang, side in ((max(-x1, x2 - width), width), (max(-y1, y2 - height), height))
        ):
            fix = f"it reaches far out of {frame}; {fix_unit}"
        if fix is not None:
            raise make_error(self.field, list(self.values), fix)
        sides = (width, height, width, height)
        box = tuple(min(max(value / side, 0.0), 1.0) for value, side in zip(self.xyxy, sides, strict=True))
        if box[0] >= box[2] or box[1] >= box[3]:  # thinner than the last digit of a fraction
            raise make_error(self.field, list(self.values), f"it has no area; give a larger one in {unit}")
        return box


@dataclass(frozen=True)
class AnnotatedTube:
    """
    Where something is in a clip, by time.

    Args:
        boxes (`Mapping[float, AnnotatedBox | None]`): Boxes by time; `None` where the object is not to be seen.
        unit (`str`, *optional*, defaults to `"seconds"`): Of the times: `"seconds"` or `"frames"`.
        interpolate (`bool`, *optional*, defaults to `True`):
            Whether boxes at some times tell where the object is between them, see `interpolate_boxes`. If not, it is
            only where a frame has a box.
        field (`str`, *optional*, defaults to `"boxes"`): Field of the file, for messages.
    """

    boxes: Mapping[float, AnnotatedBox | None]
    unit: Literal["seconds", "frames"] = "seconds"
    interpolate: bool = True
    field: str = "boxes"


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """
    What a file says about one clip or image.

    Args:
        task (`str`): The task that it is a record of.
        media_type (`str`): `"video"` or `"image"`.
        media (`tuple[Media, ...]`): The clip, the image, or the frames of a clip.
        query (`str`, *optional*): The question, or what is described.
        answer (`str`, *optional*): The caption or answer. Seconds and pixels in the texts become fractions.
        answer_field (`str`, *optional*, defaults to `"answer"`): Field of the answer in the file, for messages.
        asks_subject (`bool`, *optional*, defaults to `False`):
            Whether the query asks who or what takes part in an event, see `Task.subject_prompts`.
        prompts (`tuple[str, ...]`, *optional*):
            The whole question, where the file has it, in each of its wordings; those of the task otherwise.
        spans (`tuple[AnnotatedSpan, ...]`, *optional*): When it happens; several where it happens more than once.
        boxes (`tuple[AnnotatedBox, ...]`, *optional*): Where it is in an image.
        tubes (`tuple[AnnotatedTube, ...]`, *optional*):
            Where it is in a clip: one for each span, or one in all, of which each span has what lies in it.
        size (`tuple[int, int]`, *optional*):
            Width and height of the frames that pixels are counted in; those of the displayed file by default.
        frame_range (`tuple[int, int]`, *optional*): First and last frame of the part of the video that is meant.
        frame_count (`int`, *optional*): Frames of the video, as the annotations count them.
        frame_rate (`float`, *optional*): Frames per second of the video, as the annotations have it.
        video_fps (`float`, *optional*): Frames a second of a clip that is kept as pictures.
        frame_seconds (`tuple[float, ...]`, *optional*): The time of each of those pictures, instead.
        duration_seconds (`float`, *optional*): Length of the video, as the annotations have it.
        cut_overhang (`bool`, *optional*, defaults to `True`):
            Whether a box that reaches over the frame by any length, as data sets have them, is cut off, and noted,
            and not refused.
    """

    task: str
    media_type: str
    media: tuple[Media, ...]
    query: str | None = None
    answer: str | None = None
    answer_field: str = "answer"
    asks_subject: bool = False
    prompts: tuple[str, ...] = ()
    spans: tuple[AnnotatedSpan, ...] = ()
    boxes: tuple[AnnotatedBox, ...] = ()
    tubes: tuple[AnnotatedTube, ...] = ()
    size: tuple[int, int] | None = None
    frame_range: tuple[int, int] | None = None
    frame_count: int | None = None
    frame_rate: float | None = None
    video_fps: float | None = None
    frame_seconds: tuple[float, ...] | None = None
    duration_seconds: float | None = None
    cut_overhang: bool = True

    @property
    def box_kind(self) -> tuple[BoxForm, BoxUnit] | None:
        """Form and unit of the boxes; `None` without any."""
        in_tubes = (box for tube in self.tubes for box in tube.boxes.values() if box is not None)
        return next(((box.form, box.unit) for box in chain(self.boxes, in_tubes)), None)
