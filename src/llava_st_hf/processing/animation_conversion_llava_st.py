"""Animations that FFmpeg does not decode (WebP), as clips that it does."""

import io
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import ImageSequence

from .image_loading_llava_st import composite_on_white, open_picture
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


__all__ = ["convert_webp"]
