"""`llava-st evaluate`: what a model reaches on a benchmark."""

import shlex
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import MODEL_HELP, MaxNewTokens, ModelChoice, Quiet, argument, expand_dataclasses, flag, option
from .running import Command, silence_transformers

app = typer.Typer()


class EvaluateCommand(Command):
    """Takes several tasks behind one option."""

    takes_several = frozenset({"--tasks"})


@dataclass(frozen=True)
class NamedModel(ModelChoice):
    """A model that has to be named."""

    model: Annotated[str, option("ID_OR_DIR", MODEL_HELP)]


@app.command(cls=EvaluateCommand)
@expand_dataclasses
def evaluate(
    ctx: typer.Context,
    benchmark: Annotated[Literal["st-shapes"], argument("BENCHMARK", "st-shapes: generated clips of shapes")],
    model: NamedModel,
    num_clips: Annotated[int, option("N", "items of each task")] = 500,
    tasks: Annotated[list[str] | None, option("TASK ...", "some of those of the benchmark (all)")] = None,
    seed: Annotated[int, option("N", "seed of the clips; smaller ones than 1000000 train")] = 1_000_000,
    difficulty: Annotated[Literal["easy", "standard"], option(None, "of the clips")] = "standard",
    protocol: Annotated[
        Literal["default", "reference"], option(None, "reference: as the published code scores, with its faults")
    ] = "default",
    constrained: Annotated[
        bool, flag("--constrained", "let answers keep to the grammar of their task; none fails to parse")
    ] = False,
    batch_size: Annotated[int, option("N", "questions asked at a time")] = 8,
    max_new_tokens: MaxNewTokens = 1024,
    output_dir: Annotated[
        Path | None, option("DIR", "folder for predictions and report (evaluation_output/BENCHMARK/MODEL)")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """
    Measure a model on a benchmark.

    It is asked all questions, greedily, and what its answers are worth is reported. Predictions are written as they
    come: stopped at any moment and started again, it goes on where it was. Under `torchrun` or `accelerate launch` the
    processes share the work.
    """
    import torch

    from llava_st_hf.evaluation.benchmarks.st_shapes import DEFAULT_NUM_FRAMES, StShapes
    from llava_st_hf.evaluation.protocols import PROTOCOLS
    from llava_st_hf.evaluation.report import format_metrics_table
    from llava_st_hf.evaluation.runner import Processes
    from llava_st_hf.evaluation.runner import evaluate as run_evaluation

    asked = tasks or StShapes.list_tasks(protocol)
    make_benchmark = partial(StShapes, num_clips, asked, seed, difficulty=difficulty)
    # What can be wrong without the model is found before it is loaded.
    make_benchmark().check_protocol(PROTOCOLS[protocol])
    if quiet:
        silence_transformers()
    processes = Processes.from_environment()
    if model.device is None and processes.count > 1 and torch.cuda.is_available():
        model = replace(model, device=f"cuda:{processes.local_rank}")
    ground = model.load()
    clips = ground.processor.video_processor
    folder = Path(model.model).resolve() if Path(model.model).is_dir() else Path(model.model)
    metrics = run_evaluation(
        ground.model,
        ground.processor,
        # At the model's own resolution: no frame is resized or left out.
        make_benchmark(num_frames=clips.num_frames or DEFAULT_NUM_FRAMES, size=clips.size["height"]),
        output_dir or Path("evaluation_output") / benchmark / folder.name,
        model_name=model.model,
        protocol=protocol,
        constrained=constrained,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        quiet=quiet,
        command=shlex.join(["llava-st", *ctx.obj]),
        processes=processes,
    )
    if metrics is not None:
        print(format_metrics_table(metrics))
