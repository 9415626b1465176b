"""Records that were held out of training as a benchmark: the same figures as those of a published one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.samples import Sample
from ..data.skips import SkippedRecord
from ..processing.media_llava_st import InputError
from .benchmark import Benchmark
from .st_shapes import StShapes


class HeldOutRecords(Benchmark):
    """
    The first records of each task that can be scored, such as those of a `Mixture`.

    All records are read once for their tasks; their media are not. Those of other tasks, and those that cannot be read
    at all, are left out; a record whose media or truth cannot be used counts as 0.

    Args:
        records (`Sequence[Sample | SkippedRecord]`): The records.
        num_records (`int`): How many of each task.

    Raises:
        `InputError`: If none of the records has a task that can be scored.

    Example:

    ```python
    >>> benchmark = HeldOutRecords(Mixture("held_out.yaml"), num_records=50)
    >>> benchmark.get_task(0)
    'tvg'
    ```
    """

    name = "held-out"
    headline: Mapping[str, Mapping[str, tuple[str, ...]]] = {"default": StShapes.headline["default"]}

    def __init__(self, records: Sequence[Sample | SkippedRecord], num_records: int):
        self._records = records
        self._places: list[tuple[int, str]] = []
        counts: Counter[str] = Counter()
        for index in range(len(records)):
            record = records[index]
            if isinstance(record, Sample) and record.task in self.headline["default"]:
                if counts[record.task] < num_records:
                    self._places.append((index, record.task))
                counts[record.task] += 1
        if not self._places:
            raise InputError(
                f"none of the {len(records):,} records that are held out has a task that can be scored: "
                f"{', '.join(self.headline['default'])}."
            )

    def __len__(self) -> int:
        return len(self._places)

    def get_id(self, index: int) -> str:
        """Return the place of an item among the records."""
        return f"record-{self._places[index][0]}"

    def get_task(self, index: int) -> str:
        """Return the task of an item."""
        return self._places[index][1]

    def read(self, index: int) -> Sample:
        """Read one item."""
        return self._records[self._places[index][0]]

    def get_settings(self) -> dict[str, Any]:
        """Return what decides which items these are."""
        return {**super().get_settings(), "records": [place for place, _ in self._places]}


__all__ = ["HeldOutRecords"]
