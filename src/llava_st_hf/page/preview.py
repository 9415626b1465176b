"""What a browser shows of a clip or image: upright, of a size that it plays, with the times of the file."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..processing import iterate_frames, open_image, probe_video
from ..visualization.clip_writer import ClipWriter

LONGEST_SIDE = 960  # pixels


class Preview(NamedTuple):
    """
    A file for the browser, and how its pixels and times are those of the original.

    Example:

    ```python
    >>> preview = write_preview("clip.mp4", "video", Path("preview.mp4"))
    ```
    """

    path: Path  # an MP4 (H.264) or a JPEG
    width: int  # width of the original in pixels, as displayed
    height: int
    first_seconds: float = 0.0  # time of the first frame in the original file, which is 0 in the browser
    last_seconds: float = 0.0  # time of the last one


def write_preview(source: str | Path, media_type: str, folder: Path) -> Preview:
    """
    Write what a browser shows of a clip or image into a folder; memory does not grow with its length.

    One that cannot be read raises `MediaError`.
    """
    if media_type == "image":
        picture = open_image(str(source))
        width, height = picture.size
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        picture.save(folder / "preview.jpg", quality=90)
        return Preview(folder / "preview.jpg", width, height)
    video = probe_video(source)
    path = folder / "preview.mp4"
    scale = min(1.0, LONGEST_SIDE / max(video.width, video.height))
    size = tuple(max(2, round(side * scale / 2) * 2) for side in (video.width, video.height))
    first = float(video.timeline.seconds[0])
    writer = ClipWriter(path, source, video.timeline, size, first)
    try:
        for frame in iterate_frames(source, video.timeline):
            writer.write(Image.fromarray(np.ascontiguousarray(frame.image)).resize(size), frame.seconds)
        writer.finish()
    finally:
        writer.close()
    return Preview(path, video.width, video.height, first, float(video.timeline.seconds[-1]))
