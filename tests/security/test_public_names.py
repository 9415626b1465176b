"""What is shared says nothing of this machine: no folder, no name of a user, no token."""

import json

import pytest

from llava_st_cli import main
from llava_st_hf.utils.public_names import get_public_name, hide_folders, write_public_command


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("/home/me/models/llava-st-7b", "llava-st-7b"),
        ("/home/me/models/llava-st-7b/", "llava-st-7b"),
        ("~/models/x", "x"),
        ("../x", "x"),
        ("me/llava-st-7b", "me/llava-st-7b"),
        ("llava-st-tiny-shapes", "llava-st-tiny-shapes"),
    ],
)
def test_a_model_has_the_name_of_its_repository_or_folder(name, public):
    assert get_public_name(name) == public


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("media is '/home/me/a b/c.mp4', which", "media is 'c.mp4', which"),
        ("[Errno 2] /home/me/c.mp4: no such file", "[Errno 2] c.mp4: no such file"),
        (r"see C:\Users\me\c.mp4", "see c.mp4"),
        ("see https://host/a/b and me/model, 3/4 or <t=0.5>", "see https://host/a/b and me/model, 3/4 or <t=0.5>"),
        ("file:///home/me/c.mp4", "c.mp4"),
        ("llava-st evaluate x --model /home/me/runs/tiny --seed 1", "llava-st evaluate x --model tiny --seed 1"),
        ("--model=~/runs/tiny", "--model=tiny"),
        ("/home/me/runs/", "runs/"),
        (r"see \\server\me\c.mp4", "see c.mp4"),
        ("in /home/me, '/Users/me' and C:\\Users\\me", "in ~, '~' and ~"),
        ("outputs/tiny/stage3 and 1/2 of it", "outputs/tiny/stage3 and 1/2 of it"),
        ("/single", "/single"),
        ("</b></i>", "</b></i>"),
    ],
)
def test_paths_in_a_text_are_cut(text, public):
    assert hide_folders(text) == public
    assert hide_folders({"a": [text, 1, None], "b": {"c": text}}) == {"a": [public, 1, None], "b": {"c": public}}


def test_a_command_can_be_shared():
    words = [
        "llava-st",
        "evaluate",
        "st-shapes",
        "--model=/home/me/x",
        "--output-dir",
        "/home/me/y",
        "--hub-token",
        "hf_1",
    ]
    words += ["--hub_token=hf_2", "a b"]
    assert write_public_command(words) == (
        "llava-st evaluate st-shapes --model=x --output-dir y --hub-token ... --hub_token=... 'a b'"
    )


def test_an_evaluation_says_nothing_of_this_machine(checkpoint, tmp_path):
    folder = tmp_path / "run"
    options = ["--num-clips", "1", "--tasks", "tvg", "--max-new-tokens", "40", "--quiet"]
    assert main(["evaluate", "st-shapes", "--model", str(checkpoint), *options, "--output-dir", str(folder)]) == 0
    for name in ("run.json", "metrics.json", "report.md"):
        assert str(tmp_path.parent) not in (folder / name).read_text(), name
    assert json.loads((folder / "run.json").read_text())["model"] == checkpoint.name


def test_a_run_says_nothing_of_this_machine_and_is_known_by_its_whole_plan(checkpoint, tmp_path):
    settings = {
        "model_name_or_path": str(checkpoint),
        "stage": "full_finetuning",
        "output_dir": str(tmp_path / "run"),
        "st_shapes": {"task_weights": ["rec"], "num_samples": 4, "size": 54},
        "max_steps": 1,
        "save_steps": 1,
        "bf16": False,
        "report_to": "none",
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(settings))
    assert main(["train", str(recipe)]) == 0
    text = (tmp_path / "run" / "run.json").read_text()
    assert str(tmp_path.parent) not in text
    assert json.loads(text)["model_name_or_path"] == checkpoint.name
    assert not (tmp_path / "run" / "_in_use.lock").exists()
    assert list((tmp_path / "run").glob("checkpoint-1/*.safetensors"))
    assert not [path for path in (tmp_path / "run").rglob("*.bin") if path.name == "training_args.bin"]
    for other in (["--learning_rate", "0.5"], ["--model_name_or_path", f"{checkpoint}/../other"]):
        assert main(["train", str(recipe), "--resume_from_checkpoint", "true", *other]) == 1
