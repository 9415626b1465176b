"""A document of blocks, and how it is written: as Markdown, and as one HTML file that needs nothing from outside."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ...utils.atomic_files import write_text_whole
from ...utils.markdown import escape_markdown
from ...utils.public_names import hide_folders
from ...utils.tables import format_table, leave_out_empty
from ...visualization.fonts import put_on_line
from ...visualization.output_files import MADE_HERE
from ..run_folder import REPORT_FILES

_MAX_CHARACTERS = 1000
_MAX_LINE = 10_000
_MAX_SHORT = 24  # characters of a cell that stays on one line, also on a phone
_STYLE = """
:root { --ink: #1c2128; --faint: #6b7480; --paper: #fff; --rim: #dde1e6; --one: #0072b2; --two: #d55e00 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --faint: #9aa4b1; --paper: #14161b; --rim: #333a44; --one: #56b4e9; --two: #e69f00 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 1040px; padding: 16px; overflow-wrap: break-word }
h1 { font-size: 1.6em; line-height: 1.25 } h2 { margin-top: 2em; border-top: 1px solid var(--rim); padding-top: .8em }
h3 { margin: 1.6em 0 .4em } .table { overflow-x: auto } table { border-collapse: collapse; margin: .6em 0 }
th, td { text-align: left; padding: 3px 14px 3px 0; border-bottom: 1px solid var(--rim); vertical-align: top }
th { color: var(--faint); font-weight: 500; white-space: nowrap }
.short { white-space: nowrap; font-variant-numeric: tabular-nums } .long { min-width: 13em }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); gap: 20px }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)) }
figure { margin: 0; min-width: 0 } figcaption { font-size: .9em; color: var(--faint) } b { color: var(--ink) }
svg, img { width: 100%; height: auto; display: block } img { border-radius: 6px; margin-bottom: 4px }
pre { overflow-x: auto; padding: 10px; border: 1px solid var(--rim); border-radius: 6px }
.warning { border-left: 3px solid var(--two); padding-left: 10px } details { font-size: .9em; color: var(--faint) }
.one { fill: var(--one); stroke: var(--one) } .two { fill: var(--two); stroke: var(--two) }
.line { fill: none; stroke-width: 2 } .dot { stroke: none; fill-opacity: .45 } .rule { stroke: var(--rim) }
.middle { stroke: var(--faint) }
.bar { stroke: none } svg text { fill: var(--faint); font-size: 12px }
"""


@dataclass(frozen=True)
class Heading:
    """A heading of level 2 or 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph; a warning has a rim."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells, as `format_table` takes them."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str


@dataclass(frozen=True)
class Figure:
    """A drawing in SVG, and the numbers in it."""

    title: str
    svg: str
    numbers: Table
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A JPEG picture, none where it cannot be made, with a title and lines below it."""

    title: str
    content: bytes | None
    lines: Sequence[str]


Block = Heading | Text | Table | Code | Figure | Picture


def write_reports(folder: Path, title: str, blocks: Sequence[Block]) -> None:
    """Write a document as Markdown and as HTML into a folder, with the mark by which they are known again."""
    markdown, html = REPORT_FILES
    write_text_whole(folder / markdown, f"{write_markdown(title, blocks)}\n<!-- {MADE_HERE} -->\n")
    write_text_whole(folder / html, write_html(title, blocks))


def write_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Write a document as Markdown: of a figure the numbers, of a picture what stands below it."""
    parts = [f"# {escape_markdown(_cut(title))}"]
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {escape_markdown(_cut(block.text))}")
        elif isinstance(block, Text):
            parts.append(f"{'**Note.** ' if block.is_warning else ''}{escape_markdown(_cut(block.text))}")
        elif isinstance(block, Table):
            parts.append(_write_table(block))
        elif isinstance(block, Code):
            parts.append(f"```\n{_clean(block.text).replace('```', '` ` `')}\n```")
        elif isinstance(block, Figure):
            note = f" {escape_markdown(_cut(block.note))}" if block.note else ""
            parts += [f"**{escape_markdown(_cut(block.title))}.**{note}", _write_table(block.numbers)]
        else:
            lines = [escape_markdown(_cut(line)) for line in (block.title, *block.lines)]
            parts.append("\n".join([f"- {lines[0]}", *(f"  - {line}" for line in lines[1:])]))
    return "\n\n".join(parts) + "\n"


def _write_table(table: Table) -> str:
    rows = [[_cut(cell) if isinstance(cell, str) else cell for cell in row] for row in table.rows]
    return format_table([escape_markdown(_cut(name)) for name in table.header], rows, markdown=True)


def write_html(title: str, blocks: Sequence[Block]) -> str:
    """Write a document as one HTML file; figures, and pictures, that follow one another stand side by side."""
    name = escape(_cut(title))
    parts, open_kind = [], None
    for block in blocks:
        kind = type(block) if isinstance(block, (Figure, Picture)) else None
        if kind is not open_kind:
            parts.append("</div>" if open_kind else "")
            parts.append(f'<div class="grid{" wide" if kind is Picture else ""}">' if kind else "")
            open_kind = kind
        parts.append(_render(block))
    parts.append("</div>" if open_kind else "")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = (
        f'<meta charset="utf-8"><meta name="generator" content="{MADE_HERE}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{name}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(part for part in parts if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><h1>{name}</h1>\n{body}\n</body></html>\n'


def _render(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(_cut(block.text))}</h{block.level}>"
    if isinstance(block, Text):
        return f"<p{' class=warning' if block.is_warning else ''}>{escape(_cut(block.text))}</p>"
    if isinstance(block, Table):
        return f'<div class="table"><table>{_render_rows(block)}</table></div>'
    if isinstance(block, Code):
        return f"<pre><code>{escape(_clean(block.text))}</code></pre>"
    if isinstance(block, Figure):
        numbers = f'<details><summary>numbers</summary><div class="table"><table>{_render_rows(block.numbers)}'
        caption = f"<b>{escape(_cut(block.title))}</b> {escape(_cut(block.note))}"
        return f"<figure>{block.svg}<figcaption>{caption}</figcaption>{numbers}</table></div></details></figure>"
    picture = ""
    if block.content is not None:
        data = base64.b64encode(block.content).decode()
        picture = f'<img loading="lazy" alt="{escape(_cut(block.title))}" src="data:image/jpeg;base64,{data}">'
    lines = "".join(f"<br>{escape(_cut(line))}" for line in block.lines)
    return f"<figure>{picture}<figcaption><b>{escape(_cut(block.title))}</b>{lines}</figcaption></figure>"


def _render_rows(table: Table) -> str:
    names, lines = leave_out_empty(table.header, table.rows)
    header = "".join(f"<th>{escape(_cut(name))}</th>" for name in names)
    rows = []
    for row in lines:
        cells = []
        for cell in row:
            text = "" if cell is None else cell if isinstance(cell, str) else f"{cell:,}"
            style = " class=short" if len(text) <= _MAX_SHORT else " class=long" if " " in text else ""
            cells.append(f"<td{style}>{escape(_cut(text))}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<tr>{header}</tr>{''.join(rows)}"


def _cut(text: str) -> str:
    """Return a text on one line, cut, without what nothing can show and without folders of this machine."""
    return hide_folders(put_on_line(text, _MAX_CHARACTERS))


def _clean(text: str) -> str:
    """Return lines without what nothing can show."""
    return "\n".join(hide_folders(put_on_line(line, _MAX_LINE)) for line in text.splitlines())
