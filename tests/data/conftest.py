"""Records with every kind of medium, for the tests of what uses them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.skips import SkippedRecord


def make_sample(task: str = "tvg", media_type: str = "video", **fields) -> Sample:
    """Make a record with some defaults; `question` and `answer` stand for one turn."""
    question, answer = fields.pop("question", "When?"), fields.pop("answer", "{<t=0.25><t=0.5>}")
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    fields = {"id": "1", "source": "kitchen", "messages": messages, **fields}
    return Sample(task=task, media_type=media_type, **fields)


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Paths of three pictures of 60x40 pixels: red, green and blue."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = []
    for color in ("red", "green", "blue"):
        paths.append(str(folder / f"{color}.png"))
        Image.new("RGB", (60, 40), color).save(paths[-1])
    return paths


@pytest.fixture
def records(clip: Path, pictures: list[str], tmp_path: Path) -> list[Sample | SkippedRecord]:
    """A clip, images, a clip kept as pictures, text, media in memory, bytes, and two that cannot be used."""
    empty = tmp_path / "empty.mp4"
    empty.touch()
    shapes = ShapesDataset(["stvg", "rec"], num_samples=4)
    return [
        make_sample(id="clip", media=(Media(path=str(clip)),), frame_range=(0, 20)),
        SkippedRecord("gone", "kitchen", "missing_media", "media is 'gone.mp4', which does not exist: get it."),
        make_sample(
            "igc",
            "image",
            id="images",
            media=tuple(Media(path=path) for path in pictures),
            question="<image> and <image> and <image>: what is in the third?",
            answer="A blue wall [<x=0.1><y=0.2><x=0.5><y=0.6>].",
        ),
        make_sample(
            "stvg",
            id="frames",
            source="photographs",
            media=tuple(Media(path=path) for path in pictures),
            answer="{<t=0.0><t=0.5>} <t=0.0>:[<x=0.1><y=0.2><x=0.5><y=0.6>], <t=0.5>:[<x=0.2><y=0.2><x=0.6><y=0.6>]",
        ),
        make_sample("conversation", "text", id="text", media=(), question="Why?", answer="Because."),
        make_sample(id="bytes", media=(Media(path="media/circle.mp4", content=clip.read_bytes()),)),
        *(shapes[index] for index in range(len(shapes))),
        make_sample(id="empty", media=(Media(path=str(empty)),)),
    ]


@pytest.fixture
def array_clip() -> np.ndarray:
    """A clip of odd size in memory: uint8 (6, 31, 45, 3)."""
    return np.random.default_rng(0).integers(0, 255, (6, 31, 45, 3), dtype=np.uint8)
