"""Tables in plain text and in Markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ..processing.media_llava_st import make_printable
from .markdown import escape_markdown

_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?( ?%)?|", re.ASCII)


def format_table(header: Sequence[str], rows: Iterable[Sequence[Any]], markdown: bool = False) -> str:
    """
    Write a table without the columns that nobody has a cell in; texts stand at the left, numbers at the right.

    Args:
        header (`Sequence[str]`): Names of the columns.
        rows (`Iterable[Sequence[Any]]`):
            Cells: texts as they are, whole numbers with commas, other numbers as short as they are, `None` as nothing.
        markdown (`bool`, *optional*, defaults to `False`): Whether to write Markdown.

    Returns:
        `str`: One line for each row, below the header.

    Example:

    ```python
    >>> print(format_table(("source", "records"), [("kitchen", 12000), ("total", None)]))
    source   records
    kitchen   12,000
    total
    ```
    """
    header, rows = leave_out_empty(header, list(rows))
    written = [[_write(cell, markdown) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *written, strict=True)]
    is_number = [all(_NUMBER.fullmatch(row[index]) for row in written) for index in range(len(header))]
    lines = [
        [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ]
        for row in [header, *written]
    ]
    if not markdown:
        return "\n".join("  ".join(cells).rstrip() for cells in lines)
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, is_number, strict=True)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [lines[0], rule, *lines[1:]])


def leave_out_empty(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[list[str], list[list[Any]]]:
    """Return the columns of a table in which a cell is not `None`; without rows all of them."""
    kept = [index for index in range(len(header)) if not rows or any(row[index] is not None for row in rows)]
    return [header[index] for index in kept], [[row[index] for index in kept] for row in rows]


def _write(cell: Any, markdown: bool) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return escape_markdown(cell) if markdown and not _NUMBER.fullmatch(cell) else make_printable(cell)
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:g}"
