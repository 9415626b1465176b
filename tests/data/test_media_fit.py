"""Annotations of one file on another: a copy at another rate, a part of it, and none at all."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image
from video_files import encode, rotate_mp4

from llava_st_hf.data.annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from llava_st_hf.data.media_fit import MediaFit, find_other_shape, fit_to_file
from llava_st_hf.data.sample_writing import make_sample
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.skips import RecordError


def encode_at(path: Path, rate: int, num_frames: int, codec: str = "libx264") -> Path:
    return encode(
        path,
        num_frames=num_frames,
        pts=list(range(num_frames)),
        time_base=Fraction(1, rate),
        codec=codec,
        params="bframes=0",
    )


def read(path: Path | None, media: tuple[Media, ...] = (), **fields) -> Sample:
    """Read an event of the frames 30 to 60 of a clip of 120 frames at 30 a second, of which 20 to 100 are meant."""
    tube = {frame: AnnotatedBox([frame - 30, 0, frame - 20, 48]) for frame in range(30, 61)}
    fields = {"frame_count": 120, "frame_rate": 30, "frame_range": (20, 100), **fields}
    annotation = Annotation(
        task="stvg",
        media_type="video",
        media=media or (Media(path=str(path)),),
        query="a bar moves",
        spans=(AnnotatedSpan((30, 60), "frames"),),
        tubes=(AnnotatedTube(tube, "frames", interpolate=False),),
        size=(64, 48),
        **fields,
    )
    return make_sample(annotation, "1", "made up", num_frames=9)


def list_values(sample: Sample, axis: str) -> list[float]:
    return [lexeme.value for lexeme in sample.find_coordinates()[1] if lexeme.kind == axis]


TIMES = [10 / 80, 40 / 80, *(number / 8 for number in range(1, 5))]  # span, then the sampled frames in it
LEFT = [0, 10, 20, 30]  # at the frames 30, 40, 50, 60


@pytest.mark.parametrize(
    ("rate", "num_frames", "frame_range"),
    [(30, 120, (20, 100)), (30, 121, (20, 100)), (60, 240, (40, 200)), (15, 60, (10, 50)), (24, 96, (16, 80))],
)
def test_a_copy_at_another_rate_has_the_same_seconds(tmp_path, rate, num_frames, frame_range):
    sample = read(encode_at(tmp_path / "a.mp4", rate, num_frames))
    assert sample.frame_range == frame_range
    assert list_values(sample, "t") == pytest.approx(TIMES, abs=1e-6)
    # Half of the frames of the file at 15 a second are there: each has the box of its own moment.
    assert [round(value * 64) for value in list_values(sample, "x")[::2]] == LEFT


def test_a_file_without_a_count_in_its_header_is_counted(tmp_path):
    sample = read(encode_at(tmp_path / "a.mkv", 60, 240))
    assert sample.frame_range == (40, 200)
    assert list_values(sample, "t") == pytest.approx(TIMES, abs=1e-3)  # time stamps of whole milliseconds


@pytest.mark.parametrize(
    ("rate", "num_frames", "fields", "found"),
    [
        (
            30,
            90,
            {},
            r"'a.mp4' with 90 frames and 3.000 s, but the annotations are of one with 120 frames and 4.000 s",
        ),
        (60, 120, {}, "120 frames and 2.000 s, but"),  # as many frames, of another length
        (60, 240, {"frame_rate": None}, "240 frames and 4.000 s, but the annotations are of one with 120 frames: get"),
        (30, 90, {"frame_rate": None, "duration_seconds": 4.0}, "90 frames"),
    ],
)
def test_another_clip_is_named(tmp_path, rate, num_frames, fields, found):
    with pytest.raises(RecordError, match=found) as error:
        read(encode_at(tmp_path / "a.mp4", rate, num_frames), **fields)
    assert error.value.reason == "mismatched_media"


def test_the_rate_follows_from_the_length(tmp_path):
    fields = {"frame_rate": None, "duration_seconds": 4.0}
    sample = read(encode_at(tmp_path / "a.mp4", 60, 240), **fields)
    assert list_values(sample, "t") == pytest.approx(TIMES, abs=1e-6)
    # A length that is a round number does not refuse a file with as many frames.
    assert read(encode_at(tmp_path / "b.mp4", 28, 120), **fields).frame_range == (20, 100)


def test_a_file_that_cannot_be_opened_is_not_compared(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert read(tmp_path / "a.mp4").frame_range == (20, 100)
    (tmp_path / "a.mp4").write_bytes(b"nothing to see" * 100)
    assert list_values(read(tmp_path / "a.mp4"), "t") == pytest.approx(TIMES)


def test_pictures_are_counted(tmp_path):
    for number in range(4):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{number}.png")
    media = tuple(Media(path=str(tmp_path / f"{number}.png")) for number in range(4))
    with pytest.raises(RecordError, match=r"'0\.png' with 4 frames, but the annotations are of one with 120 frames"):
        read(None, media)
    fields = {"task": "tvg", "media_type": "video", "media": media, "query": "it"}
    counted = Annotation(spans=(AnnotatedSpan((1, 2), "frames"),), **fields)
    assert fit_to_file(counted) == MediaFit((0, 3), by_frames=True)
    # Of a clip whose length is known, seconds are shares of it.
    timed = Annotation(spans=(AnnotatedSpan((1.0, 8.0)),), duration_seconds=8.0, **fields)
    assert make_sample(timed, "1", "made up").messages[1]["content"] == "{<t=0.125><t=1.0>}"


def test_a_length_alone_is_compared(tmp_path):
    fields = {"task": "tvg", "media_type": "video", "query": "it", "spans": (AnnotatedSpan((1.0, 2.0)),)}
    media = (Media(path=str(encode_at(tmp_path / "a.mp4", 10, 41))),)
    sample = make_sample(Annotation(media=media, duration_seconds=4.1, **fields), "1", "made up")
    assert list_values(sample, "t") == pytest.approx([0.25, 0.5])
    with pytest.raises(RecordError, match=r"41 frames and 4\.100 s, but the annotations are of one with 5\.000 s"):
        make_sample(Annotation(media=media, duration_seconds=5.0, **fields), "1", "made up")
    (tmp_path / "a.mp4").write_bytes(b"")
    sample = make_sample(Annotation(media=media, duration_seconds=4.0, **fields), "1", "made up")
    assert list_values(sample, "t") == pytest.approx([0.25, 0.5])


@pytest.mark.parametrize(
    ("size", "is_noted"),
    [((64, 48), False), ((640, 480), False), ((1280, 962), False), ((48, 64), True), ((640, 360), True)],
)
def test_a_file_of_another_shape_is_noted(tmp_path, size, is_noted):
    encode_at(tmp_path / "a.mp4", 30, 120)
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    box = AnnotatedBox([0, 0, 10, 10])
    image = Annotation(
        task="rec", media_type="image", media=(Media(str(tmp_path / "a.png")),), query="it", boxes=(box,), size=size
    )
    clip = Annotation(
        task="svg",
        media_type="video",
        media=(Media(path=str(tmp_path / "a.mp4")),),
        query="it",
        spans=(AnnotatedSpan((30, 60), "frames"),),
        tubes=(AnnotatedTube({30: box}, "frames"),),
        size=size,
        frame_count=120,
    )
    for annotation in (image, clip):
        notes = dict(make_sample(annotation, "1", "made up").notes)
        assert (list(notes) == ["other_shape"]) == is_noted
        if is_noted:
            text = f"width and height are {size[0]} x {size[1]}, but the file's are 64 x 48, another shape"
            assert notes["other_shape"].startswith(text)


def test_a_turned_file_has_the_shape_that_is_seen(tmp_path):
    path = rotate_mp4(encode_at(tmp_path / "a.mp4", 30, 12))
    annotation = Annotation(task="svg", media_type="video", media=(Media(path=str(path)),), size=(48, 64))
    assert find_other_shape(annotation) is None
    assert find_other_shape(replace(annotation, size=(640, 360))) == (48, 64)
