"""Decoding answers that always parse, without spending a forward pass on what a grammar leaves no choice about.

A logits processor leaves only the tokens that the grammar of each answer allows. A decoding loop feeds the tokens that
are certain together with the last one that was chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation import GenerateDecoderOnlyOutput

from .answer_grammar_llava_st import AnswerGrammar, Choices, Walk
from .media_llava_st import InputError


class GrammarLogitsProcessor(LogitsProcessor):
    """
    Leave only the tokens that the grammar of each answer allows.

    Args:
        grammars (`Sequence[AnswerGrammar]`):
            One for each sample; where a sample has several rows (beams, return sequences) they stand beside each
            other.
        prompt_length (`int`): Tokens of the prompt, padding included.

    Example:

    ```python
    >>> grammar = AnswerGrammar(processor.grammar_vocabulary, "span", max_new_tokens=32)
    >>> constrained = GrammarLogitsProcessor([grammar], prompt_length=inputs["input_ids"].shape[1])
    >>> model.generate(**inputs, logits_processor=LogitsProcessorList([constrained]), max_new_tokens=32)
    ```
    """

    def __init__(self, grammars: Sequence[AnswerGrammar], prompt_length: int):
        self.grammars = list(grammars)
        self.prompt_length = prompt_length
        self._walks: dict[tuple[int, ...], Walk] = {}
        self._masks: dict[tuple[str, torch.device], torch.Tensor] = {}
        # Ordinary tokens at which `generate` would stop, where a checkpoint lists some: they may not be part of words.
        self.stopping_ids: list[int] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return the scores (rows, vocabulary) with everything that may not come next at minus infinity."""
        permitted = torch.zeros_like(scores, dtype=torch.bool)
        for row, choices in enumerate(self.list_choices(input_ids)):
            if choices.mask is not None:
                mask = self._get_mask(choices.mask, scores.device)
                permitted[row, : len(mask)] = mask
            if choices.ids:
                permitted[row, list(choices.ids)] = True
            permitted[row, choices.first : choices.last + 1] = True
        allowed = scores.masked_fill(~permitted, float("-inf"))
        # Where another processor has ruled out all that the grammar allows, the grammar stands, with even scores.
        ruled_out = ~torch.isfinite(allowed).any(-1, keepdim=True)
        return torch.where(ruled_out & permitted, 0.0, allowed)

    def list_choices(self, input_ids: torch.LongTensor) -> list[Choices]:
        """List what may come next in each row."""
        rows = input_ids[:, self.prompt_length :].tolist()
        rows_per_sample = max(1, len(rows) // len(self.grammars))
        choices = []
        for index, row in enumerate(rows):
            sample = index // rows_per_sample
            walk = self._find_walk(sample, tuple(row))
            choices.append(self.grammars[sample].choices(walk, len(row)))
        return choices

    def _find_walk(self, sample: int, generated: tuple[int, ...]) -> Walk:
        """Find the state after some tokens from that after one less, which the step before has left."""
        if not generated:
            return self.grammars[sample].start
        key = (sample, *generated)
        if key not in self._walks:
            if len(self._walks) > 4096:
                self._walks.clear()
            walk, known = self.grammars[sample].start, 0
            if key[:-1] in self._walks:
                walk, known = self._walks[key[:-1]], len(generated) - 1
            for token_id in generated[known:]:
                walk = self.grammars[sample].advance(walk, token_id)
            self._walks[key] = walk
        return self._walks[key]

    def _get_mask(self, name: str, device: torch.device) -> torch.Tensor:
        if (name, device) not in self._masks:
            vocabulary = self.grammars[0].vocabulary
            mask = vocabulary.masks[name.removesuffix(" words")].clone()
            if name.endswith(" words"):
                mask &= vocabulary.is_word
            mask[[token_id for token_id in self.stopping_ids if token_id < len(mask)]] = False
            self._masks[name, device] = mask.to(device)
        return self._masks[name, device]


@dataclass
class ConstrainedOutput(GenerateDecoderOnlyOutput):
    """
    What [`decode_with_forced_runs`] returns with `return_dict_in_generate=True`.

    Args:
        coordinate_scores (`tuple[torch.Tensor]`):
            For each new token the scores of the coordinate tokens (batch, coordinates), time then height then width:
            what it takes to read an answer finer than a bin, without the scores of the whole vocabulary.
    """

    coordinate_scores: tuple[torch.FloatTensor] | None = None


def decode_with_forced_runs(
    model: Any,
    input_ids: torch.LongTensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: Any,
    generation_config: Any,
    synced_gpus: bool = False,
    streamer: Any = None,
    **model_kwargs: Any,
) -> torch.LongTensor | ConstrainedOutput:
    """
    Decode greedily or by sampling, feeding tokens that the grammar leaves no choice about without a pass of their own.

    It is the `custom_generate` of `generate`. The answers are those of decoding one token at a time with the same
    logits processor. In a batch a run is as long as the shortest among the rows that go on.

    Args:
        model (`PreTrainedModel`): The model.
        input_ids (`torch.LongTensor` of shape `(batch, sequence)`): The prompts.
        logits_processor (`LogitsProcessorList`): Holds a [`GrammarLogitsProcessor`].
        stopping_criteria (`StoppingCriteriaList`): As `generate` prepared them.
        generation_config (`GenerationConfig`): As `generate` prepared it.
        synced_gpus (`bool`, *optional*, defaults to `False`): Not supported: every process stops by itself.
        streamer (`BaseStreamer`, *optional*): Gets each token.
        model_kwargs: Inputs of the model.

    Returns:
        `torch.LongTensor` of shape `(batch, sequence)`, or with `return_dict_in_generate` a [`ConstrainedOutput`].
    """
    grammar = next(processor for processor in logits_processor if isinstance(processor, GrammarLogitsProcessor))
    _check_supported(generation_config)
    if generation_config._eos_token_tensor is not None:
        grammar.stopping_ids = generation_config._eos_token_tensor.tolist()
    wants_scores = generation_config.return_dict_in_generate and generation_config.output_scores
    pad = generation_config._pad_token_tensor
    pad = input_ids.new_zeros(()) if pad is None else pad.to(input_ids.device)
    unfinished = input_ids.new_ones(input_ids.shape[0])
    scores: list[torch.Tensor] = []
    coordinate_scores: list[torch.Tensor] = []
    vocabulary = grammar.grammars[0].vocabulary
    coordinates = slice(vocabulary.first_id["t"], vocabulary.size)

    def keep(step_scores: torch.Tensor, is_certain: bool = False) -> None:
        if wants_scores:
            scores.append(step_scores)
        if generation_config.return_dict_in_generate:
            kept = step_scores[:, coordinates].clone()
            # What the grammar alone decided says nothing about how sure the model is.
            coordinate_scores.append(kept.fill_(float("nan")) if is_certain else kept)

    def append(next_ids: torch.LongTensor) -> None:
        nonlocal input_ids, unfinished
        next_ids = next_ids * unfinished + pad * (1 - unfinished)
        input_ids = torch.cat([input_ids, next_ids[:, None]], dim=-1)
        if streamer is not None:
            streamer.put(next_ids.cpu())
        unfinished = unfinished & ~stopping_criteria(input_ids, tuple(scores))

    outputs = model._prefill(input_ids, generation_config, model_kwargs)
    while True:
        logits = outputs.logits[:, -1].to(copy=True, dtype=torch.float32, device=input_ids.device)
        step_scores = logits_processor(input_ids, logits)
        keep(step_scores)
        if generation_config.do_sample:
            next_ids = torch.multinomial(step_scores.softmax(-1), num_samples=1).squeeze(1)
        else:
            next_ids = step_scores.argmax(-1)
        append(next_ids)
        num_new = 1
        while unfinished.any() and (forced := _find_forced(grammar, input_ids, unfinished)) is not None:
            keep(torch.full_like(step_scores, float("-inf")).scatter(1, forced[:, None], 0.0), is_certain=True)
            append(forced)
            num_new += 1
        # Mask and positions grow by what the next pass gets: the chosen token, and those that were certain.
        model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs, num_new_tokens=num_new)
        if not unfinished.any():
            break
        model_inputs = model.prepare_inputs_for_generation(
            input_ids, next_sequence_length=num_new if model_kwargs.get("use_cache") else None, **model_kwargs
        )
        outputs = model(**model_inputs, return_dict=True)
    if streamer is not None:
        streamer.end()
    if not generation_config.return_dict_in_generate:
        return input_ids
    return ConstrainedOutput(
        sequences=input_ids,
        scores=tuple(scores) if wants_scores else None,
        coordinate_scores=tuple(coordinate_scores),
        past_key_values=model_kwargs.get("past_key_values"),
    )


def _check_supported(generation_config: Any) -> None:
    """Refuse what this loop does not do, by name."""
    if generation_config.num_beams > 1:
        raise InputError(
            f"num_beams is {generation_config.num_beams}: tell build_constraints(..., num_beams=...), which then "
            "leaves the search to generate."
        )
    for name in ("output_logits", "output_hidden_states", "output_attentions"):
        if getattr(generation_config, name, None):
            raise InputError(f"{name} is set: constrained decoding does not keep it, leave custom_generate out.")


def _find_forced(
    grammar: GrammarLogitsProcessor, input_ids: torch.LongTensor, unfinished: torch.LongTensor
) -> torch.LongTensor | None:
    """Return the only next token of each row (rows,), or None where a row that goes on has a choice."""
    goes_on = unfinished.tolist()
    forced = [choices.forced for choices in grammar.list_choices(input_ids)]
    if any(token is None for token, is_open in zip(forced, goes_on, strict=True) if is_open):
        return None
    return input_ids.new_tensor([token or 0 for token in forced])


def make_generate_arguments(
    grammars: Sequence[AnswerGrammar],
    prompt_length: int,
    max_new_tokens: int,
    num_beams: int = 1,
    streamer: Any = None,
) -> dict[str, Any]:
    """
    Collect the arguments with which `generate` keeps to the grammars.

    Args:
        grammars (`Sequence[AnswerGrammar]`): One for each sample.
        prompt_length (`int`): Tokens of the prompts, padding included.
        max_new_tokens (`int`): Longest answer, for which the grammars were made.
        num_beams (`int`, *optional*, defaults to 1): Above 1 certain tokens get a pass of their own.
        streamer (`BaseStreamer`, *optional*): Gets each token; `generate` does not hand it on by itself.

    Returns:
        `dict`: `logits_processor`, `max_new_tokens`, and `custom_generate` where beams do not forbid it.
    """
    arguments: dict[str, Any] = {
        "logits_processor": LogitsProcessorList([GrammarLogitsProcessor(grammars, prompt_length)]),
        "max_new_tokens": max_new_tokens,
    }
    if num_beams > 1:
        return {**arguments, "num_beams": num_beams}
    return {**arguments, "custom_generate": partial(decode_with_forced_runs, streamer=streamer)}


__all__ = ["ConstrainedOutput", "GrammarLogitsProcessor", "decode_with_forced_runs", "make_generate_arguments"]
