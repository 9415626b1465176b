"""How sure a metric is, and whether confidences tell which answers are right."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...processing import InputError

_MAX_DRAWN = 4_000_000  # indices in memory at a time


class Interval(NamedTuple):
    """A metric with its confidence interval."""

    value: float  # that of all items
    low: float  # lower end of the interval
    high: float  # upper end


def compute_interval(
    values: ArrayLike,
    *,
    groups: Sequence[object] | None = None,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
    others: ArrayLike | None = None,
) -> Interval:
    """
    Compute the bootstrap confidence interval of a mean: percentiles over data sets drawn anew with replacement.

    Args:
        values (`ArrayLike`): One value per item, of shape (items,); NaN for one that a protocol leaves out.
        groups (`Sequence`, *optional*): The clip of each item; clips are then drawn, with all their items.
        level (`float`, *optional*, defaults to 0.95): Share of the distribution inside the interval.
        num_resamples (`int`, *optional*, defaults to 1000): How many data sets are drawn.
        seed (`int`, *optional*, defaults to 0): Seed of the draws.
        others (`ArrayLike`, *optional*):
            Values of another system for the same items: the interval is that of the mean difference, paired.

    Returns:
        `Interval`: Mean and ends.

    Raises:
        `InputError`: Without items.

    Example:

    ```python
    >>> compute_interval([0.0, 1.0, 1.0, 1.0])
    Interval(value=0.75, low=0.25, high=1.0)
    ```
    """
    array = np.asarray(values, dtype=np.float64)
    array = array if others is None else array - np.asarray(others, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).any():
        raise InputError(f"values has the shape {array.shape}: give one value for each item, at least one.")
    options = {"level": level, "num_resamples": num_resamples, "seed": seed}
    return compute_intervals({"value": array}, groups=groups, **options)["value"]


class Statistic(NamedTuple):
    """A metric that is no mean of values of items, but a function of sums over them, such as BLEU."""

    counts: np.ndarray  # what is summed, of shape (items, counts)
    compute: Callable[[np.ndarray], float]  # takes sums of shape (counts,) and returns the metric

    @property
    def value(self) -> float:
        """The metric of all items."""
        return float(self.compute(self.counts.sum(0)))


def compute_intervals(
    values: Mapping[str, np.ndarray],
    statistics: Mapping[str, Statistic] | None = None,
    *,
    groups: Sequence[object] | None = None,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """
    Compute the bootstrap intervals of several metrics of the same items, see `compute_interval`, from the same draws.

    Args:
        values (`Mapping[str, np.ndarray]`): By the names of metrics what each is the mean of, of shape (items,).
        statistics (`Mapping[str, Statistic]`, *optional*): Metrics that are no means.
        groups (`Sequence`, *optional*): As for `compute_interval`, as all that follow.

    Returns:
        `dict[str, Interval]`: By the names of metrics; one without any item that counts is left out.
    """
    statistics = statistics or {}
    means = {name: array for name, array in values.items() if np.isfinite(array).any()}
    columns = [np.nan_to_num(array) for array in means.values()] + [np.isfinite(array) for array in means.values()]
    columns += [column for statistic in statistics.values() for column in statistic.counts.T]
    if not columns:
        return {}
    places = np.arange(len(columns[0])) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = np.stack([np.bincount(places, column) for column in columns], axis=1)
    generator = np.random.default_rng(seed)
    totals = np.empty((num_resamples, len(columns)))
    step = max(1, _MAX_DRAWN // len(sums))
    for first in range(0, num_resamples, step):
        drawn = generator.integers(len(sums), size=(min(step, num_resamples - first), len(sums)))
        weights = np.stack([np.bincount(row, minlength=len(sums)) for row in drawn])
        totals[first : first + step] = weights @ sums
    totals = np.concatenate([sums.sum(0)[None], totals])
    with np.errstate(invalid="ignore"):
        ratios = totals[:, : len(means)] / totals[:, len(means) : 2 * len(means)]
    found = dict(zip(means, ratios.T, strict=True))
    place = 2 * len(means)
    for name, statistic in statistics.items():
        width = statistic.counts.shape[1]
        found[name] = np.array([statistic.compute(row) for row in totals[:, place : place + width]])
        place += width
    ends = [(1 - level) / 2, (1 + level) / 2]
    return {
        name: Interval(float(draws[0]), *map(float, np.nanquantile(draws[1:], ends))) for name, draws in found.items()
    }


class Reliability(NamedTuple):
    """How well confidences tell how good answers are."""

    ece: float  # expected calibration error: sum over bins of n / N |mean value - mean confidence|
    confidences: np.ndarray  # mean confidence of each bin that has items
    values: np.ndarray  # mean value of the same
    counts: np.ndarray  # items of the same


def compute_reliability(confidences: ArrayLike, values: ArrayLike, num_bins: int = 10) -> Reliability:
    """
    Compute ECE and the points of a reliability diagram, over bins of equal width from 0 to 1.

    Args:
        confidences (`ArrayLike`): From 0 to 1, of shape (items,).
        values (`ArrayLike`): What each answer is worth, from 0 to 1: right or wrong at a threshold, or IoU.
        num_bins (`int`, *optional*, defaults to 10): Number of bins.

    Returns:
        `Reliability`: ECE and the bins.

    Example:

    ```python
    >>> round(compute_reliability([0.9, 0.9, 0.1], [1.0, 0.0, 0.0]).ece, 3)
    0.3
    ```
    """
    confidences, values = _as_pairs(confidences, values)
    bins = np.minimum((confidences * num_bins).astype(int), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    used = counts > 0
    sure, worth = (np.bincount(bins, array, num_bins)[used] / counts[used] for array in (confidences, values))
    shares = counts[used] / len(values)
    return Reliability(float((shares * np.abs(sure - worth)).sum()), sure, worth, counts[used])


class RiskCoverage(NamedTuple):
    """The mean loss of the surest answers, by their share."""

    coverages: np.ndarray  # share of the items that are answered, rising to 1
    risks: np.ndarray  # mean of 1 - value over them
    area: float  # mean risk over all coverages (AURC): small where confident answers are good


def compute_risk_coverage(confidences: ArrayLike, values: ArrayLike) -> RiskCoverage:
    """
    Compute risk against coverage; items of equal confidence stand for their mean, so their order does not matter.

    Args:
        confidences (`ArrayLike`): Any numbers, larger for surer answers; of shape (items,).
        values (`ArrayLike`): What each answer is worth, from 0 to 1.

    Returns:
        `RiskCoverage`: One point for each item, and the area.

    Example:

    ```python
    >>> compute_risk_coverage([0.9, 0.5], [1.0, 0.0]).risks
    array([0. , 0.5])
    ```
    """
    confidences, values = _as_pairs(confidences, values)
    _, groups, counts = np.unique(-confidences, return_inverse=True, return_counts=True)
    means = np.bincount(groups, 1 - values) / counts
    steps = np.arange(1, len(values) + 1)
    risks = np.repeat(means, counts).cumsum() / steps
    return RiskCoverage(steps / len(values), risks, float(risks.mean()))


def _as_pairs(confidences: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    arrays = np.asarray(confidences, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if arrays[0].ndim != 1 or arrays[0].shape != arrays[1].shape or not arrays[0].size:
        raise InputError(
            f"confidences and values have the shapes {arrays[0].shape} and {arrays[1].shape}: give one of "
            "each per item."
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError("confidences or values hold NaN: leave out the items without.")
    return arrays
