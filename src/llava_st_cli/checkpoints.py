"""`llava-st convert`, `init` and `merge`: checkpoints of other layouts, other models, and adapters."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .options import Quiet, ShardSize, argument, option
from .running import Command, check_folder, say, show, silence_transformers

if TYPE_CHECKING:
    from llava_st_hf.checkpoints import WrittenCheckpoint

app = typer.Typer()
Destination = Annotated[Path, argument("DST", "folder to write: new or empty")]


@app.command(cls=Command)
def convert(
    source: Annotated[str, argument("SRC", "published checkpoint: a directory, or a repository on the Hub")],
    destination: Destination,
    max_shard_size: ShardSize = "2GB",
    quiet: Quiet = False,
) -> None:
    """
    Rewrite a checkpoint in the published layout for transformers.

    Written are model, tokenizer, processor and generation config. Stopped at any moment and started again, it goes on
    where it was. A folder with anything else in it is never overwritten.
    """
    check_folder("SRC", source)
    from llava_st_hf.checkpoints import convert_checkpoint

    _report(convert_checkpoint(source, destination, max_shard_size, quiet))


@app.command(cls=Command)
def init(
    destination: Destination,
    base: Annotated[str, option("DIR_OR_ID", "LLaVA-OneVision: a directory, or a repository on the Hub")],
    seed: Annotated[int, option("N", "seed of the new weights")] = 0,
    packer_hidden_size: Annotated[int, option("N", "width of the packer")] = 1024,
    num_temporal_tokens: Annotated[int, option("N", "time tokens")] = 100,
    num_spatial_tokens: Annotated[int, option("N", "height tokens, and width tokens")] = 100,
    max_shard_size: ShardSize = "2GB",
    quiet: Quiet = False,
) -> None:
    """
    Make a LLaVA-ST to train from a LLaVA-OneVision of transformers.

    Weights are carried over, packer and coordinate tables are new. Stopped at any moment and started again, it goes on
    where it was. A folder with anything else in it is never overwritten.
    """
    check_folder("--base", base)
    from llava_st_hf.checkpoints import initialize_checkpoint

    written = initialize_checkpoint(
        base,
        destination,
        seed=seed,
        packer_hidden_size=packer_hidden_size,
        num_temporal_tokens=num_temporal_tokens,
        num_spatial_tokens=num_spatial_tokens,
        max_shard_size=max_shard_size,
        quiet=quiet,
    )
    _report(written)


class MergeCommand(Command):
    """Needs what the extra `train` brings."""

    extra = "train"


@app.command(cls=MergeCommand)
def merge(
    adapter: Annotated[str, argument("ADAPTER", "folder of an adapter or of its run, or a repository on the Hub")],
    destination: Annotated[Path, option("DIR", "folder to write: new or empty", "--to")],
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], option(None, "type of the weights; auto: the base's")
    ] = "auto",
    max_shard_size: ShardSize = "2GB",
    quiet: Quiet = False,
) -> None:
    """
    Merge an adapter into the model that it was trained on.

    Written are model, tokenizer, processor, generation config and card; the folder appears when it is whole.
    """
    check_folder("ADAPTER", adapter)
    from llava_st_hf.checkpoints import merge_checkpoint

    if quiet:
        silence_transformers()
    _report(merge_checkpoint(adapter, destination, dtype, max_shard_size))


def _report(written: "WrittenCheckpoint") -> None:
    for name in written.left_out:
        say(f"Left out {name}: LLaVA-ST has no place for it.")
    show(written.path)
