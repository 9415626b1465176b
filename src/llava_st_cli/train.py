"""`llava-st train`: one recipe, one run."""

import os
from pathlib import Path
from typing import Annotated

import typer

from .options import argument, flag
from .running import Command, CommandError, check_exists, check_model_of_recipe, say, show

app = typer.Typer()

# What other commands call it, or a hurried hand, and what it is here.
_MEANT = {"--model": "--model_name_or_path", "--dryrun": "--dry-run", "--dry_run": "--dry-run"}


class TrainCommand(Command):
    """Lists the keys of a recipe at the end of its help."""

    extra = "train"

    def list_more(self) -> str:
        """Return the keys with what they mean."""
        try:
            from llava_st_hf.training.recipe import describe_keys
        except ImportError as error:
            return self.describe_error(error)
        return describe_keys()

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:
        """Return the usage, keys included."""
        return [*super().collect_usage_pieces(ctx), "[--key value ...]"]


@app.command(cls=TrainCommand, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    ctx: typer.Context,
    recipe: Annotated[Path, argument("RECIPE", "YAML file, e.g. recipes/tiny/stage1/sft.yaml")],
    dry_run: Annotated[
        bool, flag("--dry-run", "check recipe, model and data, show what would be trained, and stop")
    ] = False,
) -> None:
    """
    Train a model as a recipe says: one YAML file, one run.

    Whatever else is given as --key value replaces a key of the recipe: those of the model and the data below, and all
    of TRL's SFTConfig, such as --output_dir, --max_steps or --resume_from_checkpoint true.

    Several processes: accelerate launch --config_file recipes/accelerate_configs/ddp.yaml -m llava_st_cli train RECIPE
    """
    if str(recipe).startswith("-"):
        raise CommandError(f"RECIPE is {recipe}: name the recipe before its keys.")
    for word in (word.partition("=")[0] for word in ctx.args):
        if word in _MEANT:
            raise CommandError(f"{word} is no key of a recipe: write {_MEANT[word]}.")
    check_exists(recipe, "recipe")
    check_model_of_recipe(recipe, ctx.args)
    from llava_st_hf.training import read_recipe, run_recipe

    content = read_recipe(recipe, ctx.args)
    run_recipe(content, report=say, dry_run=dry_run)
    if not dry_run and content.training.process_index == 0:
        show(os.path.abspath(content.training.output_dir))
