import math

import pytest

from llava_st_hf.data.annotation_checks import check_frame, check_numbers, compute_box_fractions
from llava_st_hf.data.skips import RecordError


def test_a_box_may_reach_over_the_edge_a_little():
    assert compute_box_fractions([-2, 0, 100, 51], 100, 50, "box") == (0.0, 0.0, 1.0, 1.0)
    assert compute_box_fractions([-9.9, 0, 1000, 500], 1000, 500, "box") == (0.0, 0.0, 1.0, 1.0)  # 1 % of the side
    with pytest.raises(RecordError, match=r"box is \[-2.1, 0, 100, 50\]: it reaches far out"):
        compute_box_fractions([-2.1, 0, 100, 50], 100, 50, "box")
    with pytest.raises(RecordError, match="reaches far out"):
        compute_box_fractions([0, 0, 100, 52.1], 100, 50, "box")
    assert compute_box_fractions([-80, 0, 100, 90], 100, 50, "box", clip=True) == (0.0, 0.0, 1.0, 1.0)


def test_a_box_in_fractions_is_not_taken_for_pixels():
    for box in ([0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]):
        with pytest.raises(RecordError, match="in the first pixel of the frame of 100 x 50 pixels; give pixels"):
            compute_box_fractions(box, 100, 50, "box", clip=True)
    assert compute_box_fractions([0.5, 0, 1.5, 1], 100, 50, "box") == (0.005, 0.0, 0.015, 0.02)
    assert compute_box_fractions([0, 0, 1, 1], 1, 1, "box") == (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "box", [[5, 0, 5, 9], [5, 9, 6, 9], [6, 0, 5, 9], [-9, 0, 0, 9], [100, 0, 110, 9], [0, 50, 9, 60], [0, -9, 9, 0]]
)
def test_a_box_without_area_in_the_frame_is_an_error(box):
    with pytest.raises(RecordError):
        compute_box_fractions(box, 100, 50, "box", clip=True)


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
