"""Writes a trained tiny model as it ships with the package: weights, tokenizer, processor, and a card with metrics.

    python release/ship_checkpoint.py outputs/tiny/stage3_continued outputs/tiny/stage3_continued/evaluation \
        src/llava_st_hf/assets/llava-st-tiny-shapes

The code that `save_pretrained` writes beside a model is left out: the package has it. A checkpoint that ships already
and was measured again is given in both places, and gets the new metrics.
"""

import argparse
import json
import shutil
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from llava_st_hf import LlavaSTForConditionalGeneration
from llava_st_hf.evaluation.runner import fingerprint_weights
from llava_st_hf.evaluation.summary import format_metrics_table
from llava_st_hf.hub.cards import add_results
from llava_st_hf.hub.results import read_evaluation

FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "processor_config.json",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
)
CARD, RESULTS = "README.md", ".eval_results"
REPOSITORY = "llava-st-hf/llava-st-tiny-shapes"
MAX_BYTES = 10_000_000


def ship_checkpoint(model: Path, evaluation: Path, directory: Path) -> None:
    """Copy a model that was trained and write the card of its evaluation; a checkpoint that is there is replaced."""
    size = sum((model / name).stat().st_size for name in FILES)
    if size > MAX_BYTES:
        raise ValueError(f"model {model} has {size:,} bytes: no more than {MAX_BYTES:,} ship with the package.")
    metrics = json.loads((evaluation / "metrics.json").read_text())
    settings, loaded = metrics["settings"], LlavaSTForConditionalGeneration.from_pretrained(model)
    if (settings["weights"], settings["protocol"]) != (fingerprint_weights(loaded), "default"):
        raise ValueError(f"evaluation {evaluation} is not of {model} by the default protocol: evaluate it again.")
    others = {path.name for path in directory.iterdir()} - {*FILES, CARD, RESULTS} if directory.is_dir() else set()
    if others:
        raise ValueError(f"directory {directory} holds {min(others)!r}, which is of no checkpoint: give another.")
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined)
    run = read_evaluation(evaluation)
    card = templates.get_template("model_card.md.jinja").render(
        num_parameters=loaded.num_parameters(), table=format_metrics_table(metrics), settings=settings, run=run
    )
    (directory / RESULTS).mkdir(parents=True, exist_ok=True)
    if model.resolve() != directory.resolve():
        for name in FILES:
            shutil.copyfile(model / name, directory / name)
    (directory / CARD).write_text(add_results(card, REPOSITORY, [run]), encoding="utf-8")
    (directory / RESULTS / f"{run.benchmark}.yaml").write_text(run.write_yaml(), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    ship_checkpoint(arguments.model, arguments.evaluation, arguments.directory)
