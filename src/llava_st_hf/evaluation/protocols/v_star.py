"""V-STaR's when, where and what as its public scorer scores them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...processing import GroundingResult, InputError, MediaInfo, Task, Tube
from ...processing.grounding_results_llava_st import TubeArrays
from ...processing.notation_llava_st import CoordinateVocabulary
from ..metrics import compute_temporal_iou
from ..metrics.tubes import compute_best_ious, join_tubes, round_seconds
from .base import Protocol, take_values

_SPAN_THRESHOLDS, _BOX_THRESHOLDS = (0.3, 0.5, 0.7), (0.1, 0.3, 0.5, 0.7, 0.9)
_ENOUGH_POINTS = 2  # of 3
_EPSILON = 1e-12
_JOINED = {"video_qa": "accuracy", "tvg": "m_tIoU", "svg": "m_vIoU"}
_AP = tuple(f"AP@{threshold}" for threshold in _BOX_THRESHOLDS)
_BOXES = ("viou", *_AP)
# The values of an item and the metrics in a report, by the parts of an answer.
_NAMES: Mapping[tuple[str, ...], tuple[tuple[str, ...], tuple[str, ...]]] = {
    ("span",): (("tiou",), ("m_tIoU", *(f"R1@{threshold}" for threshold in _SPAN_THRESHOLDS))),
    ("tube",): (_BOXES, ("m_vIoU", *_AP)),
    ("span", "tube"): (("tiou", *_BOXES), ("m_tIoU", "m_vIoU", *_AP)),
}


class VStarProtocol(Protocol):
    """
    tIoU of spans, and over the seconds that the truth has boxes at the best IoU of all boxes of the answer there.

    The truth has its own seconds as its media. An answer of a model that saw less than a frame a second moves evenly
    between boxes at neighbouring frames; one from a file has the seconds that it names.

    Example:

    ```python
    >>> VStarProtocol().compute_metrics("tvg", [{"tiou": 0.5}])["R1@0.5"]
    1.0
    ```
    """

    name = "v_star"
    explanation = (
        "Scored as the public code of V-STaR does: a place is worth the mean over the annotated seconds of the best "
        "IoU of all boxes that the answer has there, 0 without one, AP@t the share of the seconds that reach t. More "
        "boxes, and boxes at other times, cost nothing. Words are right from 2 of 3 points of a judge on, left out "
        "where nobody judged them. AM is the mean of accuracy, m_tIoU and m_vIoU, LGM that of their -ln(1 - x)."
    )

    def _list_names(self, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if task.name == "video_qa":
            return ("correct",), ("accuracy",)
        is_several = bool(task.answer_format.several)
        return ((), ()) if is_several else _NAMES.get(task.answer_format.parts, ((), ()))

    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, vocabulary: CoordinateVocabulary
    ) -> dict[str, float | None]:
        """Score one answer, see `Protocol.score`."""
        names = self.get_measure_names(task)
        if "correct" in names:
            points = getattr(answer, "judge_score", None)
            return {"correct": None if points is None else float(points >= _ENOUGH_POINTS)}
        scores = {}
        if "tiou" in names:
            if not truth.spans:
                raise InputError("the truth has no span: V-STaR scores when something happens.")
            spans = [(span.start_seconds, span.end_seconds) for span in (*answer.spans[:1], truth.spans[0])]
            scores["tiou"] = float(compute_temporal_iou(*spans)) if len(spans) == 2 else 0.0
        if "viou" in names:
            if not truth.tubes:
                raise InputError("the truth has no tube: V-STaR scores where something is.")
            said = _fill_seconds(join_tubes(answer.tubes), answer.media or truth.media) if answer.tubes else None
            ious = compute_best_ious(said, truth.tubes[0])
            scores |= {"viou": float(ious.mean())}
            scores |= {name: float((ious >= t).mean()) for name, t in zip(_AP, _BOX_THRESHOLDS, strict=True)}
        return scores

    def list_values(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, np.ndarray]:
        """Return the values, see `Protocol.list_values`."""
        arrays = take_values(scores, *self.get_measure_names(task))
        values = {"accuracy": arrays["correct"]} if "correct" in arrays else {}
        if "tiou" in arrays:
            values["m_tIoU"] = arrays["tiou"]
            values |= {f"R1@{t}": (arrays["tiou"] >= t).astype(np.float64) for t in _SPAN_THRESHOLDS}
        if "viou" in arrays:
            values |= {"m_vIoU": arrays["viou"], **{name: arrays[name] for name in _AP}}
        return values

    def join_tasks(self, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """Return AM and LGM of what, when and where, if all items of each are scored."""
        joined = [(tasks.get(task), name) for task, name in _JOINED.items()]
        if any(found is None or found["counted"][name] != found["items"] for found, name in joined):
            return {}
        values = np.array([found["metrics"][name] for found, name in joined])
        return {"AM": float(values.mean()), "LGM": float(-np.log(1 - values + _EPSILON).mean())}


def _fill_seconds(tube: Tube, media: MediaInfo) -> Tube:
    """Give a tube a box at each whole second between boxes at neighbouring frames, where it has none."""
    seconds, frames, boxes = tube.arrays[:3]
    if len(seconds) < 2:
        return tube
    wanted = np.arange(np.ceil(seconds[0]), np.floor(seconds[-1]) + 1)
    wanted = wanted[~np.isin(wanted, round_seconds(seconds))]
    after = np.clip(np.searchsorted(seconds, wanted), 1, len(seconds) - 1)
    places = np.searchsorted(media.frame_indices, frames)
    wanted, after = (column[places[after] - places[after - 1] <= 1] for column in (wanted, after))
    if not len(wanted):
        return tube
    shares = ((wanted - seconds[after - 1]) / (seconds[after] - seconds[after - 1]))[:, None]
    columns = (
        np.concatenate([seconds, wanted]),
        np.concatenate([frames, frames[after - 1]]),
        np.concatenate([boxes, (1 - shares) * boxes[after - 1] + shares * boxes[after]]),
    )
    order = np.argsort(columns[0], kind="stable")
    return Tube.from_arrays(TubeArrays(*(column[order] for column in columns)))
