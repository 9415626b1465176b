"""What a piece of work is made from and how far it is, kept in a JSON file beside what it writes.

Work that was stopped goes on only with the same settings: the manifest of another's is an error that names the first
setting that differs.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..processing import InputError
from .atomic_files import write_json_whole
from .regular_files import check_regular_file

_PROGRESS = "progress"


class RunManifest:
    """
    The manifest of one piece of work.

    Args:
        path (`str` or `os.PathLike`): The JSON file.
        settings (`Mapping[str, Any]`): What decides about the result, comparable as JSON.
        output (`str` or `os.PathLike`, *optional*): What is written, for messages. Defaults to the folder of the file.

    Example:

    ```python
    >>> manifest = RunManifest("run/manifest.json", {"source": "clips", "seed": 0})
    >>> if not manifest.load():
    ...     manifest.save(num_written=0)
    >>> manifest.progress
    {'num_written': 0}
    ```
    """

    def __init__(self, path: str | os.PathLike, settings: Mapping[str, Any], output: str | os.PathLike | None = None):
        self.path = Path(path)
        self.settings: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        self.output = self.path.parent if output is None else output
        self.progress: dict[str, Any] = {}

    def load(self) -> bool:
        """
        Read how far earlier work came; `False` where there is none.

        Raises:
            `InputError`: If the file cannot be read, or is that of work with other settings.
        """
        check_regular_file(self.path, "manifest")
        try:
            known = json.loads(self.path.read_bytes())
            if not isinstance(known, dict):
                raise ValueError("it holds no object")
            progress = dict(known.pop(_PROGRESS, {}))
        except FileNotFoundError:
            return False
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"{self.path} cannot be read ({error}): remove it and {self.output} to begin anew, or name another."
            ) from error
        if (difference := _find_difference(known, self.settings)) is not None:
            name, before, now = difference
            raise InputError(
                f"{self.output} holds a run with {name}={before!r:.200}, and now {name} is {now!r:.200}: give the "
                "same to go on, or name another."
            )
        self.progress = progress
        return True

    def save(self, **progress: Any) -> None:
        """Write the settings and how far the work is, whole or not at all; what is not given stays as it was."""
        self.progress |= progress
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json_whole(self.path, {**self.settings, **({_PROGRESS: self.progress} if self.progress else {})})

    def remove(self) -> None:
        """Remove the file: the work is done."""
        self.path.unlink(missing_ok=True)


def _find_difference(known: dict[str, Any], now: dict[str, Any], prefix: str = "") -> tuple[str, Any, Any] | None:
    """Return the dotted name and both values of the first setting that differs."""
    for name in [*now, *(name for name in known if name not in now)]:
        before, after = known.get(name), now.get(name)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            return _find_difference(before, after, f"{prefix}{name}.")
        return prefix + name, before, after
    return None
