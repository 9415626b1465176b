"""What `save_pretrained` wrote loads in an interpreter that has no `llava_st_hf`, and what that one wrote does too."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import remote_code_loading
import torch
from remote_code_loading import OBSERVERS, PACKAGE, get_media_inputs
from transformers import AutoProcessor

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTModel

SOURCES = [
    path
    for folder in ("modeling", "processing")
    for path in Path(importlib.util.find_spec(PACKAGE).origin).with_name(folder).glob("*_llava_st.py")
]
AUTO_MAP = {
    "AutoConfig": "configuration_llava_st.LlavaSTConfig",
    "AutoModel": "modeling_llava_st.LlavaSTModel",
    "AutoModelForImageTextToText": "modeling_llava_st.LlavaSTForConditionalGeneration",
    "AutoModelForMultimodalLM": "modeling_llava_st.LlavaSTForConditionalGeneration",
}


def run_without_package(libraries: Path, folder: Path, jobs: dict, inputs: dict) -> dict[str, dict]:
    """Work off jobs in a fresh interpreter; return what was observed."""
    folder.mkdir()
    (folder / "jobs.json").write_text(json.dumps(jobs))
    torch.save(inputs, folder / "inputs.pt")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))}
    environment |= {"PYTHONPATH": str(libraries), "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    # -S: no site-packages, and so none of the files there that make an editable install importable.
    command = [sys.executable, "-S", remote_code_loading.__file__, str(folder)]
    finished = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    errors = {name: error for name, error in json.loads((folder / "errors.json").read_text()).items() if error}
    assert not errors, "\n".join(f"{name}: {error}" for name, error in errors.items())
    return {name: torch.load(folder / f"{name}.pt") for name, _ in jobs["observe"]}


@pytest.fixture(scope="module")
def folders(checkpoint, tmp_path_factory) -> dict[str, Path]:
    """The saved model and processor, the base model saved alone, and what is written by the other interpreter."""
    folder = tmp_path_factory.mktemp("remote code")
    LlavaSTModel.from_pretrained(checkpoint).save_pretrained(folder / "base")
    return {"first": checkpoint, "base": folder / "base", "again": folder / "again", "base again": folder / "base2"}


@pytest.fixture(scope="module")
def expected(checkpoint, clip) -> dict[str, dict]:
    """What the package itself gives, through the same Auto classes."""
    inputs = dict(get_media_inputs(AutoProcessor.from_pretrained(checkpoint), str(clip)))
    observed = {name: observe(str(checkpoint), inputs, str(clip)) for name, observe in OBSERVERS.items()}
    return {"inputs": inputs, **{name: {"kind": kind, "value": value} for name, (kind, value) in observed.items()}}


@pytest.fixture(scope="module")
def observed(libraries, folders, expected, clip, tmp_path_factory) -> dict[str, dict]:
    """What an interpreter without the package gives, from a save and from what it saved of that itself."""
    paths = {name: str(path) for name, path in folders.items()}
    jobs = {"clip": str(clip), "observe": []}
    jobs["save_again"] = [(paths["first"], paths["again"]), (paths["base"], paths["base again"])]
    for whole, base in (("first", "base"), ("again", "base again")):
        jobs["observe"] += [(f"{name}@{whole}", paths[whole]) for name in OBSERVERS]
        jobs["observe"].append((f"AutoModel@{base}", paths[base]))
    return run_without_package(libraries, tmp_path_factory.mktemp("observed") / "run", jobs, expected["inputs"])


@pytest.mark.parametrize(
    ("name", "save"),
    [
        *((name, save) for name in OBSERVERS for save in ("first", "again")),
        *(("AutoModel", save) for save in ("base", "base again")),
    ],
)
def test_same_outputs_without_the_package(observed, expected, name, save):
    remote, local = observed[f"{name}@{save}"], expected[name]
    if name in ("AutoConfig", "AutoTokenizer", "post_process_grounding", "pipeline"):
        assert remote["value"] == local["value"]
    else:
        torch.testing.assert_close(remote["value"], local["value"], rtol=0, atol=0)
    assert remote["class"] == local["kind"].__name__
    if name != "AutoTokenizer":  # a class of transformers
        assert remote["module"].startswith("transformers_modules.")
        assert local["kind"].__module__.startswith(PACKAGE)  # where the package is, its classes are taken


@pytest.mark.parametrize("save", ["first", "base", "again", "base again"])
def test_every_save_holds_code_and_the_whole_auto_map(observed, folders, save):
    folder = folders[save]
    assert json.loads((folder / "config.json").read_text())["auto_map"] == AUTO_MAP
    expected = [path for path in SOURCES if "base" not in save or path.parent.name == "modeling"]
    assert {path.name for path in folder.glob("*.py")} == {path.name for path in expected}
    assert all((folder / path.name).read_bytes() == (folders["first"] / path.name).read_bytes() for path in expected)
    if "base" in save:
        return
    processor = json.loads((folder / "processor_config.json").read_text())
    assert processor["auto_map"]["AutoProcessor"] == "processing_llava_st.LlavaSTProcessor"
    video_class = processor["video_processor"]["auto_map"]["AutoVideoProcessor"]
    assert video_class == "video_processing_llava_st.LlavaSTVideoProcessor"
    (template,) = Path(SOURCES[-1]).parent.glob("*.jinja")
    assert (folder / "chat_template.jinja").read_text() == template.read_text()


def test_config_alone_brings_the_code_of_the_model(tmp_path):
    LlavaSTConfig().save_pretrained(tmp_path)
    assert (tmp_path / "modeling_llava_st.py").is_file()
    assert LlavaSTConfig.from_pretrained(tmp_path).auto_map == AUTO_MAP


def test_code_of_another_repository_is_not_referred_to(checkpoint, tmp_path):
    """A model that was loaded from the Hub has the repository's name in its `auto_map`."""
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    model.config.auto_map = {name: f"someone/model--{value}" for name, value in AUTO_MAP.items()}
    model.save_pretrained(tmp_path)
    assert LlavaSTConfig.from_pretrained(tmp_path).auto_map == AUTO_MAP


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_files_import_only_siblings(path):
    from transformers.dynamic_module_utils import get_imports, get_relative_imports

    assert PACKAGE not in get_imports(path)
    for name in get_relative_imports(path):
        assert path.with_name(f"{name}.py").is_file(), f"{path.name} imports .{name}"
    assert "from . import" not in path.read_text(), "transformers does not follow this form"
