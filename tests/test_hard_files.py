"""Clips of every kind that readers get wrong: the same seconds and pixels when read, drawn, shown and asked about."""

import json

import av
import numpy as np
import pytest
from drawn_clips import decode_pictures, is_color
from hard_files import HARD_FILES, HardFile, read_number

from llava_st_cli import main
from llava_st_hf.data.media_probe import probe_video as probe_clip
from llava_st_hf.processing import Box, GroundingResult, MediaInfo, Span
from llava_st_hf.processing.video_decoding_llava_st import iterate_frames, probe_video, read_video
from llava_st_hf.visualization import PALETTE, write_annotated_video, write_contact_sheet

NEEDED_CODECS = {"10 bits.mkv": "libx265", "bare.hevc": "libx265", "bare.obu": "libsvtav1", "av1.mp4": "libsvtav1"}


def make(name: str, folder) -> HardFile:
    codec = NEEDED_CODECS.get(name)
    if codec is not None and codec not in av.codecs_available:
        pytest.skip(f"PyAV was built without {codec}")
    return HARD_FILES[name](folder / name)


@pytest.mark.parametrize("name", HARD_FILES)
def test_what_is_read(name, tmp_path):
    expected = make(name, tmp_path)
    video = read_video(expected.path)
    assert (video.width, video.height) == expected.size
    assert video.frame_seconds == pytest.approx(expected.seconds, abs=expected.tolerance)
    assert [read_number(frame.permute(1, 2, 0).numpy()) for frame in video.frames] == expected.numbers
    assert len(video.problems) == len(expected.notes)
    assert all(words in problem for words, problem in zip(expected.notes, video.problems, strict=True))
    step = (expected.seconds[-1] - expected.seconds[0]) / max(len(expected.seconds) - 1, 1)
    end = expected.end_seconds or expected.seconds[-1]
    assert end - 0.1 <= video.stated_end_seconds <= end + 2 * step + 0.1
    # The other ways to its frames.
    frames = list(iterate_frames(expected.path))
    assert [frame.seconds for frame in frames] == list(video.frame_seconds)
    assert [read_number(frame.image) for frame in frames] == expected.numbers
    few = read_video(expected.path, num_frames=5)
    shown = [read_number(frame.permute(1, 2, 0).numpy()) for frame in few.frames]
    assert shown == [expected.numbers[index] for index in few.frame_indices]
    probe = probe_video(expected.path)
    assert (probe.width, probe.height) == expected.size
    assert probe.timeline.seconds.tolist() == list(video.frame_seconds)
    info = probe_clip(str(expected.path), 5)
    assert (info.width, info.height, info.frame_seconds) == (*expected.size, few.frame_seconds)
    # What is answered is taken back: the end that is stated too.
    last = read_video(expected.path, num_frames=1, time_range=(expected.seconds[-1] - 1e-3, video.stated_end_seconds))
    assert read_number(last.frames[0].permute(1, 2, 0).numpy()) == expected.numbers[-1]


@pytest.mark.parametrize("name", HARD_FILES)
def test_what_is_drawn(name, tmp_path):
    expected = make(name, tmp_path)
    (width, height), seconds = expected.size, expected.seconds
    first = len(seconds) // 2
    boxes = (Box(0.6 * width, 0.6 * height, 0.95 * width, 0.95 * height),)
    media = MediaInfo("video", width, height, tuple(range(len(seconds))), tuple(seconds))
    result = GroundingResult("", spans=(Span(seconds[first], seconds[-1]),), boxes=boxes, media=media)
    write_annotated_video(expected.path, result, tmp_path / "drawn.mp4")
    times, pictures, _ = decode_pictures(tmp_path / "drawn.mp4", expected.path)
    assert times == pytest.approx(seconds, abs=1e-3)
    if height > 16:
        numbers = [read_number(np.where(is_color(p, PALETTE[0])[..., None], 90, p)) for p in pictures]
        assert numbers == expected.numbers
        is_drawn = [is_color(p, PALETTE[0])[height // 2 :, width // 2 :].sum() > 4 for p in pictures]
        assert is_drawn == [index >= first for index in range(len(seconds))]
    write_contact_sheet(expected.path, result, tmp_path / "sheet.png")
    record = {"video": name, "query": "it", "span_seconds": [seconds[first], seconds[-1]]}
    record["boxes"] = {str(moment): [0, 0, width / 2, height / 2] for moment in record["span_seconds"]}
    (tmp_path / "own.jsonl").write_text(json.dumps(record))
    assert main(["data", "show", str(tmp_path / "own.jsonl"), "--output", str(tmp_path / "shown.png")]) == 0
