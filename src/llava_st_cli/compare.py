"""`llava-st compare`: two runs, or two files of answers, item by item."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from .evaluate import DataChoice, PredictionsFormat, check_judge, read_items
from .options import argument, expand_dataclasses, option
from .running import Command, CommandError, check_exists, say, show

app = typer.Typer()


@dataclass(frozen=True)
class AnswerForm:
    """How both files of answers are written, where no runs are compared."""

    annotations: Annotated[
        str | None,
        option("BENCHMARK", "as of evaluate, a name or a file; A and B are then files of answers of any system"),
    ] = None
    protocol: Annotated[
        Literal["default", "community", "vue", "v_star", "judge"] | None,
        option(None, "of --annotations: how to score (default)"),
    ] = None
    predictions_format: Annotated[
        PredictionsFormat | None, option(None, "of --annotations: how the answers are written (jsonl)")
    ] = None
    unit: Annotated[
        Literal["pixels", "fraction", "thousandth"] | None, option(None, "of their boxes (the format's own)")
    ] = None
    time_unit: Annotated[Literal["seconds", "fraction"] | None, option(None, "of their times (seconds)")] = None
    box_form: Annotated[Literal["xyxy", "xywh"] | None, option(None, "order of the numbers of a box (xyxy)")] = None

    def check(self, files: DataChoice) -> None:
        """Refuse what acts with annotations only."""
        if self.annotations is not None and files.data is not None and Path(self.annotations).exists():
            raise CommandError("--data does nothing with a file of annotations, no media are opened: leave it out.")
        for name, value in {**vars(self), **vars(files)}.items():
            if self.annotations is None and value is not None:
                flag = f"--{name.replace('_', '-')}"
                raise CommandError(f"{flag} is {value}: it goes with --annotations only; runs are scored already.")
        check_judge(self.protocol, self.predictions_format)


@app.command(cls=Command)
@expand_dataclasses
def compare(
    first: Annotated[Path, argument("A", "output folder of a run of llava-st evaluate, or a file of answers")],
    second: Annotated[Path, argument("B", "the same of another model, checkpoint or system")],
    form: AnswerForm,
    files: DataChoice,
    output_dir: Annotated[Path, option("DIR", "folder for report.md and report.html")] = Path("comparison"),
) -> None:
    """
    Compare two runs on the items that they share.

    Prints each metric of both with its change and the paired bootstrap interval of it, and writes a report with the
    items that changed, drawn with the truth and both answers.

    \b
    examples:
      llava-st compare results/before results/after
      llava-st compare ours.csv theirs.csv --annotations vue-stg --data DIR --predictions-format vue_csv --protocol vue
    """
    form.check(files)
    for path in (first, second):
        check_exists(path, "run or file")
    from llava_st_hf.evaluation.reports.comparison import Pair, list_rows, write_comparison
    from llava_st_hf.evaluation.reports.items import read_run, score_file
    from llava_st_hf.utils.tables import format_table

    if form.annotations is None:
        runs = [read_run(path) for path in (first, second)]
    else:
        truths, _ = read_items(files.find_source(form.annotations), {}, None)
        given = {name: value for name, value in vars(form).items() if value is not None and name != "annotations"}
        runs = [score_file(path, truths, **given) for path in (first, second)]
    for path, run in zip((first, second), runs, strict=True):
        for problem in run.problems:
            say(f"{path}: {problem}")
    differences = write_comparison(*runs, output_dir)
    show(format_table(*list_rows(differences, Pair(*runs).names)))
    show(output_dir / "report.html")
