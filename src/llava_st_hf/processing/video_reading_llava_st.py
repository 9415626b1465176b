"""Reads the frames of a video file with PyAV.

Frame number i is the i-th frame in presentation order, and its time is the time stamp (pts) that the file gives it: a
frame count, an average rate or a duration written in a header is never trusted. A pass over the packets, without
decoding, says where every frame and every key frame is; then only the stretches between a key frame and the last
frame wanted after it are decoded. Frames that cannot be got that way are looked for by decoding from the start, and
what cannot be decoded at all is replaced by its neighbour and reported. Pixels are those of a full sequential decode.
"""

import io
import math
import operator
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .media_llava_st import MediaError

try:
    import av
except ImportError:  # the remote-code check of transformers passes over imports inside try
    av = None


# A frame above this many pixels (8K is 33 million) is refused: a file of a few kilobytes can claim 2**31 of them.
MAX_FRAME_PIXELS = 64 * 2**20
# More frames than this in one call is a mistake in `fps` or `num_frames`; no model takes them.
MAX_SAMPLED_FRAMES = 2**14
# Containers of one self-contained file. Playlists and scripts (hls, dash, concat, imf, sdp) are not among them,
# because they open the other files and addresses which they name.
CONTAINER_FORMATS = (
    "mov,mp4,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,mxf,nut,ivf,gif,apng,rm,dv,h264,hevc,obu,av1,m4v,mjpeg,"
    "yuv4mpegpipe,swf,vob,wtv"
)
# From this many frames on, the container's own index replaces the pass over the packets where it is provably regular.
MIN_FRAMES_FOR_INDEX = 4096
# Going on decoding up to the next key frame costs less than a seek, unless it skips more frames than this.
MIN_FRAMES_FOR_SEEK = 12
# Codecs whose disposable frames can be left out without a change to any other frame.
CODECS_WITH_DISPOSABLE_FRAMES = ("h264",)
# Containers that give no presentation time: FFmpeg guesses it, wrongly where frames are stored out of order.
CONTAINERS_WITHOUT_PTS = ("avi", "h264", "hevc", "m4v", "mpegvideo", "vob", "rm")
AV_INDEX_DISCARD_FRAME = 2


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


@dataclass
class _Timeline:
    """Where the frames of a file are: stamps (pts, or ordinals when `by_order`) in presentation order."""

    stamps: np.ndarray
    seconds: np.ndarray
    key_stamps: np.ndarray
    fps: float
    stated_end_seconds: float
    by_order: bool = False
    grid_step: int | None = None  # distance of the stamps, when they were inferred from the container's index
    problems: list[str] = field(default_factory=list)

    def index_of(self, stamp: int) -> int:
        """Return the presentation index of the frame with this stamp, or of the one nearest to it."""
        right = int(np.searchsorted(self.stamps, stamp))
        candidates = [index for index in (right - 1, right) if 0 <= index < len(self.stamps)]
        return min(candidates, key=lambda index: abs(int(self.stamps[index]) - stamp))

    @property
    def frame_duration(self) -> float:
        """Length in seconds of an average frame."""
        return 1 / self.fps if self.fps > 0 else 0.0


class _IndexIsWrongError(Exception):
    """The container's index does not agree with the packets: read again with a pass over the packets."""


# --------------------------------------------------------------------------------------------------
# Which frames
# --------------------------------------------------------------------------------------------------
def compute_frame_indices(num_frames: int, first: int, last: int) -> np.ndarray:
    """
    Spread `num_frames` frame indices evenly over a clip, both ends included.

    Args:
        num_frames (`int`): Number of indices, at least 1.
        first (`int`): Index of the clip's first frame.
        last (`int`): Index of the clip's last frame.

    Returns:
        `np.ndarray`: `int64`, shape (num_frames,). One index alone is `first`.
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
        raise MediaError(f"{name}: num_frames={num_frames} and fps={fps} are both given; give one of them.")
    if num_frames is not None:
        count = _as_integer(num_frames)
        if count is None or not 1 <= count <= MAX_SAMPLED_FRAMES:
            raise MediaError(
                f"{name}: num_frames is {num_frames!r}; give a whole number from 1 to {MAX_SAMPLED_FRAMES}."
            )
    if fps is not None and not (_is_real(fps) and fps > 0):
        raise MediaError(f"{name}: fps is {fps!r}; give a number of frames a second above 0.")
    if frame_range is not None and time_range is not None:
        raise MediaError(f"{name}: frame_range and time_range are both given; give one of them.")
    for field_name, limits, unit in (("frame_range", frame_range, "frames"), ("time_range", time_range, "seconds")):
        if limits is None:
            continue
        if not isinstance(limits, (list, tuple, np.ndarray)) or len(limits) != 2 or not all(map(_is_real, limits)):
            raise MediaError(f"{name}: {field_name} is {limits!r}; give two numbers, (start, end) in {unit}.")
        if limits[0] < 0 or limits[0] > limits[1]:
            raise MediaError(f"{name}: {field_name} is {tuple(limits)}; give 0 <= start <= end, in {unit}.")
    if frame_range is not None and None in map(_as_integer, frame_range):
        raise MediaError(f"{name}: frame_range is {tuple(frame_range)}; give two whole frame numbers.")


def compute_sampled_indices(
    name: str,
    seconds: np.ndarray,
    num_frames: int | None = None,
    fps: float | None = None,
    frame_range: tuple[int, int] | None = None,
    time_range: tuple[float, float] | None = None,
    end_seconds: float | None = None,
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

    Returns:
        `np.ndarray`: `int64` presentation indices, shape (sampled frames,).

    Raises:
        `MediaError`: The request is malformed or outside the video.
    """
    check_sampling(name, num_frames, fps, frame_range, time_range)
    first, last = 0, len(seconds) - 1
    if frame_range is not None:
        first, last = map(_as_integer, frame_range)
        if last >= len(seconds):
            raise MediaError(
                f"{name}: frame_range {(first, last)} is outside the video; its frames are 0 to {len(seconds) - 1}."
            )
    elif time_range is not None:
        first, last = _find_time_range(name, seconds, time_range, end_seconds)
    if fps is not None:
        # The slack keeps a last frame whose time stamp was rounded down, as matroska does to milliseconds.
        count = math.floor((seconds[last] - seconds[first]) * fps + 1e-2) + 1
        if count > MAX_SAMPLED_FRAMES:
            raise MediaError(f"{name}: fps={fps} means {count} frames; lower it to have {MAX_SAMPLED_FRAMES} at most.")
        return _find_nearest(seconds, seconds[first] + np.arange(count) / fps).clip(first, last)
    if num_frames is not None:
        return compute_frame_indices(_as_integer(num_frames), first, last)
    if last - first >= MAX_SAMPLED_FRAMES:
        raise MediaError(f"{name}: {last - first + 1} frames are too many for one call; give num_frames or fps.")
    return np.arange(first, last + 1)


def _find_time_range(
    name: str, seconds: np.ndarray, time_range: tuple[float, float], end_seconds: float | None
) -> tuple[int, int]:
    start, end = map(float, time_range)
    clip_end = max(float(seconds[-1]), end_seconds or 0.0)
    # Annotations are often rounded to the millisecond, in either direction.
    inside = np.nonzero((seconds >= start - 1e-6) & (seconds <= end + 1e-6))[0]
    if start > clip_end or end > clip_end + 1e-3 or end < seconds[0]:
        raise MediaError(
            f"{name}: time_range {(start, end)} is outside the video; give seconds from {seconds[0]:.3f} to "
            f"{clip_end:.3f}."
        )
    if not len(inside):
        raise MediaError(f"{name}: no frame lies in time_range {(start, end)}; widen it to a frame's length at least.")
    return int(inside[0]), int(inside[-1])


def _find_nearest(seconds: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return for each time the index of the frame with the nearest time stamp, the earlier one of two as near."""
    right = np.searchsorted(seconds, times).clip(1, max(len(seconds) - 1, 1))
    if len(seconds) == 1:
        return np.zeros(len(times), dtype=np.int64)
    return np.where(times - seconds[right - 1] <= seconds[right] - times, right - 1, right)


def _is_real(value: object) -> bool:
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _as_integer(value: object) -> int | None:
    """Return the whole number that `value` is (3, 3.0 or numpy's), or None."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        return None
    return operator.index(value)


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


# --------------------------------------------------------------------------------------------------
# The file
# --------------------------------------------------------------------------------------------------
def check_frame_size(name: str, width: int, height: int) -> None:
    """Raise `MediaError` if a frame has more than `MAX_FRAME_PIXELS` pixels."""
    if width * height > MAX_FRAME_PIXELS:
        raise MediaError(
            f"{name}: its frames are {width} x {height} pixels, more than the limit of {MAX_FRAME_PIXELS}; scale the "
            "video down first."
        )


def describe_source(source: "str | os.PathLike | bytes") -> str:
    """Return the name of a video for messages, on one line."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"video of {len(source)} bytes"
    return " ".join(os.fspath(source).split())


def is_url(source: object) -> bool:
    """Tell whether a source is an address (http://...) and not a path."""
    return isinstance(source, str) and "://" in source


def _check_source(source: "str | os.PathLike | bytes", name: str, allow_url: bool) -> None:
    if isinstance(source, (bytes, bytearray, memoryview)):
        if not len(source):
            raise MediaError(f"{name}: there is nothing in it; give the whole file's bytes.")
        return
    if is_url(source):
        if not allow_url:
            raise MediaError(f"{name}: is an address; download it and give the file, or pass allow_url=True.")
        return
    path = Path(source)
    if "\0" in str(path) or not path.exists():
        raise MediaError(f"{name}: no such file; check the path.")
    if path.is_dir():
        raise MediaError(f"{name}: is a directory; give the path of a video file.")
    if not path.is_file():  # a pipe or a device would be waited for without end
        raise MediaError(f"{name}: is not a regular file; copy the video to a file.")
    if path.stat().st_size == 0:
        raise MediaError(f"{name}: is an empty file; copy or download it again.")


def _open_container(source: "str | os.PathLike | bytes", allow_url: bool) -> "av.container.InputContainer":
    """Open a source that `_check_source` let through; FFmpeg may open that one file or address and nothing else."""
    protocols = "file"
    if isinstance(source, (bytes, bytearray, memoryview)):
        file = io.BytesIO(source)
    elif allow_url and is_url(source):
        file, protocols = source, "http,https,tcp,tls"
    else:
        file = f"file:{os.fspath(source)}"  # the prefix keeps FFmpeg from reading a protocol out of the file's name
    options = {"format_whitelist": CONTAINER_FORMATS, "protocol_whitelist": protocols}
    return av.open(file, container_options=options, metadata_errors="replace", timeout=60 if allow_url else None)


def _open_stream(container: "av.container.InputContainer", name: str, num_threads: int) -> "av.video.VideoStream":
    """Return the first video stream that is not a cover picture, ready to decode."""
    covers = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        raise MediaError(f"{name}: there is no video stream in it; give a file with a picture track.")
    stream = streams[0]
    if stream.codec_context is None:
        raise MediaError(f"{name}: no decoder for its video stream; convert it to H.264 with ffmpeg.")
    check_frame_size(name, stream.codec_context.width, stream.codec_context.height)
    stream.codec_context.thread_type = "AUTO"
    stream.codec_context.thread_count = num_threads
    return stream


# --------------------------------------------------------------------------------------------------
# Where the frames are
# --------------------------------------------------------------------------------------------------
def _read_timeline(
    container: "av.container.InputContainer", stream: "av.video.VideoStream", use_index: bool
) -> _Timeline | None:
    """Find every frame of the file without decoding, or return None where the packets do not tell."""
    if use_index and (timeline := _timeline_from_index(container, stream)) is not None:
        return timeline
    if stream.codec_context.has_b_frames and container.format.name in CONTAINERS_WITHOUT_PTS:
        return None
    shown, keys, num_packets, problems, has_all_stamps = [], [], 0, [], True
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue  # the flush packet at the end
            num_packets += 1
            if packet.pts is None:
                has_all_stamps = False
                continue
            if packet.is_keyframe:
                keys.append(packet.pts)  # also of a packet that an edit list hides: decoding can start there
            if not packet.is_discard:
                shown.append(packet.pts)
    except av.error.FFmpegError as error:
        problems.append(f"the file breaks off after {num_packets} video packets ({error.strerror})")
    stamps = np.unique(np.asarray(shown, dtype=np.int64))
    if not has_all_stamps or len(stamps) != len(shown):
        return None
    num_stated = len(stream.index_entries) if _is_indexed_in_header(container) else 0
    if num_stated > num_packets:
        problems.append(f"the file is cut short: it lists {num_stated} video packets and holds {num_packets}")
    return _build_timeline(container, stream, stamps, np.unique(np.asarray(keys, dtype=np.int64)), problems)


def _timeline_from_index(container: "av.container.InputContainer", stream: "av.video.VideoStream") -> _Timeline | None:
    """Infer the frames of a long mp4 from its index, when that is whole and of constant frame rate."""
    if not _is_indexed_in_header(container) or len(stream.index_entries) < MIN_FRAMES_FOR_INDEX:
        return None
    rows = np.array([(e.timestamp, e.flags, e.pos + e.size) for e in stream.index_entries], dtype=np.int64)
    steps = np.diff(rows[:, 0])
    step = int(steps[0])
    if step <= 0 or (steps != step).any() or (rows[:, 1] & AV_INDEX_DISCARD_FRAME).any():
        return None
    if rows[:, 2].max() > container.size:
        return None  # cut short: the pass over the packets finds out where
    # The index holds decoding times; the frames are shown on the same grid, shifted by the delay of the B-frames.
    head = [packet for _, packet in zip(range(64), container.demux(stream), strict=False) if packet.size]
    if not head or any(packet.pts is None for packet in head):
        return None
    stamps = min(packet.pts for packet in head) + step * np.arange(len(rows), dtype=np.int64)
    is_key = (rows[:, 1] & 1).astype(bool)
    timeline = _build_timeline(container, stream, stamps, rows[is_key, 0] + (head[0].pts - rows[0, 0]), [])
    timeline.grid_step = step
    return timeline


def _is_indexed_in_header(container: "av.container.InputContainer") -> bool:
    # Of a fragmented mp4 and of the other containers the index grows as packets are read.
    return "mov" in container.format.name.split(",")


def _build_timeline(
    container: "av.container.InputContainer",
    stream: "av.video.VideoStream",
    stamps: np.ndarray,
    key_stamps: np.ndarray,
    problems: list[str],
) -> _Timeline:
    # One rounding only, so that the seconds are those of pts * time_base.
    seconds = stamps * stream.time_base.numerator / stream.time_base.denominator
    if len(stamps) > 1 and seconds[-1] > seconds[0]:
        fps = (len(seconds) - 1) / float(seconds[-1] - seconds[0])
    else:
        fps = float(stream.average_rate or 0)
    starts_at = (container.start_time or 0) / av.time_base
    stated_end = starts_at + container.duration / av.time_base if container.duration else 0.0
    timeline = _Timeline(stamps, seconds, key_stamps, fps, stated_end, problems=problems)
    if len(seconds):
        end = float(seconds[-1]) + timeline.frame_duration
        if stated_end - end > max(0.25, 0.1 * stated_end) and not problems:
            problems.append(f"its pictures end at {end:.3f} s, though the file says that it lasts {stated_end:.3f} s")
    return timeline


def _timeline_by_decoding(
    container: "av.container.InputContainer", stream: "av.video.VideoStream", decoder: "_Decoder"
) -> _Timeline:
    """Count the frames by decoding them all: for files whose packets carry no time stamps, or the same one twice."""
    rate = float(stream.average_rate or 25)
    seconds = []
    for frame in decoder.decode_all():
        stamp = frame.pts if frame.pts is not None else frame.dts
        seconds.append(float(stamp * stream.time_base) if stamp is not None else len(seconds) / rate)
    times = np.asarray(seconds, dtype=np.float64)
    if (np.diff(times) <= 0).any():
        times = np.arange(len(times)) / rate
    timeline = _build_timeline(container, stream, np.arange(len(times)), np.zeros(0, dtype=np.int64), [])
    timeline.seconds, timeline.fps, timeline.by_order = times, rate, True
    return timeline


# --------------------------------------------------------------------------------------------------
# Decoding
# --------------------------------------------------------------------------------------------------
class _Decoder:
    """Decodes packets of one stream, and goes on after the ones that are broken."""

    def __init__(self, container: "av.container.InputContainer", stream: "av.video.VideoStream"):
        self.container = container
        self.stream = stream
        self.context = stream.codec_context
        self.num_packets = 0
        self.num_broken = 0
        self.can_skip = self.context.name in CODECS_WITH_DISPOSABLE_FRAMES
        self.skips = False

    def decode_all(self) -> Iterator["av.VideoFrame"]:
        """Yield every frame from where the file stands, in presentation order."""
        self._skip_disposable(False)
        for packet in self._demux():
            yield from self._decode(packet)
        yield from self._decode(None)

    def decode_run(self, key: int, targets: list[int], timeline: _Timeline) -> Iterator["av.VideoFrame"]:
        """Seek to the key frame and yield at least the target frames (ascending pts) that can be decoded from it."""
        self.container.seek(key, stream=self.stream, backward=True, any_frame=False)
        todo, started = set(targets), False
        for packet in self._demux():
            if not started:
                if packet.pts is None or packet.pts > targets[0]:
                    return  # the seek came out too late: these frames are left to the sequential pass
                started = packet.is_keyframe
                if not started:
                    continue
            if timeline.grid_step and (packet.pts - int(timeline.stamps[0])) % timeline.grid_step:
                raise _IndexIsWrongError
            # A disposable frame that nobody asked for is not decoded: no other frame depends on it.
            self._skip_disposable(packet.pts not in todo)
            yield from self._decode(packet)
            todo.discard(packet.pts)
            if not todo:
                break
        yield from self._decode(None)

    def _demux(self) -> Iterator["av.Packet"]:
        try:
            yield from (packet for packet in self.container.demux(self.stream) if packet.size)
        except av.error.FFmpegError:
            return  # the end of a file that is cut short; the pass over the packets has reported it

    def _decode(self, packet: "av.Packet | None") -> list["av.VideoFrame"]:
        self.num_packets += packet is not None
        try:
            return self.context.decode(packet)
        except av.error.FFmpegError:
            self.num_broken += 1
            return []

    def _skip_disposable(self, skip: bool) -> None:
        if self.can_skip and skip != self.skips:
            self.context.skip_frame = "NONREF" if skip else "DEFAULT"
            self.skips = skip


def _plan_runs(timeline: _Timeline, targets: list[int]) -> list[tuple[int, list[int]]]:
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


def _collect_by_seeking(decoder: _Decoder, timeline: _Timeline, collector: _FrameCollector) -> None:
    for key, targets in _plan_runs(timeline, sorted(collector.missing)):
        for frame in decoder.decode_run(key, targets, timeline):
            if frame.pts in collector.missing and not frame.is_corrupt:
                collector.add(frame, frame.pts)


def _collect_sequentially(decoder: _Decoder, timeline: _Timeline, collector: _FrameCollector) -> None:
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
    if num_threads == 0 and torch.utils.data.get_worker_info() is not None:
        num_threads = 1
    try:
        _check_source(source, name, allow_url)
        try:
            return _read(source, name, request, size, num_threads, allow_url, use_index=True)
        except _IndexIsWrongError:
            return _read(source, name, request, size, num_threads, allow_url, use_index=False)
    except (av.error.FFmpegError, OSError) as error:
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
    with _open_container(source, allow_url) as container:
        stream = _open_stream(container, name, num_threads)
        decoder = _Decoder(container, stream)
        timeline = _read_timeline(container, stream, use_index)
        if timeline is not None:
            collector = _start_collecting(name, timeline, request, size)
            _collect_by_seeking(decoder, timeline, collector)
            if collector.missing and timeline.grid_step:
                raise _IndexIsWrongError
            num_packets, num_broken = decoder.num_packets, decoder.num_broken
    if timeline is None:
        with _open_container(source, allow_url) as container:
            stream = _open_stream(container, name, num_threads)
            timeline = _timeline_by_decoding(container, stream, _Decoder(container, stream))
            collector = _start_collecting(name, timeline, request, size)
    if collector.missing:
        # Opened anew, because a container that has been read to its end or sought in may not start over cleanly.
        with _open_container(source, allow_url) as container:
            decoder = _Decoder(container, _open_stream(container, name, num_threads))
            _collect_sequentially(decoder, timeline, collector)
            num_packets, num_broken = num_packets + decoder.num_packets, decoder.num_broken
    return _finish(name, timeline, collector, num_packets, num_broken)


def _start_collecting(name: str, timeline: _Timeline, request: dict, size: tuple[int, int] | None) -> _FrameCollector:
    if not len(timeline.stamps):
        raise MediaError(f"{name}: there is no frame in its video stream; copy, download or convert it again.")
    end = max(timeline.stated_end_seconds, float(timeline.seconds[-1]) + timeline.frame_duration)
    indices = compute_sampled_indices(name, timeline.seconds, end_seconds=end, **request)
    return _FrameCollector(name, timeline.stamps[indices], size)


def _finish(
    name: str, timeline: _Timeline, collector: _FrameCollector, num_packets: int, num_broken: int
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


__all__ = ["DecodedVideo", "compute_frame_indices", "read_video", "resize_frames"]
