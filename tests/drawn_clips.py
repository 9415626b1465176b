"""Grey clips to draw on, and what was drawn on them."""

from fractions import Fraction

import av
import numpy as np

from llava_st_hf.processing import read_video

GRAY = 90
UNIT = Fraction(1, 12800)


def write_clip(path, width=320, height=240, stamps=range(0, 30 * 512, 512), rotation=None, codec="libx264"):
    """Write grey frames with the given stamps in units of 1/12800 s (512 are a frame at 25 a second)."""
    with av.open(str(path), "w", options={"video_track_timescale": "12800", "movie_timescale": "12800"}) as container:
        stream = container.add_stream(codec, rate=25, options={"bf": "2"} if codec == "libx264" else {})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if codec == "libx264" else "yuvj420p"
        stream.codec_context.time_base = stream.time_base = UNIT
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), GRAY, np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, UNIT
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode(path):
    """Return seconds and RGB of every frame, and the codec context."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        seconds = [float(frame.pts * frame.time_base) for frame in frames]
        return seconds, [frame.to_ndarray(format="rgb24").astype(int) for frame in frames], stream.codec_context


def is_color(image, color, tolerance=60):
    """Where an image of shape (height, width, 3) has a colour, as far as 4:2:0 keeps it."""
    return (np.abs(np.asarray(image, dtype=int) - np.array(color)) < tolerance).all(axis=-1)


def find_picture(frame, picture):
    """Return the place, as two slices, of the picture in a frame that has strips beside it."""
    height, width = picture.shape[:2]
    left = (frame.shape[1] - width) // 2
    columns = slice(left, left + width)
    tops = range(frame.shape[0] - height + 1)
    top = min(tops, key=lambda top: np.abs(frame[top : top + height, columns].astype(int) - picture).mean())
    return slice(top, top + height), columns


def decode_pictures(path, source):
    """Return seconds and RGB of the picture in every frame of an annotated clip, and the codec context."""
    first = read_video(source, num_frames=1).frames[0].permute(1, 2, 0).numpy().astype(int)
    seconds, frames, context = decode(path)
    place = find_picture(frames[0], first)
    return seconds, [frame[place] for frame in frames], context
