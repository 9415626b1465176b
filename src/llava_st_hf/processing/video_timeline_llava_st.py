"""A video file opened safely, and its timeline: the one clock of everything that reads, samples or draws its frames.

A file is opened as that one file and nothing else, whatever it names. A pass over its packets, without decoding, says
where every frame and every key frame is; what a header says of that is never trusted. Broken packets are passed over
and counted.
"""

import io
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np

from .animation_conversion_llava_st import convert_webp
from .image_loading_llava_st import (
    BYTES_TYPES,
    FILE_TYPES,
    check_source,
    count_animation_frames,
    describe_source,
    is_image_file,
    is_url,
    read_data_uri,
)
from .media_fetching_llava_st import fetch_media
from .media_llava_st import MAX_FRAME_PIXELS, EmptyMediaError, MediaError, OversizedMediaError
from .video_index_llava_st import MAX_SAMPLES, check_index

try:
    import av
except ImportError:  # the remote-code check of transformers passes over imports inside try
    av = None

# Pixels that claim to be so many times as wide as high, or the other way round, count as square.
MAX_PIXEL_ASPECT = 16
# Pixels this near to square are: files that were scaled to a whole number of pixels note the rest of the rounding.
MIN_PIXEL_STRETCH = 0.01
# Containers of one self-contained file. Playlists and scripts (hls, dash, concat, imf, sdp) are not among them,
# because they open the other files and addresses which they name.
CONTAINER_FORMATS = (
    "mov,mp4,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,mxf,nut,ivf,gif,apng,rm,dv,h264,hevc,obu,av1,m4v,mjpeg,"
    "yuv4mpegpipe,swf,vob,wtv"
)
MAX_OPEN_SECONDS = 30  # a file that names things without end (a title has no limit) would take hours
# From this many frames on, the container's own index replaces the pass over the packets where it is provably regular.
MIN_FRAMES_FOR_INDEX = 4096
# Codecs whose disposable frames can be left out without a change to any other frame.
CODECS_WITH_DISPOSABLE_FRAMES = ("h264",)
# Containers that give no presentation time, or not all of whose files do: FFmpeg guesses it, wrongly where frames are
# stored out of order.
CONTAINERS_WITHOUT_PTS = ("avi", "vob", "rm", "mxf")
# Of these, the one that never gives it: its chunks lie at the times at which frames are shown, in whatever order.
CONTAINER_OF_SLOTS = "avi"
# Containers whose header may state when they end, where others state how long they last.
CONTAINERS_WITH_END = ("matroska,webm", "flv", "asf")
# Decoders that give alpha too, where FFmpeg's own of these codecs leave it out.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Streams without a container: they hold no times, and the rate that FFmpeg gives them is often its own default.
BARE_STREAMS = ("h264", "hevc", "m4v", "mpegvideo", "mjpeg", "obu")
# Frames a second of a stream that does not say its own.
GUESSED_FPS = 25
# Packets after which a bare stream has named its rate, if it ever does.
MAX_PACKETS_TO_RATE = 64
AV_INDEX_DISCARD_FRAME = 2


# --------------------------------------------------------------------------------------------------
# The file
# --------------------------------------------------------------------------------------------------
class VideoFile:
    """
    A video file while it is open, see `open_video`; decodes its packets and goes on after the ones that are broken.

    Args:
        source (`str`, `os.PathLike` or `bytes`): Path of the file, or its content.
        num_threads (`int`): Decoder threads; 0 means as many as there are cores.
        name (`str`): What to call it in messages.
    """

    def __init__(self, source: "str | os.PathLike | bytes", num_threads: int, name: str):
        self.source, self.num_threads, self.name = source, num_threads, name
        self.converted: bytes | None = None  # an animation that FFmpeg does not read, as a file that it does
        self.container: av.container.InputContainer | None = None
        self.stream: av.video.VideoStream | None = None
        self.decoder: av.video.VideoCodecContext | None = None
        self.notes: tuple[str, ...] = ()  # what of it is not read
        self.pixel_aspect = Fraction(1)  # width of a pixel, as it is stored, to its height
        self.first_size = (0, 0)  # width and height that the header names, before a quarter turn
        self.num_decoded = 0  # packets
        self.num_broken = 0  # of them

    def reopen(self) -> None:
        """Open the file at its start; one that was read to its end, or sought in, may not start over cleanly."""
        self.close()
        self.container = _open_container(self.converted or self.source, self.name)
        self.stream = self._choose_stream()
        context = self.stream.codec_context
        if context is None:
            raise MediaError(f"{self.name}: no decoder for its video stream; convert it to H.264 with ffmpeg.")
        is_avi = self.container.format.name == CONTAINER_OF_SLOTS
        if is_avi and self.stream.frames != 1 and len(self.stream.index_entries) < 2:
            self.notes += ("its index is missing: its frames are those that a pass over the file finds",)
        self.pixel_aspect = self._find_pixel_aspect()
        self.first_size = self.compute_displayed_size(context.width, context.height)
        self.check_frame_size(*self.first_size)
        self.decoder = self._choose_decoder()
        self.decoder.thread_type = "AUTO"
        self.decoder.thread_count = self.num_threads

    def _choose_decoder(self) -> "av.video.VideoCodecContext":
        context, tags = self.stream.codec_context, self.stream.metadata.items()
        name = ALPHA_DECODERS.get(context.name)
        if name in av.codecs_available and ("alpha_mode", "1") in ((tag.lower(), value) for tag, value in tags):
            return av.CodecContext.create(name, "r")
        return context

    def _choose_stream(self) -> "av.video.VideoStream":
        """Return the track that players show: one that moves, is the default, and then the one of most pixels."""
        kinds = av.stream.Disposition
        streams = [stream for stream in self.container.streams.video if not stream.disposition & kinds.attached_pic]
        if not streams:
            raise MediaError(f"{self.name}: there is no video stream in it; give a file with a picture track.")

        def rank(stream: "av.video.VideoStream") -> tuple[bool, bool, bool, int]:
            context = stream.codec_context
            if context is None:
                return False, False, False, 0
            # A single frame is a cover, or the still picture beside the track of an animated AVIF.
            is_default = bool(stream.disposition & kinds.default)
            return True, stream.frames != 1, is_default, context.width * context.height

        chosen = max(streams, key=rank)  # the first of several that rank alike
        self.notes = ()
        if len(streams) > 1:
            names = {
                stream: f"track {stream.index}"
                + (f" ({stream.codec_context.width}x{stream.codec_context.height})" if stream.codec_context else "")
                for stream in streams
            }
            others = ", ".join(name for stream, name in names.items() if stream is not chosen)
            self.notes = (f"it has {len(streams)} video tracks: {names[chosen]} is read, and not {others}",)
        return chosen

    def _find_pixel_aspect(self) -> Fraction:
        aspect = self.stream.sample_aspect_ratio
        if not aspect or not 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
            return Fraction(1)
        return aspect if abs(aspect - 1) > MIN_PIXEL_STRETCH else Fraction(1)

    def compute_displayed_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of a stored frame with square pixels: its height, and the width that players give it."""
        return max(1, round(width * self.pixel_aspect)), height

    def close(self) -> None:
        """Close the file."""
        if self.container is not None:
            self.container.close()

    def check_frame_size(self, width: int, height: int) -> None:
        """Raise `OversizedMediaError` if a frame has more than `MAX_FRAME_PIXELS` pixels."""
        if width * height > MAX_FRAME_PIXELS:
            raise OversizedMediaError(
                f"{self.name}: its frames are {width} x {height} pixels, more than the limit of {MAX_FRAME_PIXELS}; "
                "scale the video down first."
            )

    def check_num_frames(self, num_frames: int) -> None:
        """Raise `OversizedMediaError` if a file has more than `MAX_SAMPLES` frames."""
        if num_frames > MAX_SAMPLES:
            raise OversizedMediaError(
                f"{self.name}: it has more frames than the limit of {MAX_SAMPLES:,}; cut the clip into parts."
            )

    def decode_all(self) -> Iterator["av.VideoFrame"]:
        """Yield every frame from the start, in presentation order."""
        self.reopen()
        for packet in self.demux():
            yield from self._decode(packet)
        yield from self._decode(None)

    def decode_run(self, key: int, targets: list[int], timeline: "Timeline") -> Iterator["av.VideoFrame"]:
        """Seek to the key frame and yield at least the target frames (ascending pts) that can be decoded from it."""
        self.container.seek(key, stream=self.stream, backward=True, any_frame=False)
        self.decoder.flush_buffers()
        can_skip = self.stream.codec_context.name in CODECS_WITH_DISPOSABLE_FRAMES
        todo, started = set(targets), False
        for packet in self.demux():
            if not started:
                if packet.pts is None or packet.pts > targets[0]:
                    return  # the seek came out too late: these frames are left to the sequential pass
                started = packet.is_keyframe
                if not started:
                    continue
            if timeline.grid_step and (packet.pts - int(timeline.stamps[0])) % timeline.grid_step:
                raise IndexIsWrongError
            if can_skip:  # a disposable frame that nobody asked for: no other frame depends on it
                self.stream.codec_context.skip_frame = "DEFAULT" if packet.pts in todo else "NONREF"
            yield from self._decode(packet)
            todo.discard(packet.pts)
            if not todo:
                break
        yield from self._decode(None)

    def demux(self) -> Iterator["av.Packet"]:
        """Yield the packets of the stream up to the end of the file, or to where it is cut short."""
        try:
            yield from (packet for packet in self.container.demux(self.stream) if packet.size)
        except av.error.FFmpegError:
            return  # the end of a file that is cut short; the pass over the packets has reported it

    def _decode(self, packet: "av.Packet | None") -> list["av.VideoFrame"]:
        self.num_decoded += packet is not None
        try:
            return self.decoder.decode(packet)
        except av.error.FFmpegError:
            self.num_broken += 1
            return []


@contextmanager
def open_video(
    source: "str | os.PathLike | bytes", num_threads: int = 0, allow_url: bool | Mapping = False
) -> Iterator[VideoFile]:
    """
    Open a video file, without decoding anything.

    Args:
        source (`str`, `os.PathLike` or `bytes`): Path of the file, or its content.
        num_threads (`int`, *optional*, defaults to 0): Decoder threads; 0 means as many as there are cores.
        allow_url (`bool` or `dict`, *optional*, defaults to `False`):
            Whether an address on the network may be fetched, or within which limits, see `FetchRules`.

    Yields:
        `VideoFile`: With the video track that players show.

    Raises:
        `MediaError`: The source cannot be opened, or later not be read; the message says what to do.
    """
    if av is None:
        raise MediaError("videos are read with PyAV, which is not installed: pip install av.")
    if not isinstance(source, FILE_TYPES):
        raise MediaError(f"a video of type {type(source).__name__} cannot be read; give a path or the file's bytes.")
    name, source = describe_source(source), read_data_uri(source)
    check_source(source, allow_url)
    source = fetch_media(source, allow_url) if is_url(source) else source
    check_index(source, name)
    file = VideoFile(source, num_threads, name)
    try:
        if is_image_file(source):
            if not count_animation_frames(source):
                raise MediaError(f"{file.name}: this is an image: give it as image=..., or give a video file.")
            file.converted = convert_webp(source, name)
        file.reopen()
        yield file
    except (av.error.FFmpegError, OSError) as error:
        reason = " ".join(str(error.strerror or error).split())
        raise MediaError(
            f"{file.name}: cannot be read as a video ({reason}); it is damaged, cut short or another kind of file. "
            "Play it to check, and copy, download or convert it again."
        ) from error
    finally:
        file.close()


class _TimedFile(io.BytesIO):
    """The content of a file, which ends at a deadline."""

    deadline = float("inf")

    def read(self, size: int | None = -1) -> bytes:
        return b"" if time.monotonic() > self.deadline else super().read(size)


def _open_container(source: "str | os.PathLike | bytes", name: str) -> "av.container.InputContainer":
    """Open a source that `check_source` let through; FFmpeg may open that one file and nothing else, and in time."""
    # The prefix keeps FFmpeg from reading a protocol out of the file's name.
    file = _TimedFile(source) if isinstance(source, BYTES_TYPES) else f"file:{os.fspath(source)}"
    allowed = {"format_whitelist": CONTAINER_FORMATS, "protocol_whitelist": "file"}
    options = {"container_options": allowed, "timeout": (MAX_OPEN_SECONDS, None)}
    late = time.monotonic() + MAX_OPEN_SECONDS
    if is_content := isinstance(source, BYTES_TYPES):
        file.deadline = late
    try:
        container = av.open(file, metadata_errors="replace", **options)
    except av.error.FFmpegError:
        if time.monotonic() <= late:
            raise
        container = None
    if container is None or time.monotonic() > late:  # a file may be opened with the part of it that was read
        raise MediaError(
            f"{name}: it takes longer than {MAX_OPEN_SECONDS} s to open, for what it names beside its pictures or for "
            "a slow disk: copy it, or convert it with ffmpeg -map_metadata -1."
        )
    if is_content:
        file.deadline = float("inf")
    return container


# --------------------------------------------------------------------------------------------------
# When the frames are
# --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Timeline:
    """
    When each frame of a file is, in presentation order.

    Args:
        stamps (`np.ndarray`): Time stamp (pts) of each frame, or its number when `by_order`; int64, ascending.
        seconds (`np.ndarray`): Time of each frame; float64, ascending.
        fps (`float`): Average number of frames a second.
        time_base (`Fraction`): Unit in seconds of the stream's own stamps.
        stated_end_seconds (`float`): Where the file says that it ends; 0 where it does not say.
        key_stamps (`np.ndarray`, *optional*): Stamps that decoding can start at.
        by_order (`bool`, *optional*, defaults to `False`): Whether frames are known by their number only.
        grid_step (`int`, *optional*): Distance of the stamps, when they were inferred from the container's index.
        faults (`tuple[str, ...]`, *optional*, defaults to `()`): What is missing of the file.
        notes (`tuple[str, ...]`, *optional*, defaults to `()`): How its times were counted, and what is not read.
    """

    stamps: np.ndarray
    seconds: np.ndarray
    fps: float
    time_base: Fraction
    stated_end_seconds: float
    key_stamps: np.ndarray | None = None
    by_order: bool = False
    grid_step: int | None = None
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def frame_duration(self) -> float:
        """Length in seconds of an average frame."""
        return 1 / self.fps if self.fps > 0 else 0.0

    @property
    def duration_seconds(self) -> float:
        """From the first frame's time to the end of the last frame."""
        return float(self.seconds[-1] - self.seconds[0]) + self.frame_duration

    @property
    def end_seconds(self) -> float:
        """End of the file: of its last frame, or where it says that it ends, whichever is later."""
        return max(self.stated_end_seconds, float(self.seconds[-1]) + self.frame_duration)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the file, told from the values that this timeline gives out."""
        stated, end = self.stated_end_seconds, float(self.seconds[-1]) + self.frame_duration
        if self.faults or stated - end <= max(0.25, 0.1 * stated):
            return self.faults + self.notes
        return (f"its pictures end at {end:.3f} s, though the file says that it lasts {stated:.3f} s", *self.notes)

    def index_of(self, stamp: int) -> int:
        """Return the presentation index of the frame with this stamp, or of the one nearest to it."""
        right = int(np.searchsorted(self.stamps, stamp))
        candidates = [index for index in (right - 1, right) if 0 <= index < len(self.stamps)]
        return min(candidates, key=lambda index: abs(int(self.stamps[index]) - stamp))


class IndexIsWrongError(Exception):
    """The container's index does not agree with the packets: read again with a pass over the packets."""


def read_timeline(file: VideoFile, use_index: bool = True) -> Timeline:
    """
    Find when each frame of a file is, without decoding it where its packets tell.

    Args:
        file (`VideoFile`): A file that was just opened.
        use_index (`bool`, *optional*, defaults to `True`):
            Whether the index of a long file of constant rate is believed; what decodes its frames then checks it.

    Returns:
        `Timeline`: Of at least one frame.

    Raises:
        `EmptyMediaError`: There is no frame.
    """
    timeline = _timeline_from_index(file) if use_index else None
    timeline = timeline or _timeline_from_packets(file)
    if timeline is None:
        file.reopen()
        timeline = _timeline_by_decoding(file)
    if not len(timeline):
        raise EmptyMediaError(
            f"{file.name}: there is no frame in its video stream; copy, download or convert it again."
        )
    return timeline


def _timeline_from_packets(file: VideoFile) -> Timeline | None:
    """Read the stamps of all packets, or return None where they do not tell when frames are shown."""
    container, stream = file.container, file.stream
    is_guessed = stream.codec_context.has_b_frames and container.format.name in CONTAINERS_WITHOUT_PTS
    if is_guessed or container.format.name in BARE_STREAMS:
        return None
    shown, keys, slots, num_packets, faults, has_all_stamps, last_dts = [], [], [], 0, [], True, None
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue  # the flush packet at the end
            num_packets += 1
            file.check_num_frames(num_packets)
            if packet.dts is not None:
                if last_dts is not None and packet.dts < last_dts:
                    return None  # the clock starts again: sorted by their stamps, the parts would be mixed
                last_dts = packet.dts
            if packet.pts is None:
                has_all_stamps = False
                continue
            if packet.is_keyframe:
                keys.append(packet.pts)  # also of a packet that an edit list hides: decoding can start there
            if not packet.is_discard:
                shown.append(packet.pts)
                slots.append(packet.dts)
    except av.error.FFmpegError as error:
        faults.append(f"the file breaks off after {num_packets} video packets ({error.strerror})")
    stamps = np.unique(np.asarray(shown, dtype=np.int64))
    if not has_all_stamps or len(stamps) != len(shown):
        return None
    num_stated = len(stream.index_entries) if _is_indexed_in_header(container) else 0
    if num_stated > num_packets:
        faults.append(f"the file is cut short: it lists {num_stated} video packets and holds {num_packets}")
    values = {"key_stamps": np.unique(np.asarray(keys, dtype=np.int64)), "faults": tuple(faults)}
    if container.format.name == CONTAINER_OF_SLOTS and None not in slots:
        values["seconds"] = _convert_to_seconds(file, np.asarray(slots, dtype=np.int64))
    return _make_timeline(file, stamps, **values)


def _timeline_from_index(file: VideoFile) -> Timeline | None:
    """Infer the frames of a long mp4 from its index, when that is whole and of constant frame rate."""
    container, stream = file.container, file.stream
    if not _is_indexed_in_header(container) or len(stream.index_entries) < MIN_FRAMES_FOR_INDEX:
        return None
    entries = ((entry.timestamp, entry.flags, entry.pos + entry.size) for entry in stream.index_entries)
    rows = np.fromiter(chain.from_iterable(entries), dtype=np.int64).reshape(-1, 3)
    steps = np.diff(rows[:, 0])
    step = int(steps[0])
    if step <= 0 or (steps != step).any() or (rows[:, 1] & AV_INDEX_DISCARD_FRAME).any():
        return None
    if rows[:, 2].max() > container.size:
        return None  # cut short: the pass over the packets finds out where
    # The index holds decoding times; the frames are shown on the same grid, shifted by the delay of the B-frames.
    head = [packet for _, packet in zip(range(64), container.demux(stream), strict=False) if packet.size]
    if not head or any(packet.pts is None for packet in head):
        file.reopen()
        return None
    stamps = min(packet.pts for packet in head) + step * np.arange(len(rows), dtype=np.int64)
    is_key = (rows[:, 1] & 1).astype(bool)
    return _make_timeline(file, stamps, key_stamps=rows[is_key, 0] + (head[0].pts - rows[0, 0]), grid_step=step)


def _timeline_by_decoding(file: VideoFile) -> Timeline:
    """Count the frames by decoding them all: for files whose packets do not tell when each frame is shown."""
    is_bare = file.container.format.name in BARE_STREAMS
    named = _find_rate_in_stream(file) if is_bare else file.stream.average_rate
    rate = float(named or GUESSED_FPS)
    manner = f"they are counted by frame number at {rate:g} frames a second" + ("" if named else ", which is a guess")
    stamps = []
    for frame in file.decode_all():
        stamps.append(frame.pts if frame.pts is not None else frame.dts)
        file.check_num_frames(len(stamps))
    numbers = np.arange(len(stamps))
    values = {"seconds": numbers / rate, "fps": rate, "by_order": True}
    if is_bare:
        source = ", which its stream names" if named else ""
        return _make_timeline(file, numbers, notes=(f"it holds no times; {manner}{source}",), **values)
    timed = np.array([number for number in numbers if stamps[number] is not None], dtype=np.int64)
    times = np.array([stamps[number] for number in timed], dtype=np.int64)
    has_all, steps = len(times) == len(stamps), np.diff(times)
    is_guessed = file.container.format.name in CONTAINERS_WITHOUT_PTS
    if is_guessed and (file.container.format.name == CONTAINER_OF_SLOTS or (steps <= 0).any()):
        slots = _read_dts(file)
        if len(slots) == len(stamps) and None not in slots and (np.diff(slots) > 0).all():
            del values["fps"]
            values["seconds"] = _convert_to_seconds(file, np.asarray(slots, dtype=np.int64))
            return _make_timeline(file, numbers, **values)
    if has_all and (steps > 0).all():
        values["seconds"] = _convert_to_seconds(file, times)
        return _make_timeline(file, numbers, **values)
    if is_guessed:  # one rate and no times is what these are made of
        return _make_timeline(file, numbers, notes=() if named else (f"it holds no times; {manner}",), **values)
    if (steps < 0).any():
        decoded = np.array([dts for dts in _read_dts(file) if dts is not None])
        if has_all and (np.diff(decoded) >= 0).all():  # one clock: of a damaged file frames come too early
            return _make_timeline(file, np.unique(times), key_stamps=np.empty(0, dtype=np.int64))
        # What the header says of the end is a time of only one of the clocks.
        values["stated_end_seconds"] = 0.0
        reason = f"its time stamps start again at frame {timed[np.argmax(steps < 0) + 1]}"
    else:
        reason = f"some of its frames have {'the same time stamp' if has_all else 'no time'}"
        is_new = np.append(True, steps > 0)[: len(times)]
        if is_new.sum() > 1:
            del values["fps"]
            values["seconds"] = _convert_to_seconds(file, _fill_in(numbers, timed[is_new], times[is_new]))
            manner = "they are put between their neighbours"
    return _make_timeline(file, numbers, notes=(f"{reason}; {manner}",), **values)


def _fill_in(numbers: np.ndarray, timed: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the time of each frame, evenly spaced between and beside some of them with rising times."""
    step = (times[-1] - times[0]) / (timed[-1] - timed[0])
    first, last = times[0] - step * timed[0], times[-1] + step * (len(numbers) - timed[-1])
    return np.interp(numbers, [0, *timed, len(numbers)], [first, *times, last])


def _read_dts(file: VideoFile) -> list[int | None]:
    """Return when the packets of a file are decoded; it is read anew."""
    file.reopen()
    return [packet.dts for packet in file.demux()]


def _find_rate_in_stream(file: VideoFile) -> Fraction | None:
    """Return the frames a second that a bare stream names in its own headers, or None; the file is read anew."""
    # A decoder that knows nothing but the packets: that of the file was told FFmpeg's default.
    decoder = av.CodecContext.create(file.stream.codec_context.name, "r")
    decoder.thread_count = 1
    file.reopen()
    try:
        for _, packet in zip(range(MAX_PACKETS_TO_RATE), file.container.demux(file.stream), strict=False):
            with suppress(av.error.FFmpegError):
                decoder.decode(packet)
            if decoder.framerate:
                return decoder.framerate
    except av.error.FFmpegError:
        pass  # a file that breaks off so early is reported when it is decoded
    return None


def _is_indexed_in_header(container: "av.container.InputContainer") -> bool:
    # Of a fragmented mp4 and of the other containers the index grows as packets are read.
    return "mov" in container.format.name.split(",")


def _convert_to_seconds(file: VideoFile, stamps: np.ndarray) -> np.ndarray:
    # One rounding only, so that the seconds are those of pts * time_base.
    return stamps * file.stream.time_base.numerator / file.stream.time_base.denominator


def _make_timeline(file: VideoFile, stamps: np.ndarray, **values: Any) -> Timeline:
    """Make the timeline of frames that have stamps; `values` of it are taken as they are, the others follow."""
    container, stream = file.container, file.stream
    seconds = values.get("seconds", _convert_to_seconds(file, stamps))
    if len(seconds) > 1 and seconds[-1] > seconds[0]:
        fps = (len(seconds) - 1) / float(seconds[-1] - seconds[0])
    else:
        fps = float(stream.average_rate or 0)
    starts_at, length = ((value or 0) / av.time_base for value in (container.start_time, container.duration))
    # Of some containers that is the time of the end, and not a length, as most that write them have it.
    is_end = container.format.name in CONTAINERS_WITH_END and len(seconds) and length >= seconds[-1]
    stated_end = length + (0.0 if is_end else starts_at) if length else 0.0
    # A header may be longer or shorter than its tracks: the longest of them is what players show.
    for track in (stream, *container.streams.audio):
        if track.duration and track.time_base:
            start = 0 if is_end else track.start_time or 0
            stated_end = max(stated_end, float((start + track.duration) * track.time_base))
    followed = {"seconds": seconds, "fps": fps, "time_base": stream.time_base, "stated_end_seconds": stated_end}
    if container.format.name == CONTAINER_OF_SLOTS and stream.average_rate:
        num_held = round(float(seconds[-1] * stream.average_rate)) + 1 if len(seconds) else 0
        if stream.frames - num_held > 2 + stream.frames // 100:  # headers are not always exact
            fault = f"a part of the file is missing: it lists {stream.frames} frames and holds {num_held}, so that "
            values["faults"] = (*values.get("faults", ()), f"{fault}those behind the gap may be later")
    notes = (*values.pop("notes", ()), *file.notes)
    return Timeline(stamps, **{**followed, **values}, notes=notes)


__all__ = ["IndexIsWrongError", "Timeline", "VideoFile", "open_video", "read_timeline"]
