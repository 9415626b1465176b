"""Grammars of answers: for each answer format, which tokens may come next.

A grammar is a list of parts (fixed tokens, a time, a corner of a box, a tube, words), through which an answer walks
from left to right; a part that lets a group come again leads back. The state is a small tuple found from the tokens
generated so far, so that beams, assistants and batches need nothing special. An answer is complete within its budget
of tokens: no choice is offered that cannot be finished. Finding a choice takes as long late in an answer as early.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import zip_longest
from string import Formatter
from typing import NamedTuple

import torch

from .answer_formats_llava_st import SEPARATORS, AnswerFormat, get_answer_format
from .grammar_vocabulary_llava_st import Choices, GrammarVocabulary, TimeLimits
from .media_llava_st import PromptError
from .notation_llava_st import NOTATION

# Longest caption of an event that ends in a tube, which needs the rest of the budget.
MAX_CAPTION_TOKENS = 64


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
    spans: tuple[tuple[int, int], ...] = ()  # those that are whole


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
        last = vocabulary.num_bins["t"] - 1
        self.last_time = last if self.limits.last_time is None else min(self.limits.last_time, last)
        self.first_time = min(self.limits.first_time, self.last_time)
        answer_format = get_answer_format(answer_format)
        self.parts = _list_parts(vocabulary, answer_format)
        # Without a span in the answer, that of the prompt is the one of the tube.
        knows_end = not {"span", "end"} & set(answer_format.fields)
        self.start = Walk(start=self.first_time, end=self.last_time, knows_end=knows_end)
        needed = self.count_least(self.start, 0)
        if needed > max_new_tokens:
            raise PromptError(
                f"max_new_tokens is {max_new_tokens}: an answer of the form {answer_format.name!r} needs at least "
                f"{needed}.",
                field="max_new_tokens",
            )

    def choices(self, walk: Walk, num_generated: int) -> Choices:
        """Tell what may come next."""
        budget = self.max_new_tokens - num_generated - self.count_least(walk, walk.part + 1)
        return self.parts[walk.part].choices(self, walk, budget)

    def advance(self, walk: Walk, token_id: int) -> Walk:
        """Take a token; behind the end of the turn, which is the last one, it stands there again."""
        after = self.parts[walk.part].advance(self, walk, token_id)
        return after if after.part < len(self.parts) else walk

    def draft(self, walk: Walk, generated: torch.LongTensor) -> list[int]:
        """Guess the next few tokens from those so far (tokens,), where something is likely to come again."""
        return self.parts[walk.part].draft(self, walk, generated)

    def find_stop(self, walk: Walk) -> int:
        """Find the token that what comes behind the present part begins with; that must be fixed tokens."""
        return self.parts[walk.part + 1].ids[0]

    def count_least(self, walk: Walk, first_part: int) -> int:
        """Count the fewest tokens that parts which are not begun yet take, as things stand at `walk`."""
        return sum(part.count_least(self, walk) for part in self.parts[first_part:])


# Parts of a grammar ----------------------------------------------------------------------------------------------


class _Part:
    """What an answer walks through."""

    least = 0

    def count_least(self, grammar: AnswerGrammar, walk: Walk) -> int:
        """Count the fewest tokens that it takes from its beginning."""
        return self.least

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        """Tell what may come next with so many tokens left for this part."""
        raise NotImplementedError

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        """Take a token."""
        raise NotImplementedError

    def draft(self, grammar: AnswerGrammar, walk: Walk, generated: torch.LongTensor) -> list[int]:
        """Guess the next few tokens."""
        return []


def _leave(walk: Walk) -> Walk:
    """Go to the beginning of the next part."""
    return walk._replace(part=walk.part + 1, step=0, has_word=False)


class _Literal(_Part):
    """Fixed tokens."""

    def __init__(self, ids: tuple[int, ...]):
        self.ids, self.least = ids, len(ids)

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        return Choices(ids=(self.ids[walk.step],))

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        return walk._replace(step=walk.step + 1) if walk.step + 1 < len(self.ids) else _leave(walk)


class _Coordinate(_Part):
    """One coordinate: a token of its axis, in the range that `find_range` gives."""

    axis, least = "t", 1

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        return grammar.vocabulary.choose(self.axis, *self.find_range(grammar, walk, budget))

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        return _leave(self.note(walk, token_id - grammar.vocabulary.first_id[self.axis]))


class _Start(_Coordinate):
    """The start of a span."""

    def find_range(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> tuple[int, int]:
        return grammar.first_time, max(grammar.first_time, grammar.last_time - 1)  # the end comes after it

    def note(self, walk: Walk, chosen: int) -> Walk:
        return walk._replace(start=chosen, knows_end=False)


class _End(_Coordinate):
    """The end of a span, behind its start; a tube that follows must fit into the tokens that are left."""

    def __init__(self, tube: "_Tube | None" = None):
        self.tube = tube

    def find_range(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> tuple[int, int]:
        last = grammar.last_time
        earliest = min(walk.start + 1, last)
        if self.tube is not None and (times := grammar.limits.frame_times) is not None:
            # `budget` is what is left once the later parts have their least, which for the tube is two entries.
            num_entries = 2 + max(0, budget - 1) // self.tube.entry_length
            first, behind = grammar.limits.find_frames(walk.start, last)
            if num_entries < behind - first:
                last = max(earliest, times[first + num_entries] - 1)
        return earliest, last

    def note(self, walk: Walk, chosen: int) -> Walk:
        return walk._replace(end=chosen, knows_end=True, spans=(*walk.spans, (walk.start, chosen)))


class _Corner(_Coordinate):
    """Left, top, right or bottom of a box (corner 0 to 3), each side at least one bin long."""

    def __init__(self, corner: int):
        self.axis = "xyxy"[corner]
        self.is_far = corner >= 2

    def find_range(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> tuple[int, int]:
        last = grammar.vocabulary.num_bins[self.axis] - 1
        return (getattr(walk, self.axis) + 1, last) if self.is_far else (0, last - 1)

    def note(self, walk: Walk, chosen: int) -> Walk:
        return walk if self.is_far else walk._replace(**{self.axis: chosen})


_CORNERS = tuple(_Corner(corner) for corner in range(4))


class _Tube(_Part):
    """
    Times and boxes, times increasing up to the end of the span, where the tube ends with its last corner.

    Args:
        vocabulary (`GrammarVocabulary`): Token ids.
        texts (`Sequence[str]`): What stands before, between and behind the coordinates of two entries.
    """

    def __init__(self, vocabulary: GrammarVocabulary, texts: Sequence[str]):
        # The tokens of an entry and what separates it from the next: the time, corners, and fixed tokens.
        self.entry: list[int | _Corner | None] = [None, *vocabulary.encode(texts[1])]
        for corner, text in zip(_CORNERS, texts[2:], strict=False):
            self.entry += [corner, *vocabulary.encode(text)]
        self.entry_length = len(self.entry)
        self.corner_steps = [self.entry.index(corner) for corner in _CORNERS]
        self.last_corner = self.corner_steps[-1]

    def count_least(self, grammar: AnswerGrammar, walk: Walk) -> int:
        return self._count_tokens(grammar, walk if walk.knows_end else None)

    def _count_tokens(self, grammar: AnswerGrammar, walk: Walk | None) -> int:
        """Count the fewest tokens of a tube from its beginning; without a walk, of one whose end is not known yet."""
        if walk is not None:
            num_entries = max(1, self._count_after(grammar, walk))
        else:  # one at the end, or the two frames that a span of two bins may hold; `_End` sees to it that more fit
            num_entries = 1 if grammar.limits.frame_times is None else 2
        return (num_entries - 1) * self.entry_length + self.last_corner + 1

    def _count_after(self, grammar: AnswerGrammar, walk: Walk) -> int:
        """Count the fewest entries after the one at `walk.time`; that is the last one if there are none."""
        if (times := grammar.limits.frame_times) is None:
            return int(walk.time < walk.end)
        first, behind = grammar.limits.find_frames(walk.start, walk.end)
        if first == behind:  # no frame inside the span: one box, at its start
            return int(walk.time < walk.start)
        return max(0, behind - max(first, bisect_right(times, walk.time)))

    def _find_times(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> tuple[int, int]:
        """First and last time that the next entry may have."""
        if (times := grammar.limits.frame_times) is not None:
            first, behind = grammar.limits.find_frames(walk.start, walk.end)
            time = walk.start if first == behind else times[behind - self._count_after(grammar, walk)]
            return time, time
        if budget < self.entry_length + self.last_corner + 1:  # room for one more entry only: the one at the end
            return walk.end, walk.end
        return max(walk.start, walk.time + 1), walk.end

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        item = self.entry[walk.step]
        if isinstance(item, _Corner):
            return item.choices(grammar, walk, budget)
        if item is None:
            return grammar.vocabulary.choose("t", *self._find_times(grammar, walk, budget))
        return Choices(ids=(item,))

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        item = self.entry[walk.step]
        if isinstance(item, _Corner):
            walk = item.note(walk, token_id - grammar.vocabulary.first_id[item.axis])
        elif item is None:
            walk = walk._replace(time=token_id - grammar.vocabulary.first_id["t"])
        if walk.step == self.last_corner and self._count_after(grammar, walk) == 0:
            return _leave(walk)
        return walk._replace(step=(walk.step + 1) % self.entry_length)

    def draft(self, grammar: AnswerGrammar, walk: Walk, generated: torch.LongTensor) -> list[int]:
        """Guess the next corners of a box, the last one apart: those of the box before, which may have moved."""
        before = len(generated) - walk.step - self.entry_length  # where the entry before begins
        if before < 0 or walk.step not in self.corner_steps[:-1]:
            return []
        vocabulary = grammar.vocabulary
        guess = generated[before : before + self.entry_length].tolist()
        first_ids = [vocabulary.first_id[self.entry[step].axis] for step in self.corner_steps]
        for step, first_id in zip(self.corner_steps, first_ids, strict=True):
            if not 0 <= guess[step] - first_id < vocabulary.num_bins["x"]:
                return []  # other tokens: this is the first box
        left, _, right, last = self.corner_steps
        if walk.step > left:  # as wide as before
            farthest = first_ids[0] + vocabulary.num_bins["x"] - 1
            guess[right] = min(guess[right] + first_ids[0] + walk.x - guess[left], farthest)
        return guess[walk.step : last]


class _TubeForEach(_Tube):
    """A tube for each of the spans before it, in their order."""

    def __init__(self, vocabulary: GrammarVocabulary, texts: Sequence[str]):
        super().__init__(vocabulary, texts)
        self.between = vocabulary.encode(texts[-1] + SEPARATORS["tube"] + texts[0])

    def count_least(self, grammar: AnswerGrammar, walk: Walk) -> int:
        pending = 0 if walk.knows_end else self._count_tokens(grammar, None) + len(self.between)
        return pending + self._count_from(grammar, walk, 0) - len(self.between)

    def _count_from(self, grammar: AnswerGrammar, walk: Walk, number: int) -> int:
        """Count the fewest tokens of the tubes from one of the spans on, each with what stands before it."""
        walks = [walk._replace(start=start, end=end, time=-1) for start, end in walk.spans[number:]]
        return sum(self._count_tokens(grammar, walk) + len(self.between) for walk in walks)

    def _enter(self, walk: Walk) -> Walk:
        start, end = walk.spans[walk.num_groups]
        return walk._replace(start=start, end=end)

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        if walk.step >= self.entry_length:
            return Choices(ids=(self.between[walk.step - self.entry_length],))
        later = self._count_from(grammar, walk, walk.num_groups + 1)
        return super().choices(grammar, self._enter(walk), budget - later)

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        if walk.step < self.entry_length:
            after = super().advance(grammar, self._enter(walk), token_id)
            is_last = walk.num_groups + 1 == len(walk.spans)
            return after if is_last or after.part == walk.part else walk._replace(step=self.entry_length)
        if walk.step + 1 < self.entry_length + len(self.between):
            return walk._replace(step=walk.step + 1)
        return walk._replace(step=0, time=-1, num_groups=walk.num_groups + 1)


class _Again(_Part):
    """
    Behind a group: what stands between two groups and the group once more, or what comes behind all of them.

    Args:
        first_part (`int`): Where the group begins.
        between (`tuple[int, ...]`): Tokens between two groups.
    """

    def __init__(self, first_part: int, between: tuple[int, ...]):
        self.first_part, self.between = first_part, between

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        if walk.step > 0:
            return Choices(ids=(self.between[walk.step],))
        # One more span is one more tube behind it, where the answer has one for each.
        again = walk._replace(time=-1, knows_end=walk.knows_end and not walk.spans)
        later = grammar.count_least(walk, walk.part + 1)
        needed = len(self.between) + grammar.count_least(again, self.first_part) - later
        stop = grammar.find_stop(walk)
        return Choices(ids=(self.between[0], stop) if budget >= needed else (stop,))

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        if walk.step == 0 and token_id != self.between[0]:
            return grammar.advance(_leave(walk), token_id)
        if walk.step + 1 < len(self.between):
            return walk._replace(step=walk.step + 1)
        return walk._replace(part=self.first_part, step=0, time=-1)


class _Caption(_Part):
    """Words up to the full stop that begins the next part; at least one of them."""

    least = 1

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        if not walk.has_word:
            must = budget <= 1 or walk.step >= MAX_CAPTION_TOKENS
            return Choices(mask="clause words" if must else "clause")
        if budget < 1 or walk.step >= MAX_CAPTION_TOKENS:
            return Choices(ids=(grammar.find_stop(walk),))
        return Choices(ids=(grammar.find_stop(walk),), mask="clause")

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        if token_id == grammar.find_stop(walk):  # the next part goes on from its second token
            return grammar.advance(_leave(walk), token_id)
        has_word = walk.has_word or bool(grammar.vocabulary.words.is_word[token_id])
        return walk._replace(step=walk.step + 1, has_word=has_word)


class _FreeText(_Part):
    """Words without coordinates; the end at any time."""

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        return Choices(ids=(grammar.find_stop(walk),), mask="text" if budget > 0 else None)

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        return _leave(walk) if token_id == grammar.find_stop(walk) else walk


class _Interleaved(_Part):
    """
    Words with spans or boxes among them: at least one group, and words at its side.

    A box follows the words that it belongs to. With spans the answer starts with one, and behind each there are words
    before the next and before the end. Step 0 is among words, the others are inside a group. What a group begins and
    ends with, a token may write together with what stands beside it.
    """

    def __init__(self, vocabulary: GrammarVocabulary, is_span: bool):
        self.is_span = is_span
        # The tokens of a group, each a coordinate, or one of several that may stand there.
        self.group: list[_Coordinate | tuple[int, ...]] = []
        for piece in _write_group("tt", (_Start(), _End())) if is_span else _write_group("xyxy", _CORNERS):
            self.group += [(each,) for each in vocabulary.encode(piece)] if isinstance(piece, str) else [piece]
        self.first_opener, (last,) = self.group[0], self.group[-1]
        self.group[0] = vocabulary.list_openings(*self.first_opener)
        self.group[-1] = vocabulary.list_closings(last)
        self.group_length = len(self.group)
        self.least = self.group_length + 1

    def _count_left(self, walk: Walk) -> int:
        """Count the fewest tokens to the end, among words."""
        if walk.num_groups == 0:
            return self.group_length + int(self.is_span or not walk.has_word)
        return int(self.is_span and not walk.has_word)

    def choices(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        if walk.step == 0:
            return self._choose_in_text(grammar, walk, budget)
        item = self.group[walk.step]
        return Choices(ids=item) if isinstance(item, tuple) else item.choices(grammar, walk, budget)

    def _choose_in_text(self, grammar: AnswerGrammar, walk: Walk, budget: int) -> Choices:
        if self.is_span and walk.num_groups == 0:
            return Choices(ids=self.first_opener)
        end = (grammar.find_stop(walk),)
        opens = walk.has_word and budget >= self.group_length + int(self.is_span)
        ends = walk.num_groups > 0 and (walk.has_word or not self.is_span)
        if budget > self._count_left(walk):
            return Choices(ids=(self.group[0] if opens else ()) + (end if ends else ()), mask="text")
        # No token to spare: only what brings the answer nearer to its end.
        if walk.num_groups == 0 and opens:
            return Choices(ids=self.group[0])
        return Choices(ids=end) if ends else Choices(mask="text words")

    def advance(self, grammar: AnswerGrammar, walk: Walk, token_id: int) -> Walk:
        is_word = bool(grammar.vocabulary.words.is_word[token_id])
        if walk.step == 0:
            if token_id == grammar.find_stop(walk):
                return _leave(walk)
            if token_id in self.group[0]:
                return walk._replace(step=1, has_word=False)
            return walk._replace(has_word=walk.has_word or is_word)
        if walk.step + 1 == self.group_length:  # perhaps with a word behind it
            return walk._replace(step=0, has_word=is_word, num_groups=walk.num_groups + 1)
        item = self.group[walk.step]
        if isinstance(item, _Coordinate):
            walk = item.note(walk, token_id - grammar.vocabulary.first_id[item.axis])
        return walk._replace(step=walk.step + 1)


_PLACE = "\0"  # of a coordinate, in a text that has the other signs of a group


def _list_parts(vocabulary: GrammarVocabulary, answer_format: AnswerFormat) -> list[_Part]:
    """Build the parts of an answer format from its template, written as `NOTATION` does."""
    tube_texts = NOTATION.write_entries([(_PLACE, NOTATION.write_group("xyxy", [_PLACE] * 4))] * 2).split(_PLACE)
    is_for_each = answer_format.takes_several("span") and answer_format.takes_several("tube")
    tube = (_TubeForEach if is_for_each else _Tube)(vocabulary, tube_texts)
    text = _FreeText()
    if "text" in answer_format.fields and {"span", "box"} & set(answer_format.parts):
        text = _Interleaved(vocabulary, is_span="span" in answer_format.parts)
    # What a field of the template becomes: parts, and the texts before, between and behind them.
    groups = {
        "span": _write_group("tt", [_Start(), _End(tube if "tube" in answer_format.fields else None)]),
        "box": _write_group("xyxy", _CORNERS),
        "tube": [tube_texts[0], tube, tube_texts[-1]],
        "end": _write_group("t", [_End(tube)]),
        "caption": ["", _Caption(), "."],
        "text": ["", text, ""],
        None: ["", ""],  # behind the last field
    }
    parts, pending = [], ""
    for written, field, _, _ in Formatter().parse(answer_format.template):
        opening, *group, closing = groups[field]
        pending += written + opening
        # A word of a caption brings its own space.
        _add_literal(parts, vocabulary.encode(pending.rstrip() if field == "caption" else pending))
        first_part, pending = len(parts), closing
        for piece in group:
            if isinstance(piece, str):
                _add_literal(parts, vocabulary.encode(piece))
            else:
                parts.append(piece)
        if field in answer_format.several and not (field == "tube" and is_for_each):
            parts.append(_Again(first_part, vocabulary.encode(closing + SEPARATORS[field] + opening)))
    _add_literal(parts, (*vocabulary.encode(pending), vocabulary.end_id))
    return parts


def _write_group(axes: str, coordinates: Sequence[_Coordinate]) -> list[str | _Part]:
    """Put coordinates together as `NOTATION` does: each between the texts before and behind it."""
    first, *texts = NOTATION.write_group(axes, [_PLACE] * len(axes)).split(_PLACE)
    return [first, *(piece for pair in zip(coordinates, texts, strict=True) for piece in pair)]


def _add_literal(parts: list[_Part], ids: tuple[int, ...]) -> None:
    """Add fixed tokens behind the other parts."""
    if parts and isinstance(parts[-1], _Again):
        # Where what comes behind begins like what stands between two groups, that is no choice yet.
        again = parts.pop()
        shared = next(i for i, pair in enumerate(zip_longest(ids, again.between)) if pair[0] != pair[1])
        if shared:
            parts.append(_Literal(ids[:shared]))
        parts.append(_Again(again.first_part, again.between[shared:]))
        ids = ids[shared:]
    if ids:
        parts.append(_Literal(ids))


__all__ = ["AnswerGrammar", "Walk"]
