"""Elements of JSON and JSONL files of any size, read one by one from their places in the file.

The file is scanned once for the byte at which each element starts. That index is kept in the cache of the user, where
the workers of a run and later runs map it into memory, so that neither the file nor its index is ever held whole.

Streaming parsers such as ijson do not tell at which byte an element starts, so with one of them a file of millions of
records would have to be held in memory or copied to be read in any order; and one NaN in it would end the whole file.
"""

import hashlib
import json
import os
import re
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from huggingface_hub import constants

from ...processing import InputError
from ...utils.atomic_files import writing_whole
from ...utils.regular_files import check_regular_file
from ..skips import RecordError, show

MAX_RECORD_BYTES = 64 * 2**20
_CHUNK_BYTES = 4 * 2**20
_MIN_CACHED_BYTES = 2**20  # scanning a smaller file takes no time worth a cache
_INDEX_VERSION = 2
LINE_SUFFIXES = (".jsonl", ".ndjson")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHITESPACE = " \t\r\n"
_NUMBER_GOES_ON = ("", *"0123456789.eE+-")


class JsonRecords:
    """
    The elements of a JSON file, read by their number; the file is never held in memory.

    A file named `.jsonl` or `.ndjson` has one element per line, where empty lines do not count; any other file holds
    one array. One that does not exist, is no UTF-8 or JSON, or changes while it is read is an `InputError`. The index
    of a large file is kept in `cache_folder`, by default under `HF_HOME`; where it cannot be written, each process
    scans the file itself.
    """

    def __init__(self, path: str | Path, cache_folder: str | Path | None = None):
        self.path = Path(os.path.abspath(path))
        self._cache_folder = Path(cache_folder or Path(constants.HF_HOME) / "llava_st_hf" / "json_index")
        self._stamp = self._get_stamp()
        self._load_index()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> Any:
        """Read one element; one that is no JSON, or longer than `MAX_RECORD_BYTES`, raises `RecordError`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start, end = int(self._offsets[index]), int(self._offsets[index + 1])
        where = f"{self.path.name}, {self._describe_place(index, start)}"
        if end - start > MAX_RECORD_BYTES:
            raise RecordError(
                "too_long",
                "record",
                f"{where}: has {end - start:,} bytes, more than {MAX_RECORD_BYTES:,}: shorten it.",
            )
        with self._open() as file:
            if _read_stamp(file) != self._stamp:
                raise self._changed()
            file.seek(start)
            content = file.read(end - start).strip(_WHITESPACE.encode())
        # The slice of an array reaches up to the next element, so the comma between the two is in it.
        if not self._has_lines and index + 1 < len(self):
            content = content.removesuffix(b",")
        return _parse(content, where)

    def __getstate__(self) -> dict[str, Any]:
        # A worker maps the cached index itself.
        return {**self.__dict__, "_offsets": None} if self._is_cached else self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._offsets is None:
            if self._get_stamp() != self._stamp:
                raise self._changed()
            self._load_index()

    @property
    def _has_lines(self) -> bool:
        return self.path.suffix.lower() in LINE_SUFFIXES

    def _open(self) -> BinaryIO:
        check_regular_file(self.path, "file")
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise InputError(f"the file {self.path} cannot be read: {error.strerror}. Fix its path.") from error

    def _get_stamp(self) -> tuple[int, int]:
        with self._open() as file:
            return _read_stamp(file)

    def _changed(self) -> InputError:
        return InputError(f"{self.path} changed since it was opened: start again, and leave it alone meanwhile.")

    def _describe_place(self, index: int, start: int) -> str:
        if not self._has_lines:
            return f"element {index} at byte {start}"
        return f"byte {start}" if self._has_blank_lines else f"line {index + 1} at byte {start}"

    def _load_index(self) -> None:
        """Set the offsets of the elements: uint64 of shape (elements + 1,), the last one is the end."""
        size_bytes = self._stamp[0]
        cached = _read_index(self._cache_path, self._header) if size_bytes >= _MIN_CACHED_BYTES else None
        self._is_cached = cached is not None
        if cached is None:
            with self._open() as file:
                cached = _index_lines(file, self.path) if self._has_lines else _index_array(file, self.path)
                if _read_stamp(file) != self._stamp:
                    raise self._changed()
            if size_bytes >= _MIN_CACHED_BYTES and _write_index(self._cache_path, self._header, cached):
                # The file instead of the array: its pages are shared by all processes.
                mapped = _read_index(self._cache_path, self._header)
                self._is_cached = mapped is not None
                cached = cached if mapped is None else mapped
        self._has_blank_lines = bool(cached[0])
        self._offsets: np.ndarray = cached[1:]

    @property
    def _header(self) -> tuple[int, ...]:
        return (_INDEX_VERSION, *self._stamp)

    @property
    def _cache_path(self) -> Path:
        name = os.path.realpath(self.path).encode("utf-8", "backslashreplace")
        return self._cache_folder / f"{hashlib.sha256(name).hexdigest()[:32]}.npy"


def _read_stamp(file: BinaryIO) -> tuple[int, int]:
    """Return the size and the time of the last change of an open file."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _parse(content: bytes, where: str) -> Any:
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        message = f"{where}: byte {error.start} of the record is not UTF-8: save the file as UTF-8."
    except RecursionError:
        message = f"{where}: is nested too deeply: flatten it."
    except ValueError as error:  # also of a whole number with thousands of digits
        message = f"{where}: is no JSON: {error}. Fix it."
    raise RecordError("invalid_json", "record", message)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _read_index(path: Path, header: tuple[int, ...]) -> np.ndarray | None:
    """Map a cached index into memory; `None` if there is none, or it is of another state of the file."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    is_index = stored.dtype == np.uint64 and stored.ndim == 1 and len(stored) > len(header) + 1
    is_current = is_index and tuple(stored[: len(header)].tolist()) == header
    return np.asarray(stored)[len(header) :] if is_current else None


def _write_index(path: Path, header: tuple[int, ...], index: np.ndarray) -> bool:
    """Keep an index, whole or not at all; return whether that was possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing_whole(path) as temporary_path, open(temporary_path, "wb") as file:
            np.save(file, np.concatenate([np.array(header, dtype=np.uint64), index]))
    except OSError:
        return False
    return True


def _index_lines(file: BinaryIO, path: Path) -> np.ndarray:
    """Return whether there are blank lines, the start of each other line, and the end of the file."""
    starts = array("Q", [0])
    position = start = _skip_byte_order_mark(file, path)
    is_visible = False
    while piece := file.readline(_CHUNK_BYTES):  # a line, or a part of one that is very long
        position += len(piece)
        is_visible = is_visible or bool(piece.strip(_WHITESPACE.encode()))
        if piece.endswith(b"\n"):
            if is_visible:
                starts.append(start)
            else:
                starts[0] = 1
            start, is_visible = position, False
    if is_visible:
        starts.append(start)
    starts.append(position)
    return np.array(starts, np.uint64)


def _index_array(file: BinaryIO, path: Path) -> np.ndarray:
    """Return 0 (no blank lines), the start of each element of an array, and the end of the last one."""
    scanner = _Scanner(file, path)
    if scanner.peek() == "{":
        raise scanner.make_error("holds an object, not an array: name a file with one record per line .jsonl")
    starts = array("Q", [0])
    scanner.take("[")
    while scanner.peek() != "]":
        if len(starts) > 1:
            scanner.take(",")
        starts.append(scanner.take_value())
    scanner.take("]")
    if scanner.peek():
        raise scanner.make_error("goes on after the end of its array: name a file with one record per line .jsonl")
    starts.append(scanner.end)
    return np.array(starts, np.uint64)


def _skip_byte_order_mark(file: BinaryIO, path: Path) -> int:
    """Set a file to its first character and return where that is."""
    front = file.read(len(BYTE_ORDER_MARK))
    if front[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{path} is in UTF-16: save it as UTF-8.")
    return file.seek(len(BYTE_ORDER_MARK) if front == BYTE_ORDER_MARK else 0)


class _Scanner:
    """
    Steps over the values of a JSON text through a window that slides over its file.

    The bytes are decoded as Latin-1: each is one character then, and the ends of JSON values are where they are in
    UTF-8.
    """

    # Whole numbers of any length are stepped over, not computed.
    _decoder = json.JSONDecoder(parse_int=str)
    _space = re.compile(f"[{_WHITESPACE}]*")

    def __init__(self, file: BinaryIO, path: Path):
        self._file = file
        self._path = path
        self._base = _skip_byte_order_mark(file, path)
        self._window = ""
        self._position = 0
        self.end = self._base  # byte after the last value that was taken

    def make_error(self, problem: str) -> InputError:
        """Return the error for what stands at the current byte."""
        return InputError(f"{self._path} {problem} (byte {self._base + self._position}).")

    def peek(self) -> str:
        """Return the next character that is no white space; an empty string at the end of the file."""
        while True:
            self._position = self._space.match(self._window, self._position).end()
            if self._position < len(self._window) or not self._slide():
                return self._window[self._position : self._position + 1]

    def take(self, character: str) -> None:
        """Step over a character that has to come next."""
        if self.peek() != character:
            found = self.peek() or "the end of the file"
            raise self.make_error(f"is no JSON: {character!r} is expected, but {found!r} found; fix it")
        self._position += 1

    def take_value(self) -> int:
        """Step over one value; return its first byte."""
        self.peek()
        is_whole = False
        while True:
            problem = "the file ends"
            try:
                _, end = self._decoder.raw_decode(self._window, self._position)
            except json.JSONDecodeError as error:
                problem = f"{error.msg} at byte {self._base + error.pos}"
            except RecursionError as error:
                raise self.make_error("is nested too deeply: flatten it") from error
            else:
                # A number at the end of the window may go on behind it: of "2." only the 2 is read.
                if is_whole or self._window[end : end + 1] not in _NUMBER_GOES_ON:
                    start, self._position, self.end = self._base + self._position, end, self._base + end
                    return start
            if is_whole:
                raise self.make_error(f"is no JSON: {problem}; fix it")
            if len(self._window) - self._position > MAX_RECORD_BYTES:
                raise self.make_error(
                    f"has an element that is no JSON, or longer than {MAX_RECORD_BYTES:,} bytes: {problem}; fix it"
                )
            is_whole = not self._slide()

    def _slide(self) -> bool:
        """Move the window to the current place and let in more of the file; return whether there was more."""
        # Twice as much each time, so that a long value is not parsed too often.
        chunk = self._file.read(max(_CHUNK_BYTES, len(self._window) - self._position))
        self._window = self._window[self._position :] + chunk.decode("latin-1")
        self._base += self._position
        self._position = 0
        return bool(chunk)


def load_json(path: str | Path, kind: type = object, form: str = "") -> Any:
    """Return what a whole JSON file holds; `InputError` says to give `form` where that is of another `kind`."""
    check_regular_file(path, "file")
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        # Of a file that is named so already, another format is meant.
        is_lines = getattr(error, "msg", "") == "Extra data" and Path(path).suffix.lower() == ".json"
        fix = " Name a file with one record per line .jsonl." if is_lines else ""
        if Path(path).suffix.lower() in LINE_SUFFIXES:
            fix = " This format is one JSON list or object, not a record per line: write it so, and name it .json."
        raise InputError(f"{path} cannot be read as a JSON file: {error}.{fix}") from error
    if not isinstance(content, kind):
        raise InputError(f"{path} holds no {'list' if kind is list else 'object'}: give {form}.")
    return content


def get_list(content: Any, name: str, path: str | Path) -> list[Any]:
    """Return a list of a JSON file that is one object; `InputError` where it has none of this name."""
    values = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(values, list):
        raise InputError(f"{path} has no list {name!r}: give a file of the form {{'{name}': [...], ...}}.")
    return values


def index_by_id(
    content: Any, name: str, path: str | Path, is_required: bool = True
) -> dict[int | str, Mapping[str, Any]]:
    """Return the objects of such a list that have an `id`, by it; `InputError` for two of one `id` that differ."""
    found: dict[int | str, Mapping[str, Any]] = {}
    for item in get_list(content, name, path) if is_required or content.get(name) is not None else ():
        if not isinstance(item, Mapping) or not isinstance(item.get("id"), (int, str)):
            continue
        if found.setdefault(item["id"], item) != item:
            raise InputError(
                f"id is {show(item['id'])} of {show(found[item['id']])} and of another: give each its own."
            )
    return found
