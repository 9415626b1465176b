"""Rows of CSV files, with the names of their columns."""

import csv
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...processing.media_llava_st import InputError


def read_csv(path: str | Path, columns: Collection[str] = ()) -> list[dict[str, str]]:
    """
    Return the rows of a CSV file with a header, each by the names of its columns; empty cells are left out.

    Args:
        path (`str` or `Path`): The file, in UTF-8, with or without a byte order mark.
        columns (`Collection[str]`, *optional*): Columns that there must be.

    Raises:
        `InputError`: If it cannot be read, lacks a column, or has a row with more cells than its header.
    """
    rows = []
    with _open_table(path) as reader:
        if missing := [name for name in columns if name not in reader.fieldnames]:
            raise InputError(f"{path} has no column {missing[0]!r}: its header is {', '.join(reader.fieldnames)}.")
        for row in reader:
            if None in row:
                raise InputError(
                    f"{path}, line {reader.line_num}: there are more cells than columns; put cells that hold a comma "
                    'in quotes, "[1.0, 2.5]".'
                )
            rows.append({name: cell.strip() for name, cell in row.items() if cell is not None and cell.strip()})
    return rows


def read_columns(path: str | Path) -> list[str]:
    """Return the names of the columns of a CSV file; raises as `read_csv`."""
    with _open_table(path) as reader:
        return list(reader.fieldnames)


@contextmanager
def _open_table(path: str | Path) -> Iterator[csv.DictReader]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            yield reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV file: {error}.") from error


__all__ = ["read_columns", "read_csv"]
