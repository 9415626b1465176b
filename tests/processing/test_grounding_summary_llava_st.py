"""What is printed of a result: an answer of a hundred boxes at a glance."""

from llava_st_hf.processing.answer_problems_llava_st import Problem
from llava_st_hf.processing.grounding_results_llava_st import Box, Caption, GroundingResult, Span, Tube, TubeBox
from llava_st_hf.processing.media_llava_st import MediaInfo

MEDIA = MediaInfo(
    "video", 640, 360, tuple(range(100)), tuple(k / 25 for k in range(100)), source="clip.mp4", problems=("cut short",)
)
TUBE = Tube(tuple(TubeBox(k / 25, k, Box(k, 10, k + 50, 90)) for k in range(100)))
PROBLEM = Problem("stray_coordinate", "A coordinate stands alone.", "<t_3>", 0, 5)


def make_long_result() -> GroundingResult:
    text = "{<t_0><t_99>} " + ", ".join(f"<t_{k}>:[<x_1><y_2><x_30><y_40>]" for k in range(100))
    return GroundingResult(
        text, (Span(0.0, 3.96, 0.875),), (), (TUBE,), (), (PROBLEM,), "stvg", "a child holds a bat", MEDIA
    )


def test_a_long_answer_is_one_short_line():
    result = make_long_result()
    assert repr(result) == (
        "GroundingResult(task='stvg', query='a child holds a bat', spans=[0.00 s to 3.96 s], "
        "tubes=[100 boxes from 0.00 s to 3.96 s], problems=[stray_coordinate], "
        "text='{<t_0><t_99>} <t_0>:[<x_1><y_2><x_30><y_40>], <t_1>:[<x_1><y ...')"
    )
    assert repr(result.tubes) == "(Tube(100 boxes from 0.00 s to 3.96 s),)"
    many = GroundingResult("", boxes=(Box(0, 0, 1, 1),) * 9, captions=(Caption("word " * 99),) * 9)
    assert len(repr(many)) < 500
    assert "6 more]" in repr(many)
    assert repr(GroundingResult("It is red.")) == "GroundingResult(text='It is red.')"


def test_printed_it_says_when_and_where_and_what_was_wrong():
    lines = str(make_long_result()).splitlines()
    assert lines[:5] == [
        "query: a child holds a bat",
        "span: 0.00 s to 3.96 s, confidence 0.88",
        "tube: 100 boxes from 0.00 s to 3.96 s",
        "  0.00 s: (0, 10) to (50, 90) pixels",
        "  3.96 s: (99, 10) to (149, 90) pixels",
    ]
    assert lines[5].startswith("answer: {<t_0><t_99>} <t_0>:[") and lines[5].endswith(" ...")
    assert lines[6:] == ["task: stvg", "problem: A coordinate stands alone. '<t_3>'", "media problem: cut short"]


def test_of_many_the_first_are_printed():
    boxes = tuple(Box(k, 0, k + 1, 1) for k in range(30))
    lines = str(GroundingResult("", boxes=boxes, captions=(Caption("a dog"),))).splitlines()
    assert lines[19:22] == ["box: (19, 0) to (20, 1) pixels", "and 10 more boxes", "caption: a dog"]


def test_media_are_one_short_line():
    assert repr(MEDIA) == (
        "MediaInfo(video of 640x360 pixels, 100 frames from 0.00 s to 3.96 s, source='clip.mp4', "
        "problems=('cut short',))"
    )
    assert repr(MediaInfo("image", 80, 60)) == "MediaInfo(image of 80x60 pixels)"
