"""`llava-st lmms-tasks`: our benchmarks as tasks of lmms-eval."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .options import expand_dataclasses, option, task_option
from .running import Command, CommandError, check_exists, say, show

app = typer.Typer()


@dataclass(frozen=True)
class AnnotationFile:
    """Annotations, in the place of ST-Shapes."""

    annotations: Annotated[
        Path | None, option("FILE", "of ST-Align, VidSTG, HC-STVG or any other benchmark (ST-Shapes)")
    ] = None
    format: Annotated[str | None, option("FORMAT", "of the file (told from it)")] = None
    data_folder: Annotated[Path | None, option("DIR", "folder of the media (that of the file)")] = None
    name: Annotated[str | None, option("NAME", "of the benchmark (that of the file)")] = None
    task: Annotated[str | None, task_option("of the records, where the format leaves a choice")] = None
    vidor_folder: Annotated[Path | None, option("DIR", "annotations of VidOR, for the boxes of VidSTG")] = None

    def check(self) -> None:
        """Refuse what acts with annotations only."""
        if self.annotations is not None:
            check_exists(self.annotations)
            return
        for name in ("format", "data_folder", "name", "task", "vidor_folder"):
            if (value := getattr(self, name)) is not None:
                raise CommandError(f"--{name.replace('_', '-')} is {value}: it goes with --annotations only.")


@app.command("lmms-tasks", cls=Command)
@expand_dataclasses
def write_lmms_tasks(
    file: AnnotationFile,
    output_dir: Annotated[Path, option("DIR", "folder to write to")] = Path("lmms_tasks"),
    num_clips: Annotated[int, option("N", "of ST-Shapes: items of each task")] = 500,
    num_frames: Annotated[int | None, option("N", "frames of a clip (ST-Shapes: 20, others: 100)")] = None,
) -> None:
    """
    Write benchmarks as tasks of lmms-eval, and print the folder for its --include_path.

    The metrics are those of `llava-st evaluate`. lmms-eval finds the model as llava_st.

    \b
    example:
      llava-st lmms-tasks --annotations hcstvg/val_v2.json --data-folder clips --output-dir tasks
      python -m lmms_eval --model llava_st --model_args pretrained=MODEL --batch_size 8 \\
        --tasks llava_st_val_v2_stvg --include_path tasks
    """
    file.check()
    from llava_st_hf.data.readers.registry import guess_format, open_reader
    from llava_st_hf.evaluation.benchmarks.st_shapes import DEFAULT_NUM_FRAMES, StShapes
    from llava_st_hf.evaluation.harnesses.lmms_tasks import write_shapes_tasks, write_tasks

    if file.annotations is None:
        frames = num_frames or DEFAULT_NUM_FRAMES
        names = write_shapes_tasks(output_dir, StShapes(num_clips, num_frames=frames), frames)
    else:
        frames, options = num_frames or 100, {}
        if file.vidor_folder is not None:
            options["vidor_folder"] = file.vidor_folder
        name, folder = file.name or file.annotations.stem, file.data_folder or file.annotations.parent
        form = file.format or guess_format(file.annotations)
        records = open_reader(form, file.annotations, name, folder, file.task, num_frames=frames, **options)
        names, skipped = write_tasks(output_dir, name, records, frames)
        if skipped:
            say(f"{len(skipped):,} of {len(records):,} records are in no task; the first: {skipped[0].detail}")
    say(f"tasks: {','.join(names)}")
    show(output_dir.resolve())
