from collections import Counter

import numpy as np
import pytest

from llava_st_hf.data.media_probe import VideoHeader
from llava_st_hf.data.tools.doubts import find_doubts, find_marks, find_unit_doubts
from llava_st_hf.data.turns import Turn
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import MediaInfo

CLIP = MediaInfo("video", 1, 1, (0, 100), (0.0, 1.0))
HEADER = VideoHeader(300, 60.0, 1920, 1080)


def make_turn(text: str, answer_format: str | None = None) -> Turn:
    return Turn(parse_answer("", CLIP, answer_format="text"), parse_answer(text, CLIP, answer_format=answer_format))


def write_box(x1: float, y1: float, x2: float, y2: float) -> str:
    return f"[<x={x1:.4f}><y={y1:.4f}><x={x2:.4f}><y={y2:.4f}>]"


def find(texts: list[str], header: VideoHeader | None = HEADER, box_kind=None) -> dict[str, int]:
    """Return what is odd about a source."""
    counts = Counter(mark for text in texts for mark in find_marks([make_turn(text)], header, box_kind))
    return {kind: count for kind, count, _ in find_unit_doubts(counts)}


def test_spans_of_fractions_of_a_second():
    short = ["{<t=0.001><t=0.01>}", "{<t=0.2><t=0.21>}"]
    assert find(short) == {"short_spans": 2}
    assert find([*short, "{<t=0.2><t=0.3>}"]) == {}
    assert find(short, HEADER._replace(duration_seconds=9.0)) == {}
    assert find(short, None) == find(short, HEADER._replace(duration_seconds=None)) == find([]) == {}


def test_widths_in_the_place_of_edges():
    # The four numbers of boxes in the middle and on the right, as left, top, width, height.
    xywh = [(0.3, 0.3, 0.35, 0.4), (0.2, 0.35, 0.5, 0.5), (0.45, 0.4, 0.5, 0.45)]
    small = HEADER._replace(width=640, height=360)
    for header in (small, None):
        assert find([write_box(*box) for box in xywh], header) == {"boxes_like_xywh": 3}
    tubes = [f"<t=0.5>:{write_box(*box)}, <t=0.6>:{write_box(*box)}" for box in xywh]
    assert find(tubes, small) == {"boxes_like_xywh": 3}
    assert find([write_box(*box) for box in xywh], small, ("xywh", "pixels")) == {}
    assert find([write_box(*box) for box in xywh], small, ("xyxy", "thousandth")) == {"boxes_like_xywh": 3}
    edges = [(x, y, x + width, y + height) for x, y, width, height in xywh]
    assert find([write_box(*box) for box in edges], small) == {}
    assert find([write_box(*box) for box in xywh[:2]], small) == {}  # two may be so by chance
    assert find([write_box(*box) for box in [*xywh, (0.6, 0.6, 0.9, 0.9)]], small) == {}


def test_thousandths_in_the_place_of_pixels():
    boxes = [(100, 200, 990, 1000), (500, 20, 700, 400), (5, 700, 999, 900)]
    texts = [write_box(x1 / 1920, y1 / 1080, x2 / 1920, y2 / 1080) for x1, y1, x2, y2 in boxes]
    assert find(texts) == {"boxes_like_thousandths": 3}
    assert find([*texts, write_box(0.1, 0.1, 0.6, 0.6)]) == {}
    assert find(texts, HEADER._replace(width=640, height=480)) == {}
    assert find(texts, box_kind=("xywh", "pixels")) == {"boxes_like_thousandths": 3}
    for unit in ("thousandth", "fraction"):  # as they were said to be
        assert find(texts, box_kind=("xyxy", unit)) == {}


def test_true_boxes_are_nothing_odd():
    draw = np.random.default_rng(0)
    corners = np.sort(draw.uniform(size=(50, 2, 2)), axis=1).reshape(50, 4)
    assert find([write_box(*box) for box in corners]) == {}


@pytest.mark.parametrize(("texts", "kinds"), [(["So."], ["missing_span"]), (["So.", "{<t=0.1><t=0.2>}"], [])])
def test_what_no_answer_has_is_missing(texts, kinds):
    assert [kind for kind, _ in find_doubts([make_turn(text, "span") for text in texts])] == kinds
