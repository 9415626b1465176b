"""What a training run knows of itself when it is done, kept beside its model for the card."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..processing.media_llava_st import InputError
from ..utils.atomic_files import write_json_whole
from .cards import SourceFacts

FACTS_FILE = "training.json"


@dataclass(frozen=True)
class TrainedSource:
    """
    A source that a model was trained on.

    Args:
        name (`str`): Its name.
        license (`str`): SPDX identifier, or `"unknown"`.
        origin (`str`, *optional*): Where it comes from.
        id (`str`, *optional*): Its data set on the Hub.
        revision (`str`, *optional*): Branch, tag or commit of that.
        num_records (`int`): Records that were chosen.
        per_epoch (`int`): Records visited in an epoch.
    """

    name: str
    license: str
    origin: str | None
    id: str | None
    revision: str | None
    num_records: int
    per_epoch: int

    def __post_init__(self):
        SourceFacts(self.name, self.license)  # checks the licence


@dataclass(frozen=True)
class TrainingFacts:
    """
    A training run in plain values, without a path of the machine.

    Args:
        stage (`str`): Who was trained.
        base (`str`): Name of the model that it started from.
        base_id (`str`, *optional*): The same on the Hub; `None` for a folder.
        base_revision (`str`, *optional*): Branch, tag or commit of that.
        sources (`list[TrainedSource]`): What it was trained on.
        modules (`dict[str, str]`): How each module was trained, with its learning rate; others were frozen.
        hyper_parameters (`dict[str, Any]`): Of the optimizer, the schedule, the batches and LoRA.
        hardware (`str`): What it ran on.
        hours (`float`): How long it took, since it was resumed last.
        is_resumed (`bool`): Whether it was.
        steps (`int`): Optimizer steps.
        records (`int`): Records seen.
        loss (`float`, *optional*): Mean of the training loss that was logged last.
        date (`str`): Day on which it was done, `"2026-01-31"`.
        skipped (`int`): Records that could not be used.
        versions (`dict[str, str]`): Of the libraries.
        num_held_out (`int`): Records that were held out.
        held_out (`dict[str, float]`): What the run measured of the records held out, for the weights that are saved.
    """

    stage: str
    base: str
    base_id: str | None
    base_revision: str | None
    sources: list[TrainedSource]
    modules: dict[str, str]
    hyper_parameters: dict[str, Any]
    hardware: str
    hours: float
    is_resumed: bool
    steps: int
    records: int
    loss: float | None
    date: str
    skipped: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    num_held_out: int = 0
    held_out: dict[str, float] = field(default_factory=dict)

    def save(self, folder: str | Path) -> None:
        """Write them into the folder of the model."""
        write_json_whole(Path(folder) / FACTS_FILE, asdict(self))

    @classmethod
    def load(cls, folder: str | Path) -> "TrainingFacts | None":
        """Read them from the folder of a model; `None` where there are none."""
        path = Path(folder) / FACTS_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**content, "sources": [TrainedSource(**source) for source in content["sources"]]})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path} cannot be read ({error}): remove it, the card then says less.") from error


__all__ = ["FACTS_FILE", "TrainedSource", "TrainingFacts"]
