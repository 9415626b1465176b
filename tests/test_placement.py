"""Weights that lie elsewhere: offloaded to disk or CPU memory, on several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import distributed_training
import other_device
import pytest
import torch
from accelerate import cpu_offload, disk_offload
from distributed_training import count_supervised, make_sample
from small_inputs import make_inputs, make_labels
from torch.utils import backend_registration
from warm_process import run_together

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTModel

PARTS = ("vision_tower", "multi_modal_projector", "packer", "coordinate_embeddings", "language_model")


@pytest.fixture(scope="module")
def whole(checkpoint) -> LlavaSTForConditionalGeneration:
    return LlavaSTForConditionalGeneration.from_pretrained(checkpoint)


@torch.no_grad()
def assert_equal(model, whole) -> None:
    """Compare logits, loss and an answer."""
    inputs = make_inputs(whole)
    assert torch.equal(model(**inputs).logits, whole(**inputs).logits)
    labels = make_labels(inputs)
    assert torch.equal(model(**inputs, labels=labels).loss, whole(**inputs, labels=labels).loss)
    settings = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    assert torch.equal(model.generate(**inputs, **settings), whole.generate(**inputs, **settings))


@pytest.mark.parametrize("on_disk", [*PARTS, "all"])
def test_device_map_with_disk(checkpoint, whole, tmp_path, on_disk):
    device_map = {f"model.{part}": "disk" if on_disk in (part, "all") else "cpu" for part in PARTS}
    device_map["lm_head"] = "disk" if on_disk == "all" else "cpu"
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint, device_map=device_map, offload_folder=tmp_path)
    for part in PARTS:
        is_away = all(parameter.is_meta for parameter in getattr(model.model, part).parameters())
        assert is_away == (on_disk in (part, "all")), part
    assert_equal(model, whole)


def test_device_map_that_accelerate_makes(checkpoint, whole, tmp_path):
    size = sum(parameter.nbytes for parameter in whole.parameters())
    model = LlavaSTForConditionalGeneration.from_pretrained(
        checkpoint, device_map="auto", max_memory={"cpu": size // 2}, offload_folder=tmp_path
    )
    assert set(model.hf_device_map.values()) == {"cpu", "disk"}
    # The two tables are read together, and each attention of the packer is one operation.
    for name, module in model.named_modules():
        if type(module).__name__ in ("LlavaSTCoordinateEmbeddings", "LlavaSTPointToRegionAttention"):
            assert len({parameter.is_meta for parameter in module.parameters()}) == 1, name
    assert_equal(model, whole)


@pytest.mark.parametrize("way", ["cpu", "disk"])
def test_offload_of_a_loaded_model(checkpoint, whole, tmp_path, way):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    if way == "cpu":
        cpu_offload(model, execution_device=torch.device("cpu"))
    else:
        disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert_equal(model, whole)


def test_base_model_with_tables_on_disk(checkpoint, whole, tmp_path):
    device_map = dict.fromkeys(PARTS, "cpu") | {"coordinate_embeddings": "disk"}
    model = LlavaSTModel.from_pretrained(checkpoint, device_map=device_map, offload_folder=tmp_path)
    inputs = make_inputs(whole)
    with torch.no_grad():
        assert torch.equal(model(**inputs).last_hidden_state, whole.model(**inputs).last_hidden_state)


@pytest.fixture(scope="module")
def distributed(checkpoint, tmp_path_factory) -> Path:
    """A folder with what two processes computed together."""
    folder = tmp_path_factory.mktemp("distributed")
    run_together(distributed_training.main, 2, folder, checkpoint)
    return folder


@pytest.mark.parametrize("way", ["ddp", "ddp_text_only", "fsdp2"])
def test_two_processes_give_the_loss_and_gradients_of_one(distributed, checkpoint, way):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint).train()
    samples = [make_sample(model, index, way == "ddp_text_only") for index in range(2)]
    total = count_supervised(samples)
    loss = sum(model(**sample, num_items_in_batch=total).loss for sample in samples)
    loss.backward()
    actual = torch.load(distributed / f"{way}.pt")
    torch.testing.assert_close(actual["loss"], loss.detach(), rtol=1e-5, atol=1e-6)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert expected.keys() <= actual["gradients"].keys()
    for name, gradient in actual["gradients"].items():
        wanted = expected.get(name, torch.zeros_like(gradient))
        torch.testing.assert_close(
            gradient, wanted, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert expected["model.coordinate_embeddings.output_table"].abs().max() > 0


def test_model_sharded_by_fsdp2_saves_its_own_code(distributed, whole):
    """FSDP2 replaces the class of the model by one that is defined in torch."""
    saved = distributed / "saved"
    assert (saved / "modeling_llava_st.py").is_file()
    assert all(path.stem.endswith("_llava_st") for path in saved.glob("*.py"))
    reloaded, info = LlavaSTForConditionalGeneration.from_pretrained(saved, output_loading_info=True)
    assert not any(info.values()), info
    assert_equal(reloaded, whole)


@pytest.mark.slow
def test_training_evaluation_and_answers_stay_on_the_device_of_the_model(tmp_path):
    """On one that pretends to be another: nothing of this project makes a tensor on the CPU beside it."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch has no devices written in Python")
    command = [sys.executable, other_device.__file__, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    seen = json.loads(ended.stdout.splitlines()[-1])
    assert seen["devices"] == [other_device.NAME]
    assert {"loss_stvg", "loss_rec", "eval_loss_tvg", "eval_asked"} <= {
        name for entry in seen["log"] for name in entry
    }
    assert len(seen["answers"]) == 1 and seen["answers"][0].startswith("{<t_")
