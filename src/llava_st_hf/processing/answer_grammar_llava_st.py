"""Grammars of answers: for each answer format, which tokens may come next.

The state of a grammar is a small tuple found from the tokens generated so far, so that beams, assistants and batches
need nothing special. An answer is complete within its budget of tokens: no choice is offered that cannot be finished.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from .answer_formats_llava_st import AnswerFormat, get_answer_format
from .batch_feature_llava_st import GroundingContext
from .media_llava_st import MediaInfo, PromptError

# Longest caption of an event that ends in a tube, which needs the rest of the budget.
MAX_CAPTION_TOKENS = 64
_WORD = re.compile(r"\w")


class Choices(NamedTuple):
    """What may come next: single ids, a range of ids (first, last), and the tokens of a vocabulary mask."""

    ids: tuple[int, ...] = ()
    first: int = 0
    last: int = -1
    mask: str | None = None

    @property
    def forced(self) -> int | None:
        """The only token that may come next, if there is only one."""
        if self.mask is not None or len(self.ids) + max(0, self.last - self.first + 1) != 1:
            return None
        return self.ids[0] if self.ids else self.first


class Walk(NamedTuple):
    """Where an answer stands in its grammar; times and places are bins."""

    part: int = 0
    step: int = 0
    start: int = 0
    end: int = 0
    knows_end: bool = False
    time: int = -1
    x: int = 0
    y: int = 0
    has_word: bool = False
    num_groups: int = 0


class GrammarVocabulary:
    """
    The token ids that grammars speak of, read from a tokenizer once.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer, coordinate tokens included.
        coordinate_token_offset (`int`): Id of `<t_0>`.
        num_temporal_tokens (`int`): Bins of the time axis.
        num_spatial_tokens (`int`): Bins of the height axis, and as many of the width.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        coordinate_token_offset: int,
        num_temporal_tokens: int,
        num_spatial_tokens: int,
    ):
        self.num_temporal_tokens = num_temporal_tokens
        self.num_spatial_tokens = num_spatial_tokens
        self.first_id = {
            "t": coordinate_token_offset,
            "y": coordinate_token_offset + num_temporal_tokens,
            "x": coordinate_token_offset + num_temporal_tokens + num_spatial_tokens,
        }
        self.size = coordinate_token_offset + num_temporal_tokens + 2 * num_spatial_tokens
        self.end_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._tokenizer = tokenizer
        texts = self._read_texts(tokenizer, coordinate_token_offset)
        self.masks = {
            "text": self._mask(texts, lambda text: not set(text) & set("<[]{}")),
            "clause": self._mask(texts, lambda text: not set(text) & set("<[]{}.")),
        }
        self.is_word = self._mask(texts, lambda text: _WORD.search(text) is not None)
        self.openers = {bracket: self._find(texts, re.compile(rf" ?{re.escape(bracket)}")) for bracket in "{["}
        self.closers = {
            bracket: self._find(texts, re.compile(rf"{re.escape(bracket)}[^<\[\]{{}}]*")) for bracket in "}]"
        }

    @staticmethod
    def _read_texts(tokenizer: PreTrainedTokenizerBase, num_text: int) -> list[str]:
        """Decode each text token alone; special and added ones become a bracket, which no mask lets through."""
        texts = tokenizer.batch_decode([[token_id] for token_id in range(num_text)])
        for token_id in tokenizer.added_tokens_decoder:
            if token_id < num_text:
                texts[token_id] = "<"
        # Ids that the tokenizer has no token for (padding of the embedding) decode to nothing.
        return [text or "<" for text in texts]

    @staticmethod
    def _mask(texts: Sequence[str], accept: Any) -> torch.Tensor:
        return torch.tensor([accept(text) for text in texts])

    @staticmethod
    def _find(texts: Sequence[str], pattern: re.Pattern) -> tuple[int, ...]:
        return tuple(token_id for token_id, text in enumerate(texts) if pattern.fullmatch(text))

    @lru_cache(maxsize=64)  # noqa: B019  a vocabulary lives as long as its processor
    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of a fixed piece of an answer, as they stand between coordinate tokens."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))


@dataclass(frozen=True)
class TimeLimits:
    """
    Times that an answer may name, in bins of the time axis.

    Args:
        first_time (`int`, *optional*, defaults to 0): Earliest time that the answer may name.
        last_time (`int`, *optional*): Latest time that it may name; the last bin by default.
        frame_times (`tuple[int, ...]`, *optional*):
            Times of the sampled frames, ascending: a tube then has one box for each of them inside its span.
    """

    first_time: int = 0
    last_time: int | None = None
    frame_times: tuple[int, ...] | None = None


def find_time_limits(
    context: GroundingContext, medium: MediaInfo | None, num_temporal_tokens: int, every_frame: bool
) -> TimeLimits:
    """
    Find which times the answer to a question may name.

    Args:
        context (`GroundingContext`): What was asked; its start or span bounds the answer.
        medium (`MediaInfo`, *optional*): What it is asked about.
        num_temporal_tokens (`int`): Bins of the time axis.
        every_frame (`bool`): Whether tubes have a box for every sampled frame.

    Returns:
        `TimeLimits`: No limits for an image.
    """
    if medium is None or medium.media_type != "video":
        return TimeLimits()
    last = num_temporal_tokens - 1
    start, end = 0.0, 1.0
    if (span := context.get_span_fractions(medium)) is not None:
        start, end = span
    elif (seconds := context.get_start_seconds(medium)) is not None:
        start = medium.fraction_at(seconds)
    frame_times = (
        tuple(sorted({round(fraction * last) for fraction in medium.frame_fractions})) if every_frame else None
    )
    return TimeLimits(round(start * last), round(end * last), frame_times)


class AnswerGrammar:
    """
    Grammar of one answer.

    Args:
        vocabulary (`GrammarVocabulary`): Token ids.
        answer_format (`AnswerFormat` or `str`): Form of the answer, or its name.
        max_new_tokens (`int`): The answer is complete within so many tokens, the end of the turn included.
        limits (`TimeLimits`, *optional*): Times that the answer may name.

    Raises:
        `PromptError`: When not even the shortest answer fits into `max_new_tokens`.
    """

    def __init__(
        self,
        vocabulary: GrammarVocabulary,
        answer_format: AnswerFormat | str,
        max_new_tokens: int,
        limits: TimeLimits | None = None,
    ):
        self.vocabulary = vocabulary
        self.limits = limits or TimeLimits()
        self.max_new_tokens = max_new_tokens
        last = vocabulary.num_temporal_tokens - 1
        self.last_time = last if self.limits.last_time is None else min(self.limits.last_time, last)
        self.first_time = min(self.limits.first_time, self.last_time)
        name = get_answer_format(answer_format).name
        self.parts = _list_parts(vocabulary, name)
        self.start = Walk(start=self.first_time, end=self.last_time, knows_end=name == "tube")
        needed = self._count_needed(self.start)
        if needed > max_new_tokens:
            raise PromptError(
                f"max_new_tokens is {max_new_tokens}: an answer of the form {name!r} needs at least {needed}.",
                field="max_new_tokens",
            )

    def choices(self, walk: Walk, num_generated: int) -> Choices:
        """Tell what may come next."""
        if walk.part >= len(self.parts):
            return Choices(ids=(self.vocabulary.end_id,))
        budget = self.max_new_tokens - num_generated - self._count_later(walk)
        return self.parts[walk.part].choices(self, walk, budget)

    def advance(self, walk: Walk, token_id: int) -> Walk:
        """Take a token."""
        if walk.part >= len(self.parts):
            return walk
        return self.parts[walk.part].advance(self, walk, token_id)

    def time_after(self, time: int) -> int:
        """First time that an end may have after a start: the next bin, but for the last one."""
        return min(time + 1, self.last_time)

    def frame_times_between(self, start: int, end: int) -> tuple[int, ...]:
        """Times that a tube from `start` to `end` must name; every bin may be named when frames are not asked for."""
        inside = tuple(time for time in self.limits.frame_times if start <= time <= end)
        return inside or (start,)

    def _count_needed(self, walk: Walk) -> int:
        return self.parts[walk.part].count_needed(self, walk) + self._count_later(walk)

    def _count_later(self, walk: Walk) -> int:
        """Fewest tokens that the parts after the present one take, and the end of the turn."""
        begun = walk._replace(step=0, has_word=False)
        return sum(later.count_needed(self, begun) for later in self.parts[walk.part + 1 :]) + 1


# Parts of a grammar ----------------------------------------------------------------------------------------------
# Each has `count_needed(grammar, walk)`: the fewest tokens to its end; `choices(grammar, walk, budget)`: what may come
# next with so many tokens left for this part; and `advance(grammar, walk, token_id)`.


class _Literal:
    """Fixed tokens."""

    def __init__(self, ids: tuple[int, ...]):
        self.ids = ids

    def count_needed(self, grammar: AnswerGrammar, walk: Walk) -> int:
        return len(self.ids) - walk.step

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        return Choices(ids=(self.ids[walk.step],))

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        if walk.step + 1 < len(self.ids):
            return walk._replace(step=walk.step + 1)
        return walk._replace(part=walk.part + 1, step=0)


class _Start:
    """The start of the span."""

    def count_needed(self, grammar: AnswerGrammar, walk: Walk) -> int:
        return 1

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        first = grammar.vocabulary.first_id["t"]
        last = max(grammar.first_time, grammar.last_time - 1)  # the end comes after it
        return Choices(first=first + grammar.first_time, last=first + last)

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        return walk._replace(part=walk.part + 1, start=token_id - grammar.vocabulary.first_id["t"])


class _End:
    """The end of the span, behind its start; a tube that follows must fit into the tokens that are left."""

    def __init__(self, tube: "_Tube | None" = None):
        self.tube = tube

    def count_needed(self, grammar: AnswerGrammar, walk: Walk) -> int:
        return 1

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        low, last = grammar.time_after(walk.start), grammar.last_time
        if self.tube is not None and grammar.limits.frame_times is not None:
            # `budget` is what is left once the later parts have their least, which for the tube is two entries.
            num_entries = 2 + max(0, budget - 1) // self.tube.entry_length
            times = grammar.frame_times_between(walk.start, last)
            if num_entries < len(times):
                last = max(low, times[num_entries] - 1)
        first = grammar.vocabulary.first_id["t"]
        return Choices(first=first + low, last=first + last)

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        return walk._replace(part=walk.part + 1, end=token_id - grammar.vocabulary.first_id["t"], knows_end=True)


def _choose_corner(vocabulary: GrammarVocabulary, walk: Walk, corner: int) -> Choices:
    """Left, top, right, bottom of a box (corner 0 to 3), each side at least one bin long."""
    last = vocabulary.num_spatial_tokens - 1
    axis, low = (("x", 0), ("y", 0), ("x", walk.x + 1), ("y", walk.y + 1))[corner]
    high = last - 1 if corner < 2 else last
    return Choices(first=vocabulary.first_id[axis] + low, last=vocabulary.first_id[axis] + high)


def _take_corner(vocabulary: GrammarVocabulary, walk: Walk, corner: int, token_id: int) -> Walk:
    if corner == 0:
        return walk._replace(x=token_id - vocabulary.first_id["x"])
    if corner == 1:
        return walk._replace(y=token_id - vocabulary.first_id["y"])
    return walk


class _Corners:
    """The four coordinates of a box."""

    def count_needed(self, grammar: AnswerGrammar, walk: Walk) -> int:
        return 4 - walk.step

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        return _choose_corner(grammar.vocabulary, walk, walk.step)

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        walk = _take_corner(grammar.vocabulary, walk, walk.step, token_id)
        return walk._replace(step=walk.step + 1) if walk.step < 3 else walk._replace(part=walk.part + 1, step=0)


class _Tube:
    """`<t>:[box], <t>:[box]`, times increasing up to the end of the span, where the tube ends."""

    def __init__(self, vocabulary: GrammarVocabulary):
        self.opening = vocabulary.encode(":[")
        self.separator = vocabulary.encode("], ")
        self.closing = vocabulary.encode("]")
        self.corners_at = 1 + len(self.opening)
        self.separator_at = self.corners_at + 4
        self.entry_length = self.separator_at + len(self.separator)

    def _next_times(self, grammar: AnswerGrammar, walk: Walk) -> tuple[int, int]:
        """First and last time that the next entry may have."""
        if grammar.limits.frame_times is not None:
            times = grammar.frame_times_between(walk.start, walk.end)
            time = next(time for time in times if time > walk.time)
            return time, time
        return max(walk.start, walk.time + 1), walk.end

    def _is_last(self, grammar: AnswerGrammar, walk: Walk) -> bool:
        if grammar.limits.frame_times is not None:
            return walk.time >= grammar.frame_times_between(walk.start, walk.end)[-1]
        return walk.time >= walk.end

    def _count_entries_after(self, grammar: AnswerGrammar, walk: Walk) -> int:
        """Fewest entries after the one at `walk.time`."""
        if grammar.limits.frame_times is None:
            return int(walk.time < walk.end)
        return sum(time > walk.time for time in grammar.frame_times_between(walk.start, walk.end))

    def count_needed(self, grammar: AnswerGrammar, walk: Walk) -> int:
        single = self.separator_at + len(self.closing)
        if not walk.knows_end:
            # An entry at the end, or the two frames that a span of two bins may hold; `_End` sees to it that more fit.
            return single if grammar.limits.frame_times is None else self.entry_length + single
        if walk.step == 0 and walk.time < 0:
            return (max(1, self._count_entries_after(grammar, walk)) - 1) * self.entry_length + single
        return self._count_entries_after(grammar, walk) * self.entry_length + single - walk.step

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        vocabulary, step = grammar.vocabulary, walk.step
        if step == 0:
            first, last = self._next_times(grammar, walk)
            if first < last and budget < self.entry_length + self.separator_at + len(self.closing):
                first = last  # there is room for one more entry only: the one at the end
            return Choices(first=vocabulary.first_id["t"] + first, last=vocabulary.first_id["t"] + last)
        if step < self.corners_at:
            return Choices(ids=(self.opening[step - 1],))
        if step < self.separator_at:
            return _choose_corner(vocabulary, walk, step - self.corners_at)
        ending = self.closing if self._is_last(grammar, walk) else self.separator
        return Choices(ids=(ending[step - self.separator_at],))

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        step = walk.step
        if step == 0:
            walk = walk._replace(time=token_id - grammar.vocabulary.first_id["t"])
        elif self.corners_at <= step < self.separator_at:
            walk = _take_corner(grammar.vocabulary, walk, step - self.corners_at, token_id)
        is_last = self._is_last(grammar, walk) if step >= self.separator_at else False
        length = self.separator_at + len(self.closing) if is_last else self.entry_length
        if step + 1 < length:
            return walk._replace(step=step + 1)
        return walk._replace(part=walk.part + 1, step=0) if is_last else walk._replace(step=0)


class _Caption:
    """Words up to the full stop that begins the next part; at least one of them."""

    def __init__(self, stop: int):
        self.stop = stop

    def count_needed(self, grammar: AnswerGrammar, walk: Walk) -> int:
        return 0 if walk.has_word else 1

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        if not walk.has_word:
            must = budget <= 1 or walk.step >= MAX_CAPTION_TOKENS
            return Choices(mask="clause words" if must else "clause")
        if budget < 1 or walk.step >= MAX_CAPTION_TOKENS:
            return Choices(ids=(self.stop,))
        return Choices(ids=(self.stop,), mask="clause")

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        if token_id == self.stop:  # the first token of the next part, which goes on from its second
            following = walk._replace(part=walk.part + 1, step=0, has_word=False)
            return grammar.advance(following, token_id)
        has_word = walk.has_word or bool(grammar.vocabulary.is_word[token_id])
        return walk._replace(step=walk.step + 1, has_word=has_word)


class _FreeText:
    """Words without coordinates; the end of the turn at any time."""

    def count_needed(self, grammar: AnswerGrammar, walk: Walk) -> int:
        return 0

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        end = (grammar.vocabulary.end_id,)
        return Choices(ids=end, mask="text") if budget > 0 else Choices(ids=end)

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        return walk._replace(part=walk.part + 1) if token_id == grammar.vocabulary.end_id else walk


class _Interleaved:
    """
    Words with spans or boxes among them: at least one group, and words at its side.

    A box follows the words that it belongs to. With spans the answer starts with one, and behind each there are words
    before the next and before the end.
    """

    TEXT = 0

    def __init__(self, vocabulary: GrammarVocabulary, kind: str):
        opening, closing = ("{", "}") if kind == "span" else ("[", "]")
        self.is_span = kind == "span"
        self.openers, self.closers = vocabulary.openers[opening], vocabulary.closers[closing]
        self.num_coordinates = 2 if self.is_span else 4
        self.group_length = self.num_coordinates + 2

    def count_needed(self, grammar: AnswerGrammar, walk: Walk) -> int:
        words_after = int(self.is_span)  # behind a span
        if walk.step > 0:
            return self.num_coordinates + 2 - walk.step + words_after
        if walk.num_groups == 0:
            return self.group_length + int(self.is_span or not walk.has_word)
        return 0 if walk.has_word or not self.is_span else 1

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        vocabulary = grammar.vocabulary
        if walk.step == self.TEXT:
            return self._choose_in_text(grammar, walk, budget)
        coordinate = walk.step - 1
        if coordinate == self.num_coordinates:
            return Choices(ids=self.closers)
        if not self.is_span:
            return _choose_corner(vocabulary, walk, coordinate)
        first = vocabulary.first_id["t"]
        if coordinate == 0:
            return Choices(
                first=first + grammar.first_time, last=first + max(grammar.first_time, grammar.last_time - 1)
            )
        return Choices(first=first + grammar.time_after(walk.start), last=first + grammar.last_time)

    def _choose_in_text(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        if self.is_span and walk.num_groups == 0:
            return Choices(ids=grammar.vocabulary.encode("{"))
        opens = walk.has_word
        ends = walk.num_groups > 0 and (walk.has_word or not self.is_span)
        after_group = walk._replace(step=1)
        opens = opens and budget - 1 >= self.count_needed(grammar, after_group)
        ids = (self.openers if opens else ()) + ((grammar.vocabulary.end_id,) if ends else ())
        spare = budget - self.count_needed(grammar, walk)
        if spare > 0:
            return Choices(ids=ids, mask="text")
        # No token to spare: only what brings the answer nearer to its end.
        if walk.num_groups == 0 and opens:
            return Choices(ids=self.openers)
        if ends:
            return Choices(ids=(grammar.vocabulary.end_id,))
        return Choices(mask="text words")

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        vocabulary = grammar.vocabulary
        if walk.step == self.TEXT:
            if token_id == vocabulary.end_id:
                return walk._replace(part=walk.part + 1)
            if token_id in self.openers:
                return walk._replace(step=1, has_word=False)
            return walk._replace(has_word=walk.has_word or bool(vocabulary.is_word[token_id]))
        coordinate = walk.step - 1
        if coordinate == self.num_coordinates:
            has_word = bool(vocabulary.is_word[token_id])
            return walk._replace(step=self.TEXT, has_word=has_word, num_groups=walk.num_groups + 1)
        if not self.is_span:
            walk = _take_corner(vocabulary, walk, coordinate, token_id)
        elif coordinate == 0:
            walk = walk._replace(start=token_id - vocabulary.first_id["t"])
        return walk._replace(step=walk.step + 1)


def _list_parts(vocabulary: GrammarVocabulary, answer_format: str) -> list[Any]:
    """Build the parts of an answer format, in the notation of the training data."""

    def literal(text: str) -> _Literal:
        return _Literal(vocabulary.encode(text))

    if answer_format == "span":
        return [literal("{"), _Start(), _End(), literal("}")]
    if answer_format == "box":
        return [literal("["), _Corners(), literal("]")]
    if answer_format == "tube":
        return [_Tube(vocabulary)]
    tube = _Tube(vocabulary)
    if answer_format == "span_and_tube":
        return [literal("{"), _Start(), _End(tube), literal("} "), tube]
    if answer_format == "end_caption_and_tube":
        marker = literal(". Object bounding box: ")
        return [literal("Ends in "), _End(tube), literal(","), _Caption(marker.ids[0]), marker, tube]
    if answer_format == "phrases_with_boxes":
        return [_Interleaved(vocabulary, "box")]
    if answer_format == "sentences_with_spans":
        return [_Interleaved(vocabulary, "span")]
    return [_FreeText()]


__all__ = ["AnswerGrammar", "Choices", "GrammarVocabulary", "TimeLimits", "Walk", "find_time_limits"]
