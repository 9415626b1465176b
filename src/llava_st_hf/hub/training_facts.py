"""What a training run knows of itself when it is done, kept beside its model for the card."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..data import SourceFacts
from ..processing import InputError
from ..utils.atomic_files import write_json_whole

FACTS_FILE = "training.json"


@dataclass(frozen=True)
class TrainedSource:
    """A source that a model was trained on."""

    name: str
    license: str  # SPDX identifier, or `"unknown"`
    origin: str | None  # where it comes from
    id: str | None  # its data set on the Hub
    revision: str | None  # branch, tag or commit of that
    num_records: int  # records that were chosen
    per_epoch: int  # records visited in an epoch

    def __post_init__(self):
        SourceFacts(self.name, self.license)  # checks the licence


@dataclass(frozen=True)
class TrainingFacts:
    """A training run in plain values, without a path of the machine."""

    stage: str  # who was trained
    base: str  # name of the model that it started from
    base_id: str | None  # the same on the Hub; `None` for a folder
    base_revision: str | None  # branch, tag or commit of that
    sources: list[TrainedSource]  # what it was trained on
    modules: dict[str, str]  # how each module was trained, with its learning rate; others were frozen
    hyper_parameters: dict[str, Any]  # of the optimizer, the schedule, the batches and LoRA
    hardware: str  # what it ran on
    hours: float  # how long it took, since it was resumed last
    is_resumed: bool  # whether it was
    steps: int  # optimizer steps
    records: int  # records seen
    loss: float | None  # mean of the training loss that was logged last
    date: str  # day on which it was done, `"2026-01-31"`
    skipped: int = 0  # records that could not be used
    versions: dict[str, str] = field(default_factory=dict)  # of the libraries
    num_held_out: int = 0  # records that were held out
    # What the run measured of the records held out, for the weights that are saved.
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
