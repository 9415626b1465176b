"""The words of an answer that belong to its spans and boxes."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from .answer_formats_llava_st import AnswerFormat
from .grounding_results_llava_st import Box, Caption, Span, Tube
from .notation_llava_st import Notation

_OBJECT_MARKER = re.compile(r"object bounding box(?:es)?\b", re.IGNORECASE)
_SENTENCE_END = re.compile("[.!?](?=\\s|\\Z)|[\n\u3002\uff01\uff1f]")
_WORD = re.compile(r"\w+")
_SEPARATORS = " \t\r\n,;:\u3001\uff0c\uff1a\uff1b"  # the last four: Chinese comma, colon and so on


class AnswerGroup(NamedTuple):
    """What was read at a place of an answer; the value is None where it was malformed."""

    kind: str  # "span", "box", "tube", or "end" for "Ends in <t_5>"
    start: int
    end: int
    value: Span | Box | Tube | None


def has_words(gap: str) -> bool:
    """Return whether a gap between lexemes holds words; a lone 'and' joins, as a comma does."""
    words = _WORD.finditer(gap)
    first = next(words, None)
    return first is not None and (first[0].lower() != "and" or next(words, None) is not None)


def read_captions(
    text: str, groups: Sequence[AnswerGroup], answer_format: AnswerFormat | None, notation: Notation
) -> list[Caption]:
    """Cut the words out that belong to spans and boxes; without a format the groups tell which it is."""
    kinds, around = {group.kind for group in groups}, _SEPARATORS
    name = None if answer_format is None else answer_format.name
    if name == "end_caption_and_tube" or (name is None and "end" in kinds):
        captions = _read_end_caption(text, groups)
    elif name == "phrases_with_boxes" or (name is None and "box" in kinds):
        captions, around = _read_phrases(text, groups), "." + _SEPARATORS
    elif name == "sentences_with_spans" or (name is None and kinds == {"span"}):
        captions = _read_sentences(text, groups)
    else:
        return []
    return [replace(caption, text=notation.remove_coordinates(caption.text).strip(around)) for caption in captions]


def _read_end_caption(text: str, groups: Sequence[AnswerGroup]) -> list[Caption]:
    """Read the caption of `Ends in <t_5>, caption. Object bounding box: tube`."""
    moment = next((group for group in groups if group.kind in ("end", "span")), None)
    tube = next((group for group in groups if group.kind == "tube"), None)
    start = moment.end if moment else 0
    end = tube.start if tube and tube.start >= start else len(text)
    marker = _OBJECT_MARKER.search(text, start, end)
    return [Caption(text[start : marker.start() if marker else end], span=moment.value if moment else None)]


def _read_phrases(text: str, groups: Sequence[AnswerGroup]) -> list[Caption]:
    """Give each box the words before it, back to the box or the end of the sentence before."""
    phrases: list[tuple[str, list[Box]]] = []
    position = 0
    for group in groups:
        if group.kind != "box":
            position = max(position, group.end) if group.kind == "tube" else position
            continue
        words = text[position : group.start]
        position = max(position, group.end)
        boxes = [] if group.value is None else [group.value]
        if phrases and not has_words(words):  # a dog [box] [box]: two instances
            phrases[-1][1].extend(boxes)
            continue
        sentence_end = max((match.end() for match in _SENTENCE_END.finditer(words)), default=0)
        if _WORD.search(words, sentence_end):
            words = words[sentence_end:]
        phrases.append((words, boxes))
    return [Caption(words, boxes=tuple(boxes)) for words, boxes in phrases]


def _read_sentences(text: str, groups: Sequence[AnswerGroup]) -> list[Caption]:
    """Give each span its sentence: the one after it if the answer starts with a span, else the one around it."""
    groups = [group for group in groups if group.kind in ("span", "end")]
    if not groups:
        return []
    if not _WORD.search(text[: groups[0].start]):
        ends = [*(group.start for group in groups[1:]), len(text)]
        pieces = zip(groups, ends, strict=True)
        return [Caption(text[group.end : end], span=group.value) for group, end in pieces]
    captions, position = [], 0
    for number, group in enumerate(groups):
        limit = groups[number + 1].start if number + 1 < len(groups) else len(text)
        before = text[position : group.start]
        start = position + max((match.end() for match in _SENTENCE_END.finditer(before)), default=0)
        match = _SENTENCE_END.search(text, group.end, limit)
        # Two spans in one sentence share it out: each has the words before it, the last also those after it.
        position = match.end() if match else (group.end if limit < len(text) else limit)
        captions.append(Caption(text[start:position], span=group.value))
    return captions


__all__ = ["AnswerGroup", "has_words", "read_captions"]
