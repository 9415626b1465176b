"""Installing a harness into an environment of its own, with all else from that of the tests."""

import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make_environment(folder: Path, libraries: Path) -> Path:
    """Make an environment that has a folder of libraries, and return its Python."""
    venv.create(folder, with_pip=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "libraries.pth").write_text(f"{libraries}\n")
    return folder / "bin" / "python"


def run_pip(python: Path, *arguments: str) -> None:
    """Install, or skip the test where that cannot be."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install {arguments[-1]}: {done.stderr.strip().splitlines()[-1]}")
