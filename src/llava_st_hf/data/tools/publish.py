"""Publishes records as Parquet shards with the media inside, and a card, in a folder.

Writing can be killed at any moment and started again: a shard gets its name when all of it is on the disk, a note
beside it says which records it holds and how they looked, and the second run writes what is missing, so that the files
are the same as if nothing had happened. Records or media that changed in between are found by those notes.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...processing import InputError
from ...processing.media_llava_st import format_count
from ...utils.atomic_files import (
    is_leftover,
    move_whole,
    remove_leftovers,
    write_json_whole,
    write_text_whole,
    writing_whole,
)
from ...utils.checked_settings import input_errors
from ...utils.folder_locks import locking_folder
from ...utils.run_manifest import RunManifest
from ...utils.sizes import parse_size
from ..cards import BENCHMARK_FILE, UNKNOWN_LICENSE, SourceFacts, render_dataset_card, write_benchmark_yaml
from ..samples import Media, Sample, get_features
from ..shapes.encoding import encode_sample
from ..skips import RecordError, SkippedRecord, SkipReport
from .check import Records, check_media

STATE_FOLDER = ".publish"
MANIFEST_FILE = "plan.json"
REPORT_FILE = "skipped.jsonl"
# Read as a whole by whoever streams the records.
ROW_GROUP_BYTES = 32 * 10**6
# Of one record; Arrow and Parquet hold at most 2**31 bytes in one column of a row group.
MAX_MEDIA_BYTES = 2**30
_NUM_NAMED = 16
# All columns but the media, which are compressed already.
_COMPRESSED = (
    *("id", "source", "task", "media_type", "media.list.element.path", "frame_range.list.element", "video_fps"),
    *("frame_seconds.list.element", "messages.list.element.role", "messages.list.element.content"),
)


@dataclass(frozen=True)
class PublishedDataset:
    """What was published."""

    path: Path  # the folder
    shards: tuple[Path, ...]  # the Parquet files
    counts: Counter[tuple[str, str]]  # records by source and task
    skips: Counter[tuple[str, str]]  # records left out, by source and reason
    num_bytes: int  # size of the Parquet files

    @property
    def num_records(self) -> int:
        """Number of records in the Parquet files."""
        return self.counts.total()

    @property
    def sources(self) -> list[str]:
        """Names of the sources of the records."""
        return sorted({source for source, _ in self.counts})


@dataclass
class _Shard:
    """The note of a finished shard: records `first` to `end` (not included) of the input, and what became of them."""

    first: int
    end: int
    fingerprint: str  # of the records and of their media, as they were read
    num_bytes: int = 0  # of the file; 0 where all of its records were left out
    rows: list[tuple[str, str, int]] = field(default_factory=list)  # source, task, records
    media_types: dict[str, int] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)  # of files: "video", "image" or both
    skipped: list[SkippedRecord] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> "_Shard | None":
        if not path.is_file():
            return None
        try:
            fields = json.loads(path.read_bytes())
            fields["skipped"] = [SkippedRecord(**note) for note in fields["skipped"]]
            fields["rows"] = [tuple(row) for row in fields["rows"]]
            return cls(**fields)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} cannot be read ({error}): remove {path.parent.parent}, or name another."
            ) from error


def publish_dataset(
    records: Records,
    output_dir: str | Path,
    *,
    title: str | None = None,
    sources: Mapping[str, SourceFacts] | None = None,
    max_shard_size: str = "500MB",
    max_skip_share: float = 0.05,
    required_sources: Collection[str] = (),
    repository: str | None = None,
    is_benchmark: bool = False,
    quiet: bool = False,
) -> PublishedDataset:
    """
    Write records with their media as Parquet shards, and a card.

    Media made in memory are encoded, see `encode_sample`. Paths of media are not published: a medium keeps the name of
    its file, or its path where that is relative. Killed at any moment and called again, it ends with the same files.

    Args:
        records (`Sequence[Sample | SkippedRecord]`): A reader, a mixture or a list.
        output_dir (`str` or `Path`): Folder to write; it must not exist, be empty, or hold this work.
        title (`str`, *optional*): Name of the data set, for the card. Defaults to the name of the folder.
        sources (`Mapping[str, SourceFacts]`, *optional*): Licence and origin of each source, for the card.
        max_shard_size (`str`, *optional*, defaults to `"500MB"`): Size of a file; a larger record gets its own.
        max_skip_share (`float`, *optional*, defaults to 0.05): Largest share of records that may be left out.
        required_sources (`Collection[str]`, *optional*): Sources of which no record may be left out.
        repository (`str`, *optional*): Where it goes on the Hub, for the card.
        is_benchmark (`bool`, *optional*, defaults to `False`):
            Whether the Hub is to take it for a benchmark: `eval.yaml` is written beside the card.
        quiet (`bool`, *optional*, defaults to `False`): Whether to show no progress.

    Returns:
        `PublishedDataset`: What was written. Records left out are listed in `skipped.jsonl` in the folder.

    Raises:
        `TooManySkipsError`: When more records than allowed cannot be used; what is written stays for the next run.
        `InputError`: When the folder is taken, the input changed between two runs, or no record can be used.
    """
    output_dir = Path(output_dir)
    settings = {
        "version": 2,
        "num_records": len(records),
        "records": _describe_some(records),
        "max_shard_bytes": parse_size(max_shard_size),
    }
    title = title or output_dir.resolve().name
    render_dataset_card(title, sources or {}, {}, {}, {}, repository)  # what it lacks is found now, not after hours
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"{output_dir} is a file: name a folder to write to.")
    with (
        locking_folder(output_dir, "publishes a data set"),
        input_errors(
            f"{output_dir} could not be finished ({{}}): fix that and run the same again, it goes on from here."
        ),
    ):
        _prepare(output_dir, settings)
        report = SkipReport(output_dir / REPORT_FILE, max_skip_share, required_sources)
        writer = _Writer(records, output_dir, settings["max_shard_bytes"], report)
        with tqdm(total=len(records), desc="Publishing", unit="record", disable=True if quiet else None) as bar:
            shards = writer.write(bar)
        if not report.num_used:
            raise InputError(f"of {format_count(len(records), 'record')} none is of use: see {report.path}.")
        report.check_total(report.num_skipped, len(records))
        published = _finish(output_dir, shards)
        if is_benchmark:
            tasks = [task for _, task in published.counts]
            write_text_whole(output_dir / BENCHMARK_FILE, write_benchmark_yaml(title, tasks))
        _write_card(published, shards, title, sources or {}, repository)
    return published


def _write_card(
    published: PublishedDataset,
    shards: list[_Shard],
    title: str,
    sources: Mapping[str, SourceFacts],
    repository: str | None,
) -> None:
    media_types = sum((Counter(shard.media_types) for shard in shards), Counter())
    kinds = {kind for shard in shards for kind in shard.kinds}
    # A column has one type, so a data set with clips and pictures keeps plain {bytes, path}.
    features = get_features(kinds.pop()) if len(kinds) == 1 else None
    card = render_dataset_card(title, sources, published.counts, published.skips, media_types, repository, features)
    write_text_whole(published.path / "README.md", card)


def find_unlicensed(names: Collection[str], sources: Mapping[str, SourceFacts]) -> list[str]:
    """Return the sources whose licence is not known."""
    facts = {name: sources.get(name, SourceFacts(name)) for name in names}
    return sorted(name for name, fact in facts.items() if fact.license.lower() == UNKNOWN_LICENSE)


class _Writer:
    """Writes the shards of one folder, those that are not there yet."""

    def __init__(self, records: Records, output_dir: Path, max_bytes: int, report: SkipReport):
        self.records, self.output_dir, self.max_bytes, self.report = records, output_dir, max_bytes, report
        self.state = output_dir / STATE_FOLDER

    def write(self, bar: tqdm) -> list[_Shard]:
        shards: list[_Shard] = []
        while (first := shards[-1].end if shards else 0) < len(self.records):
            number = len(shards)
            note = self.state / f"shard-{number:05d}.json"
            shard = _Shard.load(note)
            if shard is not None and shard.first == first and _is_whole(self.output_dir, number, shard):
                self._check_unchanged(shard)
                for skipped in shard.skipped:
                    self.report.add(skipped)
                self.report.count_used(sum(count for _, _, count in shard.rows))
                bar.update(shard.end - first)
            else:
                shard = self._write_shard(number, first, bar)
                write_json_whole(note, asdict(shard))
            shards.append(shard)
        return shards

    def _check_unchanged(self, shard: _Shard) -> None:
        digest = hashlib.sha256()
        for index in range(shard.first, min(shard.end, len(self.records))):
            digest.update(_describe(self.records[index]))
        if digest.hexdigest() != shard.fingerprint:
            raise InputError(
                f"records {shard.first} to {shard.end - 1} or their media changed since they were written to "
                f"{self.output_dir}: remove that folder, or name another."
            )

    def _write_shard(self, number: int, first: int, bar: tqdm) -> _Shard:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = _get_staged(self.output_dir, number)
        schema = get_features().arrow_schema
        options = {"use_dictionary": ["source", "task", "media_type"], "write_statistics": False}
        options["compression"] = dict.fromkeys(_COMPRESSED, "zstd")
        shard, rows, kinds, digest = _Shard(first, first, ""), Counter(), set(), hashlib.sha256()
        num_bytes, group, group_bytes = 0, [], 0

        def write_group() -> None:
            if group:
                writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=len(group))

        # Our own writer, not that of `datasets`: it goes on shard by shard, bounds row groups by their bytes, and
        # leaves media, which are compressed already, as they are.
        with writing_whole(path) as temporary_path, pq.ParquetWriter(temporary_path, schema, **options) as writer:
            while shard.end < len(self.records):
                record = self.records[shard.end]
                description = _describe(record)
                row, size = None, 0
                if isinstance(record, Sample):
                    try:
                        row, size = _make_row(record)
                    except RecordError as error:
                        record = SkippedRecord.from_error(record.id, record.source, error)
                if row is None:
                    shard.skipped.append(record)
                    self.report.add(record)
                elif rows and num_bytes + size > self.max_bytes:
                    break
                else:
                    if group_bytes + size > ROW_GROUP_BYTES:
                        write_group()
                        group, group_bytes = [], 0
                    group.append(row)
                    group_bytes += size
                    num_bytes += size
                    rows[record.source, record.task] += 1
                    shard.media_types[record.media_type] = shard.media_types.get(record.media_type, 0) + 1
                    if record.media:
                        # A clip of several media is one whose frames are pictures.
                        is_clip = record.media_type == "video" and len(record.media) == 1
                        kinds.add("video" if is_clip else "image")
                    self.report.use(record.id, record.source, record.notes)
                digest.update(description)
                shard.end += 1
                bar.update()
            write_group()
        shard.fingerprint = digest.hexdigest()
        shard.rows = [(source, task, count) for (source, task), count in sorted(rows.items())]
        shard.kinds = sorted(kinds)
        if rows:
            shard.num_bytes = path.stat().st_size
        else:
            path.unlink()
        return shard


def _make_row(sample: Sample) -> tuple[dict[str, Any], int]:
    """Return a record as a row with its media inside, and its size in bytes."""
    check_media(sample, "header")
    if any(item.frames is not None for item in sample.media):
        sample = encode_sample(sample)
    try:
        num_bytes = sum(
            os.path.getsize(item.path) if item.content is None else len(item.content) for item in sample.media
        )
        if num_bytes > MAX_MEDIA_BYTES:
            problem = f"{num_bytes} bytes, more than {MAX_MEDIA_BYTES}: cut or compress them"
            raise RecordError("oversized_media", "media", f"the media have {problem}.")
        media = [
            Media(_make_name(item.path), Path(item.path).read_bytes() if item.content is None else item.content)
            for item in sample.media
        ]
    except OSError as error:
        raise RecordError("unreadable_media", "media", f"media cannot be read ({error}): fix them.") from error
    row = replace(sample, media=tuple(media)).to_row()
    return row, num_bytes + sum(len(message["content"].encode()) for message in sample.messages)


def _make_name(path: str | None) -> str | None:
    """Return the name under which a file is published, which says nothing of the folders of this machine."""
    if path is None:
        return None
    name = path.replace("\\", "/")
    is_absolute = name.startswith("/") or re.match("[A-Za-z]:/", name)
    return name.rsplit("/", 1)[-1] if is_absolute else name


def _describe_some(records: Records) -> str:
    """Return a short name for records by those at a few places, so that others in the same number are told apart."""
    digest = hashlib.sha256()
    places = {place * (len(records) - 1) // _NUM_NAMED for place in range(_NUM_NAMED + 1)} if records else ()
    for index in sorted(places):
        record = records[index]
        digest.update(json.dumps([record.source, record.id]).encode())
    return digest.hexdigest()[:16]


def _describe(record: Sample | SkippedRecord) -> bytes:
    """Describe a record and the state of its media, so that a change of either can be found."""
    if isinstance(record, SkippedRecord):
        return json.dumps(asdict(record)).encode()
    media = [_describe_medium(item) for item in record.media]
    messages = [(message["role"], message["content"]) for message in record.messages]
    fields = (record.id, record.source, record.task, record.media_type, messages, record.frame_range, media)
    times = (record.video_fps, record.frame_seconds)
    return json.dumps(fields if times == (None, None) else (*fields, *times)).encode()


def _describe_medium(item: Media) -> list[Any]:
    if item.frames is not None:
        return [item.path, item.frames.shape, hashlib.sha256(item.frames.tobytes()).hexdigest()]
    if item.content is not None:
        return [item.path, hashlib.sha256(item.content).hexdigest()]
    try:
        status = os.stat(item.path)
    except OSError:
        return [item.path, None]
    return [item.path, status.st_size, status.st_mtime_ns]


def _prepare(output_dir: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder, or refuse one that holds anything but this work."""
    state = output_dir / STATE_FOLDER
    manifest = RunManifest(state / MANIFEST_FILE, settings, output=output_dir)
    if not manifest.load():
        if output_dir.exists() and any(path != state and not is_leftover(path) for path in output_dir.iterdir()):
            raise InputError(
                f"{output_dir} is not empty, and nothing is overwritten: name another folder, or empty it."
            )
        manifest.save()
        return
    for folder in (state, output_dir):
        remove_leftovers(folder)
    (output_dir / REPORT_FILE).unlink(missing_ok=True)  # written anew, from the notes and from what is to come


def _get_staged(output_dir: Path, number: int) -> Path:
    return output_dir / STATE_FOLDER / f"shard-{number:05d}.parquet"


def _is_whole(output_dir: Path, number: int, shard: _Shard) -> bool:
    """Tell whether the file of a shard is on the disk, under its first or under its last name."""
    if not shard.num_bytes:
        return True
    final = (output_dir / "data").glob(f"train-{number:05d}-of-*.parquet")
    places = (_get_staged(output_dir, number), *final)
    return any(path.is_file() and path.stat().st_size == shard.num_bytes for path in places)


def _finish(output_dir: Path, shards: list[_Shard]) -> PublishedDataset:
    """Give the shards their last names."""
    (output_dir / "data").mkdir(exist_ok=True)
    filled = [number for number, shard in enumerate(shards) if shard.num_bytes]
    paths = []
    for number in filled:
        path = output_dir / "data" / f"train-{number:05d}-of-{len(filled):05d}.parquet"
        if _get_staged(output_dir, number).is_file():
            move_whole(_get_staged(output_dir, number), path)
        paths.append(path)
    counts, skips = Counter(), Counter()
    for shard in shards:
        for source, task, count in shard.rows:
            counts[source, task] += count
        skips.update((note.source, note.reason) for note in shard.skipped)
    return PublishedDataset(output_dir, tuple(paths), counts, skips, sum(path.stat().st_size for path in paths))
