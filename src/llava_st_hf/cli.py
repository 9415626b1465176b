"""The command `llava-st`: ground queries, show facts, run the demo; checkpoints and data have modules of their own."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging as transformers_logging

from .cli_checkpoints import add_convert, add_init, add_loading_options
from .cli_data import add_data
from .cli_evaluate import add_evaluate
from .cli_train import add_train
from .demo import DEMO_QUERY, SHIPPED_CHECKPOINT, SHIPPED_MODEL, SHIPPED_MODEL_NOTICE, write_demo_clip
from .inference.pipeline import (
    DEFAULT_TASKS,
    SpatialTemporalGroundingPipeline,
    check_model_type,
    load_pipeline,
)
from .modeling.modeling_llava_st import LlavaSTForConditionalGeneration
from .processing.frame_sampling_llava_st import check_sampling
from .processing.grounding_results_llava_st import Box, GroundingResult, Span
from .processing.image_loading_llava_st import guess_media_type, open_image
from .processing.media_llava_st import InputError
from .processing.tasks_llava_st import TASKS, choose_medium, describe_tasks, get_task, write_values
from .visualization import draw_on_image, write_annotated_video, write_contact_sheet

LONGEST_ANSWER = 400  # characters on the screen; the JSON has it all
EXIT_CODES = "exit codes: 0 answered, 1 input, output or model could not be used, 2 wrong arguments, 130 interrupted"
# What an error calls a thing, and what it is called on the command line.
FLAGS = {
    "query": "QUERY",
    "span": "--span START END",
    "box": "--box X1 Y1 X2 Y2",
    "start": "--start SECONDS",
    "num_frames": "--frames",
    "fps": "--fps",
    "time_range": "--time-range START END",
    "max_new_tokens": "--max-new-tokens",
}


class CommandError(Exception):
    """Ends the command with one line on standard error and exit code 1."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see `EXIT_CODES`)."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InputError, CommandError) as error:
        return _fail(_add_flags(str(error)) if options.run is _run_ground else str(error))
    except (OSError, ValueError, RuntimeError) as error:
        return _fail(f"{type(error).__name__}: {_summarize_error(error)}")
    except KeyboardInterrupt:
        print("llava-st: interrupted", file=sys.stderr)
        return 130
    return 0


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; wrong arguments, `--help` and `--version` raise `SystemExit`."""
    arguments = list(arguments)
    parser, commands = build_parsers()
    while arguments and arguments[0] in commands:
        parser = commands[arguments[0]]
        arguments, commands = arguments[1:], parser.get_default("commands") or {}
    if not commands:
        # Each command is parsed by itself, so that a query may stand before, between or behind the options.
        return (parser.get_default("parse") or parser.parse_intermixed_args)(arguments)
    if not arguments:
        parser.print_help()
        parser.exit(2)
    return parser.parse_args(arguments)  # exits: --help, --version, or a command that there is not


def _fail(message: str) -> int:
    line = " ".join(message.split()).encode("utf-8", "backslashreplace").decode()
    print(f"llava-st: error: {line}", file=sys.stderr)
    return 1


def _add_flags(message: str) -> str:
    """Say what a thing that an error is about is called on the command line, where it does not say so itself."""
    if message.startswith("--"):
        return message
    words = set(message.replace("=", " ").replace(":", " ").split())
    named = [flag for name, flag in FLAGS.items() if name in words and flag not in message]
    return f"{message} (on the command line: {', '.join(named)})" if named else message


def build_parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Build the parser of the program, and that of each command."""
    parser = argparse.ArgumentParser(
        prog="llava-st",
        description="Ask a video or an image when and where something happens.",
        epilog=f"`llava-st COMMAND --help` explains a command. {EXIT_CODES}",
    )
    parser.add_argument("--version", action="version", version=f"llava-st-hf {version('llava-st-hf')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_ground(commands)
    info = commands.add_parser(
        "info",
        help="show versions, the device, and facts of a model",
        description="Show versions, the device, and the facts of a model.",
        epilog=EXIT_CODES,
    )
    info.add_argument("--model", metavar="ID_OR_DIR", help="also show the facts of this model (config.json only)")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=_run_info)
    demo = commands.add_parser(
        "demo",
        help="render a clip, ground a query in it with the model that comes with the package, draw the answer",
        description="Render a clip of moving shapes, ground a query in it with the small model that comes with the "
        "package, and draw the answer.",
        epilog=EXIT_CODES,
    )
    demo.add_argument("--output-dir", type=Path, default=Path("demo_output"), help="folder to write to (demo_output)")
    demo.set_defaults(run=_run_demo)
    add_convert(commands, EXIT_CODES)
    add_init(commands, EXIT_CODES)
    add_data(commands, EXIT_CODES)
    add_evaluate(commands, _load, EXIT_CODES)
    add_train(commands, EXIT_CODES)
    return parser, commands.choices


def _add_ground(commands: argparse._SubParsersAction) -> None:
    ground = commands.add_parser(
        "ground",
        help="answer questions about a clip or an image in seconds and pixels",
        description="Answer questions about a clip or an image in seconds and pixels of the file.",
        epilog=f"tasks, and what each takes:\n{describe_tasks()}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ground.add_argument("media", metavar="MEDIA", help="video or image file")
    ground.add_argument(
        "query",
        metavar="QUERY",
        nargs="*",
        help='what to look for, e.g. "a child in a red hat holds a bat"; several share one reading of the file',
    )
    ground.add_argument("--queries", type=Path, metavar="FILE", help="a text file with one query a line")
    ground.add_argument("--task", choices=sorted(TASKS), metavar="TASK", help="one of the tasks below (stvg or rec)")
    ground.add_argument(
        "--model",
        metavar="ID_OR_DIR",
        help="checkpoint: a directory, or a repository on the Hub; without it the small one that comes with the "
        "package answers, which knows moving shapes only",
    )
    ground.add_argument(
        "--json", type=Path, metavar="FILE", help="write the answer as JSON, a list for several queries"
    )
    ground.add_argument("--annotated", type=Path, metavar="FILE", help="draw it on the clip (.mp4) or image (.png)")
    ground.add_argument("--contact-sheet", type=Path, metavar="FILE", help="draw it on a sheet of frames (.png)")
    ground.add_argument("--frames", type=int, metavar="N", help="frames to sample from the clip (the model's own)")
    ground.add_argument("--fps", type=float, metavar="F", help="frames to sample a second, instead of --frames")
    ground.add_argument(
        "--time-range", type=float, nargs=2, metavar=("START", "END"), help="look at these seconds of the clip only"
    )
    ground.add_argument(
        "--span", type=float, nargs=2, metavar=("START", "END"), help="seconds that the task asks about"
    )
    ground.add_argument("--box", type=float, nargs=4, metavar=("X1", "Y1", "X2", "Y2"), help="pixels it asks about")
    ground.add_argument("--start", type=float, metavar="SECONDS", help="start time that the task asks about (elc)")
    ground.add_argument("--max-new-tokens", type=int, default=1024, metavar="N", help="longest answer (1024)")
    ground.add_argument("--every-frame", action="store_true", help="a box for every sampled frame of a tube's span")
    ground.add_argument(
        "--unconstrained", action="store_true", help="let the model write freely, not by the grammar of the task"
    )
    add_loading_options(ground)
    ground.add_argument("--quiet", action="store_true", help="no progress on standard error")
    ground.set_defaults(run=_run_ground)


# ground ----------------------------------------------------------------------------------------------------------


def _run_ground(options: argparse.Namespace) -> None:
    media_type = guess_media_type(options.media)
    queries = _read_queries(options)
    # All that can be wrong without the model is found before minutes go into loading it and answering.
    _check_question(options, media_type, queries)
    _check_outputs(options, media_type, queries)
    if options.quiet:
        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
    if options.model is None:
        print(SHIPPED_MODEL_NOTICE, file=sys.stderr)
    ground = _load(SHIPPED_CHECKPOINT if options.model is None else options.model, options)
    results = _ask(ground, options, media_type, queries)
    print("\n\n".join(summarize(result) for result in results), flush=True)
    _write_outputs(results, options, media_type)


def _read_queries(options: argparse.Namespace) -> list[str | None]:
    queries = list(options.query)
    if options.queries is not None:
        try:
            lines = options.queries.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise CommandError(f"--queries {options.queries} cannot be read: {error}") from error
        queries += [line.strip() for line in lines if line.strip()]
        if not queries:
            raise CommandError(f"--queries {options.queries} holds no query: write one a line.")
    return queries or [None]


def _check_question(options: argparse.Namespace, media_type: str, queries: list[str | None]) -> None:
    """Refuse a question that could not be asked."""
    if not Path(options.media).is_file():
        raise CommandError(f"{options.media}: no such file; check the path.")
    task = get_task(options.task or DEFAULT_TASKS[media_type])
    choose_medium(task, **{"video": None, "image": None, media_type: options.media})
    for query in queries:
        task.write_prompt(
            query=query,
            span=write_values("span", "tt", options.span, None),
            box=write_values("box", "xyxy", options.box, None),
            start=write_values("start", "t", None if options.start is None else [options.start], None),
        )
    if media_type == "video":
        check_sampling(options.media, options.frames, options.fps, time_range=options.time_range)
    else:
        for flag, value in (
            ("--frames", options.frames),
            ("--fps", options.fps),
            ("--time-range", options.time_range),
        ):
            if value is not None:
                raise CommandError(f"{flag} is {value}: {options.media} is an image, leave it out.")
    if options.max_new_tokens < 1:
        raise CommandError(f"--max-new-tokens is {options.max_new_tokens}: give at least 1.")


def _check_outputs(options: argparse.Namespace, media_type: str, queries: list[str | None]) -> None:
    """Refuse an output that could not be written."""
    pictures = (".mp4",) if media_type == "video" else (".png", ".jpg", ".jpeg")
    endings = {"annotated": pictures, "contact_sheet": (".png",), "json": (".json",)}
    for name, allowed in endings.items():
        path, flag = getattr(options, name), f"--{name.replace('_', '-')}"
        if path is None:
            continue
        if name != "json" and len(queries) > 1:
            raise CommandError(f"{flag} is {path}: {len(queries)} answers do not go onto one picture, ask one query.")
        if path.suffix.lower() not in allowed:
            what = "" if name == "json" else f" for {'an image' if media_type == 'image' else 'a video'}"
            raise CommandError(f"{flag} is {path}: give a name that ends in {' or '.join(allowed)}{what}.")
        if path.is_dir():
            raise CommandError(f"{flag} is {path}: that is a folder, give the name of a file.")
        if not path.resolve().parent.is_dir():
            raise CommandError(f"{flag} is {path}: the folder {path.resolve().parent} does not exist, make it first.")
        if not os.access(path if path.exists() else path.resolve().parent, os.W_OK):
            raise CommandError(f"{flag} is {path}: it may not be written there, give another folder.")
        if path.resolve() == Path(options.media).resolve():
            raise CommandError(f"{flag} is {path}: that is the input, give another name.")
    if options.contact_sheet is not None and media_type == "image":
        raise CommandError(
            f"--contact-sheet is {options.contact_sheet}: an image has one frame only, use --annotated."
        )


def _load(model: str | Path, options: argparse.Namespace) -> SpatialTemporalGroundingPipeline:
    _check_model_folder(str(model))
    try:
        device = None if options.device is None else torch.device(options.device)
    except RuntimeError as error:
        raise CommandError(f"--device is {options.device!r}: give cpu, cuda, cuda:1, mps, ...") from error
    if device is not None and device.type == "cuda" and not torch.cuda.is_available():
        raise CommandError(f"--device is {options.device}: this machine has no CUDA device, leave it out or give cpu.")
    try:
        return load_pipeline(model, device, options.dtype)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise CommandError(f"--model {model} cannot be loaded: {_summarize_error(error)}") from error


def _check_model_folder(model: str) -> None:
    """Say so where a folder is meant that does not exist, before it is taken for a repository's name."""
    if not model.strip():
        raise CommandError("--model is empty: give a directory, or a repository on the Hub.")
    if (model.startswith((".", "/", "~")) or model.endswith("/")) and not Path(model).expanduser().is_dir():
        raise CommandError(f"--model is {model}: no such folder.")


def _ask(
    ground: SpatialTemporalGroundingPipeline,
    options: argparse.Namespace,
    media_type: str,
    queries: list[str | None],
) -> list[GroundingResult]:
    if not options.quiet:
        print(f"Reading {options.media}", file=sys.stderr, flush=True)
    with _TokenProgress(options.quiet) as progress:
        return ground(
            options.media,
            queries,
            media_type=media_type,
            task=options.task,
            span=options.span,
            box=options.box,
            start_seconds=options.start,
            num_frames=options.frames,
            fps=options.fps,
            time_range=options.time_range,
            constrained=not options.unconstrained,
            every_frame=options.every_frame,
            max_new_tokens=options.max_new_tokens,
            streamer=progress,
        )


class _TokenProgress(BaseStreamer):
    """A bar on standard error, where that is a terminal, that counts the tokens of the answers."""

    def __init__(self, quiet: bool):
        self.bar = tqdm(desc="Answering", unit="token", disable=True if quiet else None, leave=False)

    def __enter__(self) -> "_TokenProgress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def put(self, value: torch.Tensor) -> None:
        """Count tokens; plain `generate` hands over the prompt first, as a row."""
        if value.ndim == 1:
            self.bar.update(value.numel())

    def end(self) -> None:
        """Do nothing: another answer may follow."""


def _write_outputs(results: list[GroundingResult], options: argparse.Namespace, media_type: str) -> None:
    if options.json is not None:
        model = SHIPPED_MODEL if options.model is None else str(options.model)
        answers = [{"model": model, **result.to_dict()} for result in results]
        text = json.dumps(answers[0] if len(answers) == 1 else answers, indent=2, ensure_ascii=True)
        _write(options, options.json, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    if options.annotated is not None and media_type == "image":
        drawn = draw_on_image(open_image(options.media), results[0])
        _write(options, options.annotated, drawn.save)
    elif options.annotated is not None:
        disable = True if options.quiet else None
        with tqdm(desc="Drawing", unit="frame", disable=disable, leave=False) as bar:

            def show(done: int, total: int | None) -> None:
                bar.total = total
                bar.update(done - bar.n)

            def draw(path: Path) -> None:
                write_annotated_video(options.media, results[0], path, progress=show)

            _write(options, options.annotated, draw)
    if options.contact_sheet is not None:
        _write(options, options.contact_sheet, lambda path: write_contact_sheet(options.media, results[0], path))


def _write(options: argparse.Namespace, path: Path, write: Any) -> None:
    write(path)
    if not options.quiet:
        print(f"Wrote {path}", file=sys.stderr)


def summarize(result: GroundingResult) -> str:
    """Describe a result in a few lines for a reader."""
    lines = [] if result.query is None else [f"query: {result.query}"]
    lines += [
        f"span: {span.start_seconds:.2f} s to {span.end_seconds:.2f} s{_confidence(span)}" for span in result.spans
    ]
    lines += [f"box: {_pixels(box)}{_confidence(box)}" for box in result.boxes]
    for tube in result.tubes:
        first, last = tube.boxes[0], tube.boxes[-1]
        lines.append(f"tube: {len(tube.boxes)} boxes from {first.seconds:.2f} s to {last.seconds:.2f} s")
        lines += [f"  {item.seconds:.2f} s: {_pixels(item.box)}" for item in (first, last)[: len(tube.boxes)]]
    lines += [f"caption: {caption.text}" for caption in result.captions]
    text = result.text if len(result.text) <= LONGEST_ANSWER else f"{result.text[:LONGEST_ANSWER]} ..."
    lines.append(f"answer: {text}")
    for problem in result.problems:
        excerpt = f" {problem.text[:40]!r}" if problem.text else ""
        lines.append(f"problem: {problem.message}{excerpt}")
    if result.media is not None:
        lines += [f"media problem: {problem}" for problem in result.media.problems]
    return "\n".join(lines)


def _confidence(found: Span | Box) -> str:
    return "" if found.confidence is None else f", confidence {found.confidence:.2f}"


def _pixels(box: Box) -> str:
    return f"({box.x1:.0f}, {box.y1:.0f}) to ({box.x2:.0f}, {box.y2:.0f}) pixels"


# info ------------------------------------------------------------------------------------------------------------


def _run_info(options: argparse.Namespace) -> None:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
    facts: dict[str, object] = {
        "llava-st-hf": version("llava-st-hf"),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "av", "numpy", "pillow", "safetensors")},
        "device": device,
        "platform": platform.platform(),
    }
    if options.model is not None:
        facts.update(_model_facts(options.model))
    text = (
        json.dumps(facts, indent=2) if options.json else "\n".join(f"{key}: {value}" for key, value in facts.items())
    )
    print(text)


def _model_facts(model: str) -> dict[str, object]:
    _check_model_folder(model)
    try:
        config = check_model_type(model)
    except InputError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise CommandError(f"--model {model} cannot be read: {_summarize_error(error)}") from error
    with torch.device("meta"):
        parameters = sum(p.numel() for p in LlavaSTForConditionalGeneration(config).parameters())
    vision, text = config.vision_config, config.text_config
    return {
        "model": model,
        "parameters": parameters,
        "vision": f"{vision.num_hidden_layers} layers, width {vision.hidden_size}, {vision.image_size} px",
        "language": f"{text.num_hidden_layers} layers, width {text.hidden_size}",
        "longest sequence": text.max_position_embeddings,
        "text tokens": config.coordinate_token_offset,
        "coordinate tokens": f"{config.num_temporal_tokens} time, {config.num_spatial_tokens} height and width each",
        "patches of a frame": config.patch_grid_size**2,
        "fast stream spliced": config.splice_fast_tokens,
    }


# demo ------------------------------------------------------------------------------------------------------------


def _run_demo(options: argparse.Namespace) -> None:
    folder = options.output_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--output-dir is {folder}: it cannot be made ({error.strerror}), give another.") from error
    clip = write_demo_clip(folder / "clip.mp4")
    answer, annotated, sheet = (folder / name for name in ("answer.json", "annotated.mp4", "contact_sheet.png"))
    arguments = [str(clip), DEMO_QUERY, "--quiet"]
    arguments += ["--json", str(answer), "--annotated", str(annotated), "--contact-sheet", str(sheet)]
    _, commands = build_parsers()
    _run_ground(commands["ground"].parse_args(arguments))
    print(f"{sheet}\n{answer}\n{annotated}")


def _summarize_error(error: Exception) -> str:
    """One line for an error of a library: its message, or that of what caused it where it only points there."""
    while error.__cause__ is not None and str(error).rstrip().endswith(":"):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
