"""Files that can be read to their end: no pipe that never ends, no device, no folder."""

import os
from pathlib import Path

from ..processing import InputError


def check_regular_file(path: str | os.PathLike, what: str, field: str | None = None) -> None:
    """
    Refuse a folder, a pipe or a device, which would be waited for without end, with an `InputError`.

    Of a file that does not exist whoever opens it says so.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"the {what} {path} is a folder: give the name of a file.", field=field)
    if path.exists() and not path.is_file():
        raise InputError(f"the {what} {path} is a pipe or a device: give the name of a file.", field=field)
