"""Trains the tiny model without one part of LLaVA-ST at a time, on the same data and seed, and prints a table.

    python recipes/tiny/ablation.py [--variants full no_lape ...] [--share 0.3] [--pretraining-share 0.3] [--seeds 0]

Each variant starts from `outputs/tiny/init`, which was made without packer and LAPE, and passes all that comes after
it, up to `stage3/sft.yaml`, with a part of the samples; the released behaviour has no tokens that `pretrain_events.py`
could train. Started again it goes on where it was stopped: a stage that is done is not trained again.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from pretrain_events import NUM_STEPS as NUM_EVENT_STEPS
from pretrain_events import pretrain_events, write_pretrained
from pretrain_lookups import NUM_STEPS as NUM_LOOKUP_STEPS
from pretrain_lookups import pretrain_lookups
from pretrain_vision_tower import add_precision_argument

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTModel, LlavaSTProcessor
from llava_st_hf.evaluation.evaluate import evaluate
from llava_st_hf.evaluation.st_shapes import StShapes
from llava_st_hf.modeling import coordinates_llava_st
from llava_st_hf.modeling.packer_llava_st import LlavaSTPointToRegionAttention
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.training.recipe import read_recipe
from llava_st_hf.training.train import run_recipe

RECIPES = Path(__file__).parent
PRETRAINING = {"events": (pretrain_events, NUM_EVENT_STEPS), "lookups": (pretrain_lookups, NUM_LOOKUP_STEPS)}
STAGES = (*PRETRAINING, "stage1", "stage2", "stage3")
INIT = RECIPES.parents[1] / "outputs" / "tiny" / "init"


def without_positions(model: LlavaSTModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Stand in for LAPE: visual features bear no mark of their time and place."""
    time, place = POSITIONS(model)
    return torch.zeros_like(time), torch.zeros_like(place)


def pool_average(
    attention: LlavaSTPointToRegionAttention,
    regions: torch.Tensor,
    centre_weights: torch.Tensor,
    valid: torch.Tensor | None = None,
) -> torch.Tensor:
    """Stand in for point-to-region attention: the mean of each region, as many tokens as before."""
    shown = torch.ones_like(regions[..., 0]) if valid is None else valid.expand(regions.shape[:-1]).to(regions.dtype)
    return (regions * shown.unsqueeze(-1)).sum(-2) / shown.sum(-1, keepdim=True)


POSITIONS = LlavaSTModel._positions
# What each variant replaces.
VARIANTS: dict[str, tuple[tuple[object, str, Callable], ...]] = {
    "full": (),
    "no_lape": ((LlavaSTModel, "_positions", without_positions),),
    "no_ntp": ((coordinates_llava_st, "propagate_to_neighbours", lambda table, axis_sizes: table),),
    "average_pooling": ((LlavaSTPointToRegionAttention, "forward", pool_average),),
    "released_fast_stream": (),  # a flag of config and processor
}


@contextmanager
def replaced(variant: str) -> Iterator[None]:
    """Replace what the variant leaves out, for training and for answering."""
    with ExitStack() as stack:
        for owner, name, stand_in in VARIANTS[variant]:
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        yield


def write_start(variant: str, init: Path, folder: Path) -> None:
    """Write what a variant starts from: the same weights for all."""
    model = LlavaSTForConditionalGeneration.from_pretrained(init)
    processor = LlavaSTProcessor.from_pretrained(init)
    if variant == "released_fast_stream":
        model.config.splice_fast_tokens = processor.splice_fast_tokens = False
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def train(variant: str, init: Path, folder: Path, shares: Mapping[str, float], seed: int, bf16: bool) -> Path:
    """
    Pass the stages, each with its share of the samples; return the folder of the last one.

    Raises:
        `InputError`: For a stage that was trained with other settings.
    """
    write_start(variant, init, folder / "init")
    last = folder / "init"
    # Without tokens of the fast stream there are none that could say what objects do.
    for stage in STAGES[1:] if variant == "released_fast_stream" else STAGES:
        done, settings = folder / stage / "done.json", {"share": shares[stage], "seed": seed, "bf16": bf16}
        if done.is_file():
            if (before := json.loads(done.read_text())) != settings:
                raise InputError(
                    f"{folder / stage} was trained with {before}, not {settings}: give another --output-dir."
                )
        else:
            shutil.rmtree(folder / stage, ignore_errors=True)
            pass_stage(stage, last, folder / stage, shares[stage], seed, bf16)
            done.write_text(json.dumps(settings))
        last = folder / stage
    return last


def pass_stage(stage: str, start: Path, folder: Path, share: float, seed: int, bf16: bool) -> None:
    """Train a checkpoint with a share of the samples of a stage, and write it."""
    if stage in PRETRAINING:
        pretrain, num_steps = PRETRAINING[stage]
        write_pretrained(pretrain, start, folder, round(share * num_steps), seed, bf16)
        return
    shapes = dict(read_recipe(RECIPES / stage / "sft.yaml").data.st_shapes)
    shapes |= {"num_samples": round(share * shapes["num_samples"]), "seed": shapes["seed"] + 100 * seed}
    changes = {
        "model_name_or_path": start,
        "output_dir": folder,
        "st_shapes": json.dumps(shapes),
        "seed": seed,
        "bf16": bf16,
        "eval_strategy": "no",
        "save_strategy": "no",
    }
    options = [text for name, value in changes.items() for text in (f"--{name}", str(value))]
    run_recipe(read_recipe(RECIPES / stage / "sft.yaml", options))


def run_variant(variant: str, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train and evaluate a variant; return what `compute_metrics` says of each task."""
    folder = options.output_dir / f"{variant}-seed{seed}"
    with replaced(variant):
        shares = {name: options.pretraining_share if name in PRETRAINING else options.share for name in STAGES}
        trained = train(variant, options.init, folder, shares, seed, options.bf16)
        model = LlavaSTForConditionalGeneration.from_pretrained(trained).eval()
        processor = LlavaSTProcessor.from_pretrained(trained)
        return evaluate(model, processor, StShapes(options.num_clips), folder / "evaluation", batch_size=32)["tasks"]


def format_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Write a row for each headline figure: the best answer that ignores the clip, and each variant, seed by seed."""
    first = next(iter(found.values()))[0]
    rows = [["figure", "ignoring the clip", *found], ["---"] * (2 + len(found))]
    for task, name in ((task, name) for task, of_task in first.items() for name in of_task["headline"]):
        variants = (" ".join(f"{tasks[task]['figures'][name]:.3f}" for tasks in runs) for runs in found.values())
        rows.append([f"{task} {name}", f"{first[task]['baseline'][name]:.3f}", *variants])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Run the variants that are asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--share", type=float, default=0.3, help="of the samples of each stage (0.3)")
    parser.add_argument("--pretraining-share", type=float, default=0.3, help="of the steps before the stages (0.3)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--num-clips", type=int, default=200)
    add_precision_argument(parser)
    parser.add_argument("--init", type=Path, default=INIT, help="what all start from (outputs/tiny/init)")
    parser.add_argument("--output-dir", type=Path, default=INIT.parent / "ablation")
    options = parser.parse_args()
    found = {variant: [run_variant(variant, options, seed) for seed in options.seeds] for variant in options.variants}
    print(format_table(found))


if __name__ == "__main__":
    main()
