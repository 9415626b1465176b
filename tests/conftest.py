"""Fixtures that every test may use."""

from pathlib import Path

import pytest
import torch
from random_checkpoint import make_random_checkpoint, write_circle_clip
from shared_data import SHARED


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
    return make_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """A clip of 4 seconds, 320x240, 10 frames a second: a red circle crosses it."""
    return write_circle_clip(tmp_path_factory.mktemp("clip") / "circle.mp4")


@pytest.fixture(scope="module")
def one_thread():
    """Compute on one thread: for models so small that handing work to a second costs more than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
