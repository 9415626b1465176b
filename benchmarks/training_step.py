"""Peak memory and time of a training step: ours against TRL's `SFTTrainer` on LlavaOnevision of transformers.

Both models have the same vision tower, the same language model and the same weights to train, and read the same number
of frames, each as the same number of tokens: LlavaOnevision pools 2x2 patches, our packer reads regions of 2x2. Each
runs in a process of its own on random weights, one after the other; the peak is what the process holds above its level
before the first step (Linux: VmHWM). The first step is left out of the time.

    python benchmarks/training_step.py [--frames 12] [--steps 4] [--hidden 512] [--layers 6] [--vocabulary 151936]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from loss_memory import status_mib
from tokenizers import Tokenizer, models
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration
from llava_st_hf.training import STAGES, LlavaSTTrainer, LlavaSTTrainingConfig

TEXT_TOKENS, ANSWER_TOKENS = 64, 48  # of a question with its answer, and of the answer alone
GRID, PATCH_SIZE, SPECIAL_TOKENS = 18, 8, 2
TRAINERS = ("SFTTrainer", "LlavaSTTrainer")


class StepClock(TrainerCallback):
    """Takes the time of each step."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs):
        """Start the clock."""
        self._start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self._start)


def make_model(trainer: str, options: argparse.Namespace) -> torch.nn.Module:
    """Make either model, its weights random."""
    shared = {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": GRID * PATCH_SIZE,
            "patch_size": PATCH_SIZE,
            "vision_use_head": False,
        },
        "text_config": {
            "model_type": "qwen2",
            "hidden_size": options.hidden,
            "intermediate_size": 4 * options.hidden,
            "num_hidden_layers": options.layers,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "vocab_size": options.vocabulary,
        },
    }
    torch.manual_seed(0)
    video_id = options.vocabulary - 1
    if trainer == "SFTTrainer":
        config = LlavaOnevisionConfig(
            **shared, vision_feature_layer=-1, image_token_index=video_id - 1, video_token_index=video_id
        )
        return LlavaOnevisionForConditionalGeneration(config)
    config = LlavaSTConfig(
        **shared,
        image_token_id=video_id - 1,
        video_token_id=video_id,
        packer_hidden_size=options.hidden // 4,
        # One token for 2x2 patches of every frame, as LlavaOnevision has it.
        spatial_stride=2,
        temporal_stride=1,
        splice_fast_tokens=False,
    )
    return LlavaSTForConditionalGeneration(config)


def make_batch(trainer: str, options: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Make a question about a clip with its answer. LlavaOnevision has one more token for a clip, the new line."""
    num_video = options.frames * (GRID // 2) ** 2 + (trainer == "SFTTrainer")
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(0, options.vocabulary - SPECIAL_TOKENS, (1, TEXT_TOKENS), generator=generator)
    ids = torch.cat([torch.full((1, num_video), options.vocabulary - 1), text], 1)
    labels = ids.clone()
    labels[:, :-ANSWER_TOKENS] = -100
    pixels = torch.randn(1, options.frames, 3, GRID * PATCH_SIZE, GRID * PATCH_SIZE, generator=generator)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "pixel_values_videos": pixels,
    }


def make_trainer(trainer: str, folder: str, options: argparse.Namespace, clock: StepClock) -> SFTTrainer:
    """Make either trainer, with the settings of both alike."""
    settings = {
        "output_dir": folder,
        "max_steps": options.steps,
        "per_device_train_batch_size": 1,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "optim": "sgd",
        "learning_rate": 1e-4,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
    }
    model, batch = make_model(trainer, options), make_batch(trainer, options)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(
            "packer" in name or "multi_modal_projector" in name or "language_model.layers" in name
        )
    if trainer == "SFTTrainer":
        settings |= {"remove_unused_columns": False, "dataset_kwargs": {"skip_prepare_dataset": True}}
        rows = Dataset.from_dict({"row": list(range(options.steps))})
        return SFTTrainer(
            model,
            SFTConfig(**settings, max_length=None),
            data_collator=lambda rows: dict(batch),
            train_dataset=rows,
            processing_class=make_tokenizer(),
            callbacks=[clock],
        )
    return LlavaSTTrainer(
        model,
        LlavaSTTrainingConfig(**settings),
        STAGES["from_scratch"],
        data_collator=lambda records: {**batch, "task_ids": torch.zeros(1, dtype=torch.long)},
        train_dataset=list(range(options.steps)),
        processing_class=make_tokenizer(),
        callbacks=[clock],
    )


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make the least tokenizer that a trainer accepts; the batches are ids already."""
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>")


def measure(trainer: str, options: argparse.Namespace) -> dict[str, float]:
    """Run the steps of one trainer; return its peak in MiB, the least seconds of a step, and tokens."""
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        run = make_trainer(trainer, folder, options, clock)
        Path("/proc/self/clear_refs").write_text("5")
        before = status_mib("VmRSS")
        run.train()
    return {
        "peak_mib": status_mib("VmHWM") - before,
        "step_seconds": min(clock.seconds[1:]),
        "tokens": make_batch(trainer, options)["input_ids"].shape[1],
        "trained_parameters": sum(weight.numel() for weight in run.model.parameters() if weight.requires_grad),
    }


def main() -> None:
    """Measure both in processes of their own, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--trainer", choices=TRAINERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trainer:
        print(json.dumps(measure(options.trainer, options)))
        return
    figures = {}
    for trainer in TRAINERS:
        command = [sys.executable, __file__, *sys.argv[1:], "--trainer", trainer]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{trainer} failed:\n{done.stderr}")
        figures[trainer] = json.loads(done.stdout.splitlines()[-1])
    stock, ours = (figures[trainer] for trainer in TRAINERS)
    print(
        f"{options.frames} frames, {ours['tokens']} tokens ({stock['tokens']} in LlavaOnevision), {ANSWER_TOKENS} of "
        f"them supervised; {ours['trained_parameters'] / 1e6:.1f} M trained weights "
        f"({stock['trained_parameters'] / 1e6:.1f} M), {options.vocabulary} rows, float32"
    )
    for name, unit in (("peak_mib", "MiB"), ("step_seconds", "s")):
        print(
            f"  {name:13}ours / stock = {ours[name] / stock[name]:.3f}  ({ours[name]:.1f} / {stock[name]:.1f} {unit})"
        )


if __name__ == "__main__":
    main()
