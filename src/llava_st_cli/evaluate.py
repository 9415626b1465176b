"""`llava-st evaluate`: what a model reaches on a benchmark, and what the answers of any system are worth."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import MaxNewTokens, ModelChoice, Quiet, argument, expand_dataclasses, flag, option
from .running import Command, CommandError, say, show, silence_transformers

if TYPE_CHECKING:
    from llava_st_hf import SpatialTemporalGroundingPipeline
    from llava_st_hf.evaluation.benchmarks.annotation_file import Source
    from llava_st_hf.evaluation.runner import Processes
    from llava_st_hf.evaluation.truths import Truths

app = typer.Typer()
_SHAPES, _SHIPPED = "st-shapes", "llava-st-tiny-shapes"
_FORM = frozenset(("predictions_format", "unit", "time_unit", "box_form"))
_ITEMS = frozenset(("benchmark", "data", "annotations_format", "vidor_folder", "task", "tasks"))
_DRAWN = frozenset(("num_clips", "seed", "difficulty"))
_MODEL = frozenset(("model", "device", "dtype"))
_ASKING = frozenset(("constrained", "batch_size", "max_memory", "max_new_tokens", "quiet"))
# By what is done the parameters that act in it, that which names it first; all others are refused.
ACTING: dict[str, tuple[str, frozenset[str]]] = {
    "--list": ("list_them", frozenset()),
    "--predictions": ("predictions", _ITEMS | _DRAWN | _FORM | {"output_dir", "protocol"}),
    "--audit": ("audit", _ITEMS | _DRAWN | _FORM),
    "asking a model": ("", _ITEMS | _DRAWN | _MODEL | _ASKING | {"output_dir", "protocol"}),
}
BenchmarkName = Annotated[
    str, argument("BENCHMARK", "a name that --list shows, or a file of annotations in any format that is read")
]
ProtocolName = Annotated[
    Literal["default", "reference", "community", "vue", "v_star", "judge"],
    option(
        None,
        "reference: as the published code scores; community: VidSTG and HC-STVG; vue: VUE-STG; v_star; judge: VCG",
    ),
]


class EvaluateCommand(Command):
    """Takes several tasks behind one option."""

    takes_several = frozenset({"--tasks"})


@dataclass(frozen=True)
class ShapesChoice:
    """Which clips of ST-Shapes are drawn; of no other benchmark."""

    num_clips: Annotated[int | None, option("N", "items of each task, of st-shapes (500)")] = None
    seed: Annotated[
        int | None, option("N", "of st-shapes: seed of the clips; smaller ones than 1000000 train (1000000)")
    ] = None
    difficulty: Annotated[Literal["easy", "standard"] | None, option(None, "of st-shapes (standard)")] = None

    def list_given(self, benchmark: str) -> dict[str, Any]:
        """Return what is given; where it cannot act it is refused."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        if given and benchmark != _SHAPES:
            name, value = next(iter(given.items()))
            flag_name = f"--{name.replace('_', '-')}"
            raise CommandError(f"{flag_name} is {value}: only clips of {_SHAPES} are drawn, leave it out.")
        return given


@dataclass(frozen=True)
class DataChoice:
    """Where the files of a benchmark are, and how they are read."""

    data: Annotated[
        Path | None, option("DIR", "folder of the media, and of a benchmark of --list that of its annotations")
    ] = None
    annotations_format: Annotated[
        str | None, option("FORMAT", "format of BENCHMARK, where that is a file of annotations (told from it)")
    ] = None
    vidor_folder: Annotated[Path | None, option("DIR", "annotations of VidOR, for the boxes of VidSTG")] = None
    task: Annotated[str | None, option("TASK", "of the annotations, where the format leaves a choice")] = None

    def find_source(self, benchmark: str) -> "Source | None":
        """Find the annotations; `None` for clips that are drawn, for which nothing of this can act."""
        if benchmark != _SHAPES:
            from llava_st_hf.evaluation.benchmarks.annotation_file import find_source

            return find_source(benchmark, self.data, self.annotations_format, self.task, self.vidor_folder)
        for name, value in vars(self).items():
            if value is not None:
                raise CommandError(f"--{name.replace('_', '-')} is {value}: {_SHAPES} has no files, leave it out.")
        return None


PredictionsFormat = Literal[
    "jsonl", "vue_csv", "video_r1", "qwen", "v_star", "v_star_2", "activitynet", "qvhighlights", "judged"
]


@dataclass(frozen=True)
class AnswerFile:
    """The answers of another system, instead of a model."""

    predictions: Annotated[Path | None, option("FILE", "answers of any system, instead of --model")] = None
    audit: Annotated[
        Path | None, option("FILE", "the same, scored by the rules of other scorers beside ours, with made answers")
    ] = None
    predictions_format: Annotated[PredictionsFormat, option(None, "how the answers are written")] = "jsonl"
    unit: Annotated[
        Literal["pixels", "fraction", "thousandth"] | None, option(None, "of their boxes (the format's own)")
    ] = None
    time_unit: Annotated[Literal["seconds", "fraction"], option(None, "of their times")] = "seconds"
    box_form: Annotated[Literal["xyxy", "xywh"], option(None, "order of the numbers of a box")] = "xyxy"

    def score(
        self, source: "Source | None", shapes: dict[str, Any], asking: "Asking", protocol: str, command: list[str]
    ) -> None:
        """Print what the answers are worth, and write it down where a folder is given."""
        from llava_st_hf.evaluation.audit import audit_predictions
        from llava_st_hf.evaluation.predictions import read_predictions
        from llava_st_hf.evaluation.protocols import get_protocol
        from llava_st_hf.evaluation.scored_run import write_scored_run
        from llava_st_hf.evaluation.scoring import describe_problems, format_scores, score_predictions
        from llava_st_hf.evaluation.summary import summarize_predictions
        from llava_st_hf.utils.public_names import write_public_command

        check_judge(protocol, self.predictions_format)
        if int(os.environ.get("WORLD_SIZE") or 1) > 1:
            raise CommandError("answers of a file are scored by one process: start it without torchrun or accelerate.")
        truths, settings = read_items(source, shapes, asking.tasks)
        path = self.predictions or self.audit
        predictions = read_predictions(
            path,
            truths.items,
            self.predictions_format,
            self.unit,
            self.time_unit,
            self.box_form,
            dict(truths.unusable),
        )
        if not predictions.results and predictions.problems:
            reason = describe_problems(replace(truths, unusable=()), predictions)[0]
            form = f"--predictions-format (now {self.predictions_format})"
            raise CommandError(f"{path} answers no item ({reason}): check {form}, or name another benchmark.")
        if self.audit is not None:
            audit = audit_predictions(truths.items, predictions)
            show("\n".join([audit.format(), *describe_problems(truths, predictions)]))
            return
        scorer = get_protocol(protocol).for_benchmark(truths.format)
        if asking.output_dir is not None:
            read_as = {name: getattr(self, name) for name in sorted(_FORM)}
            given = (truths, predictions, scorer, {**settings, **read_as}, write_public_command(command))
            summary = write_scored_run(asking.output_dir, path, *given)
        else:
            summary = summarize_predictions(score_predictions(truths.items, predictions, scorer), scorer)
        show(format_scores(summary, scorer, truths, predictions))


def check_judge(protocol: str | None, predictions_format: str | None) -> None:
    """Refuse the protocol of a judge where its scores are not in the file of answers."""
    if protocol == "judge" and predictions_format != "judged":
        raise CommandError("--protocol is judge, which needs the scores of one: give --predictions-format judged.")


def read_items(
    source: "Source | None", shapes: dict[str, Any], tasks: list[str] | None
) -> "tuple[Truths, dict[str, Any]]":
    """Return the items that answers are scored against, and what decides which these are."""
    from llava_st_hf.evaluation.benchmarks.st_shapes import StShapes
    from llava_st_hf.evaluation.truths import draw_truths, read_truths

    if source is None:
        benchmark = StShapes(tasks=tasks, **shapes)
        return draw_truths(benchmark), benchmark.get_settings()
    truths = read_truths(source.path, source.format, source.task, source.part, **source.options)
    if tasks is not None:
        known = {truth.task for truth in truths.items.values()}
        if not set(tasks) <= known:
            raise CommandError(f"--tasks is {' '.join(tasks)}: the items are of {', '.join(sorted(known))}.")
        kept = {name: truth for name, truth in truths.items.items() if truth.task in tasks}
        truths = replace(truths, items=kept)
    return truths, {"benchmark": source.name, "format": truths.format}


@dataclass(frozen=True)
class Asking:
    """How a model is asked, and where its answers go."""

    tasks: Annotated[list[str] | None, option("TASK ...", "some of those of the benchmark (all)")] = None
    constrained: Annotated[
        bool, flag("--constrained", "let answers keep to the grammar of their task; none fails to parse")
    ] = False
    batch_size: Annotated[int | None, option("N", "questions asked at a time (by the size of the clips)")] = None
    max_memory: Annotated[
        str | None, option("SIZE", "such as 16GB: where it is not enough, half as many are asked at a time")
    ] = None
    max_new_tokens: MaxNewTokens = 1024
    output_dir: Annotated[
        Path | None, option("DIR", "folder for predictions and report (evaluation_output/BENCHMARK/MODEL)")
    ] = None
    quiet: Quiet = False

    def ask(
        self,
        benchmark: str,
        model: ModelChoice,
        source: "Source | None",
        drawn: dict[str, Any],
        protocol: str,
        command: list[str],
    ) -> None:
        """Ask a model, and print what its answers are worth."""
        from llava_st_hf.evaluation.benchmarks.annotation_file import open_benchmark
        from llava_st_hf.evaluation.benchmarks.st_shapes import StShapes
        from llava_st_hf.evaluation.protocols import PROTOCOLS
        from llava_st_hf.evaluation.runner import Processes
        from llava_st_hf.evaluation.runner import evaluate as run_evaluation
        from llava_st_hf.evaluation.summary import format_metrics_table
        from llava_st_hf.utils.public_names import write_public_command

        # What can be wrong without the model is found before it is loaded.
        if source is None:
            items = StShapes(tasks=self.tasks or StShapes.list_tasks(protocol), **drawn)
        else:
            items = open_benchmark(source, self.tasks)
        items.check_protocol(PROTOCOLS[protocol])
        processes = Processes.from_environment()
        absent = "" if source is None else items.describe()
        if processes.rank == 0:
            _say_first(absent, model)
        if self.quiet:
            silence_transformers()
        ground = _load(model, processes)
        # At the model's own resolution: no frame is resized or left out.
        clips = ground.processor.video_processor
        items = items.fit(clips.num_frames, clips.size["height"])
        name = _SHIPPED if model.model is None else model.model
        folder = Path(name).resolve() if Path(name).is_dir() else Path(name)
        title = benchmark if source is None else source.name
        metrics = run_evaluation(
            ground.model,
            ground.processor,
            items,
            self.output_dir or Path("evaluation_output") / title / folder.name,
            model_name=model.model,
            protocol=protocol,
            constrained=self.constrained,
            batch_size=self.batch_size,
            max_memory=self.max_memory,
            max_new_tokens=self.max_new_tokens,
            quiet=self.quiet,
            command=write_public_command(command),
            processes=processes,
        )
        if metrics is not None:
            title = absent.partition(":\n")[0] + "\n\n" if absent.startswith("PARTIAL") else ""
            show(title + format_metrics_table(metrics))


def _say_first(absent: str, model: ModelChoice) -> None:
    if absent:
        say(absent)
    if model.model is None:
        say("without --model the small one that ships answers, which knows shapes only")


def _load(model: ModelChoice, processes: "Processes") -> "SpatialTemporalGroundingPipeline":
    """Load a model, of several processes each onto a GPU of its own."""
    import torch

    if model.device is None and processes.count > 1 and torch.cuda.is_available():
        model = replace(model, device=f"cuda:{processes.local_rank}")
    return model.load()


def refuse_idle(ctx: typer.Context, benchmark: str) -> str:
    """Return what is done, one of `ACTING`; an option that does nothing in it is refused."""
    given = _list_given(ctx)
    mode = next(name for name, (parameter, _) in ACTING.items() if not parameter or parameter in given)
    named, acting = ACTING[mode]
    for name, flag_name in given.items():
        if name != named and name not in acting:
            where = "without --predictions or --audit" if not named else f"with {mode}"
            raise CommandError(f"{flag_name} does nothing {where}: leave it out.")
    if "data" in given and named in ("predictions", "audit") and Path(benchmark).exists():
        raise CommandError(f"--data does nothing with {mode} and a file of annotations, no media are opened.")
    return mode


def _list_given(ctx: typer.Context) -> dict[str, str]:
    """Return the parameters that are on the command line, with what they are called there."""
    sources = {each.name: ctx.get_parameter_source(each.name) for each in ctx.command.params}
    return {
        each.name: each.metavar or each.name if each.param_type_name == "argument" else each.opts[0]
        for each in ctx.command.params
        if sources[each.name] is not None and sources[each.name].name == "COMMANDLINE"
    }


@app.command(cls=EvaluateCommand)
@expand_dataclasses
def evaluate(
    ctx: typer.Context,
    model: ModelChoice,
    answers: AnswerFile,
    files: DataChoice,
    shapes: ShapesChoice,
    asking: Asking,
    benchmark: BenchmarkName = _SHAPES,
    list_them: Annotated[bool, flag("--list", "show all benchmarks and end")] = False,
    protocol: ProtocolName = "default",
) -> None:
    """
    Measure a model on a benchmark.

    It is asked all questions, greedily, and what its answers are worth is reported. Predictions are written as they
    come: stopped at any moment and started again, it goes on where it was. Under `torchrun` or `accelerate launch` the
    processes share the work. Items whose media are absent are listed first, and are in no metric.

    With --predictions or --audit no model is asked: the answers of a file are scored against annotations, whose media
    need not be there. With --output-dir they get a folder like that of a run.

    \b
    examples:
      llava-st evaluate --num-clips 50
      llava-st evaluate hc-stvg-v2 --data hcstvg --model CHECKPOINT --protocol community
      llava-st evaluate mine.jsonl --data clips --model CHECKPOINT
    """
    mode, command = refuse_idle(ctx, benchmark), ["llava-st", *ctx.obj]
    if mode == "--list":
        from llava_st_hf.evaluation.benchmarks.catalogue import list_benchmarks

        show(list_benchmarks())
        return
    drawn, source = shapes.list_given(benchmark), files.find_source(benchmark)
    if mode in ("--predictions", "--audit"):
        answers.score(source, drawn, asking, protocol, command)
    else:
        asking.ask(benchmark, model, source, drawn, protocol, command)
