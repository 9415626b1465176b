"""The metrics of captions of a whole benchmark, as sums over its items; dense captions at several overlaps."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from .captions import NO_MATCH, compute_cider, compute_rouge_l, count_bleu, finish_bleu
from .meteor import METEOR, NUM_COUNTS, count_meteor, finish_meteor
from .uncertainty import Statistic

CAPTION_METRICS = (*(f"Bleu_{order}" for order in range(1, 5)), METEOR, "ROUGE_L", "CIDEr")
DENSE_THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
_BLEU_COUNTS = 10

# A caption and its true ones, any number of them for an item, by the overlap at which they are compared.
CaptionPairs = Mapping[str, Sequence[tuple[str, Sequence[str]]]]


def pair_dense_captions(captions: Sequence[str], references: Sequence[str], ious: np.ndarray) -> CaptionPairs:
    """
    Pair the sentences of a video with the true ones that they overlap, as ActivityNet Captions is scored.

    A sentence is compared, at each of `DENSE_THRESHOLDS`, with all true ones of larger tIoU, or with a text that has
    no words of any language where there are none. A video without a sentence counts as one that is empty.

    Args:
        captions (`Sequence[str]`): The sentences of the answer.
        references (`Sequence[str]`): The true ones.
        ious (`np.ndarray`): tIoUs of shape (captions, references).

    Returns:
        `CaptionPairs`: By threshold a pair for each sentence.
    """
    if not len(captions):
        return {str(threshold): [("", [NO_MATCH])] for threshold in DENSE_THRESHOLDS}
    return {
        str(threshold): [
            (caption, [references[place] for place in np.flatnonzero(row > threshold)] or [NO_MATCH])
            for caption, row in zip(captions, ious, strict=True)
        ]
        for threshold in DENSE_THRESHOLDS
    }


def make_caption_statistics(items: Sequence[CaptionPairs | None]) -> dict[str, Statistic]:
    """
    Compute BLEU, METEOR, ROUGE-L and CIDEr of the captions of a benchmark, means over overlaps where there are some.

    Args:
        items (`Sequence[CaptionPairs | None]`): The captions of each item; `None` for one of which nothing is known,
            which counts as a caption that is worth nothing.

    Returns:
        `dict[str, Statistic]`: By `CAPTION_METRICS`.
    """
    levels = list(dict.fromkeys(level for item in items for level in item or ()))
    rows = np.zeros((len(items), max(len(levels), 1), _BLEU_COUNTS + NUM_COUNTS + 3))
    rows[:, :, -1] = [[item is None or not levels] for item in items]
    for place, level in enumerate(levels):
        owners, captions, references = [], [], []
        for owner, item in enumerate(items):
            for caption, others in (item or {}).get(level, ()):
                owners.append(owner)
                captions.append(caption)
                references.append(others)
        counts = np.column_stack(
            [
                count_bleu(captions, references),
                count_meteor(captions, references),
                compute_rouge_l(captions, references),
                compute_cider(captions, references),
                np.ones(len(captions)),
            ]
        )
        np.add.at(rows[:, place], np.array(owners), counts)
    flat = rows.reshape(len(items), -1)
    return {name: Statistic(flat, partial(_finish, name, rows.shape[1])) for name in CAPTION_METRICS}


def _finish(name: str, num_levels: int, sums: np.ndarray) -> float:
    return float(np.mean([_finish_level(name, level) for level in sums.reshape(num_levels, -1)]))


def _finish_level(name: str, sums: np.ndarray) -> float:
    bleu, meteor, (overlap, cider, number) = np.split(sums, [_BLEU_COUNTS, _BLEU_COUNTS + NUM_COUNTS])
    if name.startswith("Bleu"):
        return float(finish_bleu(bleu)[int(name[-1]) - 1])
    if name == METEOR:
        return finish_meteor(meteor)
    return float((overlap if name == "ROUGE_L" else cider) / number) if number else 0.0
