# /// script
# requires-python = ">=3.11"
# dependencies = ["llava-st-hf[train]"]
# ///
"""Trains LoRA on a data set of the Hub and sends the adapter back: for a job, whose disk is gone when it ends.

hf jobs uv run --flavor a10g-large --secrets HF_TOKEN scripts/train.py --model me/llava-st-mine --data me/kitchen \
    --push-to me/kitchen-lora --num_train_epochs 3

`--data` is what `llava-st data publish` made. Further options, `--key value`, are the keys of a recipe. Started again
it goes on at the last checkpoint, which `--push-to` keeps on the Hub.
"""

import argparse
import sys
from pathlib import Path

from llava_st_cli import main

RECIPE = """\
stage: custom_grounding_lora
mixture: mixture.yaml
output_dir: output
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
save_steps: 0.1
logging_steps: 10
resume_from_checkpoint: true
"""
PUSH = """\
push_to_hub: true
hub_private_repo: true
hub_strategy: checkpoint
"""


def train(arguments: list[str]) -> int:
    """Write mixture and recipe, and run them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, metavar="ID_OR_DIR")
    parser.add_argument("--data", required=True, metavar="ORG/NAME", help="published data set, or a folder with one")
    parser.add_argument("--revision", help="branch, tag or commit of the data set")
    parser.add_argument("--push-to", metavar="ORG/NAME", help="repository of the adapter; private")
    options, more = parser.parse_known_args(arguments)
    source = [f"json_path: {options.data}/data"] if Path(options.data).is_dir() else [f"id: {options.data}"]
    if options.revision:
        source.append(f"revision: {options.revision}")
    files = {
        Path("mixture.yaml"): f"seed: 42\ndatasets:\n  - {{{', '.join(source)}}}\n",
        Path("sft.yaml"): RECIPE + (PUSH if options.push_to else ""),
    }
    for path, text in files.items():
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
            parser.error(f"{path} is there already and says something else: move it, or start in another folder")
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    target = ["--hub_model_id", options.push_to] if options.push_to else []
    return main(["train", "sft.yaml", "--model_name_or_path", options.model, *target, *more])


if __name__ == "__main__":
    sys.exit(train(sys.argv[1:]))
