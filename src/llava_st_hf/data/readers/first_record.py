"""The first records of a file of any kind, from whose keys the format is told."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...processing import InputError
from ...utils.regular_files import check_regular_file
from ..skips import RecordError
from .json_files import BYTE_ORDER_MARK, LINE_SUFFIXES, JsonRecords, load_json
from .tables import TABLE_SUFFIXES, read_columns, read_xml

_PICKLE_ENDINGS = (".p", ".pkl", ".pickle")
_PICKLE_STARTS = (b"\x80", b"(lp", b"(dp")
_PACKED_STARTS = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh91AY": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_SPREADSHEET_ENDINGS = (".xlsx", ".xlsm", ".ods")
# How many are looked at, as the first may be null, or lack what the others have.
_NUM_RECORDS = 8


def read_first_records(path: Path) -> list[Mapping[str, Any]]:
    """
    Return the first records of a file, or the whole of one that is a single object; no keys for anything else.

    Of a text file each is {`line`: one of its lines}; of a table it is {`columns`: their names}, of XML {`xml`: the
    names of its parts}, of a folder {`folder`: the names in it}. What cannot be read, holds no record, or is a pickle
    or packed is an `InputError`.
    """
    refuse_unreadable(path)
    ending = path.suffix.lower()
    try:
        if not path.is_dir() and not path.stat().st_size:
            raise InputError(f"{path} is empty: it holds no record.")
        if path.is_dir():
            return [{"folder": sorted(os.listdir(path))}]
        if ending == ".xml":
            root = read_xml(path)
            return [{"xml": [root.tag, *dict.fromkeys(part.tag for part in root)]}]
        if ending in TABLE_SUFFIXES:
            return [{"columns": read_columns(path)}]
        with open(path, "rb") as file:
            head = file.read(4096).removeprefix(BYTE_ORDER_MARK).lstrip()
        if ending == ".txt":
            lines = head.decode("utf-8", "replace").splitlines()[:_NUM_RECORDS]
            return [{"line": line.strip()} for line in lines or [""]]
        if ending in LINE_SUFFIXES and head.startswith(b"["):
            raise InputError(f"{path} holds an array, not a record per line: name it .json.")
        if ending == ".json" and head.startswith(b"{"):
            return [load_json(path)]
        return _take_first(path, JsonRecords(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Fix its path.") from error
    except RecordError as error:
        lines = " A line is one whole record, as json.dumps writes it; a table is named .csv."
        raise InputError(
            f"the format of {path} cannot be told, as its first record cannot be read: {error}"
            f"{lines if ending in LINE_SUFFIXES else ''} Or give format=...",
            field="format",
        ) from error


def refuse_unreadable(path: str | Path) -> None:
    """
    Raise `InputError` for a file that is packed, or a pickle.

    A pickle, whose opening can run any code, is known by its content or its ending.
    """
    path = Path(path)
    if not path.is_dir():  # of Parquet files
        check_regular_file(path, "file")
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError:
        return  # said where it is read
    if start.startswith(_PICKLE_STARTS) or path.suffix.lower() in _PICKLE_ENDINGS:
        raise InputError(
            f"{path} is a pickle, which is never opened, as that can run any code. Of REFER (refs(unc).p) give "
            "the same data as JSON: images with a caption and annotations with a bbox (format refcoco), or lines of "
            "img_path, expression, bbox (format shikra_rec)."
        )
    if path.suffix.lower() in (".yaml", ".yml"):
        raise InputError(
            f"{path} is a YAML file, as mixtures are, which name files of records: give one of those, and the folder "
            "of its clips. `llava-st data check` and training take the mixture itself."
        )
    if path.suffix.lower() in _SPREADSHEET_ENDINGS:
        raise InputError(f"{path} is a file of a spreadsheet: save the table as .csv.")
    for magic, name in _PACKED_STARTS.items():
        if start.startswith(magic):
            raise InputError(f"{path} is packed ({name}): unpack it, and give the file that was in it.")


def _take_first(path: Path, records: JsonRecords) -> list[Mapping[str, Any]]:
    if not len(records):
        raise InputError(f"{path} holds no record: fix the file, or give its format=...")
    found = [records[0]]
    for index in range(1, min(len(records), _NUM_RECORDS)):
        with suppress(RecordError):  # one that is broken, not the first
            found.append(records[index])
    return [record if isinstance(record, Mapping) else {} for record in found]
