"""Collects what a run knows of itself for the card of its model."""

import json
from datetime import UTC, datetime
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers import TrainerState, TrainingArguments

from ..data.cards import UNKNOWN_LICENSE
from ..data.mixture import Mixture
from ..data.skips import SkipReport, read_skip_report
from ..hub.training_facts import TrainedSource, TrainingFacts
from ..inference.loading import MERGED_FROM_FILE
from ..processing.media_llava_st import format_count
from ..utils.public_names import looks_like_id
from .stages import find_module

if TYPE_CHECKING:
    from .trainer import LlavaSTTrainer

_SHOWN_ARGUMENTS = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "bf16",
    "fp16",
    "max_length",
    "seed",
)
_NOT_METRICS = ("runtime", "per_second", "skipped_records")
_SHAPES_LICENSE = "CC0-1.0"  # nobody's work: rendered from numbers


def collect_facts(trainer: "LlavaSTTrainer", step: int | None = None) -> TrainingFacts:
    """
    Return what a run that is done knows of itself.

    Args:
        trainer (`LlavaSTTrainer`): After `train`, or at a checkpoint.
        step (`int`, *optional*): Of the checkpoint; by default the step whose weights a run that is done has.
    """
    args, plan, records = trainer.args, trainer.plan, trainer.train_dataset.records
    model = trainer.accelerator.unwrap_model(trainer.model)
    base, base_id, revision = trainer.base
    shown = {name: _to_plain(getattr(args, name)) for name in _SHOWN_ARGUMENTS}
    if (num_frames := trainer.data_collator.collator.num_frames) is not None:
        shown["num_frames"] = num_frames
    if isinstance(model, PeftModel):
        shown |= {"lora_rank": plan.lora_rank, "lora_alpha": plan.lora_alpha or 2 * plan.lora_rank}
        shown["lora_dropout"] = plan.lora_dropout
    trained = {find_module(name) for name, weight in model.named_parameters() if weight.requires_grad}
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return TrainingFacts(
        stage=plan.name,
        base=base,
        base_id=base_id,
        base_revision=revision,
        sources=_list_sources(records),
        modules={row.module: f"{row.training}, {row.learning_rate:g}" for row in plan.rows if row.module in trained},
        hyper_parameters={**shown, "num_processes": args.world_size},
        hardware=name_hardware(args.device, args.world_size),
        hours=round(trainer.train_seconds / 3600, 4),
        is_resumed=trainer.is_resumed,
        steps=trainer.state.global_step,
        records=min(trainer.state.global_step * batch, len(records) * max(round(args.num_train_epochs), 1)),
        loss=round(losses[-1], 4) if losses else None,
        date=datetime.now(UTC).date().isoformat(),
        skipped=count_skipped(trainer.data_collator.collator.skip_report),
        versions={name: version(name) for name in ("llava-st-hf", "torch", "transformers", "trl", "peft")},
        num_held_out=0 if trainer.eval_dataset is None else len(trainer.eval_dataset.records),
        held_out=find_held_out(trainer.state, args, step),
    )


def count_skipped(report: SkipReport) -> int:
    """Return how many records could not be used, in all processes where they are written down."""
    return report.num_skipped if report.path is None else len(read_skip_report(report.path))


def find_held_out(state: TrainerState, args: TrainingArguments, step: int | None = None) -> dict[str, float]:
    """Return what was measured of the records held out at a step, by default that whose weights a run ends with."""
    if step is None:
        step = state.best_global_step if args.load_best_model_at_end else state.global_step
    found = [entry for entry in state.log_history if "eval_loss" in entry and entry["step"] == step]
    return {
        name.removeprefix("eval_"): value
        for name, value in (found[-1] if found else {}).items()
        if name.startswith("eval_") and not name.endswith(_NOT_METRICS)
    }


def _to_plain(value: Any) -> Any:
    value = value.value if isinstance(value, Enum) else value
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def name_base(model: Any) -> tuple[str, str | None, str | None]:
    """Return name, id on the Hub and revision of what a model was loaded from; of a merged adapter its own name."""
    config = model.peft_config["default"] if isinstance(model, PeftModel) else None
    source = str(config.base_model_name_or_path if config is not None else model.name_or_path)
    is_id = looks_like_id(source)
    name = source if is_id else Path(source).name
    if not is_id and (origin := Path(source) / MERGED_FROM_FILE).is_file():
        name = json.loads(origin.read_text(encoding="utf-8"))["adapter"]
    return name or "random weights", source if is_id else None, getattr(config, "revision", None) if is_id else None


def _list_sources(records: Any) -> list[TrainedSource]:
    """Return the sources of a mixture, or what the records say."""
    if isinstance(records, Mixture):
        specs = {spec.name: spec for spec in records.spec.datasets}
        return [
            TrainedSource(
                one.name,
                (spec := specs[one.name]).license or UNKNOWN_LICENSE,
                spec.origin,
                spec.id,
                spec.revision,
                one.num_chosen,
                one.num_visits,
            )
            for one in records.describe()
        ]
    name = getattr(records, "source", "records")
    is_made = name == "st-shapes"
    license = _SHAPES_LICENSE if is_made else UNKNOWN_LICENSE
    origin = "rendered by llava-st-hf" if is_made else None
    return [TrainedSource(name, license, origin, None, None, len(records), len(records))]


def name_hardware(device: torch.device, num_processes: int) -> str:
    """Return what a run took place on, for its card."""
    if device.type != "cpu":
        return f"{num_processes} x {torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type}"
    threads = torch.get_num_threads()
    return f"CPU, {format_count(num_processes, 'process')} of {format_count(threads, 'thread')}"
