"""`llava-st init`: a LLaVA-ST to train, whose text and patch features are those of its LLaVA-OneVision."""

import json
from functools import partial

import pytest
import torch
from published_checkpoint import edit_tensors, make_onevision_checkpoint, make_published_checkpoint, read_tensors
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, GenerationConfig
from transformers import LlavaOnevisionForConditionalGeneration as OneVision

from llava_st_cli import main
from llava_st_hf import InputError, LlavaSTForConditionalGeneration
from llava_st_hf.checkpoints import writing
from llava_st_hf.checkpoints.initialize import initialize_checkpoint

SMALL = {"packer_hidden_size": 16, "num_temporal_tokens": 10, "num_spatial_tokens": 16, "quiet": True}


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def base(request, tmp_path):
    return make_onevision_checkpoint(tmp_path / "base", tied=request.param)


@pytest.fixture
def one_base(tmp_path):
    return make_onevision_checkpoint(tmp_path / "base", tied=False)


def load(base, out, **options):
    initialize_checkpoint(base, out, **{**SMALL, **options})
    model, info = AutoModelForImageTextToText.from_pretrained(out, output_loading_info=True)
    assert type(model) is LlavaSTForConditionalGeneration
    assert not any(info.values())
    return OneVision.from_pretrained(base).eval(), model.eval()


def test_text_is_scored_as_by_the_base(base, tmp_path):
    theirs, ours = load(base, tmp_path / "out")
    offset = ours.config.coordinate_token_offset
    assert offset < ours.config.text_config.vocab_size  # rows that no token has, as in the real ones
    ids = torch.randint(0, offset, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, actual = theirs(input_ids=ids).logits, ours(input_ids=ids).logits
    assert actual.shape[-1] == offset + 10 + 2 * 16
    assert torch.equal(actual[..., :offset], expected[..., :offset])
    assert ours.config.tie_word_embeddings == theirs.config.tie_word_embeddings


@pytest.mark.parametrize("layer", [-1, -2, 1])
def test_patch_features_are_those_of_the_base(tmp_path, layer):
    base = make_onevision_checkpoint(tmp_path / "base", tied=True, vision_feature_layer=layer)
    theirs, ours = load(base, tmp_path / "out")
    pixels = torch.randn(2, 3, 54, 54, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = theirs.model.vision_tower(pixels, output_hidden_states=True).hidden_states[layer]
        expected = theirs.model.multi_modal_projector(hidden)
        time, place = ours.model._positions()
        features = torch.stack(ours.get_image_features(pixels).pooler_output)
    torch.testing.assert_close(features, expected + (place + time[0]).flatten(0, 1))
    with torch.no_grad():  # without LAPE: to the last bit
        hidden = ours.model.vision_tower(pixels, output_hidden_states=True).hidden_states[layer]
        patches = ours.model.multi_modal_projector(hidden)
    assert torch.equal(patches, expected)


def test_new_parts_start_as_published(one_base, tmp_path):
    _, ours = load(one_base, tmp_path / "out", num_temporal_tokens=100, num_spatial_tokens=100)
    ours.requires_grad_(False)
    tables = ours.model.coordinate_embeddings
    assert tables.input_table.shape == (300, 32)
    assert tables.input_table.mean().abs() < 0.05
    assert tables.input_table.std() == pytest.approx(1, abs=0.05)
    bound = 32**-0.5
    assert tables.output_table.abs().max() <= bound
    assert tables.output_table.std() == pytest.approx(bound / 3**0.5, rel=0.05)  # uniform
    for name, parameter in ours.model.packer.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.ones(16) if name.endswith("weight") else torch.zeros(16)), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            assert parameter.std() == pytest.approx(ours.config.text_config.initializer_range, rel=0.2), name


def test_seed(one_base, tmp_path):
    for name, seed in (("first", 0), ("same", 0), ("other", 1)):
        initialize_checkpoint(one_base, tmp_path / name, seed=seed, **SMALL)
    first, same, other = (read_tensors(tmp_path / name / "model.safetensors") for name in ("first", "same", "other"))
    assert all(torch.equal(first[name], same[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], other[name])}
    assert "model.coordinate_embeddings.input_table" in changed
    assert all(name.startswith(("model.packer.", "model.coordinate_embeddings.")) for name in changed)


def test_the_seed_of_the_caller_is_left_alone(one_base, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    initialize_checkpoint(one_base, tmp_path / "out", **SMALL)
    assert torch.equal(torch.rand(1), expected)


def test_type_is_that_of_the_base(tmp_path):
    base = make_onevision_checkpoint(tmp_path / "base", tied=True, dtype=torch.bfloat16)
    initialize_checkpoint(base, tmp_path / "out", **SMALL)
    assert {t.dtype for t in read_tensors(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_tokenizer_and_processor(one_base, tmp_path):
    _, ours = load(one_base, tmp_path / "out")
    base_tokenizer = AutoTokenizer.from_pretrained(one_base)
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    tokenizer = processor.tokenizer
    assert tokenizer.convert_ids_to_tokens(range(len(base_tokenizer))) == base_tokenizer.convert_ids_to_tokens(
        range(len(base_tokenizer))
    )
    assert tokenizer.convert_tokens_to_ids("<t_0>") == len(base_tokenizer) == ours.config.coordinate_token_offset
    assert tokenizer.convert_tokens_to_ids("<x_15>") == len(tokenizer) - 1
    assert ours.config.image_token_id == base_tokenizer.convert_tokens_to_ids("<image>")
    assert ours.config.video_token_id == base_tokenizer.convert_tokens_to_ids("<video>")
    assert (processor.splice_fast_tokens, processor.embed_width_inputs) == (True, True)
    assert ours.config.splice_fast_tokens
    assert "{%" in tokenizer.chat_template
    assert "<|im_start|>assistant" in tokenizer.chat_template


def test_it_answers(one_base, clip, tmp_path):
    _, ours = load(one_base, tmp_path / "out")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    messages = processor.build_messages("stvg", video=str(clip), query="a red circle")
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    outputs = ours.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert len(processor.post_process_grounding(outputs, inputs)) == 1


def test_generation_is_greedy(one_base, tmp_path):
    (one_base / "generation_config.json").write_text(json.dumps({"do_sample": True, "eos_token_id": [3, 4]}))
    initialize_checkpoint(one_base, tmp_path / "out", **SMALL)
    generation = GenerationConfig.from_pretrained(tmp_path / "out")
    assert generation.do_sample is False
    assert generation.eos_token_id == [3, 4]


def test_base_with_the_names_of_transformers_5(base, tmp_path):
    """`save_pretrained` still writes the names of transformers 4; both are read."""
    path = base / "model.safetensors"
    old = read_tensors(path)
    assert "language_model.model.norm.weight" in old
    expected, _ = load(base, tmp_path / "old")
    new = {name: tensor.contiguous() for name, tensor in expected.state_dict().items()}
    if expected.config.tie_word_embeddings:
        del new["lm_head.weight"]
    save_file(new, path, metadata={"format": "pt"})
    initialize_checkpoint(base, tmp_path / "new", **SMALL)
    one, other = (read_tensors(tmp_path / name / "model.safetensors") for name in ("old", "new"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_command(one_base, tmp_path, capsys):
    arguments = ["init", "--base", str(one_base), str(tmp_path / "out"), "--packer-hidden-size", "16", "--seed", "3"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "out")
    assert "Left out image_newline" in captured.err
    card = (tmp_path / "out" / "README.md").read_text()
    assert "mean nothing" in card
    assert "seed 3" in card
    assert main(arguments) == 1
    assert "not empty" in capsys.readouterr().err


def test_interrupted_and_started_again(one_base, tmp_path, monkeypatch):
    options = {**SMALL, "max_shard_size": "60KB"}
    initialize_checkpoint(one_base, tmp_path / "whole", **options)
    write_shard, written = writing._write_shard, []

    def write(path, tensors):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        return write_shard(path, tensors)

    with monkeypatch.context() as context:
        context.setattr(writing, "_write_shard", write)
        with pytest.raises(KeyboardInterrupt):
            initialize_checkpoint(one_base, tmp_path / "out", **options)
    with pytest.raises(InputError, match="with seed=0, and now seed is 1"):
        initialize_checkpoint(one_base, tmp_path / "out", **{**options, "seed": 1})
    initialize_checkpoint(one_base, tmp_path / "out", **options)
    whole, out = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("whole", "out"))
    assert whole == out


def change_config(section=None, **changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (config[section] if section else config).update(changes)
        (folder / "config.json").write_text(json.dumps(config))

    return change


def remove_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


def replace_by_pickle(folder):
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


REFUSED = {
    "another model": (change_config(model_type="llava_next"), r"model_type is 'llava_next'.*llava_onevision"),
    "several layers": (change_config(vision_feature_layer=[-1, -2]), r"vision_feature_layer is \[-1, -2\]"),
    "class token": (change_config(vision_feature_select_strategy="default"), r"vision_feature_select_strategy"),
    "no bias": (change_config(multimodal_projector_bias=False), r"multimodal_projector_bias is False"),
    "another tower": (change_config("vision_config", model_type="clip_vision_model"), r"vision_config\.model_type"),
    "another language model": (
        change_config("text_config", model_type="llama"),
        r"text_config\.model_type is 'llama'",
    ),
    "few rows": (change_config("text_config", vocab_size=100), r"tokens.*text_config\.vocab_size is 100"),
    "wrong width": (change_config("text_config", intermediate_size=49), r"mlp\..*_proj\.weight has the shape"),
    "missing tensor": (
        partial(edit_tensors, multi_modal_projector__linear_2__bias=None),
        r"model\.multi_modal_projector\.linear_2\.bias is missing",
    ),
    "unexpected tensor": (partial(edit_tensors, surprise=torch.ones(1)), r"surprise is unexpected"),
    "no tokenizer": (remove_tokenizer, r"the tokenizer of .* cannot be read"),
    "pickle": (replace_by_pickle, r"pytorch_model\.bin .* pickle"),
    "truncated": (truncate, r"model\.safetensors is damaged"),
}


@pytest.mark.parametrize(("damage", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name_and_nothing_written(one_base, tmp_path, capsys, damage, words):
    damage(one_base)
    with pytest.raises(InputError, match=words):
        initialize_checkpoint(one_base, tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()
    assert main(["init", "--base", str(one_base), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("llava-st: error: ")
    assert error.count("\n") == 1, error


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("packer_hidden_size", 17, "packer_hidden_size is 17"),
        ("num_temporal_tokens", 0, "num_temporal_tokens"),
        ("num_spatial_tokens", -1, "num_spatial_tokens"),
        ("max_shard_size", "big", "the size is 'big'"),
    ],
)
def test_options_that_do_not_fit(one_base, tmp_path, option, value, words):
    with pytest.raises(InputError, match=words):
        initialize_checkpoint(one_base, tmp_path / "out", **{**SMALL, option: value})


def test_published_checkpoint_is_no_base(tmp_path):
    folder = make_published_checkpoint(tmp_path / "published", "llava")
    with pytest.raises(InputError, match="model_type is 'llava'"):
        initialize_checkpoint(folder, tmp_path / "out", **SMALL)
