"""What would end a run is found before any weight is read, all of it at once."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from llava_st_cli import main
from llava_st_hf.demo import write_demo_clip
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.training.recipe import read_recipe
from llava_st_hf.training.run import run_recipe

GOOD = {"video": "clip.mp4", "query": "the red circle", "span_seconds": [0.5, 2.0]}
PAST_THE_END = {**GOOD, "span_seconds": [0.5, 900.0]}


@pytest.fixture(scope="module")
def demo_clip(tmp_path_factory) -> Path:
    return write_demo_clip(tmp_path_factory.mktemp("demo") / "clip.mp4")


@pytest.fixture
def write(tmp_path, checkpoint, demo_clip):
    """Writes a recipe with its mixtures; without records for it nothing is held out."""

    def write(records: list[dict], held_out: list[dict] | None = None, **changes) -> Path:
        shutil.copy(demo_clip, tmp_path / "clip.mp4")
        for name, rows in (("mixture", records), ("eval_mixture", held_out)):
            lines = "".join(json.dumps(row) + "\n" for row in rows or [])
            (tmp_path / f"{name}.jsonl").write_text(lines)
            source = {"json_path": f"{name}.jsonl", "data_folder": ".", "source": name, "format": "user_jsonl"}
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"datasets": [source]}))
        content = {
            "model_name_or_path": str(checkpoint),
            "stage": "custom_grounding_lora",
            "lora_rank": 4,
            "output_dir": "run",
            "mixture": "mixture.yaml",
            **({"eval_mixture": "eval_mixture.yaml", "eval_strategy": "steps"} if held_out else {}),
            "num_frames": 8,
            "max_steps": 2,
            "per_device_train_batch_size": 1,
            "activation_checkpointing": False,
            **changes,
        }
        path = tmp_path / "sft.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def dry_run(path: Path) -> str:
    shown = []
    run_recipe(read_recipe(path), report=shown.append, dry_run=True)
    return "\n".join(shown)


def test_a_dry_run_reads_numbers_and_headers_of_all_records(write):
    text = dry_run(write([GOOD, PAST_THE_END, {**GOOD, "video": "none.mp4"}], [GOOD | {"query": "a dog"}]))
    assert "2 of 3 records skipped" in text
    assert "the time 900.0 s is outside the clip" in text and "none.mp4" in text
    assert "eval_mixture: what is in its records" in text
    assert "tokens of task" in text


@pytest.mark.parametrize(
    ("held_out", "changes", "found"),
    [
        (None, {}, "All is well: 2 steps of 1 record, up to "),
        (
            [GOOD | {"query": "a dog"}],
            {"eval_steps": 1},
            "All is well: 2 steps of 1 record, evaluated 2 times, up to ",
        ),
        (
            [GOOD | {"query": "a dog"}],
            {"eval_steps": 0.5, "max_steps": -1, "num_train_epochs": 8, "gradient_accumulation_steps": 2},
            "All is well: 8 steps of 2 records, evaluated 2 times, up to ",
        ),
    ],
)
def test_a_dry_run_that_finds_nothing_ends_with_what_the_run_does(write, held_out, changes, found):
    last = dry_run(write([GOOD, GOOD | {"query": "a cat"}], held_out, **changes)).splitlines()[-1]
    assert last.startswith(found) and last.endswith("run.")


@pytest.mark.parametrize("name", ["mixture", "eval_mixture"])
@pytest.mark.parametrize("is_dry", [True, False])
def test_records_none_of_which_can_be_used_end_a_run_before_it_begins(write, tmp_path, name, is_dry):
    records = {"mixture": [GOOD], "eval_mixture": [GOOD], name: [PAST_THE_END]}
    recipe = read_recipe(write(records["mixture"], records["eval_mixture"]))
    with pytest.raises(InputError, match=rf"^{name}: none of 1 record can be used; .* 900\.0 s is outside"):
        run_recipe(recipe, report=len, dry_run=is_dry)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 40}, r"none of 1 record can be used; .* \(too_long\)"),
        ({"model_name_or_path": "./nowhere"}, "model_name_or_path is .*nowhere: there is no such folder"),
        ({"dtype": "bfloat16"}, "the weights are bfloat16, float32, and neither bf16 nor fp16 is on"),
        (
            {"dtype": "float16", "bf16": True, "use_cpu": True},
            "the weights are float16, float32, and bf16 is on: set dtype to bfloat16 or float32",
        ),
        ({"dtype": "half"}, "dtype is 'half': choose one of auto"),
        ({"attn_implementation": "flash_attention_9"}, "attn_implementation is 'flash_attention_9'"),
        ({"output_dir": "mixture.yaml/run"}, "output_dir is .* is a file"),
    ],
)
def test_what_would_end_a_run_is_found(write, changes, message):
    with pytest.raises(InputError, match=message):
        dry_run(write([GOOD], **changes))


def test_a_disk_without_room_is_found(write, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5))
    with pytest.raises(InputError, match=r"run needs .* GB and its disk has 0\.0 GB free"):
        dry_run(write([GOOD]))


def test_a_model_without_its_weights_is_found(write, tmp_path, checkpoint):
    shutil.copytree(checkpoint, tmp_path / "half", ignore=lambda *_: ["model.safetensors"])
    with pytest.raises(InputError, match=r"model\.safetensors is missing from"):
        dry_run(write([GOOD], model_name_or_path="./half"))


def test_all_that_was_found_is_said_at_once(write):
    with pytest.raises(InputError, match=r"^3 things would end this run: \(1\) .* \(2\) .* \(3\) ") as caught:
        dry_run(write([PAST_THE_END], model_name_or_path="./nowhere", output_dir="mixture.yaml/run"))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_opened_is_said_with_all_else(write):
    words = r"^3 things would end this run: .*is a file.* eval_strategy is .no., and nothing is evaluated.*nowhere"
    with pytest.raises(InputError, match=words):
        dry_run(
            write([GOOD], [GOOD], eval_strategy="no", model_name_or_path="./nowhere", output_dir="mixture.yaml/run")
        )


def test_data_check_looks_at_a_recipe(write, capsys):
    path = write([GOOD, PAST_THE_END])
    assert main(["data", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "1 of 2 records skipped" in out and "stage custom_grounding_lora" in out
    assert out.splitlines()[-2].startswith("All is well: 2 steps of 1 record, up to ")
    assert main(["data", "check", str(path), "--num-frames", "9"]) == 1
    assert "--num-frames is given, but" in capsys.readouterr().err
    assert main(["data", "check", str(write([PAST_THE_END]))]) == 1
    assert "none of 1 record can be used" in capsys.readouterr().err
