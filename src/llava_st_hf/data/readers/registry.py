"""The formats of annotations that can be read, by name."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ...processing.media_llava_st import InputError
from ..skips import RecordError, show
from .base import Reader
from .canonical import CanonicalReader
from .charades_sta import CharadesStaReader
from .coco import CocoReader
from .hc_stvg import HcStvgReader
from .json_files import JsonRecords
from .refcoco import RefCocoReader, load_json
from .st_align import StAlignReader
from .st_align_benchmark import StAlignBenchmarkReader
from .user_jsonl import RECORD_FIELDS, UserJsonlReader
from .vidstg import VidStgReader


class Format(NamedTuple):
    """
    A format of annotations.

    Args:
        description (`str`): What it is, in one line.
        make_reader (`Callable`): Opens a file of it: path, source, data_folder, task, and options of its own.
    """

    description: str
    make_reader: Callable[..., Reader]


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "st_align": Format(
            "ST-Align release: conversations with placeholders and variables (JSON, JSONL)", StAlignReader
        ),
        "canonical": Format("records in the canonical form (JSONL, Parquet)", CanonicalReader),
        "st_align_benchmark": Format("ST-Align benchmark: stvg.json, svg.json, elc.json", StAlignBenchmarkReader),
        "charades_sta": Format("Charades-STA: lines of the release (.txt), or JSON with fractions", CharadesStaReader),
        "refcoco": Format("RefCOCO, RefCOCO+, RefCOCOg: images with a caption, a box for each (JSON)", RefCocoReader),
        "vidstg": Format("VidSTG annotations, with the boxes of VidOR (JSON)", VidStgReader),
        "hc_stvg": Format("HC-STVG annotations, version 1 and 2 (JSON)", HcStvgReader),
        "user_jsonl": Format("your own annotations in seconds and pixels (JSONL)", UserJsonlReader),
        "coco": Format("COCO-style boxes of named objects (JSON)", CocoReader),
    }
)
_COMMON_OPTIONS = ("path", "source", "data_folder", "task")


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
        raise InputError(f"format is {show(format)}: choose one of {', '.join(FORMATS)}.")
    make_reader, known = FORMATS[format].make_reader, list_options(format)
    if unknown := [name for name in options if name not in known]:
        raise InputError(
            f"{unknown[0]} is no option of the format {format}: it takes {', '.join(known) or 'no options'}."
        )
    return make_reader(path, source, data_folder=data_folder, task=task, **options)


def list_options(format: str) -> list[str]:
    """Return the names of the options that the reader of a format takes, such as `num_frames`."""
    return [name for name in inspect.signature(FORMATS[format].make_reader).parameters if name not in _COMMON_OPTIONS]


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
    is_address = "://" in str(path)
    path = Path(path)
    if is_address or path.is_dir() or path.suffix.lower() == ".parquet":
        return "canonical"
    if path.suffix.lower() == ".txt":
        return "charades_sta"
    first, keys = _read_first(path)
    for name, is_meant in _SIGNS.items():
        if is_meant(first, keys):
            return name
    seen = ", ".join(sorted(keys)[:20]) or "none"
    raise InputError(
        f"the format of {path} cannot be told; the keys of its first record are {seen}. Give format=..., one of "
        f"{', '.join(FORMATS)}."
    )


def _has_part(first: Mapping[str, Any], name: str, keys: set[str]) -> bool:
    """Return whether the first element of a list, or the first value of an object, has all of some keys."""
    part = first.get(name)
    part = part[0] if isinstance(part, list) and part else part
    return isinstance(part, Mapping) and keys <= part.keys()


# In this order, as a format may have all the keys of another one.
_SIGNS: dict[str, Callable[[Mapping[str, Any], set[str]], bool]] = {
    "canonical": lambda first, keys: {"task", "media_type", "messages"} <= keys,
    "st_align_benchmark": lambda first, keys: (
        {"video_path", "conversations"} <= keys and _has_part(first, "meta", {"time_token", "spatial_token"})
    ),
    "st_align": lambda first, keys: "conversations" in keys and "video_path" not in keys,
    "charades_sta": lambda first, keys: {"image_id", "caption", "timestamp"} <= keys,
    "vidstg": lambda first, keys: {"vid", "used_segment", "temporal_gt"} <= keys,
    "refcoco": lambda first, keys: (
        {"images", "annotations"} <= keys and _has_part(first, "images", {"file_name", "caption"})
    ),
    "coco": lambda first, keys: {"images", "annotations"} <= keys,
    "hc_stvg": lambda first, keys: bool(keys) and _has_part(first, min(keys), {"bbox", "st_frame"}),
    "user_jsonl": lambda first, keys: (
        bool(keys & {"video", "image"})
        and bool(keys & {"caption", *(f for fields in RECORD_FIELDS.values() for f in fields)})
    ),
}


def _read_first(path: Path) -> tuple[Mapping[str, Any], set[str]]:
    """Return the first record of a file, or the whole of one that is an object, and its keys."""
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
    first = first if isinstance(first, Mapping) else {}
    return first, set(first)


__all__ = ["FORMATS", "Format", "guess_format", "list_options", "open_reader"]
