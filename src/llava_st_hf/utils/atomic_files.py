"""Files and folders that appear whole or not at all, whatever ends the program while they are written."""

import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LOCK_FILE = "_in_use.lock"  # see `folder_locks`
_LEFTOVER = re.compile(
    r"\.(?P<stem>.+)\.(?P<host>[0-9a-f]{4})(?P<pid>[0-9a-f]{8})[0-9a-f]{8}\.partial(\.\w+)?", re.DOTALL
)
_MAX_STEM_BYTES = 100  # file systems allow names of 255


@contextmanager
def writing_whole(path: str | os.PathLike) -> Iterator[Path]:
    """
    Give a temporary name beside `path`; the file or folder that is made there is renamed to `path` if all went well.

    The content is on the disk before it has its name. What was at `path` is replaced; after an error it is still
    there, and the temporary one is removed, at the latest when the same is written again after the process was killed.
    Processes that write the same file do not meet: the last one wins.

    Args:
        path (`str` or `os.PathLike`): The file or folder to write; its parent must exist.

    Returns:
        `Iterator[Path]`: The temporary name, with the ending of `path`. Nothing is there yet.

    Example:

    ```python
    >>> with writing_whole("metrics.json") as temporary_path:
    ...     temporary_path.write_text("{}")
    ```
    """
    path = Path(path)
    stem = path.stem.encode("utf-8", "surrogateescape")[:_MAX_STEM_BYTES].decode("utf-8", "ignore")
    _remove_dead(path.parent, stem)
    writer = f"{_get_host()}{os.getpid() % 2**32:08x}{uuid.uuid4().hex[:8]}"
    temporary_path = path.with_name(f".{stem}.{writer}.partial{path.suffix}")
    try:
        yield temporary_path
        move_whole(temporary_path, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk does not say what it had no place for
        raise
    finally:
        _remove(temporary_path)


def move_whole(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Rename a file or folder when all of its content is on the disk; what was at `target` is replaced."""
    source, target = Path(source), Path(target)
    if source.is_dir():
        for path in source.rglob("*"):
            if path.is_file():
                _sync(path)
        shutil.rmtree(target, ignore_errors=True)
    else:
        _sync(source)
    os.replace(source, target)
    _sync(target.parent)


def write_text_whole(path: str | os.PathLike, text: str) -> None:
    """Write a text file as a whole or not at all."""
    write_bytes_whole(path, text.encode())


def write_bytes_whole(path: str | os.PathLike, content: bytes) -> None:
    """Write a file as a whole or not at all."""
    with writing_whole(path) as temporary_path:
        temporary_path.write_bytes(content)


def write_json_whole(path: str | os.PathLike, value: Any) -> None:
    """Write a JSON file as a whole or not at all; a number that JSON does not know raises `ValueError`."""
    write_text_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def is_leftover(path: str | os.PathLike) -> bool:
    """Tell by its name whether a file or folder is what a killed process left of `writing_whole`, or its lock."""
    return Path(path).name == LOCK_FILE or _LEFTOVER.fullmatch(Path(path).name) is not None


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Remove what killed processes left of `writing_whole` in a folder that no other process writes to now."""
    for path in list(Path(folder).iterdir()):
        if is_leftover(path) and path.name != LOCK_FILE:
            _remove(path)


def _remove_dead(folder: Path, stem: str) -> None:
    """Remove what processes of this machine that are gone left of one file."""
    with suppress(OSError):  # whatever is wrong with the folder, the write itself says
        for entry in os.scandir(folder):
            match = _LEFTOVER.fullmatch(entry.name)
            if match and match["stem"] == stem and match["host"] == _get_host() and _is_gone(int(match["pid"], 16)):
                _remove(Path(entry.path))


def _get_host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:4]


def _is_gone(pid: int) -> bool:
    if os.name != "posix":  # where signal 0 would end it
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    if path.is_dir() and os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR | os.O_BINARY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
