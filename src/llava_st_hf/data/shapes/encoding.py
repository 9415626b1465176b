"""Real files of media that were made in memory: H.264 in MP4, and PNG."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

from ..media_loading import TIMES_FIX
from ..samples import Media, Sample
from ..skips import make_fault

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
    media = []
    for number, item in enumerate(sample.media):
        if item.frames is None:
            raise make_fault(f"media[{number}]", "is no array", "it is a file already")
        name = sample.id if len(sample.media) == 1 else f"{sample.id}-{number}"
        file = io.BytesIO()
        if sample.media_type == "video":
            height, width = item.frames.shape[1:3]
            # yuv420p has one colour for 2 x 2 pixels.
            form = {"width": width + width % 2, "height": height + height % 2, "pix_fmt": "yuv420p"}
            encode_frames(sample, item.frames, file, form, _H264_OPTIONS)
            name += ".mp4"
        else:
            Image.fromarray(item.frames).save(file, format="PNG")
            name += ".png"
        media.append(Media(path=name, content=file.getvalue()))
    return replace(sample, media=tuple(media), video_fps=None, frame_seconds=None)


def encode_frames(
    sample: Sample,
    frames: Iterable[np.ndarray],
    file: "str | io.BytesIO",
    form: Mapping[str, Any],
    options: Mapping[str, str],
) -> None:
    """
    Write the frames of a clip, uint8 (height, width, 3), as H.264 in MP4, one by one, each at its time.

    `form` has the `pix_fmt` of the file, and its `width` and `height`, those of the frames by default. Where nothing
    says when the frames are, or one is before 0, which the file cannot say, a `RecordError` is raised.
    """
    if not sample.has_times:
        fix = f"the clip is frames, and nothing says when they are, as a file does: {TIMES_FIX}"
        raise make_fault("video_fps", "is missing", fix)
    times = sample.frame_seconds
    if times and times[0] < 0:
        raise make_fault("frame_seconds", f"begin at {times[0]} s", "an MP4 file begins at 0 or later")
    rate = Fraction(sample.video_fps).limit_denominator(60000) if times is None else None
    time_base = 1 / rate if rate else Fraction(1, 90000)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options=dict(options))
        if rate is None:
            stream.codec_context.time_base = time_base
        stream.pix_fmt, stamp = form["pix_fmt"], -1
        for index, pixels in enumerate(frames):
            if not index:
                stream.height, stream.width = (form.get("height", pixels.shape[0]), form.get("width", pixels.shape[1]))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(width=stream.width, height=stream.height, format=stream.pix_fmt)
            stamp = index if times is None else max(stamp + 1, round(times[index] / time_base))
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
