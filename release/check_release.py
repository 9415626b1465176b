"""Checks what would be released: the versions agree, and the wheel works where nothing else is.

    python release/check_release.py                          # with every Python 3.11 to 3.13 of this machine
    python release/check_release.py --python 3.11 --keep dist

The wheel is built and installed into an empty environment of each Python; the demo and a question in Python then run
in an empty folder. torch is installed before it, in the version of constraints.txt; all else is what pip takes today.
The last lines say of each Python whether it works, and with which libraries, or why that is not known.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
SHOWN_LIBRARIES = ("torch", "transformers", "av", "numpy", "pillow")
SMOKE_TEST = """
import sys
import llava_st_hf
from llava_st_hf.demo import DEMO_QUERY, SHIPPED_CHECKPOINT
from transformers import pipeline

assert llava_st_hf.__file__.startswith(sys.prefix), llava_st_hf.__file__
result = pipeline("spatial-temporal-grounding", model=SHIPPED_CHECKPOINT)("demo_output/clip.mp4", DEMO_QUERY)
(span,) = result.spans
assert abs(span.start_seconds - 1.6) < 0.3 and abs(span.end_seconds - 2.8) < 0.3, span
result.save("answer.html")
"""


def read(name: str, pattern: str) -> tuple[str | None, ...]:
    """Return the groups of the first place in a file that fits; nothing fits: `(None,)`."""
    found = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found.groups() if found else (None,)


def find_disagreements() -> list[str]:
    """Return, a line each, where pyproject.toml, CITATION.cff and CHANGELOG.md do not say the same."""
    (version,) = read("pyproject.toml", r'^version = "(.+)"$')
    (cited,) = read("CITATION.cff", r"^version: (.+)$")
    (released,) = read("CITATION.cff", r"^date-released: (.+)$")
    heading = read("CHANGELOG.md", r"^## (\S+) \((.+)\)$")
    base = re.sub(r"\.?(a|b|rc|dev)\d+.*$", "", version)
    date = "unreleased" if version != base else heading[-1]
    problems = []
    if cited != version:
        problems.append(f"version of CITATION.cff is {cited}, and that of pyproject.toml {version}.")
    if heading != (base, date):
        problems.append(f"the first heading of CHANGELOG.md is {heading}: for {version} it is '## {base} ({date})'.")
    if version == base and (heading[-1] == "unreleased" or released != heading[-1]):
        problems.append(f"date-released of CITATION.cff is {released}, and the date in CHANGELOG.md {heading[-1]}.")
    if version != base and released is not None:
        problems.append(f"date-released of CITATION.cff is {released}, but {version} is no release: leave it out.")
    return problems


def find_pythons() -> dict[str, str]:
    """Return the interpreters of this machine, those of pyenv among them, by version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in PYTHONS:
        ours = sys.executable if version == ".".join(map(str, sys.version_info[:2])) else None
        newest = max(map(str, pyenv.glob(f"{version}.*/bin/python")), default=None)
        if path := ours or newest or shutil.which(f"python{version}"):
            found[version] = path
    return found


def build_wheel(folder: Path) -> Path:
    """Build the wheel."""
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # what was deleted from the sources would come along
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # a line for each file
    return max(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime)


def make_environment(python: str, folder: Path, requirements: list[str]) -> Path:
    """Make an environment of torch and the requirements, installed one after the other; return its programs."""
    run_outside([python, "-m", "venv", "--clear", folder], ROOT)
    programs = folder / "bin"
    (torch,) = read("constraints.txt", r"^(torch==.+)$")
    for requirement in (torch, *requirements):
        run_outside([programs / "pip", "install", "--quiet", requirement], ROOT)
    return programs


def check_wheel(wheel: Path, python: str, folder: Path) -> str:
    """Install the wheel for a Python into an empty folder, and use it; return the versions of what it came with."""
    programs = make_environment(python, folder / "environment", [str(wheel)])
    run_outside([programs / "llava-st", "demo", "--output-dir", "demo_output"], folder)
    run_outside([programs / "python", "-c", SMOKE_TEST], folder)
    frozen = subprocess.run([programs / "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    return ", ".join(line for line in frozen.splitlines() if line.split("==")[0] in SHOWN_LIBRARIES)


def run_outside(command: list, folder: Path) -> None:
    """Run a program in a folder, without what this process has in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))}
    subprocess.run([*map(str, command)], check=True, cwd=folder, env={**environment, "HF_HUB_OFFLINE": "1"})


def main() -> None:
    """Check all of it, and say what works."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="*", metavar="VERSION", help="some of 3.11 to 3.13 (those that there are)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder that keeps the wheel")
    options = parser.parse_args()
    if problems := find_disagreements():
        sys.exit("\n".join(problems))
    pythons = find_pythons()
    wanted = options.python or list(pythons)
    if missing := [version for version in wanted if version not in pythons]:
        sys.exit(f"--python is {' '.join(missing)}, which is not here: choose from {' '.join(pythons)}.")
    found = {
        version: "not checked, not asked for" if version in pythons else "not checked, not here" for version in PYTHONS
    }
    with tempfile.TemporaryDirectory() as name:
        wheel = build_wheel(options.keep or Path(name))
        for version in wanted:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found[version] = f"{wheel.name} works, with {check_wheel(wheel, pythons[version], Path(folder))}"
                except subprocess.CalledProcessError as error:
                    found[version] = f"failed: {' '.join(map(str, error.cmd[:3]))} ended with {error.returncode}"
    print(*(f"Python {version}: {what}" for version, what in found.items()), sep="\n")
    sys.exit(any(what.startswith("failed") for what in found.values()))


if __name__ == "__main__":
    main()
