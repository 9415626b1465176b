"""What a benchmark is: numbered items, each a record whose last answer is the truth."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from ...data.samples import Sample
from ...processing import GroundingResult, InputError, MediaInfo
from ..blind_baseline import BlindBaseline, fit_blind_baseline
from ..protocols import Protocol
from ..questions import read_truth


class Benchmark(ABC):
    """
    The items of a benchmark, read one by one.

    An item is a `Sample`. All its messages but the last are asked as they stand, so the prompt is fixed by the record;
    the last one, the assistant's, is the truth. Answers are greedy. How they are scored is the protocol's.

    Subclasses that read files have the same numbers, names and errors as a `Reader`.

    Attributes:
        name (`str`): Name on the command line and in reports.
        protocols (`tuple[str, ...]`): Names of the protocols that apply, by default our own alone.
        annotations (`str`): Format of its annotations, see `Protocol.for_benchmark`; none by default.

    Example:

    ```python
    >>> class Kitchen(Benchmark):
    ...     name = "kitchen"
    ...     protocols = ("default", "reference")
    ```
    """

    name: str
    protocols: tuple[str, ...] = ("default",)
    annotations: str = ""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items."""

    @abstractmethod
    def get_id(self, index: int) -> str:
        """Return the name of an item, unique within the benchmark, without reading it."""

    @abstractmethod
    def get_task(self, index: int) -> str:
        """Return the task of an item without reading it."""

    def get_medium(self, index: int) -> str | None:
        """Return the name of the clip or image of an item without reading it, where several may be about one."""
        return None

    def get_groups(self, index: int) -> dict[str, str]:
        """Return the groups of an item by their kind, whose metrics a report shows apart, such as its sub-task."""
        return {}

    @abstractmethod
    def read(self, index: int) -> Sample:
        """
        Read one item.

        Raises:
            `RecordError`: If it cannot be used; it is then worth 0.
        """

    def read_truth(
        self, index: int, sample: Sample, media: tuple[MediaInfo, ...], protocol: Protocol
    ) -> GroundingResult:
        """
        Return what is right about an item: the last message of its record, about the frames that the model saw.

        Raises:
            `InputError`: If it lacks what the task asks for.
        """
        return read_truth(sample, media)

    def get_training_samples(self, task: str) -> Iterable[Sample]:
        """Return records of a task that are not in the benchmark, to fit the blind baseline on; or none."""
        return ()

    def make_baseline(self, task: str) -> BlindBaseline | None:
        """Return the blind baseline of a task; `None` where there are no records to fit it on."""
        return fit_blind_baseline(task, self.get_training_samples(task))

    def get_settings(self) -> dict[str, Any]:
        """Return what decides which items these are, as plain values, to be kept with the answers."""
        return {"benchmark": self.name}

    def check_protocol(self, protocol: Protocol) -> None:
        """Raise `InputError` for a protocol that does not apply to the benchmark or to one of its tasks."""
        if protocol.name not in self.protocols:
            raise InputError(
                f"protocol is {protocol.name!r}: {self.name} is scored by {', '.join(self.protocols)} only.",
                field="protocol",
            )
        tasks = {self.get_task(index) for index in range(len(self))}
        scored = protocol.list_tasks()
        if unknown := sorted(tasks - {*scored}):
            raise InputError(
                f"tasks has {', '.join(unknown)}, which protocol {protocol.name!r} does not score: choose from "
                f"{', '.join(scored)}.",
                field="tasks",
            )
