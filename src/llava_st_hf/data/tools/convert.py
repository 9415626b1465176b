"""Annotations of any format written as canonical JSONL: whole or not at all, and resumable."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...processing import InputError
from ...utils.atomic_files import move_whole
from ...utils.checked_settings import input_errors
from ...utils.folder_locks import locking
from ...utils.run_manifest import RunManifest
from ..readers.base import Reader
from ..samples import Sample
from ..skips import RecordError, SkippedRecord, SkipReport, make_fault

_RECORDS_PER_SAVE = 1000


@dataclass(frozen=True)
class ConversionCounts:
    """What became of the records of a source."""

    num_written: int = 0  # records in the file
    num_skipped: int = 0  # records that could not be used


@dataclass
class _Progress:
    """How far a conversion has come."""

    num_read: int = 0
    num_bytes: int = 0
    num_written: int = 0
    num_skipped: int = 0
    last_record: int | None = None  # number of the last record written, and a hash of its line
    last_hash: str | None = None


def convert_annotations(
    reader: Reader,
    output_path: str | Path,
    report: SkipReport,
    data_folder: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> ConversionCounts:
    """
    Write the records of a reader as canonical JSONL.

    The records go to `<output_path>.partial`, which is renamed at the end. A conversion that was stopped goes on
    where it was; records that were skipped shortly before may then be twice in the file of the report.

    Args:
        reader (`Reader`): The records.
        output_path (`str` or `Path`): The file to write, `.jsonl`.
        report (`SkipReport`): Takes the records that cannot be used.
        data_folder (`str` or `Path`, *optional*):
            Folder that the paths of media are written relative to; without it they are written as the reader gives
            them.
        progress (`Callable[[int], None]`, *optional*): Takes the number of records done.

    Returns:
        `ConversionCounts`: What became of the records, those of the part before a stop included.

    Raises:
        `InputError`: If the file exists, or an unfinished conversion is of other data or was read with other options.
        `TooManySkipsError`: As the report does, and at the end for the share of all records, however few they are;
            the part that is done stays.

    Example:

    ```python
    >>> reader = open_reader("refcoco", "refcoco_val.json", "refcoco", data_folder="train2014")
    >>> convert_annotations(reader, "refcoco_val.jsonl", SkipReport(), data_folder="train2014")
    ConversionCounts(num_written=10834, num_skipped=0)
    ```
    """
    output_path, problem = Path(output_path), None
    if output_path.suffix != ".jsonl":
        problem = ": give a name that ends with .jsonl"
    elif output_path.exists():
        problem = ", which exists: delete it or give another name"
    elif report.path is not None and str(report.path.resolve()).startswith(str(output_path.resolve())):
        problem = f", and the report is {str(report.path)!r}: give it another name"
    if problem is not None:
        raise InputError(f"output_path is {str(output_path)!r}{problem}.", field="output")
    folder = None if data_folder is None else os.path.realpath(data_folder)
    partial = output_path.with_name(output_path.name + ".partial")
    settings = {"source": reader.source, "num_records": len(reader), "data_folder": folder}
    manifest = RunManifest(f"{partial}.state", settings, output=partial)
    with input_errors(f"output_path is {str(output_path)!r}: it cannot be written ({{}}); give another."):
        output_path.parent.mkdir(parents=True, exist_ok=True)
    with (
        locking(f"{partial}.lock", f"converts annotations to {output_path.name}"),
        input_errors(f"{output_path} could not be finished ({{}}): fix that and run the same again, it goes on."),
    ):
        return _convert(reader, manifest, partial, output_path, report, folder, progress)


def _convert(
    reader: Reader,
    manifest: RunManifest,
    partial: Path,
    output_path: Path,
    report: SkipReport,
    folder: str | None,
    progress: Callable[[int], None] | None,
) -> ConversionCounts:
    state = _load_progress(manifest, partial, reader, folder)
    with open(partial, "r+b" if partial.exists() else "x+b") as file:
        file.truncate(state.num_bytes)
        file.seek(state.num_bytes)
        for index in range(state.num_read, len(reader)):
            if index > state.num_read and index % _RECORDS_PER_SAVE == 0:
                file.flush()
                os.fsync(file.fileno())  # the lines are on the disk before the manifest says so
                manifest.save(**asdict(replace(state, num_read=index, num_bytes=file.tell())))
            line = _read_line(reader, index, folder)
            if progress is not None:
                progress(index + 1)
            if isinstance(line, SkippedRecord):
                state.num_skipped += 1
                report.add(line)
                continue
            state.num_written += 1
            report.count_used()
            state.last_record, state.last_hash = index, _hash(line)
            file.write(line)
    report.check_total(state.num_skipped, len(reader))
    move_whole(partial, output_path)
    manifest.remove()
    return ConversionCounts(state.num_written, state.num_skipped)


def _load_progress(manifest: RunManifest, partial: Path, reader: Reader, folder: str | None) -> _Progress:
    """Return how far an earlier conversion of the same records came, or the start."""
    if not os.path.lexists(partial):
        manifest.save()  # by which the file is known as of this work, and not as one that somebody else needs
        return _Progress()
    if not manifest.load():
        raise InputError(f"{partial} is there, and of no conversion: delete it, or give another output_path.")
    progress = _Progress(**manifest.progress)
    is_whole = partial.stat().st_size >= progress.num_bytes
    if not is_whole or (
        progress.last_record is not None
        and _hash(_read_line(reader, progress.last_record, folder)) != progress.last_hash
    ):
        raise InputError(
            f"{partial} is of another conversion, or its records were read with other options: delete it and "
            f"{manifest.path}, or give another output_path."
        )
    return progress


def _read_line(reader: Reader, index: int, folder: str | None) -> bytes | SkippedRecord:
    """Return a record as a line of JSON, its paths relative to the folder."""
    record = reader[index]
    if not isinstance(record, Sample):
        return record
    try:
        row = record.to_row()
        for item in row["media"]:
            if item["bytes"] is not None:
                raise make_fault("media", "are bytes, which JSON cannot hold", "publish it as Parquet")
            if folder is not None:
                path = Path(os.path.realpath(os.path.join(folder, item["path"])))
                if not path.is_relative_to(folder):
                    said = f"is {item['path']!r}, which lies outside of {folder}"
                    raise make_fault("media", said, "give another data_folder", "outside_root")
                item["path"] = path.relative_to(folder).as_posix()
    except RecordError as error:
        return SkippedRecord.from_error(record.id, record.source, error)
    return json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"


def _hash(line: bytes | SkippedRecord) -> str | None:
    return hashlib.sha256(line).hexdigest() if isinstance(line, bytes) else None
