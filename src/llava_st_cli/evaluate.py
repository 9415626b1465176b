"""`llava-st evaluate`: what a model reaches on a benchmark, and what the answers of any system are worth."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import MODEL_HELP, MaxNewTokens, ModelChoice, Quiet, argument, expand_dataclasses, flag, option
from .running import Command, CommandError, show, silence_transformers

app = typer.Typer()
BenchmarkName = Annotated[
    str, argument("BENCHMARK", "st-shapes: generated clips of shapes; or, for answers in a file, annotations")
]
ProtocolName = Annotated[
    Literal["default", "reference", "community", "vue"],
    option(None, "reference: as the published code scores; community: VidSTG and HC-STVG; vue: VUE-STG"),
]


class EvaluateCommand(Command):
    """Takes several tasks behind one option."""

    takes_several = frozenset({"--tasks"})


@dataclass(frozen=True)
class NamedModel(ModelChoice):
    """A model that has to be named, unless answers are in a file."""

    model: Annotated[str | None, option("ID_OR_DIR", MODEL_HELP)] = None


@dataclass(frozen=True)
class AnswerFile:
    """The answers of another system, instead of a model."""

    predictions: Annotated[Path | None, option("FILE", "answers of any system, instead of --model")] = None
    audit: Annotated[
        Path | None, option("FILE", "the same, scored by the rules of other scorers beside ours, with made answers")
    ] = None
    predictions_format: Annotated[
        Literal["jsonl", "vue_csv", "video_r1", "qwen", "v_star"], option(None, "how the answers are written")
    ] = "jsonl"
    unit: Annotated[
        Literal["pixels", "fraction", "thousandth"] | None, option(None, "of their boxes (the format's own)")
    ] = None
    time_unit: Annotated[Literal["seconds", "fraction"], option(None, "of their times")] = "seconds"
    box_form: Annotated[Literal["xyxy", "xywh"], option(None, "order of the numbers of a box")] = "xyxy"
    annotations_format: Annotated[
        str | None, option("FORMAT", "format of BENCHMARK, where that is a file of annotations (told from it)")
    ] = None
    vidor_folder: Annotated[Path | None, option("DIR", "annotations of VidOR, for the boxes of VidSTG")] = None
    task: Annotated[str | None, option("TASK", "of the annotations, where the format leaves a choice")] = None

    def replace_model(self, model: str | None, benchmark: str) -> bool:
        """Return whether answers are scored, and not a model; what does not go together is refused."""
        if sum(each is not None for each in (model, self.predictions, self.audit)) > 1:
            raise CommandError("--model, --predictions and --audit exclude each other: give one of them.")
        if self.predictions or self.audit:
            return True
        if benchmark != "st-shapes":
            raise CommandError(f"BENCHMARK is {benchmark}: a model is asked about st-shapes; or give --predictions.")
        if model is None:
            raise CommandError("--model is missing: give a checkpoint, or answers with --predictions.")
        return False

    def score(self, benchmark: str, protocol: str) -> None:
        """Print what the answers are worth."""
        from llava_st_hf.evaluation.audit import audit_predictions
        from llava_st_hf.evaluation.predictions import read_predictions
        from llava_st_hf.evaluation.protocols import get_protocol
        from llava_st_hf.evaluation.scoring import describe_problems, format_scores, score_predictions
        from llava_st_hf.evaluation.truths import read_truths

        options = {} if self.vidor_folder is None else {"vidor_folder": self.vidor_folder}
        truths = read_truths(benchmark, self.annotations_format, self.task, **options)
        predictions = read_predictions(
            self.predictions or self.audit,
            truths.items,
            self.predictions_format,
            self.unit,
            self.time_unit,
            self.box_form,
            dict(truths.unusable),
        )
        if self.audit is not None:
            audit = audit_predictions(truths.items, predictions)
            show("\n".join([audit.format(), *describe_problems(truths, predictions)]))
            return
        scorer = get_protocol(protocol).for_benchmark(truths.format)
        lines = score_predictions(truths.items, predictions, scorer)
        show(format_scores(lines, scorer, truths, predictions))


@app.command(cls=EvaluateCommand)
@expand_dataclasses
def evaluate(
    ctx: typer.Context,
    benchmark: BenchmarkName,
    model: NamedModel,
    answers: AnswerFile,
    num_clips: Annotated[int, option("N", "items of each task")] = 500,
    tasks: Annotated[list[str] | None, option("TASK ...", "some of those of the benchmark (all)")] = None,
    seed: Annotated[int, option("N", "seed of the clips; smaller ones than 1000000 train")] = 1_000_000,
    difficulty: Annotated[Literal["easy", "standard"], option(None, "of the clips")] = "standard",
    protocol: ProtocolName = "default",
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

    With --predictions or --audit no model is asked: the answers of a file are scored against annotations, whose media
    need not be there.
    """
    if answers.replace_model(model.model, benchmark):
        answers.score(benchmark, protocol)
        return
    import torch

    from llava_st_hf.evaluation.benchmarks.st_shapes import DEFAULT_NUM_FRAMES, StShapes
    from llava_st_hf.evaluation.protocols import PROTOCOLS
    from llava_st_hf.evaluation.report import format_metrics_table
    from llava_st_hf.evaluation.runner import Processes
    from llava_st_hf.evaluation.runner import evaluate as run_evaluation
    from llava_st_hf.utils.public_names import write_public_command

    make_benchmark = partial(StShapes, num_clips, tasks or StShapes.list_tasks(protocol), seed, difficulty=difficulty)
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
        command=write_public_command(["llava-st", *ctx.obj]),
        processes=processes,
    )
    if metrics is not None:
        show(format_metrics_table(metrics))
