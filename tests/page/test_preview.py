from fractions import Fraction

import pytest
from drawn_clips import decode, write_clip
from PIL import Image
from video_files import encode, encode_anamorphic

from llava_st_hf.page.preview import LONGEST_SIDE, write_preview
from llava_st_hf.processing.video_decoding_llava_st import probe_video


def test_times_of_a_clip_are_kept(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, stamps=[0, 512, 2048, 2560])
    preview = write_preview(path, "video", tmp_path)
    expected = probe_video(path)
    assert decode(preview.path)[0] == pytest.approx(expected.timeline.seconds.tolist())
    assert (preview.width, preview.height) == (expected.width, expected.height)


@pytest.mark.parametrize("start", [-1.0, 5.0, 26 * 3600.0])
def test_browser_begins_at_the_first_frame(tmp_path, start):
    first = round(start * 90000) % 2**33  # a stamp below 0 is one whose clock of 33 bits starts again in the clip
    pts = [first + 3600 * index for index in range(40)]
    options = {"mpegts_copyts": "1"}
    path = encode(tmp_path / "clip.ts", pts=pts, time_base=Fraction(1, 90000), container_options=options)
    preview = write_preview(path, "video", tmp_path)
    expected = probe_video(path).timeline.seconds
    assert preview.first_seconds == expected[0]
    seconds = decode(preview.path)[0]
    assert seconds[0] == 0
    assert [second + preview.first_seconds for second in seconds] == pytest.approx(expected.tolist(), abs=1e-3)


def test_pixels_are_those_of_the_displayed_frame(tmp_path):
    path = tmp_path / "clip.mp4"
    encode_anamorphic(path)
    preview = write_preview(path, "video", tmp_path)
    video = probe_video(path)
    shown = probe_video(preview.path)
    assert (preview.width, preview.height) == (video.width, video.height)
    assert shown.width / shown.height == pytest.approx(video.width / video.height, abs=0.03)


def test_large_image_is_made_smaller(tmp_path):
    Image.new("RGB", (3000, 1000)).save(tmp_path / "wide.png")
    preview = write_preview(tmp_path / "wide.png", "image", tmp_path)
    assert (preview.width, preview.height) == (3000, 1000)
    assert Image.open(preview.path).size == (LONGEST_SIDE, LONGEST_SIDE // 3)
