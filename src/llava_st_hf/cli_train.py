"""The subcommand of `llava-st` that trains: `train`."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .processing.media_llava_st import InputError


def add_train(commands: argparse._SubParsersAction, epilog: str | None = None) -> None:
    """Add `llava-st train RECIPE [--key value ...]`."""
    train = commands.add_parser(
        "train",
        help="train a model as a recipe says",
        usage="llava-st train RECIPE [--dry-run] [--key value ...]",
        description="Train a model as a recipe says: one YAML file, one run. Whatever else is given as --key value "
        "replaces a key of the recipe: those of the model and the data below, and all of TRL's SFTConfig, such as "
        "--output_dir, --max_steps or --resume_from_checkpoint true. Several processes: `accelerate launch "
        "--config_file recipes/accelerate_configs/ddp.yaml -m llava_st_hf.cli train RECIPE`.",
        epilog=epilog,
        allow_abbrev=False,
    )
    train.add_argument("recipe", metavar="RECIPE", type=Path, help="YAML file, e.g. recipes/tiny/stage1/sft.yaml")
    train.add_argument(
        "--dry-run", action="store_true", help="check recipe, model and data, show what would be trained, and stop"
    )
    train.set_defaults(run=_run_train, parse=partial(_parse, train))


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Keep what the parser does not know as `overrides`: keys of the recipe with values."""
    options, overrides = parser.parse_known_args(arguments)
    options.overrides = overrides
    return options


def _run_train(options: argparse.Namespace) -> None:
    try:
        from .training.recipe import read_recipe
        from .training.run import run_recipe
    except ImportError as error:
        if error.name not in ("accelerate", "datasets", "peft", "trl", "yaml"):
            raise
        raise InputError(f"training needs {error.name}: run `pip install llava-st-hf[train]`.") from error
    recipe = read_recipe(options.recipe, options.overrides)
    try:
        run_recipe(recipe, report=_report, dry_run=options.dry_run)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError):  # one line is not enough to find out why a training failed
        traceback.print_exc()
        raise
    if not options.dry_run and recipe.training.process_index == 0:
        print(os.path.abspath(recipe.training.output_dir))


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


__all__ = ["add_train"]
