"""The scripts that `uv run` runs: what they name in their headers, and that it is enough."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import check_release
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from llava_st_hf.data import SourceFacts
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.tools.publish import publish_dataset
from llava_st_hf.demo import DEMO_QUERY, SHIPPED_CHECKPOINT, write_demo_clip

ROOT = Path(__file__).parents[2]
SCRIPTS = {path.stem: path for path in sorted((ROOT / "scripts").glob("*.py"))}
# The pattern that PEP 723 gives, for the fields that are used.
BLOCK = re.compile(r"^# /// script$\s(?P<content>(?:^#(?:| .*)$\s)+)^# ///$", re.MULTILINE)
FIELDS = re.compile(r'^# requires-python = "(?P<python>.+)"\n# dependencies = (?P<dependencies>\[.*\])$', re.MULTILINE)


def read_header(path: Path) -> tuple[SpecifierSet, list[Requirement]]:
    """Return the Pythons and the requirements that a script names."""
    (block,) = BLOCK.finditer(path.read_text(encoding="utf-8"))
    fields = FIELDS.fullmatch(block["content"].rstrip("\n"))
    return SpecifierSet(fields["python"]), [Requirement(one) for one in json.loads(fields["dependencies"])]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_header_names_what_there_is(name):
    pythons, requirements = read_header(SCRIPTS[name])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert pythons == SpecifierSet(project["requires-python"])
    assert [one.name for one in requirements] == ["llava-st-hf"]
    assert requirements[0].extras <= set(project["optional-dependencies"])
    assert all(Version("0.1.0") in one.specifier for one in requirements)


def run(python: Path, name: str, arguments: list, folder: Path) -> subprocess.CompletedProcess:
    command = [python, SCRIPTS[name], *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("ask", ["missing.mp4", "a dog"], "missing.mp4"),
        ("evaluate", ["missing"], "missing"),
        pytest.param("train", ["--model", "missing", "--data", "me/kitchen"], "missing", marks=pytest.mark.slow),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(name, arguments, said, tmp_path):
    done = run(Path(sys.executable), name, arguments, tmp_path)
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


@pytest.mark.slow
def test_ask_runs_with_what_its_header_names(tmp_path):
    """In an empty environment; the package itself comes from a wheel of this checkout."""
    wheel = check_release.build_wheel(tmp_path)
    _, requirements = read_header(SCRIPTS["ask"])
    named = [f"{one.name}{sorted(one.extras) or ''} @ {wheel.as_uri()}".replace("'", "") for one in requirements]
    programs = check_release.make_environment(sys.executable, tmp_path / "environment", named)
    clip = write_demo_clip(tmp_path / "clip.mp4")
    script = [programs / "python", SCRIPTS["ask"], clip, DEMO_QUERY, "--json", "answer.json"]
    check_release.run_outside(script, tmp_path)
    (span,) = json.loads((tmp_path / "answer.json").read_text())["spans"]
    assert span["start_seconds"] == pytest.approx(1.6, abs=0.3)


@pytest.mark.slow
def test_evaluate_and_train_run(tmp_path):
    """On a folder in the place of the Hub; `push` itself is tested where it is."""
    records = ShapesDataset(["tvg"], 4, num_frames=8, size=32, difficulty="easy", encode=True)
    facts = {"st-shapes": SourceFacts("st-shapes", "CC0-1.0", "rendered by llava-st-hf")}
    publish_dataset(records, tmp_path / "published", sources=facts, quiet=True)
    more = ["--num-clips", 1, "--tasks", "tvg", "--quiet"]
    done = run(Path(sys.executable), "evaluate", [SHIPPED_CHECKPOINT, *more], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "metrics.json").exists()
    more = ["--max_steps", 1, "--gradient_accumulation_steps", 1, "--num_frames", 8, "--save_steps", 1]
    done = run(Path(sys.executable), "train", ["--model", SHIPPED_CHECKPOINT, "--data", "published", *more], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output" / "adapter_model.safetensors").exists()


def test_a_recipe_of_somebody_is_not_written_over(tmp_path):
    (tmp_path / "sft.yaml").write_text("mine")
    done = run(Path(sys.executable), "train", ["--model", "missing", "--data", "me/kitchen"], tmp_path)
    assert (done.returncode, [path.name for path in tmp_path.iterdir()]) == (2, ["sft.yaml"])
    assert "sft.yaml is there already" in done.stderr
    assert (tmp_path / "sft.yaml").read_text() == "mine"
