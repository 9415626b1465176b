"""IoU of spans and of boxes, as pure functions on arrays; sets of them are in `sets`."""

import numpy as np
from numpy.typing import ArrayLike

from ...processing import InputError


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


def _as_groups(name: str, values: ArrayLike, size: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != size:
        raise InputError(f"{name} has the shape {array.shape}: give (..., {size}).")
    return array
