"""A run pushes what it trained: the repository and its card are the same by the recipe and by the command."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfFileSystem, ModelCard, parse_eval_result_entries
from transformers import DefaultFlowCallback

from llava_st_cli import main
from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.hub import CardOptions, push_folder
from llava_st_hf.hub.contents import collect_contents
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.training import read_recipe, run_recipe
from llava_st_hf.training import run as run_module

pytestmark = pytest.mark.slow

RECIPE = {
    "stage": "custom_grounding_lora",
    "mixture": "mixture.yaml",
    "num_frames": 8,
    "per_device_train_batch_size": 2,
    "max_steps": 2,
    "logging_steps": 1,
    "save_steps": 1,
    "activation_checkpointing": False,
    "lora_rank": 4,
    "disable_tqdm": True,
}


@pytest.fixture
def write_recipe(checkpoint, published, tmp_path):
    """Write a recipe over the published data set, and return its path."""

    def write(id: str | None = None, **settings) -> Path:
        place = {"json_path": str(published / "data"), "source": "shapes"} if id is None else {"id": id}
        source = {**place, "license": "CC0-1.0", "origin": "made here"}
        (tmp_path / "mixture.yaml").write_text(yaml.safe_dump({"datasets": [source]}))
        content = {"model_name_or_path": str(checkpoint), "output_dir": str(tmp_path / "run"), **RECIPE, **settings}
        (tmp_path / "sft.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "sft.yaml"

    return write


def test_a_recipe_that_cannot_push_says_so_before_it_trains(hub, write_recipe, tmp_path):
    hub.add("me/base", {"config.json": b"{}"})
    for settings, words in (
        ({"push_to_hub": True}, "hub_model_id is not given"),
        ({"hub_model_id": "me/lora"}, "push_to_hub is False"),
        ({"hub_license": "MIT"}, "push_to_hub is False"),
        ({"push_to_hub": True, "hub_model_id": "me/lora"}, "hub_base_model"),
        ({"push_to_hub": True, "hub_model_id": "you/lora", "hub_base_model": "me/base"}, "may not write there"),
        ({"push_to_hub": True, "hub_model_id": "me/lora", "hub_base_model": "me/x"}, "'me/x' is no repository"),
        ({"push_to_hub": True, "hub_model_id": "me/lora", "hub_base_model": "me/base@dev"}, "base_model is"),
        ({"push_to_hub": True, "hub_model_id": "me/lora", "hub_strategy": "all_checkpoints"}, "hub_strategy"),
    ):
        with pytest.raises(InputError, match=words):
            run_recipe(read_recipe(write_recipe(**settings)), dry_run=True)
    assert not (tmp_path / "run").exists()


def test_recipe_and_command_give_the_same_adapter(hub, write_recipe, checkpoint, tmp_path, capsys):
    push_folder(checkpoint, CardOptions("me/base"))
    settings = {"push_to_hub": True, "hub_model_id": "me/lora", "hub_base_model": "me/base", "hub_license": "MIT"}
    lines = []
    run_recipe(read_recipe(write_recipe(**settings)), report=lines.append)
    assert any(line.startswith(f"pushed: {hub.url}/me/lora/commit/") for line in lines)
    repository = hub.repositories["model", "me/lora"]
    files = hub.get_files("me/lora")
    assert repository.private and len(repository.commits) == 2
    main(["push", str(tmp_path / "run"), "me/again", "--base-model", "me/base", "--license", "MIT"])
    again = {name: content.replace(b"me/again", b"me/lora") for name, content in hub.get_files("me/again").items()}
    again["README.md"] = again["README.md"].replace(b"# again", b"# lora")
    assert again == files

    card = ModelCard(files["README.md"].decode())
    assert card.data.to_dict() == {
        "base_model": "me/base",
        "library_name": "peft",
        "license": "mit",
        "pipeline_tag": "video-text-to-text",
        "tags": ["llava_st", "video-grounding"],
        "base_model_relation": "adapter",
    }
    for words in (
        "| shapes | CC0-1.0 | made here | 6 | 6 |",
        "`language_model` (lora, ",
        "| `lora_rank` | 4 |",
        "Cost: 2 steps over 4 records,\n0.",
        " minutes on CPU, 1 process of ",
        "| `num_frames` | 8 |",
        "Stage `custom_grounding_lora`, on `me/base`.",
        "A clip is seen as 20 frames of 54x54 pixels",
        "Nothing was measured.",
    ):
        assert words in card.text, card.text
    assert str(tmp_path) not in card.text and "More Information" not in card.text


def test_every_way_gives_the_same_model(hub, write_recipe, tmp_path, monkeypatch):
    trainers = []
    push_whole = run_module.push_whole
    monkeypatch.setattr(run_module, "push_whole", lambda *args: (trainers.append(args[0]), push_whole(*args)))
    settings = {"stage": "full_finetuning", "push_to_hub": True, "hub_model_id": "me/recipe", "lora_rank": None}
    run_recipe(read_recipe(write_recipe(**settings, hub_strategy="end")), report=lambda text: None)
    (trainer,) = trainers
    run = tmp_path / "run"
    main(["push", str(run), "me/command"])
    for name, model, processor in (
        ("me/methods", LlavaSTForConditionalGeneration.from_pretrained(run), LlavaSTProcessor.from_pretrained(run)),
        ("me/memory", trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class),
    ):
        model.push_to_hub(name)
        processor.push_to_hub(name)
    trainer.hub_model_id = "me/trainer"
    trainer.push_to_hub()

    expected = hub.get_files("me/recipe")
    assert {"README.md", "training.json", "model.safetensors", "modeling_llava_st.py"} <= expected.keys()
    for name in ("command", "methods", "memory", "trainer"):
        files = hub.get_files(f"me/{name}")
        card = files["README.md"].decode().replace(f"me/{name}", "me/recipe").replace(f"# {name}\n", "# recipe\n")
        files["README.md"] = card.encode()
        # After a training, config and tokenizer in memory say of themselves that they were trained.
        left_out = {"config.json", "tokenizer_config.json"} if name == "memory" else set()
        differing = {path for path in {**files, **expected} if files.get(path) != expected.get(path)}
        assert differing <= left_out, name
    own = (run / "README.md").read_text()
    assert (
        own.replace("# run\n", "# recipe\n").replace("path/to/this/folder", "me/recipe")
        == expected["README.md"].decode()
    )
    for checkpoint in run.glob("checkpoint-*"):
        assert "Cost: " in (checkpoint / "README.md").read_text()


def test_a_run_that_was_stopped_goes_on_from_the_hub(hub, write_recipe, checkpoint, published, tmp_path, monkeypatch):
    push_folder(checkpoint, CardOptions("me/base"))
    push_folder(published, CardOptions("me/shapes"))
    HfFileSystem.clear_instance_cache()  # which may know another Hub
    settings = {"push_to_hub": True, "hub_model_id": "me/lora", "hub_base_model": "me/base", "id": "me/shapes"}
    settings |= {"hub_strategy": "checkpoint", "max_steps": 4, "save_total_limit": 1}
    run_recipe(read_recipe(write_recipe(**settings)), report=lambda text: None)
    expected = hub.get_files("me/lora")
    assert not any(name.startswith("last-checkpoint/") for name in expected)  # it is done
    del hub.repositories["model", "me/lora"]
    shutil.rmtree(tmp_path / "run")

    def stop(callback, args, state, control, **kwargs):
        if state.global_step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DefaultFlowCallback, "on_step_begin", stop)
        run_recipe(read_recipe(write_recipe(**settings)), report=lambda text: None)
    shutil.rmtree(tmp_path / "run")  # another machine goes on
    state = json.loads(hub.get_files("me/lora")["last-checkpoint/trainer_state.json"])
    assert state["global_step"] == 2
    for name, content in hub.get_files("me/lora").items():
        assert str(tmp_path).encode() not in content and not name.endswith("training_args.bin")
    recipe = read_recipe(write_recipe(**settings), ["--resume_from_checkpoint", "true"])
    run_recipe(recipe, report=lambda text: None)
    files = hub.get_files("me/lora")
    assert files["adapter_model.safetensors"] == expected["adapter_model.safetensors"]
    assert files.keys() == expected.keys()
    assert "minutes since it was resumed last" in files["README.md"].decode()
    assert ModelCard(files["README.md"].decode()).data.datasets == ["me/shapes"]
    HfFileSystem.clear_instance_cache()


def test_a_model_card_has_its_metrics(hub, write_recipe, tmp_path):
    settings = {"stage": "full_finetuning", "push_to_hub": True, "hub_model_id": "me/model", "lora_rank": None}
    recipe = write_recipe(**{**settings, "hub_strategy": "every_save"})
    run_recipe(read_recipe(recipe), report=lambda text: None)
    # Made, two checkpoints, and the end where its card says another time than that of the second.
    assert len(hub.repositories["model", "me/model"].commits) in (3, 4)
    run = tmp_path / "run"
    command = ["evaluate", "st-shapes", "--model", str(run), "--num-clips", "1", "--tasks", "tvg", "rec", "--quiet"]
    assert main([*command, "--max-new-tokens", "8", "--output-dir", str(run / "evaluation")]) == 0
    shutil.move(run, tmp_path / "moved")
    push_folder(tmp_path / "moved", CardOptions("me/model"))
    files = hub.get_files("me/model")
    other = json.loads((tmp_path / "moved" / "evaluation" / "metrics.json").read_text())
    other["settings"]["weights"] = "0" * 16
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match="of other weights"):
        push_folder(tmp_path / "moved", CardOptions("me/model", evaluations=(tmp_path / "other",)))
    card = ModelCard(files["README.md"].decode())
    results = {result.metric_name: result.metric_value for result in card.data.eval_results}
    metrics = json.loads((tmp_path / "moved" / "evaluation" / "metrics.json").read_text())
    assert results.keys() == {"tvg m_tIoU", "tvg R@0.5", "rec acc@0.5"}
    assert results["tvg m_tIoU"] == round(metrics["tasks"]["tvg"]["metrics"]["m_tIoU"], 4)
    entries = parse_eval_result_entries(yaml.safe_load(files[".eval_results/st-shapes.yaml"]))
    assert {entry.task_id for entry in entries} == {"tvg_m_tIoU", "tvg_R@0.5", "rec_acc@0.5"}
    assert "llava-st evaluate st-shapes --model run --num-clips 1" in card.text
    assert str(tmp_path) not in card.text + entries[0].notes
    assert "base_model" not in card.data.to_dict()  # it has no name on the Hub

    push_folder(tmp_path / "moved" / "evaluation", CardOptions("me/results", base_model="me/model"))
    files = hub.get_files("me/results", "dataset")
    assert files.keys() == {
        ".gitattributes",
        "README.md",
        "metrics.json",
        "predictions.jsonl",
        "run.json",
        "report.md",
        "report.html",
    }
    assert all(str(tmp_path).encode() not in content for content in files.values())
    assert "[me/model](https://huggingface.co/me/model)" in files["README.md"].decode()
    (tmp_path / "moved" / "evaluation" / "metrics.json").unlink()
    with (
        pytest.raises(InputError, match="not done"),
        collect_contents(tmp_path / "moved" / "evaluation", CardOptions("me/results")),
    ):
        pass
