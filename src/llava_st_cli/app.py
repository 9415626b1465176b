"""The program: its commands, and what stands before them."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from . import checkpoints, compare, data, evaluate, export, ground, info, lmms_tasks, push, train
from .options import flag
from .running import EXIT_CODES, Group, show_help_without_command

app = typer.Typer(
    cls=Group,
    epilog=f"`llava-st COMMAND --help` explains a command. {EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # importing rich takes longer than all the rest
    pretty_exceptions_enable=False,
)


def print_version(is_asked: bool) -> None:
    """Print the version and end."""
    if is_asked:
        print(f"llava-st-hf {version('llava-st-hf')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    ctx: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="show the version and exit")
    ] = False,
    debug: Annotated[bool, flag("--debug", "show the traceback of an error")] = False,
) -> None:
    """Ask a video or an image when and where something happens."""
    show_help_without_command(ctx)


for module in (ground, info, checkpoints):
    app.add_typer(module.app)
app.add_typer(data.app, name="data")
for module in (evaluate, compare, lmms_tasks, export, train, push):
    app.add_typer(module.app)


def make_program() -> Callable:
    """Return what runs a command line."""
    # Not `app()`, which exchanges the hook of Python for exceptions.
    return typer.main.get_command(app)
