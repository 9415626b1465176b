"""What a release says of itself, and whether its wheel works."""

import subprocess
import sys
from pathlib import Path

import check_release
import pytest

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


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(tmp_path):
    version = ".".join(map(str, sys.version_info[:2]))
    command = [sys.executable, ROOT / "release" / "check_release.py", "--python", version, "--keep", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"Python {version}: llava_st_hf-" in done.stdout
