import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from json_notation import JsonNotation

from llava_st_hf.processing import notation_llava_st
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.grounding_results_llava_st import Box, GroundingResult, Span, Tube, TubeBox
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo, PromptError
from llava_st_hf.processing.notation_llava_st import (
    NOTATION,
    CoordinateVocabulary,
    write_box,
    write_span,
    write_time,
    write_tube,
)
from llava_st_hf.processing.prompt_coordinates_llava_st import check_prompt_coordinates
from llava_st_hf.processing.prompt_expansion_llava_st import PromptWriter

CLIP = MediaInfo("video", 99, 99, tuple(range(100)), tuple(k / 10 for k in range(100)))
BOX = "[<x_1><y_2><x_30><y_40>]"
SPAN = "{<t_10><t_42>}"


# ---------------------------------------------------------------------------------------------------------------------
# The vocabulary
# ---------------------------------------------------------------------------------------------------------------------
def test_a_fraction_is_split_as_the_published_code_does(parity_dir):
    for path in parity_dir.glob("*/unit/position_transfer.json"):
        for row in json.loads(path.read_text()):
            vocabulary = CoordinateVocabulary(row["num_tokens"], row["num_tokens"])
            bin_index, offset = vocabulary.split("t", row["position"])
            assert bin_index == row["floor"], row
            assert offset == pytest.approx(row["ratio"], abs=1e-6), row
            assert offset == np.float32(offset)


def test_an_offset_stays_below_one_after_rounding():
    bin_index, offset = CoordinateVocabulary().split("t", np.nextafter(1.0, 0))
    assert bin_index == 98 and 0.999 < np.float32(offset) < 1


def test_bin_and_offset_together_are_the_fraction():
    vocabulary = CoordinateVocabulary()
    fractions = np.linspace(0, 1, 5001)
    split = [vocabulary.split("x", fraction) for fraction in fractions]
    np.testing.assert_allclose(np.sum(split, axis=1), fractions * 99, atol=1e-5)
    assert split[-1] == vocabulary.split("y", 1.5) == (99, 0)
    assert vocabulary.split("t", -0.5) == (0, 0)


def test_tokens_have_ids_in_the_order_time_height_width():
    vocabulary = CoordinateVocabulary(3, 2, offset=10)
    assert vocabulary.tokens == ["<t_0>", "<t_1>", "<t_2>", "<y_0>", "<y_1>", "<x_0>", "<x_1>"]
    located = [vocabulary.locate(token_id) for token_id in range(10, 10 + len(vocabulary))]
    assert [vocabulary.token(*place) for place in located] == vocabulary.tokens
    assert [vocabulary.first_id(axis) for axis in "tyx"] == [10, 13, 15]
    assert vocabulary.contains(np.arange(9, 18)).tolist() == [False, *[True] * 7, False]
    assert vocabulary.fraction("t", 1) == 0.5 and vocabulary.nearest("t", 0.4) == 1


@pytest.mark.parametrize("sizes", [(1, 100), (100, 0)])
def test_an_axis_has_two_ends(sizes):
    with pytest.raises(InputError, match="needs 2 tokens or more"):
        CoordinateVocabulary(*sizes)


# ---------------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<t=0.409>", ("t", 0.409, "fraction")),
        ("<x = .5>", ("x", 0.5, "fraction")),
        ("<y=1e-1>", ("y", 0.1, "fraction")),
        ("<t=3.5s>", ("t", 3.5, "seconds")),
        ("<t=3 s>", ("t", 3.0, "seconds")),
        ("<x=120px>", ("x", 120.0, "pixels")),
        ("<t_41>", ("t", 41, "bin")),
        ("<y_007>", ("y", 7, "bin")),
    ],
)
def test_reads_a_coordinate(text, expected):
    (coordinate,) = NOTATION.find_coordinates(f"before {text} after")
    assert coordinate[:3] == expected
    assert (coordinate.start, coordinate.end) == (7, 7 + len(text))


@pytest.mark.parametrize("text", ["<x_axis>", "<table>", "<t>", "a<t=5 and", "<z=1>", "t=0.4", "<tx=1>"])
def test_leaves_other_text_alone(text):
    assert NOTATION.find_coordinates(text) == []


@pytest.mark.parametrize(
    ("axis", "value", "unit", "text"),
    [
        ("t", 3.5, "seconds", "<t=3.5s>"),
        ("x", np.float32(0.5), "fraction", "<x=0.5>"),
        ("y", 7, "pixels", "<y=7.0px>"),
    ],
)
def test_writes_what_it_reads(axis, value, unit, text):
    assert NOTATION.write_coordinate(axis, value, unit) == text
    assert NOTATION.find_coordinates(text)[0][:3] == (axis, value, unit)


@pytest.mark.parametrize("value", [1e-9, 1 / 3, 123456.789, 5e15])
def test_written_numbers_are_exact(value):
    assert NOTATION.find_coordinates(NOTATION.write_coordinate("t", value, "seconds"))[0].value == value


def test_the_written_form_is_that_of_the_prompts():
    assert write_span(0.1, 0.5) == "{<t=0.1><t=0.5>}"
    assert write_span(0, 1) == "{<t=0.0><t=1.0>}"
    assert write_box((1 / 3, 0.25, 0.5, 1e-5)) == "[<x=0.3333333333333333><y=0.25><x=0.5><y=0.00001>]"
    box = (0.1, 0.2, 0.3, 0.4)
    entry = "[<x=0.1><y=0.2><x=0.3><y=0.4>]"
    assert write_tube([(0.1, box), (0.2, box)]) == f"<t=0.1>:{entry}, <t=0.2>:{entry}"
    assert Span(1.0, 4.95).to_text(CLIP) == "{<t=0.10101010101010101><t=0.5>}"
    assert Box(0, 9.9, 49.5, 99).to_text(CLIP) == "[<x=0.0><y=0.1><x=0.5><y=1.0>]"


def test_with_a_vocabulary_the_nearest_tokens_are_written():
    vocabulary = CoordinateVocabulary(11, 101)
    assert write_time(0.449, vocabulary) == "<t_4>"
    assert write_span(0.0, 0.96, vocabulary) == "{<t_0><t_10>}"
    assert write_tube([(0.5, (0.1, 0.2, 0.304, 1.0))], vocabulary) == "<t_5>:[<x_10><y_20><x_30><y_100>]"


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda: Box(5, 1, 5, 4).to_text(CLIP), "no area"),
        (lambda: Box(-1, 1, 5, 4).to_text(CLIP), "does not lie in the frame"),
        (lambda: Tube((TubeBox(2.0, 20, Box(0, 0, 9, 9)),) * 2).to_text(CLIP), "increase"),
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
    assert GroundingResult(text).plain_text == NOTATION.remove_coordinates(text) == words


@pytest.mark.parametrize(
    "text, start",
    [
        ("in {<t_1><t_9>} <t_1>:[<x_1><y_2>", "<t_1>:["),
        ("in {<t_1>, <t_9", "{"),
        ("<t_1>:[<x_1><y_2><x_3><y_4>], <t_2>: ", "<t_2>"),
        ("<t_1>:[<x_1><y_2><x_3><y_4>], <t_2>: [", "<t_2>"),
        ("it is at [", "["),
        ("[<x_1><y_2> and so on", None),
        (f"at {BOX}", None),
        ("<t_5> it goes", None),
        ("", None),
    ],
)
def test_the_group_that_a_text_ends_in_is_found(text, start):
    assert NOTATION.find_open_group(text) == (None if start is None else text.index(start))


@pytest.mark.parametrize("unit", ["<t=", "<t=1", "<t ", "<x=0.5 a ", "<t_1>:[", "1", "<t=1[", f"<t_1>:{BOX}", "<q=1"])
def test_the_lexer_is_linear(unit):
    # One that is not takes half a minute.
    text = unit * (150_000 // len(unit))
    NOTATION.lex(text)
    NOTATION.lex("<t=" + text + ">")
    NOTATION.find_misspelled("<q=" + text)
    assert sum(len(tube.rows) for tube in NOTATION.find_whole_tubes(text)) == (text.count("]") if "]" in unit else 0)


# ---------------------------------------------------------------------------------------------------------------------
# Another notation
# ---------------------------------------------------------------------------------------------------------------------
def test_another_notation_is_another_class():
    notation, vocabulary = JsonNotation(), CoordinateVocabulary(101, 101)
    box = (0.1, 0.2, 0.3, 0.4)
    tube = notation.write_tube([(0.1, box), (0.5, box)])
    assert tube == '{"boxes": {"0.1": [0.1, 0.2, 0.3, 0.4], "0.5": [0.1, 0.2, 0.3, 0.4]}}'
    assert notation.write_tube([(0.1, box)], vocabulary) == '{"boxes": {<t_10>: [<x_10>, <y_20>, <x_30>, <y_40>]}}'
    tokens = notation.write_tube([(0.1, box), (0.5, box)], vocabulary)
    for span, boxes in (
        (notation.write_span(0.1, 0.5), f": {tube}"),
        (notation.write_span(0.1, 0.5, vocabulary), f" {tokens}"),
        ('{"time": [0.1, 0.5]', f", {tube[1:]}"),  # one object
    ):
        text = f"All 2 sit by it {notation.write_box(box)}: {span}{boxes}."
        result = parse_answer(text, CLIP, notation=notation, vocabulary=vocabulary)
        assert result.problems == ()
        assert [span.fractions for span in result.spans] == [(0.1, 0.5)]
        assert [(entry.fraction, entry.box.fractions) for entry in result.tubes[0].boxes] == [(0.1, box), (0.5, box)]
        assert result.boxes[0].fractions == box
        assert result.captions[0].text == "All 2 sit by it"
    assert notation.find_open_group(f"at {tube[:-1]}") == 3 and notation.find_open_group(f"at {tube}") is None


@pytest.mark.parametrize("notation", [NOTATION, JsonNotation()], ids=["tokens", "json"])
def test_a_written_coordinate_is_read_alone_and_inside_a_group(notation):
    for coordinate in (("t", 0.5, "seconds"), ("t", 1e-7, "fraction"), ("x", 120.0, "pixels"), ("y", 0.5, "fraction")):
        (lexeme,) = notation.lex(f"All 2 sit at {notation.write_coordinate(*coordinate)}.")
        assert lexeme[:3] == coordinate
    span = notation.write_values("tt", (1.0, 4.0), "seconds")
    assert [each[:3] for each in notation.find_coordinates(span)] == [("t", 1.0, "seconds"), ("t", 4.0, "seconds")]
    span = notation.replace_coordinates(span, lambda each: notation.write_coordinate("t", each.value / 8))
    assert [each[:3] for each in notation.find_coordinates(span)] == [("t", 0.125, "fraction"), ("t", 0.5, "fraction")]


# What follows from `NOTATION`, in a copy of the library.
FOLLOWS = """
from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset
from llava_st_hf.processing import MediaInfo, TASKS, parse_answer
from llava_st_hf.processing.notation_llava_st import NOTATION
from llava_st_hf.processing.tasks_llava_st import write_values

assert write_values("span", "tt", None, (0.2, 0.6)) == '{"time": [0.2, 0.6]}'
assert write_values("start", "t", [1.5], None) == '"t=1.5s"'
clip = MediaInfo("video", 1, 1, tuple(range(20)), tuple(map(float, range(20))))
for task in SHAPES_TASKS:
    media = MediaInfo("image", 1, 1) if TASKS[task].media_type == "image" else clip
    dataset = ShapesDataset([task], 4, seed=1, num_frames=20)
    for _, _, (question, answer), _ in map(dataset._compose, range(4)):
        start = 19 * NOTATION.find_coordinates(question["content"])[0].value if task == "elc" else None
        form = TASKS[task].answer_format
        result = parse_answer(answer["content"], media, answer_format=form, start_seconds=start)
        assert result.problems == () and "=" not in result.plain_text, (task, answer, result.problems)
print("all", len(SHAPES_TASKS), "follow")
"""


def test_another_notation_is_put_in_place_at_the_foot(tmp_path):
    library = Path(notation_llava_st.__file__).parents[1]
    copy = tmp_path / "llava_st_hf"
    shutil.copytree(library, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "processing" / "json_notation_llava_st.py").write_text(
        "import re\n\nimport numpy as np\n\nfrom .notation_llava_st import AXIS_UNITS, Lexeme, Notation\n\n\n"
        + inspect.getsource(JsonNotation)
    )
    file = copy / "processing" / "notation_llava_st.py"
    old, new = "NOTATION: Notation = TokenNotation()", "NOTATION: Notation = JsonNotation()"
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, f"from .json_notation_llava_st import JsonNotation  # noqa: E402\n\n{new}"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", FOLLOWS], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("all "), done.stderr[-2000:]


def test_a_prompt_in_another_notation_is_written_and_checked():
    notation = JsonNotation()
    writer = PromptWriter(None, "<image>", "<video>", CoordinateVocabulary(), True, True, notation)
    sample = writer.write('When, in {"time": [0.5, 1.0]}?', iter(()), iter(()))
    assert sample.text == 'When, in {"time": [<t_49>, <t_99>]}?'
    assert sample.offsets.tolist() == [0.5, 0.0]
    with pytest.raises(PromptError, match="ends before it starts"):
        check_prompt_coordinates('in {"time": [0.5, 0.1]}', notation=notation)
    with pytest.raises(PromptError, match=r'a box is left, top, right, bottom, \{"box": \[0.1, 0.2, 0.5, 0.6\]\}'):
        check_prompt_coordinates('in {"box": [0.5, 0.1]}', notation=notation)
