"""Agreement of tubes against values worked out by hand."""

import pytest

from llava_st_hf.evaluation.metrics.tubes import (
    compute_frame_tube_iou,
    compute_second_values,
    compute_tube_iou,
    interpolate_tube,
    join_tubes,
)
from llava_st_hf.processing.grounding_results_llava_st import Box, Tube, TubeBox
from llava_st_hf.processing.media_llava_st import InputError


def make_tube(boxes: dict[int, tuple[float, float, float, float]]) -> Tube:
    return Tube(tuple(TubeBox(frame / 10, frame, Box(*box)) for frame, box in sorted(boxes.items())))


def test_tubes_are_compared_over_shared_frames_and_over_all():
    truth = make_tube(dict.fromkeys((2, 3, 4), (0, 0, 10, 10)))
    answer = make_tube({3: (0, 0, 10, 10), 4: (5, 0, 15, 10), 5: (0, 0, 10, 10)})
    ious = compute_tube_iou(answer, truth, frame_indices=range(10))
    assert ious.spatial == pytest.approx((1 + 1 / 3) / 2)
    assert ious.volume == pytest.approx((1 + 1 / 3) / 4)


def test_tubes_without_a_shared_frame():
    truth, answer = make_tube({1: (0, 0, 10, 10)}), make_tube({5: (0, 0, 10, 10)})
    assert compute_tube_iou(answer, truth, frame_indices=range(10)) == (0, 0)


def test_boxes_belong_to_the_nearest_seen_frame():
    seen = (0, 10, 20, 30)
    truth = make_tube({10: (0, 0, 10, 10), 20: (0, 0, 10, 10)})
    # 9 and 22 are 10 and 20. Of 9 and 12 the nearer counts, whichever comes last; 15 is as near to 10 as to 20.
    answer = make_tube({9: (0, 0, 10, 10), 12: (50, 50, 60, 60), 22: (5, 0, 15, 10)})
    ious = compute_tube_iou(answer, truth, seen)
    assert ious.spatial == ious.volume == pytest.approx((1 + 1 / 3) / 2)
    assert compute_tube_iou(make_tube({15: (0, 0, 10, 10)}), truth, seen) == (1.0, 0.5)


def test_two_boxes_as_near_to_a_frame():
    truth = make_tube({10: (0, 0, 10, 10)})
    answer = make_tube({8: (50, 50, 60, 60), 12: (0, 0, 10, 10)})
    assert compute_tube_iou(answer, truth, (0, 10, 20)).spatial == 1


def test_repeated_frames_of_a_short_clip_count_once():
    truth = make_tube({0: (0, 0, 10, 10), 1: (0, 0, 10, 10)})
    assert compute_tube_iou(truth, truth, frame_indices=(0, 0, 1, 1)) == (1, 1)


def test_tube_without_frames_is_refused():
    tube = make_tube({0: (0, 0, 10, 10)})
    with pytest.raises(InputError, match="frame_indices is empty"):
        compute_tube_iou(tube, tube, ())


def test_boxes_between_two_move_evenly_and_hold_at_the_ends():
    tube = make_tube({10: (0, 0, 10, 10), 20: (10, 0, 20, 10)})
    assert interpolate_tube(tube, [5, 10, 15, 20, 25])[:, 0].tolist() == [0, 0, 5, 10, 10]


def test_every_frame_of_two_ranges():
    truth = make_tube(dict.fromkeys(range(10, 20), (0, 0, 10, 10)))
    assert compute_frame_tube_iou(truth, (10, 20), truth, (10, 20)) == 1
    assert compute_frame_tube_iou(truth, (11, 21), truth, (10, 20)) == pytest.approx(9 / 11)
    # Two boxes are enough where the thing stands still; half of a box where it is half as large.
    sparse = make_tube({10: (0, 0, 10, 5), 19: (0, 0, 10, 5)})
    assert compute_frame_tube_iou(sparse, (10, 20), truth, (10, 20)) == pytest.approx(0.5)
    assert (
        compute_frame_tube_iou(truth, (30, 40), truth, (10, 20))
        == compute_frame_tube_iou(None, (10, 20), truth, (10, 20))
        == 0
    )


def test_second_by_second():
    truth = make_tube({0: (0, 0, 10, 10), 10: (0, 0, 10, 10), 20: (0, 0, 10, 10)})
    # At 0.9 s and 1.1 s: the first counts. At 2.4 s: half the box. At 5 s: none of the truth. At 7 s: no area.
    answer = make_tube(
        {9: (0, 0, 10, 10), 11: (50, 50, 60, 60), 24: (0, 0, 10, 5), 50: (0, 0, 1, 1), 70: (3, 3, 3, 9)}
    )
    found = compute_second_values(answer, truth)
    assert found == pytest.approx((2 / 3, 2 / 3, 2 / 4, 1.5 / 3, 1.5 / 3, 1.5 / 4, 1.5 / 2))
    assert compute_second_values(None, truth) == (None, 0, 0, None, 0, 0, None)
    assert (
        compute_second_values(make_tube({5: (0, 0, 1, 1)}), make_tube({10: (0, 0, 1, 1)})).t_iou == 1
    )  # halves go up


def test_boxes_of_joined_tubes_are_in_order_of_time():
    late, early = make_tube({10: (0, 0, 10, 10), 30: (0, 0, 10, 10)}), make_tube({20: (5, 0, 15, 10)})
    joined = join_tubes([late, early])
    assert [box.frame_index for box in joined.boxes] == [10, 20, 30]
    assert joined.boxes[1] == early.boxes[0]
    assert join_tubes([late]) is late
