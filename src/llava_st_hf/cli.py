"""The command `llava-st`: ground a query in a clip or an image, show facts, run the demo."""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import Image, ImageOps
from tqdm import tqdm
from transformers import AutoConfig, pipeline
from transformers.generation.streamers import BaseStreamer

from .demo import DEMO_QUERY, make_random_checkpoint, write_demo_clip
from .modeling.configuration_llava_st import LlavaSTConfig
from .modeling.modeling_llava_st import LlavaSTForConditionalGeneration
from .pipeline import PIPELINE_TASK, SpatialTemporalGroundingPipeline, guess_media_type
from .processing.grounding_llava_st import GroundingResult
from .processing.media_llava_st import InputError
from .processing.tasks_llava_st import TASKS, describe_tasks
from .visualization import draw_on_image, write_annotated_video, write_contact_sheet

RANDOM_MODEL_NOTICE = (
    "No trained model was named, so a small randomly initialised one answers: its answer means nothing yet. "
    "Name a real one with --model."
)
LONGEST_ANSWER = 400  # characters on the screen; the JSON has it all
EXIT_CODES = "exit codes: 0 answered, 1 input or model could not be used, 2 wrong arguments, 130 interrupted"


class CommandError(Exception):
    """Ends the command with one line on standard error and exit code 1."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see `EXIT_CODES`)."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except (InputError, CommandError) as error:
        print(f"llava-st: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("llava-st: interrupted", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="llava-st",
        description="Ask a video or an image when and where something happens.",
        epilog=EXIT_CODES,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_ground(commands)
    info = commands.add_parser("info", help="show versions, the device, and facts of a model", epilog=EXIT_CODES)
    info.add_argument("--model", metavar="ID_OR_DIR", help="also show the facts of this model (config.json only)")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=_run_info)
    demo = commands.add_parser(
        "demo", help="render a clip, ground a query in it with a random model, draw the answer", epilog=EXIT_CODES
    )
    demo.add_argument("--output-dir", type=Path, default=Path("demo_output"), help="folder to write to (demo_output)")
    demo.set_defaults(run=_run_demo)
    return parser


def _add_ground(commands: argparse._SubParsersAction) -> None:
    ground = commands.add_parser(
        "ground",
        help="answer a question about a clip or an image in seconds and pixels",
        description="Answer a question about a clip or an image in seconds and pixels of the file.",
        epilog=f"tasks:\n{describe_tasks()}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ground.add_argument("media", help="video or image file")
    ground.add_argument("query", nargs="?", help='what to look for, in words, e.g. "a child in a red hat holds a bat"')
    ground.add_argument("--task", choices=sorted(TASKS), metavar="TASK", help="one of the tasks below (stvg or rec)")
    ground.add_argument("--model", metavar="ID_OR_DIR", help="checkpoint: a directory, or a repository on the Hub")
    ground.add_argument("--json", type=Path, metavar="FILE", help="write the answer as JSON")
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
    ground.add_argument("--device", help="cpu, cuda, cuda:1, ... (an accelerator where there is one)")
    ground.add_argument("--dtype", default="auto", help="float32, bfloat16, float16 or auto, the checkpoint's (auto)")
    ground.add_argument("--quiet", action="store_true", help="no progress on standard error")
    ground.set_defaults(run=_run_ground)


def _run_ground(options: argparse.Namespace) -> None:
    media_type = guess_media_type(options.media)
    _check_outputs(options, media_type)
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model
        if model is None:
            _say(RANDOM_MODEL_NOTICE)
            model = make_random_checkpoint(scratch)
        ground = _load_pipeline(model, options.device, options.dtype)
    result = _ask(ground, options, media_type)
    _write_outputs(result, options, media_type)
    print(summarize(result))


def _check_outputs(options: argparse.Namespace, media_type: str) -> None:
    """Refuse an output that could not be written, before the minutes that it would be lost after."""
    endings = {
        "annotated": (".mp4",) if media_type == "video" else (".png", ".jpg", ".jpeg"),
        "contact_sheet": (".png",),
        "json": (".json",),
    }
    for name, allowed in endings.items():
        path, flag = getattr(options, name), f"--{name.replace('_', '-')}"
        if path is None:
            continue
        if not path.resolve().parent.is_dir():
            raise CommandError(f"{flag} is {path}: the folder {path.resolve().parent} does not exist, make it first.")
        if path.suffix.lower() not in allowed:
            raise CommandError(
                f"{flag} is {path}: for a {media_type} give a name that ends in {' or '.join(allowed)}."
            )
        if path.resolve() == Path(options.media).resolve():
            raise CommandError(f"{flag} is {path}: that is the input, give another name.")
    if options.contact_sheet is not None and media_type == "image":
        raise CommandError(
            f"--contact-sheet is {options.contact_sheet}: an image has one frame only, use --annotated."
        )
    if options.max_new_tokens < 1:
        raise CommandError(f"--max-new-tokens is {options.max_new_tokens}: give at least 1.")


def _load_pipeline(model: str | Path, device: str | None, dtype: str) -> SpatialTemporalGroundingPipeline:
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise CommandError(f"--dtype is {dtype!r}: give auto, float32, bfloat16 or float16.")
    try:
        return pipeline(PIPELINE_TASK, model=str(model), device=device, dtype=dtype)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise CommandError(f"--model {model} cannot be loaded: {_first_line(error)}") from error


def _ask(ground: SpatialTemporalGroundingPipeline, options: argparse.Namespace, media_type: str) -> GroundingResult:
    _say(f"Reading {options.media}", options.quiet)
    with _TokenProgress(options.max_new_tokens, options.quiet) as progress:
        return ground(
            options.media,
            options.query,
            media_type=media_type,
            task=options.task,
            span=options.span,
            box=options.box,
            start_seconds=options.start,
            num_frames=options.frames,
            fps=options.fps,
            time_range=options.time_range,
            max_new_tokens=options.max_new_tokens,
            streamer=progress,
        )


class _TokenProgress(BaseStreamer):
    """A bar on standard error that counts the tokens of the answer."""

    def __init__(self, total: int, quiet: bool):
        self.bar = tqdm(total=total, desc="Answering", unit="token", disable=quiet, leave=False)
        self.saw_prompt = False

    def __enter__(self) -> "_TokenProgress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def put(self, value: torch.Tensor) -> None:
        """Count a token; the first call brings the prompt."""
        if self.saw_prompt:
            self.bar.update(value.numel())
        self.saw_prompt = True

    def end(self) -> None:
        """Finish the bar."""
        self.bar.close()


def _write_outputs(result: GroundingResult, options: argparse.Namespace, media_type: str) -> None:
    if options.json is not None:
        options.json.write_text(result.to_json(indent=2) + "\n", encoding="utf-8")
        _say(f"Wrote {options.json}")
    if options.annotated is not None:
        if media_type == "image":
            with Image.open(options.media) as image:
                draw_on_image(ImageOps.exif_transpose(image).convert("RGB"), result).save(options.annotated)
        else:
            with tqdm(desc="Drawing", unit="frame", disable=options.quiet, leave=False) as bar:
                write_annotated_video(options.media, result, options.annotated, progress=lambda *_: bar.update())
        _say(f"Wrote {options.annotated}")
    if options.contact_sheet is not None:
        write_contact_sheet(options.media, result, options.contact_sheet)
        _say(f"Wrote {options.contact_sheet}")


def summarize(result: GroundingResult) -> str:
    """Describe a result in a few lines for a reader."""
    text = result.text if len(result.text) <= LONGEST_ANSWER else f"{result.text[:LONGEST_ANSWER]} ..."
    lines = [f"answer: {text}"]
    lines += [f"span: {span.start_seconds:.2f} s to {span.end_seconds:.2f} s" for span in result.spans]
    lines += [f"box: {_pixels(box)}" for box in result.boxes]
    for tube in result.tubes:
        first, last = tube.boxes[0], tube.boxes[-1]
        lines.append(f"tube: {len(tube.boxes)} boxes from {first.seconds:.2f} s to {last.seconds:.2f} s")
        lines += [f"  {item.seconds:.2f} s: {_pixels(item.box)}" for item in (first, last)[: len(tube.boxes)]]
    for caption in result.captions:
        lines.append(f"caption: {caption.text}")
    lines += [f"problem: {problem.message}" for problem in result.problems]
    if result.media is not None:
        lines += [f"media problem: {problem}" for problem in result.media.problems]
    return "\n".join(lines)


def _pixels(box) -> str:
    return f"({box.x1:.0f}, {box.y1:.0f}) to ({box.x2:.0f}, {box.y2:.0f}) pixels"


def _run_info(options: argparse.Namespace) -> None:
    facts: dict[str, object] = {
        "llava-st-hf": version("llava-st-hf"),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "av", "numpy", "pillow", "safetensors")},
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu, {torch.get_num_threads()} threads",
        "platform": platform.platform(),
    }
    if options.model is not None:
        facts.update(_model_facts(options.model))
    text = (
        json.dumps(facts, indent=2) if options.json else "\n".join(f"{key}: {value}" for key, value in facts.items())
    )
    print(text)


def _model_facts(model: str) -> dict[str, object]:
    try:
        config = AutoConfig.from_pretrained(model)
        if config.model_type != LlavaSTConfig.model_type:
            config = LlavaSTConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        raise CommandError(f"--model {model} cannot be read: {_first_line(error)}") from error
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


def _run_demo(options: argparse.Namespace) -> None:
    folder = options.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    clip = write_demo_clip(folder / "clip.mp4")
    checkpoint = make_random_checkpoint(folder / "random_checkpoint")
    _say(RANDOM_MODEL_NOTICE)
    answer, annotated = folder / "answer.json", folder / "annotated.mp4"
    arguments = ["ground", str(clip), DEMO_QUERY, "--model", str(checkpoint), "--json", str(answer)]
    arguments += ["--annotated", str(annotated), "--contact-sheet", str(folder / "contact_sheet.png")]
    _run_ground(build_parser().parse_args([*arguments, "--max-new-tokens", "128"]))
    print(f"{answer}\n{annotated}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _say(text: str, quiet: bool = False) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
