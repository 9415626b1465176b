"""What a mixture is made of: which sources a run is trained on, and how much of each.

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
  - json_path: mine.jsonl
    unit: thousandth                    # an option of the reader of its format
```

Paths are relative to the YAML file; `~` and `$VARIABLES` are not expanded. A source with several files in braces is
the same as an entry for each, so a count holds for each file.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from huggingface_hub import constants, snapshot_download
from huggingface_hub.dataclasses import validated_field
from huggingface_hub.errors import LocalEntryNotFoundError

from ..processing import InputError, get_task
from ..processing.media_llava_st import show
from ..utils.checked_settings import check_keys, checked, read_yaml
from .epoch_order import shuffle
from .readers.base import Reader
from .skips import check_share

_STRATEGY = re.compile(r"all|(?P<name>first|end|random):(?P<number>\d+(?:\.\d+)?)(?P<percent>%?)")
_SHARD = re.compile(r"(.+)-\d+-of-(\d+)\.parquet")
_BRACES = re.compile(r"\{([^{}]*)\}")
# Of a mixture, as braces name them: each is opened before the run begins.
MAX_SOURCES = 4096
# Passes over a source in an epoch, whose order is held in memory.
MAX_WEIGHT = 1000
# Boxes of a record in seconds are written for as many frames.
MAX_NUM_FRAMES = 16384
_CHOICE_WORD = -1  # tells the choice of records apart from the passes over them, which are counted from 0


def _parse_strategy(text: Any) -> tuple[str, Fraction, bool]:
    """Return the name of a sampling strategy, its number, and whether that is a percentage."""
    match = _STRATEGY.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
    if match is not None and match["name"] is None:
        return "all", Fraction(0), False
    number = Fraction(match["number"]) if match else Fraction(0)
    is_percentage = bool(match and match["percent"])
    if number <= 0 or (number > 100 if is_percentage else number.denominator != 1):
        raise ValueError(
            "give all, or first:N, end:N or random:N with N a count such as 5000 or a percentage such as 10%"
        )
    return match["name"], number, is_percentage


def _check_text(value: str | None) -> None:
    if value is not None and not value.strip():
        raise ValueError("give a text")


def _check_task(value: str | None) -> None:
    if value is not None:
        get_task(value)


def _check_positive(value: float) -> None:
    if not 0 < value <= MAX_WEIGHT:
        raise ValueError(f"give a number above 0, up to {MAX_WEIGHT}")


def _check_count(value: int | None) -> None:
    if value is not None and not 1 <= value <= MAX_NUM_FRAMES:
        raise ValueError(f"give a whole number from 1 to {MAX_NUM_FRAMES}")


_text = partial(validated_field, _check_text, default=None)


@checked
@dataclass
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
        options (`dict`, *optional*):
            What the reader of the format takes beside these, such as `unit`; in a file they stand among the other
            keys.

    Raises:
        `InputError`: With the key, its value and the fix.
    """

    json_path: str | None = _text()
    data_folder: str | None = _text()
    source: str | None = _text()
    # Of any type, as 5000 shall have the error that says what is meant.
    sampling_strategy: Any = validated_field(_parse_strategy, default="all")  # noqa: RUF009
    format: str | None = _text()
    task: str | None = validated_field(_check_task, default=None)
    id: str | None = _text()
    revision: str | None = _text()
    split: str | None = _text()
    weight: float = validated_field(_check_positive, default=1.0)
    seed: int | None = None
    required: bool = False
    license: str | None = _text()
    origin: str | None = _text()
    options: dict[str, Any] | None = None

    def __post_init__(self):
        if (self.json_path is None) == (self.id is None):
            raise InputError(
                f"json_path is {self.json_path!r} and id is {self.id!r}: give a file as json_path, or a data set of "
                "the Hub as id."
            )
        for name, needed in (("revision", "id"), ("split", "id"), ("format", "json_path")):
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise InputError(f"{name} is {getattr(self, name)!r}, but it goes with {needed}, which is not given.")
        if self.options and self.id is not None:
            name, value = next(iter(self.options.items()))
            raise InputError(f"{name} is {value!r}, but it goes with json_path, which is not given.")

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
        from .readers.registry import FORMATS, guess_format, open_reader

        if self.id is not None:
            if "/" not in self.id and Path(self.id).exists():
                raise InputError(f"id is {self.id!r}, which is a folder here: name it as json_path.")
            if constants.HF_HUB_OFFLINE:
                address = find_cached_dataset(self.id, self.revision)
            else:
                address = f"hf://datasets/{self.id}" + (f"@{quote(self.revision, safe='')}" if self.revision else "")
            options["split"] = self.split or "train"
            return open_reader("canonical", address, self.name, self.data_folder, self.task, **options)
        if self.data_folder is not None and not Path(self.data_folder).is_dir():
            raise InputError(
                f"data_folder is {self.data_folder!r}, which is no folder: put the clips into it, or name "
                "theirs (~ and $NAMES are not expanded)."
            )
        format = self.format or guess_format(self.json_path)
        options = options if format == "canonical" else {}
        if num_frames is not None and format in FORMATS and "num_frames" in FORMATS[format].reader.list_options():
            options["num_frames"] = num_frames
        options |= self.options or {}
        return open_reader(format, self.json_path, self.name, self.data_folder, self.task, **options)


def find_cached_dataset(name: str, revision: str | None = None) -> str:
    """Return the folder of a data set of the Hub that was downloaded before, where the Hub may not be asked."""
    get = f"fetch it with `hf download {name} --repo-type dataset`, or unset HF_HUB_OFFLINE."
    try:
        folder = snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True)
    except LocalEntryNotFoundError as error:
        raise InputError(f"id is {name!r}, HF_HUB_OFFLINE is set, and the cache does not have it: {get}") from error
    shards = Counter(match.groups() for path in Path(folder).rglob("*") if (match := _SHARD.fullmatch(path.name)))
    for (stem, total), count in shards.items():
        if count < int(total):
            raise InputError(f"id is {name!r}, and the cache has {count} of {total} files {stem}-*: {get}")
    return folder


@checked
@dataclass
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
    max_skip_share: float = validated_field(check_share, default=0.05)
    num_frames: int | None = validated_field(_check_count, default=None)

    def __post_init__(self):
        if not self.datasets:
            raise InputError("datasets is empty: give at least one source.")

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
        path = Path(path)
        content = read_yaml(path, "mixture")
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
        check_keys(content, [part.name for part in fields(cls)], "the mixture")
        entries = content.get("datasets")
        if not isinstance(entries, list):
            raise InputError(f"datasets is {show(entries)}: give a list of sources.")
        sources: list[SourceSpec] = []
        for position, entry in enumerate(entries):
            try:
                sources += _expand(_read_source(entry), Path(folder))
            except InputError as error:
                raise InputError(f"datasets[{position}]: {error}") from error
            if len(sources) > MAX_SOURCES:
                raise InputError(f"datasets has more than {MAX_SOURCES:,} sources: name fewer.")
        return cls(**{**content, "datasets": tuple(sources)})


def _read_source(entry: Any) -> SourceSpec:
    """Make a source of the keys of an entry; those that are none of its own are options of a reader."""
    from .readers.registry import FORMATS

    own = [part.name for part in fields(SourceSpec) if part.name != "options"]
    options = dict.fromkeys(itertools.chain(*(format.reader.list_options() for format in FORMATS.values())))
    # `num_frames` is said for the whole mixture.
    known = [*own, *(name for name in options if name not in ("num_frames", *own))]
    check_keys(entry, known, "the entry")
    return SourceSpec(
        **{name: value for name, value in entry.items() if name in own},
        options={name: value for name, value in entry.items() if name not in own} or None,
    )


def _expand(source: SourceSpec, folder: Path) -> list[SourceSpec]:
    """Return an entry for each name in the braces of its path, all paths from the folder of the mixture."""
    if source.data_folder is not None:
        source = replace(source, data_folder=str(folder / source.data_folder))
    if source.options is not None:  # a folder of a reader, as `vidor_folder`
        paths = {name: str(folder / str(value)) for name, value in source.options.items() if name.endswith("_folder")}
        source = replace(source, options={**source.options, **paths})
    if source.json_path is None:
        return [source]
    pieces = _BRACES.split(source.json_path)
    choices = [piece.split(",") if index % 2 else [piece] for index, piece in enumerate(pieces)]
    if (num_paths := math.prod(map(len, choices))) > MAX_SOURCES:
        raise InputError(
            f"json_path is {source.json_path!r:.200}, whose braces stand for {num_paths:,} files, more than "
            f"{MAX_SOURCES:,}: name fewer."
        )
    paths = ["".join(path) for path in itertools.product(*choices)]
    # An address, unlike a path, does not start from a folder.
    return [replace(source, json_path=path if "://" in path else str(folder / path)) for path in paths]
