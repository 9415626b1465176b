"""What an answer must have, how many of it, and how it is put together."""

import pytest

from llava_st_hf.processing.answer_formats_llava_st import ANSWER_FORMATS, get_answer_format
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo

SPAN, BOX = "{<t_10><t_20>}", "[<x_1><y_2><x_30><y_40>]"
FIELDS = {
    "text": "A man walks.",
    "span": SPAN,
    "end": "<t_20>",
    "box": BOX,
    "tube": f"<t_10>:{BOX}, <t_20>:{BOX}",
    "caption": "a man walks.",
}
FREE_TEXTS = {"phrases_with_boxes": f"A man {BOX} and a dog {BOX}.", "sentences_with_spans": f"{SPAN}, a. {SPAN}, b."}


def read(name: str, text: str) -> list[str]:
    medium = MediaInfo("video", 640, 360, tuple(range(100)), tuple(index / 10 for index in range(100)))
    return [problem.kind for problem in parse_answer(text, medium, answer_format=name, start_seconds=0.5).problems]


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_what_is_put_together_is_read_without_a_problem(name):
    answer_format = ANSWER_FORMATS[name]
    fields = {field: FIELDS[field] for field in answer_format.fields} | {"text": FREE_TEXTS.get(name, FIELDS["text"])}
    assert read(name, answer_format.write(**fields)) == []


def test_lists_are_written_one_after_another():
    several = ANSWER_FORMATS["spans_and_tubes"]
    tubes = [f"<t_10>:{BOX}", f"<t_30>:{BOX}"]
    written = several.write(span=[SPAN, "{<t_30><t_40>}"], tube=tubes)
    assert written == f"{SPAN}, {{<t_30><t_40>}} <t_10>:{BOX}; another: <t_30>:{BOX}"
    assert several.takes_several("span") and several.takes_several("tube")
    assert not ANSWER_FORMATS["span"].takes_several("span")
    assert not ANSWER_FORMATS["sentences_with_spans"].takes_several("span")  # they stand among words


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_an_answer_without_its_parts_lacks_them(name):
    parts = {*ANSWER_FORMATS[name].parts} - {"text", "caption"}
    assert set(read(name, "Nothing.")) == {f"missing_{part}" for part in parts}


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_only_some_parts_may_come_more_than_once(name):
    answer_format = ANSWER_FORMATS[name]
    twice = " then ".join([SPAN] * 2 + [BOX] * 2 + [FIELDS["tube"]] * 2)
    extra = {f"extra_{part}" for part in {*answer_format.parts} - {*answer_format.several, "text", "caption"}}
    assert {kind for kind in read(name, twice) if kind.startswith("extra")} == extra


def test_a_format_is_known_by_its_name():
    assert get_answer_format("box") is get_answer_format(ANSWER_FORMATS["box"]) is ANSWER_FORMATS["box"]
    for wrong in ("poem", ["box"]):
        with pytest.raises(InputError, match=r"answer_format is .*: give one of text, span"):
            get_answer_format(wrong)
    with pytest.raises(TypeError):
        ANSWER_FORMATS["poem"] = ANSWER_FORMATS["box"]
