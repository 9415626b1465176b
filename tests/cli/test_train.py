"""`llava-st train`: a run from the command line, its errors, and a resumed one."""

import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import constants
from transformers import AutoModelForImageTextToText, AutoProcessor

import llava_st_hf  # noqa: F401
from llava_st_cli import main
from llava_st_hf.data.shapes import ShapesDataset, write_shapes
from llava_st_hf.demo import DEMO_QUERY, write_demo_clip
from llava_st_hf.training import LlavaSTTrainer
from llava_st_hf.training.recipe import DataArguments, ModelArguments

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def recipe(checkpoint, tmp_path) -> Path:
    content = {
        "model_name_or_path": str(checkpoint),
        "stage": "coordinate_alignment",
        "lora_rank": 4,
        "output_dir": "run",
        "st_shapes": {"task_weights": ["rec", "tvg"], "num_samples": 8, "num_frames": 8, "size": 32},
        "eval_st_shapes": {"num_samples": 2, "seed": 9},
        "num_frames": 8,
        "per_device_train_batch_size": 2,
        "max_steps": 2,
        "save_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "activation_checkpointing": False,
    }
    path = tmp_path / "sft.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_run_ends_with_a_checkpoint_that_loads(recipe, tmp_path, capsys):
    assert main(["train", str(recipe), "--seed", "3", "--resume_from_checkpoint", "true"]) == 0
    out, err = capsys.readouterr()
    assert "run has no checkpoint yet: the run begins anew." in err
    assert out.splitlines()[-1] == str(tmp_path / "run")
    assert "stage coordinate_alignment" in err
    assert "no record was skipped" in err
    AutoModelForImageTextToText.from_pretrained(tmp_path / "run")
    AutoProcessor.from_pretrained(tmp_path / "run")
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    assert any("eval_loss_text" in entry for entry in history)
    # Started again it says so; asked to go on it has nothing left to do.
    assert main(["train", str(recipe), "--seed", "3"]) == 1
    assert "--resume_from_checkpoint true" in capsys.readouterr().err
    assert main(["train", str(recipe), "--seed", "4", "--resume_from_checkpoint", "true"]) == 1
    assert "holds a run with seed=3, and now seed is 4" in capsys.readouterr().err
    card = (tmp_path / "run" / "README.md").read_bytes()
    assert main(["train", str(recipe), "--seed", "3", "--resume_from_checkpoint", "true"]) == 0
    assert "all steps of the run in" in capsys.readouterr().err
    assert (tmp_path / "run" / "README.md").read_bytes() == card


def test_an_interrupted_run_says_how_to_go_on(recipe, tmp_path, capsys, caplog, monkeypatch):
    arguments = ["train", str(recipe), "--save_steps", "0.5", "--eval_steps", "0.9"]

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LlavaSTTrainer, "evaluate", interrupt)
        assert main(arguments) == 130
    kept = tmp_path / "run" / "checkpoint-1"
    assert f"{kept} is kept: --resume_from_checkpoint true goes on with it." in capsys.readouterr().err
    assert main([*arguments, "--resume_from_checkpoint", "true"]) == 0
    assert "do not match" not in caplog.text  # 0.5 of 2 steps was 1
    assert (tmp_path / "run" / "adapter_config.json").is_file()


def test_a_stage_starts_from_the_adapter_of_the_one_before(recipe, tmp_path, capsys):
    short = ["--max_steps", "1", "--eval_strategy", "no"]
    assert main(["train", str(recipe), *short]) == 0
    second = tmp_path / "second"
    arguments = ["--stage", "instruction_tuning", "--model_name_or_path", str(tmp_path / "run")]
    assert main(["train", str(recipe), *short, *arguments, "--output_dir", str(second)]) == 0
    content = json.loads((second / "adapter_config.json").read_text())
    assert content["base_model_name_or_path"] == str(second / "merged_base")
    AutoModelForImageTextToText.from_pretrained(second)


@pytest.mark.slow
def test_answers_are_scored_during_training(recipe, tmp_path):
    assert main(["train", str(recipe), "--grounding_clips", "2"]) == 0
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    assert any("eval_rec_acc@0.5" in entry and "eval_tvg_m_tIoU" in entry for entry in history)


def hold_out(recipe, trained_on, held_out):
    """Let the recipe train on some of ten records of files, and hold out others."""
    content = yaml.safe_load(recipe.read_text())
    name = write_shapes(recipe.parent, ShapesDataset(["tvg"], 10, num_frames=12, size=32)).name
    for part, chosen in (("train", trained_on), ("held_out", held_out)):
        source = {"json_path": name, "data_folder": ".", "sampling_strategy": chosen}
        (recipe.parent / f"{part}.yaml").write_text(yaml.safe_dump({"datasets": [source]}))
    del content["st_shapes"], content["eval_st_shapes"]
    content |= {"mixture": "train.yaml", "eval_mixture": "held_out.yaml", "grounding_clips": 3}
    recipe.write_text(yaml.safe_dump(content))
    return [json.loads(line)["id"] for line in (recipe.parent / name).read_text().splitlines()]


def test_records_of_ones_own_that_are_held_out_are_answered_during_training(recipe, tmp_path):
    """With a base in bfloat16, LoRA in float32, and other frames than the processor samples."""
    ids = hold_out(recipe, "first:5", "end:5")
    assert main(["train", str(recipe), "--dtype", "bfloat16", "--bf16", "true", "--use_cpu", "true"]) == 0
    folder = tmp_path / "run" / "grounding" / "step-2"
    asked = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len(asked) == 3
    assert {line["id"].partition("/")[2] for line in asked} < set(ids[5:])
    assert all(len(line["result"]["media"]["frame_indices"]) == 8 for line in asked)
    assert "at step 2 on held-out" in (folder / "report.md").read_text()
    # The adapter is asked like a model.
    clip = write_demo_clip(tmp_path / "clip.mp4")
    answer = tmp_path / "answer.json"
    question = [
        "ground",
        str(clip),
        DEMO_QUERY,
        "--task",
        "tvg",
        "--model",
        str(tmp_path / "run"),
        "--json",
        str(answer),
    ]
    assert main(question) == 0
    assert json.loads(answer.read_text())["spans"]
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    metrics = json.loads((folder / "metrics.json").read_text())["tasks"]["tvg"]["metrics"]
    assert [entry["eval_tvg_R@0.5"] for entry in history if "eval_tvg_R@0.5" in entry] == [metrics["R@0.5"]]


def test_records_that_are_trained_on_are_not_held_out(recipe, capsys):
    hold_out(recipe, "first:6", "end:5")
    assert main(["train", str(recipe), "--dry-run"]) == 1
    assert "but 1 of its records of" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(recipe, tmp_path, capsys):
    assert main(["train", str(recipe), "--dry-run"]) == 0
    err = capsys.readouterr().err
    assert "8 samples of ST-Shapes" in err
    assert "language_model" in err
    assert not (tmp_path / "run").exists()


def test_errors_are_one_line(recipe, capsys):
    assert main(["train", str(recipe), "--lora_ranc", "4"]) == 1
    assert "did you mean 'lora_rank'?" in capsys.readouterr().err
    assert main(["train", str(recipe.with_name("none.yaml"))]) == 1
    assert "none.yaml: no such recipe" in capsys.readouterr().err
    assert main(["train", "--max_steps", "3", str(recipe)]) == 1
    assert "name the recipe before its keys" in capsys.readouterr().err
    assert main(["train"]) == 2


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train"], []),
        (["train", "--dry-run"], ["--model_name_or_path", "no/one"]),
        (["train"], ["--model_name_or_path=no/one"]),
        (["data", "check"], []),
    ],
)
def test_a_wrong_name_without_network_is_said_before_much_is_imported(
    recipe, monkeypatch, tmp_path, capsys, command, words
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "llava_st_hf.training", None)  # an import of it fails
    content = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**content, "model_name_or_path": "no/other" if words else "no/one"}))
    assert main([*command, str(recipe), *words]) == 1
    assert capsys.readouterr().err == (
        "llava-st: error: model_name_or_path is no/one: no such folder, and the Hub cannot be reached: check the "
        "name, or the network.\n"
    )


def test_keys_are_handed_on_as_they_are(recipe, monkeypatch):
    given = ["--max_steps", "-1", "--learning_rates", '{"packer": -1e-5}', "--output_dir=-x y", "--seed", "3"]
    read, content = [], SimpleNamespace(model=SimpleNamespace(model_name_or_path="."))
    monkeypatch.setattr("llava_st_hf.training.run.run_recipe", lambda *arguments, **options: None)
    monkeypatch.setattr(
        "llava_st_hf.training.recipe.read_recipe", lambda path, overrides: read.append(overrides) or content
    )
    assert main(["train", str(recipe), *given[:4], "--dry-run", *given[4:]]) == 0
    assert read == [given]


@pytest.mark.parametrize(
    ("said", "meant"),
    [("--model", "--model_name_or_path"), ("--model=x", "--model_name_or_path"), ("--dryrun", "--dry-run")],
)
def test_what_other_commands_call_it_is_answered_with_its_name_here(recipe, capsys, said, meant):
    assert main(["train", str(recipe), said]) == 1
    assert f"{said.partition('=')[0]} is no key of a recipe: write {meant}." in capsys.readouterr().err


def test_help_lists_the_keys(capsys):
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    for part in (ModelArguments, DataArguments):
        for key in fields(part):
            assert re.search(rf"^    --{key.name} +\S", out, re.MULTILINE)


def test_what_fails_in_a_run_is_one_line_or_shown_whole(recipe, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("llava_st_hf.training.run.run_recipe", fail)
    for options in ([], ["--debug"]):
        assert main([*options, "train", str(recipe)]) == 1
        err = capsys.readouterr().err
        assert ("Traceback" in err) is bool(options)
        line = f"llava-st: error: RuntimeError: out of memory (given were {recipe})"
        assert err.strip().splitlines()[-1] == line


def test_a_missing_library_is_named(recipe, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("llava_st_hf.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "trl", None)
    assert main(["train", str(recipe)]) == 1
    assert 'trl is not installed: pip install "llava-st-hf[train]".' in capsys.readouterr().err
