"""
Fixtures that every test may use.

What takes seconds to import is imported by who needs it: the process that deals out tests to others runs none.
"""

import gc
import importlib.util
from pathlib import Path

import pytest
from shared_data import SHARED


def pytest_collection_finish() -> None:
    """Keep modules and tests, which live to the end, out of each pass of the garbage collector: it took 1/3 of all."""
    gc.freeze()


def require_shared(name: str) -> Path:
    """Return a folder of recorded data that lies beside the checkout, or skip the test that asked for it."""
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"recorded data is not here: {folder}")
    return folder


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Tensors, ids and figures recorded by running the published code."""
    return require_shared("parity")


@pytest.fixture(scope="session")
def real_media_dir() -> Path:
    """Real clips and photographs with their true annotations."""
    return require_shared("real_media")


@pytest.fixture(scope="session")
def real_annotations_dir() -> Path:
    """Excerpts of published annotation files."""
    return require_shared("real_annotations")


@pytest.fixture(scope="session")
def hard_media_dir() -> Path:
    """Small files whose clock or geometry is easily got wrong."""
    return require_shared("hard_media")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A small randomly initialised checkpoint: model, tokenizer, processor."""
    from random_checkpoint import make_random_checkpoint

    return make_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def processor(checkpoint):
    """The processor of the random checkpoint: 100 tokens an axis, 20 frames, 54 pixels."""
    from llava_st_hf import LlavaSTProcessor

    return LlavaSTProcessor.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def model(checkpoint):
    """The model of the random checkpoint."""
    from llava_st_hf import LlavaSTForConditionalGeneration

    return LlavaSTForConditionalGeneration.from_pretrained(checkpoint)


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """A clip of 4 seconds, 320x240, 10 frames a second: a red circle crosses it."""
    from random_checkpoint import write_circle_clip

    return write_circle_clip(tmp_path_factory.mktemp("clip") / "circle.mp4")


@pytest.fixture(scope="session")
def libraries(tmp_path_factory) -> Path:
    """A folder of links to every installed library but this package."""
    folder = tmp_path_factory.mktemp("libraries")
    installed = {Path(importlib.util.find_spec(name).origin).parents[1] for name in ("torch", "transformers")}
    for path in [path for site_packages in installed for path in site_packages.iterdir()]:
        name = path.name.lower()
        if path.suffix != ".pth" and not name.startswith("__editable__") and "llava_st" not in name.replace("-", "_"):
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def one_thread():
    """Compute on one thread: for models so small that handing work to a second costs more than the work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def hub(tmp_path):
    """A Hub that this process takes for the real one, for what it sends."""
    from local_hub import LocalHub

    with LocalHub() as hub, hub.reached(tmp_path / "cache"):
        yield hub
