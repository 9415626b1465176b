"""Size and times of media files without decoding them: what turns seconds and pixels into fractions."""

import os
from functools import lru_cache
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

from ..processing.frame_sampling_llava_st import compute_sampled_indices
from ..processing.media_llava_st import EmptyMediaError, MediaError, MediaInfo, OversizedMediaError
from ..processing.video_timeline_llava_st import (
    Decoder,
    check_frame_size,
    check_source,
    open_container,
    open_stream,
    read_timeline,
    timeline_by_decoding,
)
from .skips import RecordError

# EXIF says so of a picture that is shown with its sides exchanged.
_EXIF_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)


class _Times(NamedTuple):
    """Size of the frames of a file as displayed, and the time of each."""

    width: int
    height: int
    seconds: np.ndarray


def probe_video(path: str, num_frames: int) -> MediaInfo:
    """
    Return what the model would know of a clip of which it gets `num_frames` frames; only one frame is decoded.

    Args:
        path (`str`): A video file.
        num_frames (`int`): How many frames are sampled.

    Raises:
        `RecordError`: For a file that is no video, or has no frames, or too large ones.
    """
    times = _probe_video(path, *_get_version(path))
    indices = compute_sampled_indices(path, times.seconds, num_frames=num_frames)
    return MediaInfo(
        "video", times.width, times.height, tuple(indices.tolist()), tuple(times.seconds[indices].tolist()), path
    )


def probe_image(path: str) -> MediaInfo:
    """
    Return size and name of a picture, turned as EXIF says; its pixels are not read.

    Raises:
        `RecordError`: For a file that is no picture, or a too large one.
    """
    width, height = _probe_image(path, *_get_version(path))
    return MediaInfo("image", width, height, source=path)


def _get_version(path: str) -> tuple[int, int]:
    """Return what changes when a file does, for the cache."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise RecordError("missing_media", "media", f"media is {path!r}: {error.strerror}.") from error
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=256)
def _probe_video(path: str, modified_ns: int, num_bytes: int) -> _Times:
    try:
        check_source(path, path, allow_url=False)
        with open_container(path, allow_url=False) as container:
            timeline = read_timeline(container, open_stream(container, path, num_threads=1), use_index=True)
        # Opened anew for each pass, because a container that was read to its end may not start over cleanly.
        if timeline is None:
            with open_container(path, allow_url=False) as container:
                stream = open_stream(container, path, num_threads=1)
                timeline = timeline_by_decoding(container, stream, Decoder(container, stream))
        with open_container(path, allow_url=False) as container:
            frame = next(Decoder(container, open_stream(container, path, num_threads=1)).decode_all(), None)
        if frame is None or not len(timeline.seconds):
            raise EmptyMediaError(f"{path}: not one frame of it can be decoded; copy, download or convert it again.")
        check_frame_size(path, frame.width, frame.height)
    except MediaError as error:
        raise _make_error(error) from error
    except (av.error.FFmpegError, OSError) as error:
        reason = " ".join(str(error.strerror or error).split())
        raise RecordError(
            "unreadable_media", "media", f"{path} cannot be read as a video ({reason}): convert or download it again."
        ) from error
    is_turned = round(frame.rotation / 90) % 2 == 1
    width, height = (frame.height, frame.width) if is_turned else (frame.width, frame.height)
    return _Times(width, height, timeline.seconds)


def _make_error(error: MediaError) -> RecordError:
    reasons = {EmptyMediaError: "empty_media", OversizedMediaError: "oversized_media"}
    return RecordError(reasons.get(type(error), "unreadable_media"), "media", str(error))


@lru_cache(maxsize=4096)
def _probe_image(path: str, modified_ns: int, num_bytes: int) -> tuple[int, int]:
    if num_bytes == 0:
        raise RecordError("empty_media", "media", f"{path} is an empty file: copy or download it again.")
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            is_turned = picture.getexif().get(_EXIF_ORIENTATION) in _TURNED
    except Image.DecompressionBombError as error:
        raise RecordError("oversized_media", "media", f"{path} is too large a picture: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise RecordError(
            "unreadable_media", "media", f"{path} cannot be read as a picture: give a JPEG, PNG or WebP file."
        ) from error
    return (height, width) if is_turned else (width, height)


__all__ = ["probe_image", "probe_video"]
