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
    from llava_st_hf import load_pipeline

    ground = load_pipeline("me/adapter", device="cpu")
    return [ground(clip, QUESTION, task="tvg", max_new_tokens=24).to_dict()]


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


def read_results(clip: str) -> list:
    from huggingface_hub import hf_hub_download

    with open(hf_hub_download("me/results", "predictions.jsonl", repo_type="dataset")) as lines:
        return [json.loads(line)["id"] for line in lines]


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


JOBS = {
    job.__name__: job
    for job in (load_adapter, stream_dataset, read_mixture, read_published_config, load_published, read_results)
}
JOBS["run_snippets"] = run_snippets


def main(folder: Path) -> None:
    jobs = json.loads((folder / "jobs.json").read_text())
    observed = {}
    for name in jobs["names"]:
        urllib.request.urlopen(f"{jobs['url']}/mark/{name}").read()
        observed[name] = JOBS[name](jobs["clip"])
    (folder / "observed.json").write_text(json.dumps(observed))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
