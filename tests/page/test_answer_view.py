import json

from llava_st_hf import Box, Caption, GroundingResult, Span, Tube
from llava_st_hf.page.answer_view import TABLE_HEADERS, list_rows, make_view
from llava_st_hf.page.preview import Preview
from llava_st_hf.processing.grounding_results_llava_st import TubeBox

PREVIEW = Preview("/tmp/page/preview.mp4", 640, 360, first_seconds=-0.5, last_seconds=9.5)


def make_result():
    tube = Tube((TubeBox(1.0, 10, Box(1, 2, 30, 40, confidence=0.5)), TubeBox(1.5, 15, Box(3, 2, 32, 40))))
    return GroundingResult("...", spans=(Span(1.0, 1.5, confidence=0.9),), tubes=(tube,), query="<b>a dog</b>")


def test_view_has_seconds_of_the_file_and_pixels_of_the_original():
    view = make_view([make_result(), make_result()], PREVIEW, "video")
    first, second = view["answers"]
    assert first["spans"] == [{"start": 1.0, "end": 1.5, "confidence": 0.9, "label": ""}]
    assert first["tubes"] == [
        {"label": "<b>a dog</b>", "boxes": [[1.0, 1, 2, 30, 40, 0.5], [1.5, 3, 2, 32, 40, None]]}
    ]
    assert first["color"] != second["color"]
    assert (view["width"], view["first"], view["last"]) == (640, -0.5, 9.5)
    assert json.loads(json.dumps(view)) == view


def test_words_stand_beside_what_they_are_about():
    events = GroundingResult(
        "{<t_0><t_9>}, a man sits.", spans=(Span(0, 1),), captions=(Caption("a man sits.", span=Span(0, 1)),)
    )
    in_words = GroundingResult("in the kitchen", query="where?")
    view = make_view([events, in_words], PREVIEW, "video")
    assert [answer["text"] for answer in view["answers"]] == ["", "in the kitchen"]
    assert view["answers"][0]["spans"][0]["label"] == "a man sits."


def test_rows_of_the_table():
    rows = list_rows([make_result()])
    assert {len(row) for row in rows} == {len(TABLE_HEADERS)}
    assert rows[0] == ["<b>a dog</b>", "span", 1.0, 1.5, None, None, None, None, 0.9]
    assert rows[1] == ["<b>a dog</b>", "<b>a dog</b>", 1.0, 1.0, 1, 2, 30, 40, 0.5]
