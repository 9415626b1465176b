"""Fixtures of the tests of what goes to the Hub."""

from pathlib import Path

import pytest

from llava_st_hf.data import SourceFacts
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.tools.publish import publish_dataset


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    """A published data set of two shards."""
    folder = tmp_path_factory.mktemp("published") / "shapes"
    records = ShapesDataset(["tvg", "stvg"], 6, num_frames=8, size=32, difficulty="easy", encode=True)
    sources = {"st-shapes": SourceFacts("st-shapes", "CC0-1.0", "rendered by llava-st-hf")}
    publish_dataset(records, folder, sources=sources, max_shard_size="15KB", quiet=True)
    return folder
