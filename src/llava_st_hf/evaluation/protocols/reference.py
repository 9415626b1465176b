"""The published protocol of LLaVA-ST on results; the scorer itself, faults included, is `reference_protocol`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...processing import GroundingResult, Task, get_task
from ...processing.notation_llava_st import CoordinateVocabulary
from .. import reference_protocol
from ..metrics.caption_sets import make_caption_statistics
from ..metrics.uncertainty import Statistic
from .base import Protocol, take_values

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
    explanation = (
        "Scored as the published code does, with its faults; names and units are the published ones (means from 0 to "
        "1, shares in percent). REC leaves out answers without a box; TVG counts IoU above a threshold, the others "
        "from it on; the span of a tube's truth is rounded to 3 decimals; boxes are rounded to pixels."
    )

    def _list_names(self, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return _PUBLISHED.get(task.answer_format.name, ((), ()))

    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, vocabulary: CoordinateVocabulary
    ) -> dict[str, float | None]:
        """Score the text of one answer, see `Protocol.score`."""
        parts = get_task(task).answer_format.parts
        if parts == ("box",):
            # As the published code reads it from the annotations.
            box = [round(fraction, 3) for fraction in truth.boxes[0].fractions]
            return {"iou": reference_protocol.score_box(answer.text, box, vocabulary)}
        if parts == ("span",):
            return {"tiou": reference_protocol.score_span(answer.text, truth.spans[0].fractions, vocabulary)}
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
        scores = {**reference_protocol.score_tube(answer.text, published, vocabulary)}
        if "caption" in parts:
            scores["texts"] = {"": [(reference_protocol.parse_caption(answer.text), [truth.captions[0].text])]}
        return scores

    def list_statistics(self, task: str, scores: Sequence[Mapping[str, Any]]) -> dict[str, Statistic]:
        """Return the metrics of captions, which the published code computes for ELC."""
        has_captions = "caption" in get_task(task).answer_format.parts
        return make_caption_statistics([score.get("texts") for score in scores]) if has_captions else {}

    def list_values(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, np.ndarray]:
        """Return values, and 100 for those that count at a threshold, see `Protocol.list_values`."""
        thresholds = reference_protocol.THRESHOLDS
        values = take_values(scores, *self.get_measure_names(task))
        if "iou" in values:
            iou = values["iou"]
            return {"miou": iou, "R1@(0.5)": np.where(np.isnan(iou), np.nan, (iou >= 0.5) * 100)}
        if len(values) == 1:
            tiou = np.nan_to_num(values["tiou"])
            return {"miou": tiou, **{f"R1@({t})": (tiou > t) * 100.0 for t in thresholds}}
        means = {"m" + name.replace("viou", "stiou"): array for name, array in values.items()}
        return means | {f"{name}@{t}": (array >= t) * 100.0 for name, array in values.items() for t in thresholds}

    def compute_metrics(
        self, task: str, scores: Sequence[Mapping[str, Any]], statistics: Mapping[str, Statistic] | None = None
    ) -> dict[str, float]:
        """Compute the metrics under their published names: means from 0 to 1, shares in percent."""
        names = self.get_measure_names(task)
        if names == _TUBE_VALUES:
            statistics = self.list_statistics(task, scores) if statistics is None else statistics
            captions = {name: statistic.value for name, statistic in statistics.items()}
            return reference_protocol.compute_tube_metrics(scores) | captions
        compute = {"iou": reference_protocol.compute_box_metrics, "tiou": reference_protocol.compute_span_metrics}
        return compute[names[0]]([score[names[0]] for score in scores])
