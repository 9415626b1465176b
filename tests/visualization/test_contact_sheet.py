"""A sheet of frames of a clip, with the boxes on them and the spans below."""

from itertools import pairwise

import numpy as np
import pytest
from drawn_clips import GRAY, is_color, write_clip
from PIL import Image

from llava_st_hf.processing import Box, GroundingResult, MediaInfo
from llava_st_hf.visualization import BOX_COLORS, SPAN_COLOR, write_contact_sheet


def test_the_contact_sheet_frames_what_is_inside_the_span(clip_path, result, tmp_path):
    write_contact_sheet(clip_path, result, tmp_path / "sheet.png", columns=4, rows=2)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.format == "PNG"
    image = np.asarray(sheet)
    is_paper = is_color(image, (20, 22, 27), 3)
    # The rows and columns of the pictures: 320 x 240 each, grey inside.
    gray = is_color(image, (GRAY,) * 3, 12)
    rows = np.nonzero(gray.sum(axis=1) > 4 * 150)[0]
    tops = [rows[0], *(b for a, b in pairwise(rows) if b > a + 20)]
    columns = np.nonzero(gray.sum(axis=0) > 2 * 100)[0]
    lefts = [columns[0], *(b for a, b in pairwise(columns) if b > a + 8)]
    assert (len(tops), len(lefts)) == (2, 4)
    seconds = [round(k / 7 * 29) / 25 for k in range(8)]
    for number, time in enumerate(seconds):
        top, left = tops[number // 4], lefts[number % 4]
        picture = image[top + 30 : top + 220, left + 5 : left + 315]
        has_box = is_color(picture, BOX_COLORS[0], 20).any()
        rim = is_color(image[top + 100, left - 5 : left], SPAN_COLOR, 5).any()
        assert has_box == rim == (0.2 - 0.021 <= time <= 0.8 + 0.021), time
    assert is_color(image[-60:], SPAN_COLOR, 5).sum() > 500  # the time line
    assert is_paper.mean() > 0.05


def test_the_contact_sheet_scales_boxes_to_its_pictures(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", width=1280, height=640, stamps=[0, 512])
    result = GroundingResult("", boxes=(Box(320, 160, 960, 480),))
    write_contact_sheet(source, result, tmp_path / "sheet.png", columns=2, rows=1)
    image = np.asarray(Image.open(tmp_path / "sheet.png"))
    rows, columns = np.nonzero(is_color(image[:, : image.shape[1] // 2], BOX_COLORS[0], 10))
    assert (columns.min(), columns.max()) == (pytest.approx(28 + 80, abs=2), pytest.approx(28 + 240, abs=2))
    assert rows.max() == pytest.approx(28 + 120, abs=2)


def test_the_contact_sheet_shows_the_part_that_the_model_saw(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", stamps=range(0, 100 * 512, 512))
    media = MediaInfo("video", 320, 240, (50, 60), (2.0, 2.4))
    write_contact_sheet(source, GroundingResult("", media=media), tmp_path / "part.png", columns=20, rows=2)
    write_contact_sheet(source, GroundingResult(""), tmp_path / "whole.png", columns=20, rows=2)
    part, whole = Image.open(tmp_path / "part.png"), Image.open(tmp_path / "whole.png")
    assert part.width < whole.width  # 11 frames from 2.0 to 2.4 s, each once
