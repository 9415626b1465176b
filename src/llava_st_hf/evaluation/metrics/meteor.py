"""METEOR 1.5 for English by equal words and equal stems, without the tables of paraphrases and synonyms.

The tables are 60 MB of data that only the Java program reads, so values lie a little below its own where a caption
says the same in other words; where it says it in the same words they are equal.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .captions import tokenize_caption

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_EXACT_WEIGHT, _STEM_WEIGHT = 1.0, 0.6
_BEAM = 40
_FUNCTION_TEXT = (
    "a about after all also an and any are as at be because been before but by can could did do does for from had has "
    "have he her him his i if in into is it its may more most no not of on one only or other our out over said she "
    "should so some such than that the their them then there these they this those to under up was we were what when "
    "which while who will with would you your"
)
_FUNCTION_WORDS = frozenset(_FUNCTION_TEXT.split())


class _Counts(NamedTuple):
    """What is matched, of one caption or of many; they add up."""

    matched: float  # weighted words of the caption
    total: float
    reference_matched: float
    reference_total: float
    matches: int
    chunks: int

    def score(self) -> float:
        if not self.matches:
            return 0.0
        precision, recall = self.matched / self.total, self.reference_matched / self.reference_total
        mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
        return mean * (1 - _GAMMA * (self.chunks / self.matches) ** _BETA)


def compute_meteor(caption: str, references: Sequence[str]) -> float:
    """
    Compute METEOR of one caption, from 0 to 1: the best over its references.

    With P and R the weighted shares of words that are matched, content words counting 0.75 and function words 0.25, F
    = P R / (0.85 P + 0.15 R), and METEOR = F (1 - 0.6 (chunks / matches) ** 0.2), with the fewest chunks of words that
    stand together in both; one chunk that covers both has no penalty.
    """
    return _count_best(caption, references).score()


def compute_corpus_meteor(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """
    Compute METEOR of a data set as coco-caption reports it: of matches, lengths and chunks summed over the items.

    It is no mean of `compute_meteor`, and mostly far below that.
    """
    return finish_meteor(count_meteor(captions, references).sum(0)) if len(captions) else 0.0


def count_meteor(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return what METEOR of a data set sums, of shape (items, 6)."""
    return np.array([_count_best(*pair) for pair in zip(captions, references, strict=True)], dtype=np.float64)


def finish_meteor(sums: np.ndarray) -> float:
    """Return METEOR of the sums of `count_meteor`."""
    return float(_Counts(*sums.tolist()).score())


def _count_best(caption: str, references: Sequence[str]) -> _Counts:
    words = tokenize_caption(caption)
    counts = [_count(words, tokenize_caption(reference)) for reference in references]
    return max(counts, key=_Counts.score, default=_count(words, []))


def _count(words: Sequence[str], others: Sequence[str]) -> _Counts:
    pairs = _align(words, others)
    matched, reference_matched = (
        sum(_weigh(side[pair[place]]) * pair[2] for pair in pairs) for side, place in ((words, 0), (others, 1))
    )
    starts = sum(after[0] != before[0] + 1 or after[1] != before[1] + 1 for before, after in pairwise(pairs))
    is_whole = not starts and len(pairs) == len(words) == len(others)
    return _Counts(
        matched,
        sum(map(_weigh, words)),
        reference_matched,
        sum(map(_weigh, others)),
        len(pairs),
        0 if is_whole else starts + bool(pairs),
    )


def _weigh(word: str) -> float:
    return 1 - _DELTA if word in _FUNCTION_WORDS else _DELTA


def _align(words: Sequence[str], others: Sequence[str]) -> list[tuple[int, int, float]]:
    """Pair words one to one: as many as can be, then in the fewest chunks; a search that keeps the best beginnings."""
    stems, other_stems = [*map(_stem, words)], [*map(_stem, others)]
    beginnings: list[tuple[tuple[float, int], tuple[tuple[int, int, float], ...]]] = [((0.0, 0), ())]
    for place, word in enumerate(words):
        found = list(beginnings)
        matches = [
            (other, _EXACT_WEIGHT if others[other] == word else _STEM_WEIGHT)
            for other in range(len(others))
            if others[other] == word or other_stems[other] == stems[place]
        ]
        for (weight, negative_chunks), pairs in beginnings:
            used = {pair[1] for pair in pairs}
            for other, match_weight in matches:
                if other not in used:
                    goes_on = bool(pairs) and pairs[-1][0] == place - 1 and pairs[-1][1] == other - 1
                    score = (weight + match_weight, negative_chunks - (not goes_on))
                    found.append((score, (*pairs, (place, other, match_weight))))
        beginnings = sorted(found, key=lambda entry: entry[0], reverse=True)[:_BEAM]
    return list(beginnings[0][1])


def _stem(word: str) -> str:
    """Cut the endings of English plurals, pasts and participles."""
    if len(word) < 4:
        return word
    for pattern, ending in ((r"ies$", "i"), (r"ss$", "ss"), (r"([sxz]|ch|sh)es$", r"\1"), (r"s$", "")):
        if re.search(pattern, word):
            word = re.sub(pattern, ending, word)
            break
    stem = re.sub(r"(?<=\w\w)(ing|ed)$", "", word)
    if stem != word and re.search(r"[aeiouy]", stem):
        word = re.sub(r"([bdfgmnprt])\1$", r"\1", stem)
    return re.sub(r"(?<=\w\w)[ey]$", lambda match: "i" if match[0] == "y" else "", word)
