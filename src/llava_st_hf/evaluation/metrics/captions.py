"""Metrics of captions: BLEU, ROUGE-L and CIDEr with the digits of coco-caption; METEOR is in `meteor`.

Captions are tokenized as there, in the manner of the Penn Treebank, lower case and without punctuation; no Java is
needed. One caption per item is compared with one or more true ones.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...processing import InputError

_MAX_ORDER = 4
_TINY, _SMALL = 1e-15, 1e-9  # as coco-caption keeps clear of 0 / 0
_ROUGE_BETA, _CIDER_SIGMA = 1.2, 6.0
_CONTRACTION = re.compile(r"(?<=[a-z\d])(n't|'(?:s|m|d|ll|re|ve))(?![a-z'])")
_JOINED = {"cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na", "gimme": "gim me"}
# A bracket is a word there, which the list of punctuation misses.
_BRACKETS = {"(": " -lrb- ", ")": " -rrb- ", "[": " -lsb- ", "]": " -rsb- ", "{": " -lcb- ", "}": " -rcb- "}
NO_MATCH = "abc123!@#"  # what the published scorer compares a sentence with that overlaps no true one: one word
_WORD = re.compile(
    NO_MATCH + "|"
    r"-[lr][rsc]b-|n't|'(?:s|m|d|ll|re|ve)(?!\w)|[?!]{2,}"
    r"|(?:mr|mrs|ms|dr|prof|st|jr|sr|vs|etc)\.|no\.(?=\s?\d)|(?:[a-z]\.){2,}|\b[b-z]\.(?=\s\w)"
    r"|\d+(?:[.,:/]\d+)+(?![\w-])|[#@][^\W\d]\w*|[a-z]{1,2}&[a-z]{1,2}(?!\w)"
    r"|\w+(?:[-\u2011.'\u2019/]\w+)*|#+|@+|\*+|_+|[%$&+=<>/\\|~^]"
)


def tokenize_caption(text: str) -> list[str]:
    """
    Split a caption into words as coco-caption does: lower case, contractions apart, without punctuation.

    Args:
        text (`str`): The caption.

    Returns:
        `list[str]`: For example `["the", "dog", "does", "n't", "run"]`.
    """
    text = re.sub(r"\u2019(?=(?:s|m|d|ll|re|ve|t)\b)", "'", text.lower())
    text = "".join(_BRACKETS.get(character, character) for character in text)
    text = re.sub(r"\bno\.(?=\d)", "no. ", _CONTRACTION.sub(r" \1", text))
    words = _WORD.findall(text)
    return [part for word in words for part in _JOINED.get(word, word).split()]


def normalize_text(text: str) -> str:
    """
    Return a text in the form in which two are compared: lower case, single spaces, no full stop at the end.

    Args:
        text (`str`): A caption or a short answer, without coordinates.

    Returns:
        `str`: For example `"the red circle"` for `" The red  circle. "`.
    """
    return " ".join(text.lower().split()).rstrip(". ")


def compute_bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """
    Compute BLEU-1 to BLEU-4 of a data set, from 0 to 1: of one caption per item, and its true captions.

    BLEU-n = brevity penalty * geometric mean of the n-gram precisions up to n, of counts summed over all items and cut
    to the largest of a reference; of reference lengths the closest counts. No items, or one without a reference, is an
    `InputError`.
    """
    means = finish_bleu(count_bleu(captions, references).sum(0))
    return {f"Bleu_{order}": float(mean) for order, mean in enumerate(means, start=1)}


def count_bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return what BLEU sums, of shape (items, 10): n-grams that are right, all n-grams, and both lengths."""
    rows = []
    for words, others in _tokenize_all(captions, references):
        correct = np.zeros(_MAX_ORDER)
        grams, references_grams = _count_grams(words), [_count_grams(other) for other in others]
        for gram, count in grams.items():
            correct[len(gram) - 1] += min(count, max(other[gram] for other in references_grams))
        guessed = [max(len(words) - order, 0) for order in range(_MAX_ORDER)]
        nearest = min((abs(len(other) - len(words)), len(other)) for other in others)[1]
        rows.append([*correct, *guessed, len(words), nearest])
    return np.array(rows, dtype=np.float64)


def finish_bleu(sums: np.ndarray) -> np.ndarray:
    """Return BLEU-1 to BLEU-4 of the sums of `count_bleu`."""
    correct, guessed, (length, reference_length) = np.split(sums, [_MAX_ORDER, 2 * _MAX_ORDER])
    means = np.cumprod((correct + _TINY) / (guessed + _SMALL)) ** (1 / np.arange(1, _MAX_ORDER + 1))
    ratio = (length + _TINY) / (reference_length + _SMALL)
    return means * (np.exp(1 - 1 / ratio) if ratio < 1 else 1.0)


def compute_rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """
    Compute ROUGE-L of each item, from 0 to 1: the F measure (beta 1.2) of the longest common subsequence of words.

    Precision and recall are each the best over the references of an item; the metric of a data set is the mean.
    """
    scores = []
    for words, others in _tokenize_all(captions, references):
        common = [_measure_common(words, other) for other in others]
        precision = max(length / max(len(words), 1) for length in common)
        recall = max(length / max(len(other), 1) for length, other in zip(common, others, strict=True))
        weighted = recall + _ROUGE_BETA**2 * precision
        scores.append((1 + _ROUGE_BETA**2) * precision * recall / weighted if precision and recall else 0.0)
    return scores


def compute_cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """
    Compute CIDEr-D of each item: 10 times the mean over n = 1..4 of the cosine of tf-idf vectors of n-grams.

    Counts are cut to those of the reference, and lengths that differ are penalised by a Gaussian of sigma 6. Document
    frequencies are those of the references of these items, so the value of an item, from 0 to 10, depends on the
    others; the metric of a data set is the mean.
    """
    items = [
        (_count_grams(words), [_count_grams(other) for other in others])
        for words, others in _tokenize_all(captions, references)
    ]
    frequencies = Counter(gram for _, others in items for gram in set().union(*others))
    log_items = np.log(len(items))

    def weigh(grams: Counter) -> tuple[dict[tuple[str, ...], float], np.ndarray, int]:
        weights = {gram: count * (log_items - np.log(max(1, frequencies[gram]))) for gram, count in grams.items()}
        norms = np.zeros(_MAX_ORDER)
        for gram, weight in weights.items():
            norms[len(gram) - 1] += weight**2
        return weights, np.sqrt(norms), sum(count for gram, count in grams.items() if len(gram) == 2)

    scores = []
    for grams, others in items:
        weights, norms, length = weigh(grams)
        total = 0.0
        for other in others:
            other_weights, other_norms, other_length = weigh(other)
            products = np.zeros(_MAX_ORDER)
            for gram in weights.keys() & other_weights.keys():
                products[len(gram) - 1] += min(weights[gram], other_weights[gram]) * other_weights[gram]
            scales = norms * other_norms
            cosines = np.divide(products, scales, out=np.zeros(_MAX_ORDER), where=scales > 0)
            total += cosines.mean() * np.exp(-((length - other_length) ** 2) / (2 * _CIDER_SIGMA**2))
        scores.append(float(10 * total / len(others)))
    return scores


def _tokenize_all(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> list[tuple[list[str], list[list[str]]]]:
    if not len(captions) or len(captions) != len(references) or not all(len(group) for group in references):
        raise InputError(
            f"captions has {len(captions)} entries and references {len(references)}: give one caption and at "
            "least one reference for each item."
        )
    return [
        (tokenize_caption(caption), [tokenize_caption(other) for other in group])
        for caption, group in zip(captions, references, strict=True)
    ]


def _count_grams(words: Sequence[str]) -> Counter:
    """Count the runs of 1 to 4 words."""
    return Counter(
        tuple(words[first : first + order])
        for order in range(1, _MAX_ORDER + 1)
        for first in range(len(words) - order + 1)
    )


def _measure_common(words: Sequence[str], others: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    if not words or not others:
        return 0
    numbers = {word: number for number, word in enumerate(dict.fromkeys([*words, *others]))}
    row = np.zeros(len(others) + 1, dtype=np.int64)
    columns = np.array([numbers[word] for word in others])
    for word in words:
        row[1:] = np.maximum.accumulate(np.maximum(row[1:], row[:-1] + (columns == numbers[word])))
    return int(row[-1])
