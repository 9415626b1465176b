import pytest

from llava_st_hf.processing.media_llava_st import PromptError
from llava_st_hf.processing.notation_llava_st import check_misspelled, check_prompt_coordinates


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
