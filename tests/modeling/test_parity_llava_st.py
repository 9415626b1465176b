"""The model gives the numbers that the published code gave on the same weights (float32, CPU)."""

from collections import Counter
from contextlib import contextmanager
from functools import lru_cache

import pytest
import torch
from parity_cases import ParityModel, case_id, parity_cases, parity_models

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.modeling.coordinates_llava_st import language_aligned_positions, sample_rows

pytestmark = pytest.mark.skipif(not parity_models(), reason="no recordings of the published code beside the checkout")


@lru_cache
def load(parity: ParityModel, splice_fast_tokens: bool = False) -> LlavaSTForConditionalGeneration:
    """Load the recorded weights as they lie: published names, published config.json."""
    config = parity.load_config(splice_fast_tokens=splice_fast_tokens)
    model, info = LlavaSTForConditionalGeneration.from_pretrained(
        parity.folder, config=config, output_loading_info=True, attn_implementation="eager"
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()


def prepare(parity: ParityModel, name: str):
    case = parity.case(name)
    return case, load(parity, case.splice_fast_tokens), case.inputs()


def each_model():
    return pytest.mark.parametrize("parity", parity_models(), ids=case_id)


def each_case(*prefixes: str):
    cases = [case for prefix in prefixes for case in parity_cases(prefix)]
    return pytest.mark.parametrize(("parity", "name"), cases, ids=case_id)


@each_model()
@pytest.mark.parametrize("stage", ["vision", "projected", "lape"])
def test_features_before_the_packer(parity, stage):
    model = load(parity).model
    time, place = model._positions()
    for name in parity.feature_facts:
        expected = parity.features[f"{name}.{stage}"]
        with torch.no_grad():
            pixels = parity.pixels[name]
            hidden = model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
            projected = model.multi_modal_projector(hidden)
            grid = model.config.patch_grid_size
            rows = sample_rows(time, pixels.shape[0]) if name.startswith("video") else time[:1]
            lape = (projected.unflatten(1, (grid, grid)) + place + rows[:, None, None]).flatten(1, 2)
        actual = {"vision": hidden, "projected": projected, "lape": lape}[stage]
        torch.testing.assert_close(parity.get_stored(name, actual), expected, atol=2e-5, rtol=0)


@each_model()
def test_lape_tables(parity):
    model = load(parity).model
    sizes = tuple(parity.axis_sizes.values())
    time, place = language_aligned_positions(*model.coordinate_embeddings(), sizes, model.config.patch_grid_size)
    height, width = parity.features["lape_bias.height"], parity.features["lape_bias.width"]
    torch.testing.assert_close(place, height[:, None] + width[None], atol=1e-5, rtol=0)
    torch.testing.assert_close(time, parity.features["lape_bias.temporal"], atol=1e-5, rtol=0)


@each_model()
@pytest.mark.parametrize("splice_fast_tokens", [True, False])
def test_media_features(parity, splice_fast_tokens):
    model = load(parity, splice_fast_tokens)
    for name in parity.feature_facts:
        pixels = parity.pixels[name]
        with torch.no_grad():
            if name.startswith("image"):
                (actual,) = model.get_image_features(pixels).pooler_output
                actual = parity.get_stored(name, actual[None]).flatten(0, 1)
                expected = [parity.features[f"{name}.lape"]]
            else:
                (actual,) = model.get_video_features(pixels[None]).pooler_output
                expected = [parity.features[f"{name}.token_packer_slow"]]
                if splice_fast_tokens:
                    expected.insert(0, parity.features[f"{name}.token_packer_fast"])
        expected = torch.cat([tokens.flatten(0, 1) for tokens in expected])
        torch.testing.assert_close(actual, expected, atol=2e-5, rtol=0)


@each_model()
@pytest.mark.parametrize("stage", ["token_packer", "token_packer_slow", "token_packer_fast"])
def test_packer_streams(parity, stage):
    model = load(parity).model
    packer = model.packer
    for name, facts in parity.feature_facts.items():
        if not name.startswith("video"):
            continue
        time, place = model._positions()
        pixels = parity.pixels[name]
        with torch.no_grad():
            patches, _ = model._encode_frames(pixels, -1)
            frames = packer.pack_frames(patches + place + sample_rows(time, len(pixels))[:, None, None])
            streams = {
                "token_packer": frames[facts["frames_stored_for_token_packer"]],
                "token_packer_slow": packer.pack_slow(frames),
                "token_packer_fast": packer.pack_fast(frames),
            }
        expected = parity.features[f"{name}.{stage}"]
        torch.testing.assert_close(streams[stage].flatten(1, 2), expected, atol=2e-5, rtol=0)


@each_case("")
def test_input_embeddings(parity, name):
    case, model, inputs = prepare(parity, name)
    captured = {}
    hook = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: captured.update(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        inputs.pop("labels", None)
        model(**inputs)
    hook.remove()
    if "inputs_embeds" not in case.tensors:
        pytest.skip(f"{name} records no input embeddings")
    rows, columns = case.tensors["embeds_pos"].long().T
    torch.testing.assert_close(
        captured["inputs_embeds"][rows, columns], case.tensors["inputs_embeds"], atol=2e-5, rtol=0
    )


@each_case("img", "vid", "train")
def test_logits(parity, name):
    case, model, inputs = prepare(parity, name)
    inputs.pop("labels", None)
    with torch.no_grad():
        logits = model(**inputs).logits
    rows, columns = case.tensors["logits_pos"].long().T
    torch.testing.assert_close(logits[rows, columns], case.tensors["logits"], atol=1e-4, rtol=0)


def published_loss(case, model, inputs) -> torch.Tensor:
    """
    Compute the loss as the reference does, which has two paths.

    Where all samples have variables it adds up the mean of each sample, so ours, the mean over all tokens, is asked
    one sample at a time. Else it is that mean, and the head reads its coordinate rows without NTP.
    """
    if not case.has_all_variables:
        with head_without_propagation(model):
            return model(**inputs).loss
    labels = inputs.pop("labels")
    total = 0.0
    for row in range(labels.shape[0]):
        only = torch.full_like(labels, -100)
        only[row] = labels[row]
        total = total + model(**inputs, labels=only).loss
    return total


@contextmanager
def head_without_propagation(model):
    """Give the head, which reads the coordinate tables when the base model is done, the output table as it is."""
    tables, is_done = model.model.coordinate_embeddings, []
    hooks = [
        model.model.register_forward_hook(lambda *_: is_done.append(True)),
        tables.register_forward_hook(lambda _, __, output: (output[0], tables.output_table) if is_done else None),
    ]
    yield
    for hook in hooks:
        hook.remove()


@each_case("train")
def test_loss(parity, name):
    case, model, inputs = prepare(parity, name)
    with torch.no_grad():
        loss = published_loss(case, model, inputs)
    assert loss.item() == pytest.approx(case.facts["loss"], rel=1e-5)


@each_case("train")
def test_gradients(parity, name):
    case, model, inputs = prepare(parity, name)
    model.zero_grad()
    published_loss(case, model, inputs).backward()
    gradients = published_gradients(model)
    norms = {key: value.norm().item() for key, value in gradients.items()}
    for key, expected in case.facts["grad_norms"].items():
        if key in norms:
            assert norms[key] == pytest.approx(expected, rel=1e-4, abs=1e-6), key
    checked = Counter(key in norms for key in case.facts["grad_norms"])
    assert checked[True] > 0.9 * checked.total(), [k for k in case.facts["grad_norms"] if k not in norms]
    for key, expected in case.tensors.items():
        if key.startswith("grad."):
            actual = gradients[key.removeprefix("grad.")]
            difference = (actual - expected).norm() / expected.norm().clamp(min=1e-6)
            assert difference <= 1e-4, f"{key}: {difference:.2e}"
    model.zero_grad()


def published_gradients(model) -> dict[str, torch.Tensor]:
    """Gradients under the published names; no gradient counts as zero."""
    ours = {
        key: torch.zeros_like(value) if value.grad is None else value.grad for key, value in model.named_parameters()
    }
    sizes = model.config.axis_sizes
    published = {"lm_head.weight": ours["lm_head.weight"]}
    for direction in ("input", "output"):
        parts = ours[f"model.coordinate_embeddings.{direction}_table"].split(sizes)
        for axis, part in zip(("temporal", "spatial_height", "spatial_width"), parts, strict=True):
            published[f"model.{axis}_{direction}_embeddings.weight"] = part
    for stage, suffix in (("spatial", ""), ("slow", "_slow"), ("fast", "_fast")):
        old, new = f"model.vision_resampler.token_packer{suffix}.devide_attention.", f"model.packer.{stage}."
        for kind in ("weight", "bias"):
            published[f"{old}attn.in_proj_{kind}"] = torch.cat(
                [ours[f"{new}{name}_proj.{kind}"] for name in ("query", "key", "value")]
            )
            published[f"{old}attn.out_proj.{kind}"] = ours[f"{new}attention_proj.{kind}"]
            for short, name in (("q", "query"), ("k", "key"), ("v", "value")):
                published[f"{old}ln_{short}.{kind}"] = ours[f"{new}{name}_norm.{kind}"]
                for layer in (0, 2):
                    published[f"{old}to_{short}.{layer}.{kind}"] = ours[f"{new}{name}_mlp.{layer}.{kind}"]
        published[f"{old}to_out.weight"] = ours[f"{new}output_proj.weight"]
    for kind in ("weight", "bias"):
        published[f"model.mm_projector.0.{kind}"] = ours[f"model.multi_modal_projector.linear_1.{kind}"]
        published[f"model.mm_projector.2.{kind}"] = ours[f"model.multi_modal_projector.linear_2.{kind}"]
    for key, value in ours.items():
        if key.startswith("model.language_model."):
            published["model." + key.removeprefix("model.language_model.")] = value
        if key.startswith("model.vision_tower."):
            tower = "model.vision_tower.vision_tower.vision_model."
            published[tower + key.removeprefix("model.vision_tower.")] = value
    return published


@each_case("gen")
def test_greedy_ids(parity, name):
    case, model, inputs = prepare(parity, name)
    expected = case.tensors["output_ids"].long()
    prompt = inputs["input_ids"].shape[1]
    output = model.generate(**inputs, do_sample=False, max_new_tokens=expected.shape[1])
    assert output[:, prompt:].tolist() == expected.tolist()


@each_model()
def test_both_forms_of_the_published_config_give_the_same_config(parity, tmp_path):
    for name in ("model.safetensors", "vision_tower_config.json", "tokenizer"):
        (tmp_path / name).symlink_to(parity.folder / name)
    (tmp_path / "config.json").symlink_to(parity.folder / "config.released_style.json")
    expected = LlavaSTConfig.from_pretrained(parity.folder).to_dict()
    assert LlavaSTConfig.from_pretrained(tmp_path).to_dict() == expected


@each_model()
def test_literals_of_the_reference_can_be_given(parity):
    config = LlavaSTConfig.from_pretrained(parity.folder)
    assert (config.temporal_stride, config.packer_num_heads) == (5, 8)  # as in a release
    assert LlavaSTProcessor.from_pretrained(parity.folder).temporal_stride == 5
    config = LlavaSTConfig.from_pretrained(parity.folder, temporal_stride=2, packer_num_heads=4)
    assert (config.temporal_stride, config.packer_num_heads) == (2, 4)
    assert LlavaSTProcessor.from_pretrained(parity.folder, temporal_stride=2).temporal_stride == 2
