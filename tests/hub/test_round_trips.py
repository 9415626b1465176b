"""What was pushed comes back, in processes that know nothing but the address of the Hub, or may not ask it again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import hub_loading
import pytest
import remote_code_loading
import torch
from hub_loading import QUESTION
from huggingface_hub import ModelCard
from local_hub import LocalHub, hash_file, read_stated_requests
from published_checkpoint import make_published_checkpoint, read_tensors
from random_checkpoint import make_random_adapter
from remote_code_loading import OBSERVERS, get_media_inputs
from safetensors.torch import save_file
from transformers import AutoProcessor

from llava_st_hf import LlavaSTForConditionalGeneration, load_pipeline
from llava_st_hf.checkpoints import merge_checkpoint
from llava_st_hf.data.readers.canonical import CanonicalReader
from llava_st_hf.hub import CardOptions, push_folder
from llava_st_hf.processing.published_layout_llava_st import MAX_SETTINGS_BYTES

# Rows of docs/hub.md, by the job that is counted.
ROWS = {
    "load_adapter": "adapter, with its base",
    "load_merged": "merged model, after the adapter",
    "stream_dataset": "data set of two shards, streamed",
    "read_mixture": "the same as the source of a mixture, after that",
    "read_published_config": "config of a checkpoint in the published layout, in three shards",
    "load_published": "its weights",
    "read_results": "answers of an evaluation",
}
REMOTE_JOBS = ("AutoModelForImageTextToText", "post_process_grounding", "pipeline")
SOURCES = Path(hub_loading.__file__).parents[1] / "src"


@pytest.fixture(scope="module")
def adapter(checkpoint, tmp_path_factory) -> Path:
    """An adapter that changes the answers of its base."""
    return make_random_adapter(checkpoint, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """The folder of an evaluation of one item."""
    folder = tmp_path_factory.mktemp("evaluation")
    task = {"items": 1, "metrics": {"m_tIoU": 0.5}, "baseline": {"m_tIoU": 0.25}, "headline": ["m_tIoU"]}
    facts = {"versions": {"torch": "2"}, "device": "cpu", "command": "llava-st evaluate st-shapes --model /runs/m"}
    settings = {"benchmark": "st-shapes", "model": "/runs/m", "protocol": "default"}
    tasks = {"tvg": {**task, "failures": {}, "seconds": 1.0}}
    (folder / "metrics.json").write_text(json.dumps({"settings": settings, "tasks": tasks, "unusable": [], **facts}))
    prediction = {"id": "tvg-0", "question": "When?", "answer": "{<t_1><t_2>}", "scores": {"tiou": 0.5}}
    (folder / "predictions.jsonl").write_text(json.dumps(prediction) + "\n")
    return folder


@pytest.fixture(scope="module")
def published_layout(tmp_path_factory) -> Path:
    """A checkpoint in the published layout, in three shards of more than what is read of each for its header."""
    folder = make_published_checkpoint(tmp_path_factory.mktemp("layout") / "published", num_shards=3)
    unused = torch.zeros(10**6)
    for index, path in enumerate(sorted(folder.glob("*.safetensors"))):
        tensors = read_tensors(path) | ({"model.image_newline": unused} if index == 0 else {})
        save_file(tensors, path, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def filled(checkpoint, adapter, published, results, published_layout, tmp_path_factory):
    """A Hub with all of it."""
    with LocalHub() as hub, hub.reached(tmp_path_factory.mktemp("cache")):
        push_folder(checkpoint, CardOptions("me/model"))
        push_folder(adapter, CardOptions("me/adapter", base_model="me/model"))
        merged = merge_checkpoint(adapter, tmp_path_factory.mktemp("merged") / "merged")
        push_folder(merged.path, CardOptions("me/merged"))
        push_folder(published, CardOptions("me/shapes"))
        push_folder(results, CardOptions("me/results"))
        hub.add("me/published", {path.name: path.read_bytes() for path in published_layout.iterdir()})
        yield hub


def run(command: list, folder: Path, environment: dict) -> None:
    finished = subprocess.run([sys.executable, *map(str, command)], env=environment, cwd=folder, capture_output=True)
    assert finished.returncode == 0, finished.stderr.decode()[-3000:]


def load(hub, folder: Path, clip: Path, names: list[str], **environment: str) -> tuple[dict, dict]:
    """Run jobs in a fresh process; return what it observed, and its requests by job."""
    folder.mkdir(exist_ok=True)
    shutil.copy(clip, folder / "clip.mp4")
    jobs = {"names": list(names), "clip": str(clip), "url": hub.url}
    (folder / "jobs.json").write_text(json.dumps(jobs))
    more = {"PYTHONPATH": str(SOURCES), "REVISION": hub.repositories["dataset", "me/shapes"].commits[-1][0]}
    hub.requests.clear()
    run([hub_loading.__file__, folder], folder, hub.environment(folder / "cache", **more, **environment))
    return json.loads((folder / "observed.json").read_text()), hub.count_by_mark()


@pytest.fixture(scope="module")
def loaded(filled, clip, tmp_path_factory) -> tuple[Path, dict, dict]:
    """What a process with the package observes, its requests, and its cache."""
    folder = tmp_path_factory.mktemp("loaded")
    return folder, *load(filled, folder, clip, [*hub_loading.QUICK, "fetch_dataset"])


def test_an_adapter_finds_its_base_and_answers_the_same(loaded, adapter, clip):
    _, observed, _ = loaded
    (answer,) = observed["load_adapter"]
    ground = load_pipeline(adapter, device="cpu")
    expected = json.loads(json.dumps(ground(str(clip), QUESTION, task="tvg", max_new_tokens=24).to_dict()))
    assert answer == expected
    assert observed["load_merged"] == [expected]


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer/tokenizer.json", "additional_chat_templates/a.jinja"])
def test_settings_that_are_too_large_are_not_fetched(filled, tmp_path, monkeypatch, name):
    (_, files) = filled.repositories["model", "me/model"].find("main")
    filled.add("me/huge", {**files, name: b"{" + b" " * MAX_SETTINGS_BYTES})
    code = f"""
from llava_st_hf import InputError, LlavaSTProcessor
from llava_st_hf.inference.loading import load_config, load_model
for door in (load_model, load_config, LlavaSTProcessor.from_pretrained):
    try:
        door("me/huge")
    except InputError as error:
        assert "{Path(name).name} of me/huge has 36,000,001 bytes" in str(error), error
    else:
        raise AssertionError(door)
"""
    filled.requests.clear()
    run(["-c", code], tmp_path, filled.environment(tmp_path / "cache", PYTHONPATH=str(SOURCES)))
    assert not any("resolve" in str(request) for request in filled.requests), filled.requests


def test_a_data_set_streams(loaded, published):
    _, observed, _ = loaded
    reader = CanonicalReader(str(published / "data"), "shapes", keep_sources=True)
    expected = [[reader[index].id, reader[index].messages[1]["content"]] for index in range(len(reader))]
    assert len(expected) == 6 and observed["stream_dataset"] == expected
    assert sorted(expected) == observed["read_mixture"]


def test_the_config_of_a_published_checkpoint_fetches_no_shard(loaded, published_layout, filled):
    _, observed, requests = loaded
    assert observed["read_published_config"] == [32, 16, False]
    sizes = {path.name: path.stat().st_size for path in published_layout.iterdir()}
    fetched = requests["read_published_config"]
    assert 0 < fetched["GET resolve"] < 20
    assert filled.bytes_by_mark["read_published_config"] < sum(sizes.values()) / 8
    expected = LlavaSTForConditionalGeneration.from_pretrained(published_layout)
    with torch.no_grad():
        logits = expected(input_ids=torch.arange(5)[None]).logits[0, -1, :5]
    torch.testing.assert_close(torch.tensor(observed["load_published"]), logits, rtol=0, atol=0)


def test_results_are_read_by_the_snippet_of_their_card(loaded):
    _, observed, _ = loaded
    assert observed["read_results"] == ["tvg-0"]


@pytest.mark.parametrize("job", hub_loading.QUICK)
def test_it_takes_no_more_requests_than_the_docs_say(loaded, job):
    assert 0 < loaded[2][job].total() <= read_stated_requests(ROWS[job]), loaded[2][job]


def test_a_warm_cache_is_enough(loaded, filled, clip):
    folder, observed, _ = loaded
    offline, requests = load(filled, folder, clip, hub_loading.QUICK, HF_HUB_OFFLINE="1")
    assert offline == {name: observed[name] for name in hub_loading.QUICK}
    assert sum(counts.total() for counts in requests.values()) == 0


@pytest.mark.slow
def test_snippets_of_cards_run(filled, clip, tmp_path):
    observed, _ = load(filled, tmp_path / "snippets", clip, ["run_snippets"])
    assert observed["run_snippets"] == ["me/model", "me/model", "me/adapter", "me/adapter"]
    offline, requests = load(filled, tmp_path / "snippets", clip, ["run_snippets"], HF_HUB_OFFLINE="1")
    assert offline == observed and not requests["run_snippets"]


@pytest.mark.slow
def test_a_run_over_the_hub_trains_the_same_offline(filled, clip, tmp_path):
    folder = tmp_path / "training"
    observed, requests = load(filled, folder, clip, ["train_over_dataset", "fetch_dataset"])
    files, counts = filled.get_files("me/trained"), requests["train_over_dataset"]
    assert [hash_file(files["adapter_model.safetensors"])] == observed["train_over_dataset"]
    card = ModelCard(files["README.md"].decode())
    assert (card.data.base_model, card.data.datasets) == ("me/model", ["me/shapes"])
    assert f"me/shapes at `{filled.repositories['dataset', 'me/shapes'].commits[-1][0]}`" in card.text
    assert counts["POST commit"] == 1
    assert counts.total() <= read_stated_requests("training of an adapter over a data set, pushed"), counts
    offline, requests = load(filled, folder, clip, ["train_over_dataset"], HF_HUB_OFFLINE="1")
    assert offline["train_over_dataset"] == observed["train_over_dataset"] and not requests["train_over_dataset"]


def observe_remote(libraries: Path, folder: Path, clip: Path, inputs: dict, environment: dict) -> dict:
    """Load by the Auto classes in a process without the package."""
    folder.mkdir(exist_ok=True)
    (folder / "jobs.json").write_text(
        json.dumps({"clip": str(clip), "observe": [(name, "me/model") for name in REMOTE_JOBS]})
    )
    torch.save(inputs, folder / "inputs.pt")
    run(["-S", remote_code_loading.__file__, folder], folder, environment | {"PYTHONPATH": str(libraries)})
    errors = {name: error for name, error in json.loads((folder / "errors.json").read_text()).items() if error}
    assert not errors, errors
    return {name: torch.load(folder / f"{name}.pt") for name in REMOTE_JOBS}


def test_a_model_loads_without_the_package(filled, libraries, checkpoint, clip, tmp_path):
    inputs = dict(get_media_inputs(AutoProcessor.from_pretrained(checkpoint), str(clip)))
    expected = {name: OBSERVERS[name](str(checkpoint), inputs, str(clip))[1] for name in REMOTE_JOBS}
    folder, environment = tmp_path / "remote", filled.environment(tmp_path / "cache")
    filled.requests.clear()
    filled.fail(r"GET .*/resolve/.*/model\.safetensors", times=1)  # the client goes on where it was cut
    filled.fail(r"GET .*/resolve/.*/tokenizer\.json", seconds=1, times=1)
    online = observe_remote(libraries, folder, clip, inputs, environment)
    requests = filled.count()
    offline = observe_remote(libraries, folder, clip, inputs, environment | {"HF_HUB_OFFLINE": "1"})
    assert filled.count().total() == 0
    for observed in (online, offline):
        torch.testing.assert_close(
            observed["AutoModelForImageTextToText"]["value"], expected["AutoModelForImageTextToText"], rtol=0, atol=0
        )
        assert observed["post_process_grounding"]["value"] == expected["post_process_grounding"]
        assert observed["pipeline"]["value"] == expected["pipeline"]
        assert all(one["module"].startswith("transformers_modules.me.model") for one in observed.values())
    # Each of the files once, and a look at whether it changed for each of the three processes.
    assert requests["GET resolve"] <= len(filled.get_files("me/model")) + 16, requests
    row = "model with its code, without the package, by three processes"
    assert requests.total() <= read_stated_requests(row)
