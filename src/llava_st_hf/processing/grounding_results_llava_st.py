"""Answers with units: when in seconds and where in pixels.

The model speaks in fractions of the media (see `media_llava_st`). Everything here speaks in seconds of the original
file and pixels of the original frame; what the model wrote is kept beside it in the `fraction` fields, so that
nothing is lost. `parse_answer` (in `answer_parsing_llava_st`) makes these objects from an answer.

How these objects look in a text is in `notation_llava_st`, in what form other tools take them in
`grounding_export_llava_st`, what is printed of them in `grounding_summary_llava_st`.
"""

import importlib
import json
import os
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .answer_problems_llava_st import Problem
from .grounding_export_llava_st import (
    convert_to_coco,
    convert_to_dataframe,
    convert_to_detections,
    convert_to_plain,
    read_plain,
)
from .grounding_summary_llava_st import abbreviate, describe_tube, summarize
from .media_llava_st import InputError, MediaInfo, PromptError, is_finite
from .notation_llava_st import NOTATION, BoxFractions, write_box, write_span, write_tube
from .tube_masks_llava_st import TubeMasks


def _require_finite(**values: float) -> None:
    for name, value in values.items():
        if not is_finite(value):
            raise InputError(f"{name} is {value}: give a finite number.")


@dataclass(frozen=True)
class Span:
    """
    A stretch of time of a clip, in seconds of the original file.

    Args:
        start_seconds (`float`): Where it starts.
        end_seconds (`float`): Where it ends, not before `start_seconds`.
        confidence (`float`, *optional*): 0 to 1, that of the least sure coordinate, where scores were read.
        fractions (`tuple[float, float]`, *optional*):
            Start and end as the model gave them, as fractions of the clip. Kept for the record: two spans are equal
            if their seconds are.

    Example:

    ```python
    >>> Span(1.5, 4.0).duration_seconds
    2.5
    ```
    """

    start_seconds: float
    end_seconds: float
    confidence: float | None = None
    fractions: tuple[float, float] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        _require_finite(start_seconds=self.start_seconds, end_seconds=self.end_seconds)
        if self.start_seconds > self.end_seconds:
            raise InputError(f"the span {self.start_seconds} to {self.end_seconds} s is reversed: swap the two times.")

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return self.end_seconds - self.start_seconds

    def to_text(self, media: MediaInfo) -> str:
        """Write the span as the model reads it, `{<t=0.1><t=0.5>}`; raises `MediaError` outside the clip."""
        return write_span(media.fraction_at(self.start_seconds), media.fraction_at(self.end_seconds))


@dataclass(frozen=True)
class Box:
    """
    A rectangle in pixels of the original frame (after the file's rotation), the origin in the top left corner.

    Args:
        x1 (`float`): Left edge in pixels.
        y1 (`float`): Top edge in pixels.
        x2 (`float`): Right edge in pixels, not left of `x1`.
        y2 (`float`): Bottom edge in pixels, not above `y1`.
        confidence (`float`, *optional*): 0 to 1, that of the least sure coordinate, where scores were read.
        fractions (`tuple[float, float, float, float]`, *optional*):
            x1, y1, x2, y2 as the model gave them, as fractions of the width and height. Kept for the record: two
            boxes are equal if their pixels are.

    Example:

    ```python
    >>> Box(10, 20, 30, 60).xywh
    (10, 20, 20, 40)
    ```
    """

    x1: float
    y1: float
    x2: float
    y2: float
    confidence: float | None = None
    fractions: tuple[float, float, float, float] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        _require_finite(x1=self.x1, y1=self.y1, x2=self.x2, y2=self.y2)
        if self.x1 > self.x2 or self.y1 > self.y2:
            raise InputError(
                f"the box {(self.x1, self.y1, self.x2, self.y2)} is reversed: give left, top, right, bottom in pixels "
                "(not x, y, width, height)."
            )

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels."""
        return self.x1, self.y1, self.x2, self.y2

    @property
    def xywh(self) -> tuple[float, float, float, float]:
        """Left, top, width, height in pixels, as in COCO."""
        return self.x1, self.y1, self.x2 - self.x1, self.y2 - self.y1

    def to_text(self, media: MediaInfo) -> str:
        """Write the box as the model reads it, `[<x=0.1><y=0.2><x=0.3><y=0.4>]`."""
        return write_box(_compute_fractions(self, media))


@dataclass(frozen=True)
class TubeBox:
    """
    Where the object is at one moment.

    Args:
        seconds (`float`): The moment, in seconds of the original file.
        frame_index (`int`): Index in presentation order of the frame nearest to it in the original file.
        box (`Box`): Where, in pixels of the original frame.
        fraction (`float`, *optional*): The moment as the model gave it, as a fraction of the clip; not compared.

    Example:

    ```python
    >>> TubeBox(2.0, 50, Box(10, 20, 30, 60)).box.x1
    10
    ```
    """

    seconds: float
    frame_index: int
    box: Box
    fraction: float | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        _require_finite(seconds=self.seconds)


class TubeArrays(NamedTuple):
    """The numbers of a tube, a row for each box: for arithmetic, and for a parser that reads all boxes at once."""

    seconds: np.ndarray  # (boxes,)
    frame_indices: np.ndarray  # (boxes,)
    boxes_pixels: np.ndarray  # (boxes, 4), left, top, right, bottom
    fractions: np.ndarray | None = None  # (boxes,), of the clip
    box_fractions: np.ndarray | None = None  # (boxes, 4), of the frame


@dataclass(frozen=True, repr=False)
class Tube:
    """
    One object through time.

    Args:
        boxes (`tuple[TubeBox, ...]`): One entry for each moment, in order of time; at least one.

    Example:

    ```python
    >>> tube = Tube((TubeBox(0.0, 0, Box(0, 0, 10, 10)), TubeBox(1.0, 25, Box(10, 0, 20, 10))))
    >>> tube.box_at(0.5).xyxy
    (5.0, 0.0, 15.0, 10.0)
    ```
    """

    boxes: tuple[TubeBox, ...]

    def __post_init__(self):
        if not self.boxes:
            raise InputError("a tube has no boxes: leave it out instead.")
        times = [entry.seconds for entry in self.boxes]
        if any(after < before for before, after in pairwise(times)):
            raise InputError("the boxes of a tube are out of order: sort them by seconds.")

    def __repr__(self) -> str:
        return f"Tube({describe_tube(self)})"

    @classmethod
    def from_arrays(cls, arrays: TubeArrays) -> "Tube":
        """Make a tube of checked numbers; its `boxes` are made when they are first asked for."""
        tube = object.__new__(cls)
        tube.__dict__["arrays"] = arrays
        return tube

    def __getattr__(self, name: str) -> tuple[TubeBox, ...]:
        if name != "boxes" or "arrays" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        nothing = [None] * len(self.arrays.seconds)
        columns = (nothing if column is None else column.tolist() for column in self.arrays)
        self.__dict__["boxes"] = tuple(
            TubeBox(seconds, frame_index, Box(*pixels, fractions=box_fractions and tuple(box_fractions)), fraction)
            for seconds, frame_index, pixels, fraction, box_fractions in zip(*columns, strict=True)
        )
        return self.boxes

    @cached_property
    def arrays(self) -> TubeArrays:
        """The numbers of all boxes."""
        seconds, frame_indices, boxes = zip(*((e.seconds, e.frame_index, e.box.xyxy) for e in self.boxes), strict=True)
        return TubeArrays(np.array(seconds), np.array(frame_indices), np.array(boxes, dtype=np.float64))

    @property
    def start_seconds(self) -> float:
        """Time of the first box."""
        return self.boxes[0].seconds

    @property
    def end_seconds(self) -> float:
        """Time of the last box."""
        return self.boxes[-1].seconds

    def box_at(self, seconds: float, tolerance_seconds: float = 0.0) -> Box | None:
        """
        Return the box at a moment, interpolated linearly between the two boxes around it.

        Args:
            seconds (`float`): The moment.
            tolerance_seconds (`float`, *optional*, defaults to 0.0):
                For how long before the first and after the last box these still hold.

        Returns:
            `Box` in pixels, or `None` before the first and after the last box.
        """
        first, last = self.boxes[0], self.boxes[-1]
        if not first.seconds - tolerance_seconds <= seconds <= last.seconds + tolerance_seconds:
            return None
        after = bisect_left(self.boxes, seconds, key=lambda entry: entry.seconds)
        if after == 0 or after == len(self.boxes) or self.boxes[after].seconds == seconds:
            return self.boxes[min(after, len(self.boxes) - 1)].box
        left, right = self.boxes[after - 1], self.boxes[after]
        share = (seconds - left.seconds) / (right.seconds - left.seconds)
        pairs = zip(left.box.xyxy, right.box.xyxy, strict=True)
        return Box(*(a + share * (b - a) for a, b in pairs), confidence=left.box.confidence)

    def to_text(self, media: MediaInfo) -> str:
        """Write the tube as the model reads it, `<t=0.1>:[box], <t=0.2>:[box]`."""
        times = [media.fraction_at(entry.seconds) for entry in self.boxes]
        if any(after <= before for before, after in pairwise(times)):
            raise PromptError("the times of the tube do not increase: give one box for each time.")
        boxes = [_compute_fractions(entry.box, media) for entry in self.boxes]
        return write_tube(list(zip(times, boxes, strict=True)))


@dataclass(frozen=True)
class Caption:
    """
    Words of the answer, with where or when they hold.

    Args:
        text (`str`): A phrase or a sentence, without its coordinates.
        span (`Span`, *optional*): When it holds.
        boxes (`tuple[Box, ...]`, *optional*, defaults to `()`): What it names, one box for each instance.

    Example:

    ```python
    >>> Caption("a dog", boxes=(Box(0, 0, 10, 10),)).text
    'a dog'
    ```
    """

    text: str
    span: Span | None = None
    boxes: tuple[Box, ...] = ()


class LabelledBox(NamedTuple):
    """A box of a result with the words for it; `track` counts the tubes from 1, `None` for a box outside a tube."""

    box: Box
    label: str
    track: int | None = None
    seconds: float | None = None
    frame_index: int | None = None


@dataclass(frozen=True, repr=False)
class GroundingResult:
    """
    What an answer says, in seconds and pixels, and what could not be read.

    `print` writes it in a few lines, a notebook shows it with its pictures, and so does `show`.

    Args:
        text (`str`): The answer as the model wrote it; the coordinates in it are the raw values.
        spans (`tuple[Span, ...]`): In order of appearance.
        boxes (`tuple[Box, ...]`): Boxes that are not part of a tube, in order of appearance.
        tubes (`tuple[Tube, ...]`): In order of appearance.
        captions (`tuple[Caption, ...]`): Phrases or sentences with their boxes and spans, in order of appearance.
        problems (`tuple[Problem, ...]`): What was missing or malformed; empty for a clean answer.
        task (`str`, *optional*): The task that was asked.
        query (`str`, *optional*): What was asked for, in words; used as a label.
        media (`MediaInfo`, *optional*): The clip or image that the answer is about.
        notes (`tuple[str, ...]`): What is to be known of the numbers, such as that no scores refined them.
        masks (`tuple[TubeMasks, ...]`): One for each tube, where `segment_tubes` was asked; saved if there are any.

    Example:

    ```python
    >>> result = GroundingResult("{<t_0><t_99>}", spans=(Span(0.0, 4.0),))
    >>> GroundingResult.from_dict(result.to_dict()) == result
    True
    ```
    """

    text: str
    spans: tuple[Span, ...] = ()
    boxes: tuple[Box, ...] = ()
    tubes: tuple[Tube, ...] = ()
    captions: tuple[Caption, ...] = ()
    problems: tuple[Problem, ...] = ()
    task: str | None = None
    query: str | None = None
    media: MediaInfo | None = None
    notes: tuple[str, ...] = ()
    masks: tuple[TubeMasks, ...] = field(default=(), metadata={"is_saved_empty": False})

    def __repr__(self) -> str:
        return abbreviate(self)

    def __str__(self) -> str:
        return summarize(self)

    def _repr_html_(self) -> str | None:
        try:
            return _load("visualization").render_html(self)
        except ImportError:
            return None  # the notebook then prints it

    @property
    def plain_text(self) -> str:
        """The words of the answer, without coordinates and their brackets."""
        return NOTATION.remove_coordinates(self.text)

    def labelled_boxes(self) -> Iterator[LabelledBox]:
        """Yield every box, those of the tubes included, with its phrase, or else the query, as label."""
        phrases = defaultdict(deque)
        for caption in self.captions:
            for box in caption.boxes:
                phrases[box].append(caption.text)
        for box in self.boxes:
            yield LabelledBox(box, phrases[box].popleft() if phrases[box] else self.query or "object")
        label = self.query or (self.captions[0].text if len(self.captions) == 1 else "object")
        for track, tube in enumerate(self.tubes, start=1):
            for entry in tube.boxes:
                yield LabelledBox(entry.box, label, track, entry.seconds, entry.frame_index)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists and numbers, ready for JSON; `from_dict` is the inverse."""
        return convert_to_plain(self)

    def to_json(self, indent: int | None = None) -> str:
        """Return strict JSON (no NaN) of `to_dict`."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "GroundingResult":
        """Make a result from `to_dict`'s output; anything else is an `InputError`, which names the field."""
        return read_plain(cls, values)

    def to_coco(self) -> dict[str, Any]:
        """
        Return the boxes in the form of a COCO annotation file, for a video in that of COCO-VID.

        Boxes are `[left, top, width, height]` in pixels. For a video each frame with a box is an image with its
        `frame_index`, `seconds` and `video_id`, each annotation has the `track_id` of its tube and, where there are
        `masks`, its `segmentation`, and the entry of the video holds the spans in seconds. A box outside any tube
        belongs to an image without `frame_index`.

        Raises:
            `InputError`: If the result has no `media`: the size of the picture is not known.
        """
        return convert_to_coco(self)

    def to_detections(self, frame_index: int | None = None) -> Any:
        """
        Return the boxes as `supervision.Detections`.

        Args:
            frame_index (`int`, *optional*):
                Only the boxes of the tubes at this frame of the original file. By default all boxes at once.

        Returns:
            `supervision.Detections`: `xyxy` of shape (boxes, 4) in pixels, `class_id` by label, `tracker_id` the
            number of the tube (-1 outside a tube; absent without tubes), `data` with `class_name`, `frame_index`
            (-1 outside a tube) and `seconds` (NaN outside a tube).

        Raises:
            `ImportError`: If supervision is not installed.
        """
        rows = [row for row in self.labelled_boxes() if frame_index is None or row.frame_index == frame_index]
        return convert_to_detections(rows)

    def to_dataframe(self) -> Any:
        """
        Return the spans and boxes as a table of pandas.

        Returns:
            `pandas.DataFrame`: A row for each span and each box, with `kind` (`"span"` or `"box"`), `label`, `track`
            (the number of the tube), `start_seconds` and `end_seconds` (of a tube's box both its moment),
            `frame_index`, `x1`, `y1`, `x2`, `y2` in pixels, and `confidence`; what a row does not have is missing.

        Raises:
            `ImportError`: If pandas is not installed.
        """
        return convert_to_dataframe(self)

    def show(self, source: Any = None) -> None:
        """
        Show the answer: frames or image with the boxes on them, in a notebook with a time line and a table.

        Args:
            source (`str`, `Path` or `bytes`, *optional*): The clip or image, where it is not at `media.source`.

        Raises:
            `InputError`: If the clip or image cannot be read.
        """
        _load("visualization").show_result(self, source)

    def save(self, path: str | os.PathLike, source: Any = None, overwrite: bool = False) -> None:
        """
        Write the answer to a file, in the form that its ending names; it is written whole or not at all.

        Args:
            path (`str` or `Path`):
                `.json` (see `to_dict`), `.csv` (see `to_dataframe`), `.html` (what a notebook shows), `.png` or
                `.jpg` (the image with its boxes, of a clip a sheet of frames) or `.mp4` (the clip with its boxes).
            source (`str`, `Path` or `bytes`, *optional*): The clip or image, where it is not at `media.source`.
            overwrite (`bool`, *optional*, defaults to `False`):
                Whether a file that is there is replaced, too, where it is no answer that was saved before.

        Raises:
            `InputError`: For another ending, a clip or image that cannot be read, or a file that cannot be written.
        """
        _load("visualization").save_result(self, path, source, overwrite)

    def export(self, path: str | os.PathLike, format: str, **options: Any) -> None:
        """
        Write the answer in the format of another tool, see `llava_st_hf.data.exports.export_answers`.

        Args:
            path (`str` or `Path`): A folder to make, or a file with the ending of the format.
            format (`str`): `cvat_video`, `mot`, `coco_video`, `label_studio`, `webvtt` or `fiftyone`.
            options: `every_frame` and `media_folder`.

        Raises:
            `InputError`: For a format, a path or a clip that does not fit.
        """
        _load("data.exports").export_answers([self], format, path, **options)


def _load(name: str) -> Any:
    """Return a part of the package that is not needed for anything else, and does not travel with this."""
    try:
        return importlib.import_module(f"llava_st_hf.{name}")
    except ImportError as error:
        raise ImportError(
            "drawing or exporting an answer needs llava-st-hf, which is not installed: run `pip install llava-st-hf`."
        ) from error


def _compute_fractions(box: Box, media: MediaInfo) -> BoxFractions:
    """Return a box as fractions of its frame; one that the model could not read raises `PromptError`."""
    x1, y1, x2, y2 = box.x1 / media.width, box.y1 / media.height, box.x2 / media.width, box.y2 / media.height
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise PromptError(
            f"the box {box.xyxy} has no area, or does not lie in the frame of {media.width}x{media.height} pixels, "
            "from 0 to 1 of its sides: give left, top, right, bottom in pixels of it."
        )
    return x1, y1, x2, y2


__all__ = [
    "Box",
    "Caption",
    "GroundingResult",
    "LabelledBox",
    "Span",
    "Tube",
    "TubeArrays",
    "TubeBox",
]
