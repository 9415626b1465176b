"""Size and times of media without decoding them: what turns seconds and pixels into fractions."""

import os
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from ..processing import EmptyMediaError, LlavaSTVideoMetadata, LlavaSTVideoProcessor, MediaInfo
from ..processing import probe_video as probe_video_file
from ..processing.image_loading_llava_st import open_picture
from ..processing.image_loading_llava_st import probe_image as probe_image_file
from ..processing.video_file_llava_st import open_video
from ..processing.video_timeline_llava_st import Timeline
from .annotations import Annotation
from .media_loading import (
    MAX_PIXELS,
    check_file,
    check_num_pixels,
    check_times,
    get_metadata_of_frames,
    reasons_of_errors,
)
from .samples import Media, Sample


class VideoHeader(NamedTuple):
    """What the header of a video file claims, which is quick to read and mostly true."""

    num_frames: int | None  # number of frames; `None` where it does not say
    duration_seconds: float | None  # length; `None` where it does not say
    width: int  # width of the frames, before any rotation
    height: int  # height of the frames, before any rotation


class FrameSizes(NamedTuple):
    """The size of the frames of a file, or of a picture, each as width and height in pixels."""

    displayed: tuple[int, int]  # as players show them: with square pixels, and after any turn
    stored: tuple[int, int]  # as they are stored
    is_turned: bool  # whether they are shown with their sides exchanged


def probe_video(path: str, num_frames: int, frame_range: tuple[int, int] | None = None) -> MediaInfo:
    """
    Return what the model would know of a clip, or a part of it, of which it gets `num_frames` frames; one is decoded.

    A file that is no video, has no frames, or too large ones, raises `RecordError`.
    """
    return _probe_file(Media(path=path), "media", frame_range, LlavaSTVideoProcessor(num_frames=num_frames))


def probe_frames(annotation: Annotation, num_frames: int) -> MediaInfo:
    """Return the same of a clip that is kept as pictures, which an annotation says the times of."""
    return _probe_frames(annotation, None, LlavaSTVideoProcessor(num_frames=num_frames))


def probe_timeline(path: str) -> Timeline:
    """Return when each frame of a video file is; raises `RecordError` as `probe_video`."""
    return _probe(probe_video_file, Media(path=path), "media").timeline


def probe_header(item: Media, name: str = "media") -> VideoHeader:
    """Return what the header of a video file claims; no packet is read. Raises `RecordError` as `probe_video`."""
    return _probe(_read_header, item, name)


def probe_sizes(item: Media, media_type: str, name: str = "media") -> FrameSizes:
    """Return the size of the first frame of a clip, or of a picture; raises `RecordError` as `probe_video`."""
    return _probe(_read_frame_sizes if media_type == "video" else _read_picture_sizes, item, name)


def _read_frame_sizes(source: "str | bytes") -> FrameSizes:
    with open_video(source, num_threads=1) as file:
        frame = next(file.decode_all(), None)  # headers do not say how it is turned
        if frame is None:
            raise EmptyMediaError(f"{file.name}: not one frame of it could be decoded.")
        displayed, is_turned = file.compute_displayed_size(frame.width, frame.height), round(frame.rotation / 90) % 2
        return FrameSizes(displayed[::-1] if is_turned else displayed, (frame.width, frame.height), bool(is_turned))


def _read_picture_sizes(source: "str | bytes") -> FrameSizes:
    with open_picture(source) as picture:
        stored = picture.size
    displayed = probe_image_file(source)
    return FrameSizes(displayed, stored, displayed != stored)


def _read_header(source: "str | bytes") -> VideoHeader:
    with open_video(source, num_threads=1) as file:
        stream, container = file.stream, file.container
        seconds = None
        if stream.duration:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration:
            seconds = container.duration / 1e6  # microseconds, for all of its streams
        return VideoHeader(stream.frames or None, seconds, stream.codec_context.width, stream.codec_context.height)


def probe_image(path: str) -> MediaInfo:
    """Return size and name of a picture, turned as EXIF says; raises `RecordError` as `probe_video`."""
    return MediaInfo("image", *_probe_picture(Media(path=path), "media"), source=path)


def probe_media(
    sample: Sample, num_frames: int | None = 2, video_processor: LlavaSTVideoProcessor | None = None
) -> tuple[MediaInfo, ...]:
    """
    Return size and time line of each medium of a record.

    Args:
        sample (`Sample`): The record.
        num_frames (`int`, *optional*, defaults to 2):
            Frames that are sampled of a clip; the first and the last of the part that is meant are always among them.
            With `None` as many as the processor samples.
        video_processor (`LlavaSTVideoProcessor`, *optional*): Says which frames are sampled.

    Returns:
        `tuple[MediaInfo, ...]`: One for each image; one for a clip, also where it is kept as pictures.

    Raises:
        `RecordError`: If a file cannot be read, see `load_media`.
    """
    if sample.media_type != "video":
        sizes = [_probe_picture(item, f"media[{index}]") for index, item in enumerate(sample.media)]
        return tuple(
            MediaInfo("image", *size, source=item.path) for size, item in zip(sizes, sample.media, strict=True)
        )
    if num_frames is not None or video_processor is None:
        video_processor = LlavaSTVideoProcessor(**({} if num_frames is None else {"num_frames": num_frames}))
    check_times(sample, video_processor.num_frames is None)
    if sample.is_kept_as_frames:
        return (_probe_frames(sample, sample.frame_range, video_processor),)
    return (_probe_file(sample.media[0], "media[0]", sample.frame_range, video_processor),)


def check_headers(sample: Sample) -> VideoHeader | None:
    """
    Check that the files of a record open and are not too large; no packet and no pixel is read.

    Returns what its one clip or image claims to be, an image without frames and length. A file that cannot be opened
    raises `RecordError`, see `load_media`.
    """
    found = []
    for index, item in enumerate(sample.media):
        if item.frames is not None:
            continue
        name = f"media[{index}]"
        if sample.media_type == "video" and len(sample.media) == 1:
            return probe_header(item, name)
        with reasons_of_errors(item, name), open_picture(item.source) as picture:
            check_num_pixels(*picture.size, MAX_PIXELS)
            found.append(VideoHeader(None, None, *picture.size))
    return found[0] if len(found) == 1 else None


def _probe_file(
    item: Media, name: str, frame_range: tuple[int, int] | None, video_processor: LlavaSTVideoProcessor
) -> MediaInfo:
    """Measure a clip that is a file."""
    width, height, timeline = _probe(probe_video_file, item, name)
    metadata = LlavaSTVideoMetadata(
        None, width=width, height=height, frame_seconds=timeline.seconds.tolist(), problems=timeline.problems
    )
    metadata.source, metadata.stated_end_seconds = item.path, timeline.end_seconds
    return _sample(metadata, len(timeline), item, name, frame_range, video_processor)


def _probe_frames(
    record: Sample | Annotation, frame_range: tuple[int, int] | None, video_processor: LlavaSTVideoProcessor
) -> MediaInfo:
    """Measure a clip that is kept as frames: an array, or pictures."""
    first = record.media[0]
    metadata = get_metadata_of_frames(record)
    metadata.width, metadata.height = _probe_picture(first, "media[0]")
    metadata.source = first.path
    num_frames = len(record.media) if len(record.media) > 1 else len(first.frames)
    return _sample(metadata, num_frames, first, "media[0]", frame_range, video_processor)


def _sample(
    metadata: LlavaSTVideoMetadata,
    num_frames: int,
    item: Media,
    name: str,
    frame_range: tuple[int, int] | None,
    video_processor: LlavaSTVideoProcessor,
) -> MediaInfo:
    rate = {"num_frames": video_processor.num_frames, "fps": video_processor.fps}
    with reasons_of_errors(item, name):
        video_processor.choose_frames(metadata, num_frames, **rate, frame_range=frame_range)
    return metadata.to_media_info()


def _probe_picture(item: Media, name: str) -> tuple[int, int]:
    """Return width and height of a picture, or of the frames of an array."""
    if item.frames is not None:
        return item.frames.shape[-2], item.frames.shape[-3]
    return _probe(probe_image_file, item, name)


def _probe(probe: Callable[[Any], Any], item: Media, name: str) -> Any:
    """Probe a file; what is known of a path is kept until the file changes."""
    check_file(item, name, sys.maxsize)
    with reasons_of_errors(item, name):
        if item.content is not None:
            return probe(item.content)
        status = os.stat(item.path)
        return _probe_path(probe, item.path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _probe_path(probe: Callable[[Any], Any], path: str, modified_ns: int, num_bytes: int) -> Any:
    return probe(path)
