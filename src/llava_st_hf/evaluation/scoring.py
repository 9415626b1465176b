"""Scores the answers of a file against the truth of a benchmark."""

from collections.abc import Mapping
from typing import Any

from ..processing.grounding_results_llava_st import GroundingResult
from ..processing.notation_llava_st import CoordinateVocabulary
from ..processing.tasks_llava_st import get_task
from .predictions import Predictions, resample_answer
from .protocols import Protocol
from .protocols.base import find_part
from .truths import Truth


def score_predictions(
    truths: Mapping[str, Truth], predictions: Predictions, protocol: Protocol
) -> list[dict[str, Any]]:
    """
    Score the answers of a system; an item without an answer is worth 0, or what the protocol makes of it.

    Args:
        truths (`Mapping[str, Truth]`): The items.
        predictions (`Predictions`): The answers.
        protocol (`Protocol`): How to score, fitted to the benchmark.

    Returns:
        `list[dict[str, Any]]`: A line for each item, as `summarize_predictions` takes them.

    Example:

    ```python
    >>> lines = score_predictions(truths, predictions, get_protocol("vue"))
    >>> summarize_predictions(lines, get_protocol("vue"))["tasks"]["stvg_several"]["metrics"]["t_IoU"]
    0.532
    ```
    """
    protocol_tasks = protocol.list_tasks()
    lines = []
    for name, truth in truths.items():
        if truth.task not in protocol_tasks:
            continue
        answer = predictions.results.get(name)
        lines.append(
            {
                "id": name,
                "task": truth.task,
                "result": True,
                "scores": score_answer(answer, truth, protocol),
                "baseline": None,
                "failure": _find_failure(answer, truth),
                "seconds": 0.0,
            }
        )
    return lines


def score_answer(answer: GroundingResult | None, truth: Truth, protocol: Protocol) -> dict[str, float | None]:
    """
    Score one answer, `None` for none.

    Args:
        answer (`GroundingResult`, *optional*): The answer.
        truth (`Truth`): The item.
        protocol (`Protocol`): How to score.

    Returns:
        `dict[str, float | None]`: As `Protocol.score`.
    """
    if answer is None:
        return protocol.score_nothing(truth.task)
    if protocol.name == "default":
        answer = resample_answer(answer, truth)
    return protocol.score(truth.task, answer, truth.result, CoordinateVocabulary())


def _find_failure(answer: GroundingResult | None, truth: Truth) -> str | None:
    if answer is None:
        return "no_answer"
    missing = (part for part in get_task(truth.task).answer_format.parts if find_part(answer, part) is None)
    return next((f"missing_{part}" for part in missing), None)


__all__ = ["score_answer", "score_predictions"]
