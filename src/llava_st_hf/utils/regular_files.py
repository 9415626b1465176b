"""Files that can be read to their end: no pipe that never ends, no device, no folder."""

import os
from pathlib import Path

from ..processing import InputError


def check_regular_file(path: str | os.PathLike, what: str, field: str | None = None) -> None:
    """
    Refuse a folder, a pipe or a device, which would be waited for without end, and what is no name: an `InputError`.

    Of a file that does not exist whoever opens it says so.
    """
    path = Path(path)
    if not is_name(path):
        raise InputError(f"the {what} {str(path)!r} has characters that no name has: write it anew.", field=field)
    if path.is_dir():
        raise InputError(f"the {what} {path} is a folder: give the name of a file.", field=field)
    if path.exists() and not path.is_file():
        raise InputError(f"the {what} {path} is a pipe or a device: give the name of a file.", field=field)


def is_name(path: str | os.PathLike) -> bool:
    """Return whether a text can be the name of a file: half a surrogate or a zero byte cannot stand in one."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False
