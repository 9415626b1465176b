"""Animations: which pictures have no duration, and those that FFmpeg does not decode (WebP) as clips that it does."""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from PIL import ImageSequence

from .image_loading_llava_st import BYTES_TYPES, composite_on_white, open_picture
from .media_llava_st import OversizedMediaError

try:
    import av
except ImportError:  # the remote-code check of transformers passes over imports inside try
    av = None


# Browsers show pictures of an animation that name less as long as those that name nothing.
MIN_PICTURE_MILLISECONDS, GUESSED_PICTURE_MILLISECONDS = 11, 100
# An animated WebP is held in memory as a lossless clip.
_MAX_WEBP_FRAMES = 2**16
_MAX_WEBP_PIXELS = 2**29


def convert_webp(source: Any, name: str) -> bytes | None:
    """
    Return an animated WebP as a lossless clip with its times, `None` for a picture of another format.

    One with more frames, or more pixels in all of them, than are held raises `OversizedMediaError`.
    """
    target = io.BytesIO()
    with open_picture(source, may_move=True) as picture:
        if picture.format != "WEBP":
            return None
        num_pixels = picture.n_frames * picture.width * picture.height
        if picture.n_frames > _MAX_WEBP_FRAMES or num_pixels > _MAX_WEBP_PIXELS:
            raise OversizedMediaError(
                f"{name}: it is a WebP of {picture.n_frames:,} frames, {num_pixels:,} pixels together; more than "
                f"{_MAX_WEBP_FRAMES:,} or {_MAX_WEBP_PIXELS:,} are not read: convert it to an mp4."
            )
        with av.open(target, "w", format="matroska") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height = picture.size
            stream.pix_fmt = "bgr0"
            stream.codec_context.time_base = milliseconds = Fraction(1, 1000)
            moment = 0
            for shown in ImageSequence.Iterator(picture):
                frame = av.VideoFrame.from_ndarray(np.asarray(composite_on_white(shown)), format="rgb24")
                duration = round(shown.info.get("duration", 0))
                if duration < MIN_PICTURE_MILLISECONDS:
                    duration = GUESSED_PICTURE_MILLISECONDS
                frame.pts, frame.time_base = moment, milliseconds
                for packet in stream.encode(frame):
                    packet.duration = duration
                    container.mux(packet)
                moment += duration
            container.mux(stream.encode(None))
    return target.getvalue()


def count_untimed_pictures(source: Any) -> tuple[int, int]:
    """
    Return how many pictures of a GIF, PNG or WebP (a path or bytes) have no time of their own, and how many it has.

    These are shown for a time that is guessed: those without a duration, and in GIF and WebP those whose duration is
    too short for a browser to believe.
    """
    with io.BytesIO(source) if isinstance(source, BYTES_TYPES) else open(source, "rb") as file:
        start = file.read(12)
        find = {b"GIF8": _find_guessed_in_gif, b"\x89PNG": _find_guessed_in_png, b"RIFF": _find_guessed_in_webp}
        is_guessed = list(find[start[:4]](file)) if start[:4] in find else []
    return sum(is_guessed), len(is_guessed)


def _find_guessed_in_gif(file: BinaryIO) -> Iterator[bool]:
    def skip_colors(packed: int) -> None:
        file.seek(3 << (packed % 8 + 1) if packed & 0x80 else 0, io.SEEK_CUR)

    def skip_blocks() -> None:
        while size := file.read(1):
            if not size[0]:
                break
            file.seek(size[0], io.SEEK_CUR)

    file.seek(10)
    skip_colors(file.read(3)[0])
    hundredths = 0
    while kind := file.read(1):
        if kind == b"!":
            label = file.read(1)
            if label == b"\xf9":  # what says how the next picture is shown
                hundredths = int.from_bytes(file.read(4)[2:], "little")
                file.seek(1, io.SEEK_CUR)
        elif kind == b",":
            yield hundredths < 2
            hundredths = 0
            skip_colors((file.read(9) or b"\0")[-1])
            file.seek(1, io.SEEK_CUR)
        else:
            break
        skip_blocks()


def _find_guessed_in_png(file: BinaryIO) -> Iterator[bool]:
    file.seek(8)
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        end = file.tell() + length + 4
        if kind == b"fcTL":
            yield file.read(22)[20:] == b"\0\0"
        file.seek(end)


def _find_guessed_in_webp(file: BinaryIO) -> Iterator[bool]:
    while len(start := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", start)
        end = file.tell() + length + length % 2
        if kind == b"ANMF":
            yield int.from_bytes(file.read(15)[12:], "little") < MIN_PICTURE_MILLISECONDS
        file.seek(end)


__all__ = ["convert_webp", "count_untimed_pictures"]
