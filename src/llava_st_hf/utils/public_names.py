"""Names without the folders of this machine, for what is shared: its reader has none of them."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_START = r"(?:file://)?(?:[A-Za-z]:[\\/]|\\\\|~[\w.-]*/|/)"
# The last part of this one is a user's name.
_HOME = re.compile(
    r"(?<![\w:/.<\\])(?:file://)?(?:[A-Za-z]:)?[\\/](?:home|Users)[\\/][^\s'\"`\\/:,;]+(?![^\s'\"`:,;])"
)
_QUOTED = re.compile(rf"(?P<quote>['\"`]){_START}(?:(?!(?P=quote)).)*[\\/](?=[^\\/])")
_PLAIN = re.compile(rf"(?<![\w:/.<\\]){_START}(?:[^\s'\"`\\/]+[\\/])+(?=[^\s\\/])")


def get_public_name(name_or_path: str | os.PathLike) -> str:
    """
    Return the repository of a name, or the last part of a folder's or file's path.

    Example:

    ```python
    >>> get_public_name("/home/me/models/llava-st-7b"), get_public_name("me/llava-st-7b")
    ('llava-st-7b', 'me/llava-st-7b')
    ```
    """
    text = os.fspath(name_or_path)
    if text.startswith((".", "/", "~")) or "\\" in text or Path(text).exists():
        return Path(text).expanduser().resolve().name or "/"
    return text


def looks_like_id(name: str) -> bool:
    """Tell whether a name can be a repository's, and is no path of this machine."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII) is not None and not os.path.exists(name)


def hide_folders(value: T) -> T:
    """
    Return a text, or what JSON holds, with the last part of each absolute path in it.

    Example:

    ```python
    >>> hide_folders("media is '/home/me/a.mp4': it does not exist")
    "media is 'a.mp4': it does not exist"
    ```
    """
    if isinstance(value, str):
        return _PLAIN.sub("", _QUOTED.sub(lambda match: match["quote"], _HOME.sub("~", value)))
    if isinstance(value, Mapping):
        return {key: hide_folders(item) for key, item in value.items()}
    return [hide_folders(item) for item in value] if isinstance(value, list) else value


def write_public_command(words: Sequence[str]) -> str:
    """Write a command line as it can be shared: of paths the last part, of what belongs to a secret nothing."""
    written: list[str] = []
    for word in words:
        option, equals, value = word.partition("=")
        is_option = word.startswith("--") and bool(equals)
        before = option if is_option else (written[-1] if written else "")
        if "token" in before.lower() and before.startswith("--") and "=" not in before:
            value = "..."
        elif (text := value if is_option else word).startswith(("/", "~", "../", "./", "file://")):
            value = get_public_name(text.removeprefix("file://"))
        else:
            value = text
        written.append(f"{option}={value}" if is_option else value)
    return shlex.join(written)
