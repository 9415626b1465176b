"""What `llava-st` does with checkpoints: the subcommands `convert` and `init`, and the options of loading one."""

import argparse
import sys
from pathlib import Path

from .checkpoints.convert import convert_checkpoint
from .checkpoints.initialize import initialize_checkpoint
from .checkpoints.writing import WrittenCheckpoint

_RESUMING = (
    "Stopped at any moment and started again, it goes on where it was. A folder with anything else in it is never "
    "overwritten."
)


def add_convert(commands: argparse._SubParsersAction, epilog: str | None = None) -> None:
    """Add `llava-st convert SRC DST`."""
    convert = commands.add_parser(
        "convert",
        help="rewrite a checkpoint in the published layout for transformers",
        description="Rewrite a checkpoint in the published layout: model, tokenizer, processor, generation config. "
        + _RESUMING,
        epilog=epilog,
    )
    convert.add_argument("source", metavar="SRC", help="published checkpoint: a directory, or a repository on the Hub")
    _add_destination(convert)
    convert.set_defaults(run=_run_convert)


def add_init(commands: argparse._SubParsersAction, epilog: str | None = None) -> None:
    """Add `llava-st init --base DIR_OR_ID DST`."""
    init = commands.add_parser(
        "init",
        help="make an untrained LLaVA-ST from a LLaVA-OneVision of transformers",
        description="Make a LLaVA-ST to train from a LLaVA-OneVision: weights carried over, packer and coordinate "
        "tables new. " + _RESUMING,
        epilog=epilog,
    )
    init.add_argument(
        "--base",
        required=True,
        metavar="DIR_OR_ID",
        help="e.g. llava-hf/llava-onevision-qwen2-0.5b-ov-hf: a directory, or a repository on the Hub",
    )
    _add_destination(init)
    init.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the new weights (0)")
    init.add_argument("--packer-hidden-size", type=int, default=1024, metavar="N", help="width of the packer (1024)")
    init.add_argument("--num-temporal-tokens", type=int, default=100, metavar="N", help="time tokens (100)")
    init.add_argument(
        "--num-spatial-tokens", type=int, default=100, metavar="N", help="height tokens, and width tokens (100)"
    )
    init.set_defaults(run=_run_init)


def add_loading_options(command: argparse.ArgumentParser) -> None:
    """Add where, and in which precision, a command loads its model."""
    command.add_argument("--device", help="cpu, cuda, cuda:1, ... (an accelerator where there is one)")
    command.add_argument(
        "--dtype",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="type of the weights (auto: the checkpoint's)",
    )


def _add_destination(command: argparse.ArgumentParser) -> None:
    command.add_argument("destination", metavar="DST", type=Path, help="folder to write: new or empty")
    command.add_argument("--max-shard-size", default="2GB", metavar="SIZE", help="size of an output file (2GB)")
    command.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _run_convert(options: argparse.Namespace) -> None:
    written = convert_checkpoint(options.source, options.destination, options.max_shard_size, options.quiet)
    _report(written)


def _run_init(options: argparse.Namespace) -> None:
    written = initialize_checkpoint(
        options.base,
        options.destination,
        seed=options.seed,
        packer_hidden_size=options.packer_hidden_size,
        num_temporal_tokens=options.num_temporal_tokens,
        num_spatial_tokens=options.num_spatial_tokens,
        max_shard_size=options.max_shard_size,
        quiet=options.quiet,
    )
    _report(written)


def _report(written: WrittenCheckpoint) -> None:
    for name in written.left_out:
        print(f"Left out {name}: LLaVA-ST has no place for it.", file=sys.stderr)
    print(written.path)


__all__ = ["add_convert", "add_init", "add_loading_options"]
