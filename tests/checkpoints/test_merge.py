"""An adapter becomes a whole model that answers as the adapter does, or nothing is written."""

import json
import shutil

import pytest
import torch
from random_checkpoint import make_random_adapter

from llava_st_cli import main
from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.checkpoints import merge_checkpoint
from llava_st_hf.hub.training_facts import TrainedSource, TrainingFacts
from llava_st_hf.inference.loading import find_model_folder, load_model
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.utils.folder_locks import locking

SOURCE = TrainedSource("clips", "MIT", None, None, None, num_records=12, per_epoch=12)
TRAINING = TrainingFacts(
    "custom_grounding_lora", "base", None, None, [SOURCE], {}, {}, "CPU", 0.1, False, 6, 12, 3.4, "2026-01-31"
)


@pytest.fixture(scope="module")
def adapter(checkpoint, tmp_path_factory):
    """An adapter whose weights are not zero, with its processor and card."""
    folder = make_random_adapter(checkpoint, tmp_path_factory.mktemp("run") / "adapter", rank=4, scale=0.1)
    TRAINING.save(folder)
    return folder


def test_a_merged_model_has_the_weights_of_the_adapter_in_its_base(adapter, checkpoint, tmp_path, capsys):
    folder = tmp_path / "deep" / "merged"
    assert main(["merge", str(adapter), "--to", str(folder), "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)
    merged = LlavaSTForConditionalGeneration.from_pretrained(folder).state_dict()
    expected, base = load_model(adapter).state_dict(), load_model(checkpoint).state_dict()
    assert all(torch.equal(merged[name], expected[name]) for name in expected)
    assert not torch.equal(
        merged["model.language_model.layers.0.mlp.up_proj.weight"],
        base["model.language_model.layers.0.mlp.up_proj.weight"],
    )
    LlavaSTProcessor.from_pretrained(folder)
    assert (folder / "generation_config.json").is_file()
    card = (folder / "README.md").read_text()
    assert f"The adapter `adapter`, merged into its base `{checkpoint.name}` by `llava-st merge`." in card
    assert (
        "# merged\n" in card and "| clips | MIT | not stated | 12 | 12 |" in card and 'load_pipeline("path/to/' in card
    )


def test_nothing_is_overwritten_and_nothing_half_is_left(adapter, checkpoint, tmp_path, monkeypatch):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="taken is not empty"):
        merge_checkpoint(adapter, taken)
    with pytest.raises(InputError, match="is no adapter"):
        merge_checkpoint(checkpoint, tmp_path / "merged")
    with pytest.raises(InputError, match="is no adapter"):
        merge_checkpoint(taken, tmp_path / "merged")

    def fail(*args, **kwargs):
        raise OSError("the disk is full")

    monkeypatch.setattr(LlavaSTProcessor, "save_pretrained", fail)
    with pytest.raises(InputError, match=r"could not be written \(the disk is full\)"):
        merge_checkpoint(adapter, tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_two_at_a_time_are_refused_and_a_missing_processor_is_named(adapter, tmp_path):
    with locking(tmp_path / "merged.lock", "tests"), pytest.raises(InputError, match="is in use by process"):
        merge_checkpoint(adapter, tmp_path / "merged")
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in adapter.glob("adapter_*"):
        shutil.copy(path, bare)
    with pytest.raises(InputError, match=r"bare has no processor that can be read \(.*\): save it there"):
        merge_checkpoint(bare, tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def test_a_run_without_a_final_adapter_is_asked_through_its_newest_checkpoint(adapter, tmp_path, caplog):
    for number in (9, 10):
        shutil.copytree(adapter, tmp_path / f"checkpoint-{number}")
    assert find_model_folder(tmp_path) == str(tmp_path / "checkpoint-10")
    assert "holds no finished model: its newest checkpoint, checkpoint-10, is taken" in caplog.text
    assert merge_checkpoint(tmp_path, tmp_path / "merged").path.is_dir()
    shutil.copy(adapter / "adapter_config.json", tmp_path)
    assert find_model_folder(tmp_path) == str(tmp_path)


def test_info_shows_an_adapter(adapter, checkpoint, capsys):
    assert main(["info", "--model", str(adapter), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["adapter"] == "LORA of rank 4, alpha 8"
    assert facts["adapter of"] == str(checkpoint)
    assert facts["parameters"] > 0
