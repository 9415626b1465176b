"""A `GroundingResult` in words: a few lines for a reader, and one line for a list of results."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .media_llava_st import format_count, make_printable

if TYPE_CHECKING:
    from .grounding_results_llava_st import Box, GroundingResult, Span, Tube, TubeBox

_LONGEST_ANSWER = 400  # characters; `result.text` has it all
_LONGEST_EXCERPT = 60
_MAX_LINES = 20  # of one kind
_MAX_ITEMS = 3


def summarize(result: "GroundingResult") -> str:
    """Describe a result in a few lines: what was asked, when, where, in which words, and what could not be read."""
    lines = [] if result.query is None else [f"query: {make_printable(result.query)}"]
    lines += _cut(map(describe_found, result.spans), "spans")
    lines += _cut(map(describe_found, result.boxes), "boxes")
    for tube in result.tubes:
        lines.append(f"tube: {describe_tube(tube)}")
        ends = (tube.boxes[0], tube.boxes[-1])[: len(tube.boxes)]
        lines += [f"  {entry.seconds:.2f} s: {describe_box(entry.box)}" for entry in ends]
    lines += _cut((f"caption: {make_printable(caption.text)}" for caption in result.captions), "captions")
    lines.append(f"answer: {_shorten(result.text, _LONGEST_ANSWER)}")
    lines += [] if result.task is None else [f"task: {result.task}"]
    for problem in result.problems:
        excerpt = f" {problem.text[:40]!r}" if problem.text else ""
        lines.append(f"problem: {problem.message}{excerpt}")
    lines += [f"note: {note}" for note in result.notes]
    if result.media is not None:
        lines += [f"media problem: {problem}" for problem in result.media.problems]
    return make_printable("\n".join(lines), kept="\n")


def abbreviate(result: "GroundingResult") -> str:
    """Describe a result in one line."""
    texts = {"task": result.task, "query": result.query, "text": result.text}
    parts = [f"{name}={_shorten(text, _LONGEST_EXCERPT)!r}" for name, text in texts.items() if text is not None]
    groups = {
        "spans": [describe_span(span) for span in result.spans],
        "boxes": [describe_box(box) for box in result.boxes],
        "tubes": [describe_tube(tube) for tube in result.tubes],
        "captions": [repr(_shorten(caption.text, _LONGEST_EXCERPT)) for caption in result.captions],
        "problems": [problem.kind for problem in result.problems],
    }
    parts[-1:-1] = [f"{name}=[{_join(items)}]" for name, items in groups.items() if items]
    return f"GroundingResult({', '.join(parts)})"


def describe_span(span: "Span") -> str:
    """Write when something happens."""
    return f"{span.start_seconds:.2f} s to {span.end_seconds:.2f} s"


def describe_box(box: "Box") -> str:
    """Write where something is."""
    return f"({box.x1:.0f}, {box.y1:.0f}) to ({box.x2:.0f}, {box.y2:.0f}) pixels"


def describe_tube(tube: "Tube") -> str:
    """Write how many boxes there are, and from when to when."""
    return f"{format_count(len(tube.boxes), 'box')} from {tube.start_seconds:.2f} s to {tube.end_seconds:.2f} s"


def describe_found(found: "Span | Box | TubeBox") -> str:
    """Write a span, or a box with its moment where it has one."""
    box = getattr(found, "box", found)
    if hasattr(found, "start_seconds"):
        return f"span: {describe_span(found)}{_describe_confidence(found)}"
    moment = f"{found.seconds:.2f} s: " if box is not found else ""
    return f"box: {moment}{describe_box(box)}{_describe_confidence(box)}"


def _describe_confidence(found: "Span | Box") -> str:
    return "" if found.confidence is None else f", confidence {found.confidence:.2f}"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]} ..."


def _cut(lines: Iterable[str], what: str) -> list[str]:
    lines = list(lines)
    return [*lines[:_MAX_LINES], f"and {len(lines) - _MAX_LINES} more {what}"] if len(lines) > _MAX_LINES else lines


def _join(items: list[str]) -> str:
    more = [f"{len(items) - _MAX_ITEMS} more"] if len(items) > _MAX_ITEMS else []
    return ", ".join(items[:_MAX_ITEMS] + more)


__all__ = ["abbreviate", "describe_box", "describe_found", "describe_span", "describe_tube", "summarize"]
