import math

import pytest

from llava_st_hf.data.annotation_checks import check_frame, check_numbers
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
