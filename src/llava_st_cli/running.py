"""What all commands share: how they end, how they say what is wrong, and what they show while they work."""

import os
import re
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .process import INTERRUPTED, NOTICE

if TYPE_CHECKING:
    from tqdm import tqdm

EXIT_CODES = "exit codes: 0 answered, 1 input, output or model could not be used, 2 wrong arguments, 130 interrupted"
_MODULES_OF_EXTRAS = {"accelerate", "datasets", "jinja2", "matplotlib", "peft", "pyarrow", "trl", "yaml"}
_MAX_WAIT_SECONDS = 3
_NO_OPTION = re.compile(r"-\.?\d|-.* |-$", re.DOTALL)  # a negative number, a sentence, or a dash


class CommandError(Exception):
    """Ends the command with one line on standard error and exit code 1; the message names the option."""


class Group(TyperGroup):
    """A group of commands, whose messages about wrong arguments can be printed."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Parse."""
        with printable_usage():
            return super().parse_args(ctx, args)


class Command(TyperCommand):
    """A command that ends with one line where something goes wrong, whatever that is."""

    extra: str | None = None  # of the package, which brings what the command needs
    takes_several: frozenset[str] = frozenset()  # options that take all words up to the next option

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Parse, with the options first: negative numbers and sentences with a dash are arguments, too."""
        with printable_usage():
            return self._parse(ctx, args)

    def _parse(self, ctx: typer.Context, args: list[str]) -> list[str]:
        if ctx.ignore_unknown_options or ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        named = {name: each for each in self.params for name in each.opts if name.startswith("-")}
        sizes = {name: 0 if each.is_flag else each.nargs for name, each in named.items()}
        options, arguments, words = [], [], deque(args)
        while words and words[0] != "--":
            word = words.popleft()
            is_several, size = word in self.takes_several, sizes.get(word, 0)
            if len(words) < size or (is_several and words[0].startswith("-")):
                ctx.fail(f"Option {word!r} requires {size} argument{'s' * (size > 1)}.")
            if is_several:
                while words and not words[0].startswith("-"):
                    options += [word, words.popleft()]
            elif word.startswith("-") and (word.partition("=")[0] in sizes or not _NO_OPTION.match(word)):
                options += [word, *(words.popleft() for _ in range(size))]
            else:
                arguments.append(word)
        return super().parse_args(ctx, [*options, "--", *arguments, *list(words)[1:]])

    def invoke(self, ctx: typer.Context) -> None:
        """Do the work, and end as `EXIT_CODES` says."""
        try:
            with warnings.catch_warnings():
                # PEFT and TRL ask transformers by a name that it will drop; nobody here can change that.
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
                super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            print(NOTICE, file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, GeneratorExit, SystemExit):
            raise
        except BaseException as error:  # a panic of a library in Rust is no `Exception`
            if ctx.find_root().params.get("debug"):
                traceback.print_exc()
            print(f"llava-st: error: {self.describe_error(error, ctx.params)}", file=sys.stderr)
            raise typer.Exit(1) from error

    def list_more(self) -> str | None:
        """Return what the help has beside text, options and exit codes; asked for only where help is."""

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:
        """Write the end of the help."""
        parts = [*(self.list_more() or "").split("\n\n"), EXIT_CODES]
        self.epilog = "\n\n".join(f"\b\n{part}" for part in parts if part)  # behind a \b lines stay as they are
        super().format_epilog(ctx, formatter)

    def describe_error(self, error: BaseException, values: Mapping[str, Any] = MappingProxyType({})) -> str:
        """Return what is wrong in one line, with the name of the option where the error knows its field."""
        if is_for_users(error):
            message = _find_message_of_worker(error) or str(error)
        else:
            message = f"{type(error).__name__}: {summarize_error(error)}"
            # A library may not say which file it is about; the system does.
            given = () if isinstance(error, OSError) else values.values()
            files = [str(value) for value in given if isinstance(value, (str, Path)) and _exists(value)]
            message += f" (given were {', '.join(files)})" if files else ""
        missing = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else None
        if self.extra is not None and missing in _MODULES_OF_EXTRAS:
            message = f'{missing} is not installed: pip install "llava-st-hf[{self.extra}]".'
        # What has a reason is about a record of a file, not about an argument.
        field = None if hasattr(error, "reason") else getattr(error, "field", None)
        for parameter in self.params:
            if field in (parameter.name, parameter.opts[0].removeprefix("--").replace("-", "_")):
                names = [] if parameter.param_type_name == "argument" else parameter.opts[:1]
                names += [] if parameter.metavar is None else [parameter.metavar]
                message += f" (on the command line: {' '.join(names)})"
        return clean(" ".join(message.split()).encode("utf-8", "backslashreplace").decode())


def show_help_without_command(ctx: typer.Context) -> None:
    """Print the help of a group of commands where none of them is given."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit(2)


@contextmanager
def printable_usage() -> Iterator[None]:
    """Let messages about wrong arguments, which repeat these, be such as can be printed."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):  # of click, which typer may bring a copy of
            error.message = clean(error.message)
        raise


# Errors ----------------------------------------------------------------------------------------------------------


def is_for_users(error: BaseException) -> bool:
    """Tell whether a message was written for users: it says what to fix."""
    # By name: what raises an `InputError` of the library has imported it, and this must not.
    return isinstance(error, CommandError) or any(each.__name__ == "InputError" for each in type(error).__mro__)


def summarize_error(error: BaseException) -> str:
    """Return one line for an error of a library: its message, or that of its cause where it only points there."""
    while error.__cause__ is not None and str(error).rstrip().endswith(":"):
        error = error.__cause__
    lines = (_find_message_of_worker(error) or str(error)).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _find_message_of_worker(error: BaseException) -> str | None:
    """Return the message of an error of a process that reads data: PyTorch raises it anew, with its traceback."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        wrapper = frame.f_locals.get("self")
        if type(wrapper).__name__ == "ExceptionWrapper":
            kind = wrapper.exc_type
            name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
            _, is_said, message = wrapper.exc_msg.rpartition(f"\n{name}: ")
            return message.strip() if is_said else None
    return None


def _exists(path: str | Path) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a text that is longer than a name, or holds a null
        return False


@contextmanager
def naming(what: str, verb: str = "loaded") -> Iterator[None]:
    """Say of an error of a library what it is about, such as `--model ID`."""
    try:
        yield
    except Exception as error:
        if is_for_users(error):
            raise
        raise CommandError(f"{what} cannot be {verb}: {summarize_error(error)}") from error


def check_exists(path: str | Path, what: str = "file") -> None:
    """Refuse a path where nothing is, or what has no end: a pipe or a device."""
    if not _exists(path):
        raise CommandError(f"{path}: no such {what}; check the path.")
    if not (Path(path).is_file() or Path(path).is_dir()):
        raise CommandError(f"{path} is a pipe or a device: copy what is in it to a file.")


def check_folder(flag: str, name: str | None) -> None:
    """Say so where a folder is meant that does not exist, before it is taken for a repository's name."""
    if name is not None and not name.strip():
        raise CommandError(f"{flag} is empty: give a directory, or a repository on the Hub.")
    if name is not None and _is_path(name) and not Path(name).expanduser().is_dir():
        raise CommandError(f"{flag} is {name}: no such folder.")
    if name is not None:
        check_repository(flag, name)


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith("/")


def check_repository(flag: str, name: str) -> None:
    """Use what the cache has of a repository where the Hub does not answer: asking again would take minutes."""
    if _is_path(name) or Path(name).exists():
        return
    if Path(name).name == "llava-st-tiny-shapes" and name.count("/") != 1:  # with one it is somebody's repository
        from llava_st_hf.demo import SHIPPED_CHECKPOINT

        raise CommandError(f"{flag} is {name}: no such folder here; the model that ships is {SHIPPED_CHECKPOINT}.")
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or _answers(constants.ENDPOINT):
        return
    if not (Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}").is_dir():
        raise CommandError(
            f"{flag} is {name}: no such folder, and the Hub cannot be reached: check the name, or the network."
        )
    constants.HF_HUB_OFFLINE = True


def check_model_of_recipe(recipe: str | Path, words: Sequence[str] = ()) -> None:
    """
    Look for the model of a run as `check_repository` does, before what reads recipes is imported.

    Args:
        recipe (`str` or `Path`): The recipe; one that cannot be read is left to who reads it.
        words (`Sequence[str]`, *optional*): Keys and values that replace those of the recipe.
    """
    flag = "--model_name_or_path"
    following = zip(words, [*words[1:], ""], strict=False)
    said = [word.partition("=")[2] or then for word, then in following if word.partition("=")[0] == flag]
    if not said and Path(recipe).is_file():
        import yaml

        with suppress(OSError, ValueError, yaml.YAMLError):
            content = yaml.safe_load(Path(recipe).read_text(encoding="utf-8"))
            said = [content.get(flag[2:])] if isinstance(content, dict) else []
    if said and isinstance(said[-1], str) and said[-1] and not (Path(recipe).parent / said[-1]).exists():
        check_repository(flag[2:], said[-1])


def _answers(address: str) -> bool:
    """Tell within seconds whether an address answers, also where looking up its name takes longer."""
    import urllib.error
    import urllib.request

    answers: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_MAX_WAIT_SECONDS).close()
            answers.append(True)
        except urllib.error.HTTPError:
            answers.append(True)
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_MAX_WAIT_SECONDS)
    return bool(answers)


# What is shown ---------------------------------------------------------------------------------------------------


def show(text: object) -> None:
    """Print a result on standard output."""
    print(clean(str(text)), flush=True)


def say(text: str, quiet: bool = False) -> None:
    """Print a line beside the results."""
    if not quiet:
        print(clean(text), file=sys.stderr, flush=True)


def clean(text: str) -> str:
    """Return a text without the control characters that a terminal would obey; line breaks stay."""
    # As `make_printable` of the library, whose import takes longer than most commands that only fail.
    return "".join(each if each.isprintable() or each in "\n\u200c\u200d" else "?" for each in text)


@contextmanager
def show_progress(text: str, total: int | None, unit: str = "record", quiet: bool = False) -> Iterator["tqdm"]:
    """Show a bar on standard error, where that is a terminal."""
    from tqdm import tqdm

    with tqdm(total=total, desc=text, unit=unit, disable=True if quiet else None, leave=False) as bar:
        yield bar


@contextmanager
def show_drawing(quiet: bool = False) -> Iterator[Callable[[int, int | None], None]]:
    """Show how far a clip is drawn; gives what takes the frames done and their number."""
    with show_progress("Drawing", None, "frame", quiet) as bar:

        def advance(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield advance


def silence_transformers() -> None:
    """Let transformers show neither bars nor warnings."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
