"""Files and folders that appear whole or not at all, whatever ends the program while they are written."""

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{12}\.partial(\.\w+)?", re.DOTALL)
_MAX_STEM_CHARACTERS = 100  # file systems allow names of 255 bytes


@contextmanager
def writing_whole(path: str | os.PathLike) -> Iterator[Path]:
    """
    Give a temporary name beside `path`; the file or folder that is made there is renamed to `path` if all went well.

    The content is on the disk before it has its name. What was at `path` is replaced; after an error it is still
    there, and the temporary one is removed. Processes that write the same file do not meet: the last one wins.

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
    name = f".{path.stem[:_MAX_STEM_CHARACTERS]}.{uuid.uuid4().hex[:12]}.partial{path.suffix}"
    temporary_path = path.with_name(name)
    try:
        yield temporary_path
        move_whole(temporary_path, path)
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
    with writing_whole(path) as temporary_path:
        temporary_path.write_bytes(text.encode())


def write_json_whole(path: str | os.PathLike, value: Any) -> None:
    """Write a JSON file as a whole or not at all; a number that JSON does not know raises `ValueError`."""
    write_text_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def is_leftover(path: str | os.PathLike) -> bool:
    """Tell by its name whether a file or folder is what a killed process left of `writing_whole`."""
    return _LEFTOVER.fullmatch(Path(path).name) is not None


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Remove what killed processes left of `writing_whole` in a folder that no other process writes to now."""
    for path in list(Path(folder).iterdir()):
        if is_leftover(path):
            _remove(path)


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


__all__ = ["is_leftover", "move_whole", "remove_leftovers", "write_json_whole", "write_text_whole", "writing_whole"]
