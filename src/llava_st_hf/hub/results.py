"""What an evaluation found, as the Hub reads it: the `model-index` of a card, and files of `.eval_results/`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from ..processing import InputError
from ..utils.public_names import hide_folders

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.jsonl"
# Files of a run that are sent; metrics.json and predictions.jsonl, without which it is none, are the first.
RUN_FILES = (METRICS_FILE, PREDICTIONS_FILE, "run.json", "report.md", "report.html")
# Data sets of the Hub that hold the items of a benchmark. One that is made as it runs has a name of ours.
_NAMESPACE = "llava-st-hf"


@dataclass(frozen=True)
class EvaluationRun:
    """What one evaluation found."""

    settings: Mapping[str, Any]  # benchmark, protocol, weights and what else decides about the answers
    tasks: Mapping[str, Any]  # items, metrics, blind baseline, failures and the metrics to show, by task
    command: str | None  # command line, without paths of the machine
    date: str  # day, `"2026-01-31"`
    versions: Mapping[str, str]  # of the libraries
    device: str  # what it ran on

    @property
    def benchmark(self) -> str:
        """Name of the benchmark."""
        return self.settings["benchmark"]

    @property
    def dataset_id(self) -> str:
        """Data set of the Hub that the results belong to."""
        return self.settings.get("dataset_id") or f"{_NAMESPACE}/{self.benchmark}"

    def list_rows(self) -> list[tuple[str, str, float, float | None, int]]:
        """Return task, metric, value, that of the blind baseline and the number of items, for each metric shown."""
        return [
            (task, name, found["metrics"][name], (found["baseline"] or {}).get(name), found["items"])
            for task, found in self.tasks.items()
            for name in found["headline"]
        ]

    def make_eval_results(self) -> list[EvalResult]:
        """Return the metrics for the `model-index` of a card."""
        return [
            EvalResult(
                task_type="video-text-to-text",
                task_name=task,
                dataset_type=self.dataset_id,
                dataset_name=self.benchmark,
                dataset_config=task,
                metric_type=name,
                metric_name=f"{task} {name}",
                metric_value=round(value, 4),
            )
            for task, name, value, _, _ in self.list_rows()
        ]

    def write_yaml(self) -> str:
        """Return the metrics as a file of `.eval_results/`."""
        import yaml

        protocol = f"{self.settings['protocol']} protocol"
        notes = f"{protocol}; {self.command}" if self.command else protocol
        entries = [
            EvalResultEntry(
                dataset_id=self.dataset_id,
                task_id=f"{task}_{name}",
                value=round(value, 4),
                date=self.date,
                notes=notes,
            )
            for task, name, value, _, _ in self.list_rows()
        ]
        return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)


def read_evaluation(folder: str | Path) -> EvaluationRun:
    """
    Read the folder of an evaluation that is done.

    Raises:
        `InputError`: If it is not done, or the folder is of something else.
    """
    path = Path(folder) / METRICS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        date = datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
        run = EvaluationRun(
            {name: hide_folders(value) for name, value in content["settings"].items()},
            content["tasks"],
            hide_folders(content.get("command")),
            content.get("date") or date,
            content["versions"],
            content["device"],
        )
        run.list_rows()
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} has no {METRICS_FILE}: the evaluation is not done, run the same `llava-st evaluate` again."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error}): evaluate again.") from error
    return run


def find_evaluations(folder: Path) -> list[Path]:
    """Return the folders of evaluations that lie in the folder of a model."""
    return sorted(path.parent for path in folder.glob(f"*/{METRICS_FILE}"))


def copy_run_files(folder: Path) -> dict[str, bytes]:
    """Return the files of an evaluation that are sent, without paths of the machine."""
    files = {}
    for name in RUN_FILES:
        path = folder / name
        if not path.is_file():
            if name in RUN_FILES[:2]:
                raise InputError(f"{folder} has no {name}: run the same `llava-st evaluate` again.")
            continue
        if path.suffix == ".html":  # written without paths; what looks like one is a picture or an element
            text = path.read_text(encoding="utf-8")
        elif path.suffix == ".md":
            text = hide_folders(path.read_text(encoding="utf-8"))
        elif path.suffix == ".jsonl":
            text = "".join(f"{json.dumps(hide_folders(row))}\n" for row in _read_lines(path))
        else:
            text = json.dumps(hide_folders(json.loads(path.read_text(encoding="utf-8"))), indent=2) + "\n"
        files[name] = text.encode()
    return files


def _read_lines(path: Path) -> Iterable[Any]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise InputError(f"line {number} of {path} is no JSON ({error}): evaluate again.") from error
