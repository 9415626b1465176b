"""Our own protocol: every item counts, and an answer that could not be read is worth 0."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...processing import Box, Caption, GroundingResult, MediaInfo, Span, Task, Tube, get_task
from ...processing.notation_llava_st import CoordinateVocabulary
from ..metrics import (
    TubeIoU,
    compute_box_iou,
    compute_temporal_iou,
    compute_tube_iou,
    compute_union_iou,
    normalize_text,
)
from ..metrics.caption_sets import CaptionPairs, make_caption_statistics, pair_dense_captions
from ..metrics.captions import compute_rouge_l
from ..metrics.meteor import METEOR, SODA, compute_meteor
from ..metrics.sets import RankedPrecision, compute_best_iou, compute_event_f1, compute_ranked_precision, compute_soda
from ..metrics.tubes import join_tubes
from ..metrics.uncertainty import Statistic
from .base import Protocol, find_part

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
    >>> MEASURES["box_iou"].list_values([0.4, 0.8])
    {'m_IoU': array([0.4, 0.8]), 'acc@0.5': array([0., 1.])}
    ```
    """

    name: str
    part: str
    compare: Callable[[Any, Any, MediaInfo], float | TubeIoU | RankedPrecision]
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
            said, true = (find_part(result, self.part, self.takes_all) for result in (answer, truth))
            compared[key] = None if said is None else self.compare(said, true, truth.media)
        value = compared[key]
        if value is None:
            return 0.0
        return float(value if self.field is None else getattr(value, self.field))

    def list_values(self, values: Sequence[float]) -> dict[str, np.ndarray]:
        """Return the values, and which reach each threshold, by the names of the metrics that are their means."""
        array = np.asarray(values, dtype=np.float64)
        shares = {f"{self.threshold_name}{t}": (array >= t).astype(np.float64) for t in self.thresholds}
        return {self.mean_name: array, **shares}


def _compare_spans(said: Span, true: Span, media: MediaInfo) -> float:
    return compute_temporal_iou(*((span.start_seconds, span.end_seconds) for span in (said, true)))


def _compare_all_spans(said: Sequence[Span], true: Sequence[Span], media: MediaInfo) -> float:
    return compute_union_iou(*([(span.start_seconds, span.end_seconds) for span in spans] for spans in (said, true)))


def _compare_boxes(said: Box, true: Box, media: MediaInfo) -> float:
    return compute_box_iou(said.xyxy, true.xyxy)


def _compare_tubes(said: Tube, true: Tube, media: MediaInfo) -> TubeIoU:
    return compute_tube_iou(said, true, media.frame_indices)


def _compare_all_tubes(said: Sequence[Tube], true: Sequence[Tube], media: MediaInfo) -> TubeIoU:
    return _compare_tubes(join_tubes(said), join_tubes(true), media)


def _compare_words(said: str, true: str, media: MediaInfo) -> float:
    return normalize_text(said) == normalize_text(true)


def _compute_span_ious(said: Sequence[Span], true: Sequence[Span]) -> np.ndarray:
    """Return the IoU of each answer, the surest first where all say how sure they are, with each truth."""
    if all(span.confidence is not None for span in said):
        said = sorted(said, key=lambda span: -span.confidence)
    answers, truths = (np.array([(each.start_seconds, each.end_seconds) for each in spans]) for spans in (said, true))
    return compute_temporal_iou(answers[:, None], truths[None])


def _compare_first(said: Sequence[Span], true: Sequence[Span], media: MediaInfo) -> float:
    return compute_best_iou(_compute_span_ious(said, true))


def _compare_ranked(said: Sequence[Span], true: Sequence[Span], media: MediaInfo) -> RankedPrecision:
    return compute_ranked_precision(_compute_span_ious(said, true))


def _compare_events(said: Sequence[Span], true: Sequence[Span], media: MediaInfo) -> float:
    return compute_event_f1(_compute_span_ious(said, true))


def _compute_caption_ious(said: Sequence[Caption], true: Sequence[Caption]) -> np.ndarray:
    spans = [[(each.span.start_seconds, each.span.end_seconds) for each in captions] for captions in (said, true)]
    answers, truths = (np.array(each, dtype=np.float64).reshape(-1, 2) for each in spans)
    return compute_temporal_iou(answers[:, None], truths[None])


def _compare_sentences(said: Sequence[Caption], true: Sequence[Caption], media: MediaInfo) -> float:
    said, true = (sorted(captions, key=lambda caption: caption.span.start_seconds) for captions in (said, true))
    ious = _compute_caption_ious(said, true)
    return compute_soda(ious, [[compute_meteor(one.text, [other.text]) for other in true] for one in said])


def _compare_common_words(said: str, true: str, media: MediaInfo) -> float:
    return compute_rouge_l([said], [[true]])[0]


def _pair_captions(answer: GroundingResult, truth: GroundingResult) -> CaptionPairs:
    """Pair the caption of an answer, or all its words where its task has no caption, with the true one."""
    said, true = (result.captions[0].text if result.captions else result.plain_text for result in (answer, truth))
    return {"": [(said, [true])]}


def _pair_sentences(answer: GroundingResult, truth: GroundingResult) -> CaptionPairs:
    said, true = (find_part(result, "sentence", takes_all=True) or [] for result in (answer, truth))
    return pair_dense_captions(
        [one.text for one in said], [one.text for one in true], _compute_caption_ious(said, true)
    )


# By the names that the table of tasks has for them: what pairs the captions of an answer with the true ones.
CAPTION_MEASURES: Mapping[str, Callable[[GroundingResult, GroundingResult], CaptionPairs]] = {
    "captions": _pair_captions,
    "dense_captions": _pair_sentences,
}
# By the same names.
MEASURES: Mapping[str, Measure] = {
    "temporal_iou": Measure("tiou", "span", _compare_spans, "m_tIoU", "tIoU@", _THRESHOLDS),
    "temporal_recall": Measure("tiou", "span", _compare_spans, "m_tIoU", "R@", _THRESHOLDS),
    "all_spans_iou": Measure("tiou", "span", _compare_all_spans, "m_tIoU", "tIoU@", _THRESHOLDS, takes_all=True),
    "all_spans_recall": Measure("tiou", "span", _compare_all_spans, "m_tIoU", "R@", _THRESHOLDS, takes_all=True),
    "first_span_recall": Measure("first_tiou", "span", _compare_first, "m_R1", "R1@", (0.5, 0.7), takes_all=True),
    "span_precision": Measure("span_ap", "span", _compare_ranked, "mAP", field="mean", takes_all=True),
    "span_precision_half": Measure("span_ap50", "span", _compare_ranked, "mAP@0.5", field="at_half", takes_all=True),
    "span_precision_high": Measure(
        "span_ap75", "span", _compare_ranked, "mAP@0.75", field="at_three_quarters", takes_all=True
    ),
    "event_f1": Measure("event_f1", "span", _compare_events, "EtF1", takes_all=True),
    "story": Measure("soda", "sentence", _compare_sentences, SODA, takes_all=True),
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
    "common_words": Measure("rouge_l", "text", _compare_common_words, "ROUGE_L"),
    "choice_match": Measure("choice", "choice", _compare_words, "accuracy"),
    "caption_match": Measure("caption_match", "caption", _compare_words, "caption_exact_match"),
}


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
    explanation = (
        "Every item counts: an answer that could not be read is worth 0 and is a failure, by its reason. Tubes are "
        "compared at the frames that the model saw; those of a file of answers at every frame."
    )

    def _list_names(self, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
        names = {"METEOR": METEOR, "SODA_c": SODA}
        headline = tuple(names.get(name, name) for name in task.headline)
        return tuple(MEASURES[name].name for name in task.measures if name in MEASURES), headline

    def get_settings(self, tasks: Iterable[str]) -> dict[str, Any]:
        """Return the name, and what METEOR knows where the value of an item rests on it."""
        has_stories = any("story" in get_task(task).measures for task in tasks)
        return {**super().get_settings(tasks), **({"meteor": METEOR} if has_stories else {})}

    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, vocabulary: CoordinateVocabulary
    ) -> dict[str, Any]:
        """Score one answer, see `Protocol.score`; of several spans or boxes the first counts, if one is asked for."""
        names, compared = get_task(task).measures, {}
        measures = (MEASURES[name] for name in names if name in MEASURES)
        scores = {measure.name: measure.score(answer, truth, compared) for measure in measures}
        pair = next((CAPTION_MEASURES[name] for name in names if name in CAPTION_MEASURES), None)
        return scores if pair is None else {**scores, "texts": pair(answer, truth)}

    def score_nothing(self, task: str, truth: GroundingResult | None = None) -> dict[str, Any]:
        """Return the values of an item that could not be used; its true captions count where they are known."""
        nothing = super().score_nothing(task)
        return nothing if truth is None else self.score(task, GroundingResult(""), truth, CoordinateVocabulary())

    def list_statistics(self, task: str, scores: Sequence[Mapping[str, Any]]) -> dict[str, Statistic]:
        """Return the metrics of captions, of a task that has some."""
        has_captions = not CAPTION_MEASURES.keys().isdisjoint(get_task(task).measures)
        return make_caption_statistics([score.get("texts") for score in scores]) if has_captions else {}

    def list_values(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, np.ndarray]:
        """Return values and whether they reach the thresholds, see `Protocol.list_values`."""
        values: dict[str, np.ndarray] = {}
        for measure in (MEASURES[name] for name in get_task(task).measures if name in MEASURES):
            values |= measure.list_values([score[measure.name] for score in scores])
        return values
