"""What becomes of animated WebP."""

import io

import pytest
from hostile_files import write_webp
from PIL import Image

from llava_st_hf.processing.animation_conversion_llava_st import convert_webp
from llava_st_hf.processing.media_llava_st import OversizedMediaError
from llava_st_hf.processing.video_decoding_llava_st import read_video


def test_a_webp_is_converted_up_to_its_limits(monkeypatch):
    content = write_webp(5)
    assert read_video(convert_webp(content, "a.webp")).total_num_frames == 5
    for limit, value in (("_MAX_WEBP_FRAMES", 4), ("_MAX_WEBP_PIXELS", 5 * 16 * 16 - 1)):
        with monkeypatch.context() as patched:
            patched.setattr(f"llava_st_hf.processing.animation_conversion_llava_st.{limit}", value)
            with pytest.raises(OversizedMediaError, match=r"a\.webp: it is a WebP of 5 frames, 1,280 pixels together"):
                convert_webp(content, "a.webp")


def test_other_pictures_are_left_alone():
    Image.new("RGB", (4, 4)).save(file := io.BytesIO(), "PNG")
    assert convert_webp(file.getvalue(), "a.png") is None
