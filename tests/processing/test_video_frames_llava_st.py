"""Frames without a file: alpha, and pictures that are opened one by one."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from llava_st_hf.processing import video_frames_llava_st
from llava_st_hf.processing.image_loading_llava_st import open_image
from llava_st_hf.processing.media_llava_st import MediaError, MissingMediaError
from llava_st_hf.processing.video_frames_llava_st import drop_alpha, open_frames, to_channels_first
from llava_st_hf.processing.video_processing_llava_st import LlavaSTVideoProcessor


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_alpha_is_blended_as_in_files():
    pixels = draw(9, 12, 16, 4)
    expected = np.stack([np.asarray(open_image(Image.fromarray(frame))) for frame in pixels])
    for form in (pixels, torch.from_numpy(pixels).permute(0, 3, 1, 2), list(pixels)):
        blended = drop_alpha(to_channels_first(form))
        np.testing.assert_array_equal(blended.permute(0, 2, 3, 1).numpy(), expected)
    (frames,), _ = LlavaSTVideoProcessor(do_resize=False).decode_videos(pixels, num_frames=2, video_fps=1)
    np.testing.assert_array_equal(frames.permute(0, 2, 3, 1).numpy(), expected[[0, 8]])


@pytest.fixture
def pictures(tmp_path):
    for index, frame in enumerate(draw(7, 12, 16, 3)):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    return [tmp_path / f"{index}.png" for index in range(7)]


def test_only_the_sampled_pictures_are_opened_and_each_once(pictures, monkeypatch):
    opened = []
    monkeypatch.setattr(
        video_frames_llava_st, "open_image", lambda path, url: opened.append(int(path.stem)) or open_image(path, url)
    )
    processor = LlavaSTVideoProcessor(size={"height": 6, "width": 6})
    (frames,), (metadata,) = processor.decode_videos(pictures, num_frames=4, frame_range=(2, 5), video_fps=2)
    assert opened == metadata.frames_indices == [2, 3, 4, 5]
    assert (metadata.frame_seconds, metadata.width, metadata.height) == ([1.0, 1.5, 2.0, 2.5], 16, 12)
    array = np.stack([np.asarray(Image.open(path)) for path in pictures])
    (expected,), _ = processor.decode_videos(array, num_frames=4, frame_range=(2, 5), video_fps=2)
    assert torch.equal(frames, expected)


def test_pictures_that_are_no_clip_are_refused(pictures):
    Image.new("RGB", (5, 5)).save(pictures[3])
    with pytest.raises(MediaError, match=r"frame 3 of the video, .*3\.png, has \(5, 5\) pixels and an earlier one"):
        open_frames(pictures, [0, 3], False, lambda frame: frame)
    pictures[2].unlink()
    with pytest.raises(MissingMediaError, match=r"2\.png does not exist"):
        open_frames(pictures, [2], False, lambda frame: frame)
    Image.new("RGB", (5, 5)).save(file := io.BytesIO(), "JPEG")
    with pytest.raises(MediaError, match="is an animation of 2 frames: give it as video="):
        open_frames([file.getvalue() * 2], [0], False, lambda frame: frame)
