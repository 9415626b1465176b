"""What grammars of answers speak of: choices of tokens, the tokens of a tokenizer, the times an answer may name."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from .batch_feature_llava_st import GroundingContext
from .media_llava_st import MediaInfo
from .notation_llava_st import AXES, CoordinateVocabulary

_WORD = re.compile(r"\w")
_BRACKET = re.compile(r"[<\[\]{}]")


class Choices(NamedTuple):
    """What may come next: single ids, a run of ids (first, last), and a set of words, see `WordTokens.masks`."""

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


class WordTokens(NamedTuple):
    """The text tokens of a vocabulary by what they write."""

    # Sets of tokens, a value for each id: `"text"` writes no bracket, `"clause"` no full stop either, `"text words"`
    # and `"clause words"` at least a letter or a digit.
    masks: dict[str, torch.Tensor]
    is_word: bytes  # 1 for each id that writes a letter or a digit
    brackets: dict[int, str]  # texts of the tokens that write a bracket


class GrammarVocabulary:
    """
    The token ids that grammars speak of.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer, coordinate tokens included.
        coordinates (`CoordinateVocabulary`): The coordinate tokens and their ids.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, coordinates: CoordinateVocabulary):
        self.num_bins = {axis: coordinates.size(axis) for axis in AXES}
        self.first_id = {axis: coordinates.first_id(axis) for axis in AXES}
        self.num_text_tokens = coordinates.offset
        self.size = coordinates.offset + len(coordinates)
        self.end_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._tokenizer = tokenizer
        self._ceilings: dict[tuple, torch.Tensor] = {}

    @cached_property
    def words(self) -> WordTokens:
        """What each text token writes, for the parts that hold words; a tenth of a second for 152,064 tokens."""
        decode = self._tokenizer.backend_tokenizer.decode  # fifteen times as fast as that of transformers
        num_text = self.num_text_tokens
        texts = [decode([token_id], skip_special_tokens=False) for token_id in range(num_text)]
        # Special and added tokens become a bracket, which no set lets through, and so do ids that the tokenizer has no
        # token for (padding of the embedding).
        for token_id in self._tokenizer.added_tokens_decoder:
            if token_id < num_text:
                texts[token_id] = "<"
        texts = [text or "<" for text in texts]

        def mark(values: Iterable[bool]) -> np.ndarray:
            return np.pad(np.fromiter(values, dtype=bool, count=num_text), (0, self.size - num_text))

        has_bracket = mark(map(bool, map(_BRACKET.search, texts)))
        is_word = mark(map(bool, map(_WORD.search, texts)))
        text = (np.arange(self.size) < num_text) & ~has_bracket
        clause = text & ~mark("." in text for text in texts)
        masks = {"text": text, "clause": clause, "text words": text & is_word, "clause words": clause & is_word}
        return WordTokens(
            {name: torch.from_numpy(mask) for name, mask in masks.items()},
            is_word.tobytes(),
            {token_id: texts[token_id] for token_id in has_bracket.nonzero()[0].tolist()},
        )

    def list_openings(self, token_id: int) -> tuple[int, ...]:
        """List the tokens that a group may begin with among words: the one given, and the same behind a space."""
        text = self.words.brackets[token_id]
        return tuple(other for other, written in self.words.brackets.items() if written in (text, " " + text))

    def list_closings(self, token_id: int) -> tuple[int, ...]:
        """List the tokens that a group may end with among words: the one given, and those with words behind it."""
        text = self.words.brackets[token_id]
        return tuple(
            other
            for other, written in self.words.brackets.items()
            if written.startswith(text) and not _BRACKET.search(written, len(text))
        )

    def get_ceiling(self, name: str, forbidden: tuple[int, ...], scores: torch.Tensor) -> torch.Tensor:
        """
        Return the highest score (size,) that each token may have so that of `scores` only a set of words is left.

        It is infinity for the words of `WordTokens.masks[name]` that are not `forbidden`, and else minus infinity.
        """
        key = (name, forbidden, scores.device, scores.dtype)
        if key not in self._ceilings:
            mask = self.words.masks[name].clone()
            mask[list(forbidden)] = False
            self._ceilings[key] = torch.where(mask, float("inf"), float("-inf")).to(scores)
        return self._ceilings[key]

    def choose(self, axis: str, first_bin: int, last_bin: int) -> Choices:
        """Choose among the bins of an axis from one to another."""
        return Choices(first=self.first_id[axis] + first_bin, last=self.first_id[axis] + last_bin)

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of a fixed piece of an answer, as they stand between coordinate tokens."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))


@dataclass(frozen=True)
class TimeLimits:
    """Times that an answer may name, in bins of the time axis."""

    first_time: int = 0  # earliest time that the answer may name
    last_time: int | None = None  # latest time that it may name; the last bin by default
    # Times of the sampled frames, ascending: a tube then has one box for each of them inside its span.
    frame_times: tuple[int, ...] | None = None

    def find_frames(self, start: int, end: int) -> tuple[int, int]:
        """Return where in `frame_times` those from `start` to `end` begin, and where they have ended."""
        return bisect_left(self.frame_times, start), bisect_right(self.frame_times, end)


def find_time_limits(
    context: GroundingContext, medium: MediaInfo | None, coordinates: CoordinateVocabulary, every_frame: bool
) -> TimeLimits:
    """
    Find which times the answer to a question may name; of an image there are no limits.

    The start or span of what was asked bounds them; with `every_frame` tubes have a box for every sampled frame.
    """
    if medium is None or medium.media_type != "video":
        return TimeLimits()
    start, end = 0.0, 1.0
    if (span := context.get_span_fractions(medium)) is not None:
        start, end = span
    elif (seconds := context.get_start_seconds(medium)) is not None:
        start = medium.fraction_at(seconds)
    fractions = (start, end, *(medium.frame_fractions if every_frame else ()))
    first, last, *frames = (coordinates.nearest("t", fraction) for fraction in fractions)
    return TimeLimits(first, last, tuple(sorted(set(frames))) if every_frame else None)


__all__ = ["Choices", "GrammarVocabulary", "TimeLimits", "WordTokens", "find_time_limits"]
