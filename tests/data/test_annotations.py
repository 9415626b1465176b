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
