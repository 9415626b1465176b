"""Reads the frames of a video file with PyAV: those that a request means, or all of them one by one.

Frame number i is the i-th frame in presentation order, and its time is the one that the file's timeline gives. Only
the stretches between a key frame and the last frame needed after it are decoded. Frames that cannot be got that way
are looked for by decoding from the start, and what cannot be decoded at all is replaced by its neighbour and
reported. Pixels are those of a full sequential decode, of the frame as it is displayed: square ones (a frame of
360x288 with pixels of 64:45 becomes one of 512x288), white where it is transparent, after the turn that the file asks
for. What the model gets is that frame, resized to its square.
"""

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .frame_sampling_llava_st import (
    check_sampling,
    compute_clip_end,
    compute_sampled_indices,
    find_clip,
    find_nearest,
)
from .image_loading_llava_st import composite_on_white, describe_source
from .media_llava_st import MAX_FRAME_PIXELS, EmptyMediaError, MediaError
from .video_file_llava_st import IndexIsWrongError, VideoFile, open_video
from .video_timeline_llava_st import Timeline, read_timeline

try:
    import av
except ImportError:  # the remote-code check of transformers passes over imports inside try
    av = None


# So many frames a decoder may give too early at most: those that H.264 and HEVC keep for reference.
MAX_REORDERED_FRAMES = 16
MAX_HELD_PIXELS = 2**28  # of which they are fewer, the larger they are
# Going on decoding up to the next key frame costs less than a seek, unless it skips more frames than this.
MIN_FRAMES_FOR_SEEK = 12


class VideoFrame(NamedTuple):
    """A decoded frame of a file."""

    index: int  # in presentation order
    seconds: float
    image: np.ndarray  # RGB as it is displayed, uint8, (height, width, 3), contiguous


class VideoProbe(NamedTuple):
    """What is known of a video file before its frames are decoded."""

    width: int  # of the file's first frame as it is displayed, in pixels
    height: int
    timeline: Timeline


@dataclass
class DecodedVideo:
    """Sampled frames of a video and where they lie in the file."""

    frames: torch.Tensor  # RGB, `uint8`, shape (frames, 3, height, width), contiguous
    frame_indices: tuple[int, ...]  # presentation index of each frame that is shown
    frame_seconds: tuple[float, ...]  # time in seconds of each frame that is shown
    width: int  # width in pixels of the file's first frame as it is displayed; of any other its boxes have their share
    height: int  # height in pixels of it
    total_num_frames: int
    fps: float  # average number of frames a second
    duration_seconds: float  # from the first frame's time to the end of the last frame
    stated_end_seconds: float  # where the clip ends: the file, or the part of it that was asked for
    problems: tuple[str, ...] = ()  # what is wrong with the file and was worked around; empty for a sound file
    num_decoded_packets: int = 0  # number of packets that were given to the decoder


# --------------------------------------------------------------------------------------------------
# Frames
# --------------------------------------------------------------------------------------------------
class FrameDecoder:
    """
    Decodes frames of an open file.

    Args:
        file (`VideoFile`): The file.
        timeline (`Timeline`): Its timeline, which gives each frame its index and its time.
    """

    def __init__(self, file: VideoFile, timeline: Timeline):
        self.file, self.timeline = file, timeline
        # One converter for all frames: PyAV makes a new swscale context for each frame otherwise.
        self.converter = av.video.reformatter.VideoReformatter()
        self.is_mirrored: dict[int, bool] = {}  # frames of a turn in degrees

    def decode_all(self) -> Iterator[VideoFrame]:
        """Yield every frame that can be decoded, in presentation order."""
        for index, frame in self._decode_in_order():
            yield self._make_frame(index, frame)

    def decode_chosen(self, indices: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield each of some indices, once, with its frame, or with the nearest where it cannot be decoded."""
        missing = set(indices)
        if not self.timeline.by_order:
            for index, frame in self._seek(sorted(missing)):
                missing.remove(index)
                yield index, frame
            if missing and self.timeline.grid_step:
                raise IndexIsWrongError
        if missing:
            yield from self._find_nearest(sorted(missing))

    def _seek(self, indices: list[int]) -> Iterator[tuple[int, VideoFrame]]:
        stamps = self.timeline.stamps[indices].tolist()
        missing = dict(zip(stamps, indices, strict=True))
        for key, targets in _plan_runs(self.timeline, stamps):
            for frame in self.file.decode_run(key, targets, int(self.timeline.stamps[0]), self.timeline.grid_step):
                if frame.pts in missing and not frame.is_corrupt:
                    index = missing.pop(frame.pts)
                    yield index, self._make_frame(index, frame)

    def _find_nearest(self, targets: list[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode from the start; a target that does not come is shown by the nearest frame that does."""
        stamps = self.timeline.stamps
        previous: tuple[int, av.VideoFrame] | None = None
        for current in self._decode_in_order():
            while targets and targets[0] <= current[0]:
                target = targets.pop(0)
                options = [current] if previous is None or target == current[0] else [previous, current]
                nearest = min(options, key=lambda option: abs(stamps[option[0]] - stamps[target]))
                yield target, self._make_frame(*nearest)
            if not targets:
                return
            previous = current
        if previous is not None:
            for target in targets:
                yield target, self._make_frame(*previous)

    def _decode_in_order(self) -> Iterator[tuple[int, "av.VideoFrame"]]:
        """Yield each frame once, in presentation order, which decoders lose where a file is damaged."""
        if self.timeline.by_order:
            yield from enumerate(self.file.decode_all())
            return
        held: dict[int, av.VideoFrame] = {}  # behind a gap, which frames may still fill
        last = -1
        for frame in self.file.decode_all():
            index = last if frame.pts is None else self.timeline.index_of(frame.pts)
            if index <= last:
                continue
            held.setdefault(index, frame)
            most = min(MAX_REORDERED_FRAMES, MAX_HELD_PIXELS // (frame.width * frame.height))
            while last + 1 in held or len(held) > most:
                last = min(held)
                yield last, held.pop(last)
        yield from sorted(held.items())

    def _make_frame(self, index: int, frame: "av.VideoFrame") -> VideoFrame:
        self.file.check_frame_size(frame.width, frame.height)
        has_alpha = any(component.is_alpha for component in frame.format.components)
        rgb = self.converter.reformat(frame, format="rgba" if has_alpha else "rgb24", threads=1)
        plane, channels = rgb.planes[0], 4 if has_alpha else 3
        rows = np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)  # rows are padded
        image = rows[: rgb.height, : channels * rgb.width].reshape(rgb.height, rgb.width, channels)
        if has_alpha:
            image = np.array(composite_on_white(Image.fromarray(np.ascontiguousarray(image))))
        size = self.file.compute_displayed_size(rgb.width, rgb.height)
        if size[0] != rgb.width:
            self.file.check_frame_size(*size)
            pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
            image = resize_frames(pixels, size[::-1])[0].permute(1, 2, 0).numpy()
        image = self._turn_upright(image, frame)
        # Made dense by numpy: torch would share the copy out among threads, which wait long for the decoder's threads.
        # Without a copy where the rows have no padding.
        return VideoFrame(index, float(self.timeline.seconds[index]), np.ascontiguousarray(image))

    def _turn_upright(self, image: np.ndarray, frame: "av.VideoFrame") -> np.ndarray:
        """Return a view of the picture that is mirrored and turned as the file asks for."""
        if frame.rotation not in self.is_mirrored:
            # Read once for each turn: PyAV keeps a frame whose side data was read until the garbage is collected.
            matrix = frame.side_data.get("DISPLAYMATRIX", bytes(20))
            right_x, right_y, _, down_x, down_y = struct.unpack("=5i", bytes(matrix)[:20])
            self.is_mirrored[frame.rotation] = right_x * down_y < right_y * down_x
        if self.is_mirrored[frame.rotation]:  # the turn is that of the upper edge, so the sides are exchanged
            image = image[::-1]
        return np.rot90(image, round(frame.rotation / 90) % 4)


def _plan_runs(timeline: Timeline, targets: list[int]) -> list[tuple[int, list[int]]]:
    """Group ascending target stamps into runs, each decoded without a break from a key frame on."""
    runs: list[tuple[int, list[int]]] = []
    for target in targets:
        place = int(np.searchsorted(timeline.key_stamps, target, side="right")) - 1
        if place < 0:
            continue  # before the first key frame: nothing to decode it from
        key = int(timeline.key_stamps[place])
        if runs:
            num_skipped = np.searchsorted(timeline.stamps, key) - np.searchsorted(timeline.stamps, runs[-1][1][-1])
            if num_skipped <= MIN_FRAMES_FOR_SEEK:
                runs[-1][1].append(target)
                continue
        runs.append((key, [target]))
    return runs


# --------------------------------------------------------------------------------------------------
# Resizing
# --------------------------------------------------------------------------------------------------
def resize_frames(frames: torch.Tensor, size: tuple[int, int], mode: str = "bicubic") -> torch.Tensor:
    """
    Resize frames as Pillow does, many times faster.

    Args:
        frames (`torch.Tensor`): `uint8`, shape (frames, channels, height, width); fastest as a channels-last view.
        size (`tuple[int, int]`): Height and width in pixels to resize to.
        mode (`str`, *optional*, defaults to `"bicubic"`): `"bicubic"` or `"bilinear"`.

    Returns:
        `torch.Tensor`: `uint8`, shape (frames, channels, *size). At most 2 grey levels from Pillow on noise and 1 on
        natural images, the rest being the coarser rounding of the weights.
    """
    height, width = frames.shape[-2:]
    if (height, width) == tuple(size):
        return frames
    if _pillow_resizes_rows_first(height, width, *size):
        frames = F.interpolate(frames, size=(size[0], width), mode=mode, antialias=True)
    return F.interpolate(frames, size=tuple(size), mode=mode, antialias=True)


@lru_cache(maxsize=256)
def _pillow_resizes_rows_first(height: int, width: int, new_height: int, new_width: int) -> bool:
    """Tell which of its two passes the installed Pillow runs first for these sizes, by trying it on noise."""
    # Pillow up to 12 always narrows first, 13 shortens first where that is cheaper (python-pillow/Pillow#9549).
    # Between the passes values are clipped to 0..255, so the order shows: up to 8 grey levels on a portrait clip.
    if new_height >= height or new_width == width:
        return False
    noise = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    expected = torch.from_numpy(
        np.array(Image.fromarray(noise).resize((new_width, new_height), Image.Resampling.BICUBIC))
    )
    frame = torch.from_numpy(noise)[None, None]
    columns_first = F.interpolate(frame, size=(new_height, new_width), mode="bicubic", antialias=True)
    rows_first = F.interpolate(frame, size=(new_height, width), mode="bicubic", antialias=True)
    rows_first = F.interpolate(rows_first, size=(new_height, new_width), mode="bicubic", antialias=True)
    errors = [float((option[0, 0].float() - expected.float()).abs().mean()) for option in (columns_first, rows_first)]
    return errors[1] < errors[0]


# --------------------------------------------------------------------------------------------------
# All of it
# --------------------------------------------------------------------------------------------------
def probe_video(
    source: "str | os.PathLike | bytes", num_threads: int = 1, allow_url: bool | Mapping = False
) -> VideoProbe:
    """
    Find the size and the timeline of a video; of most files only the first frame is decoded.

    Args:
        source (`str`, `os.PathLike` or `bytes`): Path of a video file, or the file's content.
        num_threads (`int`, *optional*, defaults to 1): Decoder threads; 0 means as many as there are cores.
        allow_url (`bool` or `dict`, *optional*, defaults to `False`):
            Whether an address on the network may be fetched, or within which limits, see `FetchRules`.

    Raises:
        `MediaError`: The source is not usable; the message says what to do.

    Example:

    ```python
    >>> probe = probe_video("clip.mp4")
    >>> probe.width, probe.height, len(probe.timeline)
    (640, 360, 546)
    ```
    """
    with open_video(source, num_threads, allow_url) as file:
        timeline = read_timeline(file)
        first = next(FrameDecoder(file, timeline).decode_all(), None)
        if first is None:
            raise _make_empty_error(file)
    return VideoProbe(first.image.shape[1], first.image.shape[0], timeline)


def iterate_frames(
    source: "str | os.PathLike | bytes", timeline: Timeline | None = None, num_threads: int = 0
) -> Iterator[VideoFrame]:
    """
    Yield every frame of a video that can be decoded, one by one, at its own size.

    Args:
        source (`str`, `os.PathLike` or `bytes`): Path of a video file, or the file's content.
        timeline (`Timeline`, *optional*): That of the file, where it is known already.
        num_threads (`int`, *optional*, defaults to 0): Decoder threads; 0 means as many as there are cores.

    Raises:
        `MediaError`: The source is not usable; the message says what to do.

    Example:

    ```python
    >>> for frame in iterate_frames("clip.mp4"):
    ...     Image.fromarray(frame.image).save(f"{frame.index:05d} at {frame.seconds:.3f} s.png")
    ```
    """
    with open_video(source, num_threads) as file:
        timeline = timeline or read_timeline(file, use_index=False)
        frame = None
        for frame in FrameDecoder(file, timeline).decode_all():
            yield frame
        if frame is None:
            raise _make_empty_error(file)


def read_video(
    source: "str | os.PathLike | bytes",
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    frame_range: tuple[int, int] | None = None,
    time_range: tuple[float, float] | None = None,
    frame_indices: Sequence[int] | None = None,
    size: tuple[int, int] | None = None,
    num_threads: int = 0,
    allow_url: bool | Mapping = False,
    max_frames: int | None = None,
) -> DecodedVideo:
    """
    Read chosen frames of a video.

    Args:
        source (`str`, `os.PathLike` or `bytes`): Path of a video file, or the file's content.
        num_frames (`int`, *optional*):
            Number of frames, spread evenly over the clip, both ends included. Without it and `fps`: every frame.
        fps (`float`, *optional*): Frames a second to sample, instead of `num_frames`.
        frame_range (`tuple[int, int]`, *optional*): First and last frame of the clip, in presentation order.
        time_range (`tuple[float, float]`, *optional*): Seconds; the clip is frames with start <= time stamp <= end.
        frame_indices (`Sequence[int]`, *optional*): These frames, ascending, and none of the above.
        size (`tuple[int, int]`, *optional*):
            Height and width that every frame is resized to as soon as it is decoded, so that memory does not depend on
            the size of the file's frames. They keep their own size when not given.
        num_threads (`int`, *optional*, defaults to 0):
            Decoder threads; 0 means as many as there are cores, and one inside a worker of a `DataLoader`.
        allow_url (`bool` or `dict`, *optional*, defaults to `False`):
            Whether an address on the network may be fetched, or within which limits, see `FetchRules`.
        max_frames (`int`, *optional*): Most frames to sample; a request for more is refused before any is decoded.

    Returns:
        [`DecodedVideo`]: The frames, their places in the file and what was wrong with it.

    Raises:
        `MediaError`: The source or the request is not usable; the message says what to do.

    Example:

    ```python
    >>> video = read_video("clip.mp4", num_frames=100, time_range=(3.0, 12.5), size=(384, 384))
    >>> video.frames.shape, video.frame_seconds[0]
    (torch.Size([100, 3, 384, 384]), 3.003)
    ```
    """
    request = {"num_frames": num_frames, "fps": fps, "frame_range": frame_range, "time_range": time_range}
    check_sampling(describe_source(source), **request)
    if frame_indices is not None and any(value is not None for value in request.values()):
        raise MediaError(
            f"{describe_source(source)}: frame_indices is given beside another choice of frames; give one of them.",
            field="frame_indices",
        )
    request["max_frames"] = max_frames
    if num_threads == 0 and torch.utils.data.get_worker_info() is not None:
        num_threads = 1
    with open_video(source, num_threads, allow_url) as file:
        try:
            return _read(file, request, frame_indices, size, use_index=True)
        except IndexIsWrongError:
            file.reopen()
            return _read(file, request, frame_indices, size, use_index=False)


def _read(
    file: VideoFile,
    request: dict,
    frame_indices: Sequence[int] | None,
    size: tuple[int, int] | None,
    use_index: bool,
) -> DecodedVideo:
    timeline = read_timeline(file, use_index)
    if frame_indices is not None:
        indices = np.asarray(frame_indices, dtype=np.int64)
        if not len(indices) or (np.diff(indices) < 0).any() or indices[0] < 0 or indices[-1] >= len(timeline):
            raise MediaError(
                f"{file.name}: frame_indices must be ascending numbers of its {len(timeline)} frames, from 0.",
                field="frame_indices",
            )
    else:
        indices = compute_sampled_indices(file.name, timeline.seconds, end_seconds=timeline.end_seconds, **request)
    ranges = {name: request[name] for name in ("frame_range", "time_range")}
    _, last = find_clip(file.name, timeline.seconds, **ranges, end_seconds=timeline.end_seconds)
    frames: np.ndarray | None = None
    shown, sizes = indices.copy(), []
    for index, frame in FrameDecoder(file, timeline).decode_chosen(indices.tolist()):
        sizes.append(frame.image.shape[:2])
        if frames is None:
            frames = np.empty((len(indices), 3, *(size or sizes[0])), dtype=np.uint8)
        pixels = torch.from_numpy(frame.image).permute(2, 0, 1)[None]
        places = slice(*np.searchsorted(indices, (index, index + 1)))
        frames[places] = resize_frames(pixels, frames.shape[2:])[0].numpy()  # by numpy, see `FrameDecoder`
        shown[places] = frame.index
    if frames is None:
        raise _make_empty_error(file)
    if (shown != indices).any():
        # Of a damaged file a seek may give frames that are not met on the way from the start, nearer than those.
        come, places = np.unique(shown, return_index=True)
        nearest = find_nearest(timeline.seconds[come], timeline.seconds[indices])
        changed = shown != come[nearest]
        frames[changed], shown = frames[places[nearest[changed]]], come[nearest]
    height, width = _find_first_size(file, timeline, sizes)
    return DecodedVideo(
        frames=torch.from_numpy(frames),
        frame_indices=tuple(shown.tolist()),
        frame_seconds=tuple(timeline.seconds[shown].tolist()),
        width=width,
        height=height,
        total_num_frames=len(timeline),
        fps=timeline.fps,
        duration_seconds=timeline.duration_seconds,
        stated_end_seconds=compute_clip_end(timeline.seconds, last, timeline.end_seconds),
        problems=(
            *timeline.problems,
            *_describe_decoding(file, shown != indices, {*sizes, (height, width)}),
        ),
        num_decoded_packets=file.num_decoded,
    )


def _find_first_size(file: VideoFile, timeline: Timeline, sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the height and width of the file's first frame, whichever were sampled of one whose frames differ."""
    if set(sizes) in ({file.first_size}, {file.first_size[::-1]}):
        return sizes[0]
    first = next(FrameDecoder(file, timeline).decode_all(), None)
    return sizes[0] if first is None else first.image.shape[:2]


def _describe_decoding(file: VideoFile, is_replaced: np.ndarray, sizes: set[tuple[int, int]]) -> Iterator[str]:
    """Yield what was worked around while decoding."""
    if file.num_broken:
        yield f"{file.num_broken} video packets could not be decoded"
    if file.corrupt:
        yield f"{len(file.corrupt)} frames are damaged; they, and those up to the next key frame, may look wrong"
    if is_replaced.any():
        yield (
            f"{is_replaced.sum()} of {len(is_replaced)} sampled frames could not be decoded and are shown by the "
            "nearest frame"
        )
    if len(sizes) > 1:
        yield "the size of the frames changes within the video; all were resized to that of the first"


def _make_empty_error(file: VideoFile) -> EmptyMediaError:
    return EmptyMediaError(
        f"{file.name}: not one frame of it could be decoded (one of more than {MAX_FRAME_PIXELS:,} pixels never is); "
        "copy, download or convert it again."
    )


__all__ = [
    "DecodedVideo",
    "FrameDecoder",
    "VideoFrame",
    "VideoProbe",
    "iterate_frames",
    "probe_video",
    "read_video",
    "resize_frames",
]
