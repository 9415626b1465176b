"""Any file of annotations that a reader reads as a benchmark: those published, and one's own."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...data.annotations import Annotation
from ...data.media_folder import MediaFolder
from ...data.readers.base import FileReader, Reader
from ...data.readers.registry import guess_format, open_reader
from ...data.sample_writing import DEFAULT_NUM_FRAMES
from ...data.samples import Media, Sample
from ...data.skips import RecordError, make_error
from ...processing import GroundingResult, InputError, MediaInfo
from ..protocols import PROTOCOLS, Protocol
from ..truths import make_truth
from .base import Benchmark
from .catalogue import KNOWN_BENCHMARKS, check_name

# Who else scores a format, beside our own protocol and the published one.
_PROTOCOLS: Mapping[str, tuple[str, ...]] = {
    "hc_stvg": ("community",),
    "v_star": ("v_star",),
    "vidstg": ("community",),
    "vue_stg": ("vue",),
}
# Protocols that score every frame or second of a clip, and not those that the model saw.
_WHOLE_CLIPS = ("community", "v_star", "vue")


class AbsentMedium(NamedTuple):
    """An item whose medium is not there: its name, and what was looked for."""

    id: str
    detail: str


class _Item(NamedTuple):
    """Where an item stands in the file, its task, and the name of its clip or image."""

    place: int
    task: str
    medium: str | None


class _LenientFolder(MediaFolder):
    """Notes what is not there, so that the rest of an annotation is read all the same."""

    def __init__(self, folder: MediaFolder):
        self.path = folder.path
        self.absent: str | None = None

    def open_media(self, name: Any, media_type: str, field: str = "media") -> tuple[Media, ...]:
        try:
            return super().open_media(name, media_type, field)
        except RecordError as error:
            if error.reason != "missing_media":
                raise
            self.absent = str(error)
            return (Media(path=name),)


class AnnotationFile(Benchmark):
    """
    The items of a file of annotations whose media are there.

    What is absent is found before anything is asked. Items whose media are absent are not asked and are in no metric,
    which the name of the benchmark then says; annotations that nobody could be scored by are left out and counted. A
    file that cannot be decoded, or that does not fit its annotation, counts as 0.

    Args:
        reader (`Reader`): The records.
        name (`str`): Name for reports.
        format (`str`, *optional*, defaults to `""`): Format of the annotations, which says what protocols apply.
        part (`str`, *optional*, defaults to `""`): What names of items have to have in them.
        tasks (`Sequence[str]`, *optional*): Tasks to ask; all of them by default.

    Attributes:
        absent (`list[AbsentMedium]`): Items whose media are not there.
        unusable (`list[tuple[str, str]]`): Name and reason of each that cannot be scored for anyone.

    Raises:
        `InputError`: If nothing is left to be asked.

    Example:

    ```python
    >>> benchmark = AnnotationFile(open_reader("user_jsonl", "mine.jsonl", "mine", "clips"), "mine")
    >>> len(benchmark), len(benchmark.absent)
    (40, 2)
    ```
    """

    def __init__(
        self, reader: Reader, name: str, format: str = "", part: str = "", tasks: Sequence[str] | None = None
    ):
        self.annotations = format
        self.protocols = ("default", "reference", *_PROTOCOLS.get(format, ()))
        self.absent: list[AbsentMedium] = []
        self.unusable: list[tuple[str, str]] = []
        self._reader = reader
        self._items: dict[str, _Item] = {}
        self._seen: set[str] = set()
        self._digest = hashlib.sha256()
        scored = [task for task in PROTOCOLS["default"].list_tasks() if tasks is None or task in tasks]
        folder = reader.folder if self._has_annotations else None
        for place in range(len(reader)):
            id = reader.get_id(place)
            if part in id:
                self._add(place, id, scored)
        if folder is not None:
            reader.folder = folder
        self._names = list(self._items)
        num_all = len(self._names) + len(self.absent)
        self.name = f"{name} (partial: {len(self):,} of {num_all:,} items)" if self.absent else name
        if not self._items:
            first = next((each[1] for each in (*self.absent, *self.unusable)), "it holds no such records")
            raise InputError(
                f"no item of {name} can be asked: the media of {len(self.absent):,} are absent and "
                f"{len(self.unusable):,} cannot be scored; the first: {first}"
            )

    @property
    def _has_annotations(self) -> bool:
        return isinstance(self._reader, FileReader) and type(self._reader).annotate is not FileReader.annotate

    def _add(self, place: int, id: str, scored: Sequence[str]) -> None:
        """Take an item, or note why not."""
        try:
            if id in self._seen:
                raise make_error("id", id, "another item has this name; give each its own")
            self._seen.add(id)
            record, absent = self._look(place)
        except RecordError as error:
            if error.reason == "missing_media":
                self.absent.append(AbsentMedium(id, str(error)))
            else:
                self.unusable.append((id, str(error)))
            return
        if absent is not None:
            self.absent.append(AbsentMedium(id, absent))
        elif record.task in scored:
            self._items[id] = _Item(place, record.task, record.media[0].path if record.media else None)
            said = (record.query, record.spans) if isinstance(record, Annotation) else record.messages
            self._digest.update(repr((id, record.task, said)).encode())
        else:
            self.unusable.append((id, f"task is {record.task}, which is not asked here or not scored."))

    def _look(self, place: int) -> tuple[Annotation | Sample, str | None]:
        """Return what a record says, and what of its media is absent; none is opened."""
        if not self._has_annotations:
            return self._reader.read(place), None
        lenient = self._reader.folder = _LenientFolder(self._reader.folder)
        return self._reader.annotate(self._reader.entries[place]), lenient.absent

    def fit(self, num_frames: int | None, size: int) -> "AnnotationFile":
        """Let records be written for a model that sees so many frames of a clip."""
        self._reader.num_frames = num_frames or DEFAULT_NUM_FRAMES
        return self

    def __len__(self) -> int:
        return len(self._names)

    def get_id(self, index: int) -> str:
        """Return the name of an item, as the file has it."""
        return self._names[index]

    def get_task(self, index: int) -> str:
        """Return the task of an item."""
        return self._items[self._names[index]].task

    def get_groups(self, index: int) -> dict[str, str]:
        """Return the groups of an item, as its reader knows them."""
        return self._reader.get_groups(self._items[self._names[index]].place)

    def get_medium(self, index: int) -> str | None:
        """Return the path of the clip or image of an item."""
        return self._items[self._names[index]].medium

    def read(self, index: int) -> Sample:
        """Read one item."""
        return self._reader.read(self._items[self._names[index]].place)

    def read_truth(
        self, index: int, sample: Sample, media: tuple[MediaInfo, ...], protocol: Protocol
    ) -> GroundingResult:
        """Return what is right about an item: at every frame of the clip, where the protocol scores them all."""
        if protocol.name not in _WHOLE_CLIPS:
            return super().read_truth(index, sample, media, protocol)
        place = self._items[self._names[index]].place
        return make_truth(self._reader.annotate(self._reader.entries[place])).result

    def get_settings(self) -> dict[str, Any]:
        """Return what decides which items these are: a hash of names, tasks and questions; and what is left out."""
        return {
            **super().get_settings(),
            "items": len(self),
            "records": self._digest.hexdigest()[:16],
            "absent_items": len(self.absent),
            "unreadable_records": len(self.unusable),
        }

    def describe(self, most: int = 10) -> str:
        """Say which media are absent and what cannot be scored, with the share that can be asked."""
        lines = []
        if self.absent:
            num_all = len(self) + len(self.absent)
            lines = [
                f"PARTIAL: {len(self):,} of {num_all:,} items ({len(self) / num_all:.1%}) can be asked; the media of "
                f"{len(self.absent):,} are absent and are in no metric:"
            ]
            lines += [f"  {item.id}: {item.detail}" for item in self.absent[:most]]
            lines += [f"  and {len(self.absent) - most:,} more"] if len(self.absent) > most else []
        if self.unusable:
            id, reason = self.unusable[0]
            lines.append(
                f"{len(self.unusable):,} records are not asked, as nobody could be scored by them; {id}: {reason}"
            )
        return "\n".join(lines)


class Source(NamedTuple):
    """Where the annotations of a benchmark are, and how they are read."""

    path: Path  # the file
    format: str
    name: str
    data_folder: Path  # folder of the media
    task: str | None  # what the records are read as
    part: str  # what names of items have to have in them
    options: dict[str, Any]  # what else the reader takes


def find_source(
    name: str,
    data: str | Path | None = None,
    format: str | None = None,
    task: str | None = None,
    vidor_folder: str | Path | None = None,
) -> Source:
    """
    Find the annotations of a benchmark, one of `KNOWN_BENCHMARKS` or the path of a file.

    `data` is the folder of the media, and of a known benchmark that of its annotations; `vidor_folder` has those of
    VidOR, for VidSTG, and is `data` of a known benchmark. An unknown name, or files that are not there, are an
    `InputError`.
    """
    check_name(name)
    known = KNOWN_BENCHMARKS.get(name)
    path = Path(name) if known is None else known.find_file(data)
    if known is not None and known.takes_folder:
        path = path.parent
    format = format or (known and known.format) or guess_format(path)
    if known is not None and format == "vidstg":
        vidor_folder = vidor_folder or data
    folder = Path(data) if data is not None else path if path.is_dir() else path.parent
    options = {} if vidor_folder is None else {"vidor_folder": vidor_folder}
    title = path.name if known is None else known.name
    return Source(path, format, title, folder, task or (known and known.task), known.part if known else "", options)


def open_benchmark(source: Source, tasks: Sequence[str] | None = None) -> AnnotationFile:
    """Open the items of a benchmark, see `AnnotationFile`."""
    reader = open_reader(source.format, source.path, source.name, source.data_folder, source.task, **source.options)
    return AnnotationFile(reader, source.name, source.format, source.part, tasks)
