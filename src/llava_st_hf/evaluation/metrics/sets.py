"""Sets of spans or tubes: best of k, matching one to one, average precision, and the F measure of dense captions.

All take IoUs of shape (answers, truths), so that they serve spans, boxes and tubes alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

AP_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
F1_THRESHOLDS = (0.1, 0.3, 0.5, 0.7)
MAX_RANKED = 10  # answers to a query that the public scorer of QVHighlights takes


def compute_best_iou(ious: ArrayLike, k: int = 1) -> float:
    """
    Return the largest IoU, of (answers, truths), of the first k answers with any truth; 0 without answers.

    R@k at a threshold is `compute_recall` of it.
    """
    first = _as_matrix(ious)[:k]
    return float(first.max()) if first.size else 0.0


def match_one_to_one(ious: ArrayLike, threshold: float = 0.0) -> list[tuple[int, int]]:
    """
    Pair answers with truths, each at most once, so that as many as possible reach a threshold, with the largest sum.

    Args:
        ious (`ArrayLike`): IoUs of shape (answers, truths).
        threshold (`float`, *optional*, defaults to 0.0): Pairs below it, and those of IoU 0, are none.

    Returns:
        `list[tuple[int, int]]`: Numbers of answer and truth of each pair.

    Example:

    ```python
    >>> match_one_to_one([[0.6, 0.9], [0.0, 0.8]], threshold=0.5)
    [(0, 0), (1, 1)]
    ```
    """
    matrix = _as_matrix(ious)
    is_pair = (matrix >= threshold) & (matrix > 0)
    # A pair more is worth more than all IoUs together.
    worths = (min(matrix.shape) + 1.0 + matrix) * is_pair
    pairs = _assign(worths) if len(matrix) <= matrix.shape[1] else [pair[::-1] for pair in _assign(worths.T)]
    return sorted(pair for pair in pairs if is_pair[pair])


def compute_event_f1(ious: ArrayLike, thresholds: Sequence[float] = F1_THRESHOLDS) -> float:
    """
    Compute EtF1, from 0 to 1: the mean over thresholds of 2 M / (answers + truths), M the pairs of a one-to-one
    matching.

    `ious` has the shape (answers, truths); without an answer it is 0.
    """
    matrix = _as_matrix(ious)
    count = sum(matrix.shape)
    return float(np.mean([2 * len(match_one_to_one(matrix, t)) / count for t in thresholds])) if count else 0.0


def compute_average_precision(ious: ArrayLike, threshold: float) -> float:
    """
    Compute AP of one query: the area under precision, made to fall, over recall.

    Answers are taken in their order, the surest first; each takes the truth of largest IoU that is still free and
    reaches the threshold, or is a false one. QVHighlights' mAP is the mean over queries and `AP_THRESHOLDS`.

    Args:
        ious (`ArrayLike`): IoUs of shape (answers, truths).
        threshold (`float`): IoU from which an answer is right.

    Returns:
        `float`: From 0 to 1.

    Example:

    ```python
    >>> compute_average_precision([[0.2, 0.1], [0.9, 0.0]], threshold=0.5)  # 1 of 2 found, behind a false one
    0.25
    ```
    """
    matrix = _as_matrix(ious).copy()
    if not matrix.size:
        return 0.0
    is_right = np.zeros(len(matrix))
    for place, row in enumerate(matrix):
        truth = int(row.argmax())
        if row[truth] >= threshold:
            is_right[place] = 1
            matrix[:, truth] = -1.0  # taken
    precision = is_right.cumsum() / np.arange(1, len(matrix) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((falling * is_right).sum() / matrix.shape[1])


class RankedPrecision(NamedTuple):
    """What QVHighlights reports of the answers to one query, see `compute_ranked_precision`."""

    mean: float  # mean of `compute_average_precision` over `AP_THRESHOLDS`
    at_half: float
    at_three_quarters: float


def compute_ranked_precision(ious: ArrayLike) -> RankedPrecision:
    """
    Compute the average precision of one query of QVHighlights, of the first `MAX_RANKED` answers.

    Args:
        ious (`ArrayLike`): IoUs of shape (answers, truths), the surest answer first.

    Returns:
        `RankedPrecision`: Values from 0 to 1.
    """
    matrix = _as_matrix(ious)[:MAX_RANKED]
    values = {threshold: compute_average_precision(matrix, threshold) for threshold in AP_THRESHOLDS}
    return RankedPrecision(float(np.mean([*values.values()])), values[0.5], values[0.75])


def compute_soda(ious: ArrayLike, similarities: ArrayLike) -> float:
    """
    Compute SODA_c of one video: the F measure of dense captions under the best matching that keeps their order.

    With C = IoU * similarity of the captions and S the largest sum of C over pairs in the order of both lists:
    precision = S / answers, recall = S / truths. Published with METEOR as the similarity.

    Args:
        ious (`ArrayLike`): tIoUs of shape (answers, truths), both in order of time.
        similarities (`ArrayLike`): Similarities of their captions, from 0 to 1, of the same shape.

    Returns:
        `float`: From 0 to 1.

    Example:

    ```python
    >>> compute_soda([[1.0, 0.0], [0.0, 0.5]], [[1.0, 0.0], [0.0, 1.0]])
    0.75
    ```
    """
    worths = _as_matrix(ious) * _as_matrix(similarities)
    if not worths.size:
        return 0.0
    best = np.zeros(worths.shape[1] + 1)  # the largest sum of the answers so far with the first n truths
    for row in worths:
        taken = best[:-1] + row
        best = np.maximum.accumulate(np.maximum(best, np.concatenate([[0.0], taken])))
    precision, recall = (best[-1] / count for count in worths.shape)
    return float(2 * precision * recall / (precision + recall)) if best[-1] else 0.0


def _assign(worths: np.ndarray) -> list[tuple[int, int]]:
    """Give each row a column of its own with the largest sum, by the Hungarian method; rows are not more numerous."""
    num_rows, num_columns = worths.shape
    costs = -worths
    row_prices, column_prices = np.zeros(num_rows), np.zeros(num_columns)
    owners = np.full(num_columns, -1)
    for row in range(num_rows):
        distances, previous = np.full(num_columns, np.inf), np.full(num_columns, -1)
        is_done = np.zeros(num_columns, dtype=bool)
        current, place = row, -1  # the row to be placed, and the column it was driven out of
        while current >= 0:
            reduced = costs[current] - row_prices[current] - column_prices
            if place >= 0:
                reduced = reduced + distances[place]
            is_nearer = ~is_done & (reduced < distances)
            distances[is_nearer], previous[is_nearer] = reduced[is_nearer], place
            place = int(np.where(is_done, np.inf, distances).argmin())
            is_done[place] = True
            current = owners[place]
        shortest = distances[place]
        row_prices[row] += shortest
        done = is_done & (owners >= 0)
        row_prices[owners[done]] += shortest - distances[done]
        column_prices[is_done] += distances[is_done] - shortest
        while place >= 0:  # move the rows along the path
            before = previous[place]
            owners[place] = row if before < 0 else owners[before]
            place = before
    return [(int(owner), column) for column, owner in enumerate(owners) if owner >= 0]


def _as_matrix(values: ArrayLike) -> np.ndarray:
    matrix = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)
    return matrix if matrix.ndim == 2 else matrix.reshape(len(matrix), -1)
