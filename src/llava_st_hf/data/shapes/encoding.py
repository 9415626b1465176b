"""Real files of media that were made in memory: H.264 in MP4, and PNG."""

import io
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from ..samples import Media, Sample
from ..skips import RecordError

# Near to lossless, so that flat colours stay what they are. With macroblock trees, or with more threads, x264 writes
# other bytes each time.
_H264_OPTIONS = {"crf": "10", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}


def encode_sample(sample: Sample) -> Sample:
    """
    Return a sample with files in the place of the arrays of its media: MP4 for a clip, PNG for an image.

    The files are named by the id of the sample, `st-shapes/0/17.mp4`. Clips of odd width or height are scaled up by
    one pixel, which H.264 needs: fractions of the frame stay true. Pixels of PNG files are those of the array; those
    of clips are near to it, and their bytes depend on the version of the encoder.

    Args:
        sample (`Sample`): With arrays in `media`, as `ShapesDataset` makes them.

    Returns:
        `Sample`: The same with `content` and `path` in `media`.

    Raises:
        `RecordError`: If a medium is no array.
    """
    ending, encode = (".mp4", _encode_clip) if sample.media_type == "video" else (".png", _encode_image)
    media = []
    for number, item in enumerate(sample.media):
        if item.frames is None:
            raise RecordError(
                "invalid_field", f"media[{number}]", f"media[{number}] is no array: it is a file already."
            )
        name = sample.id if len(sample.media) == 1 else f"{sample.id}-{number}"
        media.append(Media(path=name + ending, content=encode(item)))
    return replace(sample, media=tuple(media))


def _encode_image(item: Media) -> bytes:
    file = io.BytesIO()
    Image.fromarray(item.frames).save(file, format="PNG")
    return file.getvalue()


def _encode_clip(item: Media) -> bytes:
    file = io.BytesIO()
    height, width = item.frames.shape[1:3]
    rate = Fraction(item.frame_rate).limit_denominator(1001)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options=_H264_OPTIONS)
        # yuv420p has one colour for 2 x 2 pixels.
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        for index, pixels in enumerate(item.frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(width=stream.width, height=stream.height, format="yuv420p")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


__all__ = ["encode_sample"]
