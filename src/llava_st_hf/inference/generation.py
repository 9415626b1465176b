"""From the inputs of questions to their answers, one or a batch of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel

from ..processing import GroundingResult, GroundingStreamer, InputError, LlavaSTBatchFeature, LlavaSTProcessor
from ..processing.media_llava_st import UNKNOWN_RATE
from .options import AnsweringOptions, ReadingOptions

# Of a checkpoint: each beam takes the memory of a question.
MAX_SAVED_BEAMS = 16
PROMPT_NAMES = ("input_ids", "attention_mask", "coordinate_offsets")


def prepare_messages(
    processor: LlavaSTProcessor, messages: Sequence[Mapping[str, Any]], reading: ReadingOptions
) -> LlavaSTBatchFeature:
    """Process the chat messages of one question, with their media; frames whose times nobody knows are refused."""
    inputs = processor.apply_chat_template(
        messages,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=reading.to_kwargs(),
    )
    for medium in (medium for sample in inputs.media for medium in sample):
        if any(problem.startswith(UNKNOWN_RATE) for problem in medium.problems):
            raise InputError(
                "the video is given as frames, and nothing says when they are: give video_fps=... (frames a second) "
                "or frame_seconds=[...] (the time of each) with them, or the path of the file.",
                field="video_fps",
            )
    return inputs


def generate_answers(
    model: PreTrainedModel,
    processor: LlavaSTProcessor,
    inputs: LlavaSTBatchFeature,
    options: AnsweringOptions,
    model_inputs: Mapping[str, Any],
) -> list[GroundingResult]:
    """
    Let a model answer questions, whose inputs are left-padded; `model_inputs` is what `generate` is given of them.

    Several answers to a question, or a `max_new_tokens` that is too small, are an `InputError`.
    """
    generate = {"do_sample": False, "max_new_tokens": options.max_new_tokens, **options.generate}
    generate["num_beams"] = count_beams(options, model)
    if isinstance(generate.get("streamer"), GroundingStreamer):
        generate["streamer"].start(processor, inputs)
    # A conversation whose task nobody named is answered freely: there is no grammar for it.
    if options.constrained and all(context.task is not None for context in inputs.contexts):
        constraints = processor.build_constraints(
            inputs, max_new_tokens=options.max_new_tokens, every_frame=options.every_frame
        )
        constraints["logits_processor"][:0] = generate.pop("logits_processor", None) or []
        generate |= constraints
    return processor.post_process_grounding(model.generate(**model_inputs, **generate), inputs)


def find_option(name: str, options: AnsweringOptions, model: PreTrainedModel) -> Any:
    """Return what an option of `generate` is, by the options or else by the config of the model."""
    if options.generate.get(name) is not None:
        return options.generate[name]
    return getattr(options.generate.get("generation_config") or model.generation_config, name, None)


def count_beams(options: AnsweringOptions, model: PreTrainedModel) -> int:
    """Return the number of beams that options mean; several answers to a question are an `InputError`."""
    if (count := find_option("num_return_sequences", options, model) or 1) > 1:
        raise InputError(
            f"num_return_sequences is {count}: a question gets one answer here; for more, call model.generate."
        )
    count = find_option("num_beams", options, model) or 1
    is_asked = options.generate.get("num_beams") or options.generate.get("generation_config")
    if not is_asked and not (isinstance(count, int) and count <= MAX_SAVED_BEAMS):
        raise InputError(
            f"num_beams is {count!r:.80} in generation_config.json of the model, more than {MAX_SAVED_BEAMS}: fix it "
            "there, or give the number with the question, generate={'num_beams': ...}."
        )
    return count


def join_inputs(inputs: Sequence[LlavaSTBatchFeature], pad_token_id: int) -> LlavaSTBatchFeature:
    """Make one batch of questions that were processed one by one: prompts padded on the left, clips at their end."""
    length = max(item["input_ids"].shape[1] for item in inputs)
    joined = {
        name: torch.cat(
            [
                pad(item[name], (length - item[name].shape[1], 0), value=pad_token_id if name == "input_ids" else 0)
                for item in inputs
            ]
        )
        for name in PROMPT_NAMES
    }
    if images := [item["pixel_values"] for item in inputs if "pixel_values" in item]:
        joined["pixel_values"] = torch.cat(images)
    clips = [item for item in inputs if "pixel_values_videos" in item]
    if clips:
        counts = torch.cat([_count_frames(item) for item in clips])
        most = int(counts.max())
        videos = [item["pixel_values_videos"][:, :most] for item in clips]  # (videos, frames, 3, height, width)
        joined["pixel_values_videos"] = torch.cat(
            [pad(video, (0,) * 7 + (most - video.shape[1],)) for video in videos]
        )
        if (counts != most).any():
            joined["video_num_frames"] = counts
    media, contexts = ([entry for item in inputs for entry in getattr(item, name)] for name in ("media", "contexts"))
    return LlavaSTBatchFeature(joined, media=media, contexts=contexts)


def _count_frames(item: LlavaSTBatchFeature) -> torch.Tensor:
    """Return the number of frames of each clip of one question."""
    if "video_num_frames" in item:
        return item["video_num_frames"]
    num_videos, num_frames = item["pixel_values_videos"].shape[:2]
    return torch.full((num_videos,), num_frames)
