"""`llava-st push`: a model, an adapter, a data set or an evaluation to the Hub."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import Quiet, argument, flag, option
from .running import Command, say, show

app = typer.Typer()


class PushCommand(Command):
    """Needs what the extra `data` brings for the cards."""

    extra = "data"


@app.command(cls=PushCommand)
def push(
    path: Annotated[
        Path, argument("PATH", "folder of a run, a checkpoint, a published data set, an evaluation or a Space")
    ],
    repository: Annotated[str, argument("REPO", "where to on the Hub: ORGANIZATION/NAME")],
    dry_run: Annotated[bool, flag("--dry-run", "show the files and the card, and send nothing")] = False,
    public: Annotated[bool, flag("--public", "let everybody see the repository, which is private else")] = False,
    base_model: Annotated[
        str | None, option("ID", "base on the Hub, of an adapter; model on the Hub, of an evaluation")
    ] = None,
    results: Annotated[
        list[Path] | None, option("DIR", "an evaluation of the model, beside those in its folder; several times")
    ] = None,
    license: Annotated[str | None, option("SPDX", "licence of a model, for the card: Apache-2.0")] = None,
    message: Annotated[str | None, option("TEXT", "of the commit")] = None,
    quiet: Quiet = False,
) -> None:
    """
    Send a model, an adapter, a data set, an evaluation or a Space to the Hub.

    What PATH is, is told by the files in it. Model and adapter go with processor, code and card, and all goes in one
    commit. Stopped or cut at any moment and started again, it sends what is not there yet.

    \b
    examples:
      llava-st push outputs/stage3 me/llava-st-mine --dry-run
      llava-st push outputs/custom_grounding_lora me/kitchen-lora --base-model me/llava-st-mine
      llava-st push hub_cards/space me/when-and-where --public
    """
    from huggingface_hub.utils import disable_progress_bars

    from llava_st_hf.hub import CardOptions, push_folder
    from llava_st_hf.hub.contents import collect_contents
    from llava_st_hf.hub.push import check_repository
    from llava_st_hf.utils.tables import format_table

    options = CardOptions(repository, base_model, license, tuple(results or ()))
    if not dry_run:
        if quiet or not sys.stderr.isatty():
            disable_progress_bars()
        show(push_folder(path, options, public, message))
        return
    check_repository(repository)
    with collect_contents(path, options) as contents:
        sizes = contents.list_sizes()
        rows = [*sizes, ("total", sum(size for _, size in sizes))]
        say(f"{contents.kind}, {'public' if public else 'private'}, to {contents.repo_type} repository {repository}")
        show(f"{format_table(('file', 'bytes'), rows)}\n\n{contents.card}")
