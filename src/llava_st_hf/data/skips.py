"""Records that cannot be used: counted by reason, written to a report, and never replaced by other data.

A reader or the collator that meets such a record makes a `SkippedRecord` of it. A `SkipReport` writes each to a JSONL
file as it comes, from any number of processes, and stops the run where too many are lost, or one of a source that the
mixture marks as required.
"""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..processing import InputError
from ..processing.media_llava_st import format_count, show
from ..utils.tables import format_table

logger = logging.getLogger(__name__)

# Why a record cannot be used.
SKIP_REASONS = {
    "missing_media": "the file of the medium does not exist, or the record names none",
    "unreadable_media": "the file exists and cannot be decoded",
    "empty_media": "the file has no frames or no pixels, or the part that is asked for has none",
    "mismatched_media": "the file has another length or shape than the annotations say: times or boxes do not fit it",
    "oversized_media": "the picture, the clip or the file is larger than the limit",
    "outside_root": "the path leaves the folder of the media",
    "network_media": "the path is an address on the network",
    "invalid_json": "the line or element is no JSON, or no object",
    "invalid_field": "a field is missing, or has a value that it cannot have",
    "too_long": "the record has more text or more tokens than the limit",
}
_MEMORY_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# Below so many records the share of skipped ones says nothing yet.
_MIN_RECORDS_FOR_SHARE = 100


class RecordError(InputError):
    """
    Raised for a record that cannot be used.

    Args:
        reason (`str`): One of `SKIP_REASONS`.
        field (`str`): The field at fault, for example `"media"` or `"messages[1].content"`.
        message (`str`): The field, its value and the fix.
    """

    def __init__(self, reason: str, field: str, message: str):
        super().__init__(message, field=field)
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.reason, self.field, str(self))


@contextmanager
def record_errors(field: str) -> Iterator[None]:
    """Turn what is found wrong with a field into a `RecordError` that names it."""
    try:
        yield
    except RecordError:
        raise
    except InputError as error:
        message = str(error)
        message = message if message.startswith(f"{field} ") else f"{field}: {message}"
        raise RecordError("invalid_field", field, message) from error


def as_record_error(error: InputError, field: str) -> RecordError:
    """Return what was found wrong with a record as the reason to leave it out, of `field` where it names none."""
    return error if isinstance(error, RecordError) else RecordError("invalid_field", field, str(error))


class TooManySkipsError(InputError):
    """Raised when a larger share of the records than allowed was skipped, or one that is required."""


def make_error(field: str, value: Any, fix: str, verb: str = "is") -> RecordError:
    """Return the error of a field that has, or `verb`="holds", a value that it cannot have."""
    return make_fault(field, f"{verb} {show(value)}", fix)


def make_fault(field: str, said: str, fix: str, reason: str = "invalid_field") -> RecordError:
    """Return the error of a field: what is wrong with it, behind its name, and the fix."""
    return RecordError(reason, field, f"{field} {said}: {fix}.")


@dataclass(frozen=True)
class SkippedRecord:
    """A record that was left out, and why."""

    id: str  # name of the record, or its place in the file where it has none
    source: str  # name of the data set
    reason: str  # one of `SKIP_REASONS`
    detail: str  # the message: field, value and fix

    @classmethod
    def from_error(cls, id: str, source: str, error: RecordError) -> "SkippedRecord":
        """Make the note of a record from the error that it raised."""
        # Where an object lies in memory says nothing, and would make two notes of one record differ.
        detail = _MEMORY_ADDRESS.sub("", " ".join(str(error).split()))
        return cls(id[:1000], source, error.reason, detail[:1000])


class SkipReport:
    """
    Writes down skipped records as they come and stops a run that loses too much.

    Every process and worker has its own copy; they append to one file, a line each, so nothing is lost when a run is
    killed. The shares are of what this copy saw.

    Args:
        path (`str` or `Path`, *optional*): JSONL file to append to; without it skips are only counted.
        max_skip_share (`float`, *optional*, defaults to 0.05):
            The run stops when more than this share of at least 100 records was skipped; 1 never stops it.
        required_sources (`Collection[str]`, *optional*): Sources of which no record may be skipped.

    Example:

    ```python
    >>> report = SkipReport("skipped.jsonl", max_skip_share=0.01)
    >>> report.count_used(3)
    >>> report.add(SkippedRecord("7", "kitchen", "missing_media", "media is 'a.mp4', which does not exist"))
    >>> print(report.format_table())
    source   reason         records
    kitchen  missing_media        1
    1 of 4 records skipped; see skipped.jsonl
    ```
    """

    def __init__(
        self,
        path: str | Path | None = None,
        max_skip_share: float = 0.05,
        required_sources: Collection[str] = (),
    ):
        check_share(max_skip_share)
        self.path = None if path is None else Path(path)
        self.max_skip_share = max_skip_share
        self.required_sources = frozenset(required_sources)
        self.counts: Counter[tuple[str, str]] = Counter()  # by source and reason
        self.notes: Counter[tuple[str, str]] = Counter()  # what was put right of used ones, by source and kind
        self.num_used = 0

    @property
    def num_skipped(self) -> int:
        """How many records this copy of the report skipped."""
        return sum(self.counts.values())

    def count_used(self, num_records: int = 1) -> None:
        """Count records that were fine."""
        self.num_used += num_records

    def use(self, id: str, source: str, notes: Sequence[tuple[str, str]] = ()) -> None:
        """
        Count a record that is used, and write down what its reader put right.

        Args:
            id (`str`): Name of the record.
            source (`str`): Name of the data set.
            notes (`Sequence[tuple[str, str]]`, *optional*): Of each the kind and a sentence, see `Sample.notes`.
        """
        self.count_used()
        for kind, detail in notes:
            self.notes[source, kind] += 1
            self._write({"id": id[:1000], "source": source, "note": kind, "detail": detail[:1000]})

    def add(self, skipped: SkippedRecord) -> None:
        """
        Write down one skipped record.

        Raises:
            `TooManySkipsError`: When its source is required, or the share of skipped records is above the limit.
        """
        self.counts[skipped.source, skipped.reason] += 1
        self._write(asdict(skipped))
        where = f"; see {self.path}" if self.path is not None else ""
        if skipped.source in self.required_sources:
            raise TooManySkipsError(
                f"record {skipped.id!r} of the required source {skipped.source!r} cannot be used ({skipped.reason}): "
                f"{skipped.detail} Fix it, or set required: false for its source{where}."
            )
        num_seen = self.num_used + self.num_skipped
        if num_seen >= _MIN_RECORDS_FOR_SHARE and self.num_skipped > self.max_skip_share * num_seen:
            raise TooManySkipsError(
                f"{self.num_skipped} of {num_seen} records were skipped, more than max_skip_share="
                f"{self.max_skip_share:g}; the last one: {skipped.detail} Check the data with `llava-st data check`, "
                f"or raise max_skip_share{where}."
            )

    def _write(self, fields: Mapping[str, str]) -> None:
        """Append a line to the file, if there is one."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        # One write to a file opened for appending: lines of several processes do not mix.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def check_total(self, num_skipped: int, num_records: int) -> None:
        """Raise `TooManySkipsError` at the end of a run that skipped too many, however few its records were."""
        if num_skipped > self.max_skip_share * num_records:
            where = f"; see {self.path}" if self.path is not None else ""
            raise TooManySkipsError(
                f"{num_skipped} of {num_records} records were skipped, more than max_skip_share="
                f"{self.max_skip_share:g}: fix them, or raise max_skip_share{where}."
            )

    def note(self, skipped: SkippedRecord) -> None:
        """Do as `add`, and write the record to the log where there is no file."""
        if self.path is None:
            logger.warning(
                "record %r of %r is skipped (%s): %s", skipped.id, skipped.source, skipped.reason, skipped.detail
            )
        self.add(skipped)

    def format_table(self) -> str:
        """Return the counts by source and reason as a table, with the total below it."""
        table = format_skip_table(self.counts, self.num_used + self.num_skipped, self.path)
        return "\n".join([table, *describe_notes(self.notes)])


def read_skip_report(path: str | Path) -> list[SkippedRecord]:
    """
    Read what a run skipped, each record once, though a resumed run may have met it twice.

    Records that share an id, as those about one clip often do, are told apart by their reason and detail.

    Args:
        path (`str` or `Path`): The JSONL file; one that does not exist is an empty report.

    Returns:
        `list[SkippedRecord]`: In the order in which they were met; a line that was cut off by a kill is left out.
    """
    return [SkippedRecord(*values) for values in _read_lines(path, ("id", "source", "reason", "detail"))]


def count_notes(path: str | Path) -> Counter[tuple[str, str]]:
    """Return what was put right of the records that a run used, by source and kind; each record counts once."""
    return Counter((source, kind) for _, source, kind in _read_lines(path, ("id", "source", "note")))


def describe_notes(counts: Mapping[tuple[str, str], int]) -> list[str]:
    """Return a line for each source and kind of what was put right."""
    return [
        f"{format_count(count, 'record')} of {source} used with {kind}"
        for (source, kind), count in sorted(counts.items())
    ]


def _read_lines(path: str | Path, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return some fields of each line that has them, in order, each once."""
    found: dict[tuple[str, ...], None] = {}
    path = Path(path)
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            fields: dict[str, Any] = json.loads(line)
            found[tuple(fields[name] for name in names)] = None
        except (ValueError, KeyError, TypeError):
            continue
    return list(found)


def check_share(share: float) -> None:
    """Raise `InputError` for a share of records that is none."""
    if not 0 <= share <= 1:  # NaN too
        raise InputError(f"max_skip_share is {share:g}: give a share from 0 to 1.", field="max_skip_share")


def check_report(path: str | Path) -> None:
    """Raise `InputError` for a report that could not be written, or would be mixed into a file of another kind."""
    path = Path(path)
    if (path.exists() and not path.is_file()) or not path.resolve().parent.is_dir():
        raise InputError(f"the report is {path}: give the name of a file in a folder that exists.", field="report")
    if path.is_file() and path.stat().st_size and not (read_skip_report(path) or count_notes(path)):
        raise InputError(
            f"the report is {path}, which is no report of skipped records: give another name.", field="report"
        )


def format_skip_table(counts: Counter[tuple[str, str]], num_seen: int, path: Path | None = None) -> str:
    """Return counts by (source, reason) as a table with the total below it."""
    rows = [(source, reason, count) for (source, reason), count in sorted(counts.items())]
    lines = [format_table(("source", "reason", "records"), rows)] if rows else []
    where = f"; see {path}" if path is not None and rows else ""
    return "\n".join([*lines, f"{sum(counts.values())} of {format_count(num_seen, 'record')} skipped{where}"])
