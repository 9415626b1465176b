"""Which items are drawn, and how."""

import io

import numpy as np
import pytest
from PIL import Image
from run_lines import make_line, make_unusable

from llava_st_hf.evaluation.reports.gallery import Gallery, choose_items
from llava_st_hf.evaluation.reports.items import read_run
from llava_st_hf.visualization.marks import PALETTE


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        ([0.1, 0.9, 0.5, 0.4, 0.3, 0.8, 0.0], {"best": [1, 5], "median": [2, 3], "worst": [6, 0]}),
        ([0.2, 0.4], {"best": [1, 0], "median": [], "worst": []}),
        ([0.2, 0.4, 0.6], {"best": [2, 1], "median": [], "worst": [0]}),
    ],
)
def test_best_median_and_worst(write_run, values, chosen):
    items = read_run(write_run([make_line(number, value) for number, value in enumerate(values)])).by_task["tvg"]
    assert choose_items(items) == chosen


def test_unusable_items_are_not_drawn(write_run):
    items = read_run(write_run([make_unusable(0), make_line(1, 0.5)])).by_task["tvg"]
    assert choose_items(items)["best"] == [1]


def test_shapes_are_made_again(write_run, shapes_lines):
    lines, settings = shapes_lines
    gallery = Gallery(read_run(write_run(lines, **settings)))
    for line in (lines[0], lines[-1]):
        picture = gallery.draw("best", {"answer": line})
        pixels = np.asarray(Image.open(io.BytesIO(picture.content)).convert("RGB")).astype(int)
        for color in PALETTE[:2]:  # truth and answer
            assert (np.abs(pixels - color).sum(-1) < 60).sum() > 50
        assert picture.lines[0] == "when?"
        assert picture.lines[1].startswith("truth: ") and "box" in picture.lines[1]


def test_a_clip_that_is_gone_is_said(write_run):
    line = make_line(0, 0.5, failure="missing_span")
    picture = Gallery(read_run(write_run([line]))).draw("worst", {"answer": line})
    assert picture.content is None
    assert picture.lines[0].startswith("no picture: ") and "clip0.mp4" in picture.lines[0]
    assert picture.lines[1:] == ["when?", "truth: 2.00 to 4.00 s, {truth}", "answer: missing_span: {answer}"]


def test_nothing_is_fetched(write_run):
    line = make_line(0, 0.5)
    line["result"]["media"]["source"] = "https://example.com/clip.mp4"
    picture = Gallery(read_run(write_run([line]))).draw("worst", {"answer": line})
    assert picture.lines[0] == "no picture: the file of item 'tvg-0' is not known."
