"""Reads the frames of a video file with PyAV.

Frame number i is the i-th frame in presentation order, and its time is the time stamp (pts) that the file gives it: a
frame count, an average rate or a duration written in a header is never trusted. A pass over the packets, without
decoding, says where every frame and every key frame is; then only the stretches between a key frame and the last
frame wanted after it are decoded. Frames that cannot be got that way are looked for by decoding from the start, and
what cannot be decoded at all is replaced by its neighbour and reported. Pixels are those of a full sequential decode.
"""

import os
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .frame_sampling_llava_st import check_sampling, compute_sampled_indices
from .image_loading_llava_st import describe_source
from .media_llava_st import EmptyMediaError, MediaError
from .video_timeline_llava_st import (
    Decoder,
    IndexIsWrongError,
    Timeline,
    check_frame_size,
    check_source,
    is_image_file,
    open_container,
    open_stream,
    read_timeline,
    timeline_by_decoding,
)

try:
    import av
except ImportError:  # the remote-code check of transformers passes over imports inside try
    av = None


# Going on decoding up to the next key frame costs less than a seek, unless it skips more frames than this.
MIN_FRAMES_FOR_SEEK = 12


@dataclass
class DecodedVideo:
    """
    Sampled frames of a video and where they lie in the file.

    Args:
        frames (`torch.Tensor`): RGB, `uint8`, shape (frames, 3, height, width), contiguous.
        frame_indices (`tuple[int, ...]`): Presentation index of each frame that is shown.
        frame_seconds (`tuple[float, ...]`): Time stamp (pts) in seconds of each frame that is shown.
        width (`int`): Width in pixels of the original frame, after rotation.
        height (`int`): Height in pixels of the original frame, after rotation.
        total_num_frames (`int`): Number of frames in the file.
        fps (`float`): Average number of frames a second.
        duration_seconds (`float`): From the first frame's time stamp to the end of the last frame.
        problems (`tuple[str, ...]`): What is wrong with the file and was worked around; empty for a sound file.
        num_decoded_packets (`int`): Number of packets that were given to the decoder.
    """

    frames: torch.Tensor
    frame_indices: tuple[int, ...]
    frame_seconds: tuple[float, ...]
    width: int
    height: int
    total_num_frames: int
    fps: float
    duration_seconds: float
    problems: tuple[str, ...] = ()
    num_decoded_packets: int = 0


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
# Collecting
# --------------------------------------------------------------------------------------------------
class _FrameCollector:
    """Turns decoded frames into RGB, resizes them at once, and puts each in every place that asked for it."""

    def __init__(self, name: str, wanted_stamps: np.ndarray, size: tuple[int, int] | None):
        self.name = name
        self.size = size
        self.places: dict[int, list[int]] = {}
        for place, stamp in enumerate(wanted_stamps.tolist()):
            self.places.setdefault(stamp, []).append(place)
        self.missing = set(self.places)
        self.shown_stamps = wanted_stamps.copy()
        self.frames: np.ndarray | None = None
        self.original_size: tuple[int, int] | None = None
        self.num_replaced = 0
        self.size_changes = False
        # One converter for all frames: PyAV makes a new swscale context for each frame otherwise.
        self.converter = av.video.reformatter.VideoReformatter()

    def add(self, frame: "av.VideoFrame", stamp: int, shown_stamp: int | None = None) -> None:
        """Store the frame asked for as `stamp`; `shown_stamp` is the truth when it is another frame's picture."""
        image = self._convert(frame)
        if self.frames is None:
            self.original_size = tuple(image.shape[-2:])
            target = self.size or self.original_size
            self.frames = np.empty((len(self.shown_stamps), 3, *target), dtype=np.uint8)
        self.size_changes |= tuple(image.shape[-2:]) != self.original_size
        # Copied by numpy: torch would share the copy out among threads, which wait long for the decoder's threads.
        resized = resize_frames(image, self.frames.shape[-2:])[0].numpy()
        for place in self.places[stamp]:
            self.frames[place] = resized
        self.missing.discard(stamp)
        if shown_stamp is not None:
            self.shown_stamps[self.places[stamp]] = shown_stamp
            self.num_replaced += len(self.places[stamp])

    def _convert(self, frame: "av.VideoFrame") -> torch.Tensor:
        """Return the frame as a channels-last view, uint8, shape (1, 3, height, width), turned upright."""
        check_frame_size(self.name, frame.width, frame.height)
        rgb = self.converter.reformat(frame, format="rgb24", threads=1)
        plane = rgb.planes[0]
        rows = np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)  # rows are padded
        image = rows[: rgb.height, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3)
        quarter_turns = round(frame.rotation / 90) % 4
        # Made dense by numpy, for the same reason as in `add`; without a copy where the rows have no padding.
        image = np.ascontiguousarray(np.rot90(image, quarter_turns))
        return torch.from_numpy(image).permute(2, 0, 1)[None]


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


def _collect_by_seeking(decoder: Decoder, timeline: Timeline, collector: _FrameCollector) -> None:
    for key, targets in _plan_runs(timeline, sorted(collector.missing)):
        for frame in decoder.decode_run(key, targets, timeline):
            if frame.pts in collector.missing and not frame.is_corrupt:
                collector.add(frame, frame.pts)


def _collect_sequentially(decoder: Decoder, timeline: Timeline, collector: _FrameCollector) -> None:
    """Decode from the start; a target that does not come is shown by the nearest frame that does."""
    targets = sorted(collector.missing)
    previous: tuple[int, av.VideoFrame] | None = None
    for order, frame in enumerate(decoder.decode_all()):
        stamp = order if timeline.by_order else frame.pts
        if stamp is None:
            continue
        while targets and targets[0] <= stamp:
            target = targets.pop(0)
            if target == stamp:
                collector.add(frame, target)
                continue
            options = [(stamp, frame)] if previous is None else [previous, (stamp, frame)]
            shown_stamp, shown = min(options, key=lambda option: abs(option[0] - target))
            collector.add(shown, target, shown_stamp)
        if not targets:
            return
        previous = (stamp, frame)
    if previous is not None:
        for target in targets:
            collector.add(previous[1], target, previous[0])


# --------------------------------------------------------------------------------------------------
# All of it
# --------------------------------------------------------------------------------------------------
def read_video(
    source: "str | os.PathLike | bytes",
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    frame_range: tuple[int, int] | None = None,
    time_range: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
    num_threads: int = 0,
    allow_url: bool = False,
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
        size (`tuple[int, int]`, *optional*):
            Height and width that every frame is resized to as soon as it is decoded, so that memory does not depend on
            the size of the file's frames. They keep their own size when not given.
        num_threads (`int`, *optional*, defaults to 0):
            Decoder threads; 0 means as many as there are cores, and one inside a worker of a `DataLoader`.
        allow_url (`bool`, *optional*, defaults to `False`): Whether a `source` such as `https://...` may be fetched.
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
    if av is None:
        raise MediaError("videos are read with PyAV, which is not installed: pip install av.")
    if not isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
        raise MediaError(f"a video of type {type(source).__name__} cannot be read; give a path or the file's bytes.")
    name = describe_source(source)
    request = {"num_frames": num_frames, "fps": fps, "frame_range": frame_range, "time_range": time_range}
    check_sampling(name, **request)
    request["max_frames"] = max_frames
    if num_threads == 0 and torch.utils.data.get_worker_info() is not None:
        num_threads = 1
    try:
        check_source(source, name, allow_url)
        try:
            return _read(source, name, request, size, num_threads, allow_url, use_index=True)
        except IndexIsWrongError:
            return _read(source, name, request, size, num_threads, allow_url, use_index=False)
    except (av.error.FFmpegError, OSError) as error:
        if is_image_file(source):
            raise MediaError(f"{name}: this is an image: give it as image=..., or give a video file.") from error
        reason = " ".join(str(error.strerror or error).split())
        raise MediaError(
            f"{name}: cannot be read as a video ({reason}); it is damaged, cut short or another kind of file. Play it "
            "to check, and copy, download or convert it again."
        ) from error


def _read(
    source: "str | os.PathLike | bytes",
    name: str,
    request: dict,
    size: tuple[int, int] | None,
    num_threads: int,
    allow_url: bool,
    use_index: bool,
) -> DecodedVideo:
    num_packets = num_broken = 0
    with open_container(source, allow_url) as container:
        stream = open_stream(container, name, num_threads)
        decoder = Decoder(container, stream)
        timeline = read_timeline(container, stream, use_index)
        if timeline is not None:
            collector = _start_collecting(name, timeline, request, size)
            _collect_by_seeking(decoder, timeline, collector)
            if collector.missing and timeline.grid_step:
                raise IndexIsWrongError
            num_packets, num_broken = decoder.num_packets, decoder.num_broken
    if timeline is None:
        with open_container(source, allow_url) as container:
            stream = open_stream(container, name, num_threads)
            timeline = timeline_by_decoding(container, stream, Decoder(container, stream))
            collector = _start_collecting(name, timeline, request, size)
    if collector.missing:
        # Opened anew, because a container that has been read to its end or sought in may not start over cleanly.
        with open_container(source, allow_url) as container:
            decoder = Decoder(container, open_stream(container, name, num_threads))
            _collect_sequentially(decoder, timeline, collector)
            num_packets, num_broken = num_packets + decoder.num_packets, decoder.num_broken
    return _finish(name, timeline, collector, num_packets, num_broken)


def _start_collecting(name: str, timeline: Timeline, request: dict, size: tuple[int, int] | None) -> _FrameCollector:
    if not len(timeline.stamps):
        raise EmptyMediaError(f"{name}: there is no frame in its video stream; copy, download or convert it again.")
    end = max(timeline.stated_end_seconds, float(timeline.seconds[-1]) + timeline.frame_duration)
    indices = compute_sampled_indices(name, timeline.seconds, end_seconds=end, **request)
    return _FrameCollector(name, timeline.stamps[indices], size)


def _finish(
    name: str, timeline: Timeline, collector: _FrameCollector, num_packets: int, num_broken: int
) -> DecodedVideo:
    if collector.frames is None:
        raise MediaError(f"{name}: not one frame of it could be decoded; copy, download or convert it again.")
    problems = list(timeline.problems)
    if num_broken:
        problems.append(f"{num_broken} video packets could not be decoded")
    if collector.num_replaced:
        problems.append(
            f"{collector.num_replaced} of {len(collector.shown_stamps)} sampled frames could not be decoded and are "
            "shown by the nearest frame"
        )
    if collector.size_changes:
        problems.append("the size of the frames changes within the video; they were resized to one size")
    shown = [timeline.index_of(stamp) for stamp in collector.shown_stamps.tolist()]
    height, width = collector.original_size
    return DecodedVideo(
        frames=torch.from_numpy(collector.frames),
        frame_indices=tuple(shown),
        frame_seconds=tuple(timeline.seconds[shown].tolist()),
        width=width,
        height=height,
        total_num_frames=len(timeline.stamps),
        fps=timeline.fps,
        duration_seconds=float(timeline.seconds[-1] - timeline.seconds[0]) + timeline.frame_duration,
        problems=tuple(problems),
        num_decoded_packets=num_packets,
    )


__all__ = ["DecodedVideo", "read_video", "resize_frames"]
