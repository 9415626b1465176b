import json
import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.grounding_results_llava_st import Box, Caption, GroundingResult, Span, Tube, TubeBox
from llava_st_hf.processing.media_llava_st import InputError, MediaError, MediaInfo
from llava_st_hf.processing.video_decoding_llava_st import read_video
from llava_st_hf.visualization import (
    BOX_COLORS,
    SPAN_COLOR,
    check_output,
    draw_on_image,
    write_annotated_video,
    write_contact_sheet,
)

GRAY = 90
UNIT = Fraction(1, 12800)


def write_clip(path, width=320, height=240, stamps=range(0, 30 * 512, 512), rotation=None, codec="libx264"):
    """Write grey frames with the given stamps in units of 1/12800 s (512 are a frame at 25 a second)."""
    with av.open(str(path), "w", options={"video_track_timescale": "12800", "movie_timescale": "12800"}) as container:
        stream = container.add_stream(codec, rate=25, options={"bf": "2"} if codec == "libx264" else {})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if codec == "libx264" else "yuvj420p"
        stream.codec_context.time_base = stream.time_base = UNIT
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), GRAY, np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, UNIT
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode(path):
    """Return seconds and RGB of every frame, and the codec context."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        seconds = [float(frame.pts * frame.time_base) for frame in frames]
        return seconds, [frame.to_ndarray(format="rgb24").astype(int) for frame in frames], stream.codec_context


def is_color(image, color, tolerance=60):
    """Where an image of shape (height, width, 3) has a colour, as far as 4:2:0 keeps it."""
    return (np.abs(np.asarray(image, dtype=int) - np.array(color)) < tolerance).all(axis=-1)


def moving_tube():
    """From 0.2 to 0.8 s, 100 pixels to the right; 80 x 60 pixels."""
    boxes = (TubeBox(0.2, 5, Box(40, 90, 120, 150)), TubeBox(0.8, 20, Box(140, 90, 220, 150)))
    return Tube(boxes)


@pytest.fixture
def clip_path(tmp_path):
    return write_clip(tmp_path / "clip.mp4")


@pytest.fixture
def result():
    media = MediaInfo("video", 320, 240, tuple(range(30)), tuple(k / 25 for k in range(30)))
    return GroundingResult(
        "", spans=(Span(0.2, 0.8),), tubes=(moving_tube(),), query="What does the child hold?", media=media
    )


def test_the_box_is_drawn_where_and_when_the_tube_says(clip_path, result, tmp_path):
    write_annotated_video(clip_path, result, tmp_path / "out.mp4")
    seconds, frames, _ = decode(tmp_path / "out.mp4")
    assert len(frames) == 30
    for time, image in zip(seconds, frames, strict=True):
        line = is_color(image[60:200], BOX_COLORS[0])
        if not 0.2 - 0.021 <= time <= 0.8 + 0.021:
            assert not line.any(), time
            continue
        shift = 100 * (min(max(time, 0.2), 0.8) - 0.2) / 0.6
        rows, columns = np.nonzero(line)
        assert rows.min() + 60 == pytest.approx(90, abs=2)
        assert rows.max() + 60 == pytest.approx(150, abs=2)
        assert columns.min() == pytest.approx(40 + shift, abs=3)
        assert columns.max() == pytest.approx(120 + shift, abs=3)
        inside = image[100:140, round(60 + shift) : round(100 + shift)]
        assert np.abs(inside - GRAY).max() < 12


def test_the_time_line_shows_the_span_and_the_position(clip_path, result, tmp_path):
    write_annotated_video(clip_path, result, tmp_path / "out.mp4")
    seconds, frames, _ = decode(tmp_path / "out.mp4")
    rail = frames[0][-9]  # the row of the rail
    columns = np.nonzero(is_color(rail, SPAN_COLOR))[0]
    left, right = 8, 320 - 9
    duration = 30 / 25
    assert columns.min() == pytest.approx(left + 0.2 / duration * (right - left), abs=4)
    assert columns.max() == pytest.approx(left + 0.8 / duration * (right - left), abs=4)
    for time, image in zip(seconds, frames, strict=True):
        dot = np.nonzero(is_color(image[-9], (255, 255, 255)))[0]
        assert dot.mean() == pytest.approx(left + time / duration * (right - left), abs=4)
    assert is_color(frames[0][:20], (255, 255, 255)).sum() > 100  # the query
    assert is_color(frames[0][-34:-14], (255, 255, 255)).sum() > 30  # the seconds


def test_the_output_plays_in_a_browser(clip_path, result, tmp_path):
    output = tmp_path / "out.mp4"
    write_annotated_video(clip_path, result, output)
    _, _, context = decode(output)
    assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 320, 240)
    content = output.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    assert os.stat(output).st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    "stamps",
    [range(0, 5120, 512), [0, 100, 1000, 1700, 9000, 9001, 9500], [643, 1152, 3000, 3700]],
    ids=["constant rate", "variable rate", "late start"],
)
def test_time_stamps_are_those_of_the_source(stamps, tmp_path):
    source = write_clip(tmp_path / "clip.mp4", stamps=stamps)
    write_annotated_video(source, GroundingResult(""), tmp_path / "out.mp4")
    seconds, _, _ = decode(tmp_path / "out.mp4")
    assert seconds == pytest.approx([stamp / 12800 for stamp in stamps], abs=1e-6)


def test_odd_sizes_become_even_without_moving_anything(result, tmp_path):
    source = write_clip(tmp_path / "clip.mp4", width=321, height=241)
    write_annotated_video(source, result, tmp_path / "out.mp4")
    _, frames, context = decode(tmp_path / "out.mp4")
    assert (context.width, context.height) == (322, 242)
    rows, columns = np.nonzero(is_color(frames[5][60:200], BOX_COLORS[0]))
    assert (columns.min(), rows.min() + 60) == (pytest.approx(40, abs=3), pytest.approx(90, abs=2))


def test_rotated_clips_are_turned_upright(tmp_path):
    plain, rotated = write_clip(tmp_path / "plain.mp4"), tmp_path / "rotated.mp4"
    content = plain.read_bytes()
    # The matrix of the track header: identity to a quarter turn.
    one, w = (1 << 16).to_bytes(4, "big"), (1 << 30).to_bytes(4, "big")
    zero, minus = bytes(4), (-(1 << 16) & 0xFFFFFFFF).to_bytes(4, "big")
    identity = one + zero + zero + zero + one + zero + zero + zero + w
    turned = zero + one + zero + minus + zero + zero + (240 << 16).to_bytes(4, "big") + zero + w
    place = content.index(identity, content.index(b"tkhd"))
    rotated.write_bytes(content[:place] + turned + content[place + len(identity) :])
    video = read_video(rotated, num_frames=1)
    assert (video.width, video.height) == (240, 320)
    box = Box(20, 100, 200, 220)
    write_annotated_video(rotated, GroundingResult("", boxes=(box,)), tmp_path / "out.mp4")
    _, frames, context = decode(tmp_path / "out.mp4")
    assert (context.width, context.height) == (240, 320)
    rows, columns = np.nonzero(is_color(frames[0], BOX_COLORS[0]))
    assert (rows.max(), columns.max()) == (pytest.approx(220, abs=2), pytest.approx(200, abs=2))


def test_boxes_without_a_time_are_shown_within_the_spans(clip_path, tmp_path):
    result = GroundingResult("", spans=(Span(0.4, 0.6),), boxes=(Box(100, 90, 200, 150),))
    write_annotated_video(clip_path, result, tmp_path / "out.mp4")
    seconds, frames, _ = decode(tmp_path / "out.mp4")
    has_box = [is_color(image[140:160], BOX_COLORS[0]).any() for image in frames]
    shown = [time for time, is_shown in zip(seconds, has_box, strict=True) if is_shown]
    assert (min(shown), max(shown)) == (pytest.approx(0.4, abs=0.06), pytest.approx(0.6, abs=0.06))


def test_each_tube_keeps_its_colour(clip_path, tmp_path):
    tubes = (
        Tube((TubeBox(0.0, 0, Box(20, 90, 80, 150)), TubeBox(0.4, 10, Box(20, 90, 80, 150)))),
        Tube((TubeBox(0.0, 0, Box(180, 90, 240, 150)), TubeBox(1.0, 25, Box(180, 90, 240, 150)))),
    )
    write_annotated_video(clip_path, GroundingResult("", tubes=tubes), tmp_path / "out.mp4")
    _, frames, _ = decode(tmp_path / "out.mp4")
    for index, shown in ((5, (True, True)), (20, (False, True))):
        for tube_index, is_shown in enumerate(shown):
            assert is_color(frames[index][140:160], BOX_COLORS[tube_index]).any() == is_shown


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
        return is_color(np.asarray(image)[height // 2], BOX_COLORS[0], 5).sum() / 2

    assert line_width(320, 180) == 2
    assert line_width(3840, 2160) == 12


def test_progress_is_told(clip_path, result, tmp_path):
    calls = []
    write_annotated_video(clip_path, result, tmp_path / "out.mp4", progress=lambda *call: calls.append(call))
    assert calls == [(k, 30) for k in range(1, 31)]


# Name, how to make the source.
def _not_a_video(path):
    path.write_text("no video at all" * 100)


def _cut_off(path):
    content = write_clip(path).read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 40])


@pytest.mark.parametrize("write", [write_annotated_video, write_contact_sheet])
@pytest.mark.parametrize(
    "make",
    [lambda path: None, lambda path: path.touch(), lambda path: path.mkdir(), _not_a_video, _cut_off],
    ids=["missing", "empty", "a folder", "not a video", "cut off"],
)
def test_a_bad_source_is_one_line_and_leaves_nothing(make, write, tmp_path):
    source = tmp_path / "source.mp4"
    make(source)
    output = tmp_path / "out.mp4"
    output.write_text("what was there before")
    with pytest.raises(MediaError) as error:
        write(source, GroundingResult(""), output)
    assert "\n" not in str(error.value) and "source.mp4" in str(error.value)
    assert output.read_text() == "what was there before"
    assert {path.name for path in tmp_path.iterdir()} <= {"source.mp4", "out.mp4"}


def test_a_failure_midway_leaves_nothing(clip_path, result, tmp_path):
    def stop(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_annotated_video(clip_path, result, tmp_path / "out.mp4", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_bad_output_says_so(clip_path, result, tmp_path):
    with pytest.raises(MediaError, match="folder does not exist"):
        write_annotated_video(clip_path, result, tmp_path / "nowhere" / "out.mp4")
    with pytest.raises(MediaError, match="is a directory"):
        write_contact_sheet(clip_path, result, tmp_path)
    with pytest.raises(MediaError, match="is the clip itself"):
        write_annotated_video(clip_path, result, clip_path)
    with pytest.raises(InputError, match="columns"):
        write_contact_sheet(clip_path, result, tmp_path / "out.png", columns=0)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


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


def test_boxes_on_an_image_are_scaled_and_labelled():
    media = MediaInfo("image", 200, 100)
    boxes = (Box(20, 40, 80, 80, confidence=0.5), Box(120, 40, 180, 80))
    captions = (Caption("a dog", boxes=boxes[:1]),)
    result = GroundingResult("", boxes=boxes, captions=captions, query="animals", media=media)
    image = Image.new("L", (400, 200), GRAY)
    drawn = np.asarray(draw_on_image(image, result))
    assert drawn.shape == (200, 400, 3)
    assert np.asarray(image).min() == np.asarray(image).max() == GRAY  # the original is left alone
    for color, left in zip(BOX_COLORS, (40, 240), strict=False):
        rows, columns = np.nonzero(is_color(drawn, color, 5))
        assert columns.min() == pytest.approx(left, abs=2)
        assert rows.max() == pytest.approx(160, abs=2)
        assert rows.min() < 80 - 8  # the label above the box


def test_images_are_turned_as_their_exif_data_says(tmp_path):
    image = Image.new("RGB", (60, 40), (GRAY,) * 3)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    assert draw_on_image(Image.open(tmp_path / "turned.png"), GroundingResult("")).size == (40, 60)


@pytest.mark.parametrize("name", ["cat.ts", "b.avi"])
def test_what_is_drawn_has_the_clock_of_the_reader(hard_media_dir, name, tmp_path):
    """Time stamps that start again, or that the container does not give: 60 frames at 10 a second all the same."""
    source = hard_media_dir / name
    assert read_video(source).frame_seconds == pytest.approx([index / 10 for index in range(60)])
    spans, boxes = (Span(3.0, 6.0),), (Box(16, 26, 48, 36),)
    write_annotated_video(source, GroundingResult("", spans=spans, boxes=boxes), tmp_path / "box.mp4")
    write_annotated_video(source, GroundingResult("", spans=spans), tmp_path / "plain.mp4")
    (seconds, drawn, _), (_, plain, _) = decode(tmp_path / "box.mp4"), decode(tmp_path / "plain.mp4")
    assert seconds == pytest.approx([index / 10 for index in range(60)], abs=1e-4)
    has_box = [np.abs(after - before)[26:36, 14:18].mean() > 20 for after, before in zip(drawn, plain, strict=True)]
    assert has_box == [False] * 30 + [True] * 30


def test_an_answer_goes_from_text_to_pixels(clip_path, tmp_path):
    video = read_video(clip_path, num_frames=30)
    media = MediaInfo("video", video.width, video.height, video.frame_indices, video.frame_seconds)
    box = "[<x=0.25><y=0.375><x=0.5><y=0.625>]"
    result = parse_answer(f"{{<t=0.5><t=1>}} <t=0.5>:{box}, <t=1>:{box}", media, answer_format="span_and_tube")
    write_annotated_video(clip_path, result, tmp_path / "out.mp4")
    _, frames, _ = decode(tmp_path / "out.mp4")
    _, columns = np.nonzero(is_color(frames[20][60:200], BOX_COLORS[0]))
    assert (columns.min(), columns.max()) == (pytest.approx(80, abs=3), pytest.approx(160, abs=3))
    assert not is_color(frames[5][60:200], BOX_COLORS[0]).any()


@pytest.mark.parametrize("row_number", [3, 10])
def test_real_clips_are_annotated(real_media_dir, row_number, tmp_path):
    row = json.loads((real_media_dir / "annotations.jsonl").read_text().splitlines()[row_number])
    video = read_video(real_media_dir / row["file"], num_frames=100, size=(16, 16))
    media = MediaInfo("video", video.width, video.height, video.frame_indices, video.frame_seconds)
    entries = ((float(second), Box(*box)) for second, box in row["boxes_by_second"].items())
    tube = Tube(tuple(TubeBox(second, round(second * video.fps), box) for second, box in entries))
    result = GroundingResult("", spans=(Span(*row["span_seconds"]),), tubes=(tube,), query=row["query"], media=media)
    source, output = real_media_dir / row["file"], tmp_path / "out.mp4"
    write_annotated_video(source, result, output)
    write_contact_sheet(source, result, tmp_path / "sheet.png")
    annotated, original = read_video(output, num_frames=30), read_video(source, num_frames=30)
    assert annotated.total_num_frames == original.total_num_frames
    assert annotated.frame_seconds == pytest.approx(original.frame_seconds, abs=1e-4)
    for time, after, before in zip(original.frame_seconds, annotated.frames, original.frames, strict=True):
        box = tube.box_at(time)
        changed = (after.int() - before.int()).abs().sum(0).numpy() > 150
        middle = slice(60, video.height - 60)
        if box is None:
            assert time < tube.start_seconds or time > tube.end_seconds
            continue
        for edge in (box.x1, box.x2):
            column = min(max(round(edge), 2), video.width - 3)
            rows = slice(max(round(box.y1), middle.start) + 4, min(round(box.y2), middle.stop) - 4)
            if rows.stop - rows.start > 20:
                assert changed[rows, column - 2 : column + 3].any(axis=1).mean() > 0.5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("drawn.gif", "ends in .png or .jpg"),
        ("folder.png", "that is a folder"),
        ("nowhere/drawn.png", "does not exist"),
        ("clip.png", "that is what is drawn on"),
    ],
)
def test_an_output_that_could_not_be_written_is_found_before(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    Path("clip.png").touch()
    with pytest.raises(InputError, match=f"^sheet is {name}: .*{words}") as found:
        check_output(name, (".png", ".jpg"), [tmp_path / "clip.png"], field="sheet")
    assert found.value.field == "sheet"
    check_output("DRAWN.PNG", (".png", ".jpg"), [tmp_path / "clip.png"])
