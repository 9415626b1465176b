"""Answers of any system from a file: what can be read is read, the rest is counted by reason."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.sample_writing import HOLD_SECONDS
from ..processing import Box, Caption, GroundingResult, InputError, Span, Tube
from ..processing.grounding_results_llava_st import TubeArrays
from .metrics.tubes import interpolate_tube, join_tubes
from .prediction_forms import Entry, read_entries
from .protocols.judge import JudgedAnswer
from .truths import Truth, find_frames

# Why something of a file does not count.
PROBLEMS: Mapping[str, str] = {
    "unknown_id": "the benchmark has no item of this name",
    "unusable_item": "the item cannot be scored for anyone",
    "missing_id": "the answer has no name",
    "repeated_id": "an earlier answer has this name, which counts",
    "unreadable_line": "the line is no JSON object, or lacks cells",
    "unreadable_answer": "the answer is not of the declared form",
    "unreadable_spans": "no pair of times",
    "unreadable_pred_relevant_windows": "no list of windows",
    "unreadable_score": "the score of the judge is no number from 0 to 5",
    "unreadable_boxes": "no list of boxes",
    "unreadable_tube": "no boxes by time",
    "no_answer": "the record holds no answer",
    "not_a_number": "a time or an edge is no finite number, or there are too many or too few",
    "repeated_time": "an earlier box has this second, which counts",
    "reversed_span": "the end is before the start",
    "reversed_box": "right is left of left, or bottom above top",
    "box_without_area": "it has no width or no height",
    "unknown_unit": "the unit cannot be compared, as the benchmark does not say the size or the length",
}
BOX_UNITS = ("pixels", "fraction", "thousandth")
TIME_UNITS = ("seconds", "fraction")
BOX_FORMS = ("xyxy", "xywh")
_DEFAULT_UNITS: Mapping[str, str] = {
    "jsonl": "pixels",
    "video_r1": "pixels",
    "vue_csv": "fraction",
    # They have no boxes.
    **dict.fromkeys(("activitynet", "qvhighlights", "judged"), "pixels"),
}


class PredictionProblem(NamedTuple):
    """Something of a file that does not count."""

    id: str  # name of the item, or the number of the answer where it has none
    reason: str  # one of `PROBLEMS`
    count: int  # how often


@dataclass(frozen=True)
class Predictions:
    """
    The answers of one system.

    Args:
        results (`dict[str, GroundingResult]`): By the names of the items; those without an answer are missing.
        problems (`tuple[PredictionProblem, ...]`): What does not count.

    Example:

    ```python
    >>> predictions = read_predictions("predictions.jsonl", truths)
    >>> predictions.count_problems()
    {'reversed_box': 3, 'unknown_id': 1}
    ```
    """

    results: dict[str, GroundingResult]
    problems: tuple[PredictionProblem, ...] = ()

    def count_problems(self) -> dict[str, int]:
        """Return how often each reason was met, the commonest first."""
        counts: Counter[str] = Counter()
        for problem in self.problems:
            counts[problem.reason] += problem.count
        return dict(counts.most_common())


@dataclass(frozen=True)
class Units:
    """What the numbers of a file mean: declared, never guessed."""

    box: str  # `"pixels"`, `"fraction"` (0 to 1) or `"thousandth"` (0 to 1000) of the frame
    time: str = "seconds"  # `"seconds"`, or `"fraction"` of the clip
    box_form: str = "xyxy"  # `"xyxy"`, or `"xywh"` for left, top, width, height

    def __post_init__(self):
        for name, known in (("box", BOX_UNITS), ("time", TIME_UNITS), ("box_form", BOX_FORMS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(known)}.", field="unit")


def read_predictions(
    path: str | Path,
    truths: Mapping[str, Truth],
    form: str = "jsonl",
    unit: str | None = None,
    time_unit: str = "seconds",
    box_form: str = "xyxy",
    unusable: Collection[str] = (),
) -> Predictions:
    """
    Read the answers of a system.

    Args:
        path (`str` or `Path`): The file.
        truths (`Mapping[str, Truth]`): The items, see `read_truths`.
        form (`str`, *optional*, defaults to `"jsonl"`): How it is written, see `prediction_forms`.
        unit (`str`, *optional*): Unit of boxes; `jsonl` and `video_r1` mean pixels, `vue_csv` fractions, where nothing
            is said. The others must say.
        time_unit (`str`, *optional*, defaults to `"seconds"`): Unit of times.
        box_form (`str`, *optional*, defaults to `"xyxy"`): Order of the numbers of a box.
        unusable (`Collection[str]`, *optional*): Names of items that cannot be scored, whose answers are no mistake.

    Returns:
        `Predictions`: The answers, in seconds and pixels, and what does not count.

    Raises:
        `InputError`: For a file that cannot be opened, an unknown form, or a unit that is not declared.
    """
    if unit is None and form not in _DEFAULT_UNITS:
        raise InputError(
            f"unit is missing: say what the boxes of a file of {form} are in, one of {', '.join(BOX_UNITS)}.",
            field="unit",
        )
    units = Units(unit or _DEFAULT_UNITS[form], time_unit, box_form)
    results: dict[str, GroundingResult] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for number, entry in enumerate(read_entries(path, form)):
        name = str(entry.name)
        name = entry.other_name if name not in truths and entry.other_name in truths else name
        if isinstance(entry.name, bool) or not isinstance(entry.name, (str, int)):
            counts[(f"answer {number}", "missing_id" if entry.is_record else "unreadable_line")] += 1
        elif name not in truths:
            counts[(name[:200], "unusable_item" if name in unusable else "unknown_id")] += 1
        elif name in results:
            counts[(name, "repeated_id")] += 1
        else:
            results[name], problems = make_result(entry, truths[name], units)
            counts.update((name, problem) for problem in problems)
    return Predictions(results, tuple(PredictionProblem(*key, count) for key, count in counts.items()))


def make_result(entry: Entry, truth: Truth, units: Units) -> tuple[GroundingResult, list[str]]:
    """
    Turn an answer as it is written into seconds and pixels; returned beside it is the reason of each number left out.

    An answer with boxes by time and without a span has those from its first to its last box; a gap of more than a
    second and a half parts two of them.
    """
    media, problems = truth.result.media, list(entry.problems)
    if entry.box_unit is not None and entry.box_unit in BOX_UNITS:
        units = replace(units, box=entry.box_unit)
    scale = _find_scale(units, truth)
    rows, is_good = _read_numbers([box for _, box in entry.tube], 4, problems)
    times, is_time = _read_numbers([[time] for time, _ in entry.tube], 1, problems)
    boxes, is_kept = _place_boxes(rows, is_good & is_time, scale, units.box_form, problems)
    seconds = times[is_kept, 0]
    if units.time == "fraction" and truth.has_duration and media.media_type == "video":
        seconds = seconds * _get_duration(truth)
    elif units.time == "fraction" and (entry.tube or entry.spans):
        problems.append("unknown_unit")
        seconds, boxes = seconds[:0], boxes[:0]
    tubes, spans = (), _place_spans(entry.spans, units, truth, problems)
    if len(seconds) and media.media_type == "video":
        order = np.argsort(seconds, kind="stable")
        arrays = TubeArrays(seconds[order], find_frames(seconds[order], media), boxes[order])
        tubes = (Tube.from_arrays(arrays),)
        spans = spans or _find_runs(arrays.seconds)
    rows, is_good = _read_numbers(entry.boxes, 4, problems)
    placed, _ = _place_boxes(rows, is_good, scale, units.box_form, problems)
    confidence = entry.confidence if _is_share(entry.confidence) else None
    captions = (Caption(entry.text),) if entry.text else ()
    for times, sentence in entry.captions:
        placed_spans = _place_spans([times], units, truth, problems)
        spans += placed_spans
        captions += tuple(Caption(sentence, span=span) for span in placed_spans)
    make = GroundingResult if entry.judge_score is None else partial(JudgedAnswer, judge_score=entry.judge_score)
    result = make(
        entry.text or " ".join(sentence for _, sentence in entry.captions),
        query=truth.result.query,
        spans=tuple(replace(span, confidence=confidence) for span in spans),
        boxes=tuple(Box(*box, confidence=confidence) for box in placed.tolist()),
        tubes=tubes,
        captions=captions,
        media=media,
    )
    return result, problems


def resample_answer(answer: GroundingResult, truth: Truth) -> GroundingResult:
    """
    Give an answer a box at every frame of the clip that lies in one of its spans, as our own protocol compares them.

    Between two boxes it moves evenly; before the first and behind the last one it holds for half a second, as it does
    in annotations. Boxes outside of all spans are kept as they are. Of several boxes of a moment the last counts. The
    answer returned has one tube at most.
    """
    if not answer.tubes or not answer.spans:
        return answer
    tube = join_tubes(answer.tubes)
    seconds, frames, boxes = tube.arrays[:3]
    grid, grid_frames = np.asarray(truth.result.media.frame_seconds), np.asarray(truth.result.media.frame_indices)
    outside, places = np.ones(len(seconds), dtype=bool), []
    for span in answer.spans:
        start, end = span.start_seconds - HOLD_SECONDS, span.end_seconds + HOLD_SECONDS
        inside = (seconds >= start) & (seconds <= end)
        outside &= ~inside
        if inside.any():
            first, last = seconds[inside][[0, -1]] + (-HOLD_SECONDS, HOLD_SECONDS)
            first, last = max(first, span.start_seconds), min(last, span.end_seconds)
            places.append(np.flatnonzero((grid >= first - 1e-6) & (grid <= last + 1e-6)))
    taken = np.unique(np.concatenate(places)) if places else np.zeros(0, dtype=np.int64)
    if not len(taken):  # a span between two frames
        return answer
    columns = (
        np.concatenate([grid[taken], seconds[outside]]),
        np.concatenate([grid_frames[taken], frames[outside]]),
        np.concatenate([interpolate_tube(tube, grid_frames[taken]), boxes[outside]]),
    )
    order = np.argsort(columns[0], kind="stable")
    return replace(answer, tubes=(Tube.from_arrays(TubeArrays(*(column[order] for column in columns))),))


def _read_numbers(values: Sequence[Any], size: int, problems: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of numbers, and which of them are finite and as many as they should be."""
    if not values:
        return np.zeros((0, size)), np.zeros(0, dtype=bool)
    try:
        rows = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        rows = None
    if rows is None or rows.shape != (len(values), size):
        rows = np.array([_read_row(value, size) for value in values])
    is_good = np.isfinite(rows).all(-1) & (np.abs(rows) < 1e9).all(-1)
    problems += ["not_a_number"] * int((~is_good).sum())
    return rows, is_good


def _read_row(value: Any, size: int) -> list[float]:
    try:
        row = [float(number) for number in value] if isinstance(value, (list, tuple)) else []
    except (TypeError, ValueError, OverflowError):
        row = []
    return row if len(row) == size else [np.nan] * size


def _place_boxes(
    rows: np.ndarray, is_good: np.ndarray, scale: np.ndarray | None, box_form: str, problems: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes in pixels that count, and which these are."""
    if scale is None:
        problems += ["unknown_unit"] * int(is_good.sum())
        is_good = np.zeros_like(is_good)
        scale = np.ones(4)
    rows = np.where(is_good[:, None], rows, 0.0)
    if box_form == "xywh":
        rows = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], axis=1)
    sides = np.where(is_good[:, None], rows[:, 2:] - rows[:, :2], 1.0)
    is_reversed, is_flat = (sides < 0).any(-1), (sides == 0).any(-1)
    problems += ["reversed_box"] * int(is_reversed.sum()) + ["box_without_area"] * int((is_flat & ~is_reversed).sum())
    kept = is_good & ~is_reversed & ~is_flat
    return rows[kept] * scale, kept


def _find_scale(units: Units, truth: Truth) -> np.ndarray | None:
    """Return what a box is multiplied by; `None` for a unit that cannot be compared."""
    if units.box not in truth.box_units:
        return None
    media = truth.result.media
    size = np.array([media.width, media.height] * 2, dtype=np.float64)
    return {"pixels": np.ones(4), "fraction": size, "thousandth": size / 1000}[units.box]


def _get_duration(truth: Truth) -> float:
    media = truth.result.media
    return media.end_seconds if media.stated_end_seconds is None else media.stated_end_seconds


def _place_spans(values: Sequence[Any], units: Units, truth: Truth, problems: list[str]) -> tuple[Span, ...]:
    rows, is_good = _read_numbers(values, 2, problems)
    if units.time == "fraction":
        if not truth.has_duration:
            return ()
        rows = rows * _get_duration(truth)
    is_reversed = is_good & (rows[:, 0] > rows[:, 1])
    problems += ["reversed_span"] * int(is_reversed.sum())
    return tuple(Span(start, end) for start, end in rows[is_good & ~is_reversed].tolist())


def _find_runs(seconds: np.ndarray) -> tuple[Span, ...]:
    """Return the spans of times in order that stand together."""
    edges = np.flatnonzero(np.diff(seconds) > 1.5)
    starts, ends = [0, *(edges + 1)], [*edges, len(seconds) - 1]
    return tuple(Span(float(seconds[start]), float(seconds[end])) for start, end in zip(starts, ends, strict=True))


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
