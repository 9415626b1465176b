import math

import pytest

from llava_st_hf.data.annotation_checks import (
    check_frame,
    check_numbers,
    read_number,
    read_seconds,
    require_positive,
)
from llava_st_hf.data.skips import RecordError


@pytest.mark.parametrize("value", [None, True, -1, 1.5, math.nan, math.inf, "1.5", "-1", "", [1], 2**60])
def test_a_frame_is_a_whole_number(value):
    with pytest.raises(RecordError, match="frame is"):
        check_frame(value, "frame")


def test_a_frame_may_be_text():
    assert [check_frame(value, "frame") for value in (3, 3.0, "3")] == [3, 3, 3]


@pytest.mark.parametrize("value", [None, 3, "12", [1], [1, 2, 3], [1, True], [1, "2"], [1, math.nan], [10**400, 1]])
def test_numbers_are_counted_and_finite(value):
    with pytest.raises(RecordError, match=r"times is .*: give 2 "):
        check_numbers(value, 2, "times", "[start, end]")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3, 3),
        ("3.5", 3.5),
        (" 4 ", 4.0),
        ("1e1", 10.0),
        ("-2", -2.0),
        ("00:03.5", 3.5),
        ("2:05", 125.0),
        ("1:02:03", 3723.0),
        ("100:00:00.25", 360000.25),
        ("90:00", 5400.0),
        ("1:2:3:4", "1:2:3:4"),
        ("1:75", "1:75"),
        ("1:60:00", "1:60:00"),
        ("nan", "nan"),
        ("\u0663", "\u0663"),
        ("3 s", "3 s"),
        (None, None),
        ([1], [1]),
    ],
)
def test_times_are_read_in_many_forms(value, seconds):
    assert read_seconds(value) == seconds
    assert read_number(value) == (value if ":" in str(value) else seconds)


def test_a_number_above_0():
    assert require_positive({"fps": 29.97}, "fps") == 29.97
    assert require_positive({"fps": "25"}, "fps") == 25
    for raw in ({"fps": 0}, {"fps": "fast"}, {"fps": True}, {"fps": float("nan")}, {}):
        with pytest.raises(RecordError, match="fps"):
            require_positive(raw, "fps")
