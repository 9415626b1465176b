import json

import numpy as np
import pytest
from transformers import AutoTokenizer, Qwen2Tokenizer

from llava_st_hf.processing.media_llava_st import InputError, MediaError, MediaInfo, PromptError
from llava_st_hf.processing.notation_llava_st import (
    check_prompt_coordinates,
    compute_bins,
    compute_fraction,
    find_coordinates,
    format_coordinate,
)
from llava_st_hf.processing.tokenization_llava_st import (
    add_coordinate_tokens,
    add_media_tokens,
    get_coordinate_token_offset,
    list_coordinate_tokens,
)

CLIP = MediaInfo("video", 640, 360, frame_indices=tuple(range(0, 100, 9)), frame_seconds=tuple(np.arange(12) * 0.9))
IMAGE = MediaInfo("image", 100, 50)


def make_tokenizer(vocabulary: tuple[str, ...] = ()) -> Qwen2Tokenizer:
    letters = {chr(code): index for index, code in enumerate(range(33, 127))}
    tokenizer = Qwen2Tokenizer(vocab=letters, merges=[], eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_tokens(list(vocabulary))
    return tokenizer


# ------------------------------------------------------------------------------------------------ bins


def test_bins_equal_the_reference(parity_dir):
    for path in parity_dir.glob("*/unit/position_transfer.json"):
        for row in json.loads(path.read_text()):
            bins, offsets = compute_bins([row["position"]], row["num_tokens"])
            assert bins[0] == row["floor"], row
            assert offsets[0] == pytest.approx(row["ratio"], abs=1e-6), row
            assert offsets.dtype == np.float32


def test_offset_stays_below_one_after_rounding():
    bins, offsets = compute_bins([np.nextafter(1.0, 0)], 100)
    assert bins[0] == 98 and 0.999 < offsets[0] < 1


def test_bins_of_many():
    fractions = np.linspace(0, 1, 5001)
    bins, offsets = compute_bins(fractions, 100)
    np.testing.assert_allclose(bins + offsets, fractions * 99, atol=1e-5)
    assert bins[-1] == 99 and offsets[-1] == 0


# ------------------------------------------------------------------------------------------------ text


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
    (coordinate,) = find_coordinates(f"before {text} after")
    assert coordinate[:3] == expected
    assert (coordinate.start, coordinate.end) == (7, 7 + len(text))


@pytest.mark.parametrize("text", ["<x_axis>", "<table>", "<t>", "a<t=5 and", "<z=1>", "t=0.4", "<tx=1>"])
def test_leaves_other_text_alone(text):
    assert find_coordinates(text) == []


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


@pytest.mark.parametrize(
    ("axis", "value", "unit", "text"),
    [
        ("t", 3.5, "seconds", "<t=3.5s>"),
        ("x", np.float32(0.5), "fraction", "<x=0.5>"),
        ("y", 7, "pixels", "<y=7.0px>"),
    ],
)
def test_writes_what_it_reads(axis, value, unit, text):
    assert format_coordinate(axis, value, unit) == text
    assert find_coordinates(text)[0][:3] == (axis, value, unit)


@pytest.mark.parametrize("value", [1e-9, 1 / 3, 123456.789, 5e15])
def test_written_numbers_are_exact(value):
    assert find_coordinates(format_coordinate("t", value, "seconds"))[0].value == value


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
    (coordinate,) = find_coordinates(text)
    assert compute_fraction(coordinate, media, 100, preceding) == pytest.approx(fraction)


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
    (coordinate,) = find_coordinates(text)
    with pytest.raises(error, match=words):
        compute_fraction(coordinate, media, 100)


# ------------------------------------------------------------------------------------------- tokenizer


def test_adds_consecutive_plain_tokens(tmp_path):
    tokenizer = make_tokenizer()
    size = len(tokenizer)
    add_media_tokens(tokenizer)
    offset = add_coordinate_tokens(tokenizer, 7, 5)
    assert offset == size + 2 and len(tokenizer) == size + 2 + 17
    assert tokenizer.convert_ids_to_tokens([offset, offset + 7, offset + 12]) == ["<t_0>", "<y_0>", "<x_0>"]
    ids = tokenizer("a<t_3>b<x_4>").input_ids
    assert ids[1] == offset + 3 and ids[3] == offset + 16
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<t_3>b<x_4>"
    assert add_coordinate_tokens(tokenizer, 7, 5) == offset  # nothing is added twice
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("a<t_3>b<x_4>").input_ids == ids
    assert loaded.decode(ids, skip_special_tokens=True) == "a<t_3>b<x_4>"
    assert get_coordinate_token_offset(loaded, 7, 5) == offset


def test_refuses_scattered_coordinate_tokens():
    with pytest.raises(InputError, match="consecutive"):
        add_coordinate_tokens(make_tokenizer(("<x_2>", "something")), 4, 4)


def test_refuses_missing_coordinate_tokens():
    with pytest.raises(InputError, match="add_coordinate_tokens"):
        get_coordinate_token_offset(make_tokenizer(("<t_0>", "<t_1>")), 2, 2)


def test_list_is_in_the_order_of_ids():
    names = list_coordinate_tokens(3, 2)
    assert names == ["<t_0>", "<t_1>", "<t_2>", "<y_0>", "<y_1>", "<x_0>", "<x_1>"]
