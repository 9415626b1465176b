"""What a run found: the metrics of each task beside those of the blind baseline, and what failed."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..utils.tables import format_table
from .line_facts import find_decisive, list_clips, list_confidences
from .metrics.uncertainty import compute_reliability, compute_risk_coverage
from .protocols import Protocol


def summarize_predictions(predictions: Sequence[Mapping[str, Any]], protocol: Protocol) -> dict[str, Any]:
    """
    Compute the metrics of all predictions.

    Args:
        predictions (`Sequence[Mapping[str, Any]]`): The lines of `predictions.jsonl`.
        protocol (`Protocol`): How they were scored.

    Returns:
        `dict[str, Any]`: `tasks`, for each task `items`, `metrics`, `intervals` (the ends of the 95 % bootstrap
        interval of each; clips are drawn, with all their items), `counted` (the items that each is of), `baseline`
        (the metrics of the blind baseline, or `None`), `headline` (the names of those in the report), `groups` (items
        and headline of each group by its kind), `calibration` (`ece`, `risk_coverage_area`, and of which value and
        how many answers, or `None` without confidences), `failures` by reason and `seconds`; and `unusable`, the
        items that could not be asked or scored; `joined`, metrics of several tasks together, if there are any.
    """
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for prediction in predictions:
        by_task.setdefault(prediction["task"], []).append(prediction)
    tasks = {}
    for task, members in by_task.items():
        baselines = [member["baseline"] for member in members]
        tasks[task] = {
            "items": len(members),
            **_summarize_scores(task, members, protocol),
            "baseline": None if None in baselines else protocol.compute_metrics(task, baselines),
            "headline": list(protocol.get_headline(task)),
            "groups": _summarize_groups(task, members, protocol),
            "calibration": _calibrate(task, members, protocol),
            "failures": dict(Counter(member["failure"] for member in members if member["failure"]).most_common()),
            "seconds": round(sum(member["seconds"] for member in members), 3),
        }
    unusable = [
        {"id": prediction["id"], "reason": prediction["failure"], "detail": prediction["problems"][0]}
        for prediction in predictions
        if prediction["result"] is None
    ]
    joined = protocol.join_tasks(tasks)
    return {"tasks": tasks, **({"joined": joined} if joined else {}), "unusable": unusable}


def _summarize_scores(task: str, members: Sequence[Mapping[str, Any]], protocol: Protocol) -> dict[str, Any]:
    scores = [member["scores"] for member in members]
    statistics = protocol.list_statistics(task, scores)
    metrics = protocol.compute_metrics(task, scores, statistics)
    counts = {name: int(np.isfinite(values).sum()) for name, values in protocol.list_values(task, scores).items()}
    intervals = protocol.compute_intervals(task, scores, list_clips(members), statistics)
    return {
        "metrics": metrics,
        "intervals": {name: [one.low, one.high] for name, one in intervals.items()},
        "counted": {name: counts.get(name, len(members)) for name in metrics},
    }


def _summarize_groups(
    task: str, members: Sequence[Mapping[str, Any]], protocol: Protocol
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return items and headline metrics of each group, by kind."""
    kinds: dict[str, dict[str, list[Any]]] = {}
    for member in members:
        for kind, name in (member.get("groups") or {}).items():
            kinds.setdefault(kind, {}).setdefault(name, []).append(member["scores"])
    return {
        kind: {
            name: _summarize_group(task, scores, protocol) for name, scores in sorted(groups.items(), key=_sort_group)
        }
        for kind, groups in kinds.items()
    }


def _sort_group(item: tuple[str, Any]) -> tuple[float, str]:
    """Put "3 to 10 s" before "10 to 60 s", and words behind numbers."""
    number = re.match(r"\d+", item[0])
    return (float(number[0]) if number else math.inf, item[0])


def _summarize_group(task: str, scores: Sequence[Mapping[str, Any]], protocol: Protocol) -> dict[str, Any]:
    metrics = protocol.compute_metrics(task, scores)
    return {"items": len(scores), "metrics": {name: metrics[name] for name in protocol.get_headline(task)}}


def _calibrate(task: str, members: Sequence[Mapping[str, Any]], protocol: Protocol) -> dict[str, Any] | None:
    """Return how well confidences tell how good answers are."""
    name = find_decisive(protocol.get_measure_names(task))
    confidences = list_confidences(members)
    values = np.array([member["scores"][name] for member in members], dtype=np.float64)
    known = np.isfinite(confidences) & np.isfinite(values)
    if not known.any():
        return None
    pairs = confidences[known], values[known]
    return {
        "ece": compute_reliability(*pairs).ece,
        "risk_coverage_area": compute_risk_coverage(*pairs).area,
        "value": name,
        "answers": int(known.sum()),
    }


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
            rows.append((task, name, f"{found['metrics'][name]:.3f}", baseline, found["counted"][name], failures))
    return format_table(("task", "metric", "model", "blind baseline", "items", "failures"), rows, markdown=True)
