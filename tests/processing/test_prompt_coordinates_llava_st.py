import numpy as np
import pytest

from llava_st_hf.processing.media_llava_st import MediaError, MediaInfo, PromptError
from llava_st_hf.processing.notation_llava_st import NOTATION
from llava_st_hf.processing.prompt_coordinates_llava_st import (
    check_misspelled,
    check_prompt_coordinates,
    compute_fraction,
)

CLIP = MediaInfo("video", 640, 360, frame_indices=tuple(range(0, 100, 9)), frame_seconds=tuple(np.arange(12) * 0.9))
IMAGE = MediaInfo("image", 100, 50)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<t=abc>", "not a finite number"),
        ("<t=>", "not a finite number"),
        ("<t=nan>", "not a finite number"),
        ("<x=inf>", "not a finite number"),
        ("<x=1e999>", "not a finite number"),
        ("<t=1:30>", "not a finite number"),
        ("<t=5px>", "unit 'px'"),
        ("<x=3s>", "unit 's'"),
        ("<x=30%>", "unit '%'"),
        ("<t_-1>", "no whole number"),
        ("<t_4.5>", "no whole number"),
        ("<t=1.2>", "outside 0 to 1"),
        ("<y=-0.1>", "outside 0 to 1"),
        ("{<t=0.5>}", "1 coordinate (t)"),
        ("{<t=0.1><t=0.2><t=0.3>}", "3 coordinates"),
        ("{<x=0.1><x=0.2>}", "x x"),
        ("{<t=0.5><t=0.1>}", "ends before it starts"),
        ("{<t=5s><t=1s>}", "ends before it starts"),
        ("[<x=0.1><y=0.1><x=0.5>]", "3 coordinates"),
        ("[<y=0.1><x=0.1><y=0.5><x=0.5>]", "y x y x"),
        ("[<x=0.1><x=0.5><y=0.1><y=0.5>]", "x x y y"),
        ("[<t=0.1><t=0.5>]", "t t"),
        ("[<x=0.5><y=0.1><x=0.1><y=0.5>]", "no area"),
        ("[<x=0.1><y=0.5><x=0.5><y=0.5>]", "no area"),
        ("[<x_5><y_1><x_5><y_9>]", "no area"),
        ("[<x=0.1>, <y=0.2>, <x=0.3>]", "3 coordinates"),
    ],
)
def test_refuses_a_bad_coordinate(text, words):
    with pytest.raises(PromptError) as error:
        check_prompt_coordinates(f"What is in {text} here?")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize(
    "text",
    [
        "{<t=0.1><t=0.1>}",
        "[<x=0><y=0><x=1><y=1>]",
        "[<x=10px><y=20px><x=11px><y=21px>]",
        "{<t_1><t=0.5>} mixes a bin and a fraction",
        "<t=0.1>:[<x=0.1><y=0.1><x=0.2><y=0.2>], <t=0.2>:[<x=0.1><y=0.1><x=0.2><y=0.2>]",
        "{<t=0.1>:[<x=0.1><y=0.1><x=0.2><y=0.2>]}",
        "{the time <t=0.5>} is a remark, so is [1, 2] and {}",
    ],
)
def test_accepts_good_groups(text):
    check_prompt_coordinates(text)


@pytest.mark.parametrize("text", ["<q=1s>", "<z = 3.5 px>", "<T=0.5>", "<Y=12px>", "<t:3>", "<x: 0.5>", "<T:3s>"])
def test_slips_of_the_pen_are_not_words(text):
    with pytest.raises(PromptError, match=r"is no coordinate: the axes are t \(time\), x \(width\) and y") as error:
        check_prompt_coordinates(f"the dog at {text} runs")
    assert str(error.value).startswith(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "<t=1s>",
            "<x =3px>",
            "<y=0.5>",
            "<t_4>",
            "<p=0.05>",
            "<n=5>",
            "<b:1>",
            "<b>bold</b>",
            "a<b=1s",
            "t:3",
            "<t>",
        ),
        *("x < 3s and y > 2", "<ratio=2s>", "<t:now>", "<x_axis>", "<a=b>"),
    ],
)
def test_words_stay_words(text):
    check_misspelled(text)


@pytest.mark.parametrize(
    ("text", "media", "preceding", "fraction"),
    [
        ("<t=9.9s>", (CLIP,), 1, 1.0),
        ("<t=0.9s>", (CLIP,), 0, 1 / 11),
        ("<x=160px>", (CLIP,), 1, 0.25),
        ("<x=25px>", (CLIP, IMAGE), 2, 0.25),
        ("<x=160px>", (CLIP, IMAGE), 1, 0.25),
        ("<y=50px>", (IMAGE,), 0, 1.0),
        ("<t=0.9s>", (CLIP, IMAGE), 2, 1 / 11),  # an image has no seconds: the clip before it is meant
        ("<t_41>", (), 0, 41 / 99),
        ("<t=0.3>", (), 0, 0.3),
    ],
)
def test_resolves_units(text, media, preceding, fraction):
    (coordinate,) = NOTATION.find_coordinates(text)
    assert compute_fraction(coordinate, media, preceding=preceding) == pytest.approx(fraction)


@pytest.mark.parametrize(
    ("text", "media", "error", "words"),
    [
        ("<t=3s>", (), PromptError, "no such medium"),
        ("<t=3s>", (IMAGE,), PromptError, "give a video"),
        ("<x=3px>", (), PromptError, "no such medium"),
        ("<t=500s>", (CLIP,), MediaError, "outside the clip"),
        ("<t=-5s>", (CLIP,), MediaError, "outside the clip"),
        ("<x=641px>", (CLIP,), PromptError, "640x360"),
        ("<y=-1px>", (CLIP,), PromptError, "640x360"),
        ("<t_100>", (CLIP,), PromptError, "from 0 to 99"),
        ("<t_150>", (), PromptError, "from 0 to 99"),
    ],
)
def test_refuses_what_is_outside(text, media, error, words):
    (coordinate,) = NOTATION.find_coordinates(text)
    with pytest.raises(error, match=words):
        compute_fraction(coordinate, media)
