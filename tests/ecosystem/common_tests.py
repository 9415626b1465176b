"""The test mixins of the installed transformers, taken from its source distribution when the tests run.

They are not in the wheel, and they belong to one version of the library, so none of them is kept in this repository:
pip downloads the source distribution of the version that is installed, once, into a folder of the user's cache. Some
modules that the mixins import are not distributed at all; small ones made here stand in for them.
"""

import atexit
import functools
import importlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import transformers
from filelock import FileLock
from PIL import Image
from random_checkpoint import write_circle_clip

PACKAGE = "transformers_common_tests"
CACHE = Path.home() / ".cache" / "llava-st-hf" / "common-tests"
DOWNLOAD_SECONDS = 120
STUBS = {
    f"{PACKAGE}/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    f"{PACKAGE}/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    f"{PACKAGE}/utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
    # Two files of a checkout that the pipeline mixin reads when it is imported. test_pipelines.py fills the first; an
    # empty second lets it have the library that is imported already.
    "tests/utils/tiny_model_summary.json": "{}\n",
    "src/transformers/__init__.py": "",
}


def import_common_tests(module: str) -> ModuleType:
    """Import a module of the library's common tests; skip the test file that asks where it cannot be had."""
    try:
        folder = obtain_common_tests(transformers.__version__)
    except RuntimeError as error:
        pytest.skip(str(error), allow_module_level=True)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    fetch = sys.modules.setdefault("fetch_hub_objects_for_ci", ModuleType("fetch_hub_objects_for_ci"))
    fetch.url_to_local_path = url_to_local_path
    return importlib.import_module(f"{PACKAGE}.{module}")


@functools.cache
def obtain_common_tests(version: str) -> Path:
    """
    Return the folder that holds the package of common tests of a version, made where it is not there yet.

    Raises:
        `RuntimeError`: pip could not get the source distribution.
    """
    folder = CACHE / f"transformers-{version}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / f"transformers-{version}.lock"):  # another process of the same run waits
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as work:
                unpacked = Path(work) / "unpacked"
                _unpack(_download(version, Path(work)), unpacked / PACKAGE)
                _add_stubs(unpacked)
                unpacked.rename(folder)  # at once: what was killed before leaves none
    return folder


def _download(version: str, target: Path) -> Path:
    requirement = f"transformers=={version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(target), requirement]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["pip said nothing"])[-1]
    except subprocess.TimeoutExpired:
        reason = f"pip took more than {DOWNLOAD_SECONDS} seconds"
    else:
        return next(target.glob("transformers-*.tar.gz"))
    raise RuntimeError(f"the source distribution of {requirement} cannot be had: {reason}")


def _unpack(archive: Path, package: Path) -> None:
    """Write the modules that lie in tests/ of the archive, and nothing else of it, to a folder."""
    package.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts  # transformers-5.23.0, tests, test_modeling_common.py
            if member.isfile() and len(parts) == 3 and parts[1] == "tests" and parts[2].endswith(".py"):
                with tar.extractfile(member) as source, open(package / parts[2], "wb") as copy:
                    shutil.copyfileobj(source, copy)


def _add_stubs(folder: Path) -> None:
    for name, text in STUBS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for package in {path.parent for path in (folder / PACKAGE).rglob("*.py")}:
        (package / "__init__.py").touch()


def url_to_local_path(url: str, *args, **kwargs) -> str:
    """Name a picture or a clip made here in place of one on the Hub; nothing is fetched."""
    name = {".png": "picture.png", ".jpg": "picture.png", ".mp4": "clip.mp4"}.get(Path(url).suffix)
    return url if name is None else str(_make_media() / name)


@functools.cache
def _make_media() -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    write_circle_clip(folder / "clip.mp4")
    return folder
