"""Decoding answers that always parse, in fewer forward passes than tokens.

[`GrammarLogitsProcessor`] leaves only the tokens that the grammar of each answer allows; any engine can use it. The
loop [`decode_in_runs`] then gives the answers of one token at a time, but a pass of the model takes a run of tokens:

1. the token chosen last;
2. what the grammar leaves no choice about behind it (brackets, marks, often the time of the next box);
3. for a single answer, a guess at the next corners of a box, from the box before. The pass scores every place of the
   guess. What is chosen there is kept as far as it agrees with the guess, and the first choice that does not; what the
   cache holds of the rest is dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.cache_utils import DynamicLayer
from transformers.generation import GenerateDecoderOnlyOutput

from .answer_grammar_llava_st import AnswerGrammar, Walk
from .grammar_vocabulary_llava_st import Choices
from .media_llava_st import InputError


class GrammarLogitsProcessor(LogitsProcessor):
    """
    Leave only the tokens that the grammar of each answer allows.

    Args:
        grammars (`Sequence[AnswerGrammar]`):
            One for each sample; where a sample has several rows (beams, return sequences) they stand beside each
            other.
        prompt_length (`int`): Tokens in front of the answers in what is handed over, padding included.

    Example:

    ```python
    >>> constrained = processor.build_logits_processor(inputs, max_new_tokens=32)
    >>> model.generate(**inputs, logits_processor=[constrained], max_new_tokens=32)
    ```
    """

    def __init__(self, grammars: Sequence[AnswerGrammar], prompt_length: int):
        self.grammars = list(grammars)
        self.prompt_length = prompt_length
        # Ordinary tokens at which `generate` would stop, where a checkpoint lists some: they may not be part of words.
        self.stopping_ids: tuple[int, ...] = ()
        # The answers (rows, tokens) at the last call, and where each of them stood.
        self._known = torch.zeros(0, 0, dtype=torch.long)
        self._walks: list[Walk] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return the scores (rows, vocabulary) with everything that may not come next at minus infinity."""
        choices = self.list_choices(input_ids)
        allowed = self._keep_allowed(scores, choices)
        # Where another processor has ruled out all that the grammar allows, the grammar stands, with even scores.
        ruled_out = ~(allowed.amax(-1, keepdim=True) > float("-inf"))
        if ruled_out.any():
            allowed = torch.where(ruled_out, self._keep_allowed(torch.zeros_like(scores), choices), allowed)
        return allowed

    def _keep_allowed(self, scores: torch.FloatTensor, choices: Sequence[Choices]) -> torch.FloatTensor:
        allowed = torch.full_like(scores, float("-inf"))
        for row, (ids, first, last, mask) in enumerate(choices):
            if mask is not None:
                ceiling = self.grammars[0].vocabulary.get_ceiling(mask, self.stopping_ids, scores)
                allowed[row, : len(ceiling)] = torch.minimum(scores[row, : len(ceiling)], ceiling)
            if ids:
                allowed[row, list(ids)] = scores[row, list(ids)]
            if first <= last:
                allowed[row, first : last + 1] = scores[row, first : last + 1]
        return allowed

    def list_choices(self, input_ids: torch.LongTensor) -> list[Choices]:
        """List what may come next in each row."""
        walks = self.find_walks(input_ids)
        num_generated = input_ids.shape[1] - self.prompt_length
        per_sample = len(walks) // len(self.grammars)
        return [self.grammars[row // per_sample].choices(walk, num_generated) for row, walk in enumerate(walks)]

    def find_walks(self, input_ids: torch.LongTensor) -> list[Walk]:
        """
        Find where each row stands in its grammar.

        It goes on from the last call where that knew the beginning of a row: the row itself, or with beams one of the
        same sample.

        Raises:
            `InputError`: When there are not as many rows for each sample as for any other.
        """
        if len(input_ids) % len(self.grammars):
            raise InputError(
                f"input_ids has {len(input_ids)} rows, the logits processor {len(self.grammars)} samples: build it "
                "for the samples that are decoded together, each with as many rows as any other."
            )
        answers = input_ids[:, self.prompt_length :].cpu()
        per_sample = len(answers) // len(self.grammars)
        if len(answers) != len(self._walks):
            self._known, self._walks = answers[:, :0], []
        walks = []
        for row, answer in enumerate(answers):
            sample = row // per_sample
            beams = range(sample * per_sample, (sample + 1) * per_sample)
            walks.append(self._find_walk(self.grammars[sample], answer, (row, *beams)))
        self._known, self._walks = answers, walks
        return walks

    def _find_walk(self, grammar: AnswerGrammar, answer: torch.LongTensor, rows: Sequence[int]) -> Walk:
        """Walk to the end of an answer, from where one of `rows` stood if the answer begins like it."""
        length = self._known.shape[1]
        known = (self._walks[row] for row in rows if length and torch.equal(self._known[row], answer[:length]))
        walk = next(known, None)
        if walk is None:
            walk, length = grammar.start, 0
        for token_id in answer[length:].tolist():
            walk = grammar.advance(walk, token_id)
        return walk


@dataclass
class ConstrainedOutput(GenerateDecoderOnlyOutput):
    """
    What [`decode_in_runs`] returns with `return_dict_in_generate=True`.

    Args:
        coordinate_scores (`tuple[torch.Tensor]`):
            For each new token the scores of the coordinate tokens (batch, coordinates), time then height then width:
            what it takes to read an answer finer than a bin, without the scores of the whole vocabulary.
    """

    coordinate_scores: tuple[torch.FloatTensor] | None = None


class _Answers:
    """The sequences of a batch while they grow, and the scores that `generate` was asked to return."""

    def __init__(
        self,
        input_ids: torch.LongTensor,
        grammar: GrammarLogitsProcessor,
        stopping_criteria: Any,
        generation_config: Any,
        streamer: Any,
    ):
        self.ids = input_ids  # (rows, tokens)
        self.unfinished = input_ids.new_ones(input_ids.shape[0])
        self.grammar, self.stopping_criteria, self.streamer = grammar, stopping_criteria, streamer
        pad = generation_config._pad_token_tensor
        self.pad = input_ids.new_zeros(()) if pad is None else pad.to(input_ids.device)
        self.returns_dict = generation_config.return_dict_in_generate
        self.scores: list[torch.Tensor] | None = [] if self.returns_dict and generation_config.output_scores else None
        self.coordinate_scores: list[torch.Tensor] = []

    @property
    def go_on(self) -> bool:
        """Whether a row is not finished yet."""
        return bool(self.unfinished.any())

    def append(self, next_ids: torch.LongTensor, scores: torch.FloatTensor | None = None) -> None:
        """Add a token to each row: one chosen by its scores (rows, vocabulary), or the only one without scores."""
        if self.returns_dict:
            # What the grammar alone decided says nothing about how sure the model is.
            vocabulary = self.grammar.grammars[0].vocabulary
            first, behind = vocabulary.num_text_tokens, vocabulary.size
            undecided = torch.full((len(next_ids), behind - first), float("nan"), device=next_ids.device)
            self.coordinate_scores.append(undecided if scores is None else scores[:, first:behind].clone())
        if self.scores is not None:
            if scores is None:
                scores = torch.full_like(self.scores[-1], float("-inf")).scatter(1, next_ids[:, None], 0.0)
            self.scores.append(scores)
        next_ids = next_ids * self.unfinished + self.pad * (1 - self.unfinished)
        self.ids = torch.cat([self.ids, next_ids[:, None]], dim=-1)
        if self.streamer is not None:
            self.streamer.put(next_ids.cpu())
        self.unfinished = self.unfinished & ~self.stopping_criteria(self.ids, self.scores)

    def append_forced(self) -> int:
        """Add tokens as long as no row that goes on has a choice; return how many."""
        num_forced = 0
        while self.go_on:
            forced = [choices.forced for choices in self.grammar.list_choices(self.ids)]
            if any(token is None and is_open for token, is_open in zip(forced, self.unfinished.tolist(), strict=True)):
                break
            self.append(self.ids.new_tensor([token or 0 for token in forced]))
            num_forced += 1
        return num_forced

    def draft(self, cache: Any) -> list[int]:
        """Guess tokens to come, for a single answer with a cache that can forget what was guessed wrong."""
        if len(self.ids) > 1 or cache is None or any(type(layer) is not DynamicLayer for layer in cache.layers):
            return []
        (walk,) = self.grammar.find_walks(self.ids)
        return self.grammar.grammars[0].draft(walk, self.ids[0, self.grammar.prompt_length :])

    def make_output(self, cache: Any) -> "torch.LongTensor | ConstrainedOutput":
        """End the stream, and return what `generate` was asked for."""
        if self.streamer is not None:
            self.streamer.end()
        if not self.returns_dict:
            return self.ids
        return ConstrainedOutput(
            sequences=self.ids,
            scores=None if self.scores is None else tuple(self.scores),
            coordinate_scores=tuple(self.coordinate_scores),
            past_key_values=cache,
        )


def decode_in_runs(
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
    Decode greedily or by sampling, several tokens in a pass where the grammar or a guess names them.

    It is the `custom_generate` of `generate`. The answers are those of decoding one token at a time with the same
    logits processor. In a batch a run is as long as the shortest among the rows that go on.

    Args:
        model, input_ids, stopping_criteria, generation_config, model_kwargs: As `generate` prepared them.
        logits_processor (`LogitsProcessorList`): Holds a [`GrammarLogitsProcessor`].
        synced_gpus (`bool`, *optional*, defaults to `False`): Not supported: every process stops by itself.
        streamer (`BaseStreamer`, *optional*): Gets each token.

    Returns:
        `torch.LongTensor` of shape `(batch, sequence)`, or with `return_dict_in_generate` a [`ConstrainedOutput`].
    """
    _check_supported(generation_config)
    grammar = next(processor for processor in logits_processor if isinstance(processor, GrammarLogitsProcessor))
    if generation_config._eos_token_tensor is not None:
        grammar.stopping_ids = tuple(generation_config._eos_token_tensor.tolist())
    answers = _Answers(input_ids, grammar, stopping_criteria, generation_config, streamer)
    outputs, draft = model._prefill(input_ids, generation_config, model_kwargs), []
    while True:
        # A copy, or all that the model scored would be kept as long as the scores of a place.
        logits = outputs.logits[:, -1 - len(draft) :].to(copy=True, dtype=torch.float32, device=input_ids.device)
        for num_agreed in range(len(draft) + 1):
            scores = logits_processor(answers.ids, logits[:, num_agreed])
            if generation_config.do_sample:
                answers.append(torch.multinomial(scores.softmax(-1), num_samples=1).squeeze(1), scores)
            else:
                answers.append(scores.argmax(-1), scores)
            if num_agreed == len(draft) or not answers.go_on or answers.ids[0, -1] != draft[num_agreed]:
                break
        num_new = 1 + answers.append_forced()
        model_kwargs = model._update_model_kwargs_for_generation(
            outputs, model_kwargs, num_new_tokens=num_agreed + num_new
        )
        cache = model_kwargs.get("past_key_values")
        if num_agreed < len(draft):
            cache.crop(num_agreed - len(draft))
        if not answers.go_on:
            return answers.make_output(cache)
        draft = answers.draft(cache)
        outputs = _run(model, answers.ids, num_new, draft, model_kwargs)


def _run(model: Any, ids: torch.LongTensor, num_new: int, draft: list[int], model_kwargs: dict[str, Any]) -> Any:
    """Give the model the last `num_new` tokens of `ids` and a guess at those behind them, which are scored too."""
    if draft:
        ids = torch.cat([ids, ids.new_tensor([draft])], dim=-1)
        model_kwargs = model._update_model_kwargs_for_generation({}, dict(model_kwargs), num_new_tokens=len(draft))
        model_kwargs["logits_to_keep"] = 1 + len(draft)
    length = num_new + len(draft) if model_kwargs.get("use_cache") else None
    return model(
        **model.prepare_inputs_for_generation(ids, next_sequence_length=length, **model_kwargs), return_dict=True
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


def make_generate_arguments(
    logits_processor: GrammarLogitsProcessor, max_new_tokens: int, num_beams: int = 1, streamer: Any = None
) -> dict[str, Any]:
    """
    Collect the arguments with which `generate` keeps to the grammars.

    Args:
        logits_processor (`GrammarLogitsProcessor`): Knows the grammars.
        max_new_tokens (`int`): Longest answer, for which the grammars were made.
        num_beams (`int`, *optional*, defaults to 1): Above 1 certain tokens get a pass of their own.
        streamer (`BaseStreamer`, *optional*): Gets each token; `generate` does not hand it on by itself.

    Returns:
        `dict`: `logits_processor`, `max_new_tokens`, and `custom_generate` where beams do not forbid it.
    """
    arguments = {"logits_processor": LogitsProcessorList([logits_processor]), "max_new_tokens": max_new_tokens}
    if num_beams > 1:
        return {**arguments, "num_beams": num_beams}
    return {**arguments, "custom_generate": partial(decode_in_runs, streamer=streamer)}


__all__ = ["ConstrainedOutput", "GrammarLogitsProcessor", "decode_in_runs", "make_generate_arguments"]
