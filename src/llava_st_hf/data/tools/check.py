"""Looks at every record before a training does: what there is, what is missing, how long it is, what does not parse.

Nothing stops the check but an interrupt: records that cannot be used are counted and written down, as in training.
Chunks of records are shared out among processes.
"""

import hashlib
import math
import signal
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from ...processing import InputError, LlavaSTProcessor, LlavaSTVideoProcessor, MediaInfo
from ...processing.media_llava_st import format_count
from ...processing.notation_llava_st import NOTATION, CoordinateVocabulary
from ..media_loading import MAX_FILE_BYTES, check_file, load_media
from ..media_probe import check_headers, probe_media
from ..mixture import open_sources
from ..mixture_spec import MixtureSpec
from ..readers.base import Reader
from ..sample_writing import DEFAULT_NUM_FRAMES
from ..samples import Sample
from ..skips import RecordError, SkippedRecord, SkipReport, record_errors
from ..turns import make_stand_in, read_turns
from .doubts import find_doubts, find_marks, find_unit_doubts, measure_medium

Records = Sequence[Sample | SkippedRecord]  # a reader, a mixture, or a list
DECODE_LEVELS = ("none", "header", "full")  # see `check_media`
_CHUNK = 64  # records
_SMALL = {"height": 16, "width": 16}  # of frames that are decoded but not looked at
_SHOWN = ("count", "minimum", "maximum", "share_at_edges")  # of a `CoordinateRange`


@dataclass
class CoordinateRange:
    """
    The values that one axis has, in one unit.
    """

    count: int = 0  # how many there are
    minimum: float = math.inf  # the smallest
    maximum: float = -math.inf  # the largest
    num_at_edges: int = 0  # how many are 0, or of fractions 0 or 1

    def add(self, value: float, unit: str) -> None:
        """Count one value."""
        self.merge(CoordinateRange(1, value, value, int(value == 0 or (unit == "fraction" and value == 1))))

    def merge(self, other: "CoordinateRange") -> None:
        """Count the values of another range."""
        self.count += other.count
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.num_at_edges += other.num_at_edges

    @property
    def share_at_edges(self) -> float:
        """Share of the values that lie at an edge."""
        return self.num_at_edges / max(self.count, 1)


@dataclass
class CheckSummary:
    """
    What a check found.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # usable records by source and task
    # Records that cannot be used, by source and reason.
    skips: Counter[tuple[str, str]] = field(default_factory=Counter)
    # By task, how many records have so many tokens, media included.
    num_tokens: dict[str, Counter[int]] = field(default_factory=dict)
    # By axis (`t`, `x`, `y`) and unit.
    coordinates: dict[tuple[str, str], CoordinateRange] = field(default_factory=dict)
    # Records with a doubtful answer or medium, by source and kind.
    warnings: Counter[tuple[str, str]] = field(default_factory=Counter)
    # For each of `skips` and `warnings` the first record and what is wrong.
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    id_hashes: dict[str, array] = field(default_factory=dict)  # by source, 8 bytes for the id of each usable record
    # By source, how many records have each of `find_marks`.
    marks: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def num_used(self) -> int:
        """Number of usable records."""
        return self.counts.total()

    @property
    def num_skipped(self) -> int:
        """Number of records that cannot be used."""
        return self.skips.total()

    @property
    def skip_share(self) -> float:
        """Share of the records seen that cannot be used."""
        return self.num_skipped / max(self.num_used + self.num_skipped, 1)

    def merge(self, other: "CheckSummary") -> None:
        """Add what another check found."""
        self.counts.update(other.counts)
        self.skips.update(other.skips)
        self.warnings.update(other.warnings)
        for task, lengths in other.num_tokens.items():
            self.num_tokens.setdefault(task, Counter()).update(lengths)
        for key, values in other.coordinates.items():
            self.coordinates.setdefault(key, CoordinateRange()).merge(values)
        for key, example in other.examples.items():
            self.examples.setdefault(key, example)
        for source, hashes in other.id_hashes.items():
            self.id_hashes.setdefault(source, array("Q")).extend(hashes)
        for source, marks in other.marks.items():
            self.marks.setdefault(source, Counter()).update(marks)

    def warn_of_sources(self) -> None:
        """Warn of what only a whole source shows: ids that several records bear, and units that may be others."""
        for source, marks in self.marks.items():
            for kind, num_records, message in find_unit_doubts(marks):
                self.warnings[source, kind] = num_records
                self.examples[source, kind] = message
        for source, hashes in self.id_hashes.items():
            counts = np.unique(np.frombuffer(hashes, dtype=np.uint64), return_counts=True)[1]
            if num_repeated := int(counts[counts > 1].sum()):
                self.warnings[source, "repeated_id"] = num_repeated
                self.examples[source, "repeated_id"] = "they share an id with another record: give each its own"

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists and numbers, ready for JSON."""
        return {
            "num_used": self.num_used,
            "num_skipped": self.num_skipped,
            "skip_share": self.skip_share,
            "records": [{"source": s, "task": t, "records": n} for (s, t), n in sorted(self.counts.items())],
            "skips": [
                {"source": s, "reason": r, "records": n, "example": self.examples.get((s, r))}
                for (s, r), n in sorted(self.skips.items())
            ],
            "tokens": {task: summarize_counts(lengths) for task, lengths in sorted(self.num_tokens.items())},
            "coordinates": [
                {"axis": axis, "unit": unit, **{name: getattr(values, name) for name in _SHOWN}}
                for (axis, unit), values in sorted(self.coordinates.items())
            ],
            "warnings": [
                {"source": s, "kind": k, "records": n, "example": self.examples[s, k]}
                for (s, k), n in sorted(self.warnings.items())
            ],
        }


def summarize_counts(counts: Counter[int]) -> dict[str, int]:
    """Return minimum, median, 95th percentile and maximum of numbers, given how often each comes (nearest rank)."""
    names = ("minimum", "median", "percentile_95", "maximum")
    ranks = np.percentile(list(counts.elements()), (0, 50, 95, 100), method="inverted_cdf")
    return dict(zip(names, map(int, ranks), strict=True))


class TokenCounter:
    """
    Counts the tokens of records as the processor would write them, without opening their media.

    A processor that samples clips at a rate (`fps`) is the exception: only the file says how many frames that is.
    `num_frames`, `max_length` and `truncation` are those of the collator.
    """

    def __init__(
        self,
        processor: LlavaSTProcessor,
        num_frames: int | None = None,
        max_length: int | None = None,
        truncation: bool = False,
    ):
        self.processor, self.num_frames, self.truncation = processor, num_frames, truncation
        context = int(processor.tokenizer.model_max_length)
        self.max_length = context if max_length is None else min(max_length, context)

    def count(self, sample: Sample, num_frames: int | None = None) -> int:
        """
        Return the number of tokens of a record, media and chat template included; more than allowed are a
        `RecordError`.

        `num_frames` are those that are sampled of its clip, where that is known.
        """
        processor = self.processor
        with record_errors("messages"):
            text = processor.apply_chat_template(sample.to_messages(), tokenize=False)
        # A coordinate is one token, whatever its value; a placeholder stands for one of the tokens of its medium.
        text = NOTATION.replace_coordinates(text, lambda each: CoordinateVocabulary.token(each.kind, 0))
        num_text = len(processor.tokenizer(text, verbose=False)["input_ids"])
        num_media = 0
        if sample.media_type == "video":
            num_frames = num_frames or self.num_frames or processor.video_processor.num_frames
            if num_frames is None:
                num_frames = len(probe_media(sample, None, processor.video_processor)[0].frame_indices)
            num_media = sum(processor.media_token_counter.count_video(num_frames)) - 1
        elif sample.media_type == "image":
            num_media = (processor.media_token_counter.count_image() - 1) * len(sample.media)
        num_tokens = num_text + num_media
        if (num_media if self.truncation else num_tokens) > self.max_length:
            raise RecordError(
                "too_long",
                "messages",
                f"the record has {format_count(num_tokens, 'token')} with its media, and {self.max_length} are "
                "allowed (max_length of the run, model_max_length of the tokenizer): shorten it, or give fewer frames "
                "(num_frames) or images.",
            )
        return num_tokens


def check_media(
    sample: Sample,
    decode: str = "header",
    video_processor: LlavaSTVideoProcessor | None = None,
    num_frames: int | None = None,
) -> tuple[MediaInfo, ...]:
    """
    Check that the media of a record can be used, and return size and time line of each.

    With `decode="none"` the files exist and are not empty, and what is returned are stand-ins, see `make_stand_in`.
    With `"header"` they also open, and their pictures are not too large. With `"full"` every image, and of every clip
    the frames that training would sample (`num_frames`, or what the processor samples), are decoded. Media that are
    missing, empty, too large or not readable raise `RecordError`.
    """
    if decode == "full":
        if num_frames is None and video_processor is None:
            num_frames = DEFAULT_NUM_FRAMES
        return load_media(sample, video_processor or LlavaSTVideoProcessor(size=_SMALL), num_frames).get_infos()
    for index, item in enumerate(sample.media):
        if item.frames is None:
            check_file(item, f"media[{index}]", MAX_FILE_BYTES)
    if decode == "header":
        check_headers(sample)
    return make_stand_in(sample)


def check_records(
    records: Records,
    report: SkipReport,
    *,
    processor: LlavaSTProcessor | TokenCounter | None = None,
    decode: str = "header",
    num_workers: int = 0,
    summary: CheckSummary | None = None,
    progress: Callable[[int], None] | None = None,
) -> CheckSummary:
    """
    Check records, all of them.

    Args:
        records (`Sequence[Sample | SkippedRecord]`): A reader, a mixture or a list.
        report (`SkipReport`): Where records that cannot be used are written down; it may stop the check.
        processor (`LlavaSTProcessor` or `TokenCounter`, *optional*):
            Counts tokens, the second by its own settings; without one they are not counted.
        decode (`str`, *optional*, defaults to `"header"`): How far media are looked into, see `check_media`.
        num_workers (`int`, *optional*, defaults to 0): Processes beside this one; 0 does all here.
        summary (`CheckSummary`, *optional*): Filled as the check goes on, so that an interrupted one says what it saw.
        progress (`Callable[[int], None]`, *optional*): Called with the number of records of each finished chunk.

    Returns:
        `CheckSummary`: What was found; `summary` where one was given.

    Raises:
        `InputError`: For a `decode` that is none of `DECODE_LEVELS`.
    """
    if decode not in DECODE_LEVELS:
        raise InputError(f"decode is {decode!r}: give one of {', '.join(DECODE_LEVELS)}.", field="decode")
    summary = CheckSummary() if summary is None else summary
    size = max(1, min(_CHUNK, len(records) // max(4 * num_workers, 1)))
    chunks = _Chunks(records, processor, decode, size)
    loader = DataLoader(chunks, batch_size=None, num_workers=num_workers, worker_init_fn=_ignore_interrupts)
    for part, skipped in loader:
        summary.merge(part)
        report.count_used(part.num_used)
        for note in skipped:
            summary.examples.setdefault((note.source, note.reason), f"{note.id!r}: {note.detail}")
            report.add(note)
        if progress is not None:
            progress(part.num_used + part.num_skipped)
    summary.warn_of_sources()
    return summary


class ChosenRecords(ConcatDataset):
    """
    The records that a mixture chose, each once, source after source.

    A training visits them in another order, and some of them more often; see `Mixture`.
    """

    def __init__(self, spec: MixtureSpec):
        super().__init__([Subset(source.reader, source.chosen) for source in open_sources(spec)])

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the sources that the records come from, as far as they are known without reading them."""
        return tuple(dict.fromkeys(name for part in self.datasets for name in part.dataset.source_names))

    def iterate(self) -> Iterator[tuple[Sample | SkippedRecord, Reader, int]]:
        """Yield each record with the reader that it comes from, and its number there."""
        for part in self.datasets:
            for number in map(int, part.indices):
                yield part.dataset[number], part.dataset, number


class _Chunks(Dataset):
    """Checks a chunk of records at a time: each item is what was found in one, and the records left out."""

    def __init__(self, records: Records, processor: LlavaSTProcessor | TokenCounter | None, decode: str, size: int):
        self.records, self.decode, self.size = records, decode, size
        self.counter = TokenCounter(processor) if isinstance(processor, LlavaSTProcessor) else processor
        self.video_processor = None if self.counter is None else self.counter.processor.video_processor

    def __len__(self) -> int:
        return -(-len(self.records) // self.size)

    def __getitem__(self, chunk: int) -> tuple[CheckSummary, list[SkippedRecord]]:
        if chunk >= len(self):
            raise IndexError(chunk)
        summary, skipped = CheckSummary(), []
        for index in range(chunk * self.size, min((chunk + 1) * self.size, len(self.records))):
            record = self.records[index]
            if isinstance(record, Sample):
                try:
                    self._check(record, summary)
                    continue
                except RecordError as error:
                    record = SkippedRecord.from_error(record.id, record.source, error)
            skipped.append(record)
            summary.skips[record.source, record.reason] += 1
        return summary, skipped

    def _check(self, sample: Sample, summary: CheckSummary) -> None:
        num_frames = None if self.counter is None else self.counter.num_frames
        media = check_media(sample, self.decode, self.video_processor, num_frames)
        turns = read_turns(sample, media)
        num_tokens = None
        if self.counter is not None:
            num_frames = len(media[0].frame_indices) if media and self.decode == "full" else None
            num_tokens = self.counter.count(sample, num_frames)
        # From here on the record is good: nothing of one that is left out is counted.
        summary.counts[sample.source, sample.task] += 1
        hash = hashlib.blake2b(sample.id.encode(), digest_size=8).digest()
        summary.id_hashes.setdefault(sample.source, array("Q")).append(int.from_bytes(hash, "little"))
        if num_tokens is not None:
            summary.num_tokens.setdefault(sample.task, Counter())[num_tokens] += 1
        for coordinates in sample.find_coordinates():
            for coordinate in coordinates:
                values = summary.coordinates.setdefault((coordinate.kind, coordinate.unit), CoordinateRange())
                values.add(coordinate.value, coordinate.unit)
        marks = find_marks(turns, measure_medium(sample, media, self.decode), sample.box_kind)
        summary.marks.setdefault(sample.source, Counter()).update(marks)
        doubts = {**dict(find_doubts(turns)), **dict(sample.notes)}
        doubts.update(("damaged_media", problem) for medium in media for problem in medium.problems)
        for kind, message in doubts.items():
            summary.warnings[sample.source, kind] += 1
            summary.examples.setdefault((sample.source, kind), f"record {sample.id!r}: {message}")


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C to the main process, which prints what was done and stops the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
