"""Pictures and clips that appear under their name only when they are whole."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av

from ..processing.image_loading_llava_st import describe_source
from ..processing.media_llava_st import InputError, MediaError


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
    elif not folder.is_dir():
        problem = f"the folder {folder} does not exist, make it first"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        problem = "it may not be written there, give another folder"
    elif path.resolve() in [Path(medium).resolve() for medium in media]:
        problem = "that is what is drawn on, give another name"
    if problem is not None:
        raise InputError(f"{field} is {path}: {problem}.", field=field)


@contextmanager
def writing_beside(source: str | os.PathLike, output: str | os.PathLike, suffix: str) -> Iterator[str]:
    """Give a temporary name beside the output, and rename it to the output only if all went well."""
    output = Path(output)
    if not output.parent.is_dir():
        raise MediaError(f"{output}: its folder does not exist; create {output.parent} first.")
    if output.is_dir():
        raise MediaError(f"{output}: is a directory; give the name of a file to write.")
    if output.exists() and Path(source).exists() and output.samefile(source):
        raise MediaError(f"{output}: is the clip itself; write to another file.")
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(suffix=suffix, prefix=f".{output.stem}-", dir=output.parent)
        os.close(handle)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are for the owner only
        os.replace(temporary, output)
    except (av.error.FFmpegError, OSError) as error:
        reason = " ".join(str(error.strerror or error).split())
        raise MediaError(
            f"{output}: could not be written from {describe_source(source)} ({reason}); check the clip, the folder's "
            "permissions and the free space."
        ) from None  # the trace of an FFmpeg error says nothing that the message does not
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


__all__ = ["check_output", "writing_beside"]
