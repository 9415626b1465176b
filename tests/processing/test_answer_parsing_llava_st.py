import cProfile
import json
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.answer_problems_llava_st import PROBLEM_KINDS
from llava_st_hf.processing.grounding_results_llava_st import (
    Box,
    Caption,
    GroundingResult,
    Span,
)
from llava_st_hf.processing.media_llava_st import InputError, MediaError, MediaInfo
from llava_st_hf.processing.notation_llava_st import (
    CoordinateVocabulary,
    Notation,
    TokenNotation,
    write_box,
    write_span,
    write_tube,
)

# Token k of time is k / 10 s and frame k; token k of width or height is k pixels.
CLIP = MediaInfo("video", 99, 99, tuple(range(100)), tuple(k / 10 for k in range(100)), source="clip.mp4")
IMAGE = MediaInfo("image", 99, 99, source="image.jpg")
FORMATS = {"rec": "box", "tvg": "span", "stvg": "span_and_tube", "svg": "tube", "elc": "end_caption_and_tube"}

BOX = "[<x_1><y_2><x_30><y_40>]"
BOX_PIXELS = (1, 2, 30, 40)
SPAN = "{<t_10><t_42>}"
SPAN_SECONDS = (1.0, 4.2)


def read(text, answer_format=None, media=CLIP, **options):
    """Parse, and check what holds for every answer."""
    result = parse_answer(text, media, answer_format=answer_format, **options)
    assert {problem.kind for problem in result.problems} <= set(PROBLEM_KINDS)
    for problem in result.problems:
        assert 0 <= problem.start <= problem.end <= len(text)
        assert problem.text == "" or text[problem.start :].startswith(problem.text)
        assert problem.message
    return result


def spans_of(result):
    return [(pytest.approx(span.start_seconds), pytest.approx(span.end_seconds)) for span in result.spans]


def boxes_of(result):
    return [tuple(round(value, 6) for value in box.xyxy) for box in result.boxes]


def tubes_of(result):
    return [[(round(entry.seconds, 6), entry.box.xyxy[0]) for entry in tube.boxes] for tube in result.tubes]


def kinds_of(result):
    return sorted(problem.kind for problem in result.problems)


# Name, text, spans, boxes, number of entries of each tube, kinds of problems.
READABLE = [
    ("empty text", "", [], [], [], []),
    ("prose", "A man walks his dog.", [], [], [], []),
    ("brackets of prose", "He [laughs] and {smiles}. [] {}", [], [], [], []),
    ("span", SPAN, [SPAN_SECONDS], [], [], []),
    ("span in a sentence", f"It occurs at {SPAN}.", [SPAN_SECONDS], [], [], []),
    ("spaces in a span", "{ <t_10> <t_42> }", [SPAN_SECONDS], [], [], []),
    ("comma in a span", "{<t_10>, <t_42>}", [SPAN_SECONDS], [], [], []),
    ("continuous span", "{<t=0.20><t=.5>}", [(1.98, 4.95)], [], [], []),
    ("ends of the axis", "{<t=0><t=1.0>}", [(0.0, 9.9)], [], [], []),
    ("minus zero", "{<t=-0><t=1>}", [(0.0, 9.9)], [], [], []),
    ("span of one moment", "{<t_7><t_7>}", [(0.7, 0.7)], [], [], []),
    ("two spans", f"{SPAN} or {{<t_0><t_99>}}", [SPAN_SECONDS, (0.0, 9.9)], [], [], []),
    ("leading zeros", "{<t_010><t_042>}", [SPAN_SECONDS], [], [], []),
    ("box", BOX, [], [BOX_PIXELS], [], []),
    ("box in a sentence", f"The object is at {BOX}.", [], [BOX_PIXELS], [], []),
    ("spaces in a box", "[ <x_1> <y_2> <x_30> <y_40> ]", [], [BOX_PIXELS], [], []),
    ("tube with commas", f"<t_1>:{BOX}, <t_2>:{BOX}", [], [], [2], []),
    ("tube with spaces", f"<t_1>: {BOX} <t_2> : {BOX}", [], [], [2], []),
    ("tube without separators", f"<t_1>:{BOX}<t_2>:{BOX}<t_3>:{BOX}", [], [], [3], []),
    ("tube with lines", f"<t_1>:{BOX}\n<t_2>:{BOX}", [], [], [2], []),
    ("tube with 'and'", f"<t_1>:{BOX}, and <t_2>:{BOX}", [], [], [2], []),
    ("tube in braces", f"{{<t_1>:{BOX}<t_2>:{BOX}}}", [], [], [2], []),
    ("tube in spaced braces", f"{{ <t_1>:{BOX} <t_2>:{BOX} }}", [], [], [2], []),
    ("tube without colons", f"<t_1>{BOX}<t_2>{BOX}", [], [], [2], []),
    ("tube of one box", f"<t_1>:{BOX}", [], [], [1], []),
    ("two tubes with names", f"First: <t_1>:{BOX}, <t_2>:{BOX}. Second: <t_1>:{BOX}", [], [], [2, 1], []),
    ("two tubes in braces", f"{{<t_1>:{BOX}}} {{<t_1>:{BOX}}}", [], [], [1, 1], []),
    ("span, then tube", f"{SPAN} <t_10>:{BOX}, <t_42>:{BOX}", [SPAN_SECONDS], [], [2], []),
    (
        "span and tube in prose",
        f"The child occurs in {SPAN} . Object bounding box: {{<t_10>:{BOX}}}",
        [SPAN_SECONDS],
        [],
        [1],
        [],
    ),
    ("reversed span", "{<t_42><t_10>}", [], [], [], ["reversed_span"]),
    ("span of one coordinate", "{<t_10>}", [], [], [], ["wrong_coordinate_count"]),
    ("span of three coordinates", "{<t_1><t_2><t_3>}", [], [], [], ["wrong_coordinate_count"]),
    ("span cut in the middle", "{<t_10>", [], [], [], ["truncated_answer"]),
    ("span without its bracket at the end", "{<t_10><t_42>", [SPAN_SECONDS], [], [], ["truncated_answer"]),
    ("span without its bracket", "{<t_10><t_42>, he sits.", [SPAN_SECONDS], [], [], ["unclosed_bracket"]),
    ("unclosed span before a tube", f"{{<t_10><t_42> <t_10>:{BOX}", [SPAN_SECONDS], [], [1], ["unclosed_bracket"]),
    ("span in square brackets", "[<t_10><t_42>]", [SPAN_SECONDS], [], [], ["wrong_bracket"]),
    ("span with mixed brackets", "{<t_10><t_42>]", [SPAN_SECONDS], [], [], ["wrong_bracket"]),
    ("span closed twice", f"{SPAN}}}", [SPAN_SECONDS], [], [], ["wrong_bracket"]),
    ("span with words", "{from <t_10> to <t_42>}", [SPAN_SECONDS], [], [], ["text_in_group"]),
    ("span of plain numbers", "{0.2, 0.5}", [(1.98, 4.95)], [], [], ["bare_numbers"]),
    ("plain numbers over 1", "{10, 42}", [], [], [], []),
    ("box of plain numbers", "[0.0, 0.0, 0.5, 1.0]", [], [(0, 0, 49.5, 99)], [], ["bare_numbers"]),
    ("list of three numbers", "[0.1, 0.2, 0.3]", [], [], [], []),
    ("span of widths", "{<x_10><x_42>}", [], [], [], ["wrong_coordinate_count"]),
    ("time with width", "{<t_10><x_42>}", [], [], [], ["wrong_coordinate_axis"]),
    ("token over the last", "{<t_10><t_150>}", [], [], [], ["out_of_range"]),
    ("fraction over 1", "{<t=0.1><t=1.01>}", [], [], [], ["out_of_range"]),
    ("negative fraction", "{<t=-0.1><t=0.5>}", [], [], [], ["out_of_range"]),
    ("not a number", "{<t=nan><t=inf>}", [], [], [], ["malformed_coordinate"] * 2),
    ("empty coordinate", "{<t_><t_42>}", [], [], [], ["malformed_coordinate"]),
    ("coordinate without its end", "{<t_10<t_42>}", [], [], [], ["malformed_coordinate"]),
    ("digits of another script", "{<t_\u0661><t_42>}", [], [], [], ["malformed_coordinate"]),
    ("number of many digits", "{<t_" + "9" * 60 + "><t_42>}", [], [], [], ["out_of_range"]),
    ("box with x1 over x2", "[<x_30><y_2><x_1><y_40>]", [], [], [], ["degenerate_box"]),
    ("box with y1 at y2", "[<x_1><y_2><x_30><y_2>]", [], [], [], ["degenerate_box"]),
    ("box of three coordinates", "[<x_1><y_2><x_30>]", [], [], [], ["wrong_coordinate_count"]),
    ("box of five coordinates", "[<x_1><y_2><x_30><y_40><x_5>]", [], [], [], ["wrong_coordinate_count"]),
    ("box in the order y x y x", "[<y_2><x_1><y_40><x_30>]", [], [BOX_PIXELS], [], ["wrong_coordinate_order"]),
    ("box of three widths", "[<x_1><x_2><x_30><y_40>]", [], [], [], ["wrong_coordinate_axis"]),
    ("box with a time", "[<x_1><y_2><x_30><t_40>]", [], [], [], ["wrong_coordinate_axis"]),
    ("box in braces", "{<x_1><y_2><x_30><y_40>}", [], [BOX_PIXELS], [], ["wrong_bracket"]),
    ("box in round brackets", "(<x_1><y_2><x_30><y_40>)", [], [], [], ["stray_coordinate"]),
    ("box cut in a token", "It is [<x_1><y_2><x_30><", [], [], [], ["truncated_answer"]),
    ("box cut in a token's number", "It is [<x_1><y_2><x_30><y_4", [], [], [], ["truncated_answer"]),
    ("prose cut in a token", "He sits. <t", [], [], [], ["truncated_answer"]),
    ("span cut off in the second token", "{<t_10><t_5<", [], [], [], ["truncated_answer"]),
    ("box cut before its bracket", "[<x_1><y_2><x_30><y_40>", [], [BOX_PIXELS], [], ["truncated_answer"]),
    ("unclosed box of two coordinates", f"[<x_1><y_2> and {BOX}", [], [BOX_PIXELS], [], ["unclosed_bracket"]),
    ("bracket at the end", "It is at [", [], [], [], ["truncated_answer"]),
    ("stray time", "It starts at <t_10> and stops.", [], [], [], ["stray_coordinate"]),
    ("stray times", "<t_10><t_42> he sits.", [], [], [], ["stray_coordinate"]),
    ("tube cut after a time", f"<t_1>:{BOX}, <t_2>:", [], [], [1], ["truncated_answer"]),
    ("tube cut after a bracket", f"<t_1>:{BOX}, <t_2>:[", [], [], [1], ["truncated_answer"]),
    ("tube cut in a box", f"<t_1>:{BOX}, <t_2>:[<x_1><y_", [], [], [1], ["truncated_answer"]),
    ("tube cut before its brace", f"{{<t_1>:{BOX}<t_2>:{BOX}", [], [], [2], ["truncated_answer"]),
    ("tube without its brace", f"{{<t_1>:{BOX}<t_2>:{BOX} is where.", [], [], [2], ["unclosed_bracket"]),
    ("tube in mixed brackets", f"{{<t_1>:{BOX}]", [], [], [1], ["wrong_bracket"]),
    ("tube with an empty box", f"<t_1>:[], <t_2>:{BOX}", [], [], [1], ["wrong_coordinate_count"]),
    (
        "tube with a box of three",
        f"<t_1>:[<x_1><y_2><x_30>], <t_2>:{BOX}",
        [],
        [],
        [1],
        ["wrong_coordinate_count"],
    ),
    ("tube with a reversed box", f"<t_1>:{BOX}, <t_2>:[<x_9><y_2><x_3><y_4>]", [], [], [1], ["degenerate_box"]),
    ("tube with a time out of range", f"<t_100>:{BOX}, <t_2>:{BOX}", [], [], [1], ["out_of_range"]),
    (
        "tube with an unopened box",
        f"<t_1>:{BOX}<t_2>:<x_1><y_2><x_3><y_4>]<t_3>:{BOX}",
        [],
        [],
        [2],
        ["stray_coordinate"],
    ),
    ("tube with a time twice", f"<t_1>:{BOX}, <t_1>:[<x_5><y_2><x_30><y_40>]", [], [], [1], ["duplicate_time"]),
    ("tube back in time", f"<t_5>:{BOX}, <t_1>:{BOX}", [], [], [2], ["non_increasing_time"]),
    ("tube outside the span", f"{SPAN} <t_9>:{BOX}, <t_42>:{BOX}", [SPAN_SECONDS], [], [2], ["tube_outside_span"]),
    ("second box at a time", f"<t_1>:{BOX}{BOX}", [], [BOX_PIXELS], [1], []),
    ("end without a start", "Ends in <t_42>, he sits.", [], [], [], ["missing_start"]),
    ("surrogates and zero bytes", f"\ud800\0 {BOX}", [], [BOX_PIXELS], [], []),
    ("other scripts", f"\u5728\u8fd9\u91cc{BOX}\u3002", [], [BOX_PIXELS], [], []),
]


@pytest.mark.parametrize("name, text, spans, boxes, tubes, kinds", READABLE, ids=[row[0] for row in READABLE])
def test_parse_answer_reads_what_is_there_and_reports_the_rest(name, text, spans, boxes, tubes, kinds):
    result = read(text)
    assert spans_of(result) == spans
    assert boxes_of(result) == [pytest.approx(box) for box in boxes]
    assert [len(tube.boxes) for tube in result.tubes] == tubes
    assert kinds_of(result) == sorted(kinds)


def test_every_problem_kind_is_in_a_table():
    of_the_task = {kind for row in ASKED_FOR for kind in row[3]} | {"time_on_image"}
    assert {kind for row in READABLE for kind in row[5]} | of_the_task == set(PROBLEM_KINDS)


# Name, format, text, kinds of problems.
ASKED_FOR = [
    ("text needs nothing", "text", "A man.", []),
    ("no span", "span", "I do not know.", ["missing_span"]),
    ("no span that can be read", "span", "{<t_42><t_10>}", ["missing_span", "reversed_span"]),
    ("two spans", "span", f"{SPAN} or {SPAN}", ["extra_span"]),
    ("no box", "box", "I cannot find it.", ["missing_box"]),
    ("two boxes", "box", f"{BOX} or {BOX}", ["extra_box"]),
    ("no tube", "tube", "nothing", ["missing_tube"]),
    ("box instead of a tube", "tube", BOX, ["missing_tube"]),
    ("two tubes", "tube", f"One: <t_1>:{BOX}. Two: <t_1>:{BOX}", ["extra_tube"]),
    ("no tube after the span", "span_and_tube", SPAN, ["missing_tube"]),
    ("no span before the tube", "span_and_tube", f"<t_1>:{BOX}", ["missing_span"]),
    ("empty span and tube", "span_and_tube", "", ["missing_span", "missing_tube"]),
    ("empty event", "end_caption_and_tube", "", ["missing_caption", "missing_span", "missing_tube"]),
    ("no boxes after phrases", "phrases_with_boxes", "a man and a dog", ["missing_box"]),
    ("box without a phrase", "phrases_with_boxes", BOX, ["missing_caption"]),
    ("no spans beside sentences", "sentences_with_spans", "He sits. He stands.", ["missing_span"]),
    ("span without a sentence", "sentences_with_spans", f"{SPAN}{SPAN}, he sits.", ["missing_caption"]),
]


@pytest.mark.parametrize("name, answer_format, text, kinds", ASKED_FOR, ids=[row[0] for row in ASKED_FOR])
def test_parse_answer_reports_what_the_format_asks_for(name, answer_format, text, kinds):
    assert kinds_of(read(text, answer_format)) == kinds


@pytest.mark.parametrize(
    "text, boxes, kinds",
    [
        (BOX, 1, []),
        (SPAN, 0, ["time_on_image"]),
        (f"<t_1>:{BOX}, <t_2>:{BOX}", 2, ["time_on_image"]),
        ("Ends in <t_5>, a man", 0, ["time_on_image"]),
    ],
    ids=["box", "span", "tube", "end"],
)
def test_times_about_an_image_are_left_out_and_boxes_kept(text, boxes, kinds):
    result = read(text, media=IMAGE, start_seconds=1.0)
    assert (len(result.boxes), result.spans, result.tubes, kinds_of(result)) == (boxes, (), (), kinds)


def test_values_have_units_and_keep_the_raw_fractions():
    clip = MediaInfo("video", 640, 360, frame_indices=(10, 60, 110), frame_seconds=(1.0, 2.0, 6.0))  # variable rate
    result = read("{<t_0><t=0.75>} <t=0.5>:[<x_0><y_0><x_99><y=0.25>]", media=clip)
    assert result.spans == (Span(1.0, 4.0),)
    assert result.spans[0].fractions == (0.0, 0.75)
    entry = result.tubes[0].boxes[0]
    assert (entry.seconds, entry.frame_index, entry.fraction) == (2.0, 60, 0.5)
    assert entry.box == Box(0.0, 0.0, 640.0, 90.0)
    assert entry.box.fractions == (0.0, 0.0, 1.0, 0.25)


def test_numbers_of_tokens_are_those_of_the_config():
    result = read("{<t_3><t_9>} [<x_0><y_5><x_10><y_10>]", vocabulary=CoordinateVocabulary(10, 11))
    assert spans_of(result) == [(3.3, 9.9)]
    assert boxes_of(result) == [(0, 49.5, 99, 99)]
    assert kinds_of(read("{<t_3><t_10>}", vocabulary=CoordinateVocabulary(10))) == ["out_of_range"]


def test_of_a_time_given_twice_the_last_box_counts():
    result = read(f"<t_1>:{BOX}, <t_2>:{BOX}, <t_1>:[<x_7><y_2><x_30><y_40>]")
    assert tubes_of(result) == [[(0.1, 7.0), (0.2, 1.0)]]


def test_the_frame_of_a_token_is_the_one_that_was_sampled_for_it():
    last = 485
    indices = tuple(round(k / 99 * last) for k in range(100))
    clip = MediaInfo("video", 99, 99, indices, tuple(index / 30 for index in indices))
    result = read("".join(f"<t_{k}>:{BOX}" for k in range(100)), media=clip)
    assert tuple(entry.frame_index for entry in result.tubes[0].boxes) == indices


@pytest.mark.parametrize("start, end, kinds", [(1.0, 4.2, []), (4.2, 4.2, []), (5.0, None, ["reversed_span"])])
def test_the_end_of_an_event_makes_a_span_with_the_start_of_the_prompt(start, end, kinds):
    text = f"Ends in <t_42>, he sits down. Object bounding box: {{<t_42>:{BOX}}}"
    result = read(text, "end_caption_and_tube", start_seconds=start)
    assert spans_of(result) == ([] if end is None else [(start, end)])
    assert [caption.text for caption in result.captions] == ["he sits down."]
    assert kinds_of(result) == sorted([*kinds, *(["missing_span"] if kinds else [])])


def test_wrong_arguments_other_than_the_text_raise():
    with pytest.raises(InputError, match="answer_format"):
        parse_answer("", CLIP, answer_format="poem")
    with pytest.raises(MediaError, match="outside the clip"):
        parse_answer("", CLIP, start_seconds=99.0)


def test_refinements_stand_for_the_tokens_at_their_places():
    text = "{<t_10><t_42>} [<x_1><y_2><x_30><y_40>]"
    refinements = {1: (0.1, 0.9), 7: (0.43, 0.6), text.index("<x_1>"): (0.012, 0.3)}
    result = read(text, refinements=refinements)
    assert result.spans[0].fractions == (0.1, 0.43)
    assert result.spans[0].confidence == 0.6
    assert result.boxes[0].fractions == pytest.approx((0.012, 2 / 99, 30 / 99, 40 / 99))
    assert result.boxes[0].confidence == 0.3


def test_problems_tell_where_they_are():
    text = f"First {BOX}, then {{<t_10><t_150>}}."
    (problem,) = read(text).problems
    assert problem.text == text[problem.start : problem.end] == "<t_150>"


# The texts of the recorded reference answers, in the names of this project's tokens.
def load_reference_answers(parity_dir, benchmark):
    names = {"TEMP": "t", "WIDTH": "x", "HEIGHT": "y"}
    for line in (parity_dir / "public" / "metrics" / f"{benchmark}.jsonl").read_text().splitlines():
        row = json.loads(line)
        text = re.sub(r"<(TEMP|WIDTH|HEIGHT)-(\d+)>", lambda m: f"<{names[m[1]]}_{int(m[2])}>", row["outputs"])
        yield row, text


@pytest.mark.parametrize("benchmark", FORMATS)
def test_recorded_answers_are_read(parity_dir, benchmark):
    num_perfect = 0
    for row, text in load_reference_answers(parity_dir, benchmark):
        width, height = row.get("width", 640), row.get("height", 360)
        first, last = row.get("split", (0, 990))
        indices = tuple(first + round(k / 99 * (last - first)) for k in range(100))
        clip = MediaInfo("video", width, height, indices, tuple(index / 25 for index in indices))
        media = MediaInfo("image", width, height) if benchmark == "rec" else clip
        start = row["gt"]["tvg"][0] / 25 if benchmark == "elc" else None  # given in the prompt
        result = read(text, FORMATS[benchmark], media=media, start_seconds=start)
        assert GroundingResult.from_dict(json.loads(result.to_json())).to_dict() == result.to_dict()
        times = [int(k) for k in re.findall(r"<t_(\d+)>:?\[", text)]
        if row["_kind"] in ("perfect", "offset", "nospan", "early", "wide") and benchmark in ("stvg", "svg", "elc"):
            assert [round(entry.fraction * 99) for tube in result.tubes for entry in tube.boxes] == times
        if row["_kind"] == "perfect":
            num_perfect += 1
            assert result.problems == ()
            check_perfect(benchmark, row, result, clip)
    assert num_perfect >= 3


def check_perfect(benchmark, row, result, clip):
    step = 1 / 99
    if benchmark == "rec":
        assert result.boxes[0].fractions == pytest.approx(row["gt_bbox"], abs=step)
    if benchmark == "tvg":
        assert result.spans[0].fractions == pytest.approx(row["gt"], abs=step)
    if benchmark in ("stvg", "elc"):
        truth = [clip.fraction_at(index / 25) for index in row["gt"]["tvg"]]
        assert result.spans[0].fractions == pytest.approx(truth, abs=step)
    if benchmark == "elc":
        words = re.match(r"(?:Ends in <t_\d+>|\{<t_\d+><t_\d+>\}), (.*) Object bounding box: ", result.text)
        assert result.captions == (Caption(words[1], span=result.spans[0]),)
    if benchmark in ("stvg", "svg", "elc"):
        truth = {int(index): box for index, box in row["gt"]["svg"].items()}
        shared = [entry for entry in result.tubes[0].boxes if entry.frame_index in truth]
        assert len(shared) == len(truth)
        for entry in shared:
            tolerance = 1.01 * step * max(row["width"], row["height"]) + 1
            assert entry.box.xyxy == pytest.approx(truth[entry.frame_index], abs=tolerance)


PIECES = st.sampled_from(
    [
        "[",
        "]",
        "{",
        "}",
        ":",
        ", ",
        ". ",
        " ",
        "\n",
        "and",
        "a man",
        "Ends in ",
        "Object bounding box: ",
        "<",
        ">",
        "<t",
    ]
    + [f"<{axis}_{k}>" for axis in "txy" for k in (0, 3, 50, 99, 100)]
    + ["<t=0.25>", "<x=1.5>", "<y=", "<t_5", "0.5", "0.2, 0.3", BOX, SPAN, f"<t_8>:{BOX}", "\u5728", "\ud800"]
)


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(PIECES, max_size=40),
    answer_format=st.sampled_from([None, *FORMATS.values(), "text", "phrases_with_boxes", "sentences_with_spans"]),
    media=st.sampled_from([CLIP, IMAGE]),
    start_seconds=st.sampled_from([None, 1.0]),
)
def test_no_text_raises_and_every_result_survives_json(pieces, answer_format, media, start_seconds):
    result = read("".join(pieces), answer_format, media=media, start_seconds=start_seconds, task="stvg", query="a man")
    restored = GroundingResult.from_dict(json.loads(result.to_json()))
    assert restored == result
    assert restored.to_dict() == result.to_dict()
    result.to_coco()
    assert isinstance(result.plain_text, str)


class OneByOneNotation(TokenNotation):
    """The notation without the short cut for tubes."""

    find_whole_tubes = Notation.find_whole_tubes


WHOLE = st.sampled_from(
    [
        f"<t_8>:{BOX}, <t_9>:{BOX}",
        f"<t_{{}}>:{BOX}<t_{{}}>: {BOX}",
        f"<t=0.5>:{BOX.replace('_', '=0.')}\n<t=.75>:[<x=0><y=0.><x=1><y=1.0>]",
        f"<t_3>:{BOX} <t_5>:[<x_30><y_2><x_1><y_40>]",
        f"<t_4>:[<x_1><y_2><x_30>], <t_5>:{BOX}",
        "<t_100>:[<x_1><y_2><x_100><y_40>]",
        " and ",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(st.one_of(WHOLE, PIECES), max_size=12),
    times=st.lists(st.integers(0, 101), min_size=40, max_size=40),
    answer_format=st.sampled_from([None, "span_and_tube", "end_caption_and_tube", "phrases_with_boxes"]),
)
def test_a_whole_tube_is_read_as_box_by_box(pieces, times, answer_format):
    text = "".join(piece.format(*times[2 * i :]) if "<t_{}>" in piece else piece for i, piece in enumerate(pieces))
    result = read(text, answer_format)
    assert result == read(text, answer_format, notation=OneByOneNotation())
    assert result.to_dict() == read(text, answer_format, notation=OneByOneNotation()).to_dict()


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=200))
def test_no_unicode_text_raises(text):
    read(text, "span_and_tube")


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "[",
        "{",
        "}",
        "<t_1>",
        SPAN,
        "<t_1>:[",
        "[<x_1>",
        f"<t_1>:{BOX}",
        f"{{<t_1>:{BOX}",
        " ",
        ", ",
        "a ",
        "a. ",
        "<t=",
        "a, . ",
        f"a {SPAN} b ",
        f"a {BOX}",
        "Ends in <t_3>",
    ],
)
def test_work_grows_linearly_with_the_text(unit):
    def count_calls(length):
        profile = cProfile.Profile()
        text = unit * (length // len(unit))
        with profile:
            for answer_format in ("sentences_with_spans", "phrases_with_boxes"):
                read(text, answer_format).plain_text  # noqa: B018
        return sum(entry.callcount for entry in profile.getstats())

    # Eight times the text; a quadratic reader makes 64 times as many calls.
    assert count_calls(24_000) < 12 * count_calls(3_000)


# ---------------------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------------------
FRACTION = st.floats(0, 1, allow_nan=False)
BOX_FRACTIONS = st.tuples(FRACTION, FRACTION, FRACTION, FRACTION).filter(
    lambda box: box[0] + 1e-5 < box[2] and box[1] + 1e-5 < box[3]
)


@settings(max_examples=100, deadline=None)
@given(box=BOX_FRACTIONS, times=st.lists(st.integers(0, 10**6), min_size=2, max_size=6, unique=True))
def test_what_is_written_is_read_back(box, times):
    times = sorted(time / 10**6 for time in times)
    text = f"{write_span(times[0], times[-1])} {write_tube([(time, box) for time in times])} {write_box(box)}"
    result = read(text)
    assert result.problems == ()
    assert result.spans[0].fractions == pytest.approx((times[0], times[-1]), abs=1e-6)
    assert result.boxes[0].fractions == pytest.approx(box, abs=1e-6)
    assert [entry.fraction for entry in result.tubes[0].boxes] == pytest.approx(times, abs=1e-6)
    again = read(f"{result.spans[0].to_text(CLIP)}{result.tubes[0].to_text(CLIP)}; so {result.boxes[0].to_text(CLIP)}")
    assert again.spans[0].fractions == pytest.approx(result.spans[0].fractions, abs=2e-6)
    assert again.boxes[0].xyxy == pytest.approx(result.boxes[0].xyxy, abs=99e-6)
    assert [entry.box.xyxy for entry in again.tubes[0].boxes] == [
        pytest.approx(entry.box.xyxy, abs=99e-6) for entry in result.tubes[0].boxes
    ]


def test_the_parser_needs_only_numpy_and_its_siblings():
    code = (
        "import sys, types, pathlib, importlib.util\n"
        "spec = importlib.util.find_spec('llava_st_hf'); folder = pathlib.Path(spec.origin).parent / 'processing'\n"
        "package = types.ModuleType('remote'); package.__path__ = [str(folder)]; sys.modules['remote'] = package\n"
        "import remote.answer_parsing_llava_st\n"
        "assert not {'torch', 'transformers', 'av', 'PIL', 'supervision'} & set(sys.modules), 'too much imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
