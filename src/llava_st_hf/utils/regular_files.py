"""Files that can be read to their end: no pipe that never ends, no device, no folder."""

import os
from pathlib import Path

from ..processing.media_llava_st import InputError


def check_regular_file(path: str | os.PathLike, what: str, field: str | None = None) -> None:
    """
    Refuse what is there and is no regular file, which would be waited for without end, or be something else.

    Args:
        path (`str` or `os.PathLike`): The file; whoever opens it says that it does not exist.
        what (`str`): What it is, for the message.
        field (`str`, *optional*): The argument that names it.

    Raises:
        `InputError`: For a folder, a pipe or a device.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"the {what} {path} is a folder: give the name of a file.", field=field)
    if path.exists() and not path.is_file():
        raise InputError(f"the {what} {path} is a pipe or a device: give the name of a file.", field=field)


__all__ = ["check_regular_file"]
