"""Scores the answers of a file against the truth of a benchmark."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..processing import GroundingResult, InputError
from ..processing.notation_llava_st import CoordinateVocabulary
from ..utils.tables import format_table
from .predictions import PROBLEMS, Predictions, resample_answer
from .protocols import Protocol, find_failure
from .truths import Truth, Truths


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
                "groups": {**truth.groups, **protocol.find_groups(truth.result)},
                "result": True,
                "scores": score_answer(answer, truth, protocol),
                "baseline": None,
                "failure": find_failure(truth.task, answer),
                "seconds": 0.0,
            }
        )
    return lines


def complete_lines(lines: Sequence[dict[str, Any]], truths: Truths, predictions: Predictions) -> None:
    """
    Add question, truth and answer to the lines of items, as a run has them, and what does not count of each.

    Args:
        lines (`Sequence[dict[str, Any]]`): What `score_predictions` returned; they are changed.
        truths (`Truths`): The items.
        predictions (`Predictions`): The answers.
    """
    problems: dict[str, list[str]] = {}
    for problem in predictions.problems:
        problems.setdefault(problem.id, []).append(problem.reason)
    for line in lines:
        truth, answer = truths.items[line["id"]].result, predictions.results.get(line["id"])
        line["question"], line["answer"] = truth.query, None if answer is None else answer.text
        line["truth"], line["result"] = truth.to_dict(), None if answer is None else answer.to_dict()
        line["problems"] = problems.get(line["id"], [] if answer else ["the file has no answer to it"])


def score_answer(answer: GroundingResult | None, truth: Truth, protocol: Protocol) -> dict[str, float | None]:
    """Score one answer, `None` for none; returned is what `Protocol.score` returns."""
    if answer is None:
        return protocol.score_nothing(truth.task, truth.result)
    if protocol.name == "default":
        answer = resample_answer(answer, truth)
    return protocol.score(truth.task, answer, truth.result, CoordinateVocabulary())


def format_scores(summary: Mapping[str, Any], protocol: Protocol, truths: Truths, predictions: Predictions) -> str:
    """
    Write the metrics of a file of answers as a table, with intervals and items, and what was wrong.

    `summary` is what `summarize_predictions` returned. A protocol that scores no item is an `InputError`.
    """
    if not summary["tasks"]:
        raise InputError(f"protocol is {protocol.name!r}, which scores none of the items: choose another.")
    joined = [f"{name} of all: {value:.4f}" for name, value in summary.get("joined", {}).items()]
    rows, summary = [], summary["tasks"]
    for task, found in summary.items():
        failures = ", ".join(f"{count:,} {reason}" for reason, count in found["failures"].items()) or "none"
        for name in found["headline"]:
            low, high = found["intervals"].get(name, (None, None))
            between = "" if low is None else f"{low:.3f} to {high:.3f}"
            rows.append((task, name, f"{found['metrics'][name]:.3f}", between, found["counted"][name], failures))
    header = ("task", "metric", "value", "95 % between", "items", "failures")
    text = [format_table(header, rows, markdown=True), ""]
    for task, found in summary.items():
        for kind, groups in found["groups"].items():
            cells = [
                (name, *(f"{group['metrics'][metric]:.3f}" for metric in found["headline"]), group["items"])
                for name, group in groups.items()
            ]
            text += [format_table((f"{task} by {kind}", *found["headline"], "items"), cells, markdown=True), ""]
    return "\n".join([*text, *joined, protocol.explanation, *describe_problems(truths, predictions)])


def describe_problems(truths: Truths, predictions: Predictions) -> list[str]:
    """Return a line for each reason why something does not count, the commonest first."""
    lines = []
    if truths.unusable:
        name, reason = truths.unusable[0]
        total = len(truths.items) + len(truths.unusable)
        lines.append(f"{len(truths.unusable):,} of {total:,} items cannot be scored for anyone; {name}: {reason}")
    for reason, count in predictions.count_problems().items():
        first = next(problem.id for problem in predictions.problems if problem.reason == reason)
        lines.append(f"{count:,} {reason}: {PROBLEMS[reason]}; the first in {first}")
    return lines
