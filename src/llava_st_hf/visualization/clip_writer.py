"""Writes pictures and the sound of a clip into an MP4 that browsers play, as they come."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from ..processing.video_file_llava_st import VideoFile, open_video
from ..processing.video_timeline_llava_st import Timeline
from .output_files import MADE_HERE

_COPIED_SOUND = ("aac", "mp3", "opus", "flac")  # what browsers play in an MP4
_AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


class ClipWriter:
    """
    Writes pictures as H.264 with the times of the source, and its sound beside them.

    Args:
        path (`Path`): Where to write.
        source (`str`, `os.PathLike` or `bytes`): The clip whose sound is kept.
        timeline (`Timeline`): That of the source.
        size (`tuple[int, int]`): Width and height of the pictures, both even.
        first_seconds (`float`, *optional*):
            The time of the source that is 0 in what is written; 0, or the first stamp where that is below, because
            players leave out what is earlier.
    """

    def __init__(
        self,
        path: Path,
        source: "str | os.PathLike | bytes",
        timeline: Timeline,
        size: tuple[int, int],
        first_seconds: float | None = None,
    ):
        self.num_frames, self.last_pts = 0, None
        self.unit = timeline.time_base
        self.first_seconds = min(float(timeline.seconds[0]), 0.0) if first_seconds is None else first_seconds
        # The track counts in the unit of the source, so that every time stamp stays exact.
        unit = str(self.unit.denominator)
        options = {"movflags": "+faststart", "video_track_timescale": unit, "movie_timescale": unit}
        self.closing = ExitStack()
        self.container = self.closing.enter_context(av.open(str(path), "w", format="mp4", options=options))
        self.container.metadata["comment"] = MADE_HERE
        codec = "libx264" if "libx264" in av.codecs_available else "h264"
        rate = Fraction(timeline.fps or 25).limit_denominator(60000)
        self.stream = self.container.add_stream(codec, rate=rate, options={"crf": "20", "preset": "veryfast"})
        self.stream.width, self.stream.height = size
        self.stream.pix_fmt = "yuv420p"  # one colour for 2 x 2 pixels
        self.stream.codec_context.time_base = self.stream.time_base = self.unit
        file = self.closing.enter_context(open_video(source, num_threads=1))
        self.sound = _Sound(file, self.container, -self.first_seconds, is_counted=timeline.by_order)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the clip could not be kept."""
        return self.sound.notes

    def write(self, image: Image.Image, seconds: float) -> None:
        """Write a picture, and the sound up to it."""
        self.sound.write_until(seconds - self.first_seconds)
        frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
        pts = round((seconds - self.first_seconds) / self.unit)
        if self.last_pts is not None:
            pts = max(pts, self.last_pts + 1)
        frame.pts, frame.time_base, self.last_pts = pts, self.unit, pts
        self.container.mux(self.stream.encode(frame))
        self.num_frames += 1

    def finish(self) -> None:
        """Write what the encoder still holds, and the rest of the sound."""
        self.container.mux(self.stream.encode(None))
        self.sound.write_until(float("inf"))

    def close(self) -> None:
        """Close both files."""
        self.closing.close()


class _Sound:
    """The sound of a clip: its packets as they are where an MP4 takes them, or else as AAC."""

    def __init__(
        self, file: VideoFile, target: "av.container.OutputContainer", shift_seconds: float, is_counted: bool
    ):
        self.file, self.target, self.shift = file, target, shift_seconds
        self.notes: tuple[str, ...] = ()
        self.packets: Iterator[av.Packet] = iter(())
        self.reached = -float("inf")  # seconds
        source = file.container.streams.best("audio")
        if source is None:
            return
        if source.codec_context is None:
            self.notes = ("its sound is left out: there is no decoder for it here",)
            return
        # Where frames are counted instead of timed, the stamps of the sound are none that go with them.
        if source.codec_context.codec.canonical_name in _COPIED_SOUND and not is_counted:
            self.stream = target.add_stream_from_template(source)
            self.packets = self._copy(source)
        else:
            rate = min(_AAC_RATES, key=lambda option: abs(option - (source.rate or 48000)))
            layout = "mono" if source.channels == 1 else "stereo"
            self.stream = target.add_stream("aac", rate=rate, layout=layout)
            self.packets = self._encode(source)

    def write_until(self, seconds: float) -> None:
        """Write the packets up to a moment of the clip that is written."""
        try:
            while self.reached <= seconds:
                with self.file.in_time():
                    packet = next(self.packets, None)
                if packet is None:
                    break
                if packet.dts is not None:
                    self.reached = float(packet.dts * packet.time_base)
                self.target.mux(packet)
        except av.error.FFmpegError as error:
            reason = " ".join(str(error.strerror or error).split())
            self.notes = (
                f"its sound ends at {max(self.reached, 0.0):.2f} s: it could not be read further ({reason})",
            )
            self.packets = iter(())

    def _copy(self, source: "av.AudioStream") -> Iterator["av.Packet"]:
        last = None
        for packet in self.file.read_packets(source):
            if packet.dts is None or packet.pts is None:
                continue
            shift = round(self.shift / packet.time_base)
            packet.dts, packet.pts = packet.dts + shift, packet.pts + shift
            if last is None or packet.dts > last:
                last, packet.stream = packet.dts, self.stream
                yield packet

    def _encode(self, source: "av.AudioStream") -> Iterator["av.Packet"]:
        resampler = av.AudioResampler("fltp", self.stream.layout, self.stream.rate)
        position = None  # in samples: counted, as encoders take no gaps
        for frame in self._decode(source):
            if position is None:
                start = 0.0 if frame.time is None else frame.time + self.shift
                position = max(0, round(start * self.stream.rate))
            for piece in resampler.resample(frame):
                piece.pts, piece.time_base = position, Fraction(1, self.stream.rate)
                position += piece.samples
                yield from self.stream.encode(piece)
        yield from self.stream.encode(None)

    def _decode(self, source: "av.AudioStream") -> Iterator["av.AudioFrame"]:
        for packet in self.file.read_packets(source):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                continue  # a broken packet
        yield from source.codec_context.decode(None)
