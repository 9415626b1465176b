"""What a run shows while it lasts: how far it is, when it will be done, and what the answers so far are worth."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from tqdm import tqdm

from .protocols import Protocol

_REST_SECONDS = 5.0  # between two looks at the metrics, which take time themselves


class Progress(tqdm):
    """
    A bar of items, with the time of day at which it will be done and the first metric of the task at hand.

    Args:
        name (`str`): Name of the benchmark.
        num_items (`int`): How many are to be asked.
        protocol (`Protocol`): How they are scored.
        hidden (`bool`): Whether nothing is to be seen.

    Example:

    ```python
    >>> with Progress("st-shapes", 3500, get_protocol("default"), hidden=False) as progress:
    ...     progress.update(lines)
    st-shapes:  12%|#2  | 416/3500 [00:21<02:39, 19.4item/s, done at 14:32, stvg m_tIoU 0.803 of 416]
    ```
    """

    def __init__(self, name: str, num_items: int, protocol: Protocol, hidden: bool):
        super().__init__(total=num_items, desc=name, unit="item", disable=hidden or None)
        self._protocol = protocol
        self._scores: dict[str, list[Mapping[str, float | None]]] = {}
        self._next_look = 0.0

    def update(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Count the lines of answered items."""
        if not self.disable:
            for line in lines:
                self._scores.setdefault(line["task"], []).append(line["scores"])
            if lines and time.monotonic() > self._next_look:
                self.set_postfix_str(self.describe(lines[-1]["task"], self.n + len(lines)), refresh=False)
                self._next_look = time.monotonic() + _REST_SECONDS
        super().update(len(lines))

    def describe(self, task: str, num_done: int) -> str:
        """Return when it will be done, and the first metric of a task over its items so far."""
        left = (time.time() - self.start_t) / num_done * (self.total - num_done)
        name, scores = self._protocol.get_headline(task)[0], self._scores[task]
        values = self._protocol.list_values(task, scores)[name]
        value = 0.0 if np.isnan(values).all() else float(np.nanmean(values))
        end = datetime.now() + timedelta(seconds=left)
        return f"done at {end:%H:%M}, {task} {name} {value:.3f} of {len(scores)}"
