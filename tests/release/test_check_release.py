"""What a release says of itself, and whether its wheel works."""

import re
import subprocess
import sys
from pathlib import Path

import check_release
import pytest

from llava_st_hf.demo import DEMO_QUERY, SHIPPED_CHECKPOINT, write_demo_clip
from llava_st_hf.hub import CardOptions, push_folder
from llava_st_hf.hub.cards import ModelFacts, render_trained_card

ROOT = Path(__file__).parents[2]
CONSISTENT = {
    "pyproject.toml": 'version = "1.2.0"\n',
    "CITATION.cff": "version: 1.2.0\ndate-released: 2027-01-31\n",
    "CHANGELOG.md": "# Changelog\n\n## 1.2.0 (2027-01-31)\n\n## 1.1.0 (2026-12-01)\n",
}


def test_versions_agree():
    assert check_release.find_disagreements() == []


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (None, "", "", []),
        ("CITATION.cff", "version: 1.2.0", "version: 1.1.0", ["version of CITATION.cff"]),
        ("CITATION.cff", "date-released: 2027-01-31\n", "", ["date-released of CITATION.cff is None"]),
        ("CHANGELOG.md", "1.2.0 (2027-01-31)", "1.2.0 (unreleased)", ["date-released of CITATION.cff is 2027"]),
        ("CHANGELOG.md", "## 1.2.0 (2027-01-31)\n", "", ["the first heading", "date-released"]),
        ("pyproject.toml", "1.2.0", "1.3.0.dev0", ["version of", "'## 1.3.0 (unreleased)'", "no release"]),
    ],
)
def test_what_does_not_agree_is_said(name, old, new, said, tmp_path, monkeypatch):
    for file, text in CONSISTENT.items():
        (tmp_path / file).write_text(text.replace(old, new) if file == name else text)
    monkeypatch.setattr(check_release, "ROOT", tmp_path)
    problems = check_release.find_disagreements()
    assert len(problems) == len(said)
    assert all(part in problem for part, problem in zip(said, problems, strict=True))


def test_a_python_that_is_not_here_is_refused():
    done = subprocess.run(
        [sys.executable, ROOT / "release" / "check_release.py", "--python", "2.7"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "2.7" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("asked", [["3.11", "3.12"], ["3.11"]])
def test_one_python_that_fails_does_not_hide_the_others(asked, tmp_path, monkeypatch, capsys):
    def check(wheel: Path, python: str, folder: Path) -> str:
        if python == "ours":
            raise subprocess.CalledProcessError(2, ["llava-st", "demo", "--output-dir", "demo_output"])
        return "torch==2.13.0"

    monkeypatch.setattr(check_release, "find_pythons", lambda: {"3.11": "ours", "3.12": "new"})
    monkeypatch.setattr(check_release, "build_wheel", lambda folder: tmp_path / "mine.whl")
    monkeypatch.setattr(check_release, "check_wheel", check)
    monkeypatch.setattr(sys, "argv", ["check_release.py", "--python", *asked])
    with pytest.raises(SystemExit) as ended:
        check_release.main()
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        "Python 3.11: failed: llava-st demo --output-dir ended with 2",
        f"Python 3.12: {'mine.whl works, with torch==2.13.0' if '3.12' in asked else 'not checked, not asked for'}",
        "Python 3.13: not checked, not here",
    ]


@pytest.mark.slow
def test_a_repository_needs_the_libraries_of_its_card_alone(hub, tmp_path):
    """The snippet of its card, in an environment that has nothing else and gets the code from the Hub."""
    push_folder(SHIPPED_CHECKPOINT, CardOptions("me/tiny"))
    sizes = {"num_frames": 20, "image_size": 72, "num_temporal_tokens": 100, "num_spatial_tokens": 100}
    card = render_trained_card(ModelFacts("me/tiny", False, None, num_parameters=1, **sizes), None)
    snippet = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    assert "llava_st_hf" not in snippet and "`transformers` (5.23 or newer), `av` and `pillow`" in card
    write_demo_clip(tmp_path / "clip.mp4")
    programs = check_release.make_environment(
        sys.executable, tmp_path / "environment", ["transformers", "av", "pillow"]
    )
    environment = {**hub.environment(tmp_path / "cache"), "HOME": str(tmp_path)}
    check = "import importlib.util\nassert importlib.util.find_spec('llava_st_hf') is None\n"
    command = [programs / "python", "-c", check + snippet.replace("a child in a red hat holds a bat", DEMO_QUERY)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Span(start_seconds=1." in done.stdout


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(tmp_path):
    version = ".".join(map(str, sys.version_info[:2]))
    command = [sys.executable, ROOT / "release" / "check_release.py", "--python", version, "--keep", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^Python {version}: llava_st_hf-\S+ works, with .*torch==", done.stdout, re.MULTILINE)
