"""What a run found: the metrics of each task beside those of the blind baseline, and what failed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..utils.tables import format_table
from .protocols import Protocol


def summarize_predictions(predictions: Sequence[Mapping[str, Any]], protocol: Protocol) -> dict[str, Any]:
    """
    Compute the metrics of all predictions.

    Args:
        predictions (`Sequence[Mapping[str, Any]]`): The lines of `predictions.jsonl`.
        protocol (`Protocol`): How they were scored.

    Returns:
        `dict[str, Any]`: `tasks`, for each task `items`, `metrics`, `baseline` (those of the blind baseline, or
        `None`), `headline` (the names of those in the report), `failures` by reason and `seconds`; and `unusable`,
        the items that could not be asked or scored.
    """
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for prediction in predictions:
        by_task.setdefault(prediction["task"], []).append(prediction)
    tasks = {}
    for task, members in by_task.items():
        baselines = [member["baseline"] for member in members]
        tasks[task] = {
            "items": len(members),
            "metrics": protocol.compute_metrics(task, [member["scores"] for member in members]),
            "baseline": None if None in baselines else protocol.compute_metrics(task, baselines),
            "headline": list(protocol.get_headline(task)),
            "failures": dict(Counter(member["failure"] for member in members if member["failure"]).most_common()),
            "seconds": round(sum(member["seconds"] for member in members), 3),
        }
    unusable = [
        {"id": prediction["id"], "reason": prediction["failure"], "detail": prediction["problems"][0]}
        for prediction in predictions
        if prediction["result"] is None
    ]
    return {"tasks": tasks, "unusable": unusable}


def format_metrics_table(metrics: Mapping[str, Any]) -> str:
    """
    Write the headline metrics as a table that reads well on a screen and in Markdown.

    Args:
        metrics (`Mapping[str, Any]`): What `summarize_predictions` returned.

    Returns:
        `str`: One row for each metric: the model's, that of the blind baseline, items, failures by reason.
    """
    rows = []
    for task, found in metrics["tasks"].items():
        failures = ", ".join(f"{count} {reason}" for reason, count in found["failures"].items()) or "none"
        for name in found["headline"]:
            baseline = None if found["baseline"] is None else f"{found['baseline'][name]:.3f}"
            rows.append((task, name, f"{found['metrics'][name]:.3f}", baseline, found["items"], failures))
    return format_table(("task", "metric", "model", "blind baseline", "items", "failures"), rows, markdown=True)


__all__ = ["format_metrics_table", "summarize_predictions"]
