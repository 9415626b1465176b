"""`llava-st ground`: answer questions about a clip or an image."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import running
from .options import (
    MaxNewTokens,
    ModelChoice,
    Overwrite,
    Quiet,
    argument,
    expand_dataclasses,
    flag,
    option,
    task_option,
)
from .running import CommandError
from .tasks import load_tasks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llava_st_hf import GroundingResult

app = typer.Typer()

_Pair, _Corners = tuple[float, float], tuple[float, float, float, float]


class GroundCommand(running.Command):
    """Lists the tasks at the end of its help."""

    def list_more(self) -> str:
        """Return the table of tasks."""
        return f"tasks, and what each takes:\n{load_tasks().describe_tasks()}"


@dataclass(frozen=True)
class Question:
    """What is asked beside a query, by the names of the pipeline's arguments; `None` is for its own choice."""

    task: Annotated[str | None, task_option("one of the tasks below (stvg or rec)")] = None
    num_frames: Annotated[int | None, option("N", "frames to sample from the clip (the model's own)", "--frames")] = (
        None
    )
    fps: Annotated[float | None, option("F", "frames to sample a second, instead of --frames")] = None
    time_range: Annotated[_Pair | None, option("START END", "look at these seconds of the clip only")] = None
    span: Annotated[_Pair | None, option("START END", "seconds that the task asks about")] = None
    box: Annotated[_Corners | None, option("X1 Y1 X2 Y2", "pixels it asks about")] = None
    start_seconds: Annotated[
        float | None, option("SECONDS", "start time that the task asks about (elc)", "--start")
    ] = None
    max_new_tokens: MaxNewTokens = 1024


@dataclass(frozen=True)
class Outputs:
    """Files that an answer is written to."""

    json: Annotated[Path | None, option("FILE", "write the answer as JSON, a list for several queries")] = None
    annotated: Annotated[Path | None, option("FILE", "draw it on the clip (.mp4) or image (.png)")] = None
    contact_sheet: Annotated[Path | None, option("FILE", "draw it on a sheet of frames (.png)")] = None
    overwrite: Overwrite = False

    @property
    def files(self) -> dict[str, Path]:
        """Those that are asked for, by the names of their options."""
        return {name: path for name, path in vars(self).items() if isinstance(path, Path)}

    def check(self, media: str, media_type: str, inputs: Sequence[str | Path] = ()) -> None:
        """Refuse an output that could not be written, before minutes go into an answer."""
        from llava_st_hf.visualization import check_output

        pictures = (".mp4",) if media_type == "video" else (".png", ".jpg", ".jpeg")
        endings = {"json": (".json",), "annotated": pictures, "contact_sheet": (".png",)}
        taken: list[str | Path] = [media, *inputs]
        for name, path in self.files.items():
            flag = f"--{name.replace('_', '-')}"
            if name == "contact_sheet" and media_type == "image":
                raise CommandError(f"{flag} is {path}: an image has one frame only, use --annotated.")
            check_output(path, endings[name], taken, field=name, overwrite=self.overwrite)
            taken.append(path)

    def write(self, results: "list[GroundingResult]", media: str, media_type: str, model: str, quiet: bool) -> None:
        """Write the answers to the files that were asked for; a picture has all of them, each in its colours."""
        from llava_st_hf.processing import open_image
        from llava_st_hf.utils.atomic_files import write_text_whole
        from llava_st_hf.visualization import (
            draw_on_image,
            save_picture,
            write_annotated_video,
            write_contact_sheet,
            writing_beside,
        )

        if self.json is not None:
            answers = [{"model": model, **result.to_dict()} for result in results]
            text = json.dumps(answers[0] if len(answers) == 1 else answers, indent=2, ensure_ascii=True)
            with running.naming(f"--json {self.json}", "written"):
                write_text_whole(self.json, text + "\n")
            running.say(f"Wrote {self.json}", quiet)
        if self.annotated is not None:
            if media_type == "image":
                with writing_beside(self.annotated, media, self.overwrite) as temporary_path:
                    save_picture(draw_on_image(open_image(media), results), temporary_path)
            else:
                with running.show_drawing(quiet) as advance:
                    notes = write_annotated_video(media, results, self.annotated, advance, self.overwrite)
                for note in notes:
                    running.say(f"Note: {note}", quiet)
            running.say(f"Wrote {self.annotated}", quiet)
        if self.contact_sheet is not None:
            write_contact_sheet(media, results, self.contact_sheet, overwrite=self.overwrite)
            running.say(f"Wrote {self.contact_sheet}", quiet)


@app.command(cls=GroundCommand)
@expand_dataclasses
def ground(
    media: Annotated[str, argument("MEDIA", "video or image file")],
    question: Question,
    outputs: Outputs,
    model: ModelChoice,
    query: Annotated[
        list[str] | None,
        argument("QUERY", 'what to look for, e.g. "a child in a red hat"; several share one reading of the file'),
    ] = None,
    queries: Annotated[Path | None, option("FILE", "a text file with one query a line")] = None,
    every_frame: Annotated[bool, flag("--every-frame", "a box for every sampled frame of a tube's span")] = False,
    unconstrained: Annotated[
        bool, flag("--unconstrained", "let the model write freely, not by the grammar of the task")
    ] = False,
    stream: Annotated[bool, flag("--stream", "print each span and box when it is found, on standard error")] = False,
    masks: Annotated[
        str | None,
        option(
            "ID_OR_DIR", "a SAM 2 or SAM 3 of transformers finds the pixels of the tubes, for --json and --annotated"
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Answer questions about a clip or image in seconds and pixels."""
    _check_quotes(media, query or [])
    running.check_folder("--masks", masks)
    manner = {"constrained": not unconstrained, "every_frame": every_frame}
    inputs = [] if queries is None else [queries]
    asked = _read_queries(query or [], queries)
    answer(media, asked, question, outputs, model, quiet, stream=stream, masks=masks, inputs=inputs, **manner)


def _check_quotes(media: str, queries: Sequence[str]) -> None:
    """Point to words that the shell has parted, where quotes were meant: of a path, or of a query."""
    for number in range(1, len(queries) + 1):
        path = " ".join([media, *queries[:number]])
        if not os.path.exists(media) and os.path.isfile(path):  # a long one is no error to these
            raise CommandError(f'{media}: no such file; put the path in quotes: "{path}".')
    file = next((query for query in queries if os.path.isfile(query)), None)
    if file is not None and not os.path.exists(media):
        raise CommandError(f'{media}: no such file; the clip comes first: llava-st ground "{file}" "{media}".')
    running.check_exists(media)
    if len(queries) > 1 and not any(" " in query.strip() for query in queries):
        words = " ".join(queries)
        running.say(f'Note: these are {len(queries)} queries of a word each; one query is in quotes: "{words}".')


def _read_queries(given: Sequence[str], file: Path | None) -> list[str | None]:
    queries = list(given)
    if file is not None:
        running.check_exists(file)
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise CommandError(f"--queries {file} cannot be read: {error}") from error
        queries += [line.strip() for line in lines if line.strip()]
        if not queries:
            raise CommandError(f"--queries {file} holds no query: write one a line.")
    return queries or [None]


def answer(
    media: str,
    queries: list[str | None],
    question: Question,
    outputs: Outputs,
    model: ModelChoice,
    quiet: bool,
    stream: bool = False,
    masks: str | None = None,
    inputs: Sequence[Path] = (),
    **manner: bool,
) -> None:
    """
    Ask a model about a clip or an image, print its answers and write them to files.

    A query is `None` for a task without one; `masks` is the SAM that finds the pixels of the tubes. `inputs` are what
    else was read, which no answer may replace; `manner` is how the pipeline answers: `constrained`, `every_frame`.
    """
    from llava_st_hf.demo import SHIPPED_MODEL, SHIPPED_MODEL_NOTICE
    from llava_st_hf.inference.options import check_medium, check_questions
    from llava_st_hf.inference.token_progress import TokenProgress
    from llava_st_hf.processing import GroundingStreamer, guess_media_type
    from llava_st_hf.processing.grounding_summary_llava_st import describe_found

    media_type, asked = guess_media_type(media), asdict(question)
    # All that can be wrong without the model is found before minutes go into loading it and answering.
    check_questions(media, queries, media_type, **asked)
    weights = [*Path(model.model).iterdir()] if model.model and Path(model.model).is_dir() else []
    outputs.check(media, media_type, [*inputs, *weights])
    check_medium(media, media_type, asked)
    if masks is not None:
        _check_masks(masks, media_type, question.task, outputs)
    if quiet:
        running.silence_transformers()
    if model.model is None:
        running.say(SHIPPED_MODEL_NOTICE)
    ground = model.load()
    sam = None if masks is None else _load_sam(masks, ground.model.device, model.dtype)
    running.say(f"Reading {media}", quiet)
    with running.show_progress("Answering", None, "token", quiet or stream) as bar:
        counter = TokenProgress(lambda new, total: bar.update(new))
        streamer = GroundingStreamer(lambda found: running.say(describe_found(found))) if stream else counter
        results = ground(media, queries, media_type=media_type, streamer=streamer, **asked, **manner)
    if sam is not None:
        results = _segment(results, sam, quiet)
    running.show("\n\n".join(str(result) for result in results))
    outputs.write(results, media, media_type, model.model or SHIPPED_MODEL, quiet)


def _check_masks(name: str, media_type: str, task: str | None, outputs: Outputs) -> None:
    """Refuse masks that nothing would be found for, or that would be found for nothing."""
    from llava_st_hf import TASKS
    from llava_st_hf.inference.options import DEFAULT_TASKS

    task = task or DEFAULT_TASKS[media_type]
    if media_type != "video" or "tube" not in TASKS[task].answer_format.parts:
        raise CommandError(f"--masks is {name}: an answer of {task} has no tube to follow; ask stvg of a clip.")
    if outputs.json is None and outputs.annotated is None:
        raise CommandError(f"--masks is {name}: nothing would hold the masks; add --json FILE or --annotated FILE.")


def _load_sam(name: str, device: object, dtype: str) -> "PreTrainedModel":
    from llava_st_hf.inference.masks import load_sam

    with running.naming(f"--masks {name}"):
        return load_sam(name, device, dtype)


def _segment(results: "list[GroundingResult]", sam: "PreTrainedModel", quiet: bool) -> "list[GroundingResult]":
    from llava_st_hf import segment_tubes

    segmented = []
    for result in results:
        if result.tubes:
            running.say(f"Following {result.query or 'the answer'} from box to box", quiet)
            result = segment_tubes(result, sam)
        else:
            running.say(f"Note: the answer to {result.query or result.task} has no tube, so no mask.", quiet)
        segmented.append(result)
    return segmented
