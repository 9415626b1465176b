"""A checkpoint in the published layout loads as it lies, and says what is wrong with it where it does not."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from published_checkpoint import make_published_checkpoint, read_tensors, rename_as_published, shard_file
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
)

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTModel, LlavaSTProcessor
from llava_st_hf.modeling import conversion_llava_st
from llava_st_hf.modeling.conversion_llava_st import compute_stride, open_safetensors
from llava_st_hf.modeling.packer_llava_st import split_axis
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.processing.prompt_expansion_llava_st import MediaTokenCounter

LAYOUTS = [("", 1), ("tokenizer", 1), ("", 3)]


@pytest.fixture(scope="module", params=LAYOUTS, ids=["beside", "tokenizer folder", "shards"])
def layout(request):
    return request.param


@pytest.fixture(scope="module")
def published(tmp_path_factory, layout):
    """Folder whose config.json says `llava_qwen`."""
    folder = tmp_path_factory.mktemp("published") / "checkpoint"
    return make_published_checkpoint(folder, "llava_qwen", *layout)


@pytest.fixture(scope="module")
def published_llava(tmp_path_factory, layout):
    """Folder whose config.json says `llava`, a name that transformers owns."""
    folder = tmp_path_factory.mktemp("published_llava") / "checkpoint"
    return make_published_checkpoint(folder, "llava", *layout)


@pytest.fixture
def one_file(tmp_path):
    return make_published_checkpoint(tmp_path / "one_file")


def load_published_tensors(folder):
    return {
        name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in read_tensors(path).items()
    }


def check_weights(model, folder):
    """Every published tensor is in the model, value by value, and nothing else."""
    expected = load_published_tensors(folder)
    prefix = "" if isinstance(model, LlavaSTForConditionalGeneration) else "model."
    ours = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    ours.setdefault("lm_head.weight", expected["lm_head.weight"])
    actual = rename_as_published(ours)
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


@pytest.mark.parametrize(
    ("auto_class", "expected"),
    [
        (AutoModel, LlavaSTModel),
        (AutoModelForImageTextToText, LlavaSTForConditionalGeneration),
        (AutoModelForMultimodalLM, LlavaSTForConditionalGeneration),
    ],
)
def test_auto_models(published, auto_class, expected):
    model, info = auto_class.from_pretrained(published, output_loading_info=True)
    assert type(model) is expected
    assert not info["missing_keys"]
    assert info["unexpected_keys"] <= {"lm_head.weight"}
    assert not info["mismatched_keys"]
    check_weights(model, published)


def test_auto_config_and_processor(published):
    config = AutoConfig.from_pretrained(published)
    assert type(config) is LlavaSTConfig
    assert not config.splice_fast_tokens
    processor = AutoProcessor.from_pretrained(published)
    assert type(processor) is LlavaSTProcessor
    assert (processor.splice_fast_tokens, processor.embed_width_inputs) == (False, False)
    assert processor.coordinate_token_offset == config.coordinate_token_offset
    assert processor.tokenizer.convert_tokens_to_ids("<t_9>") == config.coordinate_token_offset + 9


def test_auto_tokenizer_gives_the_published_names(one_file):
    tokenizer = AutoTokenizer.from_pretrained(one_file)
    offset = LlavaSTConfig.from_pretrained(one_file).coordinate_token_offset
    assert tokenizer.convert_tokens_to_ids("<TEMP-000>") == offset


@pytest.mark.parametrize("own_class", [LlavaSTForConditionalGeneration, LlavaSTModel])
def test_own_models_in_the_llava_form(published_llava, own_class):
    model, info = own_class.from_pretrained(published_llava, output_loading_info=True)
    assert type(model) is own_class
    assert not info["missing_keys"]
    check_weights(model, published_llava)


def test_own_processor_in_the_llava_form(published_llava):
    processor = LlavaSTProcessor.from_pretrained(published_llava)
    assert (processor.splice_fast_tokens, processor.embed_width_inputs) == (False, False)
    assert processor.num_temporal_tokens == 10


def test_both_forms_answer_alike(published, published_llava):
    one = LlavaSTForConditionalGeneration.from_pretrained(published).eval()
    other = LlavaSTForConditionalGeneration.from_pretrained(published_llava).eval()
    ids = torch.randint(0, 300, (1, 8), generator=torch.Generator().manual_seed(0))
    assert torch.equal(one(input_ids=ids).logits, other(input_ids=ids).logits)


def test_tokenizer_saved_again_by_transformers_5(one_file):
    """Transformers 5 writes the added tokens into tokenizer.json only."""
    expected = LlavaSTConfig.from_pretrained(one_file)
    (one_file / "added_tokens.json").unlink()
    assert "added_tokens_decoder" not in json.loads((one_file / "tokenizer_config.json").read_text())
    assert LlavaSTConfig.from_pretrained(one_file).to_dict() == expected.to_dict()
    assert LlavaSTProcessor.from_pretrained(one_file).coordinate_token_offset == expected.coordinate_token_offset


def test_wrong_config_says_what_to_call(tmp_path):
    folder = make_published_checkpoint(tmp_path / "llava", "llava")
    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == "llava"  # what transformers makes of it, and the reason for the message
    with pytest.raises(ValueError, match=r"LlavaConfig.*LlavaSTConfig\.from_pretrained"):
        LlavaSTForConditionalGeneration.from_pretrained(folder, config=config)
    with pytest.raises(ValueError, match=r"LlavaSTConfig\.from_pretrained"):
        LlavaSTModel(config)


def test_image_newline_of_the_base_is_ignored(one_file):
    tensors = read_tensors(one_file / "model.safetensors")
    save_file({**tensors, "model.image_newline": torch.ones(32)}, one_file / "model.safetensors")
    for own_class in (LlavaSTForConditionalGeneration, LlavaSTModel):
        _, info = own_class.from_pretrained(one_file, output_loading_info=True)
        assert info["unexpected_keys"] <= {"lm_head.weight"}


def remove_tensor(folder):
    tensors = read_tensors(folder / "model.safetensors")
    tensors.pop("model.temporal_input_embeddings.weight")
    save_file(tensors, folder / "model.safetensors")


def remove_shard(folder):
    shard_file(folder, 3)
    (folder / "model-00002-of-00003.safetensors").unlink()


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def garble_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:20] + b"???" + path.read_bytes()[23:])


def replace_by_pickle(folder):
    torch.save(read_tensors(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def pickle_under_another_name(folder):
    torch.save(read_tensors(folder / "model.safetensors"), folder / "model.safetensors")


def pickles_in_the_index(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"lm_head.weight": "pytorch_model-00001-of-00001.bin"}})
    )


def outside_the_folder(folder):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"lm_head.weight": "../model.safetensors"}})
    )


def point_to_lfs(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def remove_field(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["mm_perceiver_latents"]
    (folder / "config.json").write_text(json.dumps(config))


def remove_tokenizer(folder):
    for name in ("added_tokens.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


DAMAGES = [
    (remove_tensor, r"model\.temporal_input_embeddings\.weight is missing"),
    (remove_shard, r"model-00002-of-00003\.safetensors is missing"),
    (truncate, r"model\.safetensors is damaged"),
    (garble_header, r"model\.safetensors is damaged"),
    (replace_by_pickle, r"pytorch_model\.bin .* is a pickle file"),
    (pickle_under_another_name, r"model\.safetensors is a pickle file"),
    (pickles_in_the_index, r"pytorch_model-00001-of-00001\.bin.*only safetensors"),
    (outside_the_folder, r"\.\./model\.safetensors.*only safetensors"),
    (point_to_lfs, r"git lfs pull"),
    (remove_tokenizer, r"tokenizer"),
    (remove_field, r"mm_perceiver_latents"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_damaged_checkpoint_is_named(one_file, damage, words):
    damage(one_file)
    with pytest.raises(ValueError, match=words) as caught:
        LlavaSTConfig.from_pretrained(one_file)
    assert "\n" not in str(caught.value)


def test_strides_give_the_cells_that_are_asked_for():
    """For every pair of sizes up to 64 the packer of the model and the processor's count agree with what is asked."""
    num_possible = 0
    for cells in range(1, 65):
        for packed in range(1, cells + 1):
            possible = packed in {-(-cells // stride) for stride in range(1, cells + 1)}
            num_possible += possible
            if not possible:
                with pytest.raises(ValueError, match=f"sides asks for {packed} cells per side"):
                    compute_stride("sides", cells, packed)
                continue
            stride = compute_stride("sides", cells, packed)
            weights, _ = split_axis(cells, stride, torch.device("cpu"))
            assert len(weights) == packed
            counter = MediaTokenCounter(1, stride, 1, 1, video_size=(cells, cells))
            assert counter.count_video(1) == (packed**2, packed**2)
    assert num_possible == 652


@pytest.mark.parametrize(
    ("image_size", "latents", "fast_latents", "strides"),
    [(54, 9, 1, (3, 3)), (156, 81, 9, (3, 3)), (156, 81, 4, (3, 5)), (60, 100, 25, (1, 2)), (60, 16, 1, (3, 4))],
)
def test_the_processor_has_the_strides_of_the_config(one_file, image_size, latents, fast_latents, strides):
    """26 cells to 9: regions of 3, of which the last has 2. Regions of 2, the quotient rounded down, would make 13."""
    edit_json(one_file / "config.json", mm_perceiver_latents=latents, mm_perceiver_latents_fast=fast_latents)
    edit_json(one_file / "vision_tower_config.json", image_size=image_size)
    config, processor = LlavaSTConfig.from_pretrained(one_file), LlavaSTProcessor.from_pretrained(one_file)
    assert (config.spatial_stride, config.fast_spatial_stride) == strides
    assert (processor.spatial_stride, processor.fast_spatial_stride) == strides
    assert processor.media_token_counter.count_video(10) == (10 * fast_latents, 2 * latents)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mm_vision_tower": "unknown"}, "vision_tower_config.json"),
        ({"mm_perceiver_latents": 8}, "mm_perceiver_latents is 8"),
        ({"mm_perceiver_latents": "9"}, "mm_perceiver_latents is '9'"),
        ({"mm_perceiver_latents": 49}, "mm_perceiver_latents asks for 7 cells per side"),
        ({"mm_perceiver_latents_fast": 16}, "mm_perceiver_latents_fast asks for 4 cells per side"),
    ],
)
def test_sizes_that_do_not_fit(one_file, change, words):
    edit_json(one_file / "config.json", **change)
    if "mm_vision_tower" in change:
        (one_file / "vision_tower_config.json").unlink()
    for load, error in ((LlavaSTConfig.from_pretrained, ValueError), (LlavaSTProcessor.from_pretrained, InputError)):
        with pytest.raises(error, match=words):
            load(one_file)


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_of_a_repository_no_weights_are_fetched_for_the_sizes(one_file, monkeypatch):
    tensors = {
        name: SimpleNamespace(shape=list(tensor.shape)) for name, tensor in load_published_tensors(one_file).items()
    }
    expected = LlavaSTConfig.from_pretrained(one_file).to_dict()
    (one_file / "model.safetensors").unlink()
    asked = []

    def get_metadata(repository, **options):
        asked.append((repository, options))
        return SimpleNamespace(files_metadata={"model.safetensors": SimpleNamespace(tensors=tensors)})

    monkeypatch.setattr(conversion_llava_st, "get_safetensors_metadata", get_metadata)
    files = conversion_llava_st.SourceFiles("somebody/llava-st", {})
    monkeypatch.setattr(conversion_llava_st.SourceFiles, "find", lambda self, name: find_in(one_file, name))
    config = conversion_llava_st.convert_published_config(
        json.loads((one_file / "config.json").read_text()), "somebody/llava-st", revision="1" * 40
    )
    assert asked == [("somebody/llava-st", {"revision": "1" * 40})]
    assert LlavaSTConfig(**config).to_dict() | {"name_or_path": ""} == expected | {"name_or_path": ""}
    monkeypatch.setattr(conversion_llava_st, "get_safetensors_metadata", fail_offline)
    with pytest.raises(ValueError, match=r"model\.safetensors is missing from somebody"):
        files.tensor_shapes()


def find_in(folder, name):
    return str(folder / name) if (folder / name).is_file() else None


def fail_offline(repository, **options):
    raise OfflineModeIsEnabled


def test_header_length_may_look_like_a_pickle(tmp_path):
    """A header of 640 bytes starts the file with the bytes 80 02, as a pickle does."""
    path = tmp_path / "model.safetensors"
    for padding in range(700):
        save_file({"x": torch.ones(2)}, path, metadata={"padding": "." * padding})
        if path.read_bytes().startswith(b"\x80\x02"):
            break
    assert path.read_bytes().startswith(b"\x80\x02")
    with open_safetensors(path) as tensors:
        assert list(tensors.keys()) == ["x"]


def test_checkpoint_of_this_project_is_left_alone(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "copy")
    assert LlavaSTConfig.from_pretrained(tmp_path / "copy").splice_fast_tokens
