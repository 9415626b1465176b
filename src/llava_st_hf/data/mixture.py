"""Mixtures: which sources a run is trained on, how much of each, and in which order.

A mixture is a YAML file in the published form, with some keys of ours:

```yaml
seed: 0                                 # of all that is drawn at random
max_skip_share: 0.05                    # the run stops when more of the records cannot be used
num_frames: 100                         # sampled of each clip; boxes in seconds are interpolated to these
datasets:
  - json_path: annotations/{tvg,dvc}.json   # one source for each name in braces
    data_folder: videos
    source: charades
    sampling_strategy: random:10%       # all, or first, end, random with a count or a percentage
  - id: owner/name                      # a data set of the Hub, or a folder or pattern of Parquet as json_path
    revision: 1f0c9d2
    split: train
    weight: 2                           # passes over what was chosen, per epoch
    required: true                      # no record of it may be skipped
    license: CC-BY-4.0                  # for the card of what is published, as is origin
```

Paths are relative to the YAML file; `~` and `$VARIABLES` are not expanded. A source with several files in braces is
the same as an entry for each, so a count holds for each file.
"""

import bisect
import difflib
import itertools
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from torch.utils.data import Dataset, Sampler

from ..processing.media_llava_st import InputError
from ..processing.tasks_llava_st import get_task
from ..utils.tables import format_table
from .epoch_order import SourceOrder, compute_epoch_order, shuffle
from .readers.base import Reader
from .samples import Sample
from .skips import SkippedRecord, SkipReport

logger = logging.getLogger(__name__)

_STRATEGY = re.compile(r"all|(?P<name>first|end|random):(?P<number>\d+(?:\.\d+)?)(?P<percent>%?)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_CHOICE_WORD = -1  # tells the choice of records apart from the passes over them, which are counted from 0
_MAX_RECORDS = 2**32 - 1
_NUM_KEPT_EPOCHS = 2  # so that a batch across the end of an epoch computes neither order twice


@dataclass(frozen=True)
class SourceSpec:
    """
    One entry of a mixture: a source and how much of it is used.

    Args:
        json_path (`str`, *optional*): Annotation file; or a file, folder or pattern of Parquet. This or `id`.
        data_folder (`str`, *optional*): Folder of the media; no record may name media outside of it.
        source (`str`, *optional*):
            Name of the source; defaults to the name of the file, or to `id`. Canonical records that name their own
            keep it where this is not given.
        sampling_strategy (`str`, *optional*, defaults to `"all"`):
            `"all"`, or `"first:N"`, `"end:N"` or `"random:N"`, N a count or a percentage (rounded up). A count larger
            than the source takes all of it.
        format (`str`, *optional*): Format of the file; by default it is told from the file.
        task (`str`, *optional*): Task of the records, where the format leaves a choice.
        id (`str`, *optional*): A data set of the Hub with canonical records.
        revision (`str`, *optional*): Branch, tag or commit of the data set.
        split (`str`, *optional*): Part of the data set; defaults to `"train"`.
        weight (`float`, *optional*, defaults to 1):
            Passes over the chosen records per epoch: 2 visits each twice; 0.5 visits half of them, and the other half
            in the next epoch.
        seed (`int`, *optional*): Seed of this source; defaults to the seed of the mixture.
        required (`bool`, *optional*, defaults to `False`): Whether the run stops when one of its records is skipped.
        license (`str`, *optional*): SPDX identifier of the licence, for the card of `llava-st data publish`.
        origin (`str`, *optional*): Where the source comes from, an address or a few words, for the same card.

    Raises:
        `InputError`: With the key, its value and the fix.
    """

    json_path: str | None = None
    data_folder: str | None = None
    source: str | None = None
    sampling_strategy: str = "all"
    format: str | None = None
    task: str | None = None
    id: str | None = None
    revision: str | None = None
    split: str | None = None
    weight: float = 1
    seed: int | None = None
    required: bool = False
    license: str | None = None
    origin: str | None = None

    def __post_init__(self):
        texts = (
            "json_path",
            "data_folder",
            "source",
            "format",
            "task",
            "id",
            "revision",
            "split",
            "license",
            "origin",
        )
        for name in texts:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise InputError(f"{name} is {value!r}: give a text (in quotes, if it looks like a number).")
        if (self.json_path is None) == (self.id is None):
            raise InputError(
                f"json_path is {self.json_path!r} and id is {self.id!r}: give a file as json_path, or a data set of "
                "the Hub as id."
            )
        for name, needed in (("revision", "id"), ("split", "id"), ("format", "json_path")):
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise InputError(f"{name} is {getattr(self, name)!r}, but it goes with {needed}, which is not given.")
        if self.task is not None:
            get_task(self.task)
        _parse_strategy(self.sampling_strategy)
        _check_number("weight", self.weight, above=0)
        if self.seed is not None:
            _check_seed(self.seed)
        if not isinstance(self.required, bool):
            raise InputError(f"required is {self.required!r}: give true or false.")

    @property
    def name(self) -> str:
        """Name of the source in records and reports."""
        return self.source or self.id or Path(str(self.json_path)).stem

    def choose(self, num_records: int, seed: int, place: int) -> Sequence[int] | np.ndarray:
        """
        Choose records by the sampling strategy.

        Args:
            num_records (`int`): Number of records of the source.
            seed (`int`): Seed of the random strategy.
            place (`int`): Place of the source in the mixture, so that sources of one seed differ.

        Returns:
            `range` or `np.ndarray`: Numbers of the chosen records, in their order.
        """
        strategy, number, is_percentage = _parse_strategy(self.sampling_strategy)
        count = math.ceil(number * num_records / 100) if is_percentage else int(number)
        if strategy == "all" or count >= num_records:
            return range(num_records)
        if strategy == "random":
            return np.sort(shuffle(num_records, seed, place, _CHOICE_WORD)[:count])
        return range(count) if strategy == "first" else range(num_records - count, num_records)

    def open(self, num_frames: int | None = None) -> Reader:
        """
        Open the source.

        Args:
            num_frames (`int`, *optional*): See `MixtureSpec`; for formats whose answers depend on it.

        Raises:
            `InputError`: If it cannot be found or read.
        """
        # The name of a required source must be that of its records, or a skip of one would not be recognised.
        options = {"keep_sources": True} if self.source is None and not self.required else {}
        if self.id is not None:
            from .readers.canonical import CanonicalReader

            if "/" not in self.id and Path(self.id).exists():
                raise InputError(f"id is {self.id!r}, which is a folder here: name it as json_path.")
            address = f"hf://datasets/{self.id}" + (f"@{quote(self.revision, safe='')}" if self.revision else "")
            options["split"] = self.split or "train"
            return CanonicalReader(address, self.name, self.data_folder, self.task, **options)
        from .readers.registry import FORMATS, guess_format, list_options, open_reader

        if self.data_folder is not None and not Path(self.data_folder).is_dir():
            raise InputError(
                f"data_folder is {self.data_folder!r}, which is no folder: fix it (~ and $NAMES are not expanded)."
            )
        format = self.format or guess_format(self.json_path)
        options = options if format == "canonical" else {}
        if num_frames is not None and format in FORMATS and "num_frames" in list_options(format):
            options["num_frames"] = num_frames
        return open_reader(format, self.json_path, self.name, self.data_folder, self.task, **options)


@dataclass(frozen=True)
class MixtureSpec:
    """
    What a mixture is made of.

    Args:
        datasets (`tuple[SourceSpec, ...]`): The sources.
        seed (`int`, *optional*, defaults to 0): Seed of everything that is drawn at random.
        max_skip_share (`float`, *optional*, defaults to 0.05):
            Share of the records that may be skipped before the run stops, see `SkipReport`.
        num_frames (`int`, *optional*):
            Frames that the model samples of each clip. Annotations in seconds get a box for each sampled frame of
            their span; without it, of 100.

    Example:

    ```python
    >>> spec = MixtureSpec.from_yaml("mixture.yaml")
    >>> [source.name for source in spec.datasets]
    ['charades', 'owner/name']
    ```
    """

    datasets: tuple[SourceSpec, ...]
    seed: int = 0
    max_skip_share: float = 0.05
    num_frames: int | None = None

    def __post_init__(self):
        if not self.datasets:
            raise InputError("datasets is empty: give at least one source.")
        _check_seed(self.seed)
        _check_number("max_skip_share", self.max_skip_share, above=None)
        if not 0 <= self.max_skip_share <= 1:
            raise InputError(f"max_skip_share is {self.max_skip_share}: give a share from 0 to 1.")
        number = self.num_frames
        if number is not None and (not isinstance(number, Integral) or isinstance(number, bool) or number < 1):
            raise InputError(f"num_frames is {number!r}: give a whole number from 1.")

    @property
    def required_sources(self) -> tuple[str, ...]:
        """Names of the sources of which no record may be skipped, for `SkipReport`."""
        return tuple(dict.fromkeys(source.name for source in self.datasets if source.required))

    @classmethod
    def from_yaml(cls, path: str | Path) -> "MixtureSpec":
        """
        Read a mixture from its file.

        Raises:
            `InputError`: For a file that is missing or no YAML, an unknown key, or a value that a key cannot have.
        """
        import yaml

        class Loader(yaml.SafeLoader):
            """Refuses a key that is there twice, of which YAML would keep the last in silence."""

            def compose_mapping_node(self, anchor: Any) -> Any:
                node = super().compose_mapping_node(anchor)
                names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
                if twice := next((name for name in names if names.count(name) > 1), None):
                    raise yaml.YAMLError(f"the key {twice!r} is there twice{node.start_mark}: give it once.")
                return node

        path = Path(path)
        try:
            content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader)
        except OSError as error:
            raise InputError(f"the mixture {path} cannot be read: {error.strerror}. Fix its path.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"the mixture {path} is no YAML: {error}") from error
        try:
            return cls.from_dict(content, path.parent)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, content: Any, folder: str | Path = ".") -> "MixtureSpec":
        """
        Make a mixture of what its YAML holds.

        Args:
            content (`dict`): Keys and values.
            folder (`str` or `Path`, *optional*, defaults to `"."`): Folder that relative paths start from.

        Raises:
            `InputError`: For an unknown key, or a value that a key cannot have.
        """
        _check_keys(content, cls, "the mixture")
        entries = content.get("datasets")
        if not isinstance(entries, list):
            raise InputError(f"datasets is {repr(entries)[:80]}: give a list of sources.")
        sources: list[SourceSpec] = []
        for position, entry in enumerate(entries):
            try:
                _check_keys(entry, SourceSpec, "the entry")
                sources += _expand(SourceSpec(**entry), Path(folder))
            except InputError as error:
                raise InputError(f"datasets[{position}]: {error}") from error
        return cls(**{**content, "datasets": tuple(sources)})


def _expand(source: SourceSpec, folder: Path) -> list[SourceSpec]:
    """Return an entry for each name in the braces of its path, all paths from the folder of the mixture."""
    if source.data_folder is not None:
        source = replace(source, data_folder=str(folder / source.data_folder))
    if source.json_path is None:
        return [source]
    pieces = _BRACES.split(source.json_path)
    choices = [piece.split(",") if index % 2 else [piece] for index, piece in enumerate(pieces)]
    paths = ["".join(path) for path in itertools.product(*choices)]
    # An address, unlike a path, does not start from a folder.
    return [replace(source, json_path=path if "://" in path else str(folder / path)) for path in paths]


def _check_keys(content: Any, kind: type, what: str) -> None:
    if content is None:
        raise InputError(f"{what} is empty: give keys with values.")
    if not isinstance(content, Mapping):
        raise InputError(f"{what} is {repr(content)[:80]}: give keys with values.")
    known = [part.name for part in fields(kind)]
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(f"{what} has the unknown key {key!r}: {hint}The keys are {', '.join(known)}.")


def _check_number(name: str, value: Any, above: float | None) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or (above is not None and value <= above):
        raise InputError(f"{name} is {value!r}: give a number{'' if above is None else f' above {above}'}.")


def _check_seed(seed: Any) -> None:
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise InputError(f"seed is {seed!r}: give a whole number.")


def _parse_strategy(text: Any) -> tuple[str, Fraction, bool]:
    """Return the name of a sampling strategy, its number, and whether that is a percentage."""
    match = _STRATEGY.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
    if match is not None and match["name"] is None:
        return "all", Fraction(0), False
    number = Fraction(match["number"]) if match else Fraction(0)
    is_percentage = bool(match and match["percent"])
    if number <= 0 or (number > 100 if is_percentage else number.denominator != 1):
        raise InputError(
            f"sampling_strategy is {text!r}: give all, or first:N, end:N or random:N with N a count such as 5000 or a "
            "percentage such as 10%."
        )
    return match["name"], number, is_percentage


@dataclass(frozen=True)
class SourceSummary:
    """
    How much of one source a mixture uses.

    Args:
        name (`str`): Name of the source.
        num_records (`int`): Records in its file.
        num_chosen (`int`): Records that the sampling strategy chose.
        weight (`float`): Passes over these per epoch.
        num_visits (`int`): Records per epoch, with repetitions.
    """

    name: str
    num_records: int
    num_chosen: int
    weight: float
    num_visits: int


@dataclass
class OpenSource:
    """
    A source of a mixture that is open.

    Args:
        spec (`SourceSpec`): What the mixture says of it.
        reader (`Reader`): Its records.
        chosen (`Sequence[int]`): Numbers of those that the sampling strategy chose, in their order.
        order (`SourceOrder`, *optional*): How they are visited; `None` if there is nothing to visit.
    """

    spec: SourceSpec
    reader: Reader
    chosen: Sequence[int] | np.ndarray
    order: SourceOrder | None


def open_sources(mixture: MixtureSpec) -> list[OpenSource]:
    """
    Open the sources of a mixture, and choose their records.

    Raises:
        `InputError`: For a source that cannot be opened, a required one without records, or a weight that leaves none.
    """
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
    order = SourceOrder(len(chosen), num_visits, _mix_seed(seed, place), _find_bounds(reader, chosen))
    return OpenSource(spec, reader, chosen, order)


class Mixture(Dataset):
    """
    The records of a whole training run, in the order in which they are trained on.

    Item i depends on nothing but the specification and i: `divmod(i, epoch_length)` is the epoch and the place in it.
    Each epoch visits every chosen record once (`weight` times), shuffled anew. Read in sequence, with a
    `MixtureBatchSampler` or any sequential sampler, a run can therefore be resumed at any step by starting there:
    nothing that was seen is read again, with any number of workers.

    A source that is read in blocks (row groups of Parquet) is shuffled by blocks, and within pairs of them. Its blocks
    are dealt to `num_readers` lanes: batch b of `batch_size` records belongs to lane b mod `num_readers`, so that each
    reader touches blocks of its own, apart from those at the borders between lanes. The order depends on `batch_size`
    and `num_readers`: keep both when a run is resumed.

    Each process holds 4 bytes per record of an epoch, and about 28 for the second in which it computes an order.

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
        for name, value in (("num_epochs", num_epochs), ("batch_size", batch_size), ("num_readers", num_readers)):
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} is {value!r}: give a whole number from 1.")
        self.num_epochs, self.batch_size, self.num_readers = int(num_epochs), int(batch_size), int(num_readers)
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
        rows = [(one.name, one.num_records, one.num_chosen, one.weight, one.num_visits) for one in self.describe()]
        totals = (sum(row[1] for row in rows), sum(row[2] for row in rows))
        header = ("source", "records", "chosen", "weight", "per epoch")
        return format_table(header, [*rows, ("total", *totals, None, self.epoch_length)])


def _mix_seed(seed: int, place: int) -> int:
    """Give each source of a mixture its own order, though they share a seed."""
    return seed * 2**20 + place


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


class MixtureBatchSampler(Sampler[list[int]]):
    """
    Batches of a mixture in its order, for a plain `torch.utils.data.DataLoader`.

    Global batch b holds the items from b `batch_size`; the last one may be smaller. Process r of R takes the batches
    `first_batch` + r, + r + R, + r + 2 R ...; the DataLoader hands these to its W workers in turn, so worker w of
    process r reads the batches `first_batch` + r + R (w + W k), k = 0, 1, ... With `num_readers` = R W (or a divisor
    of it) these are all of one lane of the mixture, also after resuming. accelerate deals batches to processes in the
    same way (`BatchSamplerShard`): give it a sampler with `num_processes` 1. At the end it repeats batches from the
    start, to give each process as many; this sampler does not, so processes may differ by one batch.

    Args:
        mixture (`Mixture`): The records.
        batch_size (`int`): Records per batch; must be that of the mixture, if that has several readers.
        num_processes (`int`, *optional*, defaults to 1): Number of processes that share the batches.
        process_index (`int`, *optional*, defaults to 0): Number of this one.
        first_batch (`int`, *optional*, defaults to 0):
            Global batch to begin with: to resume after s steps of R processes with g batches each, s R g.

    Example:

    ```python
    >>> sampler = MixtureBatchSampler(mixture, batch_size=4, first_batch=1)
    >>> next(iter(sampler))
    [4, 5, 6, 7]
    ```
    """

    def __init__(
        self,
        mixture: Mixture,
        batch_size: int,
        num_processes: int = 1,
        process_index: int = 0,
        first_batch: int = 0,
    ):
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: give a whole number from 1.")
        if mixture.num_readers > 1 and batch_size != mixture.batch_size:
            raise InputError(
                f"batch_size is {batch_size}, but the mixture deals batches of {mixture.batch_size} to "
                f"{mixture.num_readers} readers: give both the same."
            )
        if not 0 <= process_index < num_processes:
            raise InputError(f"process_index is {process_index}: give a number from 0 to {num_processes - 1}.")
        num_batches = -(-len(mixture) // batch_size)
        if not 0 <= first_batch <= num_batches:
            raise InputError(f"first_batch is {first_batch}: the mixture has {num_batches} batches of {batch_size}.")
        self.batch_size = batch_size
        self.drop_last = False  # read by accelerate
        self._num_items = len(mixture)
        self._batches = range(first_batch + process_index, num_batches, num_processes)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            first = batch * self.batch_size
            yield list(range(first, min(first + self.batch_size, self._num_items)))


__all__ = [
    "Mixture",
    "MixtureBatchSampler",
    "MixtureSpec",
    "OpenSource",
    "SourceSpec",
    "SourceSummary",
    "open_sources",
]
