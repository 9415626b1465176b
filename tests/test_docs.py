"""Every Python snippet and command of the README and of docs/ runs, in a folder where `make demo` was run.

A block ```bash is run line by line; in a block ```sh stand commands that need a real checkpoint, a GPU or a network:
these are parsed only. What needs a package that is not installed here stands in a block ```py, see `ELSEWHERE`.
Records and mixtures are in blocks ```json and ```yaml.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from published_checkpoint import make_onevision_checkpoint, make_published_checkpoint
from tiny_sam import make_sam2

from llava_st_cli import main
from llava_st_cli.app import make_program
from llava_st_hf import TASKS, open_reader
from llava_st_hf.data.mixture_spec import MixtureSpec

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What the pages link to outside; whether it is still there is looked at by hand: see release/README.md.
OUTSIDE = {
    "https://arxiv.org/abs/2501.08282",
    "https://github.com/EvolvingLMMs-Lab/lmms-eval",
    "https://github.com/QwenLM/Qwen3-VL/issues/1741",
    "https://github.com/modelscope/ms-swift/pull/6178",
    "https://huggingface.co/allenai/MolmoPoint-8B",
    "https://inspect.aisi.org.uk",
    "https://pypi.org/project/lmms-eval/0.7.3/",
}

# The first lines of blocks that run elsewhere, and where.
ELSEWHERE = {
    "import fiftyone": "data/exports/test_fiftyone.py, with the importer of that data set",
    "from inspect_ai import eval": "evaluation/harnesses/test_inspect.py, in an environment of its own",
}


def find_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def find_commands(page: Path, language: str) -> list[list[str]]:
    """The `llava-st` commands of a page as lists of arguments."""
    text = "\n".join(find_blocks(page, language)).replace("\\\n", " ")
    return [shlex.split(line, comments=True)[1:] for line in text.splitlines() if line.startswith("llava-st ")]


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    assert main(["demo", "--output-dir", str(folder / "demo_output")]) == 0
    make_published_checkpoint(folder / "LLaVA-ST-Qwen2-7B")  # tiny ones under the names of the large
    make_onevision_checkpoint(folder / "llava-onevision-qwen2-0.5b-ov-hf", tied=True)
    make_sam2().save_pretrained(folder / "facebook" / "sam2.1-hiera-tiny")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_and_commands_run(page, demo_folder, monkeypatch):
    monkeypatch.chdir(demo_folder)
    names = {}
    for snippet in find_blocks(page, "python"):
        exec(compile(snippet, page.name, "exec"), names)
    for arguments in find_commands(page, "bash"):
        assert main(arguments) == 0, arguments


def test_records_and_mixtures_are_read(demo_folder, monkeypatch):
    monkeypatch.chdir(demo_folder)
    (record,) = find_blocks(ROOT / "README.md", "json")
    Path("record.jsonl").write_text(record)
    assert open_reader("user_jsonl", "record.jsonl", source="readme", data_folder="demo_output")[0].task == "stvg"
    (mixture,) = find_blocks(ROOT / "docs" / "training.md", "yaml")
    Path("mixture.yaml").write_text(mixture)
    assert MixtureSpec.from_yaml("mixture.yaml").num_frames == 20


def test_no_other_block_is_left_out():
    kinds = {kind for page in PAGES for kind in re.findall(r"^```(\w+)", page.read_text(), flags=re.MULTILINE)}
    assert kinds == {"bash", "json", "py", "python", "sh", "text", "yaml"}
    blocks = [block for page in PAGES for block in find_blocks(page, "py")]
    assert sorted(block.partition("\n")[0] for block in blocks) == sorted(ELSEWHERE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page, monkeypatch):
    """Each `llava-st` line is a command that the program knows, with options that it has."""
    monkeypatch.setattr("llava_st_cli.running.Command.invoke", lambda command, ctx: None)
    for arguments in find_commands(page, "sh"):
        assert main(arguments) == 0, arguments


def test_every_command_and_option_is_in_the_docs_as_its_help_says():
    written = runpy.run_path(str(ROOT / "docs" / "make_command_line.py"))["write_page"]()
    assert written == (ROOT / "docs" / "command_line.md").read_text()  # else: python docs/make_command_line.py


def test_commands_that_are_named_in_a_sentence_exist():
    commands = set(make_program().commands)
    for page in PAGES:
        named = re.findall(r"`llava-st ([a-z][\w-]*)", page.read_text())
        assert set(named) <= commands, page.name


def test_readme_tree_names_what_exists():
    for name in re.findall(r"^  ([\w./]+)  ", (ROOT / "README.md").read_text(), flags=re.MULTILINE):
        assert (ROOT / "src" / "llava_st_hf" / name).exists(), name


def test_links_to_the_outside_are_those_that_are_looked_after():
    pages = [*PAGES, *(ROOT / f"{name}.md" for name in ("AGENTS", "CHANGELOG", "CONTRIBUTING", "SECURITY"))]
    found = {link for page in pages for link in re.findall(r"\]\((\w+:[^)]*)\)", page.read_text())}
    assert found == OUTSIDE
    inside = [
        (page.name, link)
        for page in pages
        for link in re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert inside == []


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", ["tasks.md", "your_data.md"])
def test_every_task_has_its_row(page):
    text = (ROOT / "docs" / page).read_text()
    assert [name for name in TASKS if f"`{name}`" not in text] == []


def test_pictures_are_made_by_their_script(tmp_path):
    made = {path.name for path in runpy.run_path(str(ROOT / "docs" / "make_pictures.py"))["make_pictures"](tmp_path)}
    assert made == {path.name for path in tmp_path.iterdir()}
    assert made | {"page.jpg"} == {path.name for path in (ROOT / "docs" / "pictures").iterdir()}
    shown = {name for page in PAGES for name in re.findall(r"pictures/([\w.]+)", page.read_text())}
    assert made | {"page.jpg"} == shown  # a screenshot that tests/page/test_browser.py takes


def test_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "api" / "index.html").read_text().count("llava_st_hf.GroundingResult") > 1
