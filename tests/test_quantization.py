"""Half precision, and weights in 8 bits with the coordinate tables kept as they are."""

import pytest
import torch
from small_inputs import make_inputs, make_labels
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, TorchAoConfig
from transformers.quantizers.base import get_keys_to_not_convert

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTModel

TABLES = ("input_table", "output_table")


@pytest.fixture(scope="module")
def reference(checkpoint) -> LlavaSTForConditionalGeneration:
    return LlavaSTForConditionalGeneration.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def expected(reference) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and loss in float32."""
    return compute(reference)


@torch.no_grad()
def compute(model) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = make_inputs(model)
    return model(**inputs).logits.float(), model(**inputs, labels=make_labels(inputs)).loss


def relative_error(actual: torch.Tensor, reference: torch.Tensor) -> float:
    return float((actual - reference).norm() / reference.norm())


# ----------------------------------------------------------------------------------------------------
# Half precision
# ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 0.03), (torch.float16, 0.005)])
def test_half_precision_is_close(checkpoint, expected, dtype, error):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    logits, loss = compute(model)
    assert relative_error(logits, expected[0]) < error
    assert loss.dtype == torch.float32  # summed in float32 whatever the model is in
    assert loss.item() == pytest.approx(expected[1].item(), rel=error)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_and_generates(checkpoint, dtype):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint, dtype=dtype)
    inputs = make_inputs(model)
    model.train()(**inputs, labels=make_labels(inputs)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    generated = model.eval().generate(**inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert generated.shape[1] == inputs["input_ids"].shape[1] + 6


@torch.no_grad()
def test_offsets_keep_their_precision_as_targets(checkpoint):
    """Near 1 the step of bfloat16 is 1/256, of which a coordinate refined below its bin would still feel 1/1000."""
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.bfloat16)
    inputs = make_inputs(model)
    labels = make_labels(inputs, supervised=3)  # the x coordinate and two words behind it
    hidden = model.model(**inputs).last_hidden_state[:, :-1]
    _, output_table = model.model.coordinate_embeddings()
    losses = []
    for offset in (0.9, 0.901):
        offsets = torch.zeros_like(inputs["coordinate_offsets"])
        offsets[:, -3] = offset
        losses.append(model._compute_loss(hidden, labels[:, 1:], offsets[:, 1:], output_table, None))
    assert losses[0] != losses[1]


# ----------------------------------------------------------------------------------------------------
# 8 bits
# ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def int8(checkpoint) -> LlavaSTForConditionalGeneration:
    quantization = pytest.importorskip("torchao.quantization")
    return AutoModelForImageTextToText.from_pretrained(
        checkpoint, quantization_config=TorchAoConfig(quantization.Int8WeightOnlyConfig())
    )


def list_quantized(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if type(parameter.data) is not torch.Tensor}


def test_8_bit_weights_leave_out_tables_and_head(int8, reference):
    quantized = list_quantized(int8)
    linear = {f"{name}.weight" for name, module in reference.named_modules() if isinstance(module, torch.nn.Linear)}
    assert quantized == linear - {"lm_head.weight"}
    for table in TABLES:
        kept = getattr(int8.model.coordinate_embeddings, table)
        assert kept.dtype == torch.float32
        assert torch.equal(kept, getattr(reference.model.coordinate_embeddings, table))


def test_8_bit_answers_are_close(int8, expected):
    logits, loss = compute(int8)
    assert relative_error(logits, expected[0]) < 0.03
    assert not torch.equal(logits, expected[0])
    assert loss.item() == pytest.approx(expected[1].item(), rel=0.01)


def test_8_bit_weights_generate(int8):
    inputs = make_inputs(int8)
    generated = int8.generate(**inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert generated.shape[1] == inputs["input_ids"].shape[1] + 6


def test_8_bit_weights_save_and_load(int8, tmp_path):
    int8.save_pretrained(tmp_path)
    reloaded, info = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert list_quantized(reloaded) == list_quantized(int8)
    assert torch.equal(compute(reloaded)[0], compute(int8)[0])


def test_8_bit_base_model(checkpoint):
    quantization = pytest.importorskip("torchao.quantization")
    model = LlavaSTModel.from_pretrained(
        checkpoint, quantization_config=TorchAoConfig(quantization.Int8WeightOnlyConfig())
    )
    assert any("language_model" in name for name in list_quantized(model))
    assert not any("table" in name for name in list_quantized(model))
    with torch.no_grad():
        assert torch.isfinite(model(**make_inputs(model)).last_hidden_state).all()


def test_what_a_quantizer_leaves_out_by_itself(reference):
    assert get_keys_to_not_convert(reference) == ["lm_head"]


def test_tables_are_out_of_reach_of_quantizers(reference):
    """Every quantizer of transformers replaces modules of the classes Linear, Conv and Embedding."""
    parts = list(reference.model.coordinate_embeddings.modules())
    assert parts == [reference.model.coordinate_embeddings]


@pytest.fixture(scope="module")
def wide_checkpoint(checkpoint, tmp_path_factory):
    """A model whose layers are as wide as a block of bitsandbytes, or a multiple of it."""
    config = LlavaSTConfig.from_pretrained(checkpoint)
    config.text_config.hidden_size = 128
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wide")
    LlavaSTForConditionalGeneration(config).save_pretrained(folder)
    return folder


# On a CPU it is slower than no quantization at all, but goes the same ways through the model.
@pytest.mark.parametrize(("bits", "error"), [(8, 0.05), (4, 0.5)])
def test_bitsandbytes(wide_checkpoint, bits, error):
    pytest.importorskip("bitsandbytes")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reference = LlavaSTForConditionalGeneration.from_pretrained(wide_checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(
        wide_checkpoint,
        quantization_config=BitsAndBytesConfig(load_in_8bit=bits == 8, load_in_4bit=bits == 4),
        dtype=torch.float32,
        device_map={"": device},
    )
    assert type(model.lm_head) is torch.nn.Linear
    for table in TABLES:
        kept = getattr(model.model.coordinate_embeddings, table)
        assert torch.equal(kept.cpu(), getattr(reference.model.coordinate_embeddings, table))
    for part in (model.model.language_model.layers[0].mlp.up_proj, model.model.packer.slow.key_proj):
        assert type(part).__name__ == {8: "Linear8bitLt", 4: "Linear4bit"}[bits]
    inputs = {name: value.to(device) for name, value in make_inputs(model).items()}
    with torch.no_grad():
        logits = model(**inputs).logits
    assert relative_error(logits.cpu(), compute(reference)[0]) < error
    generated = model.generate(**inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert generated.shape[1] == inputs["input_ids"].shape[1] + 6


def test_no_linear_layer_is_given_more_than_three_axes(reference):
    """The 8-bit layers of bitsandbytes take (batch, tokens, features) or (tokens, features)."""
    axes = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name: axes.update({name: given[0].ndim}))
        for name, module in reference.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    compute(reference)
    for hook in hooks:
        hook.remove()
    assert len(axes) == len(hooks)
    assert max(axes.values()) == 3, axes
