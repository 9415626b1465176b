"""Fractions of a clip to seconds and back, for steady and for variable frame rates."""

import pickle
from dataclasses import replace

import pytest

from llava_st_hf import InputError, MediaInfo
from llava_st_hf.processing.media_llava_st import MediaError, format_count

STEADY = MediaInfo("video", 640, 360, (0, 10, 20), (1.0, 2.0, 3.0))
VARIABLE = MediaInfo("video", 640, 360, (0, 10, 20), (0.0, 4.0, 5.0))
ONE_FRAME = MediaInfo("video", 640, 360, (7,), (2.5,))
PART = MediaInfo("video", 640, 360, (30, 40, 50), (3.0, 4.0, 5.0))


@pytest.mark.parametrize(
    ("clip", "fraction", "seconds"),
    [
        (STEADY, 0.0, 1.0),
        (STEADY, 0.25, 1.5),
        (STEADY, 1.0, 3.0),
        (VARIABLE, 0.5, 4.0),
        (VARIABLE, 0.25, 2.0),
        (VARIABLE, 0.75, 4.5),
        (PART, 0.5, 4.0),
    ],
)
def test_fractions_and_seconds(clip, fraction, seconds):
    assert clip.seconds_at(fraction) == pytest.approx(seconds)
    assert clip.fraction_at(seconds) == pytest.approx(fraction)


def test_one_frame_is_always_its_own_time():
    assert ONE_FRAME.seconds_at(0.0) == ONE_FRAME.seconds_at(1.0) == 2.5
    assert ONE_FRAME.fraction_at(2.5) == pytest.approx(0.0)


def test_the_last_frame_lasts_one_frame():
    assert STEADY.fraction_at(3.09) == 1.0  # 10 frames a second
    with pytest.raises(MediaError, match=r"3.2 s is outside the clip: give a time from 1.000 to 3.000"):
        STEADY.fraction_at(3.2)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.5])
def test_times_outside_are_refused(seconds):
    with pytest.raises(MediaError, match="outside the clip"):
        STEADY.fraction_at(seconds)


def test_an_image_has_no_time():
    image = MediaInfo("image", 640, 360, source="dog.png")
    with pytest.raises(MediaError, match=r"dog\.png is an image"):
        image.seconds_at(0.5)


@pytest.mark.parametrize(
    "arguments",
    [("film", 1, 1), ("video", 1, 1), ("video", 1, 1, (0, 1), (0.0,))],
    ids=["type", "no frames", "lengths"],
)
def test_what_does_not_fit_together_is_refused(arguments):
    with pytest.raises(InputError):
        MediaInfo(*arguments)


def test_an_error_keeps_its_field_from_one_process_to_another():
    error = pickle.loads(pickle.dumps(MediaError("fps is 0; give more.", field="fps")))
    assert (type(error), str(error), error.field) == (MediaError, "fps is 0; give more.", "fps")
    assert InputError("this is wrong").field is None


def test_what_is_kept_for_speed_is_no_part_of_it():
    clip, fresh = replace(VARIABLE), replace(VARIABLE)
    assert clip.compute_seconds([0.25, 0.75]).tolist() == [2.0, 4.5]
    with pytest.raises(ValueError, match="read-only"):
        clip.frame_fractions[0] = 0.5
    assert (clip, hash(clip), repr(clip)) == (fresh, hash(fresh), repr(fresh))
    assert pickle.dumps(clip) == pickle.dumps(fresh)
    assert pickle.loads(pickle.dumps(clip)) == clip


def test_a_time_up_to_the_stated_end_and_one_frame_is_the_last_frame():
    clip = replace(STEADY, stated_end_seconds=3.5)  # its sound is longer than its pictures
    assert clip.fraction_at(3.5) == clip.fraction_at(3.59) == 1.0
    with pytest.raises(MediaError, match=r"3.7 s is outside the clip: give a time from 0.000 to 3.500"):
        clip.fraction_at(3.7)


def test_a_time_before_a_late_first_frame_is_the_first_frame():
    assert replace(STEADY, stated_end_seconds=3.1).fraction_at(0.0) == 0.0
    with pytest.raises(MediaError, match="outside the clip"):
        replace(PART, stated_end_seconds=5.1).fraction_at(0.0)  # a part of a file has frames before it


@pytest.mark.parametrize(
    ("count", "noun", "expected"),
    [(1, "box", "1 box"), (0, "box", "0 boxes"), (2000, "frame", "2,000 frames"), (2, "process", "2 processes")],
)
def test_a_count_has_its_noun_as_many(count, noun, expected):
    assert format_count(count, noun) == expected


def test_a_time_beyond_all_floats_is_outside_the_clip():
    media = MediaInfo("video", 20, 10, (0, 1), (0.0, 1.0))
    with pytest.raises(MediaError, match="outside the clip"):
        media.fraction_at(10**400)
