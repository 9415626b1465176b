"""`llava-st convert`: what it writes, what it refuses, and that it can be killed at any moment."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from published_checkpoint import edit_tensors, make_published_checkpoint, read_tensors, shard_file
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from llava_st_cli import main
from llava_st_hf import (
    InputError,
    LlavaSTConfig,
    LlavaSTForConditionalGeneration,
    LlavaSTProcessor,
)
from llava_st_hf.checkpoints import writing
from llava_st_hf.checkpoints.convert import convert_checkpoint, plan_published_tensors
from llava_st_hf.checkpoints.reading import list_tensors
from llava_st_hf.checkpoints.writing import MANIFEST_FILE
from llava_st_hf.utils.sizes import parse_size

SHARD_SIZE = "60KB"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return make_published_checkpoint(tmp_path_factory.mktemp("source") / "published", "llava", "tokenizer", 3)


@pytest.fixture
def one_file(tmp_path):
    return make_published_checkpoint(tmp_path / "one_file")


@pytest.fixture(scope="module")
def converted(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "converted"
    convert_checkpoint(published, folder, max_shard_size=SHARD_SIZE, quiet=True)
    return folder


def read_folder(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_weights_as_loading_the_source(published, converted):
    source = LlavaSTForConditionalGeneration.from_pretrained(published)
    model, info = AutoModelForImageTextToText.from_pretrained(converted, output_loading_info=True)
    assert not any(info.values())
    assert {**source.config.to_diff_dict(), "auto_map": model.config.auto_map} == model.config.to_diff_dict()
    expected, actual = source.state_dict(), model.state_dict()
    assert expected.keys() == actual.keys()
    for name in expected:
        assert torch.equal(expected[name], actual[name]), name


def test_shards_keep_to_their_size_and_the_index_names_every_tensor(converted):
    index = json.loads((converted / "model.safetensors.index.json").read_text())
    files = sorted(converted.glob("*.safetensors"))
    assert len(files) > 3
    stored = {}
    for path in files:
        with safe_open(path, framework="pt") as tensors:
            names = list(tensors.keys())
            assert tensors.metadata() == {"format": "pt"}
            assert len(names) == 1 or sum(tensors.get_tensor(name).nbytes for name in names) <= parse_size(SHARD_SIZE)
            stored.update(dict.fromkeys(names, path.name))
    assert stored == index["weight_map"]
    assert index["metadata"]["total_size"] == sum(t.nbytes for path in files for t in read_tensors(path).values())


def test_all_that_is_written(converted):
    names = {path.name for path in converted.iterdir() if path.suffix not in (".safetensors", ".py")}
    assert names == {
        "model.safetensors.index.json",
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (converted / "modeling_llava_st.py").is_file()  # the code travels with the checkpoint
    card = (converted / "README.md").read_text()
    assert "`published`" in card
    assert "{" not in card


def test_processor_is_that_of_the_source(published, converted):
    expected, actual = LlavaSTProcessor.from_pretrained(published), AutoProcessor.from_pretrained(converted)
    text = "Where? <t=0.4> <t_3> <x=0.5> <y=0.25>"
    assert actual(text=text)["input_ids"] == expected(text=text)["input_ids"]
    assert actual(text=text)["coordinate_offsets"] == expected(text=text)["coordinate_offsets"]
    assert (actual.splice_fast_tokens, actual.embed_width_inputs) == (False, False)
    assert actual.tokenizer.convert_ids_to_tokens([actual.coordinate_token_offset]) == ["<t_0>"]
    assert actual.tokenizer.decode([actual.coordinate_token_offset], skip_special_tokens=True) == "<t_0>"


def test_generation_is_greedy_and_ends_where_the_release_ends(published, converted):
    stored = json.loads((published / "generation_config.json").read_text())
    generation = GenerationConfig.from_pretrained(converted)
    assert generation.do_sample is False
    assert generation.temperature is None
    assert generation.eos_token_id == stored["eos_token_id"]
    assert generation.pad_token_id is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_types_are_kept(tmp_path, dtype):
    folder = make_published_checkpoint(tmp_path / "half", dtype=dtype)
    # A tensor of another type stays what it is, and shares a file with narrower ones.
    tensors = read_tensors(folder / "model.safetensors")
    name = "model.norm.weight"
    save_file({**tensors, name: tensors[name].double()}, folder / "model.safetensors")
    convert_checkpoint(folder, tmp_path / "out", quiet=True)
    out = read_tensors(tmp_path / "out" / "model.safetensors")
    assert out.pop("model.language_model.norm.weight").dtype == torch.float64
    assert {tensor.dtype for tensor in out.values()} == {dtype}
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "out").dtype == dtype


def test_answers_are_those_of_the_source(published, converted):
    ids = torch.randint(0, 300, (1, 12), generator=torch.Generator().manual_seed(0))
    source = LlavaSTForConditionalGeneration.from_pretrained(published).eval()
    model = AutoModelForImageTextToText.from_pretrained(converted).eval()
    with torch.no_grad():
        assert torch.equal(source(input_ids=ids).logits, model(input_ids=ids).logits)


def test_recorded_releases(parity_dir, tmp_path):
    """Each recorded model of the published code, in both forms of its config.json."""
    for model in sorted(path.parent for path in parity_dir.glob("*/*/config.released_style.json")):
        for form in ("config.json", "config.released_style.json"):
            source, out = tmp_path / model.name / form, tmp_path / "out" / model.name / form
            source.mkdir(parents=True)
            for name in ("model.safetensors", "vision_tower_config.json", "tokenizer"):
                (source / name).symlink_to(model / name)
            (source / "config.json").symlink_to(model / form)
            convert_checkpoint(source, out, max_shard_size="200KB", quiet=True)
            expected = LlavaSTForConditionalGeneration.from_pretrained(model).state_dict()
            actual = AutoModelForImageTextToText.from_pretrained(out).state_dict()
            assert expected.keys() == actual.keys()
            assert all(torch.equal(expected[name], actual[name]) for name in expected)


# -- the 7B release ---------------------------------------------------------------------------------------------------


def make_full_size_release(folder, tensors, vocab_size):
    """Write the headers of a 7B release in 4 shards; the data are holes in the files and take no room."""
    shards = [tensors[start::4] for start in range(4)]
    weight_map = {}
    for number, content in enumerate(shards, start=1):
        name, header, end = f"model-{number:05d}-of-00004.safetensors", {}, 0
        for tensor in content:
            start, end = end, end + 2 * torch.Size(tensor["shape"]).numel()
            header[tensor["name"]] = {"dtype": "F16", "shape": tensor["shape"], "data_offsets": [start, end]}
            weight_map[tensor["name"]] = name
        encoded = json.dumps(header).encode()
        with open(folder / name, "wb") as file:
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            file.truncate(8 + len(encoded) + end)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config = {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        "text_config": {"model_type": "llama", "vocab_size": vocab_size},
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_theta": 1000000.0,
        "max_position_embeddings": 32768,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "mm_perceiver_latents": 81,
        "mm_perceiver_latents_fast": 9,
        "torch_dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    added = {"<im_patch>": vocab_size - 12, "<slow_vid_start>": vocab_size - 8, "<TEMP-000>": vocab_size}
    (folder / "added_tokens.json").write_text(json.dumps(added))


@pytest.fixture(params=[0, 1], ids=["first vocabulary", "second vocabulary"])
def full_size_release(request, parity_dir, tmp_path):
    """A 7B release as the manifest lists it, with either of the two vocabularies that it may have."""
    manifest = json.loads((parity_dir / "manifest" / "manifest.json").read_text())
    vocab_size = manifest["vocab_arithmetic"][request.param]["released_vocab_size"]
    tensors = [{"name": entry["name"], "shape": list(entry["shape"])} for entry in manifest["tensors"]]
    for tensor in tensors:
        if tensor["name"] in ("model.embed_tokens.weight", "lm_head.weight"):
            tensor["shape"][0] = vocab_size
    make_full_size_release(tmp_path, tensors, vocab_size)
    return tmp_path, tensors, vocab_size


def test_every_tensor_of_the_7b_release_has_its_place(full_size_release):
    folder, tensors, vocab_size = full_size_release
    config = LlavaSTConfig.from_pretrained(folder)
    assert config.coordinate_token_offset == vocab_size
    assert (config.patch_grid_size, config.spatial_stride, config.fast_spatial_stride) == (27, 3, 3)
    with torch.device("meta"):
        model = LlavaSTForConditionalGeneration(config)
    stored = list_tensors(folder)
    assert len(stored) == len(tensors)
    planned = plan_published_tensors(stored, model)  # raises for one missing, unexpected or of another shape
    shapes = {tensor.name: tensor.meta.shape for tensor in planned}
    assert shapes == {name: tensor.shape for name, tensor in model.state_dict().items()}
    numbers = sum(torch.Size(tensor["shape"]).numel() for tensor in tensors)
    assert sum(parameter.numel() for parameter in model.parameters()) == numbers
    assert sum(tensor.meta.nbytes for tensor in planned) == 2 * numbers


def test_transformers_finds_every_tensor_of_the_7b_release(full_size_release):
    folder, _, _ = full_size_release
    _, info = LlavaSTForConditionalGeneration.from_pretrained(folder, device_map="meta", output_loading_info=True)
    assert not any(info.values())


# -- refusals ---------------------------------------------------------------------------------------------------------


def missing_shard(folder):
    shard_file(folder, 3)
    (folder / "model-00002-of-00003.safetensors").unlink()


def shard_without_a_tensor(folder):
    shard_file(folder, 3)
    path = folder / "model-00002-of-00003.safetensors"
    tensors = read_tensors(path)
    del tensors[min(tensors)]
    save_file(tensors, path)


def tensor_in_two_shards(folder):
    shard_file(folder, 3)
    first, second = (folder / f"model-0000{number}-of-00003.safetensors" for number in (1, 2))
    save_file({**read_tensors(second), **read_tensors(first)}, second)


def truncated(folder):
    shard_file(folder, 3)
    path = folder / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def garbled(folder):
    shard_file(folder, 3)
    path = folder / "model-00002-of-00003.safetensors"
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def empty_shard(folder):
    (folder / "model.safetensors").write_bytes(b"")


def pickle(folder):
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def other_tokenizer(folder):
    edit_tensors(folder, model__embed_tokens__weight=torch.ones(7, 32), lm_head__weight=torch.ones(7, 32))


def no_config(folder):
    (folder / "config.json").unlink()


def config_is_no_json(folder):
    (folder / "config.json").write_text("{")


def change_config(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


REFUSED = {
    "missing shard": (missing_shard, r"model-00002-of-00003\.safetensors is missing"),
    "shard without a tensor": (shard_without_a_tensor, r"model-00002-of-00003\.safetensors .* lacks model"),
    "tensor in two shards": (tensor_in_two_shards, r"is in model-00001.* and in model-00002"),
    "truncated": (truncated, r"model-00002-of-00003\.safetensors is damaged"),
    "garbled": (garbled, r"model-00002-of-00003\.safetensors is damaged"),
    "empty": (empty_shard, r"model\.safetensors is damaged"),
    "pickle": (pickle, r"pytorch_model\.bin .* pickle"),
    "no weights": (no_weights, r"model\.safetensors is missing"),
    "missing tensor": (
        lambda folder: edit_tensors(folder, model__layers__1__mlp__up_proj__weight=None),
        r"model\.layers\.1\.mlp\.up_proj\.weight is missing",
    ),
    "missing part": (
        lambda folder: edit_tensors(folder, model__spatial_width_input_embeddings__weight=None),
        r"model\.spatial_width_input_embeddings\.weight is missing",
    ),
    "missing source of several": (
        lambda folder: edit_tensors(
            folder, model__vision_resampler__token_packer_slow__devide_attention__attn__in_proj_bias=None
        ),
        r"token_packer_slow\.devide_attention\.attn\.in_proj_bias is missing",
    ),
    "unexpected tensor": (
        lambda folder: edit_tensors(folder, model__surprise=torch.ones(2)),
        r"model\.surprise is unexpected",
    ),
    "wrong shape": (
        lambda folder: edit_tensors(folder, model__norm__weight=torch.ones(31)),
        r"model\.norm\.weight has the shape \[31\] where .* \[32\]",
    ),
    "wrong rows of a table": (
        lambda folder: edit_tensors(folder, model__spatial_width_output_embeddings__weight=torch.ones(9, 32)),
        r"model\.spatial_width_output_embeddings\.weight \[9, 32\].* has the shape \[35, 32\]",
    ),
    "wrong width of a table": (
        lambda folder: edit_tensors(folder, model__spatial_width_output_embeddings__weight=torch.ones(16, 31)),
        r"model\.spatial_width_output_embeddings\.weight \[16, 31\]",
    ),
    "types of a table differ": (
        lambda folder: edit_tensors(folder, model__spatial_width_output_embeddings__weight=torch.ones(16, 32).half()),
        r"several types",
    ),
    "quantised": (
        lambda folder: edit_tensors(folder, model__norm__weight=torch.ones(32, dtype=torch.int8)),
        r"model\.norm\.weight has the type torch\.int8: give weights in floating point",
    ),
    "tokenizer of another release": (other_tokenizer, r"coordinate_token_offset is 7 in the config and"),
    "no config": (no_config, r"has no config\.json"),
    "config is no JSON": (config_is_no_json, r"config\.json is not JSON"),
    "sizes that do not fit": (change_config(num_attention_heads=5), r"\d"),
    "not published": (change_config(architectures=["Other"]), r"architectures \['Other'\]"),
    "of this project": (change_config(architectures=["X"], model_type="llava_st"), r"layout already"),
    "LLaVA-OneVision": (change_config(architectures=["X"], model_type="llava_onevision"), r"llava-st init"),
}


@pytest.mark.parametrize(("damage", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name_and_nothing_written(one_file, tmp_path, capsys, damage, words):
    damage(one_file)
    out = tmp_path / "out"
    with pytest.raises(InputError, match=words):
        convert_checkpoint(one_file, out, quiet=True)
    assert not out.exists()
    assert main(["convert", str(one_file), str(out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("llava-st: error: ")
    assert error.count("\n") == 1, error


def test_source_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="not a directory"):
        convert_checkpoint(tmp_path / "nowhere", tmp_path / "out")


def test_image_newline_of_the_base_is_left_out(one_file, tmp_path, capsys):
    edit_tensors(one_file, model__image_newline=torch.ones(32))
    assert main(["convert", str(one_file), str(tmp_path / "out")]) == 0
    assert "Left out model.image_newline" in capsys.readouterr().err
    _, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())


# -- never overwriting, and going on ----------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_refused(published, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        convert_checkpoint(published, tmp_path, quiet=True)
    assert read_folder(tmp_path) == {"notes.txt": b"mine"}
    with pytest.raises(InputError, match="is a file"):
        convert_checkpoint(published, tmp_path / "notes.txt", quiet=True)


def test_finished_work_is_not_overwritten(published, converted):
    before = read_folder(converted)
    with pytest.raises(InputError, match="not empty"):
        convert_checkpoint(published, converted, max_shard_size=SHARD_SIZE, quiet=True)
    assert read_folder(converted) == before


def test_an_empty_folder_is_used(published, converted, tmp_path):
    convert_checkpoint(published, tmp_path, max_shard_size=SHARD_SIZE, quiet=True)
    assert read_folder(tmp_path) == read_folder(converted)


# Runs the conversion over and over in children that kill themselves at their 1st, 8th, 15th ... step on the disk: a
# shard written, a file synced, renamed or removed. Each is started again.
KILLING = """
import os, shutil, signal, sys
from pathlib import Path
from llava_st_hf.checkpoints import writing
from llava_st_hf.checkpoints.convert import convert_checkpoint

source, folder, size, whole = sys.argv[1:]


def kill_at(deadly_step):
    steps = 0

    def step(function):
        def count(*args, **kwargs):
            nonlocal steps
            steps += 1
            if steps == deadly_step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return count

    os.fsync, os.replace, Path.unlink, shutil.rmtree = map(step, (os.fsync, os.replace, Path.unlink, shutil.rmtree))
    writing.save_file = step(writing.save_file)


def convert(out, deadly_step):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    kill_at(deadly_step)
    convert_checkpoint(source, out, max_shard_size=size, quiet=True)
    os._exit(0)


def check(out):
    finished = [path.name for path in Path(whole).iterdir()]
    there = [name for name in finished if (out / name).exists()]
    for name in there:  # under its name a file is whole
        assert (out / name).read_bytes() == Path(whole, name).read_bytes(), (deadly_step, name)
    assert "config.json" not in there or sorted(there) == sorted(finished), (deadly_step, there)


deadly_step = 1
while convert(out := Path(folder, str(deadly_step)), deadly_step) == -signal.SIGKILL:
    check(out)
    if (out / "unfinished.json").exists() or not (out / "config.json").exists():
        assert convert(out, None) == 0, deadly_step
    deadly_step += 7
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_killed_at_any_step_and_started_again_ends_with_the_same_files(published, converted, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", KILLING, str(published), str(tmp_path), SHARD_SIZE, str(converted)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    expected = read_folder(converted)
    runs = sorted(tmp_path.iterdir())
    assert len(runs) > 8
    for run in runs:
        assert read_folder(run) == expected, run.name


def stop_at_shard(monkeypatch, number):
    """Let the conversion stop when it is about to write that shard."""
    write_shard, written = writing._write_shard, []

    def write(path, tensors):
        if len(written) == number:
            raise KeyboardInterrupt
        written.append(path.name)
        return write_shard(path, tensors)

    monkeypatch.setattr(writing, "_write_shard", write)
    return written


def interrupt(published, out, monkeypatch, number=3):
    with monkeypatch.context() as context:
        stop_at_shard(context, number)
        with pytest.raises(KeyboardInterrupt):
            convert_checkpoint(published, out, max_shard_size=SHARD_SIZE, quiet=True)


def test_finished_shards_are_kept_and_damaged_ones_are_not(published, converted, tmp_path, monkeypatch):
    out = tmp_path / "out"
    interrupt(published, out, monkeypatch)
    assert not (out / "config.json").exists()
    shards = sorted(out.glob("model-*.safetensors"))
    assert len(shards) == 3
    shards[1].write_bytes(shards[1].read_bytes()[:-1] + b"?")
    shards[2].unlink()
    written = stop_at_shard(monkeypatch, -1)
    convert_checkpoint(published, out, max_shard_size=SHARD_SIZE, quiet=True)
    assert shards[0].name not in written
    assert {shards[1].name, shards[2].name} < set(written)
    assert read_folder(out) == read_folder(converted)


def test_unfinished_work_of_something_else_is_refused(published, one_file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    interrupt(published, out, monkeypatch)
    before = read_folder(out)
    for source, size in ((one_file, SHARD_SIZE), (published, "70KB")):
        with pytest.raises(InputError, match="holds a run with"):
            convert_checkpoint(source, out, max_shard_size=size, quiet=True)
    (out / MANIFEST_FILE).write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        convert_checkpoint(published, out, max_shard_size=SHARD_SIZE, quiet=True)
    assert {**read_folder(out), MANIFEST_FILE: before[MANIFEST_FILE]} == before


def test_full_disk_is_said_before_writing(published, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5))
    with pytest.raises(InputError, match=r"needs 0\.0 GB and its disk has 0\.0 GB free"):
        convert_checkpoint(published, tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


def test_disk_that_fails_while_writing(published, converted, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as context:
        context.setattr("os.replace", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(InputError, match="No space left on device"):
            convert_checkpoint(published, out, max_shard_size=SHARD_SIZE, quiet=True)
    assert not list(out.glob("*.safetensors"))
    convert_checkpoint(published, out, max_shard_size=SHARD_SIZE, quiet=True)
    assert read_folder(out) == read_folder(converted)


def test_command_shows_progress_over_bytes(published, tmp_path, capsys):
    assert main(["convert", str(published), str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "out")
    assert "Writing" in captured.err
    assert "B/s" in captured.err
    assert main(["convert", str(published), str(tmp_path / "quiet"), "--quiet"]) == 0
    assert "Writing" not in capsys.readouterr().err
