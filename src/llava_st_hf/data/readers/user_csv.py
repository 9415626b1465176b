"""A user's own annotations as a table: CSV with the columns of the user JSONL."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..annotations import Annotation
from ..skips import make_error
from .tables import read_csv
from .user_jsonl import UserJsonlReader

# Between two times, also as the dash of a word processor; any other one is the sign of a time before 0.
_HYPHEN = re.compile(r"(?<=[\d.])[-\u2013]|\s[-\u2013]\s")
_NUM_NUMBERS = {"span_seconds": 2, "box": 4}


@dataclass(eq=False)
class UserCsvReader(UserJsonlReader):
    """
    The columns are the keys of `UserJsonlReader`. A cell that begins with a bracket is read as JSON: `"[1.0, 2.5]"`
    for a span, `"[[1, 2], [7, 9]]"` for several, `"[[1.0, [10, 20, 50, 80]], ...]"` for the boxes of a clip. A span
    may also be written as `1.0-2.5` or `00:01-00:02.5`, and a box as `10 20 50 80`. An empty cell counts as none.
    """

    def list_entries(self) -> Sequence[Mapping[str, str]]:
        return read_csv(self.path)

    def annotate(self, entry: Any) -> Annotation:
        return super().annotate({name: _read_cell(name, cell) for name, cell in entry.items()})


def _read_cell(name: str, cell: str) -> Any:
    """Return a cell as JSON where it is written so, and the parts of a span or a box."""
    if name not in ("span_seconds", "box", "boxes", "frame_seconds"):
        return cell
    if cell.startswith(("[", "{")):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise make_error(name, cell, f"it is no JSON: {error}") from error
    parts = (_HYPHEN.sub(" ", cell) if name == "span_seconds" else cell).replace(",", " ").replace(";", " ").split()
    if "," in cell and len(parts) > _NUM_NUMBERS.get(name, len(parts)):
        raise make_error(name, cell, "write decimals with a point, a span as 1.0-2.5 and a box as 10 20 50.5 80")
    return parts
