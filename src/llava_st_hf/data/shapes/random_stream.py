"""Random numbers that are the same on every machine and with every version of numpy."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_BLOCK = 64  # raw numbers made at once


class RandomStream:
    """
    The random numbers of one sample, a pure function of the seed of its data set and its index, each below 2**64.

    They are made of the raw 64-bit stream of Philox, a counter-based generator: numpy promises that this stream stays
    as it is, and does not promise it for the distributions of `np.random.Generator`. A sample has several independent
    streams.
    """

    def __init__(self, seed: int, index: int, stream: int = 0):
        counter = np.array([0, 0, 0, stream], dtype=np.uint64)
        self._generator = np.random.Philox(counter=counter, key=np.array([index, seed], dtype=np.uint64))
        self._block: list[int] = []

    def _raw(self) -> int:
        if not self._block:
            self._block = self._generator.random_raw(_BLOCK).tolist()
        return self._block.pop()

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number from `low` to below `high`."""
        return low + (high - low) * ((self._raw() >> 11) * 2.0**-53)

    def integer(self, limit: int) -> int:
        """Return a whole number from 0 to `limit` - 1."""
        return (self._raw() * limit) >> 64

    def chance(self, probability: float) -> bool:
        """Return `True` with the given probability."""
        return self.uniform() < probability

    def choose(self, items: Sequence[T]) -> T:
        """Return one of `items`."""
        return items[self.integer(len(items))]

    def shuffle(self, items: Sequence[T]) -> list[T]:
        """Return `items` in a random order."""
        shuffled = list(items)
        for last in range(len(shuffled) - 1, 0, -1):
            other = self.integer(last + 1)
            shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
        return shuffled

    def split(self, total: int, minimums: Sequence[int], shares: Sequence[float]) -> list[int]:
        """Return whole lengths that add up to `total`, uneven, each at least its minimum; `shares` are of the rest."""
        # Squares make a few parts long and the others short. How `sum` rounds depends on the version of Python.
        reached = list(accumulate(share * (self.uniform() ** 2 + 0.05) for share in shares))
        spare = total - sum(minimums)
        ends = [round(spare * each / reached[-1]) for each in reached]
        return [least + end - start for least, start, end in zip(minimums, [0, *ends], ends, strict=False)]

    def bytes(self, count: int) -> np.ndarray:
        """Return random bytes, uint8 of shape (count,)."""
        return self._generator.random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count]
