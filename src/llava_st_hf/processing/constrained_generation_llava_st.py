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
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.cache_utils import DynamicLayer
from transformers.generation import GenerateDecoderOnlyOutput, GenerationMode
from transformers.utils import ModelOutput

from .answer_grammar_llava_st import AnswerGrammar, Walk
from .grammar_vocabulary_llava_st import Choices
from .grounding_streamer_llava_st import GroundingStreamer
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

    @property
    def coordinate_columns(self) -> slice:
        """Where the coordinates stand among the scores of all tokens."""
        vocabulary = self.grammars[0].vocabulary
        return slice(vocabulary.num_text_tokens, vocabulary.size)

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


# What the library calls keys and values: `cache` from 5.24 on.
CACHE_NAME = "cache" if "cache" in GenerateDecoderOnlyOutput.__dataclass_fields__ else "past_key_values"


@dataclass
class ConstrainedOutput(GenerateDecoderOnlyOutput):
    """What [`decode_in_runs`] returns."""

    # For each new token the scores of the coordinate tokens (batch, coordinates), time then height then width: what it
    # takes to read an answer finer than a bin, without the scores of the whole vocabulary.
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
        self.scores: list[torch.Tensor] | None = [] if generation_config.output_scores else None
        self.coordinate_scores: list[torch.Tensor] = []

    @property
    def go_on(self) -> bool:
        """Whether a row is not finished yet."""
        return bool(self.unfinished.any())

    def append(self, next_ids: torch.LongTensor, scores: torch.FloatTensor | None = None) -> None:
        """Add a token to each row: one chosen by its scores (rows, vocabulary), or the only one without scores."""
        # What the grammar alone decided says nothing about how sure the model is.
        columns = self.grammar.coordinate_columns
        undecided = torch.full((1, columns.stop - columns.start), float("nan"), device=next_ids.device)
        own_scores = undecided.expand(len(next_ids), -1) if scores is None else scores[:, columns].clone()
        self.coordinate_scores.append(own_scores)
        if self.scores is not None:
            if scores is None:
                scores = torch.full_like(self.scores[-1], float("-inf")).scatter(1, next_ids[:, None], 0.0)
            self.scores.append(scores)
        next_ids = next_ids * self.unfinished + self.pad * (1 - self.unfinished)
        self.ids = torch.cat([self.ids, next_ids[:, None]], dim=-1)
        if isinstance(self.streamer, GroundingStreamer):
            self.streamer.put(next_ids.cpu(), own_scores)
        elif self.streamer is not None:
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
        if len(self.ids) > 1 or cache is None or not _can_crop(cache):
            return []
        (walk,) = self.grammar.find_walks(self.ids)
        return self.grammar.grammars[0].draft(walk, self.ids[0, self.grammar.prompt_length :])

    def make_output(self, cache: Any) -> ConstrainedOutput:
        """End the stream, and return what was generated."""
        if self.streamer is not None:
            self.streamer.end()
        return ConstrainedOutput(
            sequences=self.ids,
            scores=None if self.scores is None else tuple(self.scores),
            coordinate_scores=tuple(self.coordinate_scores),
            **{CACHE_NAME: cache},
        )


def decode_in_runs(
    model: Any,
    input_ids: torch.LongTensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: Any,
    generation_config: Any,
    synced_gpus: bool = False,
    streamer: Any = None,
    inputs_tensor: torch.Tensor | None = None,
    assistant_model: Any = None,
    assistant_tokenizer: Any = None,
    tokenizer: Any = None,
    **model_kwargs: Any,
) -> ModelOutput:
    """
    Decode greedily or by sampling, several tokens in a pass where the grammar or a guess names them.

    It is the `custom_generate` of `generate`. The answers are those of decoding one token at a time with the same
    logits processor. In a batch a run is as long as the shortest among the rows that go on. Beams and assisted
    decoding are left to the loops of transformers.

    Args:
        model, input_ids, stopping_criteria, generation_config, model_kwargs: As `generate` prepared them.
        logits_processor (`LogitsProcessorList`): Holds a [`GrammarLogitsProcessor`].
        synced_gpus (`bool`, *optional*, defaults to `False`): Not supported: every process stops by itself.
        streamer (`BaseStreamer`, *optional*): Gets each token.
        inputs_tensor, assistant_model, assistant_tokenizer, tokenizer: For assisted decoding.

    Returns:
        `ModelOutput`: As with `return_dict_in_generate=True`, for an answer is refined by what stands beside its
        tokens: a [`ConstrainedOutput`], of beams and assisted decoding what their loop returns.

    Raises:
        `InputError`: For what no loop does that keeps to a grammar.
    """
    mode = generation_config.get_generation_mode(assistant_model)
    _check_supported(mode, generation_config, synced_gpus)
    grammar = next(processor for processor in logits_processor if isinstance(processor, GrammarLogitsProcessor))
    generation_config.return_dict_in_generate = True
    if generation_config._eos_token_tensor is not None:
        grammar.stopping_ids = tuple(generation_config._eos_token_tensor.tolist())
    if mode in (GenerationMode.BEAM_SEARCH, GenerationMode.BEAM_SAMPLE):
        recorder = _Recorder(grammar.coordinate_columns)
        logits_processor = LogitsProcessorList([*logits_processor, recorder])
        outputs = model._beam_search(input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs)
        outputs.coordinate_scores = tuple(recorder.steps)
        return outputs
    if mode == GenerationMode.ASSISTED_GENERATION:
        generation_config.output_scores = True
        tokenizers = {"assistant_tokenizer": assistant_tokenizer, "tokenizer": tokenizer}
        assistant = {"inputs_tensor": inputs_tensor, "assistant_model": assistant_model, **tokenizers}
        given = (input_ids, logits_processor, stopping_criteria, generation_config)
        return model._assisted_decoding(*given, streamer=streamer, **assistant, **model_kwargs)
    answers = _Answers(input_ids, grammar, stopping_criteria, generation_config, streamer)
    return _decode(model, answers, logits_processor, generation_config, model_kwargs)


def _decode(
    model: Any,
    answers: _Answers,
    logits_processor: LogitsProcessorList,
    generation_config: Any,
    model_kwargs: dict[str, Any],
) -> ConstrainedOutput:
    """Decode greedily or by sampling, a run of tokens in each pass."""
    outputs, draft = _prefill(model, answers.ids, generation_config, model_kwargs), []
    while True:
        # A copy, or all that the model scored would be kept as long as the scores of a place.
        logits = outputs.logits[:, -1 - len(draft) :].to(copy=True, dtype=torch.float32, device=answers.ids.device)
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
        cache = model_kwargs.get(CACHE_NAME)
        if num_agreed < len(draft):
            cache.crop(num_agreed - len(draft))
        if not answers.go_on:
            return answers.make_output(cache)
        draft = answers.draft(cache)
        outputs = _run(model, answers.ids, num_new, draft, model_kwargs)


def fill_cache(
    model: Any, input_ids: torch.LongTensor, cache: Any, coordinate_offsets: torch.Tensor, **media: Any
) -> int:
    """
    Run the model over a prompt (1, tokens) up to the end of its media; returns how many tokens that is.

    The cache takes the keys and values; `media` are as `forward` takes them.
    """
    media_ids = input_ids.new_tensor([model.config.image_token_id, model.config.video_token_id])
    places = torch.isin(input_ids[0], media_ids).nonzero()
    length = int(places[-1]) + 1 if len(places) else 0
    if length:
        prefix = {"input_ids": input_ids[:, :length], "coordinate_offsets": coordinate_offsets[:, :length]}
        model(**prefix, **{CACHE_NAME: cache}, use_cache=True, logits_to_keep=1, **media)
    return length


def _prefill(model: Any, ids: torch.LongTensor, generation_config: Any, model_kwargs: dict[str, Any]) -> Any:
    """
    Read the prompts, and score what comes next.

    One question is read in the two passes of a session, so that its numbers are the same through every door: kernels
    round by the number of rows that they are given.
    """
    cache, media = model_kwargs.get(CACHE_NAME), model_kwargs.get("mm_encoder_outputs")
    is_alone = len(ids) == 1 and model_kwargs.get("attention_mask") is None
    if is_alone and media and cache is not None and not cache.get_seq_length() and _can_crop(cache):
        offsets = model_kwargs.get("coordinate_offsets")
        offsets = torch.zeros_like(ids, dtype=torch.float32) if offsets is None else offsets
        fill_cache(model, ids, cache, offsets, mm_encoder_outputs=model_kwargs.pop("mm_encoder_outputs"))
    return model._prefill(ids, generation_config, model_kwargs)


def _can_crop(cache: Any) -> bool:
    return all(type(layer) is DynamicLayer for layer in cache.layers)


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


class _Recorder(LogitsProcessor):
    """Keeps the scores of coordinates at each step of a beam search, where those of all tokens would be many."""

    def __init__(self, columns: slice):
        self.columns, self.steps = columns, []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.steps.append(scores[:, self.columns].clone())  # (rows and beams, coordinates)
        return scores


def _check_supported(mode: GenerationMode, generation_config: Any, synced_gpus: bool) -> None:
    """Refuse by name what keeps to no grammar, and what the loop here does not keep."""
    is_here = mode in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)
    if not is_here and mode not in (
        GenerationMode.BEAM_SEARCH,
        GenerationMode.BEAM_SAMPLE,
        GenerationMode.ASSISTED_GENERATION,
    ):
        raise InputError(
            f"generate is asked for {mode.value.replace('_', ' ')}: constrained answers are greedy, sampled, searched "
            "with num_beams or assisted; leave its options out."
        )
    if synced_gpus:
        raise InputError("synced_gpus is set: constrained decoding stops by itself, leave custom_generate out.")
    for name in ("output_logits", "output_hidden_states", "output_attentions"):
        if is_here and getattr(generation_config, name, None):
            raise InputError(f"{name} is set: constrained decoding does not keep it, leave custom_generate out.")


def make_generate_arguments(logits_processor: GrammarLogitsProcessor, max_new_tokens: int) -> dict[str, Any]:
    """
    Collect the arguments with which `generate` keeps to the grammars, and returns a dictionary that refines an answer.
    """
    return {
        "logits_processor": LogitsProcessorList([logits_processor]),
        "max_new_tokens": max_new_tokens,
        "custom_generate": decode_in_runs,
    }


__all__ = ["ConstrainedOutput", "GrammarLogitsProcessor", "decode_in_runs", "fill_cache", "make_generate_arguments"]
