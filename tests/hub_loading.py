"""Loads from the Hub that `HF_ENDPOINT` names, in a process of its own, and says what came.

Run as `python hub_loading.py FOLDER`, where FOLDER holds `jobs.json` and gets `observed.json`.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

QUESTION = "the red circle moves to the right"


def load_adapter(clip: str) -> list:
    return [answer("me/adapter", clip)]


def load_merged(clip: str) -> list:
    return [answer("me/merged", clip)]


def answer(model: str, clip: str) -> dict:
    from llava_st_hf import load_pipeline

    ground = load_pipeline(model, device="cpu")
    return ground(clip, QUESTION, task="tvg", max_new_tokens=24).to_dict()


def stream_dataset(clip: str) -> list:
    from datasets import load_dataset

    records = load_dataset("me/shapes", split="train", streaming="HF_HUB_OFFLINE" not in os.environ)
    records = records.decode(False) if hasattr(records, "decode") else records
    return [[record["id"], record["messages"][1]["content"]] for record in records]


def read_mixture(clip: str) -> list:
    from llava_st_hf import Mixture
    from llava_st_hf.data.mixture_spec import MixtureSpec, SourceSpec

    source = SourceSpec(id="me/shapes", revision=os.environ.get("REVISION"))
    mixture = Mixture(MixtureSpec(datasets=(source,)))
    return sorted([mixture[index].id, mixture[index].messages[1]["content"]] for index in range(len(mixture)))


def read_published_config(clip: str) -> list:
    from llava_st_hf.inference.loading import load_config

    config = load_config("me/published")
    return [config.text_config.hidden_size, config.packer_hidden_size, config.splice_fast_tokens]


def load_published(clip: str) -> list:
    import torch

    from llava_st_hf.inference.loading import load_model

    model = load_model("me/published")
    with torch.no_grad():
        return model(input_ids=torch.arange(5)[None]).logits[0, -1, :5].tolist()


def fetch_dataset(clip: str) -> list:
    """Fetch what was streamed, as one does who goes offline."""
    from datasets import load_dataset
    from huggingface_hub import snapshot_download

    snapshot_download("me/shapes", repo_type="dataset")
    load_dataset("me/shapes", split="train")
    return []


def read_results(clip: str) -> list:
    from huggingface_hub import hf_hub_download

    with open(hf_hub_download("me/results", "predictions.jsonl", repo_type="dataset")) as lines:
        return [json.loads(line)["id"] for line in lines]


def train_over_dataset(clip: str) -> list:
    """Train an adapter of a model of the Hub on a data set of the Hub, and push it where that can be reached."""
    import hashlib

    import yaml

    from llava_st_hf.training import read_recipe, run_recipe

    is_offline = "HF_HUB_OFFLINE" in os.environ
    recipe = {
        "model_name_or_path": "me/model",
        "stage": "custom_grounding_lora",
        "mixture": "mixture.yaml",
        "output_dir": "offline" if is_offline else "online",
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "activation_checkpointing": False,
        "lora_rank": 2,
        "disable_tqdm": True,
        **({} if is_offline else {"push_to_hub": True, "hub_model_id": "me/trained"}),
    }
    source = {"id": "me/shapes", "revision": os.environ["REVISION"], "license": "CC0-1.0"}
    Path("mixture.yaml").write_text(yaml.safe_dump({"datasets": [source]}))
    Path("sft.yaml").write_text(yaml.safe_dump(recipe))
    run_recipe(read_recipe("sft.yaml"))
    return [hashlib.sha256(Path(recipe["output_dir"], "adapter_model.safetensors").read_bytes()).hexdigest()]


def run_snippets(clip: str) -> list:
    """Run the Python of a card, where `clip.mp4` is."""
    import re

    from huggingface_hub import ModelCard

    names = []
    for name in ("me/model", "me/adapter"):
        for snippet in re.findall(r"```python\n(.*?)```", ModelCard.load(name).text, re.DOTALL):
            exec(snippet, {})
            names.append(name)
    return names


QUICK_JOBS = (
    load_adapter,
    load_merged,
    stream_dataset,
    read_mixture,
    read_published_config,
    load_published,
    read_results,
)
QUICK = tuple(job.__name__ for job in QUICK_JOBS)
JOBS = {job.__name__: job for job in (*QUICK_JOBS, fetch_dataset, run_snippets, train_over_dataset)}


def main(folder: Path) -> None:
    jobs = json.loads((folder / "jobs.json").read_text())
    observed = {}
    for name in jobs["names"]:
        urllib.request.urlopen(f"{jobs['url']}/mark/{name}").read()
        observed[name] = JOBS[name](jobs["clip"])
    (folder / "observed.json").write_text(json.dumps(observed))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
