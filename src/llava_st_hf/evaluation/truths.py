"""The truth of a benchmark from its annotation files alone: every frame or second of a clip, no media opened.

Answers of other systems are scored against it, and so is every protocol that looks at all frames of a clip.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.annotations import AnnotatedSpan, AnnotatedTube, Annotation
from ..data.media_folder import MediaFolder
from ..data.media_probe import probe_media
from ..data.readers.base import FileReader
from ..data.readers.registry import guess_format, open_reader
from ..data.samples import Media
from ..data.skips import RecordError, make_error
from ..processing import Box, Caption, GroundingResult, InputError, MediaInfo, Span, Tube
from ..processing.grounding_results_llava_st import TubeArrays
from .protocols import find_failure
from .questions import read_truth

if TYPE_CHECKING:
    from .benchmarks.st_shapes import StShapes

# Of a frame whose size nobody says, boxes as fractions are boxes in pixels of a frame of one pixel.
_NO_SIZE = (1, 1)


@dataclass(frozen=True)
class Truth:
    """
    What is right about one item.

    Args:
        task (`str`): Its task.
        result (`GroundingResult`): Spans, boxes, tubes and captions; its media have every frame, or every second.
        box_units (`tuple[str, ...]`): Units in which boxes of an answer can be compared with it.
        has_duration (`bool`): Whether the length of the clip is known, so that times as fractions can be read.
        groups (`Mapping[str, str]`): The groups that it is in, by their kind.

    Example:

    ```python
    >>> truths = read_truths("query.csv")
    >>> truths.items["5a1f77aa"].result.spans
    (Span(start_seconds=1158.0, end_seconds=1163.0, confidence=None),)
    ```
    """

    task: str
    result: GroundingResult
    box_units: tuple[str, ...] = ("pixels", "fraction", "thousandth")
    has_duration: bool = True
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Truths:
    """
    The items of an annotation file.

    Args:
        format (`str`): Its format, one of `FORMATS`.
        items (`dict[str, Truth]`): By their names, in order.
        unusable (`tuple[tuple[str, str], ...]`): Name and reason of each that cannot be scored, for everyone alike.
    """

    format: str
    items: dict[str, Truth]
    unusable: tuple[tuple[str, str], ...] = ()


class _NamedMedia(MediaFolder):
    """Takes every name for a file that is there."""

    def __init__(self):
        super().__init__(None)

    def open_media(self, name: Any, media_type: str, field: str = "media") -> tuple[Media, ...]:
        if not isinstance(name, str) or not name.strip():
            raise make_error(field, name, "give the path of a file")
        return (Media(path=name),)

    def find_media(self, names: Sequence[str], media_type: str, field: str = "media") -> tuple[Media, ...]:
        return self.open_media(names[0], media_type, field)


def read_truths(
    path: str | Path, format: str | None = None, task: str | None = None, part: str = "", **options: Any
) -> Truths:
    """
    Read the truth of all items of an annotation file; its media need not be there.

    Args:
        path (`str` or `Path`): The file or folder, in a format of `FORMATS`.
        format (`str`, *optional*): Its format; told from the file by default.
        task (`str`, *optional*): Task of the items, where the format leaves a choice.
        part (`str`, *optional*, defaults to `""`): What names of items have to have in them.
        options: What the reader of the format takes, such as `vidor_folder`.

    Returns:
        `Truths`: The items, and those that cannot be scored.

    Raises:
        `InputError`: For a file that cannot be read, or one of records without annotations.
    """
    format = guess_format(path) if format is None else format
    reader = open_reader(format, path, format, data_folder=os.curdir, task=task, **options)
    if not isinstance(reader, FileReader) or type(reader).annotate is FileReader.annotate:
        raise InputError(f"{path} is of the format {format}, whose records have no annotations: give a benchmark's.")
    reader.folder = _NamedMedia()
    truths: dict[str, Truth] = {}
    unusable = []
    for index in range(len(reader)):
        name = reader.get_id(index)
        if part not in name:
            continue
        try:
            if name in truths:
                raise make_error("id", name, "another item has this name; give each its own")
            truth = make_truth(reader.annotate(reader.entries[index]))
            truths[name] = replace(truth, groups=reader.get_groups(index))
        except InputError as error:
            unusable.append((name, str(error)))
    return Truths(format, truths, tuple(unusable))


def draw_truths(benchmark: "StShapes") -> Truths:
    """Return the truth of clips and images that are drawn, at each of their frames."""
    items = {}
    for index in range(len(benchmark)):
        sample = benchmark.read(index)
        media = probe_media(sample, benchmark.num_frames)
        items[benchmark.get_id(index)] = Truth(sample.task, read_truth(sample, media))
    return Truths(benchmark.name, items)


def make_truth(annotation: Annotation) -> Truth:
    """
    Turn what an annotation file says about one item into seconds and pixels.

    The media are every frame of the clip, or of the part that is meant, where the annotation counts frames, and every
    whole second otherwise. Numbers that do not fit, or that lack what the task asks for, raise `RecordError`.
    """
    size, units = _find_size(annotation)
    duration = annotation.duration_seconds
    if duration is None and annotation.frame_count and annotation.frame_rate:
        duration = annotation.frame_count / annotation.frame_rate
    media = MediaInfo("image", *size) if annotation.media_type == "image" else _lay_out(annotation, size, duration)
    spans = tuple(_place_span(span, annotation, duration) for span in annotation.spans)
    tubes = tuple(_place_tube(tube, annotation, media) for tube in annotation.tubes if tube.boxes)
    boxes = [
        np.array(box.compute_fractions(size, annotation.cut_overhang)) * [*size, *size] for box in annotation.boxes
    ]
    words = annotation.answer or ""
    pairs = zip(annotation.spans, spans, strict=True)
    captions = tuple(Caption(given.caption, span=span) for given, span in pairs if given.caption)
    result = GroundingResult(
        words,
        query=annotation.query,
        spans=spans,
        boxes=tuple(Box(*map(float, box)) for box in boxes),
        tubes=tubes,
        captions=(Caption(words),) if words else captions,
        media=media,
    )
    if (failure := find_failure(annotation.task, result)) is not None:
        raise RecordError("invalid_field", "answer", f"it cannot be scored as {annotation.task}: {failure}.")
    return Truth(annotation.task, result, units, duration is not None)


def _find_size(annotation: Annotation) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Return the size of the frames, and the units of boxes that can be compared."""
    if annotation.size is not None:
        return annotation.size, Truth.box_units
    boxes = [*annotation.boxes, *(box for tube in annotation.tubes for box in tube.boxes.values() if box is not None)]
    if any(box.unit == "pixels" for box in boxes):
        # Large enough for all of them; what is beyond is not known.
        corners = np.array([box.xyxy for box in boxes])
        return (int(np.ceil(corners[:, 2].max())) + 1, int(np.ceil(corners[:, 3].max())) + 1), ("pixels",)
    return _NO_SIZE, ("fraction", "thousandth")


def _find_rate(annotation: Annotation) -> float | None:
    if annotation.frame_rate is not None:
        return annotation.frame_rate
    if annotation.frame_count and annotation.duration_seconds:
        return annotation.frame_count / annotation.duration_seconds
    return None


def _lay_out(annotation: Annotation, size: tuple[int, int], duration: float | None) -> MediaInfo:
    """Return every frame of the clip, or every second."""
    rate = _find_rate(annotation)
    if rate is not None and annotation.frame_count:
        first, last = annotation.frame_range or (0, annotation.frame_count - 1)
        frames = range(first, last + 1)
        return MediaInfo("video", *size, tuple(frames), tuple((np.array(frames) / rate).tolist()))
    if duration is None:
        times = [*(time for span in annotation.spans for time in span.times)]
        times += [time for tube in annotation.tubes for time in tube.boxes]
        duration = max(times, default=0.0)
    seconds = range(int(np.floor(duration)) + 2)
    return MediaInfo("video", *size, tuple(seconds), tuple(map(float, seconds)), stated_end_seconds=duration)


def _get_rate(annotation: Annotation) -> float:
    if (rate := _find_rate(annotation)) is None:
        raise RecordError("invalid_field", "fps", "fps is missing: frames have no seconds.")
    return rate


def _place_span(span: AnnotatedSpan, annotation: Annotation, duration: float | None) -> Span:
    start, end = span.times
    if span.unit == "frames":
        rate = _get_rate(annotation)
        start, end = start / rate, end / rate
    elif span.unit == "fraction":
        if duration is None:
            raise RecordError("invalid_field", "duration", "duration is missing: fractions have no seconds.")
        start, end = start * duration, end * duration
    if duration is not None and span.cut_end:
        end = max(min(end, duration), start)
    return Span(float(start), float(end))


def _place_tube(tube: AnnotatedTube, annotation: Annotation, media: MediaInfo) -> Tube:
    size = (media.width, media.height)
    known = [(time, box) for time, box in sorted(tube.boxes.items()) if box is not None]
    times = np.array([time for time, _ in known], dtype=np.float64)
    seconds = times / _get_rate(annotation) if tube.unit == "frames" else times
    fractions = np.array([box.compute_fractions(size, annotation.cut_overhang) for _, box in known])
    return Tube.from_arrays(TubeArrays(seconds, find_frames(seconds, media), fractions * [*size, *size]))


def find_frames(seconds: np.ndarray, media: MediaInfo) -> np.ndarray:
    """Return the index of the frame of a clip that is nearest to each time, shape (times,)."""
    return np.rint(np.interp(seconds, media.frame_seconds, media.frame_indices)).astype(np.int64)
