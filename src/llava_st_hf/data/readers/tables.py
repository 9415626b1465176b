"""Rows of CSV files, with the names of their columns, lines of text files, and elements of XML."""

import codecs
import csv
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ...processing import InputError
from ...utils.regular_files import check_regular_file

TABLE_SUFFIXES = (".csv", ".tsv")
_DELIMITERS = (",", ";", "\t")


def read_csv(path: str | Path, columns: Collection[str] = ()) -> list[dict[str, str]]:
    """
    Return the rows of a CSV file with a header, each by the names of its columns; empty cells are left out.

    The file is in UTF-8, or in UTF-16 with a byte order mark. Its cells are parted by commas, semicolons or tabs,
    whatever its header has most of. One that lacks one of `columns` is an `InputError`.
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


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """Return the lines of a text file that are not blank, with their numbers; raises `InputError`."""
    try:
        with open(path, encoding=_find_encoding(path)) as file:
            return [(number, line.strip()) for number, line in enumerate(file, start=1) if line.strip()]
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read as a text file: {error}. Save it as UTF-8.") from error


def read_xml(path: str | Path) -> Element:
    """
    Return the root of an XML file.

    One with a document type, whose entities could grow without end, or name other files, is an `InputError`.
    """
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*declaration: object) -> NoReturn:
        raise InputError(f"{path} has a document type (<!DOCTYPE ...>), which is not read: take it out.")

    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    try:
        with open(path, "rb") as file:
            parser.ParseFile(file)
        return builder.close()
    except (OSError, expat.ExpatError, AssertionError) as error:
        raise InputError(f"{path} cannot be read as an XML file: {error}.") from error


@contextmanager
def _open_table(path: str | Path) -> Iterator[csv.DictReader]:
    try:
        with open(path, encoding=_find_encoding(path), newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, strict=True, delimiter=max(_DELIMITERS, key=header.count))
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            yield reader
    except UnicodeError as error:
        raise InputError(f"{path} cannot be read as a CSV file: {error}. Save it as UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV file: {error}.") from error


def _find_encoding(path: str | Path) -> str:
    """Return UTF-16 where the file says so by its byte order mark, as spreadsheets write it, or else UTF-8."""
    check_regular_file(path, "file")
    with open(path, "rb") as file:
        return "utf-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
