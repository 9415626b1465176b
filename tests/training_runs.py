"""What the tests of training share: records of ST-Shapes, settings of a short run, a trainer for the tiny model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers import TrainerCallback, set_seed

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.samples import Sample
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.skips import SkipReport
from llava_st_hf.training.recipe import LlavaSTTrainingConfig
from llava_st_hf.training.stages import STAGES, StagePlan, apply_stage, get_media_token_ids
from llava_st_hf.training.trainer import LlavaSTTrainer

TASK_WEIGHTS = {"tvg": 1, "rec": 1, "rc": 1}


class Records(Sequence):
    """Records in a list, which notes the places that were read."""

    def __init__(self, samples: Sequence):
        self.samples = samples
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int):
        self.read.append(index)
        return self.samples[index]


def make_shapes(num_samples: int, task_weights=TASK_WEIGHTS, seed: int = 0) -> list[Sample]:
    dataset = ShapesDataset(task_weights, num_samples, seed=seed, num_frames=8, size=32, difficulty="easy")
    return [dataset[index] for index in range(num_samples)]


def make_pair(answers: tuple[str, str]) -> list[Sample]:
    """Make two clips with one question: only the clip tells which answer is right. No bin lies between two."""
    return [
        replace(sample, messages=({"role": "user", "content": "What?"}, {"role": "assistant", "content": answer}))
        for sample, answer in zip(make_shapes(2, {"tvg": 1}, seed=5), answers, strict=True)
    ]


class StopBelow(TrainerCallback):
    """Ends a run when its loss is low enough."""

    def __init__(self, loss: float):
        self.loss = loss

    def on_log(self, args, state, control, logs=None, **kwargs):
        control.should_training_stop = logs.get("loss", 1.0) < self.loss


def make_config(folder: Path, **settings) -> LlavaSTTrainingConfig:
    fields = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "max_steps": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "activation_checkpointing": False,
        "disable_tqdm": True,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "learning_rate": 1e-3,
        "max_length": 2048,
    }
    return LlavaSTTrainingConfig(**{**fields, **settings})


def make_trainer(
    checkpoint: Path,
    folder: Path,
    records: Sequence,
    plan: StagePlan = STAGES["from_scratch"],
    model: LlavaSTForConditionalGeneration | None = None,
    eval_records: Sequence | None = None,
    evaluate_grounding=None,
    **settings,
) -> LlavaSTTrainer:
    set_seed(settings.get("seed", 42))  # before LoRA is made, as `run_recipe` does
    processor = LlavaSTProcessor.from_pretrained(checkpoint)
    if model is None:
        model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    collator = LlavaSTDataCollator(
        processor, SkipReport(folder / "skipped.jsonl", 1), max_length=2048, num_frames=8, return_task_ids=True
    )
    return LlavaSTTrainer(
        apply_stage(model, plan, get_media_token_ids(processor)),
        make_config(folder, **settings),
        plan,
        collator,
        records,
        eval_records,
        eval_data_collator=replace(collator, skip_report=SkipReport(folder / "skipped_held_out.jsonl", 1)),
        evaluate_grounding=evaluate_grounding,
    )


def read_losses(trainer: LlavaSTTrainer, name: str = "loss") -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]
