"""Trains the tiny model without one part of LLaVA-ST at a time, on the same data and seed, and prints a table.

    python benchmarks/ablation.py [--variants full no_lape ...] [--num-samples 4000] [--seeds 0] [--num-clips 200]
        [--bf16 true]

As in the published training, what is there already is a vision tower, a projector and a language model: those of the
checkpoint that ships. The packer and the coordinate rows begin anew, as the published ones do, and all but the tower
is trained on the tasks of stage 3. Started again it goes on where it was stopped: a variant that is trained is not
trained again.
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
from transformers.hf_argparser import string_to_bool

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTModel, LlavaSTProcessor
from llava_st_hf.demo import SHIPPED_CHECKPOINT
from llava_st_hf.evaluation.benchmarks.st_shapes import StShapes
from llava_st_hf.evaluation.runner import evaluate
from llava_st_hf.modeling import coordinates_llava_st
from llava_st_hf.modeling.packer_llava_st import LlavaSTPointToRegionAttention
from llava_st_hf.processing import InputError
from llava_st_hf.training.recipe import read_recipe
from llava_st_hf.training.run import run_recipe
from llava_st_hf.utils.tables import format_table

REPOSITORY = Path(__file__).parents[1]
RECIPE = REPOSITORY / "recipes" / "tiny" / "stage3" / "sft.yaml"
OUTPUTS = REPOSITORY / "outputs" / "tiny" / "ablation"
FIRST_DATA_SEED = 5  # what ships was trained on the smaller ones
MAX_NEW_TOKENS = 256  # the longest true answers have some 200


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
    "published_fast_stream": (),  # a flag of config and processor
}


@contextmanager
def replaced(variant: str) -> Iterator[None]:
    """Replace what the variant leaves out, for training and for answering."""
    with ExitStack() as stack:
        for owner, name, stand_in in VARIANTS[variant]:
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        yield


def write_start(variant: str, folder: Path, seed: int) -> None:
    """Write what a variant starts from, the same weights for all: packer and coordinate rows are drawn anew."""
    model = LlavaSTForConditionalGeneration.from_pretrained(SHIPPED_CHECKPOINT)
    processor = LlavaSTProcessor.from_pretrained(SHIPPED_CHECKPOINT)
    torch.manual_seed(seed)
    new = LlavaSTForConditionalGeneration(model.config)
    model.model.packer.load_state_dict(new.model.packer.state_dict())
    model.model.coordinate_embeddings.load_state_dict(new.model.coordinate_embeddings.state_dict())
    if variant == "published_fast_stream":
        model.config.splice_fast_tokens = processor.splice_fast_tokens = False
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def train(variant: str, folder: Path, num_samples: int, seed: int, bf16: bool) -> Path:
    """
    Train a variant, unless that is done; return the folder of the model.

    Raises:
        `InputError`: If it was trained with other settings.
    """
    done, settings = folder / "done.json", {"num_samples": num_samples, "seed": seed, "bf16": bf16}
    if done.is_file():
        if (before := json.loads(done.read_text())) != settings:
            raise InputError(f"{folder} was trained with {before}, not {settings}: give another --output-dir.")
        return folder / "trained"
    shutil.rmtree(folder, ignore_errors=True)
    write_start(variant, folder / "start", seed)
    shapes = read_recipe(RECIPE).data.st_shapes | {"num_samples": num_samples, "seed": FIRST_DATA_SEED + seed}
    changes = {
        "model_name_or_path": folder / "start",
        "output_dir": folder / "trained",
        "st_shapes": json.dumps(shapes),
        "seed": seed,
        "bf16": bf16,
        "eval_strategy": "no",
        "save_strategy": "no",
    }
    run_recipe(read_recipe(RECIPE, [text for name, value in changes.items() for text in (f"--{name}", str(value))]))
    done.write_text(json.dumps(settings))
    return folder / "trained"


def run_variant(variant: str, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train and evaluate a variant; return what `metrics.json` says of each task."""
    folder = options.output_dir / f"{variant}-seed{seed}"
    with replaced(variant):
        trained = train(variant, folder, options.num_samples, seed, options.bf16)
        return evaluate(
            LlavaSTForConditionalGeneration.from_pretrained(trained).eval(),
            LlavaSTProcessor.from_pretrained(trained),
            StShapes(options.num_clips),
            folder / "evaluation",
            batch_size=32,
            max_new_tokens=MAX_NEW_TOKENS,
        )["tasks"]


def format_metrics(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Write a row for each headline metric: that of the blind baseline and of each variant, seed by seed."""
    first = next(iter(found.values()))[0]
    rows = []
    for task, name in ((task, name) for task, of_task in first.items() for name in of_task["headline"]):
        variants = (" ".join(f"{tasks[task]['metrics'][name]:.3f}" for tasks in runs) for runs in found.values())
        rows.append([f"{task} {name}", f"{first[task]['baseline'][name]:.3f}", *variants])
    return format_table(("metric", "blind baseline", *found), rows, markdown=True)


def main() -> None:
    """Run the variants that are asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--num-samples", type=int, default=4000, help="to train on (4000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--num-clips", type=int, default=200, help="to evaluate on, for each task (200)")
    parser.add_argument("--bf16", type=string_to_bool, default=True, help="false is faster on some CPUs (true)")
    parser.add_argument("--output-dir", type=Path, default=OUTPUTS)
    options = parser.parse_args()
    found = {variant: [run_variant(variant, options, seed) for seed in options.seeds] for variant in options.variants}
    print(format_metrics(found))


if __name__ == "__main__":
    main()
