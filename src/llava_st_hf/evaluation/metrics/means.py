"""From one value an item to the metrics of a data set: means and shares."""

import numpy as np
from numpy.typing import ArrayLike

from ...processing import InputError


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


def _as_values(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise InputError(f"values has the shape {array.shape}: give one value for each item, at least one.")
    return array
