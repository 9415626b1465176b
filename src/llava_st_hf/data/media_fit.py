"""Whether a file is the one that was annotated: its frames, length and size, compared with what the annotations say.

A copy at another frame rate has the same seconds, but other numbers of frames. What is given in frames is then put
onto the file by its seconds; a file of another length is refused, never read at shifted times. A copy of another size
has its boxes at the same shares of the frame; one of another shape is refused, never read with shifted boxes.
"""

import os
from dataclasses import dataclass

import numpy as np

from ..processing.media_llava_st import format_count
from ..processing.video_timeline_llava_st import Timeline
from .annotations import Annotation
from .media_probe import probe_header, probe_sizes, probe_timeline
from .skips import RecordError

# How far two lengths of the same clip may differ: this share, or one frame.
MAX_DURATION_SHARE = 0.01
# How far the ratios of the sides of two sizes of the same frame may differ: this share, or one pixel of a side.
MAX_ASPECT_SHARE = 0.01


@dataclass(frozen=True)
class MediaFit:
    """How annotations lie in the file at hand."""

    frame_range: tuple[int, int] | None = None  # first and last frame of the file that are meant; `None` for all
    by_frames: bool = False  # whether the numbers of frames are those of the file
    frame_rate: float | None = None  # frames a second of the annotations, by which their frames become seconds
    start_seconds: float = 0.0  # time in the file of the frame 0 of the annotations


def fit_to_file(annotation: Annotation) -> MediaFit:
    """
    Compare what annotations say of a clip with its file, and return the way from their times to those of the file.

    A file that cannot be opened is not compared: what is wrong with it is said where it is decoded. One of another
    length raises `RecordError`, by the reason `mismatched_media`.
    """
    count, rate, duration = annotation.frame_count, annotation.frame_rate, annotation.duration_seconds
    counts_frames = annotation.frame_range is not None or count is not None
    has_frames = any(part.unit == "frames" for part in (*annotation.spans, *annotation.tubes))
    if has_frames and not counts_frames and not rate:
        # There is nothing to compare them by: they are those of the file at hand.
        media = annotation.media
        num_frames = len(media) if len(media) > 1 else len(probe_timeline(media[0].path))
        return MediaFit((0, num_frames - 1), by_frames=True)
    duration = duration or (count / rate if count and rate else None)
    # Where no rate is stated, it follows from the length, which may be a round number: the frames decide.
    stated_rate, rate = rate, rate or (count / duration if count and duration else None)
    same = MediaFit(annotation.frame_range or (0, count - 1), by_frames=True) if counts_frames else None
    found = _measure(annotation, count, duration, rate)
    if found is None:
        return same or MediaFit(frame_rate=rate)
    num_frames, seconds, timeline = found
    is_same_count = count is None or abs(num_frames - count) <= 1
    is_same_length = duration is None or seconds is None or _is_near(seconds, duration, rate, timeline)
    if same is not None and is_same_count and (is_same_length or stated_rate is None):
        return same
    if not is_same_length or (same is not None and (rate is None or timeline is None)):
        raise _make_mismatch(annotation, num_frames, seconds, duration)
    if same is None:
        return MediaFit(frame_rate=rate)
    start = float(timeline.seconds[0])
    frame_range = None
    if annotation.frame_range is not None:
        times = [start + frame / rate for frame in annotation.frame_range]
        frame_range = tuple(int(np.abs(timeline.seconds - time).argmin()) for time in times)
    return MediaFit(frame_range, frame_rate=rate, start_seconds=start)


def check_size(annotation: Annotation) -> str | None:
    """
    Compare the size of frames that annotations state with that of the file; return what to note of one that fits, but
    is not that of the displayed frame.

    A file that cannot be opened is not compared: what is wrong with it is said where it is decoded. One whose frames
    have another shape raises `RecordError`, by the reason `mismatched_media`.
    """
    size, media, media_type = annotation.size, annotation.media, annotation.media_type
    if size is None or min(size) <= 0:
        return None
    try:
        found = probe_sizes(media[0], media_type if len(media) == 1 else "image")
    except RecordError:
        return None
    displayed, stored = found.displayed, found.stored
    if _has_shape(size, displayed):
        return None
    # Stretched to square pixels every place keeps its share of the frame; a turn moves it.
    if _has_shape(size, stored[::-1] if found.is_turned else stored):
        return (
            f"boxes are of frames of {size[0]} x {size[1]}, as the file stores them, and are stretched with those to "
            f"the {displayed[0]} x {displayed[1]} that are displayed"
        )
    fix = "get that one, in its own shape"
    if found.is_turned and (_has_shape(size, displayed[::-1]) or _has_shape(size, stored)):
        fix = "the file stores them so and turns them: give boxes of the displayed frame, and its size"
    path = media[0].path
    raise RecordError(
        "mismatched_media",
        media_type,
        f"{media_type} is {os.path.basename(path) if path else 'a file'!r} with frames of {displayed[0]} x "
        f"{displayed[1]} pixels, but the boxes are of frames of {size[0]} x {size[1]}: {fix}.",
    )


def _has_shape(size: tuple[float, float], other: tuple[float, float]) -> bool:
    """Tell whether two sizes have the same ratio of their sides, but for rounding."""
    (width, height), (other_width, other_height) = size, other
    slack = max(MAX_ASPECT_SHARE, 1 / min(*size, *other))
    return abs(width * other_height - height * other_width) <= slack * max(width * other_height, height * other_width)


def _measure(
    annotation: Annotation, count: int | None, duration: float | None, rate: float | None
) -> tuple[int, float | None, Timeline | None] | None:
    """Return frames and length of the file, and its time line where its header leaves a doubt; `None` if unknown."""
    if count is None and duration is None:
        return None
    first, num_media = annotation.media[0], len(annotation.media)
    if num_media > 1 or first.path is None:
        return (num_media, None, None) if num_media > 1 else None
    try:
        header = probe_header(first)
        is_same_count = count is None or (header.num_frames is not None and abs(header.num_frames - count) <= 1)
        length = header.duration_seconds
        if is_same_count and length is not None and (duration is None or _is_near(length, duration, rate, None)):
            return header.num_frames or 0, length, None
        timeline = probe_timeline(first.path)
    except RecordError:
        return None
    return len(timeline), timeline.duration_seconds, timeline


def _is_near(seconds: float, duration: float, rate: float | None, timeline: Timeline | None) -> bool:
    frame = max(1 / rate if rate else 0.0, timeline.frame_duration if timeline is not None else 0.0)
    return abs(seconds - duration) <= max(frame, MAX_DURATION_SHARE * duration) + 1e-6


def _make_mismatch(
    annotation: Annotation, num_frames: int, seconds: float | None, duration: float | None
) -> RecordError:
    has = [format_count(num_frames, "frame")] + ([f"{seconds:.3f} s"] if seconds is not None else [])
    said = [format_count(annotation.frame_count, "frame")] if annotation.frame_count is not None else []
    said += [f"{duration:.3f} s"] if duration is not None else []
    name = os.path.basename(annotation.media[0].path)
    return RecordError(
        "mismatched_media",
        "video",
        f"video is {name!r} with {' and '.join(has)}, but the annotations are of one with {' and '.join(said)}: get "
        "that one, whole and at its own speed.",
    )
