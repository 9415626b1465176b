"""Writes the page that has the help of every command: python docs/make_command_line.py"""

from collections.abc import Iterator
from pathlib import Path

import typer

from llava_st_cli.app import make_program

PAGE = Path(__file__).parent / "command_line.md"
_WIDTH = 100  # characters
_HEAD = """# The command line

Every command and option, as `--help` prints them (`python docs/make_command_line.py` writes this page).
"""


def list_commands(command: typer.core.TyperCommand, context: typer.Context) -> Iterator[typer.Context]:
    """Yield a command and those in its group, each in its context."""
    yield context
    for name, inner in getattr(command, "commands", {}).items():
        settings = {"parent": context, "terminal_width": _WIDTH, "max_content_width": _WIDTH}
        yield from list_commands(inner, typer.Context(inner, info_name=name, **settings))


def write_page() -> str:
    """Return the page as Markdown."""
    program, parts = make_program(), [_HEAD]
    settings = {"terminal_width": _WIDTH, "max_content_width": _WIDTH, **program.context_settings}
    top = typer.Context(program, info_name="llava-st", **settings)
    for context in list_commands(program, top):
        lines = [line.rstrip() for line in context.get_help().splitlines()]
        parts.append(f"## `{context.command_path}`\n\n```text\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
