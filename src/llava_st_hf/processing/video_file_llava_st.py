"""A video file opened safely: as that one file and nothing else, whatever it names; broken packets are counted."""

import io
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction

from .animation_conversion_llava_st import convert_webp, count_untimed_pictures
from .image_loading_llava_st import (
    BYTES_TYPES,
    FILE_TYPES,
    check_source,
    count_animation_frames,
    describe_source,
    is_image_file,
    is_url,
)
from .media_fetching_llava_st import fetch_media, read_data_uri
from .media_llava_st import MAX_FRAME_PIXELS, InputError, MediaError, OversizedMediaError
from .video_damage_llava_st import find_damage, is_damaged_ffv1
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
# What reading and decoding a file may take: so many seconds, and one more for so many of its bytes. A few megabytes
# can hold days of work. What is done with the frames is not counted.
DECODE_SECONDS, BYTES_A_SECOND = 60.0, 100_000
DECODE_SECONDS_VARIABLE = "LLAVA_ST_DECODE_SECONDS"
# An index may name the same bytes for many frames; no recording is read more often than so.
MAX_REPEATED_READING = 4
# From so many pixels a frame on (above 4K) no frames are decoded beside each other: each thread would hold some.
MIN_PIXELS_IN_TURN = 2**24
# Codecs whose disposable frames can be left out without a change to any other frame.
CODECS_WITH_DISPOSABLE_FRAMES = ("h264",)
# Codecs that show what they could not decode as if it were right, unless they are told to give up at an error.
CODECS_THAT_HIDE_ERRORS = ("mjpeg",)
# Of these, the one that never gives it: its chunks lie at the times at which frames are shown, in whatever order.
CONTAINER_OF_SLOTS = "avi"
# Decoders that give alpha too, where FFmpeg's own of these codecs leave it out.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class IndexIsWrongError(Exception):
    """The container's index does not agree with the packets: read again with a pass over the packets."""


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
        self.own_notes: tuple[str, ...] = ()  # of the file before it was opened
        self.notes: tuple[str, ...] = ()  # these, and what of it is not read
        self.pixel_aspect = Fraction(1)  # width of a pixel, as it is stored, to its height
        self.first_size = (0, 0)  # width and height that the header names, before a quarter turn
        self.num_decoded = 0  # packets
        self.num_broken = 0  # of them
        self.corrupt: set[int | None] = set()  # stamps of the frames of which a part was lost and made up
        self.num_bytes = len(source) if isinstance(source, BYTES_TYPES) else os.path.getsize(source)
        self.seconds_left = self.max_seconds = _find_decode_seconds(self.num_bytes)

    def reopen(self) -> None:
        """Open the file at its start; one that was read to its end, or sought in, may not start over cleanly."""
        self.close()
        self.container = _open_container(self.converted or self.source, self.name)
        self.stream = self._choose_stream()
        context = self.stream.codec_context
        if context is None:
            raise MediaError(f"{self.name}: no decoder for its video stream; convert it to H.264 with ffmpeg.")
        is_avi = self.container.format.name == CONTAINER_OF_SLOTS
        if is_avi and not self.own_notes and self.stream.frames != 1 and len(self.stream.index_entries) < 2:
            self.notes += ("its index is missing: its frames are those that a pass over the file finds",)
        self.pixel_aspect = self._find_pixel_aspect()
        self.first_size = self.compute_displayed_size(context.width, context.height)
        self.check_frame_size(*self.first_size)
        self.decoder = self._choose_decoder()
        self.decoder.options = {"max_pixels": str(MAX_FRAME_PIXELS)}  # the size may change on the way
        if context.name in CODECS_THAT_HIDE_ERRORS:
            self.decoder.options = {**self.decoder.options, "err_detect": "explode"}
        is_large = context.width * context.height > MIN_PIXELS_IN_TURN
        self.decoder.thread_type = "SLICE" if is_large else "AUTO"
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
        self.notes = self.own_notes
        if len(streams) > 1:
            names = {
                stream: f"track {stream.index}"
                + (f" ({stream.codec_context.width}x{stream.codec_context.height})" if stream.codec_context else "")
                for stream in streams
            }
            others = ", ".join(name for stream, name in names.items() if stream is not chosen)
            self.notes += (f"it has {len(streams)} video tracks: {names[chosen]} is read, and not {others}",)
        return chosen

    def _find_pixel_aspect(self) -> Fraction:
        aspect = self.stream.sample_aspect_ratio
        if not aspect or not 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
            return Fraction(1)
        return Fraction(aspect) if abs(aspect - 1) > MIN_PIXEL_STRETCH else Fraction(1)

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
                f"{self.name}: its frames are {width} x {height} pixels, more than the limit of {MAX_FRAME_PIXELS:,}; "
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

    def decode_run(
        self, key: int, targets: list[int], first_stamp: int, grid_step: int | None
    ) -> Iterator["av.VideoFrame"]:
        """
        Seek to the key frame and yield at least the target frames (ascending pts) that can be decoded from it.

        Raises `IndexIsWrongError` at a frame that is no multiple of `grid_step`, if there is one, after the first.
        """
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
            if grid_step and (packet.pts - first_stamp) % grid_step:
                raise IndexIsWrongError
            if can_skip:  # a disposable frame that nobody asked for: no other frame depends on it
                self.stream.codec_context.skip_frame = "DEFAULT" if packet.pts in todo else "NONREF"
            yield from self._decode(packet, key)
            todo.discard(packet.pts)
            if not todo:
                break
        yield from self._decode(None, key)

    def demux(self) -> Iterator["av.Packet"]:
        """Yield the packets of the stream up to the end of the file, or to where it is cut short."""
        try:
            yield from self.read_packets(self.stream)
        except av.error.FFmpegError:
            return  # the end of a file that is cut short; the pass over the packets has reported it

    def read_packets(self, stream: "av.stream.Stream") -> Iterator["av.Packet"]:
        """Yield the packets of a stream that hold something, as far as they can be bytes of the file, and in time."""
        packets, num_bytes = self.container.demux(stream), 0
        while True:
            with self.in_time():
                packet = next(packets, None)
            if packet is None:
                return
            num_bytes += packet.size
            if num_bytes > MAX_REPEATED_READING * max(self.num_bytes, len(self.converted or b"")) + 2**20:
                raise OversizedMediaError(
                    f"{self.name}: its index names the same bytes again and again, more than {num_bytes:,} where it "
                    f"has {self.num_bytes:,}: convert the file with ffmpeg."
                )
            if packet.size:
                yield packet

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """Count what a piece of the work takes, and raise `OversizedMediaError` once all of it takes too long."""
        start = time.monotonic()
        yield
        self.seconds_left -= time.monotonic() - start
        if self.seconds_left < 0:
            raise OversizedMediaError(
                f"{self.name}: decoding it takes longer than {self.max_seconds:.0f} s, which is much for a file of "
                f"{self.num_bytes:,} bytes: convert it to smaller frames with ffmpeg, or set "
                f"{DECODE_SECONDS_VARIABLE}=3600."
            )

    def _decode(self, packet: "av.Packet | None", key: int | None = None) -> list["av.VideoFrame"]:
        """Decode a packet; frames before `key` lack those that they were made from, which is no damage."""
        self.num_decoded += packet is not None
        with self.in_time():
            try:
                frames = self.decoder.decode(packet)
            except av.error.FFmpegError:
                self.num_broken += 1
                return []
        if packet is not None and self.decoder.name == "ffv1" and is_damaged_ffv1(bytes(packet)):
            self.corrupt.add(packet.pts)
        for frame in frames:
            self.check_frame_size(frame.width, frame.height)
            if frame.is_corrupt and (key is None or (frame.pts is not None and frame.pts >= key)):
                self.corrupt.add(frame.pts)
        return frames


def _find_decode_seconds(num_bytes: int) -> float:
    given = os.environ.get(DECODE_SECONDS_VARIABLE)
    try:
        seconds = DECODE_SECONDS + num_bytes / BYTES_A_SECOND if given is None else float(given)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise InputError(f"{DECODE_SECONDS_VARIABLE} is {given!r}: give seconds, such as 3600.")
    return seconds


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
        num_untimed, num_pictures = count_untimed_pictures(source)
        file.own_notes = find_damage(source)
        if num_untimed:
            file.own_notes += (f"{num_untimed} of its {num_pictures} pictures have no duration: it is guessed",)
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
    if int(av.__version__.split(".")[0]) < 19:  # which would fail at metadata that are no UTF-8
        options["metadata_errors"] = "replace"
    options["options"] = {"max_pixels": str(MAX_FRAME_PIXELS)}  # of the frames that are decoded to know the streams
    late = time.monotonic() + MAX_OPEN_SECONDS
    if is_content := isinstance(source, BYTES_TYPES):
        file.deadline = late
    try:
        container = av.open(file, **options)
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


__all__ = ["IndexIsWrongError", "VideoFile", "open_video"]
