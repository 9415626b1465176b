"""`llava-st info` and `llava-st demo`: what there is, and what it does."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .ground import Outputs, Question, answer
from .options import ModelChoice, Overwrite, PrintJson, expand_dataclasses, flag, option
from .running import Command, CommandError, check_folder, naming, say, show

if TYPE_CHECKING:
    from llava_st_hf.modeling.conversion_llava_st import SourceFiles

app = typer.Typer()


@app.command(cls=Command)
def info(
    model: Annotated[str | None, option("ID_OR_DIR", "also show the facts of this model (config.json only)")] = None,
    print_json: PrintJson = False,
) -> None:
    """Show versions, the device, and the facts of a model."""
    check_folder("--model", model)
    import torch

    threads = torch.get_num_threads()
    device = f"cpu, {threads} thread{'s' * (threads > 1)}"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    facts = {
        "llava-st-hf": version("llava-st-hf"),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "av", "numpy", "pillow", "safetensors")},
        "device": device,
        "platform": platform.platform(),
        **({} if model is None else read_facts(model)),
    }
    lines = (f"{key}: {value}" for key, value in facts.items())
    show(json.dumps(facts, indent=2) if print_json else "\n".join(lines))


def read_facts(model: str) -> dict[str, object]:
    """Return what the config of a model says, by its name for a reader."""
    import torch

    from llava_st_hf import LlavaSTForConditionalGeneration
    from llava_st_hf.inference.loading import find_model_folder, find_source, load_config

    with naming(f"--model {model}", "read"):
        folder = find_model_folder(model)
        adapter = find_source(folder).adapter
        config = load_config(folder)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in LlavaSTForConditionalGeneration(config).parameters())
    vision, text = config.vision_config, config.text_config
    return {
        "model": folder,
        **({} if adapter is None else read_adapter_facts(adapter)),
        "parameters": parameters,
        "vision": f"{vision.num_hidden_layers} layers, width {vision.hidden_size}, {vision.image_size} px",
        "language": f"{text.num_hidden_layers} layers, width {text.hidden_size}",
        "longest sequence": text.max_position_embeddings,
        "text tokens": config.coordinate_token_offset,
        "coordinate tokens": f"{config.num_temporal_tokens} time, {config.num_spatial_tokens} height and width each",
        "patches of a frame": config.patch_grid_size**2,
        "fast stream spliced": config.splice_fast_tokens,
    }


def read_adapter_facts(adapter: "SourceFiles") -> dict[str, object]:
    """Return what the config of an adapter says."""
    content = adapter.read_json("adapter_config.json")
    full = content.get("modules_to_save") or []
    rows = [f"rows of {name}" for name in content.get("trainable_token_indices") or {}]
    return {
        "adapter of": content.get("base_model_name_or_path"),
        "adapter": f"{content.get('peft_type')} of rank {content.get('r')}, alpha {content.get('lora_alpha')}",
        "trained in full": ", ".join([*full, *rows]) or "nothing",
    }


@app.command(cls=Command)
@expand_dataclasses
def demo(
    model: ModelChoice,
    output_dir: Annotated[Path, option("DIR", "folder to write to")] = Path("demo_output"),
    page: Annotated[bool, flag("--page", "serve a web page that answers, instead")] = False,
    host: Annotated[str, option("HOST", "of the page: address to listen on, 0.0.0.0 for all")] = "127.0.0.1",
    port: Annotated[int | None, option("PORT", "of the page (the first free one from 7860)")] = None,
    num_frames: Annotated[
        int | None, option("N", "of the page: frames of a clip (20 for the model that ships)")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """
    Render a clip, ground a query in it, and draw the answer; or serve a page to ask on.

    The clips are of moving shapes, and the small model that comes with the package answers. With --page any model
    does, about any clip.
    """
    if page:
        serve_page(model, host, port, num_frames)
        return
    given = {"--model": model.model, "--port": port, "--num-frames": num_frames}
    for name, value in given.items():
        if value is not None:
            raise CommandError(f"{name} is {value}: it goes with --page only; to ask a model use llava-st ground.")
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"--output-dir is {output_dir}: it cannot be made ({error.strerror}), give another."
        ) from error
    from llava_st_hf.demo import DEMO_QUERY, write_demo_clip

    clip = write_demo_clip(output_dir / "clip.mp4", overwrite)
    written, annotated, sheet = (output_dir / name for name in ("answer.json", "annotated.mp4", "contact_sheet.png"))
    outputs = Outputs(written, annotated, sheet, overwrite)
    answer(str(clip), [DEMO_QUERY], Question(), outputs, ModelChoice(), quiet=True)
    show(f"{sheet}\n{written}\n{annotated}")


def serve_page(model: ModelChoice, host: str, port: int | None, num_frames: int | None) -> None:
    """Serve the page until it is interrupted, saying from the first second on what it is at."""
    name = model.model or "the small model that comes with the package and knows moving coloured shapes only"
    say(f"Starting a page. Who answers: {name}.\n1 of 3: loading the libraries")
    from llava_st_hf.demo import SHIPPED_MODEL
    from llava_st_hf.page import PageLimits, launch_page, require_gradio

    require_gradio()
    say("2 of 3: loading the model")
    notice = f"Ask a video or an image. Who answers: {model.model or SHIPPED_MODEL}."
    frames = num_frames or (20 if model.model is None else 100)
    pipeline, limits = model.load(), PageLimits()
    say("3 of 3: rendering clips to try")

    def tell(address: str) -> None:
        show(address)
        say(
            f"Open it in a browser. A visitor may send {limits.max_megabytes} MB and {limits.max_seconds:.0f} s of a "
            f"clip, with {limits.max_queries} questions at once; {limits.max_waiting} requests may wait. Ctrl-C ends "
            "the page and deletes what was sent."
        )

    launch_page(pipeline, None, notice, frames, limits, host=host, port=port, on_ready=tell)
