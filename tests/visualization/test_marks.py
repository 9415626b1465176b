"""Which things an answer names, their colours, and the frames that they are in."""

from itertools import combinations

import numpy as np
import pytest

from llava_st_hf.processing import Box, Caption, GroundingResult, Span, Tube, TubeBox
from llava_st_hf.visualization import PALETTE, list_marks
from llava_st_hf.visualization.drawing import PAPER, choose_ink
from llava_st_hf.visualization.marks import Schedule

BOX = Box(10, 10, 50, 50)


def make_tube(*moments):
    return Tube(tuple(TubeBox(moment, 0, BOX) for moment in moments))


def contrast(one, other):
    """The ratio that WCAG 2 defines."""

    def luminance(color):
        values = [value / 255 for value in color]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
DEFICIENCIES = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def compute_lab(color, matrix):
    """CIE L*a*b* of a colour as somebody sees it, in which equal distances look alike; 2.3 is just seen."""
    seen = np.clip(np.array(matrix) @ (np.array(color) / 255) ** 2.2, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ seen / (0.9505, 1, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("matrix", DEFICIENCIES.values(), ids=DEFICIENCIES)
def test_the_colour_blind_tell_the_colours_apart_and_from_the_paper(matrix):
    seen = [compute_lab(color, matrix) for color in (*PALETTE, PAPER)]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 15


def test_text_stands_out_on_every_colour_and_every_colour_on_the_paper():
    for color in PALETTE:
        assert contrast(color, choose_ink(color)) >= 4.5
        assert contrast(color, PAPER) >= 3


def test_one_query_is_one_thing():
    result = GroundingResult("", spans=(Span(1, 2, 0.9),), tubes=(make_tube(1, 2),), query="a dog")
    (mark,) = list_marks(result)
    assert (mark.color, mark.confidence, mark.has_own_words) == (PALETTE[0], 0.9, False)
    assert (mark.periods, mark.tube) == ([(1, 2)], result.tubes[0])


def test_what_stands_beside_a_span_is_how_sure_the_span_is():
    box = Box(10, 10, 50, 50, 0.3)
    tubes = (Tube((TubeBox(1, 0, BOX), TubeBox(2, 0, box))),)
    for spans, expected in (((Span(1, 2, 0.9),), 0.9), ((), 0.3)):
        (mark,) = list_marks(GroundingResult("", spans=spans, tubes=tubes, query="a dog"))
        assert mark.confidence == expected


def test_things_have_their_colours_in_turn():
    spans = (Span(0, 1), Span(1, 2), Span(2, 3))
    captions = (Caption("it runs", spans[0]), Caption("it sits", spans[1]), Caption("it runs", spans[2]))
    marks = list_marks(GroundingResult("", spans=spans, captions=captions))
    assert [(mark.label, mark.spans, mark.color) for mark in marks] == [
        ("it runs", [spans[0], spans[2]], PALETTE[0]),
        ("it sits", [spans[1]], PALETTE[1]),
    ]
    tubes = (make_tube(0, 1), make_tube(1, 2), make_tube(2, 3))
    marks = list_marks(GroundingResult("", spans=spans, tubes=tubes, query="a dog"))
    assert [(mark.number, mark.spans, mark.tube) for mark in marks] == [
        (number, [span], tube) for number, (span, tube) in enumerate(zip(spans, tubes, strict=True), start=1)
    ]
    queries = [GroundingResult("", boxes=(BOX,), query=f"query {number}") for number in range(8)]
    assert [mark.color for mark in list_marks(queries)] == [*PALETTE, PALETTE[0]]


def shown(result, seconds):
    schedule = Schedule(list_marks(result), seconds)
    active = [frame for frame in range(len(seconds)) if schedule.find_active(frame)]
    boxed = [frame for frame in range(len(seconds)) if list(schedule.find_boxes(frame))]
    return active, boxed


@pytest.mark.parametrize(
    ("span", "frames"),
    [
        ((0.2, 0.4), [2, 3, 4]),
        ((0.2 + 4e-4, 0.4 - 4e-4), [2, 3, 4]),  # as rounded times are
        ((0.21, 0.39), [3]),
        ((0.22, 0.24), [2]),  # between two frames: the nearer one
        ((-5.0, -4.0), [0]),
        ((0.85, 99.0), [9]),
    ],
)
def test_a_thing_is_in_the_frames_of_its_span_and_no_others(span, frames):
    seconds = [k / 10 for k in range(10)]
    (start, end), result = span, GroundingResult("", spans=(Span(*span),), query="a dog")
    assert shown(result, seconds) == (frames, list(range(10)) if result.boxes else [])
    for boxes, tubes in (((BOX,), ()), ((), (make_tube(start, end),)), ((), (make_tube((start + end) / 2),))):
        whole = GroundingResult("", spans=(Span(*span),), boxes=boxes, tubes=tubes, query="a dog")
        assert shown(whole, seconds) == (frames, frames)


def test_a_tube_is_drawn_within_its_span_for_at_most_a_step_beyond_its_boxes():
    seconds = [k / 10 for k in range(40)]
    result = GroundingResult("", spans=(Span(0.5, 3.0),), tubes=(make_tube(0.0, 1.0, 2.0),), query="a dog")
    assert shown(result, seconds) == (list(range(5, 31)),) * 2
    short = GroundingResult("", spans=(Span(0.0, 3.9),), tubes=(make_tube(1.0, 1.5, 2.0),), query="a dog")
    assert shown(short, seconds) == (list(range(40)), list(range(5, 26)))
    alone = GroundingResult("", tubes=(make_tube(1.0, 2.0),), query="a dog")
    assert shown(alone, seconds) == (list(range(10, 21)),) * 2
    apart = GroundingResult("", spans=(Span(3.5, 3.6),), tubes=(make_tube(1.0, 2.0),), query="a dog")
    assert shown(apart, seconds) == ([35, 36], list(range(10, 21)))  # what was answered does not disappear


def test_boxes_of_one_answer_are_not_bound_to_the_spans_of_another():
    one = GroundingResult("", spans=(Span(0.0, 0.1),), boxes=(BOX,), query="a dog")
    other = GroundingResult("", boxes=(BOX,), query="a cat")
    schedule = Schedule(list_marks([one, other]), [k / 10 for k in range(4)])
    drawn = [[mark.label for _, mark in schedule.find_boxes(frame)] for frame in range(4)]
    assert drawn == [["a dog", "a cat"], ["a dog", "a cat"], ["a cat"], ["a cat"]]
