import numpy as np
import pytest
from PIL import Image
from video_files import encode, rotate_mp4

from llava_st_hf.data.media_probe import (
    VideoHeader,
    check_headers,
    probe_header,
    probe_image,
    probe_media,
    probe_timeline,
    probe_video,
)
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.skips import RecordError
from llava_st_hf.processing.image_loading_llava_st import open_image
from llava_st_hf.processing.video_decoding_llava_st import read_video


@pytest.mark.parametrize("kind", ["plain", "turned", "uneven", "no time stamps"])
def test_tells_of_a_video_what_reading_it_tells(tmp_path, kind):
    path = tmp_path / ("a.avi" if kind == "no time stamps" else "a.mp4")
    encode(path, num_frames=30, pts=[i * i for i in range(30)] if kind == "uneven" else None)
    if kind == "turned":
        rotate_mp4(path)
    info, video = probe_video(str(path), 12), read_video(path, num_frames=12)
    assert (info.width, info.height) == (video.width, video.height)
    assert ((48, 64) if kind == "turned" else (64, 48)) == (info.width, info.height)
    assert info.frame_indices == video.frame_indices
    assert info.frame_seconds == video.frame_seconds


def test_tells_of_real_clips_what_reading_them_tells(real_media_dir):
    paths = sorted(real_media_dir.glob("*.mp4"))
    assert len(paths) == 5
    for path in paths:
        info, video = probe_video(str(path), 2), read_video(path, num_frames=2, size=(8, 8))
        assert (info.width, info.height, info.frame_seconds) == (video.width, video.height, video.frame_seconds)


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_tells_the_size_of_a_picture_as_it_is_shown(tmp_path, orientation):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    info = probe_image(str(tmp_path / "a.jpg"))
    assert (info.width, info.height) == open_image(tmp_path / "a.jpg").size


def test_sees_that_a_file_was_replaced(tmp_path):
    path = tmp_path / "a.png"
    for size in ((3, 4), (30, 40)):
        Image.new("RGB", size).save(path)
        info = probe_image(str(path))
        assert (info.width, info.height) == size


@pytest.mark.parametrize("probe", [probe_image, lambda path: probe_video(path, 4)], ids=["image", "video"])
@pytest.mark.parametrize(
    ("content", "reason"), [(None, "missing_media"), (b"", "empty_media"), (b"no media" * 50, "unreadable_media")]
)
def test_says_why_a_file_cannot_be_used(tmp_path, probe, content, reason):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordError) as raised:
        probe(str(path))
    assert raised.value.reason == reason


def test_refuses_huge_frames(tmp_path, monkeypatch):
    encode(tmp_path / "a.mp4", num_frames=2)
    Image.new("1", (2000, 1000)).save(tmp_path / "a.png")
    monkeypatch.setattr("llava_st_hf.processing.video_file_llava_st.MAX_FRAME_PIXELS", 1000)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    for probe in (lambda: probe_video(str(tmp_path / "a.mp4"), 2), lambda: probe_image(str(tmp_path / "a.png"))):
        with pytest.raises(RecordError) as raised:
            probe()
        assert raised.value.reason == "oversized_media"


def make(task, media_type, media, question, answer, **fields):
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Sample(id="1", source="s", task=task, media_type=media_type, media=media, messages=messages, **fields)


def test_media_in_every_form(clip, pictures, array_clip):
    in_memory = make("video_qa", "video", (Media(frames=array_clip),), "What?", "Noise.", video_fps=2.0)
    (info,) = probe_media(in_memory, num_frames=6)
    assert (info.width, info.height, info.frame_seconds) == (45, 31, (0, 0.5, 1.0, 1.5, 2.0, 2.5))
    kept = make("video_qa", "video", tuple(Media(path=path) for path in pictures), "What?", "Colours.")
    (info,) = probe_media(kept)
    assert (info.width, info.height, info.frame_indices) == (60, 40, (0, 2))
    content = make("video_qa", "video", (Media(content=clip.read_bytes()),), "What?", "A circle.")
    assert probe_media(content)[0].frame_indices == (0, 39)
    images = make("conversation", "image", tuple(Media(path=path) for path in pictures), "What?", "Colours.")
    assert [(info.width, info.height) for info in probe_media(images)] == [(60, 40)] * 3


def test_a_turned_photograph_is_measured_as_it_is_shown(tmp_path):
    picture = Image.new("RGB", (60, 40))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    sample = make("conversation", "image", (Media(path=str(tmp_path / "turned.jpg")),), "What?", "Nothing.")
    assert (probe_media(sample)[0].width, probe_media(sample)[0].height) == (40, 60)


def test_a_header_tells_frames_and_length(tmp_path, pictures, array_clip):
    path = encode(tmp_path / "a.mp4", num_frames=30)
    expected = VideoHeader(30, pytest.approx(1.2), 64, 48)
    assert probe_header(Media(path=str(path))) == probe_header(Media(content=path.read_bytes())) == expected
    timeline = probe_timeline(str(path))
    assert (len(timeline), timeline.duration_seconds) == (30, pytest.approx(1.2))
    assert check_headers(make("video_qa", "video", (Media(path=str(path)),), "What?", "A bar.")) == expected
    assert probe_header(Media(path=str(encode(tmp_path / "a.mkv", num_frames=30)))).num_frames is None
    (picture,) = (Media(path=pictures[0]),)
    assert check_headers(make("conversation", "image", (picture,), "What?", "Red.")) == VideoHeader(None, None, 60, 40)
    assert check_headers(make("conversation", "image", (picture, picture), "What?", "Red.")) is None
    assert check_headers(make("video_qa", "video", (Media(frames=array_clip),), "What?", "Noise.")) is None


def test_a_part_of_a_video_has_frames_of_its_own(tmp_path):
    info = probe_video(str(encode(tmp_path / "a.mp4", num_frames=30)), 3, (10, 20))
    assert (info.frame_indices, info.frame_seconds) == ((10, 15, 20), pytest.approx((0.4, 0.6, 0.8)))
