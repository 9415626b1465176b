"""VidSTG and HC-STVG as STCAT, CG-STVG and TA-STVG score them."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...processing import GroundingResult, InputError, MediaInfo, Span, Task
from ...processing.notation_llava_st import CoordinateVocabulary
from ..metrics import compute_temporal_iou
from ..metrics.tubes import compute_frame_tube_iou
from .base import Protocol, take_values

_THRESHOLDS = (0.3, 0.5)
# What the end of the truth's half-open range is, by the format of the annotations.
_ENDS: Mapping[str, str] = {"hc_stvg": "last", "vidstg": "cut"}


class CommunityProtocol(Protocol):
    """
    tIoU of ranges of frames, and vIoU over every frame of the clip, the answer's boxes interpolated between.

    Ranges are half open. That of an answer ends one past its last frame; that of the truth as the published code
    reads the annotations. The truth has all frames of the clip as its media.

    Args:
        end (`str`, *optional*, defaults to `"last"`):
            Where the truth ends: `"last"`, at its last frame, which is lost (HC-STVG; a perfect answer of n frames is
            worth (n - 1) / n); `"cut"`, one past it, but not past the last frame of the clip (VidSTG); `"past"`, one
            past it (TubeDETR).

    Example:

    ```python
    >>> CommunityProtocol().for_benchmark("vidstg").end
    'cut'
    ```
    """

    name = "community"
    explanation = (
        "Scored as STCAT and CG-STVG do: over every frame of the clip, the answer's boxes interpolated between those "
        "that it has, vIoU@t counting values above t. A truth of HC-STVG loses its last frame, so a perfect answer is "
        "worth a little below 1. TubeDETR scores its sampled frames only, with the truth's last frame."
    )

    def __init__(self, end: str = "last"):
        self.end = end

    def for_benchmark(self, name: str) -> "CommunityProtocol":
        """Return the protocol with the end that the published code takes; see `Protocol.for_benchmark`."""
        return CommunityProtocol(_ENDS.get(name, self.end))

    def _list_names(self, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if task.name != "stvg":
            return (), ()
        return ("tiou", "viou"), ("m_tIoU", "m_vIoU", *(f"vIoU@{t}" for t in _THRESHOLDS))

    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, vocabulary: CoordinateVocabulary
    ) -> dict[str, float | None]:
        """Score one answer, see `Protocol.score`."""
        if not truth.spans or not truth.tubes:
            raise InputError("the truth has no span or no tube: the community's protocol scores both.")
        media = truth.media
        first, last = _find_frames(truth.spans[0], media)
        ends = {"last": last, "cut": min(last + 1, media.frame_indices[-1]), "past": last + 1}
        true_range = (first, ends[self.end])
        if not answer.spans:
            return {"tiou": 0.0, "viou": 0.0}
        said_first, said_last = _find_frames(answer.spans[0], media)
        said_range = (said_first, said_last + 1)
        tube = answer.tubes[0] if answer.tubes else None
        return {
            "tiou": float(compute_temporal_iou(said_range, true_range)),
            "viou": compute_frame_tube_iou(tube, said_range, truth.tubes[0], true_range),
        }

    def list_values(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, np.ndarray]:
        """Return values and whether they are above the thresholds, see `Protocol.list_values`."""
        tiou, viou = take_values(scores, "tiou", "viou").values()
        return {"m_tIoU": tiou, "m_vIoU": viou, **{f"vIoU@{t}": (viou > t).astype(np.float64) for t in _THRESHOLDS}}


def _find_frames(span: Span, media: MediaInfo) -> tuple[int, int]:
    """Return the frames that are nearest to start and end."""
    times = (span.start_seconds, span.end_seconds)
    first, last = np.rint(np.interp(times, media.frame_seconds, media.frame_indices))
    return int(first), int(last)
