"""What a notebook shows of an answer: picture, time line and table; nothing comes from outside or is markup."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from llava_st_hf.processing.answer_problems_llava_st import Problem
from llava_st_hf.processing.grounding_results_llava_st import Box, Caption, GroundingResult, Span, Tube, TubeBox
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo
from llava_st_hf.visualization import PALETTE, draw_result, render_html, render_page

NASTY = "<script>alert(\"x\")</script> & 'y'"


class Page(HTMLParser):
    """Counts the elements, keeps the text, and checks that each element is closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("br", "img", "meta"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read_picture(html):
    data = re.search(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return None if data is None else np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))), dtype=int)


def has_color(image, color):
    return (np.abs(image - np.array(color)) < 40).all(axis=-1).sum() > 50


@pytest.fixture
def result(clip):
    media = MediaInfo("video", 320, 240, tuple(range(40)), tuple(k / 10 for k in range(40)), source=str(clip))
    boxes = tuple(TubeBox(k / 10, k, Box(10 + k, 90, 80 + k, 150)) for k in range(10, 30))
    spans, problems = (Span(1.0, 2.9, 0.75),), (Problem("stray_coordinate", NASTY, "", 0, 0),)
    return GroundingResult(NASTY, spans, (), (Tube(boxes),), (), problems, "stvg", NASTY, media)


def test_a_clip_is_a_sheet_a_time_line_and_a_table(result):
    html = result._repr_html_()
    assert html == render_html(result)
    picture = read_picture(html)
    assert has_color(picture, PALETTE[0]) and has_color(picture, PALETTE[0])
    page = Page(html)
    assert page.tags.count("img") == 1
    assert page.tags.count("tr") == 3
    words = " ".join(page.words).replace("\xa0", " ")
    for part in ("1.00 s to 2.90 s", "20 boxes, the first (20, 90) to (90, 150) pixels", "0.75", "320x240 pixels"):
        assert part in words


def test_the_time_line_is_to_scale(result):
    bars = re.findall(r"margin-left: ([\d.]+)%; width: ([\d.]+)%", render_html(result))
    start, width = (100 * 1.0 / 3.9, 100 * 1.9 / 3.9)
    assert [tuple(map(float, bar)) for bar in bars] == [
        (pytest.approx(start, abs=0.1), pytest.approx(width, abs=0.1))
    ] * 2


def test_nothing_is_markup_that_was_text_and_nothing_is_fetched(result):
    for html in (render_html(result), render_page(result)):
        page = Page(html)
        assert "script" not in page.tags
        assert sum(NASTY in data for data in page.words) >= 3
        assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|https?:", html)


def test_without_the_file_the_rest_is_shown(result, tmp_path):
    gone = replace(result, media=replace(result.media, source=str(tmp_path / "gone.mp4")))
    page = Page(gone._repr_html_())
    assert "img" not in page.tags and page.tags.count("tr") == 3
    assert any("no picture" in data and "gone.mp4" in data for data in page.words)
    (tmp_path / "gone.mp4").write_text("no clip")
    assert read_picture(gone._repr_html_()) is None
    assert read_picture(render_html(gone, result.media.source)) is not None
    assert read_picture(render_html(replace(result, media=None))) is None


def test_an_image_is_shown_with_its_boxes(tmp_path):
    Image.new("RGB", (2000, 1000), (90, 90, 90)).save(tmp_path / "image.png")
    media = MediaInfo("image", 2000, 1000, source=str(tmp_path / "image.png"))
    boxes = (Box(200, 200, 800, 800, 0.5), Box(1000, 200, 1800, 800))
    result = GroundingResult("", boxes=boxes, captions=(Caption("a dog", boxes=boxes[:1]),), query="pets", media=media)
    html = result._repr_html_()
    picture = read_picture(html)
    assert picture.shape == (480, 960, 3)
    assert has_color(picture[:, :480], PALETTE[0]) and has_color(picture[:, 480:], PALETTE[1])
    assert "time line" not in html  # an image has no time
    assert {"a dog", "pets"} <= {data.strip() for data in Page(html).words}
    assert draw_result(result).size == (2000, 1000)


def test_many_rows_are_cut(result):
    spans = tuple(Span(k / 50, k / 50 + 0.1) for k in range(150))
    words = Page(render_html(replace(result, spans=spans, media=None))).words
    assert "and 131 more" in words


@pytest.mark.parametrize("media", [None, MediaInfo("image", 10, 10)])
def test_what_the_answer_is_about_must_be_known_to_draw_it(media):
    with pytest.raises(InputError, match=r"media is not set|source is not known"):
        draw_result(GroundingResult("", media=media))
