"""Records that were held out of training as a benchmark: the same metrics as those of a published one."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ...data.samples import Sample
from ...data.skips import SkippedRecord
from ...processing import InputError, get_task
from ...processing.media_llava_st import format_count
from ..protocols import PROTOCOLS
from .base import Benchmark


class HeldOutRecords(Benchmark):
    """
    The first records of each task that can be scored, such as those of a `Mixture`.

    All records are read once, to know their tasks. Those of other tasks, those that come again, and those that cannot
    be read are left out; so are open questions, whose answers take long to write and need a judge. A record whose
    media or truth cannot be used counts as 0.

    Args:
        records (`Sequence[Sample | SkippedRecord]`): The records.
        num_records (`int`): How many of each task.

    Raises:
        `InputError`: For no records at all, or none with a task that can be scored.

    Example:

    ```python
    >>> benchmark = HeldOutRecords(Mixture("held_out.yaml"), num_records=50)
    >>> benchmark.get_id(0), benchmark.get_task(0)
    ('kitchen/17', 'tvg')
    ```
    """

    name = "held-out"

    def __init__(self, records: Sequence[Sample | SkippedRecord], num_records: int):
        if num_records < 1:
            raise InputError(f"num_records is {num_records}: give at least 1.")
        tasks = PROTOCOLS["default"].list_tasks()
        scored = [task for task in tasks if "common_words" not in get_task(task).measures]
        self._records = records
        self._items: dict[str, tuple[int, str]] = {}  # place and task, by name
        self._digest = hashlib.sha256()
        counts: Counter[str] = Counter()
        skipped: list[SkippedRecord] = []
        for place in range(len(records)):
            record = records[place]
            if isinstance(record, SkippedRecord):
                skipped.append(record)
            elif (
                record.task in scored
                and counts[record.task] < num_records
                and (name := f"{record.source}/{record.id}") not in self._items
            ):
                self._items[name] = (place, record.task)
                self._digest.update(repr((name, record.task, record.messages)).encode())
                counts[record.task] += 1
        if not self._items:
            if skipped:
                raise InputError(
                    f"{len(skipped):,} of {len(records):,} records cannot be read, and none of the others can be "
                    f"scored; the first: {skipped[0].detail}"
                )
            raise InputError(
                f"none of {format_count(len(records), 'record')} has a task that can be scored: give some of "
                f"{', '.join(scored)}."
            )
        self._names = list(self._items)
        self._num_unreadable = len(skipped)

    def __len__(self) -> int:
        return len(self._names)

    def get_id(self, index: int) -> str:
        """Return the name of an item: its source and its name there."""
        return self._names[index]

    def get_task(self, index: int) -> str:
        """Return the task of an item."""
        return self._items[self._names[index]][1]

    def read(self, index: int) -> Sample:
        """Read one item."""
        return self._records[self._items[self._names[index]][0]]

    def get_settings(self) -> dict[str, Any]:
        """Return what decides which items these are: a hash of names, tasks and messages; and what is left out."""
        return {
            **super().get_settings(),
            "items": len(self),
            "records": self._digest.hexdigest()[:16],
            "unreadable_records": self._num_unreadable,
        }
