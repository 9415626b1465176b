"""Media of a record: opened once, within limits, and as the processor would open them."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from llava_st_hf.data import media_loading
from llava_st_hf.data.media_loading import load_media
from llava_st_hf.data.media_probe import check_headers
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.skips import RecordError
from llava_st_hf.processing.video_processing_llava_st import LlavaSTVideoProcessor


@pytest.fixture(scope="module")
def video_processor():
    return LlavaSTVideoProcessor(size={"height": 24, "width": 24}, num_frames=5)


def make_sample(*media: Media, media_type: str = "video", **fields) -> Sample:
    messages = ({"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."})
    return Sample("1", "kitchen", "conversation", media_type, media, messages, **fields)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_a_clip_is_that_of_the_video_processor(video_processor, clip):
    expected, (metadata,) = video_processor.decode_videos(str(clip), frame_range=(5, 30))
    for medium in (Media(path=str(clip)), Media(content=clip.read_bytes())):
        loaded = load_media(make_sample(medium, frame_range=(5, 30)), video_processor)
        (frames,), (found,) = loaded.blocks, loaded.video_metadata
        assert frames.shape == (5, 3, 24, 24) and torch.equal(frames, expected[0])
        assert found.frames_indices == metadata.frames_indices == [5, 11, 17, 24, 30]
        assert found.frame_seconds == metadata.frame_seconds
        assert (found.width, found.height) == (320, 240)


def test_frames_in_memory_have_the_time_of_their_rate(video_processor):
    frames = draw(41, 24, 24)
    loaded = load_media(make_sample(Media(frames=frames), video_fps=10.0, frame_range=(0, 40)), video_processor)
    assert loaded.video_metadata[0].to_media_info().frame_seconds == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert np.array_equal(loaded.blocks[0].permute(0, 2, 3, 1).numpy(), frames[::10])


def test_the_processor_may_sample_by_rate(clip):
    processor = LlavaSTVideoProcessor(size={"height": 24, "width": 24}, fps=2)
    assert len(load_media(make_sample(Media(path=str(clip))), processor).blocks[0]) == 8
    assert len(load_media(make_sample(Media(path=str(clip))), processor, num_frames=3).blocks[0]) == 3
    with pytest.raises(RecordError, match="lower it to have 7 at most") as caught:
        load_media(make_sample(Media(path=str(clip))), processor, max_frames=7)
    assert caught.value.reason == "oversized_media"
    pictures = [Media(frames=frame) for frame in draw(9, 24, 24)]
    assert len(load_media(make_sample(*pictures), processor, num_frames=4).blocks[0]) == 4
    with pytest.raises(
        RecordError, match=r"nothing says when .* are: give video_fps \(frames a second\) or frame_seconds"
    ):
        load_media(make_sample(*pictures), processor)
    assert load_media(make_sample(*pictures, video_fps=4), processor).video_metadata[0].frames_indices == [
        0,
        2,
        4,
        6,
        8,
    ]


def test_pictures_of_a_clip(video_processor):
    frames = draw(9, 30, 40)
    pictures = [Media(frames=frame) for frame in frames]
    loaded = load_media(make_sample(*pictures, frame_range=(1, 8)), video_processor)
    expected, _ = video_processor.decode_videos(frames, frame_range=(1, 8))
    assert torch.equal(loaded.blocks[0], expected[0])
    metadata = loaded.video_metadata[0]
    assert (metadata.width, metadata.height, metadata.frames_indices) == (40, 30, [1, 3, 5, 6, 8])


def test_images_are_opened_upright_and_in_order(video_processor, tmp_path):
    picture = Image.fromarray(draw(30, 40))
    turned = picture.getexif()
    turned[0x0112] = 6  # a quarter turn
    picture.save(tmp_path / "turned.png", exif=turned)
    content = io.BytesIO()
    picture.save(content, "PNG")
    media = Media(path=str(tmp_path / "turned.png")), Media(path="a name", content=content.getvalue())
    loaded = load_media(make_sample(*media, media_type="image"), video_processor)
    assert [image.size for image in loaded.blocks] == [(30, 40), (40, 30)]
    assert loaded.video_metadata == []
    assert np.array_equal(np.asarray(loaded.blocks[1]), draw(30, 40))


@pytest.mark.parametrize("media_type", ["image", "video"])
def test_a_stream_of_jpegs_is_no_picture(video_processor, media_type):
    Image.fromarray(draw(30, 40)).save(file := io.BytesIO(), "JPEG")
    stream = Media(content=file.getvalue() * 3)
    sample = make_sample(*[stream] * (1 + (media_type == "video")), media_type=media_type)
    with pytest.raises(RecordError, match="is an animation of 3 frames: give it as video="):
        load_media(sample, video_processor)
    with pytest.raises(RecordError, match="is an animation of 3 frames: give it as video="):
        check_headers(sample)


def test_text_has_no_media(video_processor):
    assert load_media(make_sample(media_type="text"), video_processor).blocks == []


def make_png(width: int, height: int) -> bytes:
    """Return a picture whose header claims any size."""
    picture = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        picture += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return picture


@pytest.mark.parametrize("media_type", ["image", "video"])
@pytest.mark.parametrize(("width", "height"), [(12_000, 12_000), (100_000, 100_000)])
def test_the_size_is_read_before_the_picture(video_processor, monkeypatch, media_type, width, height):
    monkeypatch.setattr(media_loading, "open_image", lambda picture: pytest.fail("the picture was decoded"))
    media = [Media(content=make_png(width, height))] * (1 + (media_type == "video"))
    with pytest.raises(RecordError, match=r"media\[0\].* file of 65 bytes") as caught:
        load_media(make_sample(*media, media_type=media_type), video_processor)
    assert caught.value.reason == "oversized_media" and caught.value.field == "media[0]"


def test_a_message_names_the_file_on_a_readable_length(video_processor):
    for name in ("a" * 220 + ".mp4", "new\nline.mp4"):
        with pytest.raises(RecordError) as caught:
            load_media(make_sample(Media(path=name)), video_processor)
        assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (IndexError("stream 1"), "unreadable_media"),
        (struct.error("cut"), "unreadable_media"),
        (ZeroDivisionError(), "unreadable_media"),
        (zlib.error("bad"), "unreadable_media"),
        (MemoryError(), "oversized_media"),
    ],
)
def test_errors_that_decoders_let_through(video_processor, monkeypatch, error, reason):
    def fail(picture):
        raise error

    monkeypatch.setattr(media_loading, "open_image", fail)
    content = io.BytesIO()
    Image.fromarray(draw(3, 4)).save(content, "PNG")
    with pytest.raises(RecordError) as caught:
        load_media(make_sample(Media(content=content.getvalue()), media_type="image"), video_processor)
    assert caught.value.reason == reason
    assert (str(error) or type(error).__name__) in str(caught.value)


def test_a_mistake_in_the_code_is_no_bad_record(video_processor, clip, monkeypatch):
    monkeypatch.setattr(LlavaSTVideoProcessor, "decode_videos", lambda *arguments, **options: unknown_name)  # noqa: F821
    with pytest.raises(NameError):
        load_media(make_sample(Media(path=str(clip))), video_processor)
