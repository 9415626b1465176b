"""What every reader of annotations is: a sequence of records that can be read one by one, in any order."""

import hashlib
import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from ...processing import TASKS, InputError
from ...processing.question_wordings_llava_st import normalize_event
from ...processing.video_requests_llava_st import list_times
from ..annotation_checks import check_count
from ..annotations import Annotation
from ..media_folder import MediaFolder
from ..sample_writing import DEFAULT_NUM_FRAMES, make_sample
from ..samples import Sample, get_features
from ..skips import RecordError, SkippedRecord, SkipReport, make_error, show
from .json_files import JsonRecords

logger = logging.getLogger(__name__)
Annotated = TypeVar("Annotated", Annotation, Sample)


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

    def get_groups(self, index: int) -> dict[str, str]:
        """Return the groups that a record is in by their kind, such as its sub-task, where the file has some."""
        return {}

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
        index = int(index)  # the differences of numpy's wrap around
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
                report.use(record.id, record.source, record.notes)
                yield record.to_row()
            else:
                report.note(record)


def name_event(sentence: str, field: str = "query") -> str:
    """Return a sentence as published questions name an event: in lower case, without the full stop at its end."""
    named = normalize_event(sentence)
    if not named:
        raise make_error(field, sentence, "give a sentence")
    return named


def write_label(label: str) -> str:
    """Return the name of a kind in words: `traffic_light` is a traffic light."""
    return label.replace("_", " ").strip()


class Part(NamedTuple):
    """An entry that is about a part of an element of the file, such as one of its questions."""

    raw: Any  # the element
    name: str | None  # of the record; `None` where the element has none
    part: Any = None  # which part is meant


@dataclass(eq=False)
class FileReader(Reader):
    """
    The records of a file of annotations.

    A format is a subclass, itself a dataclass, that says what its file means: `list_entries` returns the entries of
    the file, one for each record, and `annotate` turns an entry into an `Annotation`. An option of the format is a
    field with a default; of those that all formats have, `list_options` tells which can act.

    The formats of data sets have in common: a file that is no list of records in JSON or JSONL is held in memory; a
    clip is found by its name, with any ending, in `data_folder` or in a folder right below it; a box is clipped to the
    frame; an end behind the video means its end, and is noted; a copy at another frame rate is read by its seconds,
    and one of another length or shape is skipped.

    Args:
        path (`str` or `Path`): The file.
        source (`str`): Name of the data set.
        data_folder (`str` or `Path`, *optional*): Folder of the media; no record may name media outside of it.
        task (`str`, *optional*): Task of the records, one of `tasks`; `default_task` by default.
        video_fps (`float`, *optional*): Frames a second of the clips that are folders of pictures, where the records
            do not say it.
        num_frames (`int`, *optional*, defaults to 100): How many frames of a clip are sampled.
        vary_prompts (`bool`, *optional*, defaults to `True`):
            Whether the SHA-256 of a record's id chooses one of the published wordings of its question, the same one
            in each run, instead of the first.

    Raises:
        `InputError`: For a file that cannot be read as this format, or an option with a value that it cannot have.

    Example:

    ```python
    >>> @dataclass(eq=False)
    ... class EventsReader(FileReader):
    ...     tasks = ("tvg",)
    ...     default_task = "tvg"
    ...
    ...     def annotate(self, entry):  # {"clip": "a.mp4", "event": "a dog runs", "seconds": [1.0, 2.5]}
    ...         span = AnnotatedSpan(require(entry, "seconds"), field="seconds")
    ...         media = self.folder.open_media(require(entry, "clip"), "video", "clip")
    ...         query = require_text(entry, "event")
    ...         return Annotation(task="tvg", media_type="video", media=media, query=query, spans=(span,))
    ```
    """

    path: str | Path
    source: str
    data_folder: str | Path | None = None
    task: str | None = None
    video_fps: float | None = field(default=None, kw_only=True)
    num_frames: int = field(default=DEFAULT_NUM_FRAMES, kw_only=True)
    vary_prompts: bool = field(default=True, kw_only=True)

    # What the records may be read as, and what they are if nothing is said; `None` where each record tells.
    tasks: ClassVar[tuple[str, ...]] = tuple(TASKS)
    default_task: ClassVar[str | None] = None
    id_key: ClassVar[str] = "id"  # where an entry has its name
    has_prompts: ClassVar[bool] = False  # whether the file has the whole question of each record

    def __post_init__(self):
        self.task = self.default_task if self.task is None else self.task
        if self.task is not None and self.task not in self.tasks:
            raise InputError(f"task is {show(self.task)}: choose one of {', '.join(self.tasks)}.")
        self.num_frames = check_count("num_frames", self.num_frames)
        if self.video_fps is not None:
            list_times("video_fps", self.video_fps, 1)
            if not self.has_clips():
                raise InputError(
                    f"video_fps is {self.video_fps}, but the records are of images: leave it out.", field="video_fps"
                )
        self.folder = MediaFolder(self.data_folder)
        self.entries = self.list_entries()

    @classmethod
    def has_clips(cls) -> bool:
        """Return whether records of the format may be about clips."""
        return any(TASKS[name].media_type != "image" for name in cls.tasks)

    @classmethod
    def list_options(cls) -> list[str]:
        """Return the names of the options of the format: of the common ones those that can act."""
        tasks = [TASKS[name] for name in cls.tasks]
        # Of what is a conversation already nothing is written.
        is_written = cls.annotate is not FileReader.annotate
        can_act = {
            "video_fps": cls.has_clips(),
            "num_frames": is_written and cls.has_clips(),
            "vary_prompts": is_written and not cls.has_prompts and any(len(task.prompts) > 1 for task in tasks),
            **dict.fromkeys(("path", "source", "data_folder", "task"), False),
        }
        return [part.name for part in fields(cls) if can_act.get(part.name, True)]

    def list_entries(self) -> Sequence[Any]:
        """Return the entries of the file, one for each record; those of a JSON or JSONL file by default."""
        return JsonRecords(self.path)

    def annotate(self, entry: Any) -> Annotation:
        """
        Return what an entry says.

        Raises:
            `RecordError`: With the field, its value and the fix.
        """
        raise NotImplementedError

    def get_entry_id(self, entry: Any) -> Any:
        """Return the name of an entry as the file has it, a text or a number; `None` where it has none."""
        if isinstance(entry, Part):
            return entry.name
        return entry.get(self.id_key) if isinstance(entry, Mapping) else None

    def __len__(self) -> int:
        return len(self.entries)

    def get_id(self, index: int) -> str:
        """Return the name of a record, or its number where it has none or cannot be read."""
        try:
            return self.read_id(self.entries[index], index)
        except RecordError:
            return super().get_id(index)

    def read_id(self, entry: Any, index: int) -> str:
        """Return the name of an entry; raises `RecordError` for one that cannot be a name."""
        value = self.get_entry_id(entry)
        if value is None:
            return super().get_id(index)
        if isinstance(value, bool) or not isinstance(value, (str, Integral)) or not str(value).strip():
            raise make_error("id", value, "give a text or a whole number, or leave it out")
        return str(value)

    def read(self, index: int) -> Sample:
        """Read one record; raises `RecordError` if it cannot be used."""
        entry = self.entries[index]
        record_id = self.read_id(entry, index)
        annotation = self.time_frames(self.annotate(entry))
        return make_sample(annotation, record_id, self.source, self.num_frames, self.choose_variant(record_id))

    def time_frames(self, record: "Annotated") -> "Annotated":
        """Return an annotation or a sample with the reader's `video_fps`, where it has pictures and no times."""
        is_timed = record.video_fps is not None or record.frame_seconds is not None
        if self.video_fps is None or is_timed or record.media_type != "video" or len(record.media) < 2:
            return record
        return replace(record, video_fps=self.video_fps)

    def warn_of_left_out(self, num_left_out: int, num_all: int, kind: str) -> None:
        """Say in the log how many annotations of objects make no record."""
        if num_left_out:
            logger.warning(
                "%s: %d of %d %s make no record of the task %s: crowds, or objects that their name alone does not "
                "tell from others.",
                *(self.path, num_left_out, num_all, kind, self.task),
            )

    def choose_variant(self, record_id: str) -> int:
        """Return the number of the wording that a record gets, see `make_sample`: it depends on its id only."""
        if not self.vary_prompts:
            return 0
        digest = hashlib.sha256(record_id.encode("utf-8", "backslashreplace")).digest()
        return int.from_bytes(digest[:8], "big")
