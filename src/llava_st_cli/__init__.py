"""The command `llava-st`: one file for each group of commands, and nothing heavy imported before one runs."""

from .process import main

__all__ = ["main"]
