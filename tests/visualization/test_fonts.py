"""Any script is written in a font that has it, or said to be missing."""

import numpy as np
import pytest
from drawn_clips import decode, is_color, write_clip
from PIL import Image, ImageDraw, ImageFont

from llava_st_hf.processing import GroundingResult, Span
from llava_st_hf.visualization import fonts, write_annotated_video, write_contact_sheet
from llava_st_hf.visualization.drawing import INK, Style, wrap
from llava_st_hf.visualization.fonts import (
    Typeface,
    describe_missing_fonts,
    find_font,
    join_words,
    replace_undrawable,
    split_runs,
)

TEXTS = {
    "CJK": "\u7ea2\u8272\u7684\u5706",
    "Arabic": "\u0643\u0631\u0629 \u062d\u0645\u0631\u0627\u0621",
    "Devanagari": "\u0932\u093e\u0932 \u0917\u0947\u0902\u0926",
    "Thai": "\u0e25\u0e39\u0e01\u0e1a\u0e2d\u0e25",
    "Hebrew": "\u05db\u05d3\u05d5\u05e8 \u05d0\u05d3\u05d5\u05dd",
    "Greek": "\u03ba\u03cc\u03ba\u03ba\u03b9\u03bd\u03b7",
}


@pytest.fixture
def no_fonts(monkeypatch):
    """A system without fonts."""
    _forget()
    monkeypatch.setattr(fonts, "_list_font_folders", lambda: iter(()))
    yield
    _forget()


def _forget():
    for cached in (fonts._list_fonts, fonts.find_font, fonts.split_runs):
        cached.cache_clear()


def draw(text, size=24):
    image = Image.new("L", (400, 60))
    Typeface(size).write(ImageDraw.Draw(image), (5, 30), text, 255)
    return np.asarray(image)


@pytest.mark.parametrize("script", TEXTS)
def test_a_script_is_drawn_where_a_font_has_it(script):
    text = TEXTS[script]
    if any(find_font(char) is None for char in text if not char.isspace()):
        pytest.skip(f"no font here draws {script}")
    assert replace_undrawable(text) == text
    drawn = draw(text)
    assert (drawn > 128).sum() > 100
    # Boxes for letters that a font does not have are all the same: the letters must not be.
    letters = {draw(char).tobytes() for char in set(text) if fonts._is_dependent(char) is False}
    assert len(letters) > 2
    tofu = np.zeros((60, 400))
    image = Image.new("L", (400, 60))
    ImageDraw.Draw(image).text((5, 42), text, fill=255, font=ImageFont.load_default(24), anchor="ls")
    tofu = np.asarray(image)
    assert script == "Greek" or not np.array_equal(drawn, tofu)
    assert describe_missing_fonts(text) is None


@pytest.mark.parametrize("script", ["CJK", "Arabic", "Thai"])
def test_what_no_font_draws_is_named_and_told(no_fonts, script, tmp_path):
    query = f"a {TEXTS[script]} ball"
    assert replace_undrawable(query).replace("] [", "][").startswith(f"a [{script}]")
    assert draw(replace_undrawable(query)).any()
    source = write_clip(tmp_path / "clip.mp4", stamps=[0, 512])
    (note,) = write_annotated_video(source, GroundingResult("", query=query), tmp_path / "out.mp4")
    assert note == f"no font here draws {script}: install one that does, such as the Noto fonts"
    write_contact_sheet(source, GroundingResult("", query=query), tmp_path / "out.png")
    assert write_annotated_video(source, GroundingResult("", query="a ball"), tmp_path / "out.mp4") == ()


def test_each_stretch_has_its_font_and_the_width_of_its_parts():
    text = "a ball \u0e25\u0e39\u0e01\u0e1a\u0e2d\u0e25 \u0932\u093e\u0932"
    assert "".join(run.text for run in split_runs(text)) == text
    typeface = Typeface(20)
    drawn = np.nonzero(draw(text, 20).any(axis=0))[0]
    assert drawn.max() - 5 == pytest.approx(typeface.getlength(text), abs=8)


@pytest.mark.parametrize("script", ["Arabic", "Hebrew"])
def test_times_keep_their_order_behind_words_that_are_written_from_right_to_left(script):
    text = join_words(TEXTS[script], "0.14\xa0-\xa00.74")
    (run,) = split_runs(text)
    if run.path is None or not fonts._writes_both_ways():
        pytest.skip(f"no font here draws {script}, or Pillow has no FriBiDi")
    drawn = draw(text).astype(int)

    def measure_distance(times):
        image = Image.new("L", (400, 60))
        ImageDraw.Draw(image).text((5, 40), times, 255, fonts._open_font(run.path, 24), anchor="ls")
        alone = np.asarray(image.crop(image.getbbox()))
        windows = np.lib.stride_tricks.sliding_window_view(drawn, alone.shape)
        return np.abs(windows - alone).mean(axis=(2, 3)).min()

    assert measure_distance("0.14 - 0.74") < 0.5 * measure_distance("0.74 - 0.14")


def test_lines_break_between_ideographs_and_not_before_marks():
    font = Typeface(20)
    text = "red " + TEXTS["CJK"] * 10
    lines = wrap(text, font, 200, 99)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(font.getlength(line) <= 200 for line in lines)
    assert font.getlength(lines[0]) > 150
    marked = "\u0932\u093e" * 40
    assert not any(line.startswith("\u093e") for line in wrap(marked, font, 150, 99))


@pytest.mark.parametrize(("width", "height"), [(64, 64), (240, 136), (1280, 720), (3840, 2160)])
def test_letters_are_at_least_14_pixels_and_grow_with_the_clip(width, height, tmp_path):
    source = write_clip(tmp_path / "clip.mp4", width, height, stamps=[0])
    query = "Hg"
    write_annotated_video(source, GroundingResult("", spans=(Span(0, 1, 0.5),), query=query), tmp_path / "out.mp4")
    _, (frame,), _ = decode(tmp_path / "out.mp4")
    size = max(14, round(min(width, height) / 30))
    assert Style.for_size(width, height).font_size == size
    ink = is_color(frame[: round(size * 1.3) + size // 3, : 4 * size], INK, 110)
    rows = np.nonzero(ink.any(axis=1))[0]
    expected = ImageFont.load_default(size).getbbox(query)
    assert rows.max() - rows.min() + 1 == pytest.approx(expected[3] - expected[1], abs=2)
