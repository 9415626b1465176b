"""What a benchmark is: numbered items, each a record whose last answer is the truth, and the figures that matter."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from ...data.samples import Sample
from ...processing.media_llava_st import InputError
from ..protocols import Protocol


class Benchmark(ABC):
    """
    The items of a benchmark, read one by one, and what is reported of them.

    An item is a `Sample`. All its messages but the last are asked as they stand, so the prompt is fixed by the record;
    the last one, the assistant's, is the truth. Answers are greedy. How they are scored is the protocol's.

    Subclasses that read files have the same numbers, names and errors as a `Reader`.

    Attributes:
        name (`str`): Name on the command line and in reports.
        headline (`Mapping[str, Mapping[str, tuple[str, ...]]]`):
            For each protocol that applies and each task, the figures that stand in the report.

    Example:

    ```python
    >>> class Kitchen(Benchmark):
    ...     name = "kitchen"
    ...     headline = {"default": {"tvg": ("m_tIoU", "R@0.5")}}
    ```
    """

    name: str
    headline: Mapping[str, Mapping[str, tuple[str, ...]]]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items."""

    @abstractmethod
    def get_id(self, index: int) -> str:
        """Return the name of an item, unique within the benchmark, without reading it."""

    @abstractmethod
    def get_task(self, index: int) -> str:
        """Return the task of an item without reading it."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """
        Read one item.

        Raises:
            `RecordError`: If it cannot be used; it is then worth 0.
        """

    def get_training_samples(self, task: str) -> Iterable[Sample]:
        """Return records of a task that are not in the benchmark, to find the best constant answer on; or none."""
        return ()

    def get_settings(self) -> dict[str, Any]:
        """Return what decides which items these are, as plain values, to be kept with the answers."""
        return {"benchmark": self.name}

    def check_protocol(self, protocol: Protocol) -> None:
        """Raise `InputError` for a protocol that does not apply to the benchmark or to one of its tasks."""
        if protocol.name not in self.headline:
            raise InputError(
                f"protocol is {protocol.name!r}: {self.name} is scored by {', '.join(self.headline)} only."
            )
        tasks = {self.get_task(index) for index in range(len(self))}
        if unknown := sorted(tasks - set(self.headline[protocol.name])):
            raise InputError(
                f"tasks has {', '.join(unknown)}, which protocol {protocol.name!r} does not score on {self.name}: "
                f"choose from {', '.join(self.headline[protocol.name])}."
            )


__all__ = ["Benchmark"]
