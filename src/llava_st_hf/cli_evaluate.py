"""The subcommand `llava-st evaluate`: a model's metrics on a benchmark."""

import argparse
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers.utils import logging as transformers_logging

from .cli_checkpoints import add_loading_options
from .data.shapes.scenes import DIFFICULTIES
from .evaluation.benchmarks.st_shapes import DEFAULT_NUM_FRAMES, FIRST_EVALUATION_SEED, StShapes
from .evaluation.protocols import PROTOCOLS
from .evaluation.report import format_table
from .evaluation.runner import Processes, evaluate

if TYPE_CHECKING:
    from .inference.pipeline import SpatialTemporalGroundingPipeline

LoadModel = Callable[[str, argparse.Namespace], "SpatialTemporalGroundingPipeline"]


def add_evaluate(commands: argparse._SubParsersAction, load_model: LoadModel, epilog: str | None = None) -> None:
    """
    Add `llava-st evaluate BENCHMARK`.

    Args:
        commands (`argparse._SubParsersAction`): The commands of the program.
        load_model (`Callable`): Loads what `--model`, `--device` and `--dtype` name.
        epilog (`str`, *optional*): End of the help.
    """
    command = commands.add_parser(
        "evaluate",
        help="measure a model on a benchmark",
        description="Ask a model all questions of a benchmark, greedily, and report what its answers are worth. "
        "Predictions are written as they come: stopped at any moment and started again, it goes on where it was. "
        "Under `torchrun` or `accelerate launch` the processes share the work.",
        epilog=epilog,
    )
    command.add_argument(
        "benchmark", choices=[StShapes.name], metavar="BENCHMARK", help=f"{StShapes.name}: generated clips of shapes"
    )
    command.add_argument(
        "--model", required=True, metavar="ID_OR_DIR", help="checkpoint: a directory, or a repository on the Hub"
    )
    command.add_argument("--num-clips", type=int, default=500, metavar="N", help="items of each task (500)")
    command.add_argument("--tasks", nargs="+", metavar="TASK", help=f"of {', '.join(StShapes.scored_tasks)} (all)")
    command.add_argument(
        "--seed",
        type=int,
        default=FIRST_EVALUATION_SEED,
        metavar="N",
        help=f"seed of the clips, {FIRST_EVALUATION_SEED} or larger ({FIRST_EVALUATION_SEED}); smaller ones train",
    )
    command.add_argument(
        "--difficulty", choices=sorted(DIFFICULTIES), default="standard", help="of the clips (standard)"
    )
    command.add_argument(
        "--protocol",
        choices=sorted(PROTOCOLS),
        default="default",
        help="reference: as the published code scores, with its faults (default)",
    )
    command.add_argument(
        "--constrained", action="store_true", help="let answers keep to the grammar of their task; none fails to parse"
    )
    command.add_argument("--batch-size", type=int, default=8, metavar="N", help="questions asked at a time (8)")
    command.add_argument("--max-new-tokens", type=int, default=1024, metavar="N", help="longest answer (1024)")
    command.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="folder for predictions and report (evaluation_output/BENCHMARK/MODEL)",
    )
    add_loading_options(command)
    command.add_argument("--quiet", action="store_true", help="no progress on standard error")
    command.set_defaults(run=partial(_run_evaluate, load_model=load_model))


def _run_evaluate(options: argparse.Namespace, load_model: LoadModel) -> None:
    make_benchmark = partial(
        StShapes,
        options.num_clips,
        options.tasks or StShapes.list_tasks(options.protocol),
        options.seed,
        difficulty=options.difficulty,
    )
    # What can be wrong without the model is found before it is loaded.
    make_benchmark().check_protocol(PROTOCOLS[options.protocol])
    if options.quiet:
        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
    processes = Processes.from_environment()
    if options.device is None and processes.count > 1 and torch.cuda.is_available():
        options.device = f"cuda:{processes.local_rank}"
    ground = load_model(options.model, options)
    clips = ground.processor.video_processor
    # At the model's own resolution: no frame is resized or left out.
    own_sizes = {"num_frames": clips.num_frames or DEFAULT_NUM_FRAMES, "size": clips.size["height"]}
    model_folder = Path(options.model).resolve().name if Path(options.model).is_dir() else Path(options.model).name
    metrics = evaluate(
        ground.model,
        ground.processor,
        make_benchmark(**own_sizes),
        options.output_dir or Path("evaluation_output") / options.benchmark / model_folder,
        model_name=options.model,
        protocol=options.protocol,
        constrained=options.constrained,
        batch_size=options.batch_size,
        max_new_tokens=options.max_new_tokens,
        quiet=options.quiet,
        command=shlex.join(["llava-st", *sys.argv[1:]]),
        processes=processes,
    )
    if metrics is not None:
        print(format_table(metrics))


__all__ = ["add_evaluate"]
