"""What one answer is worth, and the metrics of many: our own protocol and the published one.

Both protocols compare a `GroundingResult` with a `GroundingResult`: spans in seconds, boxes and tubes in pixels, on
the same clip or image. What of an answer is measured stands in the table of tasks. Our own protocol reads the answer
with `parse_answer` and counts every item; an answer that could not be read is worth 0, and `find_failure` says why.
The published one is `reference_protocol`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..processing.answer_problems_llava_st import ProblemKind
from ..processing.grounding_results_llava_st import Box, GroundingResult, Span, Tube
from ..processing.media_llava_st import InputError, MediaInfo
from ..processing.notation_llava_st import CoordinateVocabulary
from ..processing.tasks_llava_st import TASKS, Task, get_task
from . import reference_protocol
from .metrics import (
    TubeIoU,
    compute_box_iou,
    compute_mean,
    compute_recall,
    compute_temporal_iou,
    compute_tube_iou,
    compute_union_iou,
    normalize_text,
)

# Problems for which a value was left out; they say more than that it is missing.
_LOSING_PROBLEMS: frozenset[ProblemKind] = frozenset(
    (
        "reversed_span",
        "degenerate_box",
        "wrong_coordinate_count",
        "wrong_coordinate_axis",
        "unclosed_bracket",
        "out_of_range",
        "malformed_coordinate",
        "stray_coordinate",
        "time_on_image",
        "truncated_answer",
    )
)
_THRESHOLDS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Measure:
    """
    One value per item, and the metrics made of it.

    Args:
        name (`str`): Name of the value in the scores of an item.
        part (`str`): The part of an answer that is compared with that of the truth, see `AnswerFormat.parts`.
        compare (`Callable`): Compares the two; takes both parts and the medium, returns one or several from 0 to 1.
        mean_name (`str`): Name of the mean.
        threshold_name (`str`, *optional*, defaults to `""`): Beginning of the names of the shares, such as `"tIoU@"`.
        thresholds (`tuple[float, ...]`, *optional*, defaults to `()`): From which value on an item counts.
        field (`str`, *optional*): Which one it is of several values that `compare` returns.
        takes_all (`bool`, *optional*, defaults to `False`):
            Whether `compare` takes all spans or tubes of an answer, and not the first.

    Example:

    ```python
    >>> MEASURES["box_iou"].compute_metrics([0.4, 0.8])
    {'m_IoU': 0.6, 'acc@0.5': 0.5}
    ```
    """

    name: str
    part: str
    compare: Callable[[Any, Any, MediaInfo], float | TubeIoU]
    mean_name: str
    threshold_name: str = ""
    thresholds: tuple[float, ...] = ()
    field: str | None = None
    takes_all: bool = False

    def score(self, answer: GroundingResult, truth: GroundingResult, compared: dict[Any, Any]) -> float:
        """
        Compare an answer with a truth that has the part; an answer without it is worth 0.

        What was compared is kept in `compared` for the other measures of the same answer.
        """
        if (key := (self.part, self.compare)) not in compared:
            said, true = (_find_part(result, self.part, self.takes_all) for result in (answer, truth))
            compared[key] = None if said is None else self.compare(said, true, truth.media)
        value = compared[key]
        if value is None:
            return 0.0
        return float(value if self.field is None else getattr(value, self.field))

    def compute_metrics(self, values: Sequence[float]) -> dict[str, float]:
        """Compute the mean, and the shares at the thresholds, from 0 to 1; no values at all is an `InputError`."""
        shares = {f"{self.threshold_name}{t}": compute_recall(values, t) for t in self.thresholds}
        return {self.mean_name: compute_mean(values), **shares}


def _find_part(result: GroundingResult, part: str, takes_all: bool = False) -> Any:
    """Return the first span, box or tube of a result, or all, or the words of the whole or of its first caption."""
    if part == "text":
        return result.plain_text.strip() or None
    captions = [caption.text for caption in result.captions]
    found = {"span": result.spans, "box": result.boxes, "tube": result.tubes, "caption": captions}[part]
    if not found:
        return None
    return found if takes_all else found[0]


def _compare_spans(said: Span, true: Span, media: MediaInfo) -> float:
    return compute_temporal_iou(*((span.start_seconds, span.end_seconds) for span in (said, true)))


def _compare_all_spans(said: Sequence[Span], true: Sequence[Span], media: MediaInfo) -> float:
    return compute_union_iou(*([(span.start_seconds, span.end_seconds) for span in spans] for spans in (said, true)))


def _compare_boxes(said: Box, true: Box, media: MediaInfo) -> float:
    return compute_box_iou(said.xyxy, true.xyxy)


def _compare_tubes(said: Tube, true: Tube, media: MediaInfo) -> TubeIoU:
    return compute_tube_iou(said, true, media.frame_indices)


def _join(tubes: Sequence[Tube]) -> Tube:
    return Tube(tuple(sorted((box for tube in tubes for box in tube.boxes), key=lambda box: box.seconds)))


def _compare_all_tubes(said: Sequence[Tube], true: Sequence[Tube], media: MediaInfo) -> TubeIoU:
    return _compare_tubes(_join(said), _join(true), media)


def _compare_words(said: str, true: str, media: MediaInfo) -> float:
    return normalize_text(said) == normalize_text(true)


# By the names that the table of tasks has for them.
MEASURES: Mapping[str, Measure] = {
    "temporal_iou": Measure("tiou", "span", _compare_spans, "m_tIoU", "tIoU@", _THRESHOLDS),
    "temporal_recall": Measure("tiou", "span", _compare_spans, "m_tIoU", "R@", _THRESHOLDS),
    "all_spans_iou": Measure("tiou", "span", _compare_all_spans, "m_tIoU", "tIoU@", _THRESHOLDS, takes_all=True),
    "all_spans_recall": Measure("tiou", "span", _compare_all_spans, "m_tIoU", "R@", _THRESHOLDS, takes_all=True),
    "spatial_iou": Measure("siou", "tube", _compare_tubes, "m_sIoU", "sIoU@", _THRESHOLDS, "spatial"),
    "volume_iou": Measure("viou", "tube", _compare_tubes, "m_vIoU", "vIoU@", _THRESHOLDS, "volume"),
    "all_tubes_spatial_iou": Measure(
        "siou", "tube", _compare_all_tubes, "m_sIoU", "sIoU@", _THRESHOLDS, "spatial", takes_all=True
    ),
    "all_tubes_volume_iou": Measure(
        "viou", "tube", _compare_all_tubes, "m_vIoU", "vIoU@", _THRESHOLDS, "volume", takes_all=True
    ),
    "box_iou": Measure("iou", "box", _compare_boxes, "m_IoU", "acc@", (0.5,)),
    "exact_match": Measure("match", "text", _compare_words, "exact_match"),
    "caption_match": Measure("caption_match", "caption", _compare_words, "caption_exact_match"),
}


class Protocol(ABC):
    """
    A way to score answers.

    Attributes:
        name (`str`): Name on the command line.
    """

    name: str

    @abstractmethod
    def _list_names(self, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the values of an item, and of the metrics in a report; none where it is not scored."""

    def get_measure_names(self, task: str) -> tuple[str, ...]:
        """Return the names of the values of an item of a task; none for a task that is not scored."""
        return self._list_names(get_task(task))[0]

    def get_headline(self, task: str) -> tuple[str, ...]:
        """Return the names of the metrics of a task that stand in a report."""
        return self._list_names(get_task(task))[1]

    @abstractmethod
    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, vocabulary: CoordinateVocabulary
    ) -> dict[str, float | None]:
        """
        Score one answer.

        Args:
            task (`str`): The task.
            answer (`GroundingResult`): The answer, in seconds and pixels; nothing in it raises.
            truth (`GroundingResult`): The truth, about the same medium, with all that the task asks for.
            vocabulary (`CoordinateVocabulary`): The coordinate tokens of the model.

        Returns:
            `dict[str, float | None]`: The value of each of `get_measure_names`; `None` for an item that the protocol
            leaves out.

        Raises:
            `InputError`: For a truth that the protocol cannot score.
        """

    @abstractmethod
    def compute_metrics(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
        """Compute the metrics of all items of a task; no items at all is an `InputError`."""

    def list_tasks(self) -> list[str]:
        """Return the tasks that are scored."""
        return [task for task in TASKS if self.get_measure_names(task)]

    def score_nothing(self, task: str) -> dict[str, float | None]:
        """Return the values of an item that could not be used: 0 each."""
        return dict.fromkeys(self.get_measure_names(task), 0.0)


class DefaultProtocol(Protocol):
    """
    Our own protocol: every item counts, see `metrics` for the formulas.

    Example:

    ```python
    >>> truth = GroundingResult("", spans=(Span(2.0, 6.0),))
    >>> DefaultProtocol().score("tvg", GroundingResult("", spans=(Span(2.0, 4.0),)), truth, CoordinateVocabulary())
    {'tiou': 0.5}
    ```
    """

    name = "default"

    def _list_names(self, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return tuple(MEASURES[name].name for name in task.measures), task.headline

    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, vocabulary: CoordinateVocabulary
    ) -> dict[str, float | None]:
        """Score one answer, see `Protocol.score`; of several spans or boxes the first counts, if one is asked for."""
        measures, compared = (MEASURES[name] for name in get_task(task).measures), {}
        return {measure.name: measure.score(answer, truth, compared) for measure in measures}

    def compute_metrics(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
        """Compute means, and shares at the thresholds, from 0 to 1."""
        metrics: dict[str, float] = {}
        for measure in (MEASURES[name] for name in get_task(task).measures):
            metrics |= measure.compute_metrics([score[measure.name] for score in scores])
        return metrics


_TUBE_VALUES = ("tiou", "siou", "viou")
# What the published code measures, by the format of the answer: the values of an item, and the metrics of a report.
_PUBLISHED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "box": (("iou",), ("R1@(0.5)",)),
    "span": (("tiou",), ("R1@(0.5)", "miou")),
    "span_and_tube": (_TUBE_VALUES, ("mtiou", "msiou", "mstiou")),
    "tube": (_TUBE_VALUES, ("msiou",)),
    "end_caption_and_tube": (_TUBE_VALUES, ("mtiou",)),
}


class ReferenceProtocol(Protocol):
    """
    The published protocol, faults included, see `reference_protocol`; metrics have the published names and units.

    Example:

    ```python
    >>> ReferenceProtocol().compute_metrics("rec", [{"iou": 0.6}, {"iou": None}])
    {'miou': 0.6, 'R1@(0.5)': 100.0}
    ```
    """

    name = "reference"

    def _list_names(self, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return _PUBLISHED.get(task.answer_format.name, ((), ()))

    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, vocabulary: CoordinateVocabulary
    ) -> dict[str, float | None]:
        """Score the text of one answer, see `Protocol.score`."""
        num_times, num_places = vocabulary.num_temporal_tokens, vocabulary.num_spatial_tokens
        parts = get_task(task).answer_format.parts
        if parts == ("box",):
            # As the published code reads it from the annotations.
            box = [round(fraction, 3) for fraction in truth.boxes[0].fractions]
            return {"iou": reference_protocol.score_box(answer.text, box, num_places)}
        if parts == ("span",):
            return {"tiou": reference_protocol.score_span(answer.text, truth.spans[0].fractions, num_times)}
        first, last = truth.media.frame_indices[0], truth.media.frame_indices[-1]
        span = None
        if "span" in parts:
            span = tuple(first + round(fraction * (last - first)) for fraction in truth.spans[0].fractions)
        published = reference_protocol.ReferenceTruth(
            boxes={entry.frame_index: entry.box.xyxy for entry in truth.tubes[0].boxes},
            frame_range=(first, last),
            width=truth.media.width,
            height=truth.media.height,
            span=span,
        )
        return {**reference_protocol.score_tube(answer.text, published, num_times, num_places)}

    def compute_metrics(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
        """Compute the metrics under their published names: means from 0 to 1, shares in percent."""
        names = self.get_measure_names(task)
        if names == _TUBE_VALUES:
            return reference_protocol.compute_tube_metrics(scores)
        compute = {"iou": reference_protocol.compute_box_metrics, "tiou": reference_protocol.compute_span_metrics}
        return compute[names[0]]([score[names[0]] for score in scores])


PROTOCOLS: Mapping[str, Protocol] = {protocol.name: protocol for protocol in (DefaultProtocol(), ReferenceProtocol())}


def get_protocol(name: str) -> Protocol:
    """Return a protocol by its name; an unknown one is an `InputError` with all names."""
    if name not in PROTOCOLS:
        raise InputError(f"protocol is {name!r}: choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def find_failure(task: str, answer: GroundingResult) -> str | None:
    """
    Say why an answer lacks something that its task asks for.

    Args:
        task (`str`): The task.
        answer (`GroundingResult`): The answer.

    Returns:
        `str` or `None`: A kind of problem of `PROBLEM_KINDS` or `"empty_answer"`; `None` for an answer that has all.
    """
    missing = [part for part in get_task(task).answer_format.parts if _find_part(answer, part) is None]
    if not missing:
        return None
    if not answer.text.strip() or missing[0] == "text":
        return "empty_answer"
    causes = (problem.kind for problem in answer.problems if problem.kind in _LOSING_PROBLEMS)
    return next(causes, f"missing_{missing[0]}")


__all__ = [
    "MEASURES",
    "PROTOCOLS",
    "DefaultProtocol",
    "Measure",
    "Protocol",
    "ReferenceProtocol",
    "find_failure",
    "get_protocol",
]
