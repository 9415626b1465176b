"""The folder of a file of answers: what the folder of a run has, so that it is read, compared and pushed like one."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..processing import InputError
from ..utils.atomic_files import write_json_whole, write_text_whole
from ..utils.folder_locks import locking_folder
from ..utils.public_names import get_public_name
from .predictions import Predictions
from .protocols import Protocol
from .reports import write_report
from .run_folder import METRICS_FILE, PREDICTIONS_FILE, RunFolder
from .scoring import complete_lines, score_predictions
from .summary import summarize_predictions
from .truths import Truths


def write_scored_run(
    output_dir: str | Path,
    path: str | Path,
    truths: Truths,
    predictions: Predictions,
    protocol: Protocol,
    settings: Mapping[str, Any],
    command: str | None = None,
) -> dict[str, Any]:
    """
    Score answers of a file, and write `run.json`, `predictions.jsonl`, `metrics.json`, `report.md` and `report.html`.

    Args:
        output_dir (`str` or `Path`): The folder.
        path (`str` or `Path`): The file, by which the run is named.
        truths (`Truths`): The items.
        predictions (`Predictions`): What was read of the file.
        protocol (`Protocol`): How to score, fitted to the benchmark.
        settings (`Mapping[str, Any]`): Which items these are and how the file was read; `benchmark` among them.
        command (`str`, *optional*): The command line, for the report.

    Returns:
        `dict[str, Any]`: What `metrics.json` holds: as of a run, and all `problems`.

    Raises:
        `InputError`: If the protocol scores no item, or the folder holds another run.
    """
    lines = score_predictions(truths.items, predictions, protocol)
    if not lines:
        raise InputError(f"protocol is {protocol.name!r}, which scores none of the items: choose another.")
    complete_lines(lines, truths, predictions)
    settings = {
        **settings,
        "model": get_public_name(path),
        "answers": hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16],
        **protocol.get_settings({line["task"] for line in lines}),
        "items": len(lines),
        "unreadable_records": len(truths.unusable),
    }
    with locking_folder(output_dir, "scores answers"):
        folder = RunFolder(output_dir, settings)
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        write_text_whole(folder.path / PREDICTIONS_FILE, text)
        metrics = {
            **summarize_predictions(lines, protocol),
            "problems": [problem._asdict() for problem in predictions.problems],
            "settings": settings,
            "command": command,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "versions": {name: version(name) for name in ("llava-st-hf", "numpy")},
            "device": "none, answers of a file",
        }
        write_json_whole(folder.path / METRICS_FILE, metrics)
        write_report(folder.path)
    return metrics
