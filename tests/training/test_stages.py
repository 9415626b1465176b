"""Who trains: each stage on gradients, rates, precision, the table, and what cannot be asked for."""

import re
from dataclasses import replace

import pytest
import torch
from small_inputs import make_inputs, make_labels

from llava_st_hf import LlavaSTForConditionalGeneration
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.training.stages import (
    MODULES,
    STAGES,
    ModulePlan,
    StagePlan,
    apply_stage,
    find_module,
    format_stage_table,
    get_media_token_ids,
    get_stage,
)

# What each stage trains, said once more: LoRA or not, and the modules in full.
TRAINED = {
    "content_alignment": (False, ("packer",)),
    "coordinate_alignment": (True, ("packer", "coordinate_embeddings")),
    "instruction_tuning": (True, ("packer", "coordinate_embeddings")),
    "custom_grounding_lora": (True, ("packer", "coordinate_embeddings")),
}
# The final norm of the vision tower is never read; a constant added to every key leaves attention as it is.
NEVER_MOVES = r"post_layernorm|key_(norm|proj)\.bias|k_proj\.bias"


@pytest.fixture
def load(checkpoint):
    return lambda **options: LlavaSTForConditionalGeneration.from_pretrained(checkpoint, **options)


def small(name: str) -> StagePlan:
    return replace(STAGES[name], lora_rank=4, lora_dropout=0.0)


def list_trained(names: list[str], stage: str) -> set[str]:
    """Return what the parameters that a stage trains are called, from the names that the model had before."""
    if stage == "from_scratch":
        return set(names)
    if stage == "full_finetuning":
        return {name for name in names if ".vision_tower." not in name}
    has_lora, modules = TRAINED[stage]
    trained = set()
    for name in names:
        for module in modules:
            if f".{module}." in name:
                copied = name.replace(f".{module}.", f".{module}.modules_to_save.default.")
                trained.add(f"base_model.model.{copied}")
        if has_lora and "language_model" in name and name.endswith("proj.weight"):
            layer = name.removesuffix("weight")
            trained |= {f"base_model.model.{layer}lora_{side}.default.weight" for side in "AB"}
    return trained


def take_step(model, inputs) -> set[str]:
    """Take a step of plain gradient descent and return the names of what moved."""
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the gradient of lora_A
            torch.nn.init.normal_(parameter, std=0.1)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model.train()
    model(**inputs, labels=make_labels(inputs)).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= parameter.grad.sign() * (parameter.grad.abs() > 1e-9)
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


@pytest.mark.parametrize("name", STAGES)
def test_what_should_move_moves_and_nothing_else(load, name):
    plain = load()
    inputs = make_inputs(plain)
    expected = list_trained([parameter for parameter, _ in plain.named_parameters()], name)
    model = apply_stage(plain, small(name))
    assert {parameter for parameter, value in model.named_parameters() if value.requires_grad} == expected
    moved = take_step(model, inputs)
    assert moved <= expected
    still = {parameter for parameter in expected - moved if not re.search(NEVER_MOVES, parameter)}
    assert not still


def test_rows_of_raw_media_tokens_train_only_where_they_are_embedded(load):
    plan, model = small("content_alignment"), load()
    rows = [5, 6, 7]
    inputs = make_inputs(model)
    before = model.get_input_embeddings().weight.detach().clone()
    inputs["input_ids"][:, :3] = torch.tensor(rows)  # as if they were the raw tokens of a fast stream
    adapted = apply_stage(model, plan, rows)
    name = "base_model.model.model.language_model.embed_tokens.token_adapter.trainable_tokens_delta.default"
    assert find_module(name) == "media_token_embeddings"
    assert adapted.get_parameter(name).requires_grad
    assert name in take_step(adapted, inputs)
    merged = adapted.merge_and_unload()
    changed = (merged.get_input_embeddings().weight != before).any(-1).nonzero()[:, 0].tolist()
    assert changed == rows
    spliced = apply_stage(load(), plan)
    assert not any("token_adapter" in parameter for parameter, _ in spliced.named_parameters())


def test_raw_media_tokens_are_those_of_the_processor(checkpoint):
    class Processor:
        splice_fast_tokens = True

    assert get_media_token_ids(Processor()) == []
    from llava_st_hf import LlavaSTProcessor

    processor = LlavaSTProcessor.from_pretrained(checkpoint)
    processor.tokenizer.add_tokens(["<vid_start>", "<vid_patch>", "<vid_end>"])
    processor.splice_fast_tokens = False
    ids = get_media_token_ids(processor)
    assert processor.tokenizer.convert_ids_to_tokens(ids) == ["<vid_start>", "<vid_patch>", "<vid_end>"]


def test_published_rates_and_lora():
    for name in ("coordinate_alignment", "instruction_tuning"):
        plan = STAGES[name]
        rates = {row.module: row.learning_rate for row in plan.rows}
        assert rates["language_model"] == 2e-4
        assert rates["packer"] == rates["coordinate_embeddings"] == 2e-5
        assert (plan.lora_rank, plan.lora_alpha, plan.lora_dropout) == (128, None, 0.05)
    assert STAGES["content_alignment"].learning_rate == 1e-4
    assert STAGES["custom_grounding_lora"].lora_rank < 128


@pytest.mark.parametrize("name", ["content_alignment", "coordinate_alignment"])
def test_trained_weights_are_float32_where_the_base_is_not(load, name):
    model = apply_stage(load(dtype=torch.bfloat16), small(name))
    for parameter, value in model.named_parameters():
        assert value.dtype == (torch.float32 if value.requires_grad else torch.bfloat16), parameter
    rows = tuple(replace(row, dtype="bfloat16") for row in small(name).rows)
    model = apply_stage(load(dtype=torch.bfloat16), replace(small(name), rows=rows))
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}


def test_a_half_precision_base_trains_under_autocast(load):
    model = apply_stage(load(dtype=torch.bfloat16), small("coordinate_alignment")).train()
    inputs = make_inputs(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**inputs, labels=make_labels(inputs)).loss
    loss.backward()
    assert torch.isfinite(loss)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_table_counts_what_is_trained(load):
    plan = small("coordinate_alignment")
    model = apply_stage(load(), plan)
    lines = format_stage_table(model, plan).splitlines()
    rows = {line.split()[0]: line.split() for line in lines[2:]}
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert rows["total"][2] == f"{trained:,}"
    assert rows["language_model"][1] == "lora"
    assert rows["vision_tower"][1:] == ["frozen", rows["vision_tower"][2], "0", "float32"]
    assert rows["packer"][-2:] == ["2e-05", "float32"]
    assert rows["packer"][2] == rows["packer"][3]  # the copy that PEFT keeps does not count


def test_every_parameter_belongs_to_a_module(load):
    assert {find_module(name) for name, _ in load().named_parameters()} < set(MODULES)
    with pytest.raises(InputError, match=r"'other\.weight' belongs to none"):
        find_module("other.weight")


def test_other_rates():
    plan = STAGES["coordinate_alignment"].with_learning_rates({"packer": 3e-5}, default=1e-3)
    rates = {row.module: row.learning_rate for row in plan.rows}
    assert rates["packer"] == 3e-5
    assert rates["language_model"] == rates["coordinate_embeddings"] == plan.learning_rate == 1e-3
    with pytest.raises(InputError, match="'vision_tower', which stage 'coordinate_alignment' does not train"):
        STAGES["coordinate_alignment"].with_learning_rates({"vision_tower": 1e-5})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModulePlan("head"), "module is 'head'"),
        (lambda: ModulePlan("packer", "half"), "training of packer is 'half'"),
        (lambda: ModulePlan("packer", "lora", 1e-4), "only the language_model takes LoRA"),
        (lambda: ModulePlan("packer", "full"), "learning_rate of packer is None"),
        (lambda: ModulePlan("packer", "frozen", 1e-4), "learning_rate of packer is 0.0001"),
        (lambda: ModulePlan("packer", "full", -1.0), "learning_rate of packer is -1.0"),
        (lambda: ModulePlan("packer", "full", 1e-4, "float16"), "dtype of packer is 'float16'"),
        (lambda: StagePlan("empty", (ModulePlan("packer"),)), "train nothing"),
        (lambda: StagePlan("twice", (ModulePlan("packer", "full", 1e-4),) * 2), "name packer twice"),
        (
            lambda: StagePlan(
                "rows", tuple(ModulePlan(m, "full", 1e-4) for m in ("language_model", "media_token_embeddings"))
            ),
            "media_token_embeddings twice",
        ),
        (lambda: get_stage("stage4"), "stage is 'stage4'"),
    ],
)
def test_plans_that_do_not_fit(make, message):
    with pytest.raises(InputError, match=message):
        make()
