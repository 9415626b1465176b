"""Clips and images that several questions are about: each is decoded and encoded once."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..data.media_loading import LoadedMedia
from ..data.samples import Sample
from ..data.skips import RecordError
from ..inference.generation import PROMPT_NAMES, join_inputs
from ..processing.batch_feature_llava_st import LlavaSTBatchFeature

_PIXELS = ("pixel_values", "pixel_values_videos", "video_num_frames")
Messages = list[dict[str, Any]]


@dataclass
class SharedMedium:
    """
    What is kept of the media of some records.

    Args:
        loaded (`LoadedMedia` or `RecordError`): The media, or why they cannot be read.
        inputs (`LlavaSTBatchFeature`, *optional*): What the processor made of the first question, with empty pixels.
        features (`list[torch.Tensor]`, *optional*): What the model made of each medium, (tokens, hidden).
    """

    loaded: LoadedMedia | RecordError
    inputs: LlavaSTBatchFeature | None = None
    features: list[torch.Tensor] | None = None


def find_key(sample: Sample | RecordError) -> Hashable | None:
    """Return what tells the media of a record from others; `None` where they are no files."""
    if isinstance(sample, RecordError) or not sample.media or any(item.path is None for item in sample.media):
        return None
    paths = tuple(item.path for item in sample.media)
    return sample.media_type, paths, sample.frame_range, sample.video_fps, sample.frame_seconds


def find_shared(samples: Iterable[Sample | RecordError]) -> set[Hashable]:
    """Return the keys of media that more than one record is about."""
    counts = Counter(find_key(sample) for sample in samples)
    return {key for key, count in counts.items() if key is not None and count > 1}


def encode(
    model: PreTrainedModel, processor: Any, medium: SharedMedium, messages: Messages, write: Any
) -> LlavaSTBatchFeature:
    """
    Return the inputs of one question without pixels; the first question about a medium encodes it.

    Each medium is encoded alone, so that the digits do not depend on what else is asked.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model.
        processor (`LlavaSTProcessor`): Its processor.
        medium (`SharedMedium`): The medium, which keeps what is made of it.
        messages (`list[dict]`): The question, as `write_messages` wrote it.
        write (`Callable`): Makes inputs with pixels of the same question.
    """
    if medium.inputs is not None:
        return processor.prepare_further_question(messages, medium.inputs)
    inputs = write()
    pixels = {name: inputs[name].to(model.device) for name in _PIXELS if name in inputs}
    name = "video" if "pixel_values_videos" in pixels else "image"
    with torch.no_grad():
        encoded = getattr(model, f"get_{name}_features")(**pixels, output_last_hidden_state=False, return_dict=True)
    medium.features = list(encoded.pooler_output)
    # Further prompts need the shapes of the pixels only.
    shapes = {name: inputs[name].new_zeros(()).expand(inputs[name].shape) for name in pixels if "pixel" in name}
    medium.inputs = LlavaSTBatchFeature({**inputs, **shapes}, media=inputs.media, contexts=inputs.contexts)
    prompt = {name: inputs[name] for name in PROMPT_NAMES}
    return LlavaSTBatchFeature(prompt, media=inputs.media, contexts=inputs.contexts)


def join(
    questions: Sequence[LlavaSTBatchFeature], media: Sequence[SharedMedium], pad_token_id: int, device: torch.device
) -> tuple[LlavaSTBatchFeature, dict[str, Any]]:
    """Make one batch of questions: its inputs, and the arguments of `generate`, media as they are encoded."""
    inputs = join_inputs(questions, pad_token_id)
    features: dict[str, list[torch.Tensor]] = {}
    for medium in media:
        name = "video" if "pixel_values_videos" in medium.inputs else "image"
        features.setdefault(name, []).extend(medium.features)
    encoded = {name: BaseModelOutputWithPooling(pooler_output=given) for name, given in features.items()}
    return inputs, {**{name: inputs[name].to(device) for name in PROMPT_NAMES}, "mm_encoder_outputs": encoded}


__all__ = ["SharedMedium", "encode", "find_key", "find_shared", "join"]
