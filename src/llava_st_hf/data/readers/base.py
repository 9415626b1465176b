"""What every reader of annotations is: a sequence of records that can be read one by one, in any order."""

import itertools
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..samples import Media, Sample, get_features
from ..skips import RecordError, SkippedRecord, SkipReport

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?://|[^\\/])")  # http://..., data:..., not C:\


class Reader(ABC):
    """
    The records of one source, read by their number.

    A record that cannot be used is a `SkippedRecord` at its place: a reader neither raises for it nor replaces it.
    Opening a reader may index its file; reading one record never reads the others. Readers can be pickled into
    workers.

    Args:
        source (`str`): Name of the data set, for the records and for the report.
    """

    source: str

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of records."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """
        Read one record.

        Raises:
            `RecordError`: If it cannot be used.
        """

    def get_id(self, index: int) -> str:
        """Return the name under which a record is reported that has none, or cannot be read."""
        return f"record {index}"

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the sources that the records come from, as far as they are known without reading them."""
        return (self.source,)

    def get_block_sizes(self) -> list[int] | None:
        """Return how many records each part of the source holds that is read as a whole; `None` if there is none."""
        return None

    def __getitem__(self, index: int) -> Sample | SkippedRecord:
        """Return one record, or the note why it is left out."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            return self.read(index)
        except RecordError as error:
            return SkippedRecord.from_error(self.get_id(index), self.source, error)

    def __iter__(self) -> Iterator[Sample | SkippedRecord]:
        return (self[index] for index in range(len(self)))

    def to_dataset(self, streaming: bool = True, num_shards: int = 64, skip_report: SkipReport | None = None) -> Any:
        """
        Return the usable records as rows in the canonical form.

        Args:
            streaming (`bool`, *optional*, defaults to `True`):
                Whether to return a `datasets.IterableDataset`, which reads as it goes, or a `datasets.Dataset`, which
                is written to the cache of `datasets` first.
            num_shards (`int`, *optional*, defaults to 64): Parts that processes and workers share among them.
            skip_report (`SkipReport`, *optional*):
                Takes note of the records that are left out, and stops where they are too many. Without one they are
                noted in the log, and more than 5 % stop.

        Returns:
            `datasets.IterableDataset` or `datasets.Dataset`: With the columns of `get_features()`.
        """
        from datasets import Dataset, IterableDataset

        bounds = [len(self) * part // num_shards for part in range(num_shards + 1)]
        parts = [(first, last) for first, last in itertools.pairwise(bounds) if first < last]
        kind = IterableDataset if streaming else Dataset
        return kind.from_generator(
            _generate_rows,
            gen_kwargs={"reader": self, "parts": parts, "report": skip_report or SkipReport()},
            features=get_features(),
        )


def _generate_rows(reader: Reader, parts: list[tuple[int, int]], report: SkipReport) -> Iterator[dict[str, Any]]:
    for first, last in parts:
        for index in range(first, last):
            record = reader[index]
            if isinstance(record, Sample):
                report.count_used()
                yield record.to_row()
            else:
                report.note(record)


class MediaFolder:
    """
    The folder in which the media of a source lie; no path of a record leads out of it.

    Args:
        path (`str` or `Path`, *optional*): The folder; without one, records must bring their media as bytes.
    """

    def __init__(self, path: str | Path | None):
        self.path = None if path is None else Path(os.path.realpath(path))

    def resolve(self, name: Any, field: str = "media") -> str:
        """
        Return the absolute path of a file or folder that a record names.

        Args:
            name (`str`): Path as written in the record, relative to the folder, or absolute and inside it.
            field (`str`, *optional*, defaults to `"media"`): Field of the record, for messages.

        Returns:
            `str`: Absolute path with links followed.

        Raises:
            `RecordError`: For a path that leaves the folder, also through a link; that is an address; that does not
                exist; or that is no text.
        """
        if not isinstance(name, str) or not name.strip() or "\0" in name or len(name) > 4096:
            raise RecordError("invalid_field", field, f"{field} is {repr(name)[:80]}: give the path of a file.")
        if _ADDRESS.match(name):
            raise RecordError(
                "network_media", field, f"{field} is {name[:200]!r}: download it and give the path of the file."
            )
        if self.path is None:
            raise RecordError(
                "outside_root", field, f"{field} is {name[:200]!r}, but no folder of media is set: give data_folder."
            )
        try:
            path = Path(os.path.realpath(self.path / name))
            exists = path.exists()
        except (OSError, ValueError) as error:  # names that no file system takes
            raise RecordError("invalid_field", field, f"{field} is {name[:200]!r}: {error}.") from error
        if not path.is_relative_to(self.path):
            raise RecordError(
                "outside_root",
                field,
                f"{field} is {name[:200]!r}, which lies outside of {self.path}: media are read from there only.",
            )
        if not exists:
            raise RecordError(
                "missing_media",
                field,
                f"{field} is {name[:200]!r}, which does not exist in {self.path}: fix the path, or the folder of the "
                "media.",
            )
        return str(path)

    def open_media(self, name: Any, media_type: str, field: str = "media") -> tuple[Media, ...]:
        """
        Return the media that one name stands for: a file, or the pictures of a folder that holds a clip's frames.

        Raises:
            `RecordError`: As `resolve`; for a folder that is no video, or holds no pictures.
        """
        path = self.resolve(name, field)
        if not os.path.isdir(path):
            return (Media(path=path),)
        frames = sorted(
            (entry.name for entry in os.scandir(path) if entry.name.lower().endswith(_PICTURE_ENDINGS)),
            key=_natural_key,
        )
        if media_type != "video" or not frames:
            raise RecordError(
                "empty_media" if media_type == "video" else "invalid_field",
                field,
                f"{field} is the folder {str(name)[:200]!r} with {len(frames)} pictures: give a file, or for a video "
                "a folder with its frames as pictures.",
            )
        return tuple(Media(path=self.resolve(os.path.join(path, frame), field)) for frame in frames)


_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def _natural_key(name: str) -> list[Any]:
    """Sort frame2 before frame10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def require_object(raw: Any) -> Mapping[str, Any]:
    """Return an element of an annotation file if it is an object, else raise `RecordError`."""
    if not isinstance(raw, Mapping):
        raise RecordError(
            "invalid_json", "record", f"the record is {' '.join(repr(raw)[:80].split())}: give an object {{...}}."
        )
    return raw


__all__ = ["MediaFolder", "Reader", "require_object"]
