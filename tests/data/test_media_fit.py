"""Annotations of one file on another: a copy at another rate, a part of it, and none at all."""

from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image
from video_files import encode, encode_anamorphic, rotate_mp4

from llava_st_hf.data.annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from llava_st_hf.data.media_fit import MediaFit, fit_to_file
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


# ------------------------------------------------------------------------------------------------ the size of frames


def read_box(path: Path, size: tuple[int, int] | None, media_type: str = "video") -> Sample:
    """Read a box over the left quarter and the upper half of frames of a size."""
    width, height = size or (64, 48)
    box = AnnotatedBox([0, 0, width / 4, height / 2])
    fields = {"media_type": media_type, "media": (Media(path=str(path)),), "query": "it", "size": size}
    if media_type == "image":
        return make_sample(Annotation(task="rec", boxes=(box,), **fields), "1", "made up")
    tube, span = AnnotatedTube({0.0: box, 0.9: box}), AnnotatedSpan((0.0, 0.9))
    return make_sample(Annotation(task="svg", spans=(span,), tubes=(tube,), **fields), "1", "made up")


def write_picture(path: Path, size: tuple[int, int], orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif)
    return path


SHARES = [0, 0, 0.25, 0.5]
TURNED = "the file stores them so and turns them: give boxes of the displayed frame"


@pytest.mark.parametrize(
    ("make", "fitting", "stored", "turned", "other"),
    [
        # Displayed sizes, at any scale; sizes before the stretch to square pixels, and before a turn; other shapes.
        (lambda p: encode(p, num_frames=25), [(64, 48), (640, 480), (32, 24), (65, 48)], [], [], [(48, 64), (64, 36)]),
        (lambda p: rotate_mp4(encode(p, num_frames=25)), [(48, 64), (480, 640)], [], [(64, 48)], [(64, 64)]),
        (encode_anamorphic, [(128, 72), (1280, 720)], [(90, 72), (720, 576)], [], [(72, 128), (96, 72)]),
        (
            lambda p: encode_anamorphic(p, is_turned=True),
            [(72, 128)],
            [(72, 90)],
            [(128, 72), (256, 144), (90, 72)],
            [(96, 72)],
        ),
        (lambda p: write_picture(p.with_suffix(".jpg"), (60, 40), 1), [(60, 40), (6, 4)], [], [], [(40, 60)]),
        (lambda p: write_picture(p.with_suffix(".jpg"), (60, 40), 6), [(40, 60)], [], [(60, 40)], [(50, 50)]),
    ],
    ids=["plain", "turned", "anamorphic", "anamorphic and turned", "picture", "turned picture"],
)
def test_boxes_are_shares_of_the_frame_that_was_annotated(tmp_path, make, fitting, stored, turned, other):
    path = make(tmp_path / "a.mp4")
    media_type = "image" if path.suffix == ".jpg" else "video"
    for size in (None, *fitting, *stored):
        sample = read_box(path, size, media_type)
        values = [lexeme.value for lexeme in sample.find_coordinates()[1] if lexeme.kind != "t"][:4]
        assert values == pytest.approx(SHARES if size else values)
        notes = dict(sample.notes)
        assert ("as the file stores them" in notes.get("stored_size", "")) == (size in stored)
    for size in turned + other:
        with pytest.raises(RecordError, match="but the boxes are of frames of") as error:
            read_box(path, size, media_type)
        assert error.value.reason == "mismatched_media"
        assert (TURNED in str(error.value)) == (size in turned)


def test_the_size_of_a_file_that_cannot_be_opened_is_not_compared(tmp_path):
    for name in ("a.mp4", "a.jpg"):
        (tmp_path / name).write_bytes(b"nothing to see" * 100)
    assert read_box(tmp_path / "a.jpg", (64, 48), "image").messages[1]["content"].endswith("<x=0.25><y=0.5>]")
    # Of a clip there is no time line; what is wrong with the file is said.
    with pytest.raises(RecordError) as error:
        read_box(tmp_path / "a.mp4", (64, 48))
    assert error.value.reason == "unreadable_media"


def test_the_size_of_pictures_of_a_clip_is_compared(tmp_path):
    for number in range(4):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{number}.png")
    media = tuple(Media(path=str(tmp_path / f"{number}.png")) for number in range(4))
    tube = AnnotatedTube({0: AnnotatedBox([0, 0, 32, 24])}, "frames", interpolate=False)
    fields = {"task": "svg", "media_type": "video", "media": media, "query": "it", "tubes": (tube,)}
    fields |= {"spans": (AnnotatedSpan((0, 3), "frames"),), "frame_count": 4}
    written = make_sample(Annotation(size=(128, 96), **fields), "1", "made up").messages[1]["content"]
    assert "<t=0.0>:[<x=0.0><y=0.0><x=0.25><y=0.25>]" in written
    with pytest.raises(RecordError, match="frames of 64 x 48 pixels, but the boxes are of frames of 96 x 128"):
        make_sample(Annotation(size=(96, 128), **fields), "1", "made up")


def test_pixels_in_texts_are_those_of_the_stated_size(tmp_path):
    path = write_picture(tmp_path / "a.png", (60, 40), 1)
    fields = {"task": "conversation", "media_type": "image", "media": (Media(path=str(path)),), "query": "What?"}
    fields["answer"] = "At <x=30px>."
    assert "<x=0.5>" in make_sample(Annotation(**fields), "1", "made up").messages[1]["content"]
    assert "<x=0.25>" in make_sample(Annotation(size=(120, 80), **fields), "1", "made up").messages[1]["content"]
    with pytest.raises(RecordError, match="of frames of 40 x 60"):
        make_sample(Annotation(size=(40, 60), **fields), "1", "made up")
