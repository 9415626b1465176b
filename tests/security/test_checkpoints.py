"""Folders of checkpoints that somebody else made: their code is not run, and they are whole or refused."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from hostile_process import check_refused, run_commands
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from llava_st_hf import InputError, LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.checkpoints.reading import read_config
from llava_st_hf.inference.loading import load_config, load_model
from llava_st_hf.processing.published_layout_llava_st import MAX_SETTINGS_BYTES

INDEX = "model.safetensors.index.json"
CODE = """
from pathlib import Path
Path({marker!r}).touch()
class Evil:
    def __init__(self, *args, **kwargs): pass
    from_pretrained = classmethod(lambda cls, *args, **kwargs: cls())
"""


def change_json(path: Path, **values: object) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **values}))


class Pickled:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def copies(checkpoint, tmp_path_factory):
    """Make a copy of the random checkpoint."""
    root = tmp_path_factory.mktemp("copies")

    def make(name: str) -> Path:
        return Path(shutil.copytree(checkpoint, root / name))

    make.root = root
    return make


def make_code_folders(copies, marker: Path) -> dict[str, Path]:
    """Folders whose files name code that lies beside them, for each part that a loader may make."""
    folders = {}
    maps = {
        "tokenizer": ("tokenizer_config.json", {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}),
        "processor": ("processor_config.json", {"AutoProcessor": "evil.Evil"}),
        "config": ("config.json", {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}),
    }
    for name, (file, auto_map) in maps.items():
        folders[name] = copies(f"code_{name}")
        own = {"tokenizer": {"tokenizer_class": "Evil"}, "processor": {"processor_class": "Evil"}}.get(name, {})
        change_json(folders[name] / file, auto_map=auto_map, **own)
    (folders["tokenizer"] / "tokenizer.json").unlink()
    for part in ("image_processor", "video_processor"):
        folders[part] = copies(f"code_{part}")
        path = folders[part] / "processor_config.json"
        kind = "".join(word.title() for word in part.split("_"))
        value = {"auto_map": {f"Auto{kind}": "evil.Evil"}, f"{part}_type": "Evil"}
        change_json(path, **{part: value})
    for folder in folders.values():
        (folder / "evil.py").write_text(CODE.format(marker=str(marker)))
        (folder / "custom_generate").mkdir()
        (folder / "custom_generate" / "generate.py").write_text(CODE.format(marker=str(marker)))
    return folders


def test_code_of_a_folder_is_not_run_and_nobody_is_asked(copies, clip, tmp_path):
    marker = tmp_path / "it_was_run"
    folders = make_code_folders(copies, marker)
    records = tmp_path / "records.jsonl"
    records.write_text(json.dumps({"video": str(clip), "query": "it", "span_seconds": [0, 1]}) + "\n")
    recipe = {"model_name_or_path": str(folders["tokenizer"]), "stage": "full_finetuning", "output_dir": "run"}
    recipe["st_shapes"] = {"task_weights": ["tvg"], "num_samples": 2}
    (tmp_path / "recipe.yaml").write_text(json.dumps({**recipe, "max_steps": 1, "bf16": False}))
    onevision = copies("onevision")
    shutil.copy(folders["tokenizer"] / "tokenizer_config.json", onevision)
    shutil.copy(folders["tokenizer"] / "evil.py", onevision)
    (onevision / "tokenizer.json").unlink()
    few = ["--frames", 4, "--max-new-tokens", 20]
    commands = [["ground", clip, "it", "--model", folder, *few] for folder in folders.values()]
    commands += [
        ["data", "check", records, "--processor", folders["tokenizer"]],
        ["evaluate", "st-shapes", "--model", folders["tokenizer"], "--num-clips", 1],
        ["train", tmp_path / "recipe.yaml"],
        ["init", tmp_path / "new", "--base", onevision],
        f"import llava_st_hf, transformers\n"
        f"transformers.pipeline('spatial-temporal-grounding', model={str(folders['processor'])!r})",
    ]
    for ended in run_commands(commands, tmp_path):
        assert ended.code in (0, 1) or "trust_remote_code" in ended.code, ended
        assert "Traceback" not in ended.err
    assert not marker.exists()


def run_script(name: str, *arguments: object) -> str:
    """Return code that runs one of the scripts for jobs."""
    path = str(Path(__file__).parents[2] / "scripts" / name)
    words = [name, *map(str, arguments)]
    return f"import runpy, sys\nsys.argv = {words!r}\nrunpy.run_path({path!r}, run_name='__main__')"


@pytest.mark.slow
def test_no_door_asks_about_a_model_that_nobody_knows(copies, clip, tmp_path):
    """transformers asks where a config names code and a type that it does not know, at any depth."""
    marker = tmp_path / "it_was_run"
    names = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil"}
    folders = {name: copies(f"asking_{name}") for name in ("whole", "text", "vision", "adapter")}
    change_json(folders["whole"] / "config.json", model_type="evil", architectures=["Evil"], auto_map=names)
    config = json.loads((folders["text"] / "config.json").read_text())
    for part, kind in (("text", "timm_wrapper"), ("vision", "evil")):
        changed = {**config[f"{part}_config"], "model_type": kind, "auto_map": names}
        change_json(folders[part] / "config.json", **{f"{part}_config": changed})
    adapter = folders["adapter"]
    (adapter / "config.json").unlink()
    (adapter / "model.safetensors").rename(adapter / "adapter_model.safetensors")
    library = {"base_model_class": "Evil", "parent_library": "evil"}
    base = str(folders["whole"])
    change_json(adapter / "adapter_config.json", peft_type="LORA", base_model_name_or_path=base, auto_mapping=library)
    recipe = {"model_name_or_path": "", "stage": "full_finetuning", "output_dir": "run", "max_steps": 1}
    recipe["st_shapes"] = {"task_weights": ["tvg"], "num_samples": 2}
    commands = []
    for name, folder in folders.items():
        (folder / "evil.py").write_text(CODE.format(marker=str(marker)))
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps({**recipe, "model_name_or_path": str(folder)}))
        commands += [
            ["ground", clip, "it", "--model", folder],
            ["info", "--model", folder],
            ["merge", folder, "--to", tmp_path / "merged"],
            ["init", tmp_path / "new", "--base", folder],
            ["convert", folder, tmp_path / "new"],
            ["evaluate", "st-shapes", "--num-clips", 1, "--model", folder],
            ["train", path, "--dry-run"],
            ["data", "check", path],
            ["ground", clip, "it", "--masks", folder, "--annotated", tmp_path / "a.mp4"],
            ["demo", "--page", "--model", folder],
            f"import llava_st_hf\nllava_st_hf.load_pipeline({str(folder)!r})",
            run_script("ask.py", clip, "it", "--model", folder),
            run_script("evaluate.py", folder, "--num-clips", 1),
            run_script("train.py", "--model", folder, "--data", tmp_path, "--push-to", "me/x"),
        ]
        if name in ("whole", "adapter"):  # the others are sent as they are, and nothing is made of them
            commands.append(["push", folder, "me/x", "--dry-run"])
    for command, ended in zip(commands, run_commands(commands, tmp_path), strict=True):
        # What is not installed is not the fault of the file.
        kinds = ("InputError", "ImportError", "SystemExit: 1")
        assert ended.code == 1 or any(kind in str(ended.code) for kind in kinds), (command, ended)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 10**7}, "a rank is 10000000"),
        ({"rank_pattern": {"q_proj": 10**7}}, "a rank is 10000000"),
        ({"target_modules": r"(\w+)+!"}, "may be compared without end"),
        ({"alpha_pattern": {r"(a|a)*b": 3}}, "may be compared without end"),
    ],
)
def test_an_adapter_may_not_claim_more_than_its_weights(checkpoint, tmp_path, change, message):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    change_json(tmp_path / "adapter_config.json", base_model_name_or_path=str(checkpoint))
    assert load_model(tmp_path).dtype == model.dtype
    change_json(tmp_path / "adapter_config.json", **change)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json", "chat_template.jinja"])
def test_settings_are_of_a_size_that_can_be_read(copies, name):
    folder = copies(f"huge {name}")
    with open(folder / name, "wb") as file:
        file.truncate(MAX_SETTINGS_BYTES + 1)
    for door in (load_config, load_model, LlavaSTProcessor.from_pretrained, read_config):
        with pytest.raises(InputError, match=f"{name} of .* has 36,000,001 bytes"):
            door(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_settings_in_the_cache_of_the_hub_are_of_a_size_that_can_be_read(copies, tmp_path, name):
    folder = copies(f"huge cached {name}")
    with open(folder / name, "wb") as file:
        file.truncate(MAX_SETTINGS_BYTES + 1)
    repository = tmp_path / "models--somebody--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / ("0" * 40))
    cached = {"cache_dir": str(tmp_path), "local_files_only": True}
    for door in (load_model, LlavaSTProcessor.from_pretrained):
        with pytest.raises(InputError, match=f"{name} of somebody/model has 36,000,001 bytes"):
            door("somebody/model", **cached)


def write_index(folder: Path, file: str) -> None:
    names = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, file)}))


def break_weights(folder: Path, how: str) -> None:
    """Do to a checkpoint what a word says."""
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    if how == "missing":
        weights.unlink()
    elif how == "empty":
        weights.write_bytes(b"")
    elif how == "damaged":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "text":
        weights.write_bytes(b"\xff" * 1000)
    elif how == "long header":
        weights.write_bytes((2**62).to_bytes(8, "little") + b"{")
    elif how == "pickled":
        weights.write_bytes(pickle.dumps(Pickled(folder / "it_was_run")))
    elif how == "bin":
        weights.unlink()
        torch.save(tensors, folder / "pytorch_model.bin")
    elif how == "pipe":
        weights.unlink()
        os.mkfifo(weights)
    elif how == "foreign":
        save_file({"other": torch.zeros(2)}, weights, metadata={"format": "pt"})
    elif how == "one more":
        save_file({**tensors, "other": torch.zeros(2)}, weights, metadata={"format": "pt"})
    elif how == "shape":
        save_file({**tensors, name: tensors[name][..., None]}, weights, metadata={"format": "pt"})
    elif how == "integers":
        save_file({**tensors, name: tensors[name].to(torch.int8)}, weights, metadata={"format": "pt"})
    elif how in ("above", "absolute"):
        outside = folder.parent / f"outside_{folder.name}.safetensors"
        shutil.copy(weights, outside)
        write_index(folder, f"../{outside.name}" if how == "above" else str(outside))
    elif how == "absent shard":
        write_index(folder, "model-00002-of-00002.safetensors")
    elif how == "index":
        (folder / INDEX).write_text("[1]")
        weights.unlink()
    elif how == "both":
        (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(tensors, "other.safetensors")}))
    elif how == "named":
        weights.rename(folder / "adapter_model.bin")
        change_json(folder / "config.json", transformers_weights="adapter_model.bin")
    elif how == "adapter":
        change_json(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path="x")
        torch.save({}, folder / "adapter_model.bin")
    elif how == "config":
        (folder / "config.json").write_text("[" * 100_000)


BROKEN = {
    "missing": "missing",
    "empty": "damaged",
    "damaged": "damaged",
    "text": "damaged",
    "long header": "damaged",
    "pickled": "pickle",
    "bin": "pickle",
    "pipe": "missing",
    "foreign": "no place",
    "one more": "no place in the model for other",
    "shape": "shape",
    "integers": "I8",
    "above": "names '../",
    "absolute": "only safetensors files are read",
    "absent shard": "missing",
    "index": "holds no object",
    "both": "remove the one",
    "named": "transformers_weights",
    "adapter": "adapter_config.json",
    "config": "config.json",
}


def test_a_checkpoint_is_whole_or_refused_before_anything_is_answered(copies, clip, tmp_path):
    folders = {how: copies(f"broken {how}") for how in BROKEN}
    for how, folder in folders.items():
        break_weights(folder, how)
    commands = [["ground", clip, "it", "--frames", 4, "--model", folder] for folder in folders.values()]
    some = [folders[how] for how in ("damaged", "foreign", "above")]
    commands += [["evaluate", "st-shapes", "--num-clips", 1, "--model", folder] for folder in some]
    commands += [
        f"import llava_st_hf, transformers\ntransformers.pipeline('spatial-temporal-grounding', model={str(folder)!r})"
        for folder in some
    ]
    ended = run_commands(commands, tmp_path)
    for (how, folder), each in zip(folders.items(), ended, strict=False):
        check_refused(each, BROKEN[how], folder.name)
    for each in ended[len(folders) : len(folders) + len(some)]:
        check_refused(each)
    for each in ended[-len(some) :]:
        assert "InputError: " in each.code, each
    assert not any((folder / "it_was_run").exists() for folder in folders.values())
    assert not (tmp_path / "evaluation_output").exists()


def test_links_of_the_cache_of_the_hub_are_followed(checkpoint, tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, path in enumerate(path for path in checkpoint.iterdir() if path.is_file()):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../..") / "blobs" / str(number))
    assert type(load_model(snapshot)) is LlavaSTForConditionalGeneration
    assert LlavaSTProcessor.from_pretrained(snapshot).num_temporal_tokens == 100


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"adapter_config.json": {"peft_type": "XLORA"}}, "peft_type is 'XLORA'"),
        ({"adapter_config.json": ["LORA"]}, "holds no object"),
        ({"adapter_config.json": {"peft_type": "LORA", "base_model_name_or_path": {}}}, "name the base"),
    ],
)
def test_adapters_of_other_kinds_are_refused(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


def test_an_adapter_is_whole_or_refused(checkpoint, tmp_path):
    change_json(tmp_path / "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(checkpoint))
    torch.save({}, tmp_path / "adapter_model.bin")
    with pytest.raises(InputError, match=r"adapter_model\.bin of .* is a pickle file"):
        load_model(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    for content, message in ((b"PK\x03\x04" + bytes(60), "pickle"), (b"\x10" + bytes(60), "damaged")):
        weights.write_bytes(content)
        with pytest.raises(InputError, match=message):
            load_model(tmp_path)
