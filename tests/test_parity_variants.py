"""The recordings may come in other variants than the public ones: each is made of a public one here, and checked."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from modeling import test_parity_llava_st as model_tests
from parity_cases import ParityModel, parity_models
from safetensors.torch import load_file, save_file
from test_parity_end_to_end import test_logits_from_text as check_logits_from_text

pytestmark = pytest.mark.skipif(not parity_models(), reason="no recordings of the published code beside the checkout")


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(parity_models()[0].folder, tmp_path / "variant", copy_function=shutil.copyfile))


def edit_json(path: Path, edit) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def edit_tensors(path: Path, edit) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    edit(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def test_features_with_a_stride(folder):
    def thin_out(tensors):
        for name in list(tensors):
            if name.endswith((".vision", ".projected", ".lape")):
                tensors[name] = tensors[name][::3, ::2]

    def say_so(facts):
        for medium in facts.values():
            medium["frames_stored_for_vision_projected_lape"] = medium["frames_stored_for_vision_projected_lape"][::3]
            medium["token_stride_for_vision_projected_lape"] = 2

    edit_tensors(folder / "features.safetensors", thin_out)
    edit_json(folder / "features.json", say_so)
    parity = ParityModel(folder)
    for stage in ("vision", "projected", "lape"):
        model_tests.test_features_before_the_packer(parity, stage)
    for splice_fast_tokens in (True, False):
        model_tests.test_media_features(parity, splice_fast_tokens)


NULL_LISTS = dict.fromkeys(
    f"{key}_{way}_locations" for key in ("temporal", "spatial_width") for way in ("input", "output")
)


@pytest.mark.parametrize("variables", [None, [None], [NULL_LISTS]], ids=["nothing", "no dictionary", "no lists"])
@pytest.mark.parametrize("name", ["vid_plain", "train_vid_plain"])
def test_variables_that_are_null(folder, name, variables):
    def leave_out(facts):
        facts["variables_passed"] = variables
        facts["samples"][0]["variables"] = variables[0] if variables else None

    edit_json(folder / "cases" / f"{name}.json", leave_out)
    parity = ParityModel(folder)
    model_tests.test_input_embeddings(parity, name)
    model_tests.test_logits(parity, name)
    if name == "train_vid_plain":
        model_tests.test_loss(parity, name)
    else:
        check_logits_from_text(parity, name)


def test_without_all_variables_the_head_reads_its_coordinates_without_propagation():
    """As the published code does; the tables that are embedded and added to patches keep theirs."""
    _, model, inputs = model_tests.prepare(parity_models()[0], "train_vid_soft")
    gradients = []
    for head in (nullcontext(), model_tests.head_without_propagation(model)):
        model.zero_grad()
        with head:
            model(**inputs).loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.grad is not None})
    model.zero_grad()
    differ = {name for name in gradients[0] if not torch.equal(gradients[0][name], gradients[1][name])}
    assert differ == {"model.coordinate_embeddings.output_table"}


def test_a_tokenizer_that_knows_image_already(folder):
    """Its id lies before those that the published code adds, which all move up by one."""
    first = 1 + max(ParityModel(folder).token_ids[f"<|{name}|>"] for name in ("endoftext", "im_start", "im_end"))

    def move(token_id):
        return token_id + (token_id >= first)

    def insert_token(content):
        for token in content["added_tokens"]:
            token["id"] = move(token["id"])
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        content["added_tokens"].append({"id": first, "content": "<image>", **flags, "special": True})
        content["added_tokens"].sort(key=lambda token: token["id"])

    def insert_in_decoder(content):
        decoder = {str(move(int(token_id))): token for token_id, token in content["added_tokens_decoder"].items()}
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        content["added_tokens_decoder"] = {**decoder, str(first): {"content": "<image>", **flags, "special": True}}

    def insert_id(ids):
        ids.update({name: move(token_id) for name, token_id in ids.items()})
        ids["<image>"] = first

    def move_facts(facts):
        facts["ids"] = {name: move(token_id) for name, token_id in facts["ids"].items()}
        facts["coordinate_base"] = {name: move(token_id) for name, token_id in facts["coordinate_base"].items()}

    def insert_row(tensors):
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            rows = tensors[name]
            tensors[name] = torch.cat([rows[:first], torch.zeros_like(rows[:1]), rows[first:]])

    def move_ids(tensors):
        for name in {"input_ids", "labels", "output_ids"} & set(tensors):
            tensors[name] = torch.where(tensors[name] >= first, tensors[name] + 1, tensors[name])
        for name in {"logits", "step_logits"} & set(tensors):
            values = tensors[name]
            tensors[name] = torch.cat(
                [values[..., :first], torch.zeros_like(values[..., :1]), values[..., first:]], -1
            )

    edit_json(folder / "tokenizer" / "tokenizer.json", insert_token)
    edit_json(folder / "tokenizer" / "tokenizer_config.json", insert_in_decoder)
    edit_json(folder / "tokenizer" / "added_tokens.json", insert_id)
    edit_json(folder / "special_tokens.json", move_facts)
    for name in ("config.json", "config.released_style.json"):
        edit_json(folder / name, lambda config: config.pop("vocab_size", None))
    edit_tensors(folder / "model.safetensors", insert_row)
    for path in (folder / "cases").glob("*.safetensors"):
        edit_tensors(path, move_ids)

    parity = ParityModel(folder)
    assert parity.load_processor().image_token_id == parity.load_config().image_token_id == first
    for name in ("img_template_input", "img_discrete_prompt", "vid_template_input", "train_batch2_mixed"):
        model_tests.test_input_embeddings(parity, name)
        model_tests.test_logits(parity, name)
    for name in ("img_template_input", "vid_template_input_fixed"):
        check_logits_from_text(parity, name)
    for name in ("gen_img", "gen_vid"):
        model_tests.test_greedy_ids(parity, name)
