"""METEOR 1.5 for English, with the digits of the Java program where its tables are there, see `meteor_tables`.

Without them words match that are equal or have equal stems, and values lie a little below those of the program where a
caption says the same in other words; the name says so.
"""

import re
from collections.abc import Sequence

import numpy as np

from .captions import tokenize_caption
from .meteor_alignment import WEIGHTS, align_words
from .meteor_tables import find_meteor_tables

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
NUM_COUNTS = 21
_TABLES = find_meteor_tables()
METEOR, SODA = (name if _TABLES else f"{name}_no_synonyms" for name in ("METEOR", "SODA_c"))
_FUNCTION_TEXT = (
    "a about after all also an and any are as at be because been before but by can could did do does for from had has "
    "have he her him his i if in into is it its may more most no not of on one only or other our out over said she "
    "should so some such than that the their them then there these they this those to under up was we were what when "
    "which while who will with would you your"
)
_FUNCTION_WORDS = frozenset(_FUNCTION_TEXT.split())
_LETTERS = (
    "A-Za-z\u0160\u017d\u0161\u017e\u0178\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017e"
    "\u0400-\u04ff\u0500-\u0527\ua640-\ua66e\ua67e-\ua697\u1d00-\u1d7f"
)
_KNOWN = f"0-9{_LETTERS}"
# Words of a caption are split further, in this order; quotes have become apostrophes before the third.
_SPLITS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"([^{_KNOWN} .'`,\-\u2018\u2019])", r" \1 "),
        (r"[`\u2018\u2019]", "'"),
        (rf"([{_KNOWN}.])-([{_KNOWN}])", r"\1 \2"),
        (rf"([^{_LETTERS}])'([^{_LETTERS}])", r"\1 ' \2"),
        (rf"([^{_KNOWN}])'([{_LETTERS}])", r"\1 ' \2"),
        (rf"([{_LETTERS}])'([^{_LETTERS}])", r"\1 ' \2"),
        (rf"([{_LETTERS}])'([{_LETTERS}])", r"\1 '\2"),
        (r"([0-9])'(s)", r"\1 '\2"),
    )
)
_LETTER = re.compile(f"[{_LETTERS}]")
_DOTTED = frozenset(("v", "vs", "rev"))  # abbreviations that keep their dot; in lower case there are no others


def compute_meteor(caption: str, references: Sequence[str]) -> float:
    """
    Compute METEOR of one caption, from 0 to 1: the best over its references.

    With P and R the weighted shares of words that are matched, content words counting 0.75 and function words 0.25,
    equal ones 1, stems and paraphrases 0.6 and synonyms 0.8, F = P R / (0.85 P + 0.15 R), and METEOR = F (1 - 0.6
    (chunks / matches) ** 0.2), with the fewest chunks of words that stand together in both; one chunk that covers both
    has no penalty.
    """
    return finish_meteor(_count_best(caption, references))


def compute_corpus_meteor(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """
    Compute METEOR of a data set as coco-caption reports it: of matches, lengths and chunks summed over the items.

    It is no mean of `compute_meteor`, and mostly far below that.
    """
    return finish_meteor(count_meteor(captions, references).sum(0)) if len(captions) else 0.0


def count_meteor(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """
    Return what METEOR of a data set sums, of shape (items, `NUM_COUNTS`).

    Matched words by stage, content or function, caption or reference; all function words and all words of caption and
    reference; chunks, of which one that covers both captions is none.
    """
    return np.array([_count_best(*pair) for pair in zip(captions, references, strict=True)], dtype=np.float64)


def finish_meteor(sums: np.ndarray) -> float:
    """Return METEOR of the sums of `count_meteor`."""
    *matched, functions, others_functions, total, others_total, chunks = sums.tolist()
    shares, num_matched = [], []
    for side, length, short in ((0, total, functions), (1, others_total, others_functions)):
        content, function = matched[side:8:2], matched[8 + side :: 2]
        weighted = 0.0
        for counts, share in ((content, _DELTA), (function, 1 - _DELTA)):
            for count, weight in zip(counts, WEIGHTS, strict=True):
                weighted += count * weight * share
        num_matched.append(sum(content) + sum(function))
        shares.append(weighted / (_DELTA * (length - short) + (1 - _DELTA) * short) if weighted else 0.0)
    if not all(shares):
        return 0.0
    mean = 1 / ((1 - _ALPHA) / shares[0] + _ALPHA / shares[1])
    return mean * (1 - _GAMMA * (chunks / (sum(num_matched) / 2)) ** _BETA)


def _count_best(caption: str, references: Sequence[str]) -> np.ndarray:
    words = _split(caption)
    counts = [_count(words, _split(reference)) for reference in references]
    return max(counts, key=finish_meteor, default=_count(words, []))


def _split(text: str) -> list[str]:
    """Split the words of a caption as METEOR does: at dashes and apostrophes, dots of abbreviations dropped."""
    text = f" {' '.join(tokenize_caption(text))} "
    for pattern, replacement in _SPLITS:
        text = pattern.sub(replacement, text)
    words = text.split()
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else ""
        if len(word) < 2 or not word.endswith("."):
            continue
        if "." in word[:-1] and _LETTER.search(word):
            words[place] = word.replace(".", "")
        elif not (
            word[:-1] in _DOTTED or "a" <= following[:1] <= "z" or (word == "pp." and "0" <= following[:1] <= "9")
        ):
            words[place] = f"{word[:-1]} ."
    return " ".join(words).split()


def _count(words: Sequence[str], others: Sequence[str]) -> np.ndarray:
    function_words = _TABLES.function_words if _TABLES else _FUNCTION_WORDS
    are_function = [[word in function_words for word in side] for side in (words, others)]
    matched = np.zeros((2, len(WEIGHTS), 2))
    matches, chunks = align_words(words, others, _TABLES)
    for match in matches:
        for side, (start, length) in enumerate((match.words, match.others)):
            for is_function in are_function[side][start : start + length]:
                matched[int(is_function), match.stage, side] += 1
    lengths = [len(words), len(others)]
    is_whole = chunks == 1 and matched.sum((0, 1)).tolist() == lengths
    return np.array([*matched.flat, *map(sum, are_function), *lengths, 0 if is_whole else chunks], dtype=np.float64)
