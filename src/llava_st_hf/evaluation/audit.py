"""What the scoring rules of others make of a file of answers, and of answers that are made to please them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..processing import Box, GroundingResult, InputError, Span, Tube
from ..processing.grounding_results_llava_st import TubeArrays
from ..utils.tables import format_table
from .metrics import compute_box_iou, compute_temporal_iou
from .metrics.tubes import compute_best_ious, compute_second_values, join_tubes, take_seconds
from .predictions import Predictions
from .protocols import PROTOCOLS
from .scoring import score_answer
from .truths import Truth, find_frames

OURS = "ours"
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Rule:
    """How others score one item."""

    name: str  # name of the rule
    users: str  # who scores by it
    explanation: str  # the rule, and the wrong answer that it likes
    part: str  # `"tube"` or `"box"`: what it is about
    # Takes the answer as it is written and the item; `None` leaves the item out of the mean.
    score: Callable[[GroundingResult, Truth], float | None]


def _take_tubes(result: GroundingResult) -> Tube | None:
    return join_tubes(result.tubes) if result.tubes else None


def _score_shared_seconds(answer: GroundingResult, truth: Truth) -> float:
    (said, said_boxes), (true, true_boxes) = (take_seconds(_take_tubes(result)) for result in (answer, truth.result))
    _, places, true_places = np.intersect1d(said, true, assume_unique=True, return_indices=True)
    ious = compute_box_iou(said_boxes[places], true_boxes[true_places])
    spatial = float(ious.mean()) if len(ious) else 0.0
    spans = [
        (result.spans[0].start_seconds, result.spans[0].end_seconds)
        for result in (answer, truth.result)
        if result.spans
    ]
    temporal = float(compute_temporal_iou(*spans)) if len(spans) == 2 else 0.0
    return 0.5 * temporal + 0.5 * spatial


def _score_best_of_boxes(answer: GroundingResult, truth: Truth) -> float:
    ious = compute_best_ious(_take_tubes(answer), _take_tubes(truth.result))
    return float(ious.mean()) if len(ious) else 0.0


def _score_where_defined(answer: GroundingResult, truth: Truth) -> float | None:
    return compute_second_values(_take_tubes(answer), _take_tubes(truth.result)).v_iou_shared


def _score_nearest_box(answer: GroundingResult, truth: Truth) -> float:
    if not answer.boxes:
        return 0.0
    media = truth.result.media
    boxes = np.array([box.xyxy for box in answer.boxes])
    readings = np.concatenate([boxes, boxes * np.array([media.width, media.height] * 2) / 1000])
    return float(compute_box_iou(readings, truth.result.boxes[0].xyxy).max())


def _score_answers_only(answer: GroundingResult, truth: Truth) -> float | None:
    return float(compute_box_iou(answer.boxes[0].xyxy, truth.result.boxes[0].xyxy)) if answer.boxes else None


RULES = (
    Rule(
        "shared seconds",
        "OneThinker, EasyVideoR1",
        "half tIoU, half mean IoU over the seconds that have a box in both: one good box equals a whole tube",
        "tube",
        _score_shared_seconds,
    ),
    Rule(
        "best of boxes",
        "V-STaR",
        "at each second of the truth the best of all boxes: fifty boxes a frame, at all times, cost nothing",
        "tube",
        _score_best_of_boxes,
    ),
    Rule(
        "where defined",
        "VUE-STG, v_IoU_Int",
        "the mean over items in which both have boxes at a time: answer only when sure",
        "tube",
        _score_where_defined,
    ),
    Rule(
        "nearest box",
        "lmms-eval, refcoco_grounding",
        "each box read as pixels and as 0 to 1000, the nearest of all counts: list many boxes",
        "box",
        _score_nearest_box,
    ),
    Rule(
        "answers only",
        "published LLaVA-ST, REC",
        "the mean over answers with a box: refuse the hard ones",
        "box",
        _score_answers_only,
    ),
)


# --------------------------------------------------------------------------------------------------
# Answers made to please
# --------------------------------------------------------------------------------------------------
def _get_ends(truth: Truth) -> tuple[float, float]:
    media = truth.result.media
    return media.start_seconds, media.end_seconds


def _answer_boxes(truth: Truth, boxes: np.ndarray, span: tuple[float, float] | None = None) -> GroundingResult:
    """Answer with the same boxes, as fractions, at every whole second of a span, or in an image."""
    media = truth.result.media
    boxes = boxes * np.array([media.width, media.height] * 2)
    if media.media_type == "image":
        return GroundingResult("", boxes=tuple(Box(*box) for box in boxes.tolist()), media=media)
    span = _get_ends(truth) if span is None else span
    times = np.arange(np.ceil(span[0]), np.floor(span[1]) + 1)
    times = times if len(times) else np.array([span[0]])
    seconds = np.repeat(times, len(boxes))
    tube = Tube.from_arrays(TubeArrays(seconds, find_frames(seconds, media), np.tile(boxes, (len(times), 1))))
    return GroundingResult("", spans=(Span(*span),), tubes=(tube,), media=media)


def _answer_one_box(truth: Truth) -> GroundingResult:
    """Answer with the true span and its first box only; in an image with the true box."""
    result = truth.result
    if not result.tubes:
        return GroundingResult("", boxes=result.boxes[:1], media=result.media)
    arrays = TubeArrays(*(column[:1] for column in result.tubes[0].arrays[:3]))
    return GroundingResult("", spans=result.spans, tubes=(Tube.from_arrays(arrays),), media=result.media)


def _make_grid() -> np.ndarray:
    """Return fifty boxes of two sizes all over the frame."""
    corners = np.stack(np.meshgrid(*[np.arange(5) / 4] * 2), axis=-1).reshape(-1, 2)
    small, large = corners * 0.7, corners * 0.4
    return np.concatenate([np.hstack([small, small + 0.3]), np.hstack([large, large + 0.6])])


def _find_means(truths: Mapping[str, Truth]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean box as fractions of the frame, and the mean span as fractions of the clip."""
    boxes, spans = [], []
    for truth in truths.values():
        result = truth.result
        rows = [box.xyxy for box in result.boxes] + [row for tube in result.tubes for row in tube.arrays.boxes_pixels]
        if rows:
            boxes.append(np.mean(rows, axis=0) / ([result.media.width, result.media.height] * 2))
        if result.spans:
            start, end = _get_ends(truth)
            times = np.array([result.spans[0].start_seconds, result.spans[0].end_seconds])
            spans.append((times - start) / max(end - start, 1e-9))
    return np.mean(boxes, axis=0)[None], np.clip(np.mean(spans or [[0, 1]], axis=0), 0, 1)


def make_adversaries(truths: Mapping[str, Truth]) -> dict[str, Callable[[Truth], GroundingResult | None]]:
    """
    Return answers that look at no picture, or at one only, by name.

    Args:
        truths (`Mapping[str, Truth]`): The items.

    Returns:
        `dict[str, Callable]`: What makes the answer to an item; `None` is no answer.
    """
    grid, whole = _make_grid(), np.array([[0.0, 0.0, 1.0, 1.0]])
    box, span = _find_means(truths)

    def answer_mean(truth: Truth) -> GroundingResult:
        if truth.result.media.media_type == "image":
            return _answer_boxes(truth, box)
        start, end = _get_ends(truth)
        return _answer_boxes(truth, box, tuple((start + span * (end - start)).tolist()))

    return {
        "the truth": lambda truth: truth.result,
        "one box of it": _answer_one_box,
        "fifty boxes": lambda truth: _answer_boxes(truth, grid),
        "whole clip": lambda truth: _answer_boxes(truth, whole),
        "mean box": answer_mean,
        "empty": lambda truth: None,
    }


class Difference(NamedTuple):
    """The item on which a rule and our own scoring differ most."""

    id: str  # its name
    ours: float  # what it is worth by ours
    theirs: float | None  # by the rule; `None` where that leaves it out


@dataclass(frozen=True)
class Audit:
    """
    A file of answers by several rules.

    Example:

    ```python
    >>> print(audit_predictions(truths, predictions).format())
    ```
    """

    table: dict[str, dict[str, float]]  # mean by answers and rule; the first row is the file, the others made
    rules: tuple[Rule, ...]  # the rules that apply
    differences: dict[str, Difference]  # by rule, of the file
    counted: dict[str, int]  # items of the file that each rule counts
    num_items: int  # all items

    def format(self) -> str:
        """Write the table, what each rule is, and where it differs most."""
        names = [OURS, *(rule.name for rule in self.rules)]
        rows = [(name, *(f"{row[column]:.3f}" for column in names)) for name, row in self.table.items()]
        lines = [format_table(("answers", *names), rows, markdown=True), ""]
        lines.append(f"{OURS}: vIoU over every frame, or IoU of the first box; all {self.num_items:,} items count.")
        for rule in self.rules:
            found = self.differences[rule.name]
            theirs = "left out" if found.theirs is None else f"{found.theirs:.3f}"
            lines += [
                f"{rule.name} ({rule.users}): {rule.explanation}; it counts {self.counted[rule.name]:,} items.",
                f"  most different: item {found.id[:_LONGEST_NAME]}, {found.ours:.3f} by ours, {theirs} by this rule.",
            ]
        return "\n".join(lines)


def audit_predictions(truths: Mapping[str, Truth], predictions: Predictions) -> Audit:
    """
    Score answers by our own protocol and by the rules of others, and made answers beside them.

    Args:
        truths (`Mapping[str, Truth]`): The items, all with tubes or all of images with boxes.
        predictions (`Predictions`): The answers.

    Returns:
        `Audit`: Table and differences.

    Raises:
        `InputError`: For items without boxes, or of both kinds.
    """
    parts = {"tube" if truth.result.tubes else "box" if truth.result.boxes else "span" for truth in truths.values()}
    rules = tuple(rule for rule in RULES if {rule.part} == parts)
    if not rules:
        raise InputError("the items have no boxes, or some have tubes and some have none: give those of one task.")
    systems = {"the file": lambda name, truth: predictions.results.get(name)}
    systems |= {name: lambda _, truth, make=make: make(truth) for name, make in make_adversaries(truths).items()}
    table, differences, counted = {}, {}, {}
    for system, answer in systems.items():
        columns: dict[str, list[float | None]] = {name: [] for name in (OURS, *(rule.name for rule in rules))}
        for name, truth in truths.items():
            for rule_name, value in _score_all(answer(name, truth), truth, rules):
                columns[rule_name].append(value)
        means = {name: _take_mean(values) for name, values in columns.items()}
        table[system] = means
        if system == "the file":
            ids = list(truths)
            for rule in rules:
                values = columns[rule.name]
                apart = [
                    abs((means[rule.name] if value is None else value) - ours)
                    for value, ours in zip(values, columns[OURS], strict=True)
                ]
                place = int(np.argmax(apart))
                differences[rule.name] = Difference(ids[place], columns[OURS][place], values[place])
                counted[rule.name] = sum(value is not None for value in values)
    return Audit(table, rules, differences, counted, len(truths))


def _score_all(
    answer: GroundingResult | None, truth: Truth, rules: tuple[Rule, ...]
) -> Iterator[tuple[str, float | None]]:
    scores = score_answer(answer, truth, PROTOCOLS["default"])
    yield OURS, scores["viou" if truth.result.tubes else "iou"]
    written = GroundingResult("") if answer is None else answer
    for rule in rules:
        yield rule.name, rule.score(written, truth)


def _take_mean(values: list[float | None]) -> float:
    counted = [value for value in values if value is not None]
    return float(np.mean(counted)) if counted else 0.0
