"""What a stage starts from: what was loaded is checked, and the adapter of the stage before is merged."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_inputs import make_inputs

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.inference.loading import find_source, load_model, make_meta_model, prepare_base
from llava_st_hf.inference.pipeline import load_pipeline
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.training.stages import STAGES, apply_stage


@pytest.fixture
def adapter(checkpoint, tmp_path):
    """An adapter in which everything that is trained has moved, and the model that it is of."""
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    model = apply_stage(model, replace(STAGES["coordinate_alignment"], lora_rank=4)).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    folder = tmp_path / "adapter"
    model.save_pretrained(folder)
    LlavaSTProcessor.from_pretrained(checkpoint).save_pretrained(folder)
    return folder, model


def compute_logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**make_inputs(model)).logits


def test_an_adapter_is_merged_into_its_base(adapter, checkpoint, tmp_path):
    folder, model = adapter
    expected = compute_logits(model)
    merged = load_model(folder)
    assert type(merged) is LlavaSTForConditionalGeneration
    torch.testing.assert_close(compute_logits(merged), expected, atol=1e-4, rtol=1e-4)
    base = prepare_base(folder, tmp_path / "run")
    torch.testing.assert_close(compute_logits(load_model(base)), expected, atol=1e-4, rtol=1e-4)
    assert LlavaSTProcessor.from_pretrained(base).num_temporal_tokens == 100
    assert prepare_base(checkpoint, tmp_path / "run") == str(checkpoint)


def test_an_adapter_of_a_model_in_half_precision_is_what_its_merged_model_is(adapter, tmp_path):
    """Weights are rounded to bfloat16 in both; the frequencies of positions, which no file holds, in neither."""
    merged = load_model(adapter[0], dtype="bfloat16")
    merged.save_pretrained(tmp_path / "merged")
    whole = load_model(tmp_path / "merged", dtype="bfloat16")
    for tensors in ("named_parameters", "named_buffers"):
        expected = dict(getattr(whole, tensors)())
        for name, tensor in getattr(merged, tensors)():
            assert (tensor.dtype, name) == (expected[name].dtype, name) and torch.equal(tensor, expected[name])


def test_the_next_adapter_names_the_merged_base(adapter, tmp_path):
    base = prepare_base(adapter[0], tmp_path / "run")
    model = apply_stage(load_model(base), replace(STAGES["instruction_tuning"], lora_rank=4))
    model.save_pretrained(tmp_path / "next")
    content = json.loads((tmp_path / "next" / "adapter_config.json").read_text())
    assert content["base_model_name_or_path"] == base
    reloaded = LlavaSTForConditionalGeneration.from_pretrained(tmp_path / "next")
    torch.testing.assert_close(compute_logits(reloaded), compute_logits(load_model(base)))


def test_a_merged_base_is_made_once_and_never_half(adapter, tmp_path, monkeypatch):
    run = tmp_path / "run"
    merged = run / "merged_base"
    assert prepare_base(adapter[0], run, is_main_process=False) == str(merged)
    assert not merged.exists()
    with monkeypatch.context() as patch:
        patch.setattr(
            LlavaSTProcessor, "from_pretrained", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "disk full"))
        )
        with pytest.raises(OSError, match="disk full"):
            prepare_base(adapter[0], run)
    assert not merged.exists()
    prepare_base(adapter[0], run)
    first = (merged / "model.safetensors").stat().st_mtime_ns
    prepare_base(adapter[0], run)
    assert (merged / "model.safetensors").stat().st_mtime_ns == first
    weights = adapter[0] / "adapter_model.safetensors"
    save_file({name: 2 * value for name, value in load_file(weights).items()}, weights)
    prepare_base(adapter[0], run)
    assert (merged / "model.safetensors").stat().st_mtime_ns > first


def damage(folder, remove: str | None = None, add: str | None = None) -> None:
    tensors = load_file(folder)
    if remove:
        tensors.pop(next(name for name in tensors if remove in name))
    if add:
        tensors[add] = torch.zeros(2)
    save_file(tensors, folder, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"remove": "q_proj.lora_B"}, "lacks .*q_proj.lora_B"),
        ({"remove": "packer"}, "lacks .*packer"),
        ({"add": "base_model.model.other.weight"}, "no place in the model for base_model.model.other.weight"),
    ],
)
def test_an_adapter_with_other_weights_is_refused(adapter, change, message):
    damage(adapter[0] / "adapter_model.safetensors", **change)
    with pytest.raises(InputError, match=message):
        load_model(adapter[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"remove": "packer"}, "lacks model.packer"),
        ({"add": "model.other.weight"}, "no place in the model for model.other.weight"),
    ],
)
def test_a_checkpoint_with_other_weights_is_refused(checkpoint, tmp_path, change, message):
    shutil.copytree(checkpoint, tmp_path / "copy")
    damage(tmp_path / "copy" / "model.safetensors", **change)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path / "copy")


def test_an_adapter_without_its_base_is_refused(adapter):
    path = adapter[0] / "adapter_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "base_model_name_or_path": "/nowhere/base"}))
    with pytest.raises(InputError, match="base_model_name_or_path is '/nowhere/base'"):
        load_model(adapter[0])
    path.write_text(json.dumps({**content, "base_model_name_or_path": None}))
    with pytest.raises(InputError, match="base_model_name_or_path is missing"):
        load_model(adapter[0])
    path.write_text(json.dumps(content))
    (adapter[0] / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="does not exist: give the folder of a whole adapter"):
        load_model(adapter[0])


def test_an_adapter_that_is_not_finite_is_refused(adapter):
    weights = adapter[0] / "adapter_model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if "lora_B" in name)
    save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, weights)
    with pytest.raises(InputError, match="cannot be merged"):
        load_model(adapter[0])


def test_a_meta_model_reads_no_weights(adapter, checkpoint, tmp_path):
    (tmp_path / "config").mkdir()
    shutil.copy(checkpoint / "config.json", tmp_path / "config")
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        make_meta_model(tmp_path / "config")
    shutil.copy(checkpoint / "model.safetensors", tmp_path / "config")
    model = make_meta_model(tmp_path / "config")
    assert all(parameter.is_meta for parameter in model.parameters())
    assert make_meta_model(adapter[0]).config.text_config.hidden_size == model.config.text_config.hidden_size
    (tmp_path / "config" / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(InputError, match="model_type is 'qwen2'"):
        make_meta_model(tmp_path / "config")


def test_an_adapter_names_the_revision_of_its_base(adapter, monkeypatch):
    path = adapter[0] / "adapter_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "revision": "first-release"}))
    source = find_source(adapter[0], "of-the-adapter")
    assert (source.base, source.revision) == (content["base_model_name_or_path"], "first-release")
    asked = []
    load = LlavaSTForConditionalGeneration.from_pretrained
    monkeypatch.setattr(
        LlavaSTForConditionalGeneration,
        "from_pretrained",
        lambda *args, revision=None, **options: asked.append(revision) or load(*args, **options),
    )
    load_model(adapter[0])
    assert asked == ["first-release"]


def test_a_whole_model_is_no_adapter(adapter, checkpoint, tmp_path):
    assert find_source(checkpoint).adapter is None
    shutil.copytree(checkpoint, tmp_path / "both")
    shutil.copy(adapter[0] / "adapter_config.json", tmp_path / "both")
    assert find_source(tmp_path / "both").adapter is None
    (adapter[0] / "adapter_config.json").write_text("{")
    with pytest.raises(InputError, match=r"adapter_config\.json of .* cannot be read"):
        find_source(adapter[0])


def test_the_pipeline_answers_with_an_adapter(adapter):
    ground = load_pipeline(adapter[0])
    assert type(ground.model) is LlavaSTForConditionalGeneration
    torch.testing.assert_close(compute_logits(ground.model), compute_logits(load_model(adapter[0])))
