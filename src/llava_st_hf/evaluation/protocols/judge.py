"""Scores that a judge outside of this package gave to open answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...processing import GroundingResult, Task
from ...processing.notation_llava_st import CoordinateVocabulary
from .base import Protocol, take_values

HIGHEST_SCORE = 5.0
_METRIC = "judge (0 to 5)"


@dataclass(frozen=True, repr=False)
class JudgedAnswer(GroundingResult):
    """An answer with the score of a judge."""

    judge_score: float | None = None  # from 0 to 5; `None` for an answer that was not judged


class JudgeProtocol(Protocol):
    """
    The mean score of a judge, such as those of VCG; an answer that was not judged counts as 0.

    Example:

    ```python
    >>> JudgeProtocol().compute_metrics("video_qa", [{"judge": 4.0}, {"judge": 0.0}])
    {'judge (0 to 5)': 2.0}
    ```
    """

    name = "judge"
    explanation = (
        "What a judge outside of this package gave, read from its file: means from 0 to 5 over all items, an answer "
        "that was not judged counting as 0. The public scripts of VCG ask GPT-3.5 and leave such answers out; scores "
        "of another judge, or of another version of it, cannot be compared."
    )

    def _list_names(self, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (("judge",), (_METRIC,)) if task.name == "video_qa" else ((), ())

    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, vocabulary: CoordinateVocabulary
    ) -> dict[str, float | None]:
        """Return the score that an answer has, see `Protocol.score`."""
        return {"judge": getattr(answer, "judge_score", None) or 0.0}

    def list_values(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, np.ndarray]:
        """Return the scores, see `Protocol.list_values`."""
        return {_METRIC: take_values(scores, "judge")["judge"]}
