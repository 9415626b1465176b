"""Every Python snippet of the README runs, in order, in a folder where `make demo` was run."""

import re

import pytest
from published_checkpoint import make_onevision_checkpoint, make_published_checkpoint

from llava_st_cli import main


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    assert main(["demo", "--output-dir", str(folder / "demo_output")]) == 0
    make_published_checkpoint(folder / "LLaVA-ST-Qwen2-7B")  # tiny ones under the names of the large
    make_onevision_checkpoint(folder / "llava-onevision-qwen2-0.5b-ov-hf", tied=True)
    return folder


def test_snippets_run(demo_folder, monkeypatch, pytestconfig):
    monkeypatch.chdir(demo_folder)
    snippets = re.findall(r"```python\n(.*?)```", (pytestconfig.rootpath / "README.md").read_text(), flags=re.DOTALL)
    assert len(snippets) >= 10
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["result"].media.width == 288
    for name in ("annotated_again.mp4", "sheet.png"):
        assert (demo_folder / "demo_output" / name).is_file()


def test_commands_parse(pytestconfig, monkeypatch):
    """Each `llava-st` line of the README is a command that the program knows."""
    monkeypatch.setattr("llava_st_cli.running.Command.invoke", lambda command, ctx: None)
    text = (pytestconfig.rootpath / "README.md").read_text().replace("\\\n", " ")
    lines = re.findall(r"^llava-st (.+?)(?:\s+#.*)?$", text, flags=re.MULTILINE)
    assert len(lines) >= 4
    for command in lines:
        arguments = [part.strip('"') for part in re.findall(r'"[^"]*"|\S+', command)]
        if "--help" not in arguments:
            assert main(arguments) == 0, command


def test_tree_names_what_exists(pytestconfig):
    root = pytestconfig.rootpath
    text = (root / "README.md").read_text()
    for name in re.findall(r"^  ([\w./]+)  ", text, flags=re.MULTILINE):
        assert (root / "src" / "llava_st_hf" / name).exists(), name
