"""One process of a training: for tests that kill it, or that run several at once."""

import json
import os
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from training_runs import make_shapes, make_trainer

from llava_st_hf.data.mixture import Mixture
from llava_st_hf.training.stages import STAGES
from llava_st_hf.training.trainer import find_last_checkpoint


class NotedRecords:
    """Records that note in a file which of them were read."""

    def __init__(self, records, path: Path):
        self.records, self.path = records, path

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int):
        with self.path.open("a") as file:
            file.write(f"{index}\n")
        return self.records[index]


def allow_splitting_on_cpu() -> None:
    """Let accelerate split a model here: it does so on accelerators only, though torch can on the CPU."""
    prepare = PartialState.__init__

    def prepare_as_on_accelerators(state, *args, **kwargs):
        prepare(state, *args, **kwargs)
        if state.distributed_type == DistributedType.MULTI_CPU:
            state.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = prepare_as_on_accelerators


def main(folder: Path, checkpoint: Path, settings: dict) -> None:
    """
    Train, and write down what was seen.

    Args:
        folder (`Path`):
            Output folder; the losses are written to `losses.json` there, and the places of the records that were read
            to `read-RANK.txt` as they are.
        checkpoint (`Path`): The model.
        settings (`dict`):
            `records` (how many), `mixture` (a YAML file in their place), `stage`, `resume` and fields of the config.
    """
    settings = dict(settings)
    torch.set_num_threads(1)
    if "fsdp" in settings:
        allow_splitting_on_cpu()
    plan = replace(
        STAGES[settings.pop("stage", "from_scratch")], lora_rank=4, lora_dropout=settings.pop("dropout", 0.0)
    )
    num_records, mixture, resumes = (
        settings.pop("records", 8),
        settings.pop("mixture", None),
        settings.pop("resume", False),
    )
    records = make_shapes(num_records) if mixture is None else Mixture(mixture)
    rank = os.environ.get("RANK", "0")
    trainer = make_trainer(checkpoint, folder, NotedRecords(records, folder / f"read-{rank}.txt"), plan, **settings)
    trainer.train(resume_from_checkpoint=find_last_checkpoint(folder) if resumes else None)
    state = trainer.accelerator.get_state_dict(trainer.model)
    if trainer.is_world_process_zero():
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        (folder / "losses.json").write_text(json.dumps(history))
        sharded = sum(isinstance(value, DTensor) for value in trainer.model.parameters())
        (folder / "facts.json").write_text(json.dumps({"sharded": sharded, "processes": trainer.args.world_size}))
        torch.save({name: value for name, value in state.items() if value is not None}, folder / "weights.pt")
