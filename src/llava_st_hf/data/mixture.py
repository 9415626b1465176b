"""Mixtures: the records of several sources, in the order in which a run is trained on them."""

import bisect
import itertools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import BatchSampler, Dataset

from ..processing import InputError
from ..utils.tables import format_table
from .annotation_checks import check_count
from .epoch_order import SourceOrder, compute_epoch_order
from .mixture_spec import MixtureSpec, SourceSpec
from .readers.base import Reader
from .samples import Sample
from .skips import SkippedRecord, SkipReport

logger = logging.getLogger(__name__)

_MAX_RECORDS = 2**32 - 1
_NUM_KEPT_EPOCHS = 2  # so that a batch across the end of an epoch computes neither order twice


class SourceSummary(NamedTuple):
    """How much of one source a mixture uses."""

    name: str
    num_records: int  # records in its file
    num_chosen: int  # records that the sampling strategy chose
    weight: float  # passes over these per epoch
    num_visits: int  # records per epoch, with repetitions


@dataclass
class OpenSource:
    """A source of a mixture that is open."""

    spec: SourceSpec  # what the mixture says of it
    reader: Reader  # its records
    chosen: Sequence[int] | np.ndarray  # numbers of those that the sampling strategy chose, in their order
    order: SourceOrder | None  # how they are visited; `None` if there is nothing to visit


def open_sources(mixture: MixtureSpec) -> list[OpenSource]:
    """Open the sources of a mixture, and choose their records; a weight that leaves none is an `InputError`, too."""
    return [_open_source(mixture, source, place) for place, source in enumerate(mixture.datasets)]


def _open_source(mixture: MixtureSpec, spec: SourceSpec, place: int) -> OpenSource:
    try:
        reader = spec.open(mixture.num_frames)
    except InputError as error:
        raise InputError(f"datasets: source {spec.name!r}: {error}") from error
    seed = mixture.seed if spec.seed is None else spec.seed
    chosen = spec.choose(len(reader), seed, place)
    num_visits = round(Fraction(spec.weight) * len(chosen))
    if len(chosen) == 0:
        if spec.required:
            raise InputError(f"source {spec.name!r} has no records, but is required: fix {_locate(spec)}.")
        logger.warning("source %r has no records: %s", spec.name, _locate(spec))
        return OpenSource(spec, reader, chosen, None)
    if num_visits == 0:
        raise InputError(
            f"weight is {spec.weight} for source {spec.name!r}, which leaves none of its {len(chosen)} records: "
            "raise it."
        )
    # Each source has its own order, though they share a seed.
    order = SourceOrder(len(chosen), num_visits, seed * 2**20 + place, _find_bounds(reader, chosen))
    return OpenSource(spec, reader, chosen, order)


class Mixture(Dataset):
    """
    The records of a whole training run, in the order in which they are trained on.

    Item i depends on nothing but the specification and i: `divmod(i, epoch_length)` is the epoch and the place in it.
    Each epoch visits every chosen record once (`weight` times), shuffled anew. Read in sequence, as
    `make_batch_sampler` does, a run can therefore be resumed at any step by starting there: nothing that was seen is
    read again, with any number of workers.

    A source that is read in blocks (row groups of Parquet) is shuffled by blocks, and within pairs of them. Its blocks
    are dealt to `num_readers` lanes: batch b of `batch_size` records belongs to lane b mod `num_readers`, so that each
    reader touches blocks of its own, apart from those at the borders between lanes. The order depends on `batch_size`
    and `num_readers`: keep both when a run is resumed.

    Each process holds 4 bytes per record of an epoch, and for the second in which it computes an order about 28, or 48
    of a source that is read in blocks.

    Args:
        spec (`MixtureSpec`, `str` or `Path`): The mixture, or its YAML file.
        num_epochs (`int`, *optional*, defaults to 1): Number of epochs.
        batch_size (`int`, *optional*, defaults to 1): Records per batch of one process.
        num_readers (`int`, *optional*, defaults to 1):
            Readers in all: processes times workers of each, where no worker counts as one.

    Raises:
        `InputError`: For a source that cannot be opened, a required one without records, or no records at all.

    Example:

    ```python
    >>> mixture = Mixture("mixture.yaml", num_epochs=2, batch_size=4, num_readers=2)
    >>> mixture[0].source
    'charades'
    ```
    """

    def __init__(self, spec: MixtureSpec | str | Path, num_epochs: int = 1, batch_size: int = 1, num_readers: int = 1):
        self.spec = spec if isinstance(spec, MixtureSpec) else MixtureSpec.from_yaml(spec)
        self.num_epochs = check_count("num_epochs", num_epochs)
        self.batch_size = check_count("batch_size", batch_size)
        self.num_readers = check_count("num_readers", num_readers)
        self._sources = open_sources(self.spec)
        self._visited = [source for source in self._sources if source.order is not None]
        self._ends = list(itertools.accumulate(source.order.num_records for source in self._visited))
        self.epoch_length = sum(source.order.num_visits for source in self._visited)
        if not self._visited:
            raise InputError("the mixture has no records: all of its sources are empty.")
        if max(self._ends[-1], self.epoch_length) > _MAX_RECORDS:
            raise InputError(
                f"the mixture has {self._ends[-1]:,} records and visits {self.epoch_length:,} per epoch: give at most "
                f"{_MAX_RECORDS:,}."
            )
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.num_epochs * self.epoch_length

    def __getitem__(self, index: int) -> Sample | SkippedRecord:
        """Return the record that is trained on at a place in the run, or the note why it is left out."""
        reader, number = self.locate(index)
        return reader[number]

    def __getstate__(self) -> dict[str, Any]:
        # Computing an order anew is cheaper than sending it to a worker.
        return {**self.__dict__, "_orders": {}}

    def locate(self, index: int) -> tuple[Reader, int]:
        """
        Tell where the record at a place in the run comes from, without reading it.

        Args:
            index (`int`): Place in the run, from 0.

        Returns:
            `tuple[Reader, int]`: The reader of its source, and its number there.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        epoch, position = divmod(int(index), self.epoch_length)
        number = int(self._get_order(epoch)[position])
        place = bisect.bisect_right(self._ends, number)
        source = self._visited[place]
        return source.reader, int(source.chosen[number - self._ends[place] + source.order.num_records])

    def _get_order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            if len(self._orders) == _NUM_KEPT_EPOCHS:
                del self._orders[next(iter(self._orders))]
            orders = [source.order for source in self._visited]
            self._orders[epoch] = compute_epoch_order(orders, epoch, self.batch_size, self.num_readers)
        return self._orders[epoch]

    def make_batch_sampler(self, first_batch: int = 0) -> BatchSampler:
        """
        Return the batches in their order, for a plain `torch.utils.data.DataLoader`.

        Its W workers take them in turn. Of R processes, each takes every R-th batch by accelerate's
        `BatchSamplerShard`, with `even_batches=False`. With `num_readers` = R W, or a divisor of it, what a worker of
        a process reads is then all of one lane, also after resuming.

        Args:
            first_batch (`int`, *optional*, defaults to 0):
                Batch to begin with: to resume after s steps of R processes with g batches each, s R g.

        Example:

        ```python
        >>> next(iter(Mixture("mixture.yaml", batch_size=4).make_batch_sampler(first_batch=1)))
        [4, 5, 6, 7]
        ```
        """
        num_batches = -(-len(self) // self.batch_size)
        if not 0 <= first_batch <= num_batches:
            raise InputError(f"first_batch is {first_batch}: the mixture has {num_batches} of {self.batch_size} each.")
        return BatchSampler(range(first_batch * self.batch_size, len(self)), self.batch_size, drop_last=False)

    def count_shared(self, other: "Mixture") -> dict[str, int]:
        """
        Count the records that another mixture visits as well.

        Args:
            other (`Mixture`): The other one.

        Returns:
            `dict[str, int]`: For each file or data set with such records, how many.
        """
        own, others = self._collect_records(), other._collect_records()
        counts = {place: len(np.intersect1d(own[place], others[place])) for place in own.keys() & others.keys()}
        return {place: count for place, count in counts.items() if count}

    def _collect_records(self) -> dict[str, np.ndarray]:
        """Return the numbers of the records of each file, or split of a data set, that are visited."""
        found: dict[str, list[np.ndarray]] = {}
        for source in self._visited:
            spec = source.spec
            is_file = spec.json_path is not None
            place = os.path.realpath(spec.json_path) if is_file else f"{spec.id} {spec.split or 'train'}"
            found.setdefault(place, []).append(np.asarray(source.chosen))
        return {place: np.unique(np.concatenate(parts)) for place, parts in found.items()}

    def make_skip_report(self, path: str | Path | None = None) -> SkipReport:
        """
        Make a report of skipped records that stops the run where the mixture says so.

        Args:
            path (`str` or `Path`, *optional*): JSONL file to append to.

        Returns:
            `SkipReport`: With `max_skip_share` and the required sources of the mixture, for the collator.
        """
        return SkipReport(path, self.spec.max_skip_share, self.spec.required_sources)

    def describe(self) -> list[SourceSummary]:
        """Return for each source how many records it has, how many were chosen and how often they are visited."""
        return [
            SourceSummary(
                source.spec.name,
                len(source.reader),
                len(source.chosen),
                source.spec.weight,
                0 if source.order is None else source.order.num_visits,
            )
            for source in self._sources
        ]

    def format_table(self) -> str:
        """Return `describe()` as a table, with the total below it."""
        rows, header = self.describe(), ("source", "records", "chosen", "weight", "per epoch")
        totals = (sum(row.num_records for row in rows), sum(row.num_chosen for row in rows))
        return format_table(header, [*rows, ("total", *totals, None, self.epoch_length)])


def _locate(spec: SourceSpec) -> str:
    return f"json_path {spec.json_path!r}" if spec.json_path is not None else f"id {spec.id!r}"


def _find_bounds(reader: Reader, chosen: Sequence[int] | np.ndarray) -> np.ndarray | None:
    """Return where the blocks of a source begin among its chosen records."""
    sizes = reader.get_block_sizes()
    if sizes is None:
        return None
    bounds = np.cumsum([0, *sizes])
    if isinstance(chosen, range):
        bounds = np.clip(bounds, chosen.start, chosen.stop) - chosen.start
    else:
        bounds = np.searchsorted(chosen, bounds)
    return np.unique(bounds)  # blocks of which nothing was chosen are none
