"""A video file opened safely: what may be opened, where its frames are, and its packets decoded.

A file is opened as that one file and nothing else, whatever it names. A pass over its packets, without decoding, says
where every frame and every key frame is; what a header says of that is never trusted. Broken packets are passed over
and counted.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .image_loading_llava_st import is_url, refuse_url
from .media_llava_st import EmptyMediaError, MediaError, OversizedMediaError

try:
    import av
except ImportError:  # the remote-code check of transformers passes over imports inside try
    av = None


# A frame above this many pixels (8K is 33 million) is refused: a file of a few kilobytes can claim 2**31 of them.
MAX_FRAME_PIXELS = 64 * 2**20
# Containers of one self-contained file. Playlists and scripts (hls, dash, concat, imf, sdp) are not among them,
# because they open the other files and addresses which they name.
CONTAINER_FORMATS = (
    "mov,mp4,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,mxf,nut,ivf,gif,apng,rm,dv,h264,hevc,obu,av1,m4v,mjpeg,"
    "yuv4mpegpipe,swf,vob,wtv"
)
# First bytes of still pictures that FFmpeg opens with none of these; WebP has its own in the middle.
IMAGE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")
# From this many frames on, the container's own index replaces the pass over the packets where it is provably regular.
MIN_FRAMES_FOR_INDEX = 4096
# Codecs whose disposable frames can be left out without a change to any other frame.
CODECS_WITH_DISPOSABLE_FRAMES = ("h264",)
# Containers that give no presentation time: FFmpeg guesses it, wrongly where frames are stored out of order.
CONTAINERS_WITHOUT_PTS = ("avi", "h264", "hevc", "m4v", "mpegvideo", "vob", "rm")
AV_INDEX_DISCARD_FRAME = 2


# --------------------------------------------------------------------------------------------------
# The file
# --------------------------------------------------------------------------------------------------
def check_frame_size(name: str, width: int, height: int) -> None:
    """Raise `OversizedMediaError` if a frame has more than `MAX_FRAME_PIXELS` pixels."""
    if width * height > MAX_FRAME_PIXELS:
        raise OversizedMediaError(
            f"{name}: its frames are {width} x {height} pixels, more than the limit of {MAX_FRAME_PIXELS}; scale the "
            "video down first."
        )


def check_source(source: "str | os.PathLike | bytes", name: str, allow_url: bool) -> None:
    """Raise `MediaError` for a source that is not the bytes or the path of one file, or an address that is allowed."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        if not len(source):
            raise EmptyMediaError(f"{name}: there is nothing in it; give the whole file's bytes.")
        return
    refuse_url(source, allow_url)
    if is_url(source):
        return
    path = Path(source)
    if "\0" in str(path) or not path.exists():
        raise MediaError(f"{name}: no such file; check the path.")
    if path.is_dir():
        raise MediaError(f"{name}: is a directory; give the path of a video file.")
    if not path.is_file():  # a pipe or a device would be waited for without end
        raise MediaError(f"{name}: is not a regular file; copy the video to a file.")
    if path.stat().st_size == 0:
        raise EmptyMediaError(f"{name}: is an empty file; copy or download it again.")


def is_image_file(source: "str | os.PathLike | bytes") -> bool:
    """Tell whether a source is a file that begins like a still picture (JPEG, PNG, WebP, BMP or TIFF)."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        head = bytes(source[:12])
    elif is_url(source):
        return False
    else:
        try:
            with open(source, "rb") as file:
                head = file.read(12)
        except OSError:  # asked after a failure, which may have been the same one
            return False
    return head.startswith(IMAGE_SIGNATURES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def open_container(source: "str | os.PathLike | bytes", allow_url: bool) -> "av.container.InputContainer":
    """Open a source that `check_source` let through; FFmpeg may open that one file or address and nothing else."""
    protocols = "file"
    if isinstance(source, (bytes, bytearray, memoryview)):
        file = io.BytesIO(source)
    elif allow_url and is_url(source):
        file, protocols = source, "http,https,tcp,tls"
    else:
        file = f"file:{os.fspath(source)}"  # the prefix keeps FFmpeg from reading a protocol out of the file's name
    options = {"format_whitelist": CONTAINER_FORMATS, "protocol_whitelist": protocols}
    return av.open(file, container_options=options, metadata_errors="replace", timeout=60 if allow_url else None)


def open_stream(container: "av.container.InputContainer", name: str, num_threads: int) -> "av.video.VideoStream":
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
@dataclass
class Timeline:
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


class IndexIsWrongError(Exception):
    """The container's index does not agree with the packets: read again with a pass over the packets."""


def read_timeline(
    container: "av.container.InputContainer", stream: "av.video.VideoStream", use_index: bool
) -> Timeline | None:
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


def _timeline_from_index(container: "av.container.InputContainer", stream: "av.video.VideoStream") -> Timeline | None:
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
) -> Timeline:
    # One rounding only, so that the seconds are those of pts * time_base.
    seconds = stamps * stream.time_base.numerator / stream.time_base.denominator
    if len(stamps) > 1 and seconds[-1] > seconds[0]:
        fps = (len(seconds) - 1) / float(seconds[-1] - seconds[0])
    else:
        fps = float(stream.average_rate or 0)
    starts_at = (container.start_time or 0) / av.time_base
    stated_end = starts_at + container.duration / av.time_base if container.duration else 0.0
    timeline = Timeline(stamps, seconds, key_stamps, fps, stated_end, problems=problems)
    if len(seconds):
        end = float(seconds[-1]) + timeline.frame_duration
        if stated_end - end > max(0.25, 0.1 * stated_end) and not problems:
            problems.append(f"its pictures end at {end:.3f} s, though the file says that it lasts {stated_end:.3f} s")
    return timeline


def timeline_by_decoding(
    container: "av.container.InputContainer", stream: "av.video.VideoStream", decoder: "Decoder"
) -> Timeline:
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
class Decoder:
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

    def decode_run(self, key: int, targets: list[int], timeline: Timeline) -> Iterator["av.VideoFrame"]:
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
                raise IndexIsWrongError
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


__all__ = [
    "Decoder",
    "IndexIsWrongError",
    "Timeline",
    "check_frame_size",
    "check_source",
    "is_image_file",
    "open_container",
    "open_stream",
    "read_timeline",
    "timeline_by_decoding",
]
