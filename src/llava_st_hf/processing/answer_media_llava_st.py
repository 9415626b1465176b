"""Which medium each answer is about: what the inputs know, or what the caller says in our way or in transformers'."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers.video_utils import VideoMetadata

from .batch_feature_llava_st import GroundingContext, find_questions
from .image_loading_llava_st import FILE_TYPES, guess_media_type, load_images
from .media_llava_st import InputError, MediaInfo
from .video_processing_llava_st import LlavaSTVideoProcessor, to_metadata

Questions = tuple[list[tuple[MediaInfo, ...]], list[GroundingContext]]


def list_questions(
    inputs: Mapping[str, Any] | None,
    media: Any,
    target_sizes: Any,
    video_metadata: Any,
    video_processor: LlavaSTVideoProcessor,
) -> Questions:
    """
    Find the media of each sample and what it asks, by the arguments of `post_process_grounding`.

    `media` counts before what `inputs` know. If nothing says what the answers are about, or two things say it that do
    not fit, it is an `InputError`.
    """
    known = find_questions(inputs)
    if media is not None:
        found = _read_media(media, video_processor)
    elif target_sizes is not None or video_metadata is not None:
        found = _read_sizes(target_sizes, video_metadata)
    elif known is not None:
        found = known[0]
    elif inputs is None:
        raise InputError("inputs is missing: give what the processor returned, or media=, or target_sizes=.")
    else:
        raise InputError(
            f"inputs is a {type(inputs).__name__} without media (tensors that are moved or changed one by one lose "
            "them): give what the processor returned itself, or media=inputs.media of it."
        )
    asked = known[1] if known is not None and len(known[1]) == len(found) else [GroundingContext()] * len(found)
    return found, asked


def _read_media(media: Any, video_processor: LlavaSTVideoProcessor) -> list[tuple[MediaInfo, ...]]:
    """Return the media of each sample; one medium alone is that of the only sample."""
    samples = media if isinstance(media, (list, tuple)) else [media]
    entries = (sample if isinstance(sample, (list, tuple)) else [sample] for sample in samples)
    return [tuple(_probe(item, video_processor) for item in entry) for entry in entries]


def _probe(medium: Any, video_processor: LlavaSTVideoProcessor) -> MediaInfo:
    if isinstance(medium, MediaInfo):
        return medium
    if guess_media_type(medium) == "image":
        (info,) = load_images([medium])[1]
        return info
    if isinstance(medium, FILE_TYPES):
        return video_processor.probe(medium).to_media_info()
    raise InputError(f"media is a {type(medium).__name__}: give a MediaInfo, such as inputs.media, or a file.")


def _read_sizes(target_sizes: Any, video_metadata: Any) -> list[tuple[MediaInfo, ...]]:
    """Return the media that transformers' own arguments of `post_process_` functions describe."""
    clips = [video_metadata] if isinstance(video_metadata, (dict, VideoMetadata)) else video_metadata
    sizes = target_sizes if target_sizes is not None else [None] * len(clips)
    clips = clips if clips is not None else [None] * len(sizes)
    if len(sizes) != len(clips):
        raise InputError(
            f"target_sizes has {len(sizes)} entries and video_metadata {len(clips)}: give one of each for each sample."
        )
    return [(_describe(size, clip),) for size, clip in zip(sizes, clips, strict=True)]


def _describe(size: Sequence[int] | None, clip: Any) -> MediaInfo:
    height, width = (None, None) if size is None else map(int, size)
    if clip is None:
        if size is None:
            raise InputError("video_metadata has an entry that is None, an image: give target_sizes for it.")
        return MediaInfo("image", width, height)
    metadata = to_metadata(clip)
    metadata.height, metadata.width = height or metadata.height, width or metadata.width
    for name in ("height", "width", "frames_indices"):
        if metadata[name] is None:
            fix = "give target_sizes too" if name != "frames_indices" else "give the frames that the model saw"
            raise InputError(f"video_metadata has no {name}: {fix}.")
    if metadata.frame_seconds is None and metadata.fps is None:
        raise InputError("video_metadata has neither frame_seconds nor fps: give when its frames are.")
    return metadata.to_media_info()


__all__ = ["list_questions"]
