"""The formats of annotations that can be read, by name."""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ...processing import TASKS, InputError
from ..skips import show
from .activitynet_captions import ActivityNetCaptionsReader
from .base import FileReader, Reader
from .canonical import CanonicalReader
from .charades_sta import CharadesStaReader
from .coco import CocoReader
from .coco_video import CocoVideoReader
from .cvat_video import CvatVideoReader
from .first_record import read_first_records, refuse_unreadable
from .hc_stvg import HcStvgReader
from .mot import MotReader
from .mvbench import SUB_TASKS, MvBenchReader
from .qvhighlights import QvHighlightsReader
from .refcoco import RefCocoReader
from .shikra_rec import ShikraRecReader
from .st_align import StAlignReader
from .st_align_benchmark import StAlignBenchmarkReader
from .tacos import TacosReader
from .user_csv import UserCsvReader
from .user_jsonl import HINTS, MEDIA_HINTS, UserJsonlReader, describe_slips
from .v_star import VStarReader
from .vcg import VcgReader
from .video_r1 import VideoR1Reader
from .vidstg import VidStgReader
from .vue_stg import VueStgReader


class Format(NamedTuple):
    """A format of annotations."""

    name: str  # name, as in `format: coco` of a mixture
    description: str  # what it is, in one line
    reader: type[FileReader]  # what reads it
    # Tells the format by the first record of a file, or by the whole of one that is a single object.
    is_meant: Callable[[Mapping[str, Any]], bool]
    # Keys of its records, also such as it need not have: of a file of no known format it is said which is near.
    keys: tuple[str, ...] = ()


class UnreadFormat(NamedTuple):
    """A known format without a reader."""

    name: str
    nearest: str  # the one of `FORMATS` that its annotations are best written in
    is_meant: Callable[[Mapping[str, Any]], bool]  # tells it by the first record, as that of `Format`


_NUM_VALUES = 8  # of an object by the names of videos, of which the first may be empty


def _has(*keys: str, **parts: set[str]) -> Callable[[Mapping[str, Any]], bool]:
    """Tell a format by keys, and by those of the first element of a list, or of an object, that stands under a key."""

    def is_meant(first: Mapping[str, Any]) -> bool:
        found = {name: first.get(name) for name in parts}
        found = {name: part[0] if isinstance(part, list) and part else part for name, part in found.items()}
        return set(keys) <= first.keys() and all(
            isinstance(part, Mapping) and parts[name] <= part.keys() for name, part in found.items()
        )

    return is_meant


def _has_values(*keys: str) -> Callable[[Mapping[str, Any]], bool]:
    """Tell a format, an object by the names of videos, by the keys of one of its first values."""
    return lambda first: any(_has(**{name: set(keys)})(first) for name in islice(first, _NUM_VALUES))


def _has_line(pattern: str) -> Callable[[Mapping[str, Any]], bool]:
    """Tell a format of text by its first line."""
    return lambda first: isinstance(first.get("line"), str) and re.match(pattern, first["line"]) is not None


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
        lambda first: _has("image_id", "caption", "timestamp")(first) or _has_line(r".*\S\s+\S+\s+\S+\s*##")(first),
        keys=("image_id", "caption", "timestamp"),
    ),
    Format(
        "mot",
        "tracks of MOT Challenge: frame, id, left, top, width, height, ... (.txt)",
        MotReader,
        _has_line(r"\s*\d+(\s*[,\s]\s*-?[\d.]+){5,}\s*$"),
    ),
    Format(
        "cvat_video",
        "tracks of CVAT for video (XML)",
        CvatVideoReader,
        lambda first: {"annotations", "track"} <= set(first.get("xml", ())),
    ),
    Format(
        "coco_video",
        "tracks of COCO-VID, TAO and YouTube-VIS (JSON)",
        CocoVideoReader,
        _has("videos", "annotations", annotations={"category_id"}),
        keys=("videos", "annotations", "categories"),
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
        keys=("vid", "frame_count", "fps", "used_segment", "temporal_gt", "captions", "questions"),
    ),
    Format(
        "activitynet_captions",
        "ActivityNet Captions: sentences with times in seconds (JSON)",
        ActivityNetCaptionsReader,
        _has_values("duration", "timestamps", "sentences"),
        keys=("duration", "timestamps", "sentences"),
    ),
    Format(
        "tacos",
        "TaCoS: sentences with times in frames (JSON)",
        TacosReader,
        _has_values("timestamps", "sentences", "fps", "num_frames"),
        keys=("timestamps", "sentences", "fps", "num_frames"),
    ),
    Format(
        "qvhighlights",
        "QVHighlights: queries with several windows each (JSONL)",
        QvHighlightsReader,
        _has("vid", "query", "relevant_windows"),
        keys=("qid", "query", "vid", "duration", "relevant_windows"),
    ),
    Format(
        "vue_stg",
        "VUE-STG: query.csv, video.csv and tubes.csv",
        VueStgReader,
        lambda first: (
            {"query_id", "query_text", "video_id"} <= set(first.get("columns", ()))
            or {"query.csv", "tubes.csv"} <= set(first.get("folder", ()))
        ),
    ),
    Format(
        "v_star",
        "V-STaR: when and where something happens (JSON)",
        VStarReader,
        _has("vid", "temporal_question", "timestamps", "bboxes"),
        keys=("vid", "temporal_question", "timestamps", "spatial_question", "bboxes", "fps", "frame_count"),
    ),
    Format(
        "mvbench",
        "MVBench and its kin: questions with candidates, one of which is the answer (JSON, or a folder of such)",
        MvBenchReader,
        lambda first: (
            _has("video", "question", "candidates", "answer")(first)
            or not {f"{name}.json" for name in SUB_TASKS}.isdisjoint(first.get("folder", ()))
        ),
        keys=("question", "candidates", "answer"),
    ),
    Format(
        "vcg",
        "VCG, the benchmark of Video-ChatGPT: video_name, Q and A (JSON)",
        VcgReader,
        lambda first: _has("video_name", "A")(first) and bool({"Q", "Q1"} & first.keys()),
        keys=("video_name", "Q", "Q1", "Q2", "A"),
    ),
    Format(
        "video_r1",
        "questions of VideoR1 and its kin: problem, and solution with time and boxes (JSON)",
        VideoR1Reader,
        _has("path", "problem", "solution"),
        keys=("path", "problem", "problem_id", "problem_type", "solution"),
    ),
    Format(
        "shikra_rec",
        "referring expressions of Shikra: img_path, expression, bbox (JSONL)",
        ShikraRecReader,
        _has("img_path", "expression", "bbox"),
        keys=("img_path", "expression", "bbox"),
    ),
    Format(
        "user_csv",
        "your own annotations as a table, with the columns of user_jsonl (CSV)",
        UserCsvReader,
        lambda first: bool({"video", "image"} & set(first.get("columns", ()))),
    ),
    Format(
        "hc_stvg",
        "HC-STVG annotations, version 1 and 2 (JSON)",
        HcStvgReader,
        _has_values("bbox", "st_frame"),
        keys=("img_num", "st_frame", "bbox", "English"),
    ),
    Format(
        "user_jsonl",
        "your own annotations in seconds and pixels (JSONL)",
        UserJsonlReader,
        lambda first: (
            {"video", "image"} & first.keys()
            and {"caption", *HINTS, *chain(*(task.record_fields for task in TASKS.values()))} & first.keys()
        ),
        keys=("video", "image", "query", "answer", "caption", "span_seconds", "box", "boxes", *HINTS, *MEDIA_HINTS),
    ),
    Format(
        "coco",
        "COCO-style boxes of named objects (JSON)",
        CocoReader,
        _has("images", "annotations"),
        keys=("images", "annotations", "categories"),
    ),
)
_UNREAD_FORMATS = (
    UnreadFormat("Pascal VOC", "coco", lambda first: "annotation" in first.get("xml", ())),
    UnreadFormat("CVAT for images", "coco", lambda first: {"annotations", "image"} <= set(first.get("xml", ()))),
    UnreadFormat("YOLO", "coco", _has_line(r"\d+(\s+[01]?\.\d+|\s+[01]){4}\s*$")),
    UnreadFormat("LabelMe", "user_jsonl", _has("shapes", "imagePath")),
    UnreadFormat("Label Studio", "user_jsonl", _has("annotations", "data")),
    UnreadFormat("VIA", "user_jsonl", lambda first: any(str(key).startswith("_via_") for key in first)),
    UnreadFormat("DiDeMo", "qvhighlights", _has("description", "times", "num_segments")),
    UnreadFormat("Ego4D NLQ", "qvhighlights", _has("videos", videos={"clips"})),
    UnreadFormat("ActivityNet", "activitynet_captions", _has("database", "taxonomy")),
    UnreadFormat("VidSTG as TubeDETR prepares it", "vidstg", _has("videos", "trajectories")),
    UnreadFormat("BURST", "coco_video", _has("sequences", sequences={"annotated_image_paths"})),
    UnreadFormat(
        "expressions of Ref-YouTube-VOS or MeViS",
        "coco_video",
        lambda first: isinstance(first.get("videos"), Mapping) and _has_values("expressions")(first["videos"]),
    ),
    UnreadFormat("LaSOT or GOT-10k", "mot", _has_line(r"-?[\d.]+([,\s]+-?[\d.]+){3}\s*$")),
)
FORMATS: Mapping[str, Format] = MappingProxyType({format.name: format for format in _FORMATS})


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
        near = difflib.get_close_matches(str(format).lower(), FORMATS, n=1, cutoff=0.5)
        hint = f" The nearest is {near[0]}." if near else ""
        raise InputError(f"format is {show(format)}: choose one of {', '.join(FORMATS)}.{hint}", field="format")
    refuse_unreadable(path)
    known = FORMATS[format].reader.list_options()
    if unknown := [name for name in options if name not in known]:
        raise InputError(
            f"{unknown[0]} is no option of the format {format}: it takes {', '.join(known) or 'no options'}.",
            field=unknown[0],
        )
    return FORMATS[format].reader(path, source, data_folder=data_folder, task=task, **options)


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
    if "://" in str(path) or Path(path).suffix.lower() == ".parquet":
        return "canonical"
    records = read_first_records(Path(path))
    for first in records:
        for format in FORMATS.values():
            if format.is_meant(first):
                return format.name
    if Path(path).is_dir():
        return "canonical"
    raise InputError(f"the format of {path} cannot be told; {_describe_unknown(records[0])}", field="format")


def _describe_unknown(first: Mapping[str, Any]) -> str:
    """Say of a record of no known format what it has, and which format is nearest to it."""
    seen = f"the keys of its first record are {', '.join(sorted(map(str, first))[:20]) or 'none'}."
    if "line" in first:
        seen = f"its first line is {show(first['line'])}."
    elif first.keys() <= {"columns", "xml"} and first:
        seen = f"it has {', '.join(*first.values()) or 'no columns'}."
    choice = f"Give format=..., one of {', '.join(FORMATS)}."
    if known := next((format for format in _UNREAD_FORMATS if format.is_meant(first)), None):
        return (
            f"it looks like {known.name}, which has no reader: write it as {known.nearest} "
            f"({FORMATS[known.nearest].description}), which is nearest. {choice}"
        )
    for name, part in first.items():
        part = part[0] if isinstance(part, list) and part else None
        if wrapped := next((one.name for one in FORMATS.values() if part and one.is_meant(_as_object(part))), None):
            return f"its {show(name)} is a list that looks like {wrapped}: save that list alone as a file. {choice}"
    # What is there, but empty, is as good as missing.
    values = _as_object(next(iter(first.values()), None))
    keys = {key for key, value in chain(first.items(), values.items()) if value not in (None, [], {})}
    nearest = max(FORMATS.values(), key=lambda format: len(keys.intersection(format.keys)))
    missing = [key for key in nearest.keys if key not in keys]
    hint = ""
    if "columns" in first or nearest.reader is UserJsonlReader:
        hint = _describe_own(first.get("columns") or keys, "user_csv" if "columns" in first else "user_jsonl")
    elif len(missing) < len(nearest.keys):
        lacks = f"without {', '.join(missing)}" if missing else "whose keys it has in another place"
        hint = f" The nearest is {nearest.name} ({nearest.description}), {lacks}."
    own = FORMATS["user_jsonl"].keys
    if slips := [str(key) for key in keys if str(key) not in own and str(key).lower() in own]:
        hint += f" Write keys in lower case: {', '.join(sorted(map(str.lower, slips)))}."
    return f"{seen}{hint} {choice}"


def _as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _describe_own(keys: Collection[str], name: str) -> str:
    """Say what records of one's own need that these have not."""
    need = "video or image, the path of its file"
    if {"video", "image"} & set(keys):
        need = "what is asked or true, such as query and span_seconds"
    table = " A table's first line names its columns, parted by commas, semicolons or tabs."
    has_known = not set(map(str.lower, keys)).isdisjoint(FORMATS["user_jsonl"].keys)
    return (
        f" If it is your own ({name}), each record needs {need}.{describe_slips(keys)}"
        f"{table if name == 'user_csv' and not has_known else ''}"
    )
