"""A `GroundingResult` as HTML that needs nothing from outside: a picture, a time line, a table, the words."""

import base64
import io
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ..processing import GroundingResult, InputError, open_image
from ..processing.grounding_summary_llava_st import describe_box, describe_span
from .contact_sheet import draw_contact_sheet
from .drawing import draw_on_image
from .fonts import put_on_line
from .marks import Color, list_marks
from .output_files import MADE_HERE

_SHEET = {"columns": 4, "rows": 3, "cell_pixels": 208}  # as wide as the page, so that its letters keep their size
_IMAGE_PIXELS = 960  # longer side
_MAX_ROWS = 20
_MAX_CHARACTERS = 2000
_WIDTH = 960  # at most, in pixels


class _Row(NamedTuple):
    """A line of the table, and of the time line where it has a time."""

    label: str
    color: Color
    start_seconds: float | None
    end_seconds: float | None
    place: str
    confidence: float | None


def draw_result(result: GroundingResult, source: Any = None) -> Image.Image:
    """
    Draw an answer: onto its image, or onto a sheet of frames of its clip.

    Args:
        result (`GroundingResult`): The answer.
        source (`str`, `Path` or `bytes`, *optional*): The clip or image; `result.media.source` where it is left out.

    Returns:
        `PIL.Image.Image`: The picture.

    Raises:
        `InputError`: If it is not known what the answer is about, or that cannot be read.
    """
    source = find_source(result, source)
    if result.media.media_type == "image":
        return draw_on_image(open_image(source), result)
    return draw_contact_sheet(source, result)


def find_source(result: GroundingResult, source: Any = None) -> Any:
    """Return the clip or image that an answer is about; `InputError` where nothing says where it lies."""
    if result.media is None:
        raise InputError("media is not set: give the result the MediaInfo of the clip or image that it is about.")
    if source is None and result.media.source is None:
        raise InputError(
            f"source is not known, because the {result.media.media_type} was given as bytes or pixels: give its file "
            "as source."
        )
    return result.media.source if source is None else source


def render_html(result: GroundingResult, source: Any = None) -> str:
    """
    Write an answer as a piece of HTML, as notebooks show it.

    Args:
        result (`GroundingResult`): The answer.
        source (`str`, `Path` or `bytes`, *optional*): The clip or image; `result.media.source` where it is left out.

    Returns:
        `str`: One `<div>`. Where the clip or image cannot be read it says why, in the place of the picture.
    """
    rows = list(_list_rows(result))
    problems = [problem.message for problem in result.problems]
    problems += [f"media: {problem}" for problem in (result.media.problems if result.media else ())]
    parts = [
        _render_title(result),
        _render_picture(result, source),
        _render_timeline(result, rows),
        _render_table(rows),
        _paragraph(f"answer: <code>{_escape(result.text)}</code>"),
        *(_paragraph(f"problem: {_escape(problem)}") for problem in problems),
        *(_paragraph(f"note: {_escape(note)}") for note in result.notes),
    ]
    style = f"font: 14px/1.5 system-ui, sans-serif; max-width: {_WIDTH}px; overflow-wrap: break-word"
    return f'<div style="{style}">{"".join(parts)}</div>'


def render_page(result: GroundingResult, source: Any = None) -> str:
    """Write an answer as a page of its own, see `render_html`."""
    title = _escape(result.query or result.task or "answer")
    head = f'<meta charset="utf-8"><meta name="generator" content="{MADE_HERE}"><title>{title}</title>'
    head += '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{render_html(result, source)}</body></html>\n'


def _list_rows(result: GroundingResult) -> Iterator[_Row]:
    """Yield spans, tubes and boxes, with the colours that they have in the picture."""
    tubes = 0
    for mark in list_marks(result):
        for span in mark.spans:
            label = mark.label if mark.has_own_words else "span"
            yield _Row(label, mark.color, span.start_seconds, span.end_seconds, "", span.confidence)
        if (tube := mark.tube) is not None:
            tubes += 1
            first, last = tube.boxes[0].box, tube.boxes[-1].box
            label = f"tube {tubes}" if len(result.tubes) > 1 else "tube"
            place = f"{len(tube.boxes)} boxes, the first {describe_box(first)}, the last {describe_box(last)}"
            place = place if len(tube.boxes) > 1 else f"1 box, {describe_box(first)}"
            yield _Row(label, mark.color, tube.start_seconds, tube.end_seconds, place, None)
        for box in mark.boxes:
            yield _Row(mark.label, mark.color, None, None, describe_box(box), box.confidence)


def _render_title(result: GroundingResult) -> str:
    facts = [result.task] if result.task else []
    if (media := result.media) is not None:
        facts += [Path(media.source).name] if media.source else []
        facts.append(f"{media.width}x{media.height} pixels")
        if media.media_type == "video":
            facts.append(f"{len(media.frame_seconds)} frames from {describe_span(media)}")
    query = f"<strong>{_escape(result.query)}</strong><br>" if result.query else ""
    return _paragraph(f'{query}<span style="opacity: .75">{_escape(", ".join(facts))}</span>')


def _render_picture(result: GroundingResult, source: Any) -> str:
    try:
        source = find_source(result, source)
        if result.media.media_type == "image":
            picture = open_image(source)
            picture.thumbnail((_IMAGE_PIXELS, _IMAGE_PIXELS))
            picture = draw_on_image(picture, result)
        else:
            picture = draw_contact_sheet(source, result, **_SHEET)
    except (InputError, OSError) as error:
        return _paragraph(f'<span style="opacity: .75">no picture: {_escape(str(error))}</span>')
    content = io.BytesIO()
    picture.save(content, format="JPEG", quality=85)
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="the answer" style="max-width: 100%" src="data:image/jpeg;base64,{data}">'


def _render_timeline(result: GroundingResult, rows: list[_Row]) -> str:
    """Draw a bar for each span and tube over the time that the model saw; its words keep their size at any width."""
    bars = [row for row in rows if row.start_seconds is not None][:_MAX_ROWS]
    if not bars:
        return ""
    moments = [moment for row in bars for moment in (row.start_seconds, row.end_seconds)]
    if result.media is not None:
        moments += result.media.frame_seconds[:1] + result.media.frame_seconds[-1:]
    first, last = min(moments), max(moments)
    lines = []
    for row in bars:
        left, right = (
            100 * (moment - first) / max(last - first, 1e-9) for moment in (row.start_seconds, row.end_seconds)
        )
        bar = f"margin-left: {min(left, 99):.2f}%; width: {max(right - left, 1):.2f}%; background: rgb{row.color}"
        lines.append(
            '<div style="overflow: hidden; text-overflow: ellipsis; white-space: nowrap">'
            f"{_describe_time(row)} {_escape(row.label)}</div>"
            '<div style="background: rgba(128, 128, 128, .3); border-radius: 3px; overflow: hidden">'
            f'<div style="height: 12px; border-radius: 3px; {bar}"></div></div>'
        )
    ends = "".join(f"<span>{seconds:.2f} s</span>" for seconds in (first, (first + last) / 2, last))
    lines.append(f'<div style="display: flex; justify-content: space-between; opacity: .75">{ends}</div>')
    return f'<div role="group" aria-label="time line" style="margin: 6px 0">{"".join(lines)}</div>'


def _render_table(rows: list[_Row]) -> str:
    if not rows:
        return ""
    shown = rows[:_MAX_ROWS]
    columns = {
        "": [f'<span style="color: rgb{row.color}">&#9632;</span>&nbsp;{_escape(row.label)}' for row in shown],
        "when": [_describe_time(row) for row in shown],
        "where": [_escape(row.place) for row in shown],
        "confidence": ["" if row.confidence is None else f"{row.confidence:.2f}" for row in shown],
    }
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    style = 'style="text-align: left; vertical-align: top; padding: 2px 12px 2px 0"'
    lines = [[f"<th {style}>{name}</th>" for name in columns]]
    lines += [[f"<td {style}>{cell}</td>" for cell in cells] for cells in zip(*columns.values(), strict=True)]
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in lines)
    more = _paragraph(f"and {len(rows) - _MAX_ROWS} more") if len(rows) > _MAX_ROWS else ""
    return f'<div style="overflow-x: auto"><table style="border-collapse: collapse">{body}</table></div>{more}'


def _describe_time(row: _Row) -> str:
    # A line breaks before "to" only.
    return "" if row.start_seconds is None else f"{row.start_seconds:.2f}\xa0s to\xa0{row.end_seconds:.2f}\xa0s"


def _paragraph(content: str) -> str:
    return f'<p style="margin: 6px 0">{content}</p>'


def _escape(text: str, max_characters: int = _MAX_CHARACTERS) -> str:
    """Return a text for the inside of an element: on one line, cut, without what no font can show."""
    return escape(put_on_line(text, max_characters))
