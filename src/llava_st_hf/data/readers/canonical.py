"""Records that are canonical already: JSONL with paths, or Parquet with the media inside; from files or from the Hub.

Parquet is read one row group at a time, also over the network: nothing is downloaded whole.
"""

import bisect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from huggingface_hub.errors import HfHubHTTPError
from torch.utils.data import ConcatDataset

from ...processing import InputError
from ...processing.video_requests_llava_st import TIME_FIELDS
from ...utils.regular_files import check_regular_file
from ..annotation_checks import require_object
from ..epoch_order import NUM_BLOCKS_IN_WINDOW
from ..samples import Sample
from ..skips import RecordError, make_error
from .base import FileReader
from .json_files import JsonRecords

_COLUMNS = ("id", "source", "task", "media_type", "media", "frame_range", *TIME_FIELDS, "messages")
_REQUIRED_COLUMNS = ("id", "media_type", "messages")
_LINE_SUFFIXES = (".jsonl", ".ndjson", ".json")
# One value that many rows share is stored once: a row group may become this much, or so many times its file.
_MIN_GROUP_BYTES, _MAX_EXPANSION = 2**26, 64
_ROWS_OF_BATCH = 16
_NUM_FOOTER_THREADS = 8
# What huggingface_hub's HTTP client raises, whichever that is, when there is no network.
_NETWORK_ERRORS = (OSError, *HfHubHTTPError.__bases__)


@dataclass(eq=False)
class CanonicalReader(FileReader):
    """
    Canonical records, see `Sample`, from JSONL, JSON or Parquet.

    The path is a file; a folder, of which all Parquet files are read, or else all JSONL files; or a pattern such as
    `data/train-*.parquet`. Addresses that fsspec knows, `hf://datasets/owner/name/data`, work for Parquet; of them
    only what is read is fetched. The source takes the place of what the records say, the task is that of records that
    name none, and `data_folder` holds the media of those that have no bytes of them.
    """

    # Whether records that name a source keep it, as those of a data set that was published from several do.
    keep_sources: bool = False
    split: str | None = None  # of a folder, the Parquet files of this split only, named as the Hub names them

    def list_entries(self) -> "ConcatDataset | ParquetRows":
        try:
            filesystem, files = _list_files(str(self.path), self.split)
            for file in files if "://" not in str(self.path) else ():
                check_regular_file(file, "file")
            if files[0].endswith(".parquet"):
                return ParquetRows(files, filesystem)
            return ConcatDataset([JsonRecords(file) for file in files])
        except _NETWORK_ERRORS as error:
            raise InputError(f"{self.path} cannot be read: {error}. Fix the path, or check the connection.") from error

    @property
    def source_names(self) -> tuple[str, ...]:
        """Name of the source; where records keep their own, that of the first one."""
        return (self[0].source,) if len(self) else ()

    def get_block_sizes(self) -> list[int] | None:
        """Return the rows per row group of Parquet; `None` for JSONL."""
        return self.entries.sizes if isinstance(self.entries, ParquetRows) else None

    def read(self, index: int) -> Sample:
        row = dict(require_object(self.entries[index]))
        if not self.keep_sources or row.get("source") is None:
            row["source"] = self.source
        if row.get("task") is None:
            row["task"] = self.task
        media = row.get("media")
        if isinstance(media, list) and all(isinstance(item, Mapping) for item in media):
            row["media"] = [
                located
                for position, item in enumerate(media)
                for located in self._locate(item, row.get("media_type"), f"media[{position}]")
            ]
        return self.time_frames(Sample.from_row(row))

    def _locate(self, item: Mapping[str, Any], media_type: Any, field: str) -> list[Mapping[str, Any]]:
        """Return a medium with its absolute path, the frames of a folder one by one; bytes bring themselves."""
        name, content = item.get("path"), item.get("bytes")
        if content is None and name is not None:
            return [{"path": medium.path} for medium in self.folder.open_media(name, media_type, f"{field}.path")]
        if not isinstance(content, (bytes, type(None))) or not isinstance(name, (str, type(None))):
            raise make_error(field, dict(item), "give path as text, bytes as binary data")
        return [item]


class ParquetRows:
    """
    Rows of Parquet files; a row group is read whole and kept until `num_open_groups` others were needed.

    A file that is no Parquet or lacks columns is an `InputError`.
    """

    def __init__(self, files: Sequence[str], filesystem: Any, num_open_groups: int = NUM_BLOCKS_IN_WINDOW):
        self._filesystem = filesystem
        self._num_open_groups = num_open_groups
        self._open_groups: OrderedDict[int, Any] = OrderedDict()
        with ThreadPoolExecutor(_NUM_FOOTER_THREADS) as pool:
            sizes_by_file = list(pool.map(self._read_footer, files))
        self.sizes = [size for sizes in sizes_by_file for size in sizes]  # rows of each row group
        self._groups = [
            (file, group) for file, sizes in zip(files, sizes_by_file, strict=True) for group in range(len(sizes))
        ]
        self._ends = list(accumulate(self.sizes))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one row, see `read_group`."""
        number = bisect.bisect_right(self._ends, index)
        table = self._open_groups.get(number)
        if table is None:
            table = self._open_groups[number] = self.read_group(*self._groups[number])
            if len(self._open_groups) > self._num_open_groups:
                self._open_groups.popitem(last=False)
        self._open_groups.move_to_end(number)
        return table.slice(index - self._ends[number] + self.sizes[number], 1).to_pylist()[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open_groups": OrderedDict()}

    def _read_footer(self, file: str) -> list[int]:
        import pyarrow
        from pyarrow import parquet

        try:
            with self._filesystem.open(file, "rb") as stream, parquet.ParquetFile(stream) as opened:
                names = opened.schema_arrow.names
                sizes = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
        except pyarrow.ArrowInvalid as error:
            raise InputError(f"{file} is no Parquet file: {error}. Get it again.") from error
        num_bytes = self._filesystem.size(file)
        if num_bytes is not None and sum(sizes) > num_bytes:  # each record has a name of its own
            raise InputError(f"{file} claims {sum(sizes):,} records in {num_bytes:,} bytes: get it again.")
        missing = [name for name in _REQUIRED_COLUMNS if name not in names]
        if missing:
            raise InputError(
                f"{file} has no column {missing[0]!r}: canonical records have {', '.join(_COLUMNS)}; it has "
                f"{', '.join(names)}."
            )
        return sizes

    def read_group(self, file: str, group: int) -> Any:
        """
        Read one row group of a file, with the columns of the canonical record, as a `pyarrow.Table`.

        One that cannot be read is a `RecordError` where the file is local, else an `InputError`.
        """
        import pyarrow
        from pyarrow import parquet

        try:
            # pre_buffer joins what is read into few requests.
            with self._filesystem.open(file, "rb") as stream, parquet.ParquetFile(stream, pre_buffer=True) as opened:
                names = [name for name in _COLUMNS if name in opened.schema_arrow.names]
                batches, num_bytes = [], 0
                for batch in opened.iter_batches(_ROWS_OF_BATCH, row_groups=[group], columns=names):
                    num_bytes += batch.nbytes
                    if num_bytes > max(_MIN_GROUP_BYTES, _MAX_EXPANSION * self._filesystem.size(file)):
                        raise RecordError(
                            "too_long",
                            "record",
                            f"row group {group} of {file} becomes {num_bytes:,} bytes and more: write smaller ones.",
                        )
                    batches.append(batch)
                return pyarrow.Table.from_batches(batches)
        except (pyarrow.ArrowException, *_NETWORK_ERRORS) as error:
            message = f"row group {group} of {file} cannot be read: {error}. Get the file again."
            if isinstance(self._filesystem, LocalFileSystem):
                raise RecordError("unreadable_media", "record", message) from error
            raise InputError(message) from error


def _list_files(path: str, split: str | None) -> tuple[Any, list[str]]:
    """Return the file system and the files that a path stands for."""
    try:
        filesystem, root = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise InputError(f"{path} cannot be opened: {error}. Give a path, or an address that fsspec knows.") from error
    if filesystem.isdir(root):
        found = filesystem.find(root)
        files = [file for file in found if file.endswith(".parquet")]
        files = files or [file for file in found if file.endswith((".jsonl", ".ndjson"))]
        files = files if split is None else select_split(files, root, split)
    elif filesystem.isfile(root):
        files = [root]
    else:
        files = filesystem.glob(root)
    if split is not None and not filesystem.isdir(root):
        raise InputError(f"split is {split!r}, but {path} is no folder: leave it out, or give the folder.")
    files = sorted(files)
    if not files:
        raise InputError(f"{path} has no Parquet or JSONL files: give a file, a folder or a pattern.")
    kinds = {"parquet" if file.endswith(".parquet") else "lines" for file in files}
    if len(kinds) > 1:
        raise InputError(f"{path} stands for Parquet and other files: give a pattern for one kind of them.")
    if kinds == {"lines"}:
        unknown = [file for file in files if not file.lower().endswith(_LINE_SUFFIXES)]
        if unknown or not isinstance(filesystem, LocalFileSystem):
            raise InputError(f"{(unknown or files)[0]} cannot be read: give Parquet, or JSONL of this machine.")
    return filesystem, files


def select_split(files: Sequence[str], folder: str, split: str) -> list[str]:
    """
    Return the Parquet files of one split, sorted, by the names that the Hub goes by; none is an `InputError`.

    `"train"` stands in `train/0.parquet`, `data/train-00000-of-00004.parquet` and `train.parquet`.
    """
    found = []
    for file in files:
        *parents, name = file.removeprefix(folder).strip("/").split("/")
        stem = name.removesuffix(".parquet")
        if split in parents or stem == split or stem.startswith((f"{split}-", f"{split}_")):
            found.append(file)
    if not found:
        names = ", ".join(sorted(files)[:5]) or "none"
        raise InputError(f"{folder} has no Parquet files of the split {split!r}; its Parquet files: {names}.")
    return sorted(found)
