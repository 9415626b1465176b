"""The answer of the page: the clip with boxes over it and a time line under it, as plain values for its script."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..processing import TASKS, GroundingResult, Span
from ..visualization import PALETTE
from .preview import Preview

_FOLDER = Path(__file__).parent
VIEW_HTML = '<div class="llava-st-view"></div>'
VIEW_CSS = (_FOLDER / "answer_view.css").read_text(encoding="utf-8")
VIEW_SCRIPT = (_FOLDER / "answer_view.js").read_text(encoding="utf-8")
TABLE_HEADERS = ["query", "what", "start (s)", "end (s)", "x1", "y1", "x2", "y2", "confidence"]


def make_view(results: Sequence[GroundingResult], preview: Preview, media_type: str) -> dict[str, Any]:
    """
    Make the value of the view of answers about one clip or image.

    Times are in seconds of the file and boxes in pixels of the displayed original, with what the script needs to place
    them: `kind`, `file`, `width`, `height`, `first`, `last`, `answers`.
    """
    return {
        "kind": media_type,
        "file": f"/gradio_api/file={preview.path}",
        "width": preview.width,
        "height": preview.height,
        "first": preview.first_seconds,
        "last": preview.last_seconds,
        "answers": [_make_answer(number, result) for number, result in enumerate(results)],
    }


def _make_answer(number: int, result: GroundingResult) -> dict[str, Any]:
    color = "rgb({}, {}, {})".format(*PALETTE[number % len(PALETTE)])
    names = {caption.span: caption.text for caption in reversed(result.captions) if caption.span is not None}
    question, labels = _name_question(result), {row.track: row.label for row in result.labelled_boxes()}
    tubes = [
        {
            "label": labels.get(track) or question,
            "boxes": [[entry.seconds, *entry.box.xyxy, entry.box.confidence] for entry in tube.boxes],
        }
        for track, tube in enumerate(result.tubes, start=1)
    ]
    boxes = [
        {"label": row.label, "box": [*row.box.xyxy, row.box.confidence]}
        for row in result.labelled_boxes()
        if row.track is None
    ]
    is_placed = bool(result.spans or tubes or boxes)  # the words then stand beside their spans and boxes
    return {
        "query": question,
        "color": color,
        "text": result.plain_text if not is_placed or any(each.span is None for each in result.captions) else "",
        "spans": [_make_span(span, names.get(span, "")) for span in result.spans],
        "tubes": tubes,
        "boxes": boxes,
        "problems": [problem.message for problem in result.problems],
    }


def _name_question(result: GroundingResult) -> str:
    return result.query or (TASKS[result.task].title if result.task in TASKS else result.task or "")


def _make_span(span: Span, label: str) -> dict[str, Any]:
    return {"start": span.start_seconds, "end": span.end_seconds, "confidence": span.confidence, "label": label}


def list_rows(results: Sequence[GroundingResult]) -> list[list[Any]]:
    """List spans and boxes as the rows of a table, see `TABLE_HEADERS`."""
    rows = []
    for result in results:
        asked = _name_question(result)
        for span in result.spans:
            times = [round(span.start_seconds, 3), round(span.end_seconds, 3)]
            rows.append([asked, "span", *times, *[None] * 4, _round(span.confidence)])
        for row in result.labelled_boxes():
            place = [round(value, 1) for value in row.box.xyxy]
            seconds = [None, None] if row.seconds is None else [round(row.seconds, 3)] * 2
            rows.append([asked, row.label or "box", *seconds, *place, _round(row.box.confidence)])
    return rows


def _round(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 3)
