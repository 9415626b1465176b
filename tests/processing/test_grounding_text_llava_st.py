import pytest

from llava_st_hf.processing.grounding_results_llava_st import Box, GroundingResult, Span
from llava_st_hf.processing.grounding_text_llava_st import format_box, format_span, format_tube, remove_coordinates
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo, PromptError

CLIP = MediaInfo("video", 99, 99, tuple(range(100)), tuple(k / 10 for k in range(100)))
BOX = "[<x_1><y_2><x_30><y_40>]"
SPAN = "{<t_10><t_42>}"


def test_the_written_form_is_that_of_the_prompts():
    assert format_span(0.1, 0.5) == "{<t=0.1><t=0.5>}"
    assert format_span(0, 1) == "{<t=0><t=1>}"
    assert format_box(1 / 3, 0.25, 0.5, 1.0) == "[<x=0.333333><y=0.25><x=0.5><y=1>]"
    box = (0.1, 0.2, 0.3, 0.4)
    entry = "[<x=0.1><y=0.2><x=0.3><y=0.4>]"
    assert format_tube([(0.1, box), (0.2, box)]) == f"<t=0.1>:{entry}, <t=0.2>:{entry}"
    assert Span(1.0, 4.95).to_text(CLIP) == "{<t=0.10101><t=0.5>}"
    assert Box(0, 9.9, 49.5, 99).to_text(CLIP) == "[<x=0><y=0.1><x=0.5><y=1>]"


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda: format_span(0.5, 0.1), "reversed"),
        (lambda: format_span(0.5, 1.1), "1.1"),
        (lambda: format_span(float("nan"), 0.5), "nan"),
        (lambda: format_box(0.5, 0.1, 0.5, 0.4), "no area"),
        (lambda: format_box(0.5, 0.1, 0.4, 0.4), "no area"),
        (lambda: format_box(-0.1, 0.1, 0.4, 0.4), "-0.1"),
        (lambda: format_tube([(0.2, (0, 0, 1, 1)), (0.2, (0, 0, 1, 1))]), "increase"),
        (lambda: Box(0, 0, 120, 50).to_text(CLIP), "from 0 to 1"),
        (lambda: Span(1.0, 50.0).to_text(CLIP), "outside the clip"),
    ],
)
def test_what_cannot_be_written_raises(write, message):
    with pytest.raises(InputError, match=message):
        write()
    assert issubclass(PromptError, InputError)


@pytest.mark.parametrize(
    "text, words",
    [
        (f"The object is at {BOX}.", "The object is at."),
        ("{<t_0><t_10>}, a man sits. {<t_10><t_42>}, he stands.", "a man sits. he stands."),
        (f"{SPAN} Object bounding box: {{<t_1>:{BOX}, <t_2>:{BOX}}}", "Object bounding box:"),
        (f"<t_1>:{BOX}<t_2>:{BOX}", ""),
        ("He [laughs] at 3.5 m.", "He [laughs] at 3.5 m."),
        ("", ""),
    ],
)
def test_plain_text_has_no_coordinates(text, words):
    assert GroundingResult(text).plain_text == remove_coordinates(text) == words
