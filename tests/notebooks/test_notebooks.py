"""The notebooks: what is stored in them, and each executed by a kernel in an empty folder."""

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from local_hub import LocalHub
from nbclient import NotebookClient

from llava_st_cli import main
from llava_st_hf import load_pipeline
from llava_st_hf.demo import DEMO_QUERY, SHIPPED_CHECKPOINT, write_demo_clip
from llava_st_hf.page.answering import Answerer, PageLimits

ROOT = Path(__file__).parents[2]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(?:content|home|mnt|private|root|tmp|usr|Users|var|work)/")
PICTURE = re.compile(r"data:image/\w+;base64,")


def list_code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def list_outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in list_code_cells(notebook) for output in cell.outputs]


def has_picture(output: nbformat.NotebookNode) -> bool:
    data = output.get("data", {})
    return any(kind.startswith("image/") for kind in data) or bool(PICTURE.search(data.get("text/html", "")))


def find_absolute_paths(notebook: nbformat.NotebookNode) -> list[str]:
    text = PICTURE.sub("", nbformat.writes(notebook))
    return [text[match.start() : match.start() + 60] for match in ABSOLUTE_PATH.finditer(text)]


def test_there_are_those_that_the_docs_name():
    assert set(NOTEBOOKS) == {"evaluate", "quickstart", "three_stages", "your_own_clips"}
    named = re.findall(r"notebooks/(\w+)\.ipynb", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(named) == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_stored(name):
    """Few cells, the first of code installs what is missing; executed in order, with pictures and no absolute path."""
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) < 25
    cells = list_code_cells(notebook)
    assert 'find_spec("llava_st_hf") is None' in cells[0].source
    assert re.search(r'%pip install --quiet "llava-st-hf\[[\w,]+\]"', cells[0].source)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "error" not in {output.output_type for output in list_outputs(notebook)}
    assert any(map(has_picture, list_outputs(notebook)))
    assert find_absolute_paths(notebook) == []


def read_answers(notebook: nbformat.NotebookNode) -> list[str]:
    """List the results that were printed."""
    texts = [output.get("text", "") for output in list_outputs(notebook)]
    return [text for text in texts if text.startswith("query: ")]


def test_python_command_page_and_notebook_give_one_answer(tmp_path, capsys):
    """What is stored in the notebook is what a kernel prints, see below; the page in a browser: tests/page."""
    clip, ground = str(write_demo_clip(tmp_path / "clip.mp4")), load_pipeline(SHIPPED_CHECKPOINT)
    result = ground(clip, DEMO_QUERY)
    assert main(["ground", clip, DEMO_QUERY, "--json", str(tmp_path / "answer.json")]) == 0
    assert str(result) in capsys.readouterr().out
    said = json.loads((tmp_path / "answer.json").read_text())
    (shown,) = Answerer(ground, PageLimits()).ask(clip, "video", None, [DEMO_QUERY], lambda *_: None, num_frames=20)
    assert json.loads(result.to_json()) == json.loads(shown.to_json()) == {k: said[k] for k in said if k != "model"}
    printed, *_ = read_answers(nbformat.read(NOTEBOOKS["quickstart"], as_version=4))
    assert printed.startswith(str(result))


def test_an_absolute_path_is_found():
    cell = nbformat.v4.new_code_cell(
        "print(1)", outputs=[nbformat.v4.new_output("stream", text="in /tmp/run/a.json\n")]
    )
    (found,) = find_absolute_paths(nbformat.v4.new_notebook(cells=[cell]))
    assert found.startswith("/tmp/run/a.json")


@pytest.mark.parametrize(
    "name", [name if name == "quickstart" else pytest.param(name, marks=pytest.mark.slow) for name in NOTEBOOKS]
)
def test_a_kernel_executes_it(name, tmp_path, monkeypatch):
    """As it is stored, in a folder with nothing in it; what is sent to a Hub goes to the one of the tests."""
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    num_pictures, stored = sum(map(has_picture, list_outputs(notebook))), read_answers(notebook)
    folder = tmp_path / "folder"
    folder.mkdir()
    with LocalHub() as hub:
        settings = hub.environment(
            tmp_path / "cache",
            PYTHONPATH=str(ROOT / "src"),
            PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        )
        for variable, value in settings.items():
            monkeypatch.setenv(variable, value)
        NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
        sent = ("model", "me/my-clips") in hub.repositories
    assert sum(map(has_picture, list_outputs(notebook))) == num_pictures
    assert sent == (name == "your_own_clips")
    assert read_answers(notebook) == stored
