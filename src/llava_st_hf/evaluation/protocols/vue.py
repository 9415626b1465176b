"""VUE-STG as its public scorer scores it, and the same with every item counted."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...processing import GroundingResult, InputError, MediaInfo, Task, Tube
from ...processing.notation_llava_st import CoordinateVocabulary
from ..metrics.tubes import SecondValues, compute_second_values, join_tubes
from .base import Protocol, take_values

_METRICS: Mapping[str, str] = {
    "t_precision": "t_Precision",
    "t_recall": "t_Recall",
    "t_iou": "t_IoU",
    "v_precision": "v_Precision",
    "v_recall": "v_Recall",
    "v_iou": "v_IoU",
    "v_iou_shared": "v_IoU_Int",
}
_MAY_LACK = ("t_precision", "v_precision", "v_iou_shared")
# Groups of items: what is measured, and the value that each group ends below.
_GROUPS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "box": (("0 to 10 %", 0.1), ("10 to 30 %", 0.3), ("30 to 100 %", np.inf)),
    "clip": (("0 to 1 min", 60), ("1 to 10 min", 600), ("10 to 30 min", 1800), ("30 min and more", np.inf)),
    "truth": (("0 to 3 s", 3), ("3 to 10 s", 10), ("10 to 60 s", 60), ("60 s and more", np.inf)),
}


class VueProtocol(Protocol):
    """
    The seven metrics of VUE-STG, see `compute_second_values`: means over the items in which each is defined.

    `NAME_all` is the mean of the same over all items, those in which it is not defined counting 0.

    Example:

    ```python
    >>> VueProtocol().compute_metrics("stvg_several", [VueProtocol().score_nothing("stvg_several")])["t_IoU"]
    0.0
    ```
    """

    name = "vue"
    explanation = (
        "Scored as the public code of VUE-STG does, second by second; of several boxes in a second the first counts. "
        "t_Precision, v_Precision and v_IoU_Int are means over the items where they are defined: an item without an "
        "answer drops out of them, so that they rise when a system answers only what it is sure of. NAME_all counts "
        "every item."
    )

    def _list_names(self, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if task.name not in ("stvg", "stvg_several"):
            return (), ()
        return tuple(_METRICS), (*_METRICS.values(), *(f"{_METRICS[name]}_all" for name in _MAY_LACK))

    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, vocabulary: CoordinateVocabulary
    ) -> dict[str, float | None]:
        """Score one answer, see `Protocol.score`."""
        if not truth.tubes:
            raise InputError("the truth has no tube: VUE-STG scores boxes.")
        said, true = (_cut(result.tubes, truth.media) for result in (answer, truth))
        return compute_second_values(said, true)._asdict()

    def score_nothing(self, task: str, truth: GroundingResult | None = None) -> dict[str, float | None]:
        """Return the values of an item without an answer."""
        return {name: None if name in _MAY_LACK else 0.0 for name in SecondValues._fields}

    def find_groups(self, truth: GroundingResult) -> dict[str, str]:
        """Return the groups of an item, see `find_groups`."""
        return find_groups(truth)

    def list_values(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, np.ndarray]:
        """Return the values, NaN where one is not defined, and 0 there under `NAME_all`."""
        values = take_values(scores, *_METRICS)
        counted = {f"{_METRICS[name]}_all": np.nan_to_num(values[name]) for name in _MAY_LACK}
        return {metric: values[name] for name, metric in _METRICS.items()} | counted


def find_groups(truth: GroundingResult) -> dict[str, str]:
    """
    Return the groups that an item of VUE-STG is in.

    Args:
        truth (`GroundingResult`): Its truth; the end of its clip is that which is stated, or its last frame.

    Returns:
        `dict[str, str]`: By `"box"` (mean share of the frame), `"clip"` (length) and `"truth"` (seconds with a box).
    """
    media, tube = truth.media, _cut(truth.tubes, truth.media)
    sides = tube.arrays.boxes_pixels[:, 2:] - tube.arrays.boxes_pixels[:, :2]
    values = {
        "box": float(sides.prod(-1).mean() / (media.width * media.height)),
        "clip": media.stated_end_seconds or media.end_seconds,
        "truth": len(np.unique(np.rint(tube.arrays.seconds))),
    }
    return {kind: next(name for name, end in _GROUPS[kind] if value < end) for kind, value in values.items()}


def _cut(tubes: Sequence[Tube], media: MediaInfo) -> Tube | None:
    """Return all boxes of an answer, cut to the frame, their corners in order."""
    if not tubes:
        return None
    arrays = join_tubes(tubes).arrays
    sides = [media.width, media.height] * 2
    cut = np.clip(arrays.boxes_pixels, 0, sides)
    boxes = np.concatenate([np.minimum(cut[:, :2], cut[:, 2:]), np.maximum(cut[:, :2], cut[:, 2:])], axis=1)
    return Tube.from_arrays(arrays._replace(boxes_pixels=boxes))
