"""A clip with the answer on every frame: what is drawn where and when, and that browsers play it."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import video_files as files
from drawn_clips import GRAY, decode, decode_pictures, find_picture, is_color, write_clip

from llava_st_hf.processing import (
    Box,
    Caption,
    GroundingResult,
    MediaInfo,
    Span,
    Tube,
    TubeBox,
    parse_answer,
    read_video,
)
from llava_st_hf.processing.tube_masks_llava_st import TubeMasks, encode_mask
from llava_st_hf.visualization import (
    PALETTE,
    draw_contact_sheet,
    write_annotated_video,
    write_contact_sheet,
)
from llava_st_hf.visualization.drawing import FAINT_INK


def test_the_box_is_drawn_where_and_when_the_tube_says(clip_path, result, tmp_path):
    write_annotated_video(clip_path, result, tmp_path / "out.mp4")
    seconds, frames, _ = decode_pictures(tmp_path / "out.mp4", clip_path)
    assert len(frames) == 30
    for time, image in zip(seconds, frames, strict=True):
        line = is_color(image[60:200], PALETTE[0])
        if not 0.2 - 0.001 <= time <= 0.8 + 0.001:
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


def test_masks_are_drawn_where_they_are(clip_path, result, tmp_path):
    mask = np.zeros((240, 320), dtype=bool)
    mask[100:140, 250:300] = True
    masks = TubeMasks(tuple(range(8, 16)), tuple(index / 25 for index in range(8, 16)), (encode_mask(mask),) * 8)
    write_annotated_video(clip_path, replace(result, masks=(masks,)), tmp_path / "out.mp4")
    frames = decode_pictures(tmp_path / "out.mp4", clip_path)[1]
    for index, image in enumerate(frames):
        change = np.abs(image - GRAY).max(axis=-1)
        assert (change[105:135, 255:295] > 20).all() == (index in range(8, 16))
        assert change[105:135, 305:].max() < 12


def test_the_time_line_shows_the_span_and_the_position(clip_path, result, tmp_path):
    write_annotated_video(clip_path, result, tmp_path / "out.mp4")
    seconds, frames, _ = decode(tmp_path / "out.mp4")
    rows, _ = find_picture(frames[0], np.full((240, 320, 3), GRAY))
    strip = frames[0][rows.stop :]
    rail = np.nonzero(is_color(strip[:, 100], PALETTE[0]))[0]
    assert len(rail) >= 5
    middle = rows.stop + rail[len(rail) // 2]
    left, right, duration = 8, 320 - 9, 30 / 25
    columns = np.nonzero(is_color(frames[0][middle], PALETTE[0]))[0]
    assert columns.min() == pytest.approx(left + 0.2 / duration * (right - left), abs=3)
    assert columns.max() == pytest.approx(left + 0.8 / duration * (right - left), abs=3)
    for time, image in zip(seconds, frames, strict=True):
        line = np.nonzero(is_color(image[middle], (255, 255, 255), 90))[0]
        assert line.mean() == pytest.approx(left + time / duration * (right - left), abs=3)
    assert is_color(frames[0][: rows.start], (255, 255, 255)).sum() > 100  # the query
    assert is_color(strip, FAINT_INK).sum() > 30  # the seconds


def test_the_output_plays_in_a_browser(clip_path, result, tmp_path):
    output = tmp_path / "out.mp4"
    write_annotated_video(clip_path, result, output)
    _, _, context = decode(output)
    assert (context.name, context.pix_fmt, context.width, context.height % 2) == ("h264", "yuv420p", 320, 0)
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
    _, frames, context = decode_pictures(tmp_path / "out.mp4", source)
    assert (context.width, context.height % 2) == (322, 0)
    rows, columns = np.nonzero(is_color(frames[5], PALETTE[0]))
    assert (columns.min(), rows.min()) == (pytest.approx(40, abs=3), pytest.approx(90, abs=2))


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
    assert context.width == 240 and context.height > 320
    picture = frames[0][find_picture(frames[0], np.full((320, 240, 3), GRAY))]
    rows, columns = np.nonzero(is_color(picture, PALETTE[0]))
    assert (rows.max(), columns.max()) == (pytest.approx(220, abs=2), pytest.approx(200, abs=2))


def test_boxes_without_a_time_are_shown_within_the_spans(clip_path, tmp_path):
    result = GroundingResult("", spans=(Span(0.4, 0.6),), boxes=(Box(100, 90, 200, 150),))
    write_annotated_video(clip_path, result, tmp_path / "out.mp4")
    seconds, frames, _ = decode_pictures(tmp_path / "out.mp4", clip_path)
    has_box = [is_color(image[140:160], PALETTE[0]).any() for image in frames]
    shown = [time for time, is_shown in zip(seconds, has_box, strict=True) if is_shown]
    assert (min(shown), max(shown)) == (pytest.approx(0.4), pytest.approx(0.6))


def test_each_tube_keeps_its_colour(clip_path, tmp_path):
    tubes = (
        Tube((TubeBox(0.0, 0, Box(20, 90, 80, 150)), TubeBox(0.4, 10, Box(20, 90, 80, 150)))),
        Tube((TubeBox(0.0, 0, Box(180, 90, 240, 150)), TubeBox(1.0, 25, Box(180, 90, 240, 150)))),
    )
    write_annotated_video(clip_path, GroundingResult("", tubes=tubes), tmp_path / "out.mp4")
    _, frames, _ = decode_pictures(tmp_path / "out.mp4", clip_path)
    for index, shown in ((5, (True, True)), (20, (False, True))):
        for tube_index, is_shown in enumerate(shown):
            assert is_color(frames[index][140:160], PALETTE[tube_index]).any() == is_shown


def test_progress_is_told(clip_path, result, tmp_path):
    calls = []
    write_annotated_video(clip_path, result, tmp_path / "out.mp4", progress=lambda *call: calls.append(call))
    assert calls == [(k, 30) for k in range(1, 31)]


def test_nothing_but_boxes_is_drawn_onto_the_picture(tmp_path):
    source = files.encode(tmp_path / "clip.mp4", width=320, height=240)
    spans, captions = (Span(0.0, 0.8), Span(0.4, 1.5)), (Caption("it runs"), Caption("it sits"))
    captions = tuple(replace(caption, span=span) for caption, span in zip(captions, spans, strict=True))
    tube = Tube((TubeBox(0.0, 0, Box(100, 60, 200, 180)), TubeBox(1.56, 39, Box(100, 60, 200, 180))))
    result = GroundingResult("", spans=spans, captions=captions, tubes=(tube,), query="when? " * 40)
    write_annotated_video(source, result, tmp_path / "out.mp4")
    _, before, _ = decode(source)
    _, after, _ = decode_pictures(tmp_path / "out.mp4", source)
    outside = np.ones((240, 320), dtype=bool)
    outside[56:185, 96:205] = False  # the line around the box, and what the encoder makes of its edge
    for one, other in zip(before, after, strict=True):
        assert np.abs(one - other)[outside].mean() < 6
        assert np.abs(one - other).mean(axis=-1)[64:176, 99:101].mean() > 15


@pytest.mark.parametrize("name", ["cat.ts", "b.avi", "b.h264"])
def test_what_is_drawn_has_the_clock_of_the_reader(hard_media_dir, name, tmp_path):
    """Time stamps that start again, or that the container does not give: 60 frames at 10 a second all the same."""
    source = hard_media_dir / name
    assert read_video(source).frame_seconds == pytest.approx([index / 10 for index in range(60)])
    spans, boxes = (Span(3.0, 6.0),), (Box(16, 26, 48, 36),)
    write_annotated_video(source, GroundingResult("", spans=spans, boxes=boxes), tmp_path / "box.mp4")
    write_annotated_video(source, GroundingResult("", spans=spans), tmp_path / "plain.mp4")
    seconds, drawn, _ = decode_pictures(tmp_path / "box.mp4", source)
    plain = decode_pictures(tmp_path / "plain.mp4", source)[1]
    assert seconds == pytest.approx([index / 10 for index in range(60)], abs=1e-4)
    has_box = [np.abs(after - before)[28:34, 14:18].mean() > 20 for after, before in zip(drawn, plain, strict=True)]
    assert has_box == [False] * 30 + [True] * 30


@pytest.mark.parametrize("name", ["made.ts", "wrap.ts"])
def test_frames_before_0_are_drawn(request, name, tmp_path):
    if name == "made.ts":
        source = files.encode_negative(tmp_path / name)
    else:
        source = request.getfixturevalue("hard_media_dir") / name
    video = read_video(source)
    media = MediaInfo("video", video.width, video.height, video.frame_indices, video.frame_seconds)
    first, last = video.frame_seconds[0], video.frame_seconds[-1]
    result = GroundingResult("", spans=(Span(first, last),), media=media)
    write_contact_sheet(source, result, tmp_path / "sheet.png")
    write_annotated_video(source, result, tmp_path / "out.mp4")
    seconds, _, _ = decode(tmp_path / "out.mp4")
    assert seconds == pytest.approx([moment - first for moment in video.frame_seconds], abs=1e-4)


@pytest.mark.parametrize("name", ["made sar", "sar.mp4", "made sizes", "sz3.mkv"])
def test_boxes_keep_their_share_of_the_displayed_frame(request, name, tmp_path):
    """Pixels that are not square, and frames that change in size: in, out and drawn, a box from 1/4 to 1/2 is that."""
    if name == "made sar":
        source = files.encode_anamorphic(tmp_path / "made.mp4", size=(360, 288))
    elif name == "made sizes":
        source = files.encode_changing_size(tmp_path / "made.mkv", ((320, 240), (640, 480)))
    else:
        source = request.getfixturevalue("hard_media_dir") / name
    video = read_video(source)
    width, height = video.width, video.height
    assert (width, height) == ((512, 288) if "sar" in name else (320, 240))
    media = MediaInfo("video", width, height, video.frame_indices, video.frame_seconds)
    result = parse_answer("[<x=0.25><y=0.25><x=0.5><y=0.75>]", media, answer_format="box")
    assert result.boxes[0].xyxy == (width / 4, height / 4, width / 2, height * 3 / 4)
    write_annotated_video(source, result, tmp_path / "box.mp4")
    write_annotated_video(source, replace(result, boxes=()), tmp_path / "plain.mp4")
    (_, drawn, context), (_, plain, _) = decode(tmp_path / "box.mp4"), decode(tmp_path / "plain.mp4")
    assert (context.width, context.height > height, context.sample_aspect_ratio or 1) == (width, True, 1)
    place = find_picture(plain[0], read_video(source, num_frames=1).frames[0].permute(1, 2, 0).numpy().astype(int))
    drawn, plain = ([frame[place] for frame in frames] for frames in (drawn, plain))
    for index in (0, len(drawn) - 1):
        changed = np.abs(drawn[index] - plain[index])[height // 3 : height * 2 // 3].mean(axis=(0, 2)) > 25
        columns = np.nonzero(changed)[0]
        assert (columns.min(), columns.max()) == (pytest.approx(width / 4, abs=4), pytest.approx(width / 2, abs=4))
    sheet = draw_contact_sheet(source, result, columns=1, rows=1, cell_pixels=width)
    colored = is_color(np.asarray(sheet), PALETTE[0], 10).sum(axis=0)
    columns = np.nonzero(colored > height / 4)[0] - 28  # the margin
    assert (columns.min(), columns.max()) == (pytest.approx(width / 4, abs=3), pytest.approx(width / 2, abs=3))


def test_boxes_of_an_answer_about_a_smaller_copy_are_scaled(clip_path, tmp_path):
    video, drawn = read_video(clip_path), []
    for share in (1, 0.5):
        width, height = video.width * share, video.height * share
        media = MediaInfo("video", int(width), int(height), video.frame_indices, video.frame_seconds)
        boxes = (Box(0.25 * width, 0.25 * height, 0.5 * width, 0.75 * height),)
        write_annotated_video(clip_path, GroundingResult("", boxes=boxes, media=media), tmp_path / f"{share}.mp4")
        drawn.append(is_color(np.stack(decode(tmp_path / f"{share}.mp4")[1]), PALETTE[0]))
    assert (drawn[0] != drawn[1]).mean() < 1e-3 < drawn[0].mean()


def test_an_answer_goes_from_text_to_pixels(clip_path, tmp_path):
    video = read_video(clip_path, num_frames=30)
    media = MediaInfo("video", video.width, video.height, video.frame_indices, video.frame_seconds)
    box = "[<x=0.25><y=0.375><x=0.5><y=0.625>]"
    result = parse_answer(f"{{<t=0.5><t=1>}} <t=0.5>:{box}, <t=1>:{box}", media, answer_format="span_and_tube")
    write_annotated_video(clip_path, result, tmp_path / "out.mp4")
    _, frames, _ = decode_pictures(tmp_path / "out.mp4", clip_path)
    _, columns = np.nonzero(is_color(frames[20][60:200], PALETTE[0]))
    assert (columns.min(), columns.max()) == (pytest.approx(80, abs=3), pytest.approx(160, abs=3))
    assert not is_color(frames[5][60:200], PALETTE[0]).any()


@pytest.mark.parametrize("row_number", [10, pytest.param(3, marks=pytest.mark.slow)])
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
    place = find_picture(*(video.frames[0].permute(1, 2, 0).numpy().astype(int) for video in (annotated, original)))
    assert annotated.total_num_frames == original.total_num_frames
    assert annotated.frame_seconds == pytest.approx(original.frame_seconds, abs=1e-4)
    for time, after, before in zip(original.frame_seconds, annotated.frames, original.frames, strict=True):
        box = tube.box_at(time)
        changed = (after[:, place[0], place[1]].int() - before.int()).abs().sum(0).numpy() > 100
        middle = slice(60, video.height - 60)
        if box is None:
            assert time < tube.start_seconds or time > tube.end_seconds
            continue
        for edge in (box.x1, box.x2):
            column = min(max(round(edge), 2), video.width - 3)
            rows = slice(max(round(box.y1), middle.start) + 4, min(round(box.y2), middle.stop) - 4)
            if rows.stop - rows.start > 20:
                assert changed[rows, column - 2 : column + 3].any(axis=1).mean() > 0.5
