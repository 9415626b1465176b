"""The strips beside a picture: what is written in them, and what they leave out where there is no room."""

import pytest

from llava_st_hf.processing import Box, Caption, GroundingResult, Span, Tube, TubeBox
from llava_st_hf.visualization import list_marks
from llava_st_hf.visualization.drawing import Style
from llava_st_hf.visualization.fonts import Typeface
from llava_st_hf.visualization.timeline import DrawnTimeline, arrange_bars, make_footer, make_header

STYLE = Style(line=2, font_size=14)


@pytest.fixture
def written(monkeypatch):
    texts = []
    write = Typeface.write

    def note(self, draw, place, text, *more):
        texts.append(text.replace("\xa0", " "))
        write(self, draw, place, text, *more)

    monkeypatch.setattr(Typeface, "write", note)
    return texts


def write_rows(results, width=600):
    return make_header(results, list_marks(results), STYLE, width)


def test_the_header_says_what_was_asked_when_and_how_sure(written):
    write_rows(GroundingResult("", spans=(Span(1.5, 4.0, 0.87), Span(6, 7, 0.9)), query="a dog runs"))
    assert [text for text in written if text] == ["a dog runs", "1.50 - 4.00 s, 6.00 - 7.00 s, 87% sure"]


def test_each_thing_has_a_row_with_its_number(written):
    captions = tuple(Caption(f"event {k}.", Span(k, k + 1, 0.5)) for k in range(2))
    spans = tuple(caption.span for caption in captions)
    write_rows(GroundingResult("", spans=spans, captions=captions, query="what happens?"))
    rows = ["1", "event 0, 0.00 - 1.00 s, 50% sure", "2", "event 1, 1.00 - 2.00 s, 50% sure"]
    assert written == ["what happens?", *rows]


def test_several_answers_have_their_queries_as_rows(written):
    write_rows([GroundingResult("", spans=(Span(0, 1),), query=query) for query in ("a dog", "a cat")])
    assert written == ["1", "a dog, 0.00 - 1.00 s", "2", "a cat, 0.00 - 1.00 s"]


def test_what_is_answered_in_words_is_written(written):
    write_rows(GroundingResult("{<t_1><t_2>} She sits down.", spans=(Span(0, 1),), query="what happens?"))
    assert written == ["what happens?", "She sits down.", "", "0.00 - 1.00 s"]
    written.clear()
    write_rows([GroundingResult("in blue", query="which?"), GroundingResult("[<x_1><y_1><x_2><y_2>]", query="where?")])
    assert written == ["which?: in blue"]


def test_the_caption_of_a_span_is_said_beside_its_tube(written):
    tube = Tube((TubeBox(0.0, 0, Box(1, 2, 3, 4)), TubeBox(1.0, 10, Box(1, 2, 3, 4))))
    span = Span(0, 1)
    result = GroundingResult("", (span,), (), (tube,), (Caption("it shrinks.", span),), query="when does it end?")
    write_rows(result)
    assert written == ["when does it end?", "", "it shrinks, 0.00 - 1.00 s"]


def test_a_long_row_loses_words_of_its_label_only(written):
    results = [GroundingResult("", spans=(Span(0, 1, 0.5),), query="a very long query " * 20), GroundingResult("")]
    strip = write_rows(results, width=240)
    assert " ".join(written).endswith("0.00 - 1.00 s, 50% sure") and "..." in " ".join(written)
    assert strip.size == (240, 3 * STYLE.line_height + 2 * STYLE.pad)


def test_what_is_at_one_time_has_a_lane_of_its_own():
    spans = (Span(0, 2), Span(1, 3), Span(2, 4), Span(2.5, 5))
    captions = tuple(Caption(str(number), span) for number, span in enumerate(spans))
    bars = arrange_bars(list_marks(GroundingResult("", spans=spans, captions=captions)))
    assert [bar.lane for bar in bars] == [0, 1, 0, 2]
    timeline = DrawnTimeline(0, 5)
    one, three = (make_footer(shown, timeline, STYLE, 240).height for shown in (bars[:1], bars))
    assert three > one
