"""The metrics of grounding, as pure functions on plain numbers.

Spans are (start, end) in seconds, boxes (left, top, right, bottom) in pixels; any other unit serves as well, as long
as truth and answer have the same, because a ratio has none. Tubes are `Tube` objects, matched at the frames that the
model saw. What an answer is worth is a number from 0 to 1; the metrics of a data set are means of such numbers over
all of its items, where an answer that could not be read counts as 0.

| metric | per item | over the items |
| --- | --- | --- |
| m_tIoU | intersection over union of two spans, tIoU | mean |
| m_sIoU | mean IoU of the boxes at the frames that both tubes have, sIoU | mean |
| m_vIoU | the sum of the same IoUs, divided by the number of frames that either tube has, vIoU | mean |
| R@t, tIoU@t, sIoU@t, vIoU@t | whether the value is >= t; R@t is that of tIoU, with one answer per query | share |
| acc@t | whether the IoU of two boxes is >= t (REC: t = 0.5) | share |
| exact match | whether two texts are equal, see `normalize_text` | share |
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..processing.grounding_results_llava_st import Tube
from ..processing.media_llava_st import InputError


class TubeIoU(NamedTuple):
    """
    How well two tubes agree, see `compute_tube_iou`.

    Args:
        spatial (`float`): sIoU, the mean over the frames that both tubes have; 0 where there are none.
        volume (`float`): vIoU, the same sum over the number of frames that either tube has.

    Example:

    ```python
    >>> TubeIoU(spatial=0.8, volume=0.4).volume
    0.4
    ```
    """

    spatial: float
    volume: float


def compute_temporal_iou(spans: ArrayLike, others: ArrayLike) -> np.ndarray:
    """
    Compute tIoU: the length of the intersection of two spans over that of their union.

    tIoU = |A n B| / (|A| + |B| - |A n B|). Two spans of no length are worth 1 where they are the same instant, a
    reversed span or NaN is worth 0.

    Args:
        spans (`ArrayLike`): Starts and ends of shape (..., 2), in seconds.
        others (`ArrayLike`): The same, of a shape that broadcasts with it.

    Returns:
        `np.ndarray`: float64 of shape (...), from 0 to 1.

    Raises:
        `InputError`: If the last axis does not have 2 entries.

    Example:

    ```python
    >>> compute_temporal_iou([0.0, 4.0], [[2.0, 6.0], [5.0, 6.0]])
    array([0.33333333, 0.        ])
    ```
    """
    spans, others = _as_groups("spans", spans, 2), _as_groups("others", others, 2)
    intersections = np.minimum(spans[..., 1], others[..., 1]) - np.maximum(spans[..., 0], others[..., 0])
    intersections = np.maximum(intersections, 0.0)
    lengths, other_lengths = spans[..., 1] - spans[..., 0], others[..., 1] - others[..., 0]
    unions = lengths + other_lengths - intersections
    is_same = (spans == others).all(-1)
    is_span = (lengths >= 0) & (other_lengths >= 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ious = np.where(unions > 0, intersections / unions, is_same)
    return np.where(is_span, ious, 0.0)


def compute_union_iou(spans: ArrayLike, others: ArrayLike) -> float:
    """
    Compute the tIoU of several spans with several others: of the time that any of the first cover, and of the second.

    Spans of no length, and reversed ones, cover no time; where neither covers any, two equal lists are worth 1.

    Args:
        spans (`ArrayLike`): Starts and ends of shape (spans, 2), in seconds, in any order; they may overlap.
        others (`ArrayLike`): The same, of any number.

    Returns:
        `float`: From 0 to 1.

    Example:

    ```python
    >>> compute_union_iou([[0.0, 2.0], [4.0, 6.0]], [[1.0, 6.0]])
    0.5
    ```
    """
    spans, others = _as_groups("spans", spans, 2), _as_groups("others", others, 2)
    edges = np.unique(np.concatenate([spans.ravel(), others.ravel()]))
    middles, lengths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    covered = [((group[:, :1] <= middles) & (middles <= group[:, 1:])).any(0) for group in (spans, others)]
    union = float(lengths[covered[0] | covered[1]].sum())
    if union == 0:
        return float(spans.shape == others.shape and (np.sort(spans, axis=0) == np.sort(others, axis=0)).all())
    return float(lengths[covered[0] & covered[1]].sum() / union)


def compute_box_iou(boxes: ArrayLike, others: ArrayLike) -> np.ndarray:
    """
    Compute IoU: the area of the intersection of two boxes over that of their union.

    IoU = |A n B| / (|A| + |B| - |A n B|). A box without area, a reversed one or NaN is worth 0.

    Args:
        boxes (`ArrayLike`): Left, top, right, bottom of shape (..., 4), in pixels.
        others (`ArrayLike`): The same, of a shape that broadcasts with it.

    Returns:
        `np.ndarray`: float64 of shape (...), from 0 to 1.

    Raises:
        `InputError`: If the last axis does not have 4 entries.

    Example:

    ```python
    >>> compute_box_iou([0, 0, 10, 10], [5, 0, 15, 10])
    array(0.33333333)
    ```
    """
    boxes, others = _as_groups("boxes", boxes, 4), _as_groups("others", others, 4)
    sides = boxes[..., 2:] - boxes[..., :2]
    other_sides = others[..., 2:] - others[..., :2]
    overlaps = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    intersections = np.maximum(overlaps, 0.0).prod(-1)
    unions = sides.prod(-1) + other_sides.prod(-1) - intersections
    is_box = (sides > 0).all(-1) & (other_sides > 0).all(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(is_box, intersections / unions, 0.0)


def compute_tube_iou(answer: Tube, truth: Tube, frame_indices: Sequence[int]) -> TubeIoU:
    """
    Compare two tubes at the frames that the model saw.

    With S the frames that both tubes have, U those that either has and IoU(f) that of the two boxes at frame f:
    sIoU = sum over S of IoU(f) / |S| and vIoU = sum over S of IoU(f) / |U|.

    A box belongs to the seen frame that is nearest to its own (the earlier of two as near), since a model with more
    time tokens than frames may name a moment between two of them. Where several boxes of a tube belong to one frame
    the nearest counts, the last of those as near.

    Args:
        answer (`Tube`): Boxes in pixels, with the indices of their frames in the file.
        truth (`Tube`): The same.
        frame_indices (`Sequence[int]`): Indices in the file of the frames that the model saw.

    Returns:
        `TubeIoU`: Both values, from 0 to 1.

    Raises:
        `InputError`: If `frame_indices` is empty.

    Example:

    ```python
    >>> truth = Tube((TubeBox(0.0, 0, Box(0, 0, 10, 10)), TubeBox(1.0, 10, Box(0, 0, 10, 10))))
    >>> compute_tube_iou(Tube(truth.boxes[:1]), truth, frame_indices=(0, 10))
    TubeIoU(spatial=1.0, volume=0.5)
    ```
    """
    if not len(frame_indices):
        raise InputError("frame_indices is empty: give the frames that the model saw.")
    seen = np.unique(np.asarray(frame_indices))
    (answered, answered_boxes), (true, true_boxes) = _assign_boxes(answer, seen), _assign_boxes(truth, seen)
    shared = answered & true
    if not shared.any():
        return TubeIoU(0.0, 0.0)
    ious = compute_box_iou(answered_boxes[shared], true_boxes[shared])
    return TubeIoU(float(ious.mean()), float(ious.sum() / (answered | true).sum()))


def compute_mean(values: ArrayLike) -> float:
    """Return the mean of the values of all items, one each; no items at all is an `InputError`."""
    return float(_as_values(values).mean())


def compute_recall(values: ArrayLike, threshold: float) -> float:
    """
    Compute R@t, tIoU@t, sIoU@t, vIoU@t or acc@t: the share of items whose value is at least a threshold.

    Args:
        values (`ArrayLike`): One value per item, 0 for an answer that could not be read; shape (items,).
        threshold (`float`): The threshold t; a value equal to it counts.

    Returns:
        `float`: From 0 to 1.

    Raises:
        `InputError`: If there are no items.

    Example:

    ```python
    >>> compute_recall([0.5, 0.49, 0.0, 0.9], threshold=0.5)
    0.5
    ```
    """
    return float((_as_values(values) >= threshold).mean())


def normalize_text(text: str) -> str:
    """
    Return a text in the form in which two are compared: lower case, single spaces, no full stop at the end.

    Args:
        text (`str`): A caption or a short answer, without coordinates.

    Returns:
        `str`: For example `"the red circle"` for `" The red  circle. "`.
    """
    return " ".join(text.lower().split()).rstrip(". ")


def _assign_boxes(tube: Tube, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which seen frames have a box of a tube, of shape (seen,), and the boxes, of shape (seen, 4)."""
    indices = tube.arrays.frame_indices
    after = np.minimum(np.searchsorted(seen, indices), len(seen) - 1)
    before = np.maximum(after - 1, 0)
    places = np.where(np.abs(indices - seen[before]) <= np.abs(indices - seen[after]), before, after)
    # Those that are far come first, then those that come first in the tube: what is written last, counts.
    order = np.argsort(-np.abs(indices - seen[places]), kind="stable")
    has_box, boxes = np.zeros(len(seen), dtype=bool), np.zeros((len(seen), 4))
    has_box[places], boxes[places[order]] = True, tube.arrays.boxes_pixels[order]
    return has_box, boxes


def _as_groups(name: str, values: ArrayLike, size: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != size:
        raise InputError(f"{name} has the shape {array.shape}: give (..., {size}).")
    return array


def _as_values(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise InputError(f"values has the shape {array.shape}: give one value for each item, at least one.")
    return array


__all__ = [
    "TubeIoU",
    "compute_box_iou",
    "compute_mean",
    "compute_recall",
    "compute_temporal_iou",
    "compute_tube_iou",
    "compute_union_iou",
    "normalize_text",
]
