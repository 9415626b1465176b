"""Answers about a clip of 40 frames, 10 a second, 320x240 pixels."""

import pytest

from llava_st_hf.processing.grounding_results_llava_st import Box, Caption, GroundingResult, Span, Tube, TubeBox
from llava_st_hf.processing.media_llava_st import MediaInfo

CIRCLE = {5: (10.125, 20.3, 50.7, 60.1), 12: (30.1, 40.2, 70.3, 90.4), 20: (100.0, 100.1, 150.2, 160.3)}
SQUARE = {8: (200.1, 20.3, 250.7, 60.1), 16: (230.1, 40.2, 270.3, 90.4)}
CIRCLE_WORDS, SQUARE_WORDS = 'the "red" <circle> & co', "a blue square"


def make_tube(boxes, confidence=None):
    return Tube(tuple(TubeBox(frame / 10, frame, Box(*box, confidence)) for frame, box in boxes.items()))


@pytest.fixture
def media(clip):
    return MediaInfo("video", 320, 240, tuple(range(0, 40, 3)), tuple(k / 10 for k in range(0, 40, 3)), str(clip))


@pytest.fixture
def answers(media):
    """Two tubes, two sentences, and a picture."""
    return [
        GroundingResult("", (Span(0.5, 2.0, 0.75),), (), (make_tube(CIRCLE, 0.5),), query=CIRCLE_WORDS, media=media),
        GroundingResult("", (Span(0.8, 1.6),), (), (make_tube(SQUARE),), query=SQUARE_WORDS, media=media),
        GroundingResult(
            "",
            (Span(2.0, 3.9), Span(0.0, 0.0)),
            captions=(Caption("It\nstops --> & stays.", Span(2.0, 3.9)), Caption("It starts.", Span(0.0, 0.0))),
            media=media,
        ),
        GroundingResult(
            "", boxes=(Box(1, 2, 30.5, 40),), query="a dog", media=MediaInfo("image", 64, 48, source="a.png")
        ),
    ]
