"""Fixtures that every test may use."""

from pathlib import Path

import pytest
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
