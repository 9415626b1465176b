"""Pictures, clips and answers that appear under their name only when they are whole, and replace nothing else."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from PIL import Image, PngImagePlugin

from ..processing import InputError, MediaError
from ..processing.grounding_export_llava_st import TABLE_COLUMNS
from ..processing.image_loading_llava_st import describe_source
from ..utils.atomic_files import writing_whole

# Stands in every picture, clip and page that is written here, by which it is known again.
MADE_HERE = "made by llava-st-hf"
_MAX_SEARCHED_BYTES = 2**26
_ANSWER_KEYS = {"text", "task", "spans", "boxes", "tubes"}


def check_output(
    path: str | os.PathLike,
    endings: Sequence[str],
    inputs: Sequence[str | os.PathLike] = (),
    field: str = "output",
    overwrite: bool = False,
) -> None:
    """
    Find out that a file could not be written, before anything is made that goes into it.

    Args:
        path (`str` or `os.PathLike`): The file; one that was written here before is replaced.
        endings (`Sequence[str]`): Endings that its name may have, in lower case.
        inputs (`Sequence[str | os.PathLike]`, *optional*): Files that it must not replace, under any name.
        field (`str`, *optional*, defaults to `"output"`): What it is called in the message.
        overwrite (`bool`, *optional*, defaults to `False`): Whether any other file that is there may be replaced.

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
    elif any(_is_same(path, each) for each in inputs):
        problem = "that is what is drawn on, read or written besides, give another name"
    elif path.exists() and not overwrite and not is_made_here(path):
        problem = "a file is there that was not written here before, give another name or --overwrite (overwrite=True)"
    if problem is not None:
        raise InputError(f"{field} is {path}: {problem}.", field=field)


def _is_same(path: Path, other: str | os.PathLike) -> bool:
    """Tell whether two names mean one file, by links of either kind too."""
    try:
        return path.resolve() == Path(other).resolve() or os.path.samefile(path, other)
    except (OSError, ValueError):  # one of them is no file
        return False


def is_made_here(path: Path) -> bool:
    """Tell whether a file is what a function here wrote before: an answer, a picture, a clip, a page; or is empty."""
    with open(path, "rb") as file:
        content = file.read(_MAX_SEARCHED_BYTES)
    if not content or MADE_HERE.encode() in content:
        return True
    if path.suffix.lower() == ".csv":
        return content.partition(b"\n")[0].strip() == ",".join(TABLE_COLUMNS).encode()
    if path.suffix.lower() != ".json":
        return False
    try:
        answers = json.loads(content)
    except (ValueError, RecursionError):
        return False
    answers = answers if isinstance(answers, list) else [answers]
    return bool(answers) and all(isinstance(each, Mapping) and each.keys() >= _ANSWER_KEYS for each in answers)


@contextmanager
def writing_beside(output: str | os.PathLike, source: Any, overwrite: bool = False) -> Iterator[Path]:
    """
    Give a temporary name beside the output, which is renamed to the output if all went well, see `writing_whole`.

    Args:
        output (`str` or `os.PathLike`): The file to write; one that was written here before is replaced.
        source (`Any`): The clip or image that it is made from, which must not be overwritten.
        overwrite (`bool`, *optional*, defaults to `False`): Whether any other file that is there may be replaced.

    Raises:
        `InputError`: If the output cannot be written.
    """
    output = Path(output)
    inputs = [source] if isinstance(source, (str, os.PathLike)) else []
    check_output(output, [output.suffix.lower()], inputs, overwrite=overwrite)
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


def save_picture(picture: Image.Image, path: str | os.PathLike) -> None:
    """Write a picture, in the form that its ending names, with the mark of those that are made here."""
    is_jpeg = Path(path).suffix.lower() in (".jpg", ".jpeg")
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", MADE_HERE)
    picture.save(path, **({"comment": MADE_HERE.encode()} if is_jpeg else {"format": "PNG", "pnginfo": info}))
