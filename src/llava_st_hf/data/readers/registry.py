"""The formats of annotations that can be read, by name."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ...processing.media_llava_st import InputError
from ...processing.tasks_llava_st import TASKS
from ..skips import RecordError, show
from .base import FileReader, Reader
from .canonical import CanonicalReader
from .charades_sta import CharadesStaReader
from .coco import CocoReader
from .hc_stvg import HcStvgReader
from .json_files import JsonRecords, load_json
from .refcoco import RefCocoReader
from .st_align import StAlignReader
from .st_align_benchmark import StAlignBenchmarkReader
from .user_jsonl import UserJsonlReader
from .vidstg import VidStgReader


class Format(NamedTuple):
    """
    A format of annotations.

    Args:
        name (`str`): Name, as in `format: coco` of a mixture.
        description (`str`): What it is, in one line.
        reader (`type[FileReader]`): What reads it.
        is_meant (`Callable[[Mapping[str, Any]], bool]`):
            Tells the format by the first record of a file, or by the whole of one that is a single object.
        endings (`tuple[str, ...]`, *optional*, defaults to `()`): Endings of files that are always of this format.
    """

    name: str
    description: str
    reader: type[FileReader]
    is_meant: Callable[[Mapping[str, Any]], bool]
    endings: tuple[str, ...] = ()


def _has(*keys: str, **parts: set[str]) -> Callable[[Mapping[str, Any]], bool]:
    """Tell a format by keys, and by those of the first element of a list, or of an object, that stands under a key."""

    def is_meant(first: Mapping[str, Any]) -> bool:
        found = {name: first.get(name) for name in parts}
        found = {name: part[0] if isinstance(part, list) and part else part for name, part in found.items()}
        return set(keys) <= first.keys() and all(
            isinstance(part, Mapping) and parts[name] <= part.keys() for name, part in found.items()
        )

    return is_meant


# In the order in which they are tried, as a format may have all the keys of a later one.
_FORMATS = (
    Format(
        "st_align",
        "ST-Align release: conversations with placeholders and variables (JSON, JSONL)",
        StAlignReader,
        lambda first: "conversations" in first and "video_path" not in first,
    ),
    Format(
        "canonical",
        "records in the canonical form (JSONL, Parquet)",
        CanonicalReader,
        _has("task", "media_type", "messages"),
        endings=(".parquet",),
    ),
    Format(
        "st_align_benchmark",
        "ST-Align benchmark: stvg.json, svg.json, elc.json",
        StAlignBenchmarkReader,
        _has("video_path", "conversations", meta={"time_token", "spatial_token"}),
    ),
    Format(
        "charades_sta",
        "Charades-STA: lines of the release (.txt), or JSON with fractions",
        CharadesStaReader,
        _has("image_id", "caption", "timestamp"),
        endings=(".txt",),
    ),
    Format(
        "refcoco",
        "RefCOCO, RefCOCO+, RefCOCOg: images with a caption, a box for each (JSON)",
        RefCocoReader,
        _has("annotations", images={"file_name", "caption"}),
    ),
    Format(
        "vidstg",
        "VidSTG annotations, with the boxes of VidOR (JSON)",
        VidStgReader,
        _has("vid", "used_segment", "temporal_gt"),
    ),
    Format(
        "hc_stvg",
        "HC-STVG annotations, version 1 and 2 (JSON)",
        HcStvgReader,
        lambda first: bool(first) and _has(**{min(first): {"bbox", "st_frame"}})(first),
    ),
    Format(
        "user_jsonl",
        "your own annotations in seconds and pixels (JSONL)",
        UserJsonlReader,
        lambda first: (
            {"video", "image"} & first.keys()
            and {"caption", *chain(*(task.record_fields for task in TASKS.values()))} & first.keys()
        ),
    ),
    Format(
        "coco",
        "COCO-style boxes of named objects (JSON)",
        CocoReader,
        _has("images", "annotations"),
    ),
)
FORMATS: Mapping[str, Format] = MappingProxyType({format.name: format for format in _FORMATS})
_COMMON_OPTIONS = {field.name for field in fields(FileReader)}


def open_reader(
    format: str,
    path: str | Path,
    source: str,
    data_folder: str | Path | None = None,
    task: str | None = None,
    **options: Any,
) -> Reader:
    """
    Open a file of annotations.

    Args:
        format (`str`): One of `FORMATS`; `guess_format` tells it from the file.
        path (`str` or `Path`): The file.
        source (`str`): Name of the data set.
        data_folder (`str` or `Path`, *optional*): Folder of the media; no record may name media outside of it.
        task (`str`, *optional*): Task of the records, where the format leaves a choice.
        options: What the reader of the format takes beside these.

    Returns:
        `Reader`: The records.

    Raises:
        `InputError`: For an unknown format, task or option, or a file that cannot be read as this format.

    Example:

    ```python
    >>> reader = open_reader("user_jsonl", "mine.jsonl", "mine", data_folder="clips", num_frames=20)
    >>> len(reader)
    12
    ```
    """
    if not isinstance(format, str) or format not in FORMATS:
        raise InputError(f"format is {show(format)}: choose one of {', '.join(FORMATS)}.", field="format")
    known = list_options(format)
    if unknown := [name for name in options if name not in known]:
        raise InputError(
            f"{unknown[0]} is no option of the format {format}: it takes {', '.join(known) or 'no options'}.",
            field=unknown[0],
        )
    return FORMATS[format].reader(path, source, data_folder=data_folder, task=task, **options)


def list_options(format: str) -> list[str]:
    """Return the names of the options that the reader of a format takes, such as `num_frames`."""
    return [field.name for field in fields(FORMATS[format].reader) if field.name not in _COMMON_OPTIONS]


def guess_format(path: str | Path) -> str:
    """
    Tell the format of a file from its ending and the keys of its first record.

    Args:
        path (`str` or `Path`): The file; a folder or an address is one of canonical records.

    Returns:
        `str`: One of `FORMATS`.

    Raises:
        `InputError`: If the file cannot be read, holds no record, or nothing known has such keys.

    Example:

    ```python
    >>> guess_format("charades_sta_test.txt")
    'charades_sta'
    ```
    """
    if "://" in str(path) or Path(path).is_dir():
        return "canonical"
    path = Path(path)
    for format in FORMATS.values():
        if path.suffix.lower() in format.endings:
            return format.name
    first = _read_first(path)
    for format in FORMATS.values():
        if format.is_meant(first):
            return format.name
    seen = ", ".join(sorted(first)[:20]) or "none"
    raise InputError(
        f"the format of {path} cannot be told; the keys of its first record are {seen}. Give format=..., one of "
        f"{', '.join(FORMATS)}."
    )


def _read_first(path: Path) -> Mapping[str, Any]:
    """Return the first record of a file, or the whole of one that is an object; no keys for anything else."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        if path.suffix.lower() == ".json" and head.startswith(b"{"):
            first = load_json(path)
        else:
            records = JsonRecords(path)
            if not len(records):
                raise InputError(f"{path} holds no record: fix the file, or give its format=...")
            first = records[0]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Fix its path.") from error
    except RecordError as error:
        raise InputError(
            f"the format of {path} cannot be told, as its first record cannot be read: {error} Or give format=..."
        ) from error
    return first if isinstance(first, Mapping) else {}


__all__ = ["FORMATS", "Format", "guess_format", "list_options", "open_reader"]
