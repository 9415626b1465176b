import math

import pytest

from llava_st_hf.data.readers.tubes import (
    HOLD_SECONDS,
    SampledFrames,
    check_frame,
    check_numbers,
    choose_variant,
    compute_box_fractions,
    interpolate_boxes,
    write_box,
    write_end_caption,
    write_tube,
)
from llava_st_hf.data.skips import RecordError
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import MediaInfo
from llava_st_hf.processing.notation_llava_st import find_coordinates


def test_fractions_are_read_again_exactly():
    box = (1 / 3, 1e-7, 2 / 3 + 1e-16, math.nextafter(1, 0))
    assert [coordinate.value for coordinate in find_coordinates(write_box(box))] == list(box)
    result = parse_answer(write_box(box), MediaInfo("image", 1, 1), answer_format="box")
    assert not result.problems
    assert result.boxes[0].xyxy == pytest.approx(box, abs=1e-12)


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


def test_sampled_frames_are_those_of_the_published_code():
    assert SampledFrames(18, 205, 100).frames[:3] == [18, 20, 22]
    short = SampledFrames(3, 5, 100)
    assert short.frames == [3, 4, 5]
    assert [short.compute_fraction(frame, "frame") for frame in short.frames] == [0.0, 0.5, 1.0]
    assert SampledFrames(7, 7, 100).compute_fraction(7, "frame") == 0
    with pytest.raises(RecordError, match="frame is 6: it is outside of the clip"):
        short.compute_fraction(6, "frame")


def test_a_tube_needs_a_sampled_frame():
    clip = SampledFrames(0, 100, 11)
    assert clip.compute_tube({7: [0, 0, 5, 5], 10: [0, 0, 5, 5]}, 10, 10, "boxes") == [(0.1, (0.0, 0.0, 0.5, 0.5))]
    with pytest.raises(RecordError, match="none of them at one of the 11 sampled frames"):
        clip.compute_tube({7: [0, 0, 5, 5]}, 10, 10, "boxes")


def test_boxes_move_evenly_and_hold_half_a_second():
    first, last = (0.0, 0.0, 0.2, 0.2), (0.4, 0.4, 0.8, 0.8)
    boxes = {4.0: last, 2.0: first}
    found = interpolate_boxes(boxes, [1.4, 2 - HOLD_SECONDS, 2.0, 2.5, 3.0, 4.0, 4 + HOLD_SECONDS, 4.6])
    assert found[0] is None and found[-1] is None
    assert found[1] == found[2] == first
    assert found[3] == pytest.approx((0.1, 0.1, 0.35, 0.35))
    assert found[4] == pytest.approx((0.2, 0.2, 0.5, 0.5))
    assert found[5] == found[6] == last


def test_a_marked_gap_is_not_bridged():
    box = (0.0, 0.0, 0.2, 0.2)
    times = [2.0, 2.4, 2.6, 3.0, 3.4, 3.6, 4.0]
    found = interpolate_boxes({2.0: box, 3.0: None, 4.0: box}, times)
    assert [item is not None for item in found] == [True, True, False, False, False, True, True]
    # A gap that begins at once leaves nothing to hold.
    found = interpolate_boxes({2.0: box, 2.1: None, 9.0: None}, [2.0, 2.05, 2.1, 2.15])
    assert [item is not None for item in found] == [True, True, False, False]


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


def test_a_caption_ends_with_one_full_stop():
    tube = [(0.5, (0.0, 0.0, 0.5, 0.5))]
    for caption in ("a dog runs", "a dog runs. "):
        assert write_end_caption(0.5, caption, tube) == (
            f"Ends in <t=0.5>, a dog runs. Object bounding box: {write_tube(tube)}"
        )


def test_the_prompt_depends_on_the_name_alone():
    variants = [choose_variant("rec", "a", str(number), True) for number in range(50)]
    assert variants == [choose_variant("rec", "a", str(number), True) for number in range(50)]
    assert set(variants) == {0, 1, 2, 3}
    assert choose_variant("rec", "a", "1", False) == 0
