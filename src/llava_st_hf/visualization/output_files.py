"""Pictures and clips that appear under their name only when they are whole."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from ..processing.image_loading_llava_st import describe_source
from ..processing.media_llava_st import InputError, MediaError
from ..utils.atomic_files import writing_whole


def check_output(
    path: str | os.PathLike, endings: Sequence[str], media: Sequence[str | os.PathLike] = (), field: str = "output"
) -> None:
    """
    Find out that a file could not be written, before anything is made that goes into it.

    Args:
        path (`str` or `os.PathLike`): The file; one that exists would be replaced.
        endings (`Sequence[str]`): Endings that its name may have, in lower case.
        media (`Sequence[str | os.PathLike]`, *optional*): Files that it must not replace.
        field (`str`, *optional*, defaults to `"output"`): What it is called in the message.

    Raises:
        `InputError`: If it could not.
    """
    path, problem = Path(path), None
    folder = path.resolve().parent
    if path.suffix.lower() not in endings:
        problem = f"give a name that ends in {' or '.join(endings)}"
    elif path.is_dir():
        problem = "that is a folder, give the name of a file"
    elif path.exists() and not path.is_file():
        problem = "that is a pipe or a device, give the name of a file"
    elif not folder.is_dir():
        problem = f"the folder {folder} does not exist, make it first"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        problem = "it may not be written there, give another folder"
    elif path.resolve() in [Path(medium).resolve() for medium in media]:
        problem = "that is what is drawn on, give another name"
    if problem is not None:
        raise InputError(f"{field} is {path}: {problem}.", field=field)


@contextmanager
def writing_beside(output: str | os.PathLike, source: Any) -> Iterator[Path]:
    """
    Give a temporary name beside the output, which is renamed to the output if all went well, see `writing_whole`.

    Args:
        output (`str` or `os.PathLike`): The file to write; one that is there is replaced.
        source (`Any`): The clip or image that it is made from, which must not be overwritten.

    Raises:
        `InputError`: If the output cannot be written.
    """
    output = Path(output)
    check_output(output, [output.suffix.lower()], [source] if isinstance(source, (str, os.PathLike)) else [])
    try:
        with writing_whole(output) as temporary_path:
            yield temporary_path
    except (av.error.FFmpegError, OSError) as error:
        reason = " ".join(str(error.strerror or error).split())
        origin = "" if source is None else f" from {describe_source(source)}"
        raise MediaError(
            f"{output}: could not be written{origin} ({reason}); check the input, the folder's permissions and the "
            "free space."
        ) from None  # the trace of an FFmpeg error says nothing that the message does not


__all__ = ["check_output", "writing_beside"]
