"""Names without the folders of this machine, for what is shared: its reader has none of them."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

_START = r"(?:file://)?(?:[A-Za-z]:[\\/]|~[\w.-]*/|/)"
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


def hide_folders(text: str) -> str:
    """
    Return a text with the last part of each absolute path in it.

    Example:

    ```python
    >>> hide_folders("media is '/home/me/a.mp4': it does not exist")
    "media is 'a.mp4': it does not exist"
    ```
    """
    return _PLAIN.sub("", _QUOTED.sub(lambda match: match["quote"], text))


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


__all__ = ["get_public_name", "hide_folders", "write_public_command"]
