import pytest

from llava_st_hf.data.annotations import AnnotatedBox, AnnotatedSpan
from llava_st_hf.data.skips import RecordError


@pytest.mark.parametrize(
    ("times", "unit", "found"),
    [
        ([3, 1], "seconds", r"window is \[3, 1\]: it ends before it starts; give \[start, end\] in seconds"),
        ([1], "frames", r"window is \[1\]: give 2 numbers, \[start, end\] in frames"),
        (None, "seconds", "window is None"),
        (["1", "2"], "seconds", "window is"),
        ([0.5, 1.2], "fraction", r"window is \[0.5, 1.2\]: give \[start, end\] as fractions"),
        ([-0.5, 1], "fraction", "as fractions"),
    ],
)
def test_a_span_is_two_numbers_in_order(times, unit, found):
    with pytest.raises(RecordError, match=found) as caught:
        AnnotatedSpan(times, unit, field="window")
    assert caught.value.field == "window"


def test_a_box_is_four_numbers():
    assert AnnotatedBox([1, 2, 3, 4]).xyxy == (1, 2, 3, 4)
    assert AnnotatedBox([1, 2, 3, 4], "xywh").xyxy == (1, 2, 4, 6)
    with pytest.raises(RecordError, match=r"bbox is \[1, 2, 3\]: give 4 numbers, \[left, top, width, height\]"):
        AnnotatedBox([1, 2, 3], "xywh", field="bbox")


def test_a_box_may_reach_over_the_edge_a_little():
    assert AnnotatedBox([-2, 0, 100, 51]).compute_fractions((100, 50)) == (0.0, 0.0, 1.0, 1.0)
    assert AnnotatedBox([-9.9, 0, 1000, 500]).compute_fractions((1000, 500)) == (0.0, 0.0, 1.0, 1.0)  # 1 % of the side
    with pytest.raises(RecordError, match=r"box is \[-2.1, 0, 100, 50\]: it reaches far out"):
        AnnotatedBox([-2.1, 0, 100, 50]).compute_fractions((100, 50))
    with pytest.raises(RecordError, match="reaches far out"):
        AnnotatedBox([0, 0, 100, 52.1]).compute_fractions((100, 50))
    assert AnnotatedBox([-80, 0, 100, 90]).compute_fractions((100, 50), cut_overhang=True) == (0.0, 0.0, 1.0, 1.0)


def test_a_box_in_fractions_is_not_taken_for_pixels():
    for box in ([0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]):
        with pytest.raises(RecordError, match="in the first pixel of the frame of 100 x 50 pixels; give pixels"):
            AnnotatedBox(box).compute_fractions((100, 50), cut_overhang=True)
    assert AnnotatedBox([0.5, 0, 1.5, 1]).compute_fractions((100, 50)) == (0.005, 0.0, 0.015, 0.02)
    assert AnnotatedBox([0, 0, 1, 1]).compute_fractions((1, 1)) == (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "box", [[5, 0, 5, 9], [5, 9, 6, 9], [6, 0, 5, 9], [-9, 0, 0, 9], [100, 0, 110, 9], [0, 50, 9, 60], [0, -9, 9, 0]]
)
def test_a_box_without_area_in_the_frame_is_an_error(box):
    with pytest.raises(RecordError):
        AnnotatedBox(box).compute_fractions((100, 50), cut_overhang=True)


def test_a_box_in_shares_of_the_frame_needs_no_size():
    for unit, scale in (("fraction", 1), ("thousandth", 1000)):
        box = AnnotatedBox([0.1 * scale, 0.2 * scale, 0.3 * scale, 0.4 * scale], "xywh", unit)
        assert box.compute_fractions((640, 360)) == pytest.approx((0.1, 0.2, 0.4, 0.6))
        assert AnnotatedBox([0, 0, 1.009 * scale, scale], unit=unit).compute_fractions((9, 9)) == (0, 0, 1, 1)
        with pytest.raises(RecordError, match=f"it reaches far out of the frame of {scale} x {scale} {unit}s"):
            AnnotatedBox([0, 0, 1.02 * scale, scale], unit=unit).compute_fractions((640, 360))


def test_a_box_without_area_may_have_its_sides_given():
    with pytest.raises(RecordError, match=r"or box_format: xywh, if it is \[left, top, width, height\]"):
        AnnotatedBox([300, 100, 80, 60]).compute_fractions((640, 360))
    # As such they would reach out of the frame, or they are given so already.
    for numbers, form, sides in (
        ([600, 100, 80, 60], "xyxy", "right, bottom"),
        ([30, 10, -8, 6], "xywh", "width, height"),
    ):
        with pytest.raises(RecordError, match=rf"it has no area; give left, top, {sides} in pixels\.$") as caught:
            AnnotatedBox(numbers, form).compute_fractions((640, 360))
        assert str(numbers) in str(caught.value)  # as the file has them
