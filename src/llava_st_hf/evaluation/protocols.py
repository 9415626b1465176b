"""What one answer is worth, task by task, and the figures of many: our own protocol and the published one.

Both protocols compare a `GroundingResult` with a `GroundingResult`: spans in seconds, boxes and tubes in pixels, on
the same clip or image. Our own reads the answer with `parse_answer` and counts every item; an answer that could not
be read is worth 0, and `find_failure` says why. The published one is `reference_protocol`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..processing.grounding_results_llava_st import GroundingResult, ProblemKind
from ..processing.media_llava_st import InputError
from . import reference_protocol
from .metrics import (
    compute_box_iou,
    compute_mean,
    compute_recall,
    compute_temporal_iou,
    compute_tube_iou,
    normalize_text,
)

# What an answer of each task must hold to be scored.
_REQUIRED_PARTS: Mapping[str, tuple[str, ...]] = {
    "tvg": ("span",),
    "stvg": ("span", "tube"),
    "svg": ("tube",),
    "elc": ("span", "tube", "caption"),
    "rec": ("box",),
    "tr": ("text",),
    "rc": ("text",),
}
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


@dataclass(frozen=True)
class Measure:
    """
    One value per item, and the figures made of it.

    Args:
        name (`str`): Name of the value in the scores of an item.
        mean_name (`str`): Name of its mean.
        threshold_name (`str`, *optional*, defaults to `""`): Beginning of the names of the shares, such as `"tIoU@"`.
        thresholds (`tuple[float, ...]`, *optional*, defaults to `()`): From which value on an item counts.

    Example:

    ```python
    >>> Measure("iou", "m_IoU", "acc@", (0.5,)).thresholds
    (0.5,)
    ```
    """

    name: str
    mean_name: str
    threshold_name: str = ""
    thresholds: tuple[float, ...] = ()


_TEMPORAL = Measure("tiou", "m_tIoU", "tIoU@", (0.3, 0.5, 0.7))
_SPATIAL = Measure("siou", "m_sIoU", "sIoU@", (0.3, 0.5, 0.7))
_VOLUME = Measure("viou", "m_vIoU", "vIoU@", (0.3, 0.5, 0.7))
_MEASURES: Mapping[str, tuple[Measure, ...]] = {
    "tvg": (replace(_TEMPORAL, threshold_name="R@"),),
    "stvg": (_TEMPORAL, _SPATIAL, _VOLUME),
    "svg": (_SPATIAL, _VOLUME),
    "elc": (_TEMPORAL, _SPATIAL, _VOLUME, Measure("caption_match", "caption_exact_match")),
    "rec": (Measure("iou", "m_IoU", "acc@", (0.5,)),),
    "tr": (Measure("match", "exact_match"),),
    "rc": (Measure("match", "exact_match"),),
}


@dataclass(frozen=True)
class TokenCounts:
    """
    How many coordinate tokens the model that answered has.

    Args:
        temporal (`int`, *optional*, defaults to 100): Number of time tokens.
        spatial (`int`, *optional*, defaults to 100): Number of tokens of width and height each.

    Example:

    ```python
    >>> TokenCounts(temporal=20).spatial
    100
    ```
    """

    temporal: int = 100
    spatial: int = 100


class Protocol(ABC):
    """
    A way to score answers.

    Args:
        name (`str`): Name on the command line.
        measure_names (`Mapping[str, tuple[str, ...]]`): For each task that can be scored, the values of an item.
    """

    name: str
    measure_names: Mapping[str, tuple[str, ...]]

    @abstractmethod
    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, tokens: TokenCounts
    ) -> dict[str, float | None]:
        """
        Score one answer.

        Args:
            task (`str`): The task.
            answer (`GroundingResult`): The answer, in seconds and pixels; nothing in it raises.
            truth (`GroundingResult`): The truth, about the same medium, with all that the task asks for.
            tokens (`TokenCounts`): The coordinate tokens of the model.

        Returns:
            `dict[str, float | None]`: The values of `measure_names`; `None` for an item that the protocol leaves out.

        Raises:
            `InputError`: For a truth that the protocol cannot score.
        """

    @abstractmethod
    def compute_figures(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
        """Compute the figures of all items of a task; no items at all is an `InputError`."""

    def score_nothing(self, task: str) -> dict[str, float | None]:
        """Return the values of an item that could not be used: 0 each."""
        return dict.fromkeys(self.measure_names[task], 0.0)


class DefaultProtocol(Protocol):
    """
    Our own protocol: every item counts, see `metrics` for the formulas.

    Example:

    ```python
    >>> truth = GroundingResult("", spans=(Span(2.0, 6.0),))
    >>> DefaultProtocol().score("tvg", GroundingResult("", spans=(Span(2.0, 4.0),)), truth, TokenCounts())
    {'tiou': 0.5}
    ```
    """

    name = "default"
    measure_names = {task: tuple(measure.name for measure in measures) for task, measures in _MEASURES.items()}

    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, tokens: TokenCounts
    ) -> dict[str, float | None]:
        """Score one answer, see `Protocol.score`; of several spans, boxes or tubes the first counts."""
        parts = _REQUIRED_PARTS[task]
        scores: dict[str, float | None] = self.score_nothing(task)
        if "text" in parts:
            scores["match"] = float(normalize_text(answer.plain_text) == normalize_text(truth.plain_text))
        if "span" in parts and answer.spans:
            spans = [(item.spans[0].start_seconds, item.spans[0].end_seconds) for item in (answer, truth)]
            scores["tiou"] = float(compute_temporal_iou(*spans))
        if "box" in parts and answer.boxes:
            scores["iou"] = float(compute_box_iou(answer.boxes[0].xyxy, truth.boxes[0].xyxy))
        if "tube" in parts and answer.tubes:
            ious = compute_tube_iou(answer.tubes[0], truth.tubes[0], truth.media.frame_indices)
            scores["siou"], scores["viou"] = ious.spatial, ious.volume
        if "caption" in parts and answer.captions:
            said, wanted = (normalize_text(item.captions[0].text) for item in (answer, truth))
            scores["caption_match"] = float(said == wanted)
        return scores

    def compute_figures(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
        """Compute means, and shares at the thresholds, from 0 to 1."""
        figures = {}
        for measure in _MEASURES[task]:
            values = [score[measure.name] for score in scores]
            figures[measure.mean_name] = compute_mean(values)
            for threshold in measure.thresholds:
                figures[f"{measure.threshold_name}{threshold}"] = compute_recall(values, threshold)
        return figures


class ReferenceProtocol(Protocol):
    """
    The published protocol, faults included, see `reference_protocol`; figures have the published names and units.

    Example:

    ```python
    >>> ReferenceProtocol().compute_figures("rec", [{"iou": 0.6}, {"iou": None}])
    {'miou': 0.6, 'R1@(0.5)': 100.0}
    ```
    """

    name = "reference"
    measure_names = {
        "rec": ("iou",),
        "tvg": ("tiou",),
        "stvg": ("tiou", "siou", "viou"),
        "svg": ("tiou", "siou", "viou"),
        "elc": ("tiou", "siou", "viou"),
    }

    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, tokens: TokenCounts
    ) -> dict[str, float | None]:
        """Score the text of one answer, see `Protocol.score`."""
        if task == "rec":
            # As the published code reads it from the annotations.
            box = [round(fraction, 3) for fraction in truth.boxes[0].fractions]
            return {"iou": reference_protocol.score_box(answer.text, box, tokens.spatial)}
        if task == "tvg":
            return {"tiou": reference_protocol.score_span(answer.text, truth.spans[0].fractions, tokens.temporal)}
        first, last = truth.media.frame_indices[0], truth.media.frame_indices[-1]
        span = None
        if task != "svg":
            span = tuple(first + round(fraction * (last - first)) for fraction in truth.spans[0].fractions)
        published = reference_protocol.ReferenceTruth(
            boxes={entry.frame_index: entry.box.xyxy for entry in truth.tubes[0].boxes},
            frame_range=(first, last),
            width=truth.media.width,
            height=truth.media.height,
            span=span,
        )
        return {**reference_protocol.score_tube(answer.text, published, tokens.temporal, tokens.spatial)}

    def compute_figures(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
        """Compute the figures under their published names: means from 0 to 1, shares in percent."""
        if task == "rec":
            return reference_protocol.compute_box_figures([score["iou"] for score in scores])
        if task == "tvg":
            return reference_protocol.compute_span_figures([score["tiou"] for score in scores])
        return reference_protocol.compute_tube_figures(scores)


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
    has_part = {
        "text": bool(answer.plain_text.strip()),
        "span": bool(answer.spans),
        "box": bool(answer.boxes),
        "tube": bool(answer.tubes),
        "caption": bool(answer.captions),
    }
    missing = [part for part in _REQUIRED_PARTS[task] if not has_part[part]]
    if not missing:
        return None
    if not answer.text.strip() or missing[0] == "text":
        return "empty_answer"
    causes = (problem.kind for problem in answer.problems if problem.kind in _LOSING_PROBLEMS)
    return next(causes, f"missing_{missing[0]}")


__all__ = [
    "PROTOCOLS",
    "DefaultProtocol",
    "Measure",
    "Protocol",
    "ReferenceProtocol",
    "TokenCounts",
    "find_failure",
    "get_protocol",
]
