"""Two processes train as one does with the same global batch."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import training_process
from safetensors.torch import load_file
from training_runs import TASK_WEIGHTS
from warm_process import run_together

from llava_st_hf.data.shapes import ShapesDataset, write_shapes
from llava_st_hf.training.trainer import find_last_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
FSDP2 = {
    "fsdp": True,
    "fsdp_config": {
        "fsdp_version": 2,
        "reshard_after_forward": True,
        "transformer_layer_cls_to_wrap": ["Qwen2DecoderLayer"],
        "cpu_ram_efficient_loading": False,
        "state_dict_type": "FULL_STATE_DICT",
    },
}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory) -> Path:
    """A mixture of files on disk."""
    folder = tmp_path_factory.mktemp("mixture")
    dataset = ShapesDataset(TASK_WEIGHTS, 15, num_frames=8, size=32, difficulty="easy")
    path = write_shapes(folder, dataset)
    (folder / "mixture.yaml").write_text(f"datasets:\n  - json_path: {path.name}\n    data_folder: .\n")
    return folder / "mixture.yaml"


def run(num_processes: int, folder: Path, checkpoint: Path, **settings) -> None:
    """Train in so many processes."""
    folder.mkdir(exist_ok=True)
    run_together(training_process.main, num_processes, folder, checkpoint, {**settings, "use_cpu": True})


def read_losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in json.loads((folder / "losses.json").read_text())]


@pytest.mark.parametrize(
    ("stage", "way"),
    [
        ("coordinate_alignment", {}),
        pytest.param("coordinate_alignment", FSDP2),
        pytest.param("from_scratch", {}, marks=pytest.mark.slow),
        pytest.param("from_scratch", FSDP2, marks=pytest.mark.slow),
    ],
    ids=["ddp_lora", "fsdp2_lora", "ddp_full", "fsdp2_full"],
)
def test_two_processes_train_as_one(checkpoint, mixture, tmp_path, stage, way):
    settings = {"mixture": str(mixture), "stage": stage, "max_steps": -1, "num_train_epochs": 1}
    (tmp_path / "one").mkdir()
    training_process.main(tmp_path / "one", checkpoint, {**settings, "per_device_train_batch_size": 4})
    saving = {"save_strategy": "epoch"}
    run(2, tmp_path / "two", checkpoint, per_device_train_batch_size=2, **settings, **saving, **way)
    assert read_losses(tmp_path / "two") == pytest.approx(read_losses(tmp_path / "one"), rel=1e-5)
    facts = json.loads((tmp_path / "two" / "facts.json").read_text())
    assert facts["processes"] == 2
    assert (facts["sharded"] > 0) == bool(way)
    read = [[int(line) for line in (tmp_path / "two" / f"read-{rank}.txt").read_text().split()] for rank in range(2)]
    assert sorted(read[0] + read[1]) == list(range(15))
    weights = [torch.load(tmp_path / name / "weights.pt") for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(
            weights[1][name], value, atol=2e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )
    saved = read_saved(Path(find_last_checkpoint(tmp_path / "two")))
    assert saved
    for name, value in saved.items():
        assert torch.equal(weights[1][name], value), name


@pytest.mark.slow
def test_a_split_model_goes_on_to_the_same_weights(checkpoint, mixture, tmp_path):
    settings = {"mixture": str(mixture), "stage": "coordinate_alignment", "max_steps": 3, "save_strategy": "steps"}
    settings |= {"save_steps": 2, "per_device_train_batch_size": 2, **FSDP2}
    run(2, tmp_path / "whole", checkpoint, **settings)
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "resumed" / "checkpoint-2")
    run(2, tmp_path / "resumed", checkpoint, resume=True, **settings)
    whole, resumed = (torch.load(tmp_path / name / "weights.pt") for name in ("whole", "resumed"))
    started = load_file(tmp_path / "whole" / "checkpoint-2" / "adapter_model.safetensors")
    ended = load_file(tmp_path / "resumed" / "checkpoint-3" / "adapter_model.safetensors")
    assert not all(torch.equal(value, ended[name]) for name, value in started.items())
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def read_saved(folder: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint under their names in training, of an adapter as well."""
    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    saved = load_file(folder / "adapter_model.safetensors")
    names = {name: re.sub(r"(lora_[AB])\.", r"\1.default.", name) for name in saved}
    copied = re.compile(r"(\.packer|\.coordinate_embeddings)\.")  # trained in full
    return {copied.sub(r"\1.modules_to_save.default.", names[name]): value for name, value in saved.items()}
