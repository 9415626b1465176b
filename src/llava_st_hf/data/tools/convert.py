"""Annotations of any format written as canonical JSONL: whole or not at all, and resumable."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...processing.media_llava_st import InputError
from ..readers.base import Reader
from ..samples import Sample
from ..skips import RecordError, SkippedRecord, SkipReport, TooManySkipsError

_RECORDS_PER_SAVE = 1000


@dataclass(frozen=True)
class ConversionCounts:
    """
    What became of the records of a source.

    Args:
        num_written (`int`): Records in the file.
        num_skipped (`int`): Records that could not be used.
    """

    num_written: int = 0
    num_skipped: int = 0


@dataclass(frozen=True)
class _State:
    """How far an unfinished conversion has come; what it began with must be the same when it goes on."""

    source: str
    num_records: int
    data_folder: str | None
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
    output_path = Path(output_path)
    if output_path.suffix != ".jsonl":
        raise InputError(f"output_path is {str(output_path)!r}: give a name that ends with .jsonl.", field="output")
    if output_path.exists():
        raise InputError(
            f"output_path is {str(output_path)!r}, which exists: delete it or give another name.", field="output"
        )
    partial = output_path.with_name(output_path.name + ".partial")
    state_path = output_path.with_name(output_path.name + ".partial.state")
    folder = None if data_folder is None else os.path.realpath(data_folder)
    state = _load_state(partial, state_path, _State(reader.source, len(reader), folder))
    if state.last_record is not None and _hash(_read_line(reader, state.last_record, folder)) != state.last_hash:
        raise _make_error(partial, state_path, state)
    written, skipped, last, line = state.num_written, state.num_skipped, state.last_record, None
    output_path.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, "r+b" if partial.exists() else "w+b") as file:
        file.truncate(state.num_bytes)
        file.seek(state.num_bytes)
        for index in range(state.num_read, len(reader)):
            if index > state.num_read and index % _RECORDS_PER_SAVE == 0:
                done = {"num_read": index, "num_written": written, "num_skipped": skipped, "last_record": last}
                _save_state(file, state_path, replace(state, **done, last_hash=_hash(line) or state.last_hash))
            record = _read_line(reader, index, folder)
            if progress is not None:
                progress(index + 1)
            if isinstance(record, SkippedRecord):
                skipped += 1
                report.add(record)
                continue
            written += 1
            report.count_used()
            last, line = index, record
            file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if skipped > report.max_skip_share * len(reader):
        where = f"; see {report.path}" if report.path is not None else ""
        raise TooManySkipsError(
            f"{skipped} of {len(reader)} records were skipped, more than max_skip_share={report.max_skip_share:g}"
            f"{where}. {output_path} is not written: fix the records, or raise max_skip_share."
        )
    os.replace(partial, output_path)
    state_path.unlink(missing_ok=True)
    return ConversionCounts(written, skipped)


def _read_line(reader: Reader, index: int, folder: str | None) -> bytes | SkippedRecord:
    """Return a record as a line of JSON, its paths relative to the folder."""
    record = reader[index]
    if not isinstance(record, Sample):
        return record
    try:
        row = record.to_row()
        for item in row["media"]:
            if item["bytes"] is not None:
                raise RecordError(
                    "invalid_field", "media", "media are bytes, which JSON cannot hold: publish it as Parquet."
                )
            if folder is not None:
                item["path"] = _make_relative(item["path"], folder)
    except RecordError as error:
        return SkippedRecord.from_error(record.id, record.source, error)
    return json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"


def _hash(line: bytes | SkippedRecord | None) -> str | None:
    return hashlib.sha256(line).hexdigest() if isinstance(line, bytes) else None


def _make_relative(path: str, folder: str) -> str:
    absolute = os.path.realpath(os.path.join(folder, path))
    if not Path(absolute).is_relative_to(folder):
        raise RecordError(
            "outside_root", "media", f"media is {path!r}, which lies outside of {folder}: give another data_folder."
        )
    return Path(absolute).relative_to(folder).as_posix()


def _load_state(partial: Path, state_path: Path, start: _State) -> _State:
    """Return how far an earlier conversion came, or the start."""
    if not partial.exists() or not state_path.exists():
        return start
    try:
        state = _State(**json.loads(state_path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{state_path} cannot be read: delete it and {partial} to start anew.") from error
    same = (state.source, state.num_records, state.data_folder) == (start.source, start.num_records, start.data_folder)
    if not same or partial.stat().st_size < state.num_bytes:
        raise _make_error(partial, state_path, state)
    return state


def _make_error(partial: Path, state_path: Path, state: _State) -> InputError:
    return InputError(
        f"{partial} is of another conversion (source {state.source!r}, {state.num_records} records, or read with "
        f"other options): delete it and {state_path}, or give another output_path."
    )


def _save_state(file: Any, state_path: Path, state: _State) -> None:
    """Keep how far the conversion came; the lines are on the disk before it says so."""
    file.flush()
    os.fsync(file.fileno())
    values = {**asdict(state), "num_bytes": file.tell()}
    temporary = state_path.with_name(state_path.name + ".tmp")
    temporary.write_text(json.dumps(values), encoding="utf-8")
    os.replace(temporary, state_path)


__all__ = ["ConversionCounts", "convert_annotations"]
