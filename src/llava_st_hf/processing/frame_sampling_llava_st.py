"""Which frames of a video a request means: evenly spread, at a rate or all of them, of the whole or of a stretch."""

import math
import operator

import numpy as np

from .media_llava_st import EmptyMediaError, MediaError, OversizedMediaError, is_finite

# More frames than this in one call is a mistake in `fps` or `num_frames`; no model takes them.
MAX_SAMPLED_FRAMES = 2**14


def compute_frame_indices(num_frames: int, first: int, last: int) -> np.ndarray:
    """
    Spread `num_frames` frame indices evenly over a clip, both ends included: int64 (num_frames,); one alone is the
    first.
    """
    # Parity: inference/src/datasets.py rounds with Python's round, half to even; np.rint does the same on float64.
    fractions = np.arange(num_frames, dtype=np.float64) / max(num_frames - 1, 1)
    return first + np.rint(fractions * (last - first)).astype(np.int64)


def check_sampling(
    name: str,
    num_frames: int | None = None,
    fps: float | None = None,
    frame_range: tuple[int, int] | None = None,
    time_range: tuple[float, float] | None = None,
) -> None:
    """Raise `MediaError` for a request that no video can answer; `name` is the video's, for the message."""
    if num_frames is not None and fps is not None:
        raise MediaError(
            f"{name}: num_frames={num_frames} and fps={fps} are both given; give one of them.", field="fps"
        )
    if num_frames is not None:
        count = _as_integer(num_frames)
        if count is None or not 1 <= count <= MAX_SAMPLED_FRAMES:
            raise MediaError(
                f"{name}: num_frames is {num_frames!r}; give a whole number from 1 to {MAX_SAMPLED_FRAMES}.",
                field="num_frames",
            )
    if fps is not None and not (_is_real(fps) and fps > 0):
        raise MediaError(f"{name}: fps is {fps!r}; give a number of frames a second above 0.", field="fps")
    if frame_range is not None and time_range is not None:
        raise MediaError(f"{name}: frame_range and time_range are both given; give one of them.", field="time_range")
    for field_name, limits, unit in (("frame_range", frame_range, "frames"), ("time_range", time_range, "seconds")):
        if limits is None:
            continue
        if not isinstance(limits, (list, tuple, np.ndarray)) or len(limits) != 2 or not all(map(_is_real, limits)):
            raise MediaError(
                f"{name}: {field_name} is {limits!r}; give two numbers, (start, end) in {unit}.", field=field_name
            )
        # The first time stamp of a file may lie below 0, so that no time is too early in itself.
        if limits[0] > limits[1] or (limits[0] < 0 and unit == "frames"):
            order = "0 <= start <= end" if unit == "frames" else "start <= end"
            raise MediaError(f"{name}: {field_name} is {tuple(limits)}; give {order}, in {unit}.", field=field_name)
    if frame_range is not None and None in map(_as_integer, frame_range):
        raise MediaError(
            f"{name}: frame_range is {tuple(frame_range)}; give two whole frame numbers.", field="frame_range"
        )


def compute_sampled_indices(
    name: str,
    seconds: np.ndarray,
    num_frames: int | None = None,
    fps: float | None = None,
    frame_range: tuple[int, int] | None = None,
    time_range: tuple[float, float] | None = None,
    end_seconds: float | None = None,
    max_frames: int | None = None,
) -> np.ndarray:
    """
    Choose the frames of a video that a request means.

    Args:
        name (`str`): Name of the video, for messages.
        seconds (`np.ndarray`): Time stamp of every frame in presentation order, shape (total frames,).
        num_frames (`int`, *optional*): Number of frames, spread evenly; all when neither it nor `fps` is given.
        fps (`float`, *optional*): Frames a second; each is the frame nearest in time.
        frame_range (`tuple[int, int]`, *optional*): First and last frame of the clip, both included.
        time_range (`tuple[float, float]`, *optional*): Seconds; frames with start <= time stamp <= end are the clip.
        end_seconds (`float`, *optional*): End of the video, for the check of `time_range`.
        max_frames (`int`, *optional*): Most frames that the request may mean; never more than `MAX_SAMPLED_FRAMES`.

    Returns:
        `np.ndarray`: `int64` presentation indices, shape (sampled frames,).

    Raises:
        `MediaError`: The request is malformed, outside the video or for too many frames.
    """
    check_sampling(name, num_frames, fps, frame_range, time_range)
    most = MAX_SAMPLED_FRAMES if max_frames is None else min(max_frames, MAX_SAMPLED_FRAMES)
    first, last = find_clip(name, seconds, frame_range, time_range, end_seconds)
    if fps is not None:
        # The slack keeps a last frame whose time stamp was rounded down, as matroska does to milliseconds.
        count = math.floor(min(float(seconds[last] - seconds[first]) * fps + 1e-2, 2.0**53)) + 1
        if count > most:
            raise OversizedMediaError(
                f"{name}: fps={fps} means {count} frames; lower it to have {most} at most.", field="fps"
            )
        return find_nearest(seconds, seconds[first] + np.arange(count) / fps).clip(first, last)
    if num_frames is not None:
        if num_frames > most:
            raise OversizedMediaError(f"{name}: num_frames is {num_frames}; give {most} at most.", field="num_frames")
        return compute_frame_indices(_as_integer(num_frames), first, last)
    if last - first >= most:
        raise OversizedMediaError(
            f"{name}: {last - first + 1} frames are more than the {most} of one call; give num_frames or fps."
        )
    return np.arange(first, last + 1)


def find_clip(
    name: str,
    seconds: np.ndarray,
    frame_range: tuple[int, int] | None = None,
    time_range: tuple[float, float] | None = None,
    end_seconds: float | None = None,
) -> tuple[int, int]:
    """Return the first and the last frame that a request means; arguments and errors of `compute_sampled_indices`."""
    if time_range is not None:
        return _find_time_range(name, seconds, time_range, end_seconds)
    if frame_range is None:
        return 0, len(seconds) - 1
    first, last = map(_as_integer, frame_range)
    if last >= len(seconds):
        raise EmptyMediaError(
            f"{name}: frame_range {(first, last)} is outside the video; its frames are 0 to {len(seconds) - 1}.",
            field="frame_range",
        )
    return first, last


def compute_clip_end(seconds: np.ndarray, last: int, end_seconds: float) -> float:
    """Return where a clip with this last frame ends: where the next frame begins, or at the end of the file."""
    return end_seconds if last == len(seconds) - 1 else float(seconds[last + 1])


def _find_time_range(
    name: str, seconds: np.ndarray, time_range: tuple[float, float], end_seconds: float | None
) -> tuple[int, int]:
    start, end = map(float, time_range)
    clip_start, clip_end = min(float(seconds[0]), 0.0), max(float(seconds[-1]), end_seconds or 0.0)
    # As of every time (`MediaInfo.fraction_at`): one frame more than the file has is its last frame.
    frame = (seconds[-1] - seconds[0]) / (len(seconds) - 1) if len(seconds) > 1 else clip_end - seconds[-1]
    if start < clip_start - frame - 1e-3 or end > clip_end + frame + 1e-3 or end < seconds[0] - frame:
        raise EmptyMediaError(
            f"{name}: time_range {(start, end)} is outside the video; give seconds from {seconds[0]:.3f} to "
            f"{clip_end:.3f}.",
            field="time_range",
        )
    start, end = min(start, float(seconds[-1])), max(end, float(seconds[0]))
    # Annotations are often rounded to the millisecond, in either direction.
    inside = np.nonzero((seconds >= start - 1e-6) & (seconds <= end + 1e-6))[0]
    if not len(inside):
        raise EmptyMediaError(
            f"{name}: no frame lies in time_range {(start, end)}; widen it to a frame's length at least.",
            field="time_range",
        )
    return int(inside[0]), int(inside[-1])


def find_nearest(seconds: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return for each time the index of the frame with the nearest time stamp, the earlier one of two as near."""
    right = np.searchsorted(seconds, times).clip(1, max(len(seconds) - 1, 1))
    if len(seconds) == 1:
        return np.zeros(len(times), dtype=np.int64)
    return np.where(times - seconds[right - 1] <= seconds[right] - times, right - 1, right)


def _is_real(value: object) -> bool:
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return is_number and is_finite(value)


def _as_integer(value: object) -> int | None:
    """Return the whole number that `value` is (3, 3.0 or numpy's), or None."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        return None
    return operator.index(value)


__all__ = [
    "MAX_SAMPLED_FRAMES",
    "check_sampling",
    "compute_clip_end",
    "compute_frame_indices",
    "compute_sampled_indices",
    "find_clip",
    "find_nearest",
]
