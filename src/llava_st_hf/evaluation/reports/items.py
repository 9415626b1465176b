"""The items of a run as columns of numbers, read from its folder or file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...processing import InputError
from ...utils.public_names import get_public_name
from ...utils.regular_files import check_regular_file
from ..line_facts import find_decisive, has_result, list_clips, list_confidences
from ..metrics.meteor import METEOR
from ..metrics.uncertainty import Statistic
from ..predictions import read_predictions
from ..protocols import Protocol, get_protocol
from ..run_folder import PREDICTIONS_FILE, RUN_FILE
from ..scoring import complete_lines, describe_problems, score_predictions
from ..truths import Truths


@dataclass(frozen=True)
class Run:
    """
    The answers of a run, scored.

    Example:

    ```python
    >>> read_run("results").by_task["tvg"].values["tiou"]
    array([0.8, 0. , 1. ])
    ```
    """

    settings: Mapping[str, Any]  # benchmark, protocol, model and what else decides about the answers
    lines: list[dict[str, Any]]  # the lines of `predictions.jsonl`
    problems: Sequence[str] = ()  # what does not count of a file of answers, a line for each reason

    @property
    def name(self) -> str:
        """Name of the model or system."""
        return str(self.settings.get("model") or "answers")

    @cached_property
    def protocol(self) -> Protocol:
        """How the answers were scored."""
        return get_protocol(self.settings["protocol"]).for_benchmark(self.settings["benchmark"])

    @cached_property
    def by_task(self) -> dict[str, "Items"]:
        """The items of each task."""
        lines: dict[str, list[dict[str, Any]]] = {}
        for line in self.lines:
            lines.setdefault(line["task"], []).append(line)
        return {task: Items(task, members, self.protocol) for task, members in lines.items()}


@dataclass(frozen=True)
class Items:
    """The items of one task of a run, each a line of `predictions.jsonl`."""

    task: str
    lines: list[dict[str, Any]]
    protocol: Protocol  # how they were scored

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """What each answer is worth, shape (items,), by the name of the value; NaN where the protocol has none."""
        names = self.protocol.get_measure_names(self.task)
        return {name: np.array([line["scores"][name] for line in self.lines], dtype=np.float64) for name in names}

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """What each metric is the mean of, shape (items,)."""
        return self.protocol.list_values(self.task, [line["scores"] for line in self.lines])

    @cached_property
    def statistics(self) -> dict[str, Statistic]:
        """The metrics that are no means, such as BLEU."""
        return self.protocol.list_statistics(self.task, [line["scores"] for line in self.lines])

    @property
    def decisive(self) -> str:
        """Name of the value that says most about an answer."""
        return find_decisive(self.values)

    @cached_property
    def clips(self) -> list[str]:
        """The clip of each item; one whose file is not known is its own."""
        return list_clips(self.lines)

    @cached_property
    def span_seconds(self) -> np.ndarray:
        """Length of the true spans together in seconds, shape (items,); NaN without one."""
        return np.array([_measure_spans(line) for line in self.lines], dtype=np.float64)

    @cached_property
    def box_shares(self) -> np.ndarray:
        """Mean share of the frame that the true boxes take, shape (items,); NaN without one."""
        return np.array([_measure_boxes(line) for line in self.lines], dtype=np.float64)

    @cached_property
    def confidences(self) -> np.ndarray:
        """Confidence of each answer, that of its least sure part, shape (items,); NaN where there is none."""
        return list_confidences(self.lines)


def read_run(path: str | Path) -> Run:
    """Read a run that is done from its folder, or the `predictions.jsonl` in it; anything else is an `InputError`."""
    folder = Path(path)
    folder = folder.parent if folder.name == PREDICTIONS_FILE else folder
    for name in (RUN_FILE, PREDICTIONS_FILE):
        check_regular_file(folder / name, "file")
    try:
        settings = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        with (folder / PREDICTIONS_FILE).open(encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        run = Run(settings, lines)
        for items in run.by_task.values():
            _ = items.metrics
    except FileNotFoundError as error:
        raise InputError(f"{path} is no run: it has no {Path(error.filename).name}; give an output_dir.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as a run ({error}): evaluate again.") from error
    if not lines:
        raise InputError(f"{path} holds no predictions: evaluate first.")
    if settings.get("meteor", METEOR) != METEOR:
        raise InputError(
            f"{path} was scored with {settings['meteor']!r:.40}, and here it is {METEOR}: evaluate again, or install "
            "or remove pycocoevalcap."
        )
    return run


def score_file(
    path: str | Path, truths: Truths, protocol: str = "default", predictions_format: str = "jsonl", **units: Any
) -> Run:
    """
    Score a file of answers of any system as a run that bears its name; `units` are those of `read_predictions`.

    A file that cannot be read, or a protocol that scores none of the items, is an `InputError`.
    """
    predictions = read_predictions(path, truths.items, predictions_format, unusable=dict(truths.unusable), **units)
    scorer = get_protocol(protocol).for_benchmark(truths.format)
    lines = score_predictions(truths.items, predictions, scorer)
    if not lines:
        raise InputError(f"protocol is {protocol!r}, which scores none of the items: choose another.")
    complete_lines(lines, truths, predictions)
    scored = scorer.get_settings({line["task"] for line in lines})
    settings = {"benchmark": truths.format, **scored, "model": get_public_name(path)}
    return Run(settings, lines, describe_problems(truths, predictions))


def _measure_spans(line: Mapping[str, Any]) -> float:
    spans = (line.get("truth") or {}).get("spans") or []
    return sum(span["end_seconds"] - span["start_seconds"] for span in spans) if spans else np.nan


def _measure_boxes(line: Mapping[str, Any]) -> float:
    truth = line.get("truth") or {}
    boxes = [*(truth.get("boxes") or []), *(e["box"] for tube in truth.get("tubes") or [] for e in tube["boxes"])]
    if not boxes or not has_result(line):
        return np.nan
    media = line["result"]["media"]
    areas = [(box["x2"] - box["x1"]) * (box["y2"] - box["y1"]) for box in boxes]
    return float(np.mean(areas)) / (media["width"] * media["height"])
