"""The folder of a run: its settings, its predictions as they come, and what is still to do after a stop."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..processing import InputError
from ..utils.atomic_files import write_text_whole
from ..utils.run_manifest import RunManifest
from .judging import JUDGE_FILE

RUN_FILE = "run.json"
PREDICTIONS_FILE = "predictions.jsonl"
METRICS_FILE = "metrics.json"
REPORT_FILES = ("report.md", "report.html")
_OUTPUTS = (METRICS_FILE, JUDGE_FILE, *REPORT_FILES)


class RunFolder:
    """
    The predictions of one model with one setting, a line of JSON per item.

    Several processes share a folder, each appending to a file of its own; `merge` makes one of them.

    Args:
        path (`str` or `Path`): The folder; made where it does not exist.
        settings (`Mapping[str, Any]`): What decides about the answers, as plain values.
        rank (`int`, *optional*, defaults to 0): Number of this process.

    Raises:
        `InputError`: If the folder holds a run with other settings, or predictions of no known run.

    Example:

    ```python
    >>> folder = RunFolder("evaluation_output/tiny", {"model": "tiny", "seed": 1000000})
    >>> folder.append([{"id": "tvg-1000000-0", "scores": {"tiou": 0.9}}])
    >>> list(folder.read_predictions())
    ['tvg-1000000-0']
    ```
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any], rank: int = 0):
        self.path = Path(path)
        self.rank = rank
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"output_dir is {self.path}: it cannot be made ({error.strerror}), give another."
            ) from error
        manifest = RunManifest(self.path / RUN_FILE, settings)
        if not manifest.load():
            taken = [
                *self._list_files(),
                *(self.path / name for name in _OUTPUTS if os.path.lexists(self.path / name)),
            ]
            if taken:
                raise InputError(
                    f"output_dir is {self.path}: it holds {taken[0].name} but no {RUN_FILE}, so nobody knows whose it "
                    "is; give another folder."
                )
            manifest.save()  # whichever process is first; all write the same

    def _list_files(self) -> list[Path]:
        return sorted(path for path in self.path.glob("predictions*.jsonl") if path.is_file())

    @property
    def _own_file(self) -> Path:
        return self.path / (PREDICTIONS_FILE if self.rank == 0 else f"predictions.rank{self.rank}.jsonl")

    def read_predictions(self) -> dict[str, dict[str, Any]]:
        """Return all predictions that are there, by the id of their item; a line that was cut off is left out."""
        predictions: dict[str, dict[str, Any]] = {}
        for file in self._list_files():
            with file.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        prediction = json.loads(line)
                        predictions.setdefault(prediction["id"], prediction)
                    except (ValueError, KeyError, TypeError):
                        continue
        return predictions

    def append(self, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Write predictions to this process's file, so that they outlast a kill."""
        lines = "".join(
            json.dumps(prediction, ensure_ascii=True, allow_nan=False) + "\n" for prediction in predictions
        )
        with self._own_file.open("ab") as file:
            if file.tell() and not self._ends_with_newline():
                file.write(b"\n")  # after the cut-off line of a killed run
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())

    def _ends_with_newline(self) -> bool:
        with self._own_file.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def merge(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """
        Put the predictions of all processes into one file, in the order of the ids of all items, and return them.

        One that is missing is an `InputError`.
        """
        known = self.read_predictions()
        if missing := [id for id in ids if id not in known]:
            raise InputError(
                f"{self.path} lacks {len(missing)} of {len(ids)} predictions, the first of {missing[0]!r}: a process "
                "of the run has stopped; start it again to go on."
            )
        predictions = [known[id] for id in ids]
        target = self.path / PREDICTIONS_FILE
        write_text_whole(target, "".join(json.dumps(prediction) + "\n" for prediction in predictions))
        for file in self._list_files():
            if file != target:
                file.unlink()
        return predictions
