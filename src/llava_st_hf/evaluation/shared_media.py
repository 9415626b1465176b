"""Clips and images that several questions are about: each is decoded, encoded and read by the language model once."""

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import Cache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..data.media_loading import LoadedMedia
from ..data.samples import Sample
from ..data.skips import RecordError
from ..inference.generation import PROMPT_NAMES, join_inputs
from ..inference.growing_cache import make_growing_cache
from ..processing import LlavaSTBatchFeature
from ..processing.constrained_generation_llava_st import CACHE_NAME, fill_cache

_PIXELS = ("pixel_values", "pixel_values_videos", "video_num_frames")
Messages = list[dict[str, Any]]


@dataclass
class SharedMedium:
    """What is kept of the media of some records."""

    loaded: LoadedMedia | RecordError  # the media, or why they cannot be read
    inputs: LlavaSTBatchFeature | None = None  # what the processor made of the first question, with empty pixels
    features: list[torch.Tensor] | None = None  # what the model made of each medium, (tokens, hidden)
    is_shared: bool = False  # whether several of the records are about them
    prefix: torch.Tensor | None = None  # ids of the prompt up to the end of the media, shape (1, tokens)
    cache: Cache | None = None  # its keys and values, where answers need nothing else


def find_key(sample: Sample | RecordError) -> Hashable | None:
    """Return what tells the media of a record from others; `None` where they are neither files nor arrays."""
    if isinstance(sample, RecordError) or not sample.media:
        return None
    names = tuple(item.path if item.frames is None else _hash_frames(item.frames) for item in sample.media)
    if None in names:
        return None
    return sample.media_type, names, sample.frame_range, sample.video_fps, sample.frame_seconds


def _hash_frames(frames: Any) -> Hashable | None:
    if not isinstance(frames, np.ndarray):
        return None
    return frames.shape, str(frames.dtype), hashlib.blake2b(np.ascontiguousarray(frames)).digest()


def find_shared(samples: Iterable[Sample | RecordError]) -> set[Hashable]:
    """Return the keys of media that more than one record is about."""
    counts = Counter(find_key(sample) for sample in samples)
    return {key for key, count in counts.items() if key is not None and count > 1}


@torch.no_grad()
def encode(
    model: PreTrainedModel,
    processor: Any,
    medium: SharedMedium,
    messages: Messages,
    write: Callable[[], LlavaSTBatchFeature],
    fills_cache: bool = False,
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
        fills_cache (`bool`, *optional*, defaults to `False`): Whether the language model reads the media, too.
    """
    if medium.inputs is not None:
        return processor.prepare_further_question(messages, medium.inputs)
    inputs = write()
    pixels = {name: inputs[name].to(model.device) for name in _PIXELS if name in inputs}
    name = "video" if "pixel_values_videos" in pixels else "image"
    encoded = getattr(model, f"get_{name}_features")(**pixels, output_last_hidden_state=False, return_dict=True)
    medium.features = list(encoded.pooler_output)
    if fills_cache:
        ids, offsets = (inputs[name].to(model.device) for name in ("input_ids", "coordinate_offsets"))
        medium.cache = make_growing_cache()
        features = {name: BaseModelOutputWithPooling(pooler_output=medium.features)}
        length = fill_cache(model, ids, medium.cache, offsets, mm_encoder_outputs=features)
        medium.prefix = inputs["input_ids"][:, :length]
    # Further prompts need the shapes of the pixels only.
    shapes = {name: inputs[name].new_zeros(()).expand(inputs[name].shape) for name in pixels if "pixel" in name}
    medium.inputs = LlavaSTBatchFeature({**inputs, **shapes}, media=inputs.media, contexts=inputs.contexts)
    prompt = {name: inputs[name] for name in PROMPT_NAMES}
    return LlavaSTBatchFeature(prompt, media=inputs.media, contexts=inputs.contexts)


def join(
    questions: Sequence[LlavaSTBatchFeature], media: Sequence[SharedMedium], pad_token_id: int, device: torch.device
) -> tuple[LlavaSTBatchFeature, dict[str, Any]]:
    """Make one batch of questions: its inputs, and the arguments of `generate`, media as they are encoded or read."""
    if all(map(_begins_with_media, questions, media)):
        lengths = [medium.prefix.shape[1] for medium in media]
        # What is read and what is left are padded on the left each.
        read, rest = (
            join_inputs([_cut(*each, is_read) for each in zip(questions, lengths, strict=True)], pad_token_id)
            for is_read in (True, False)
        )
        whole = {name: torch.cat([read[name], rest[name]], dim=1) for name in PROMPT_NAMES}
        inputs = LlavaSTBatchFeature(whole, media=rest.media, contexts=rest.contexts)
        return inputs, {**_move(inputs, device), CACHE_NAME: _join_caches([medium.cache for medium in media])}
    inputs = join_inputs(questions, pad_token_id)
    features: dict[str, list[torch.Tensor]] = {}
    for medium in media:
        name = "video" if "pixel_values_videos" in medium.inputs else "image"
        features.setdefault(name, []).extend(medium.features)
    encoded = {name: BaseModelOutputWithPooling(pooler_output=given) for name, given in features.items()}
    return inputs, {**_move(inputs, device), "mm_encoder_outputs": encoded}


def _begins_with_media(question: LlavaSTBatchFeature, medium: SharedMedium) -> bool:
    """Tell whether the language model has read the beginning of a question."""
    if medium.prefix is None:
        return False
    ids, length = question["input_ids"], medium.prefix.shape[1]
    return 0 < length < ids.shape[1] and torch.equal(ids[:, :length], medium.prefix)


def _cut(question: LlavaSTBatchFeature, length: int, is_read: bool) -> LlavaSTBatchFeature:
    """Return what a model has read of a question, or what is left."""
    part = slice(length) if is_read else slice(length, None)
    ids = {name: question[name][:, part] for name in PROMPT_NAMES}
    return LlavaSTBatchFeature(ids, media=question.media, contexts=question.contexts)


def _join_caches(caches: Sequence[Cache]) -> Cache:
    """Make one cache of those of some media, padded on the left."""
    joined, longest = make_growing_cache(), max(cache.get_seq_length() for cache in caches)
    for layer in range(len(caches[0].layers)):
        states = []
        for name in ("keys", "values"):
            parts = [getattr(cache.layers[layer], name) for cache in caches]
            states.append(torch.cat([pad(part, (0, 0, longest - part.shape[-2], 0)) for part in parts]))
        joined.update(*states, layer)
    return joined


def _move(inputs: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: inputs[name].to(device) for name in PROMPT_NAMES}
