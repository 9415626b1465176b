"""Opens what the tools for data look at: a mixture, annotations of any format, or the built-in ST-Shapes."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...processing import InputError
from ..cards import UNKNOWN_LICENSE, SourceFacts
from ..mixture_spec import MixtureSpec
from ..readers.base import Reader
from ..readers.registry import guess_format, open_reader
from ..shapes import SHAPES_TASKS, ShapesDataset
from .check import ChosenRecords, Records

SHAPES = "st-shapes"
_NUM_SHAPES = 1000  # records, for a look at them
_MIXTURE_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True)
class OpenedRecords:
    """Records, and what is known of them."""

    records: Records
    # Licence and origin by source, as far as they are known.
    facts: dict[str, SourceFacts] = field(default_factory=dict)
    required_sources: frozenset[str] = frozenset()  # sources of which no record may be skipped
    max_skip_share: float = 0.05  # share of the records that may be skipped
    num_frames: int | None = None  # frames of a clip, where the mixture or who opened them says so


def open_records(path: str | Path, sampled: int | None = None, **said: Any) -> OpenedRecords:
    """
    Open a mixture (`.yaml`), of which the records are those that it chooses; annotations; or `"st-shapes"`.

    `sampled` are the frames that a processor samples of a clip: of so many annotations in seconds have a box, where
    nothing else is `said` about them, see `open_annotations`. A mixture and ST-Shapes say all of it themselves:
    beside them it is an `InputError`.
    """
    is_mixture = Path(path).suffix.lower() in _MIXTURE_ENDINGS
    given = [name for name, value in said.items() if value is not None]
    if given and (is_mixture or str(path) == SHAPES):
        raise InputError(f"{given[0]} is given, but {path} says that itself: leave it out.", field=given[0])
    if str(path) == SHAPES:
        return OpenedRecords(ShapesDataset(SHAPES_TASKS, num_samples=_NUM_SHAPES))
    if not Path(path).exists():
        raise InputError(f"{path}: no such file or folder; check the path.")
    if is_mixture:
        return _open_mixture(path, sampled)
    records = open_annotations(path, **said)
    is_said = said.get("num_frames") is not None
    if not is_said and sampled is not None and "num_frames" in records.list_options():
        records = open_annotations(path, **{**said, "num_frames": sampled})
    return OpenedRecords(records, num_frames=said.get("num_frames"))


def _open_mixture(path: str | Path, sampled: int | None) -> OpenedRecords:
    spec, known = MixtureSpec.from_yaml(path), {}
    for source in spec.datasets:
        facts = SourceFacts(source.name, source.license or UNKNOWN_LICENSE, source.origin)
        if known.setdefault(source.name, facts) != facts:
            raise InputError(
                f"{path}: two entries are named {source.name!r}, and differ in license or origin: give each a source "
                "of its own."
            )
    records = ChosenRecords(replace(spec, num_frames=spec.num_frames or sampled))
    return OpenedRecords(records, known, frozenset(spec.required_sources), spec.max_skip_share, spec.num_frames)


def open_annotations(
    path: str | Path,
    format: str | None = None,
    data_folder: str | Path | None = None,
    source: str | None = None,
    task: str | None = None,
    **options: Any,
) -> Reader:
    """
    Open a file of annotations, or a folder of Parquet files, as `open_reader` does.

    What is `None` is the default: the format is guessed from the file, which names the data set and lies beside the
    media.
    """
    folder = get_media_folder(path, data_folder)
    if not folder.is_dir():
        raise InputError(f"data_folder is {folder}: no such folder.", field="data_folder")
    format = format or guess_format(path)
    # A published data set says of each record where it comes from.
    extra: dict[str, Any] = {"keep_sources": source is None} if format == "canonical" else {}
    extra |= {name: value for name, value in options.items() if value is not None}
    name = source or Path(path).resolve().name.partition(".")[0] or "data"
    return open_reader(format, path, name, folder, task, **extra)


def get_media_folder(path: str | Path, data_folder: str | Path | None = None) -> Path:
    """Return the folder of the media of annotations: that of the annotations unless another one is given."""
    if data_folder is not None:
        return Path(data_folder)
    return Path(path) if Path(path).is_dir() else Path(path).parent
