"""A sheet of frames of a clip, with the boxes on them and the spans below."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from drawn_clips import GRAY, find_picture, is_color, write_clip
from PIL import Image

from llava_st_hf.processing import Box, Caption, GroundingResult, MediaInfo, Span, Tube, TubeBox
from llava_st_hf.visualization import PALETTE, list_marks, write_contact_sheet
from llava_st_hf.visualization.contact_sheet import choose_frames
from llava_st_hf.visualization.fonts import Typeface
from llava_st_hf.visualization.marks import Schedule


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
    frames = choose_frames(Schedule(list_marks(result), [k / 25 for k in range(30)]), (0, 29), 8).frames
    seconds = [frame / 25 for frame in frames]
    assert {0, 5, 20, 29} <= set(frames) and len(frames) == 8
    for number, time in enumerate(seconds):
        top, left = tops[number // 4], lefts[number % 4]
        picture = image[top + 30 : top + 220, left + 5 : left + 315]
        has_box = is_color(picture, PALETTE[0], 20).any()
        rim = is_color(image[top + 100, left - 5 : left], PALETTE[0], 5).any()
        assert has_box == rim == (0.2 <= time <= 0.8), time
    assert is_color(image[-90:], PALETTE[0], 5).sum() > 500  # the time line
    assert is_paper.mean() > 0.05


def test_the_contact_sheet_scales_boxes_to_its_pictures(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", width=1280, height=640, stamps=[0, 512])
    result = GroundingResult("", boxes=(Box(320, 160, 960, 480),))
    write_contact_sheet(source, result, tmp_path / "sheet.png", columns=2, rows=1)
    image = np.asarray(Image.open(tmp_path / "sheet.png"))
    image = image[find_picture(image[:300, :376], np.full((160, 320, 3), GRAY))]
    rows, columns = np.nonzero(is_color(image, PALETTE[0], 10))
    assert (columns.min(), columns.max()) == (pytest.approx(80, abs=2), pytest.approx(240, abs=2))
    assert (rows.min(), rows.max()) == (pytest.approx(40, abs=2), pytest.approx(120, abs=2))


def test_the_contact_sheet_shows_the_part_that_the_model_saw(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", stamps=range(0, 100 * 512, 512))
    media = MediaInfo("video", 320, 240, (50, 60), (2.0, 2.4))
    write_contact_sheet(source, GroundingResult("", media=media), tmp_path / "part.png", columns=20, rows=2)
    write_contact_sheet(source, GroundingResult(""), tmp_path / "whole.png", columns=20, rows=2)
    part, whole = Image.open(tmp_path / "part.png"), Image.open(tmp_path / "whole.png")
    assert part.width < whole.width  # 11 frames from 2.0 to 2.4 s, each once


def _make_event(random):
    """Return the frames of a clip, and spans and a tube in it that may lie between any two of those of a sheet."""
    seconds = np.cumsum(random.uniform(0.01, 0.1, size=int(random.integers(30, 3000)))).tolist()
    start = float(random.uniform(seconds[0], seconds[-1]))
    end = min(start + float(random.exponential(1.0)) * float(random.choice([0.001, 0.1, 1, 10])), seconds[-1])
    times = np.linspace(start, end, int(random.integers(1, 40)))
    tube = Tube(tuple(TubeBox(float(time), 0, Box(0, 0, 9, 9)) for time in times))
    return seconds, GroundingResult("", spans=(Span(start, end),), tubes=(tube,), query="an event")


def test_every_event_is_on_its_sheet():
    random = np.random.default_rng(0)
    for _ in range(200):
        seconds, result = _make_event(random)
        (span,), (tube,) = result.spans, result.tubes
        schedule = Schedule(list_marks(result), seconds)
        choice = choose_frames(schedule, (0, len(seconds) - 1), 20)
        assert choice.frames == sorted(set(choice.frames)) and len(choice.frames) == 20
        inside = [
            k
            for k, time in enumerate(seconds)
            if time - span.start_seconds >= -0.001 and time - span.end_seconds <= 0.001
        ]
        nearest = int(np.abs(np.array(seconds) - (span.start_seconds + span.end_seconds) / 2).argmin())
        for frame in (inside[0], inside[-1]) if inside else (nearest,):
            assert frame in choice.frames
            assert schedule.find_active(frame) and list(schedule.find_boxes(frame))
        assert choice.num_left_out == 0
        boxed = {int(np.abs(np.array(seconds) - entry.seconds).argmin()) for entry in tube.boxes} & {*inside, nearest}
        if len(boxed) <= 12:
            assert boxed <= set(choice.frames)
        shown = choice.num_boxed - choice.num_boxed_left_out
        assert shown >= min(choice.num_boxed, 12)


def test_a_sheet_grows_for_the_ends_of_spans_and_says_what_it_leaves_out(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", stamps=range(0, 100 * 512, 512), width=64, height=48)
    spans = tuple(Span(k / 2, k / 2 + 0.2) for k in range(6))
    captions = tuple(Caption(f"event {number}", span) for number, span in enumerate(spans))
    boxes = tuple(TubeBox(k / 25, k, Box(0, 0, 9, 9)) for k in range(100))
    events = Schedule(list_marks(GroundingResult("", spans=spans, captions=captions)), np.arange(100) / 25)
    choice = choose_frames(events, (0, 99), 4)
    assert len(choice.frames) == 12 and choice.num_left_out == 0
    result = GroundingResult("", tubes=(Tube(boxes),), query="a dog")
    choice = choose_frames(Schedule(list_marks(result), np.arange(100) / 25), (0, 99), 20)
    assert (len(choice.frames), choice.num_boxed_left_out, choice.num_boxed) == (20, 80, 100)
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Typeface, "write", lambda self, draw, place, text, *more: written.append(text))
        write_contact_sheet(source, result, tmp_path / "sheet.png")
    assert "20 of 100 frames; 80 of 100 frames with boxes are left out" in written


@pytest.mark.parametrize(
    ("width", "height", "picture_size"), [(120, 1200, (32, 320)), (1600, 120, (800, 60)), (64, 64, (320, 320))]
)
def test_of_twelve_answers_about_a_clip_of_any_shape_no_text_runs_into_another(
    width, height, picture_size, tmp_path, monkeypatch
):
    source = write_clip(tmp_path / "clip.mp4", width=width, height=height, stamps=range(0, 20 * 512, 512))
    boxes = (TubeBox(0.0, 0, Box(1, 1, 40, 40)), TubeBox(0.7, 18, Box(1, 1, 40, 40)))
    results = [GroundingResult("", (Span(k / 25, 0.7, 0.5),), (), (Tube(boxes),), query=f"dog {k}") for k in range(12)]
    written, write = [], Typeface.write

    def note(self, draw, place, text, fill, align="l"):
        left = place[0] - self.getlength(text) * {"l": 0, "m": 0.5, "r": 1}[align]
        if text and draw.im.size != picture_size:  # on which the numbers of boxes are
            written.append((draw.im.size, left, left + self.getlength(text), place[1], self.size, text))
        write(self, draw, place, text, fill, align)

    monkeypatch.setattr(Typeface, "write", note)
    write_contact_sheet(source, results, tmp_path / "sheet.png")
    assert {"12", "dog 11, 0.44 - 0.70 s, 50% sure"} <= {text.replace("\xa0", " ") for *_, text in written}
    for one, other in combinations(written, 2):
        assert one[0] != other[0] or one[2] <= other[1] or other[2] <= one[1] or abs(one[3] - other[3]) >= one[4], (
            one,
            other,
        )
        assert one[1] >= 0 and one[2] <= one[0][0]


def test_pictures_of_a_very_wide_clip_are_fewer_side_by_side_and_larger(tmp_path):
    result = GroundingResult("", boxes=(Box(160, 30, 480, 90),))
    source = write_clip(tmp_path / "clip.mp4", width=1600, height=120, stamps=range(0, 4 * 512, 512))
    write_contact_sheet(source, result, tmp_path / "sheet.png")
    image = np.asarray(Image.open(tmp_path / "sheet.png"))
    pictures = image[find_picture(image[:150, :856], np.full((60, 800, 3), GRAY))]
    columns = np.nonzero(is_color(pictures[15], PALETTE[0], 10))[0]
    assert (columns.min(), columns.max()) == (pytest.approx(80, abs=3), pytest.approx(240, abs=3))
