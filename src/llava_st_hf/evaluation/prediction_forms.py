"""The forms in which systems write their answers: each is taken apart into plain entries, before any number is read.

| form | a file of | an answer |
| --- | --- | --- |
| `jsonl` | our own: JSON lines, or a list | `id`; `span(s)`; `box(es)`; `tube`: {time: box or boxes}; `text` |
| `vue_csv` | VUE-STG: `query_id, time_ms, x0, y0, x1, y1` | a line for each second: of several the first counts |
| `video_r1` | VideoR1, OneThinker: records with a text | {"time": [start, end], "boxes": {second: box} or box} |
| `qwen` | records with a text | a list of {"bbox_2d": box, "time": seconds}, {"start", "end"} or boxes |
| `v_star` | V-STaR: `answer_temporal`, `answer_spatial` | [start, end] and {second: box or boxes}, or `_pre`: texts |
| `v_star_2` | the same, its second chain: `answer_temporal_2`, ... | the same; `answer_vqa`, `VQA_score` of both |
| `activitynet` | {"results": {video: list}} | {"timestamp": [start, end], "sentence": text} of each event |
| `qvhighlights` | JSON lines: `qid`, `pred_relevant_windows` | [[start, end, score]], the surest first |
| `judged` | the public judge of VCG: {name: [{"score": 0 to 5}, {"q", "a", "pred"}]} | the score |

An answer of `jsonl` may have a `confidence` from 0 to 1, and a `box_unit` of its own.
The text of a record is its `answer`, `output`, `prediction`, `response`, `solution` or `text`; JSON is looked for in
it, behind `<answer>` where that is written. The name of a record is its `id`, `problem_id`, `question_id`, `qid`,
`query_id` or `vid`.
"""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..processing import InputError
from ..utils.regular_files import check_regular_file
from .protocols.judge import HIGHEST_SCORE

_NAMES = ("id", "problem_id", "question_id", "qid", "query_id", "vid")
_TEXTS = ("answer", "output", "prediction", "response", "solution", "text")
_BETWEEN = re.compile(r"[\s,]*")
_VUE_COLUMNS = ("query_id", "time_ms", "x0", "y0", "x1", "y1")
_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)  # or a text, in which others may stand
_MAX_DEPTH = 50  # of brackets in each other
_MAX_TEXT = 2_000_000  # characters of one answer that are read
_NUMBER = r"-?\d{1,30}(?:\.\d{1,30})?"
_SPAN = re.compile(rf"({_NUMBER})\s*(?:,|-|to|and|s|\s)\s*(?:to\s*)?({_NUMBER})")


@dataclass
class Entry:
    """One answer as it is written, in the units of its file."""

    name: Any  # name of the item
    spans: list[Any] = field(default_factory=list)  # pairs of start and end
    boxes: list[Any] = field(default_factory=list)  # boxes of an image
    tube: list[tuple[Any, Any]] = field(default_factory=list)  # time and box; of a time there may be several
    text: str = ""  # words
    confidence: Any = None  # from 0 to 1
    problems: list[str] = field(default_factory=list)  # why something could not be read
    box_unit: str | None = None  # unit of the boxes, where the entry itself declares it
    captions: list[tuple[Any, str]] = field(default_factory=list)  # span and sentence of each event
    judge_score: float | None = None  # what a judge gave, from 0 to 5
    other_name: str | None = None  # name of the item where there is none of the first name
    is_record: bool = True  # whether it is a record at all


def read_entries(path: str | Path, form: str) -> Iterator[Entry]:
    """
    Yield the answers of a file in one of `FORMS`; one that cannot be opened or is of another form is an `InputError`.
    """
    if form not in FORMS:
        raise InputError(
            f"predictions_format is {form!r}: choose one of {', '.join(FORMS)}.", field="predictions_format"
        )
    check_regular_file(path, "file", field="predictions")
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"predictions is {str(path)!r}, which cannot be read: {error.strerror}.") from error
    if form != "vue_csv" and _has_vue_columns(text):
        raise InputError(f"{path} has the columns of vue_csv: declare that form.", field="predictions_format")
    if (read := _WHOLE_FILES.get(form)) is not None:
        yield from read(text, path)
        return
    counts: Counter[str] = Counter()
    for record in _read_records(text):
        if not isinstance(record, Mapping):
            yield Entry(None, is_record=False)
            continue
        entry = Entry(next((record[name] for name in _NAMES if record.get(name) is not None), None))
        try:
            FORMS[form](record, entry)
        except RecursionError:
            entry.problems.append("unreadable_answer")
        if form in ("v_star", "v_star_2") and isinstance(record.get("vid"), str) and entry.name == record["vid"]:
            yield from _part_v_star(record, entry, counts)
        else:
            yield entry


def _read_records(text: str) -> Iterator[Any]:
    """Yield the elements of a JSON list, or the lines of JSON; `None` for what is none."""
    first = text.lstrip().split("\n", 1)
    if first[0].startswith("[") and (len(first) == 1 or _load(first[0]) is None):
        yield from _read_elements(text, text.index("[") + 1)
        return
    for line in text.splitlines():
        if line.strip():
            yield _load(line)


def _read_elements(text: str, place: int) -> Iterator[Any]:
    """Yield the elements of a list one by one, so that those before a damage are read."""
    while (place := _BETWEEN.match(text, place).end()) < len(text) and text[place] != "]":
        try:
            element, place = _DECODER.raw_decode(text, place)
        except RecursionError:  # no more than once: nothing deep is left
            text = text[:place] + _cut_deep(text[place:])
            continue
        except ValueError:
            yield None
            return
        yield element


def _read_integer(text: str) -> float | int:
    """Return a whole number; one of thousands of digits, which Python refuses, is as large as a float can be."""
    return int(text) if len(text) < 400 else math.copysign(math.inf, -1 if text.startswith("-") else 1)


class _Repeated(list):
    """The values of a name that stands several times in an object, of which JSON keeps one alone."""


def _keep_all(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in pairs:
        if name not in kept:
            kept[name] = value
        elif isinstance(kept[name], _Repeated):
            kept[name].append(value)
        else:
            kept[name] = _Repeated((kept[name], value))
    return kept


def _list_named(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and values, a name that stands several times as often."""
    for name, value in content.items():
        yield from ((name, each) for each in (value if isinstance(value, _Repeated) else [value]))


_DECODER = json.JSONDecoder(parse_int=_read_integer)
_WHOLE_DECODER = json.JSONDecoder(parse_int=_read_integer, object_pairs_hook=_keep_all)


def _load(text: str, decoder: json.JSONDecoder = _DECODER) -> Any:
    try:
        return decoder.decode(text)
    except RecursionError:
        return _load(_cut_deep(text), decoder)
    except ValueError:
        return None


def _cut_deep(text: str) -> str:
    """Return JSON with `null` for what is nested too deeply to be read, and for all behind it that is never closed."""
    parts, depth, place = [], 0, 0
    for match in _BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth == _MAX_DEPTH:
                parts += text[place : match.start()], "null"
                place = len(text)
        elif match[0] in "]}":
            if depth == _MAX_DEPTH:
                place = match.end()
            depth -= 1
    return "".join((*parts, text[place:]))


def _read_vue_header(text: str) -> list[str]:
    return [cell.strip() for cell in text.split("\n", 1)[0].split(",")]


def _has_vue_columns(text: str) -> bool:
    return set(_VUE_COLUMNS) <= set(_read_vue_header(text))


def _read_vue_csv(text: str, path: str | Path) -> Iterator[Entry]:
    lines = text.splitlines()
    if not _has_vue_columns(text):
        raise InputError(f"{path} has no columns {', '.join(_VUE_COLUMNS)}: declare another form than vue_csv.")
    header = _read_vue_header(text)
    places = [header.index(name) for name in _VUE_COLUMNS]
    entries: dict[str, Entry] = {}
    seen = set()
    for line in filter(str.strip, lines[1:]):
        cells = [cell.strip() for cell in _split(line)]
        name = cells[places[0]] if len(cells) > places[0] else ""
        entry = entries.setdefault(name, Entry(name))
        if len(cells) <= max(places):
            entry.problems.append("unreadable_line")
            continue
        time, x1, y1, x2, y2 = (_to_number(cells[place]) for place in places[1:])
        # As the public scorer rounds it: halves up, of whole milliseconds.
        second = (2 * int(time) + 1000) // 2000 if math.isfinite(time) else math.nan
        if (name, second) in seen:
            entry.problems.append("repeated_time")
            continue
        seen.add((name, second))
        entry.tube.append((second, [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]))
    yield from entries.values()


def _read_activitynet(text: str, path: str | Path) -> Iterator[Entry]:
    content = _load(text, _WHOLE_DECODER)
    results = content.get("results") if isinstance(content, Mapping) else None
    if not isinstance(results, Mapping):
        raise InputError(f"{path} has no results of videos: declare another form than activitynet.")
    for name, events in _list_named(results):
        entry = Entry(name)
        for event in events if isinstance(events, list) else [None]:
            if (
                not isinstance(event, Mapping)
                or not isinstance(event.get("sentence"), str)
                or "timestamp" not in event
            ):
                entry.problems.append("unreadable_answer")
            else:
                entry.captions.append((event["timestamp"], event["sentence"][:_MAX_TEXT]))
        if not entry.captions and not entry.problems:
            entry.problems.append("no_answer")
        yield entry


def _read_judged(text: str, path: str | Path) -> Iterator[Entry]:
    content = _load(text, _WHOLE_DECODER)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds no object of scores by name: declare another form than judged.")
    for name, judged in _list_named(content):
        verdict = judged[0] if isinstance(judged, list) and judged else judged
        said = judged[1] if isinstance(judged, list) and len(judged) > 1 and isinstance(judged[1], Mapping) else {}
        score = _to_number(verdict.get("score") if isinstance(verdict, Mapping) else None)
        is_score = 0 <= score <= HIGHEST_SCORE
        for key in (" Q1", " Q2") if "pred1" in said else ("",):
            entry = Entry(name + key, judge_score=score if is_score else None)
            # The public script puts a number behind each name that it finds.
            entry.other_name = name.removesuffix("_0") + key
            entry.text = str(said.get(f"pred{key[-1:]}", ""))[:_MAX_TEXT]
            entry.problems += [] if is_score else ["unreadable_score"]
            yield entry


def _split(line: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except (csv.Error, StopIteration):
        return line.split(",")


def _to_number(text: Any) -> float:
    """Return a number, NaN for what is none."""
    try:
        return float(text)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _read_own(record: Mapping[str, Any], entry: Entry) -> None:
    entry.spans = _list("spans", record, entry) if "spans" in record else _wrap(record.get("span"))
    entry.boxes = _list("boxes", record, entry) if "boxes" in record else _wrap(record.get("box"))
    entry.tube = _list_tube(record.get("tube"), entry)
    entry.text = record["text"][:_MAX_TEXT] if isinstance(record.get("text"), str) else ""
    entry.confidence, entry.box_unit = record.get("confidence"), record.get("box_unit")
    if not (entry.spans or entry.boxes or entry.tube or entry.text):
        entry.problems.append("no_answer")


def _list(name: str, record: Mapping[str, Any], entry: Entry) -> list[Any]:
    if isinstance(record[name], list):
        return record[name]
    entry.problems.append(f"unreadable_{name}")
    return []


def _wrap(value: Any) -> list[Any]:
    return [] if value is None else [value]


def _list_tube(value: Any, entry: Entry) -> list[tuple[Any, Any]]:
    """Return time and box of each box of {time: box or boxes} or of a list of {"time": ..., "box": ...}."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list) and all(isinstance(part, Mapping) for part in value):
        pairs = [(part.get("time"), part.get("box", part.get("bbox_2d"))) for part in value]
    else:
        if value is not None:
            entry.problems.append("unreadable_tube")
        return []
    tube = []
    for time, boxes in pairs:
        is_several = isinstance(boxes, list) and bool(boxes) and isinstance(boxes[0], list)
        tube += [(time, box) for box in (boxes if is_several else [boxes])]
    return tube


def _find_json(record: Mapping[str, Any], entry: Entry, names: tuple[str, ...] = _TEXTS) -> Any:
    """Return the JSON of the text of a record; what is no text is taken as it is."""
    value = next((record[name] for name in names if record.get(name) is not None), None)
    if not isinstance(value, str):
        if value is None:
            entry.problems.append("no_answer")
        return value
    text = value[:_MAX_TEXT]
    entry.text = text
    text = text.rsplit("<answer>", 1)[-1].split("</answer>", 1)[0]
    for opening in sorted({text.find(mark) for mark in "{["} - {-1}):
        try:
            return _DECODER.raw_decode(text[opening:])[0]
        except (ValueError, RecursionError):
            continue
    entry.problems.append("no_answer" if not text.strip() else "unreadable_answer")
    return None


def _read_video_r1(record: Mapping[str, Any], entry: Entry) -> None:
    found = _find_json(record, entry)
    if not isinstance(found, Mapping):
        if found is not None:
            entry.problems.append("unreadable_answer")
        return
    entry.spans = _wrap(found.get("time"))
    boxes = found.get("boxes")
    if isinstance(boxes, list):
        entry.boxes = boxes if boxes and isinstance(boxes[0], list) else [boxes]
    else:
        entry.tube = _list_tube(boxes, entry)


def _read_qwen(record: Mapping[str, Any], entry: Entry) -> None:
    found = _find_json(record, entry)
    if isinstance(found, list) and found and not isinstance(found[0], (list, Mapping)):
        found = [found]  # one box, bare
    for part in found if isinstance(found, list) else _wrap(found):
        if isinstance(part, list):
            entry.boxes.append(part)
        elif isinstance(part, Mapping) and isinstance(part.get("start"), (int, float)) and "end" in part:
            entry.spans.append([part["start"], part["end"]])
        elif isinstance(part, Mapping) and "bbox_2d" in part:
            if (time := part.get("time", part.get("timestamp"))) is None:
                entry.boxes.append(part["bbox_2d"])
            else:
                entry.tube.append((time, part["bbox_2d"]))
        else:
            entry.problems.append("unreadable_answer")


def _read_v_star(record: Mapping[str, Any], entry: Entry, chain: str = "") -> None:
    # What was read of a text counts, as in the public scorer, and the text where nothing was.
    names = (f"answer_temporal{chain}", f"answer_temporal_pre{chain}")
    times = next((record[name] for name in names if record.get(name)), None)
    if isinstance(times, str):
        match = _SPAN.search(times[:_MAX_TEXT])
        times = [float(match[1]), float(match[2])] if match else None
        if match is None:
            entry.problems.append("unreadable_spans")
    entry.spans = _wrap(times)
    names = (f"answer_spatial{chain}", f"answer_spatial_pre{chain}")
    boxes = {name: record[name] for name in names if record.get(name)}
    entry.tube = _list_tube(_find_json(boxes, entry, tuple(boxes)), entry)


def _part_v_star(record: Mapping[str, Any], entry: Entry, counts: Counter[str]) -> Iterator[Entry]:
    """Yield the answers to the questions of an element, named as its reader names them."""
    name = str(entry.name)
    counts[name] += 1
    name = name if counts[name] == 1 else f"{name} {counts[name]}"
    problems = [problem for problem in entry.problems if problem != "unreadable_spans"]
    when = ["unreadable_spans"] if len(problems) < len(entry.problems) else [] if entry.spans else ["no_answer"]
    yield Entry(f"{name} when", spans=entry.spans, problems=when)
    yield Entry(f"{name} where", tube=entry.tube, problems=problems)
    if isinstance(record.get("answer_vqa"), str):
        score = _to_number(record.get("VQA_score"))  # of the public judge; -1 for what it said no number about
        judged = None if math.isnan(score) else min(max(score, 0.0), HIGHEST_SCORE)
        yield Entry(f"{name} what", text=record["answer_vqa"][:_MAX_TEXT], judge_score=judged)


def _read_qvhighlights(record: Mapping[str, Any], entry: Entry) -> None:
    windows = _list("pred_relevant_windows", record, entry) if "pred_relevant_windows" in record else []
    scores = [window[2] if isinstance(window, list) and len(window) > 2 else None for window in windows]
    if all(isinstance(score, (int, float)) for score in scores):
        windows = [window for _, window in sorted(zip(scores, windows, strict=True), key=lambda pair: -pair[0])]
    entry.spans = [window[:2] if isinstance(window, list) else window for window in windows]
    if not windows:
        entry.problems.append("no_answer")


# Forms of which an answer is not one record.
_WHOLE_FILES: Mapping[str, Callable[[str, str | Path], Iterator[Entry]]] = {
    "activitynet": _read_activitynet,
    "judged": _read_judged,
    "vue_csv": _read_vue_csv,
}
FORMS: Mapping[str, Callable[[Mapping[str, Any], Entry], None] | None] = {
    "jsonl": _read_own,
    "vue_csv": None,
    "video_r1": _read_video_r1,
    "qwen": _read_qwen,
    "v_star": _read_v_star,
    "v_star_2": partial(_read_v_star, chain="_2"),
    "activitynet": None,
    "qvhighlights": _read_qvhighlights,
    "judged": None,
}
