"""Opens the media of a record within limits: what cannot be opened is a `RecordError` with its reason.

Nothing is read that is no regular file, and nothing from the network. The frames of a clip leave this module resized,
so that the memory they take does not depend on the size of the frames in the file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..processing import (
    EmptyMediaError,
    LlavaSTVideoMetadata,
    LlavaSTVideoProcessor,
    MediaInfo,
    OversizedMediaError,
    open_image,
)
from ..processing.image_loading_llava_st import (
    DECODER_ERRORS,
    check_source,
    describe_source,
    is_url,
    load_images,
    open_picture,
)
from ..processing.media_llava_st import MissingMediaError
from .annotations import Annotation
from .samples import Media, Sample
from .skips import RecordError, make_fault

MAX_PIXELS = 128 * 2**20  # 400 MB as RGB
MAX_FILE_BYTES = 4 * 2**30

# Of what opening a medium raises, the first that fits.
_REASONS = {
    **dict.fromkeys((OversizedMediaError, Image.DecompressionBombError, MemoryError), "oversized_media"),
    MissingMediaError: "missing_media",
    EmptyMediaError: "empty_media",
    **dict.fromkeys(DECODER_ERRORS, "unreadable_media"),
}
# How the times of frames are said, for messages.
TIMES_FIX = "give video_fps (frames a second) or frame_seconds in the record, or video_fps in the mixture"


@dataclass
class LoadedMedia:
    """
    The media of one record, decoded.

    Args:
        blocks (`list`, *optional*):
            What takes the place of the media in the chat messages: images (RGB, or uint8 arrays), or the sampled
            frames of one clip, uint8, shape (frames, 3, height, width).
        video_metadata (`list[LlavaSTVideoMetadata]`, *optional*): Size and time line of the clip; empty for images.
    """

    blocks: list[Any] = field(default_factory=list)
    video_metadata: list[LlavaSTVideoMetadata] = field(default_factory=list)

    def get_infos(self) -> tuple[MediaInfo, ...]:
        """Return size and time line of each medium."""
        if not self.video_metadata:
            return tuple(load_images(self.blocks)[1])
        return tuple(metadata.to_media_info() for metadata in self.video_metadata)


def load_media(
    sample: Sample,
    video_processor: LlavaSTVideoProcessor,
    num_frames: int | None = None,
    max_frames: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> LoadedMedia:
    """
    Open and decode the media of a record, each once.

    Args:
        sample (`Sample`): The record.
        video_processor (`LlavaSTVideoProcessor`): Samples and resizes the frames of clips.
        num_frames (`int`, *optional*): Frames to sample of a clip; what the processor samples when left out.
        max_frames (`int`, *optional*): Most frames to sample of a clip; more are refused before any is decoded.
        max_pixels (`int`, *optional*, defaults to 134,217,728):
            Most pixels of the images of the record together, or of one picture that is a frame of a clip. (A frame of
            a video file has a limit of its own, `MAX_FRAME_PIXELS` of `media_llava_st`.)
        max_file_bytes (`int`, *optional*, defaults to 4,294,967,296): Most bytes of one file.

    Returns:
        `LoadedMedia`: The images or the clip.

    Raises:
        `RecordError`: With the reason `missing_media`, `unreadable_media`, `empty_media`, `oversized_media`,
            `network_media` or `invalid_field`.
    """
    for index, item in enumerate(sample.media):
        if item.frames is None:
            check_file(item, f"media[{index}]", max_file_bytes)
    if sample.media_type != "video":
        return LoadedMedia(_open_images(sample.media, max_pixels))
    request = {"max_frames": max_frames, "frame_range": sample.frame_range}
    if num_frames is not None:
        request["num_frames"] = num_frames
    item = sample.media[0]
    check_times(sample, num_frames is None and video_processor.num_frames is None)
    if len(sample.media) > 1:
        return _load_pictures_of_clip(sample, video_processor, request, max_pixels)
    with reasons_of_errors(item, "media[0]"):
        if item.frames is not None:
            given = get_metadata_of_frames(sample)
            return LoadedMedia(*video_processor.decode_videos(item.frames, video_metadata=given, **request))
        source = item.path if item.content is None else item.content
        return LoadedMedia(*video_processor.decode_videos(source, **request))


def _open_images(media: tuple[Media, ...], max_pixels: int) -> list[Any]:
    images, num_pixels = [], 0
    for index, item in enumerate(media):
        images.append(_open_picture(item, f"media[{index}]", num_pixels, max_pixels))
        width, height = _get_size(images[-1])
        num_pixels += width * height
    return images


def get_metadata_of_frames(record: Sample | Annotation) -> LlavaSTVideoMetadata:
    """Return what a record says of its clip that is kept as frames."""
    seconds = None if record.frame_seconds is None else [float(second) for second in record.frame_seconds]
    return LlavaSTVideoMetadata(total_num_frames=None, fps=record.video_fps, frame_seconds=seconds)


def _load_pictures_of_clip(
    sample: Sample, video_processor: LlavaSTVideoProcessor, request: dict[str, Any], max_pixels: int
) -> LoadedMedia:
    """Sample a clip whose frames are pictures of their own; only those sampled are opened, one at a time."""
    media, metadata = sample.media, get_metadata_of_frames(sample)
    rate = {"num_frames": video_processor.num_frames, "fps": video_processor.fps}
    if "num_frames" in request:
        rate = {"fps": None}
    with reasons_of_errors(media[0], "media"):
        places = video_processor.choose_frames(metadata, len(media), **rate, **request)
    size: tuple[int, int] | None = None
    resized: dict[int, torch.Tensor] = {}  # (1, 3, height, width) by place
    for place in dict.fromkeys(places.tolist()):
        name = f"media[{place}]"
        picture = _open_picture(media[place], name, 0, max_pixels)
        size = size or _get_size(picture)
        if _get_size(picture) != size:
            said = f"is {_describe(media[place])} with {_get_size(picture)} pixels, but the clip begins with {size}"
            raise make_fault(name, said, "give frames of one size")
        with reasons_of_errors(media[place], name):
            (resized[place],), _ = video_processor.decode_videos([np.asarray(picture)], do_sample_frames=False)
    metadata.width, metadata.height = size
    return LoadedMedia([torch.cat([resized[place] for place in places.tolist()])], [metadata])


def check_times(sample: Sample, samples_by_rate: bool = False) -> None:
    """Refuse, with a `RecordError`, what needs the times of a clip's frames where nothing says them."""
    if sample.has_times:
        return
    if samples_by_rate:
        fix = f"frames are sampled by their time (fps), but nothing says when those of the clip are: {TIMES_FIX}"
        raise make_fault("video_fps", "is missing", fix)
    for message, coordinates in zip(sample.messages, sample.find_coordinates(), strict=True):
        if text := next((each.text for each in coordinates if each.unit == "seconds"), None):
            raise RecordError(
                "invalid_field",
                "messages",
                f"a message of the {message['role']} holds {text}, but nothing says when the frames of the clip are: "
                f"{TIMES_FIX}, or write times as fractions, <t=0.35>.",
            )


def check_file(item: Media, name: str, max_file_bytes: int) -> None:
    """
    Check that a medium with a path or content is a file of the right size, before anything opens it.

    One that is missing, empty, larger, on the network or no regular file raises `RecordError`.
    """
    if item.content is None and (is_url(item.path) or item.path.startswith("data:")):
        raise make_fault(name, f"is {_describe(item)}", "download it and give the path of the file", "network_media")
    with reasons_of_errors(item, name):
        check_source(item.source)
        num_bytes = os.stat(item.path).st_size if item.content is None else len(item.content)
    if num_bytes > max_file_bytes:
        said = f"is {_describe(item)} of {num_bytes:,} bytes, more than max_file_bytes={max_file_bytes:,}"
        raise make_fault(name, said, "cut or compress it, or raise the limit", "oversized_media")


def _open_picture(item: Media, name: str, num_pixels_before: int, max_pixels: int) -> Any:
    """Open one picture, if what its header claims fits into the limit."""
    if item.frames is not None:
        return item.frames
    with reasons_of_errors(item, name), open_picture(item.source) as picture:
        check_num_pixels(*picture.size, max_pixels, num_pixels_before)
        return open_image(picture)


def check_num_pixels(width: int, height: int, max_pixels: int, num_pixels_before: int = 0) -> None:
    """Raise `OversizedMediaError` for a picture that does not fit into a limit, with the images before it."""
    num_pixels = num_pixels_before + width * height
    if num_pixels > max_pixels:
        before = f", {num_pixels:,} with the images before it" if num_pixels_before else ""
        raise OversizedMediaError(
            f"it has {width}x{height} pixels{before}, more than max_pixels={max_pixels:,}: scale it down, or raise "
            "the limit."
        )


def _get_size(picture: Any) -> tuple[int, int]:
    """Return width and height."""
    return picture.size if isinstance(picture, Image.Image) else picture.shape[1::-1]


@contextmanager
def reasons_of_errors(item: Media, name: str) -> Iterator[None]:
    """Turn what opening a medium raises into a `RecordError`."""
    try:
        yield
    except tuple(_REASONS) as error:
        reason = next(reason for kind, reason in _REASONS.items() if isinstance(error, kind))
        described, message = _describe(item), str(error) or type(error).__name__
        # Some errors say already which file it is.
        said = name if message.startswith(described) else f"{name} is {described}"
        raise RecordError(reason, name, f"{said}: {message}") from error


def _describe(item: Media) -> str:
    """Return what a medium is, for messages."""
    return f"an array of shape {item.frames.shape}" if item.frames is not None else describe_source(item.source)
