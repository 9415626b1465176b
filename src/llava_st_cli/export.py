"""`llava-st export-answers`: answers in the files of other tools."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import running
from .options import argument, flag, option

app = typer.Typer()
# Those of `EXPORT_FORMATS`, which is not imported for a help text.
Format = Literal["cvat_video", "mot", "coco_video", "label_studio", "webvtt", "fiftyone"]


@app.command(cls=running.Command)
def export_answers(
    file: Annotated[Path, argument("FILE", "what ground --json wrote, or predictions.jsonl of an evaluation")],
    to: Annotated[Format, option(None, "format to write")],
    output: Annotated[
        Path | None,
        option("PATH", "folder to make, or a file with the ending of the format (FILE-FORMAT)"),
    ] = None,
    every_frame: Annotated[
        bool, flag("--every-frame", "boxes in every frame of a tube, interpolated between those of the answer")
    ] = False,
    media_folder: Annotated[
        Path | None, option("DIR", "where the clips lie, if not where they were asked about")
    ] = None,
) -> None:
    """Write answers for CVAT, MOT, COCO-VID, Label Studio, a video player (WebVTT) or FiftyOne."""
    running.check_exists(file)
    from llava_st_hf.data import exports

    if output is None:
        output = file.with_name(f"{file.stem}-{to}")
    answers = exports.read_answers(file)
    summary = exports.export_answers(answers, to, output, every_frame=every_frame, media_folder=media_folder)
    for path in summary.paths:
        running.show(path)
    if summary.num_left_out:
        text = f"{summary.num_left_out} of {len(answers)} answers are not in it: they have nothing that {to} holds."
        running.say(text)
