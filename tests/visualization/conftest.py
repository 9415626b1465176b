"""A grey clip, and an answer about it."""

import pytest
from drawn_clips import write_clip

from llava_st_hf.processing import Box, GroundingResult, MediaInfo, Span, Tube, TubeBox


def moving_tube():
    """From 0.2 to 0.8 s, 100 pixels to the right; 80 x 60 pixels."""
    boxes = (TubeBox(0.2, 5, Box(40, 90, 120, 150)), TubeBox(0.8, 20, Box(140, 90, 220, 150)))
    return Tube(boxes)


@pytest.fixture
def clip_path(tmp_path):
    return write_clip(tmp_path / "clip.mp4")


@pytest.fixture
def result():
    media = MediaInfo("video", 320, 240, tuple(range(30)), tuple(k / 25 for k in range(30)))
    return GroundingResult(
        "", spans=(Span(0.2, 0.8),), tubes=(moving_tube(),), query="What does the child hold?", media=media
    )
