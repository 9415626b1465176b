"""Boxes and labels at any size, and any text that is written on a picture."""

import numpy as np
import pytest
from drawn_clips import GRAY, decode, is_color, write_clip
from PIL import Image

from llava_st_hf.processing import Box, Caption, GroundingResult, MediaInfo, Span
from llava_st_hf.visualization import PALETTE, draw_on_image, write_annotated_video, write_contact_sheet
from llava_st_hf.visualization.fonts import Typeface


@pytest.mark.parametrize(
    "query",
    [
        None,
        "",
        "\u4ec0\u4e48\u65f6\u5019\uff1f" * 40,
        "\u0627\u0644\u0637\u0641\u0644",
        "a\nb\t\0\ud800",
        "x" * 5000,
        "\U0001f600 " * 99,
    ],
    ids=["none", "empty", "chinese", "arabic", "control", "one long word", "emoji"],
)
@pytest.mark.parametrize("size", [(320, 180), (34, 18), (16, 600)], ids=["small", "tiny", "narrow"])
def test_any_query_can_be_drawn_at_any_size(query, size, tmp_path):
    source = write_clip(tmp_path / "clip.mp4", *size, stamps=[0, 512])
    result = GroundingResult("", spans=(Span(0.0, 99.0),), boxes=(Box(-5, -5, 900, 900),), query=query)
    write_annotated_video(source, result, tmp_path / "out.mp4")
    write_contact_sheet(source, result, tmp_path / "out.png")
    draw_on_image(Image.new("RGB", size), result)
    assert len(decode(tmp_path / "out.mp4")[1]) == 2


def test_lines_and_letters_grow_with_the_picture():
    def line_width(width, height):
        box = Box(0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height)
        image = draw_on_image(Image.new("RGB", (width, height)), GroundingResult("", boxes=(box,), query="a"))
        return is_color(np.asarray(image)[height // 2], PALETTE[0], 5).sum() / 2

    assert line_width(320, 180) == 2
    assert line_width(3840, 2160) == 12


def test_boxes_on_an_image_are_scaled_and_labelled():
    media = MediaInfo("image", 200, 100)
    boxes = (Box(20, 40, 80, 80, confidence=0.5), Box(120, 40, 180, 80))
    captions = (Caption("a dog", boxes=boxes[:1]),)
    result = GroundingResult("", boxes=boxes, captions=captions, query="animals", media=media)
    image = Image.new("L", (400, 200), GRAY)
    drawn = np.asarray(draw_on_image(image, result))
    assert drawn.shape == (200, 400, 3)
    assert np.asarray(image).min() == np.asarray(image).max() == GRAY  # the original is left alone
    for color, left in zip(PALETTE, (40, 240), strict=False):
        rows, columns = np.nonzero(is_color(drawn, color, 5))
        assert columns.min() == pytest.approx(left, abs=2)
        assert rows.max() == pytest.approx(160, abs=2)
        assert rows.min() < 80 - 8  # the label above the box


@pytest.mark.parametrize(
    ("size", "drawn_size"), [((64, 48), (192, 144)), ((100, 3000), (100, 3000)), ((16, 16), (240, 240))]
)
def test_an_image_that_is_too_small_for_labels_is_enlarged(size, drawn_size):
    box = Box(size[0] / 4, size[1] / 4, size[0] / 2, size[1] / 2)
    for media in (None, MediaInfo("image", *size)):
        drawn = draw_on_image(Image.new("RGB", size), GroundingResult("", boxes=(box,), media=media))
        assert drawn.size == drawn_size
        columns = np.nonzero(is_color(np.asarray(drawn)[drawn.height * 3 // 8], PALETTE[0], 10))[0]
        assert columns.min() == pytest.approx(drawn.width / 4, abs=2)
        assert columns.max() == pytest.approx(drawn.width / 2, abs=2)


def test_images_are_turned_as_their_exif_data_says(tmp_path):
    image = Image.new("RGB", (60, 40), (GRAY,) * 3)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    assert draw_on_image(Image.open(tmp_path / "turned.png"), GroundingResult("")).size == (40, 60)


def test_a_label_that_is_cut_keeps_its_confidence_and_covers_no_other(monkeypatch, caplog):
    written = []

    def note(self, draw, place, text, *more):
        written.append((place[1], text, self.getlength(text)))

    monkeypatch.setattr(Typeface, "write", note)
    monkeypatch.setattr("llava_st_hf.visualization.drawing.describe_missing_fonts", lambda *texts: "no font")
    boxes = (Box(20, 100, 120, 200, confidence=0.5), Box(20, 100, 120, 200, confidence=0.25))
    result = GroundingResult("", boxes=boxes, query="a very long label " * 9)
    draw_on_image(Image.new("RGB", (400, 300)), result)
    (first, text, width), (second, other, _) = written
    assert text.endswith("... 50%") and other.endswith("... 25%") and width <= 200
    assert abs(first - second) > 14
    assert caplog.messages == ["no font"]
