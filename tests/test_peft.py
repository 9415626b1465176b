"""LoRA on the language model, with the coordinate tables and the packer trained in full."""

import re
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from small_inputs import make_inputs, make_labels

from llava_st_hf import LlavaSTForConditionalGeneration
from llava_st_hf.training.lora import FULLY_TRAINED_MODULES, make_lora_config


@pytest.fixture
def load(checkpoint):
    def load_model() -> LlavaSTForConditionalGeneration:
        return LlavaSTForConditionalGeneration.from_pretrained(checkpoint)

    return load_model


def train(model: LlavaSTForConditionalGeneration, seed: int, **config) -> PeftModel:
    """Take two steps far enough that the adapter changes every answer."""
    torch.manual_seed(seed)
    adapted = get_peft_model(model, make_lora_config(**{"rank": 4, "dropout": 0.0, **config})).train()
    optimizer = torch.optim.AdamW([weight for weight in adapted.parameters() if weight.requires_grad], lr=1e-2)
    inputs = make_inputs(model, seed=seed)
    for _ in range(2):
        adapted(**inputs, labels=make_labels(inputs)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return adapted.eval()


@pytest.fixture(scope="module")
def adapters(checkpoint, tmp_path_factory) -> dict[str, tuple[Path, torch.Tensor]]:
    """Two trained adapters: the folder of each, and the logits that it gave before it was saved."""
    made = {}
    for seed, name in enumerate(("first", "second")):
        folder = tmp_path_factory.mktemp(name)
        adapted = train(LlavaSTForConditionalGeneration.from_pretrained(checkpoint), seed)
        adapted.save_pretrained(folder)
        made[name] = (folder, compute_logits(adapted))
    return made


@torch.no_grad()
def compute_logits(model) -> torch.Tensor:
    return model(**make_inputs(model)).logits


def is_adapted(name: str) -> bool:
    return "lora_" in name or "modules_to_save" in name


def test_published_hyperparameters():
    config = make_lora_config()
    assert (config.r, config.lora_alpha, config.lora_dropout) == (128, 256, 0.05)
    assert make_lora_config(8, alpha=4, modules_to_save=None).lora_alpha == 4
    assert make_lora_config(8, modules_to_save=None).modules_to_save is None


def test_bad_rank_and_missing_library(monkeypatch):
    with pytest.raises(ValueError, match="rank is 0"):
        make_lora_config(0)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match="pip install peft"):
        make_lora_config()


def test_every_linear_layer_of_the_language_model_is_adapted_and_no_other(load):
    adapted = get_peft_model(load(), make_lora_config(4))
    layers = {name.rpartition(".lora_A")[0] for name, _ in adapted.named_modules() if name.endswith(".lora_A")}
    expected = {
        f"base_model.model.{name}"
        for name, module in load().named_modules()
        if isinstance(module, torch.nn.Linear) and "language_model" in name
    }
    assert layers == expected
    assert len(layers) == 7 * 2


def test_gradients_reach_exactly_what_should_move(load):
    model = load()
    adapted = get_peft_model(model, make_lora_config(4, dropout=0.0)).train()
    for name, parameter in adapted.named_parameters():
        assert parameter.requires_grad == is_adapted(name), name
        if "lora_B" in name:  # zero at first, which would hide the gradient of lora_A
            torch.nn.init.normal_(parameter, std=0.1)
    inputs = make_inputs(model)
    adapted(**inputs, labels=make_labels(inputs)).loss.backward()
    moved = {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
    assert moved == {name for name, _ in adapted.named_parameters() if is_adapted(name)}
    # A constant added to every key leaves the attention as it is: there is no gradient for it.
    still = {name for name in moved if not adapted.get_parameter(name).grad.abs().max() > 1e-9}
    assert all(re.search(r"packer\.\S+\.key_(norm|proj)\.bias$", name) for name in still), still
    for table in ("input_table", "output_table"):
        rows = adapted.get_parameter(f"base_model.model.model.coordinate_embeddings.modules_to_save.default.{table}")
        # Neighbouring-token propagation is inside the module that was wrapped: every row learns.
        assert (rows.grad.abs().sum(-1) > 0).all()


def test_adapter_holds_only_what_was_trained(adapters):
    with safe_open(adapters["first"][0] / "adapter_model.safetensors", framework="pt") as tensors:
        names = list(tensors.keys())
    assert {"base_model.model.model.coordinate_embeddings.input_table"} < set(names)
    assert all("lora_" in name or any(f".{module}." in name for module in FULLY_TRAINED_MODULES) for name in names)
    assert not any("vision_tower" in name for name in names)


def test_adapters_change_the_answer(load, adapters):
    logits = [compute_logits(load().eval()), adapters["first"][1], adapters["second"][1]]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (logits[one] - logits[other]).abs().max() > 0.1


def test_save_and_reload_are_equal(load, adapters):
    folder, expected = adapters["first"]
    assert torch.equal(compute_logits(PeftModel.from_pretrained(load(), folder)), expected)


def test_merge_is_equal_and_gives_an_ordinary_model(load, adapters, tmp_path):
    folder, expected = adapters["first"]
    merged = PeftModel.from_pretrained(load(), folder).merge_and_unload()
    assert type(merged) is LlavaSTForConditionalGeneration
    torch.testing.assert_close(compute_logits(merged), expected, atol=1e-5, rtol=1e-5)
    merged.save_pretrained(tmp_path)
    reloaded, info = LlavaSTForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert torch.equal(compute_logits(reloaded), compute_logits(merged))


def test_load_adapter_of_transformers_is_equal(load, adapters):
    folder, expected = adapters["first"]
    model = load().eval()
    model.load_adapter(str(folder))
    assert torch.equal(compute_logits(model), expected)


def test_adapter_made_by_transformers_is_read_by_peft(load, tmp_path):
    model = load()
    torch.manual_seed(0)
    try:
        model.add_adapter(make_lora_config(4))
    except ValueError as error:
        pytest.skip(f"this transformers takes no PEFT as old as the one here: {error}")
    for name, parameter in model.named_parameters():
        if is_adapted(name):
            torch.nn.init.normal_(parameter, std=0.1)
    model.eval().save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert torch.equal(compute_logits(PeftModel.from_pretrained(load(), tmp_path)), compute_logits(model))


def test_two_adapters_beside_each_other(load, adapters):
    model = PeftModel.from_pretrained(load(), adapters["first"][0], adapter_name="first")
    model.load_adapter(adapters["second"][0], adapter_name="second")
    for name in ("second", "first", "second"):
        model.set_adapter(name)
        assert torch.equal(compute_logits(model.eval()), adapters[name][1])


def test_hot_swap_is_equal(load, adapters):
    model = load().eval()
    model.load_adapter(str(adapters["first"][0]), adapter_name="default")
    weights = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    for name in ("second", "first"):
        model.load_adapter(str(adapters[name][0]), adapter_name="default", hotswap=True)
        assert torch.equal(compute_logits(model), adapters[name][1])
    assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == weights


def test_disabled_adapter_leaves_the_model_as_it_was(load, adapters):
    model = PeftModel.from_pretrained(load(), adapters["first"][0])
    with model.disable_adapter():
        assert torch.equal(compute_logits(model), compute_logits(load()))


def test_generate_equals_the_merged_model(load, adapters):
    adapted = PeftModel.from_pretrained(load(), adapters["first"][0])
    inputs = make_inputs(adapted)
    settings = {"max_new_tokens": 8, "do_sample": False, "min_new_tokens": 8}
    generated = adapted.generate(**inputs, **settings)
    assert torch.equal(generated, adapted.merge_and_unload().generate(**inputs, **settings))


def test_gradient_checkpointing_gives_the_same_gradients(load):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = load()
        adapted = get_peft_model(model, make_lora_config(4, dropout=0.0)).train()
        if checkpointing:
            adapted.enable_input_require_grads()
            adapted.gradient_checkpointing_enable()
        inputs = make_inputs(model)
        adapted(**inputs, labels=make_labels(inputs)).loss.backward()
        gradients.append({name: p.grad for name, p in adapted.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-5)


def test_all_linear_would_reach_the_vision_tower(load):
    """Why the recommended target is a regular expression."""
    adapted = get_peft_model(load(), LoraConfig(r=4, target_modules="all-linear"))
    assert any("vision_tower" in name and "lora_A" in name for name, _ in adapted.named_modules())
