import json

import numpy as np
import pytest

from llava_st_hf.processing.frame_sampling_llava_st import compute_frame_indices, compute_sampled_indices
from llava_st_hf.processing.media_llava_st import MediaError


def test_frame_indices_are_the_published_ones(parity_dir):
    rows = json.loads((parity_dir / "public" / "unit" / "frame_index.json").read_text())
    # The row with an upper bound takes another code path of the reference, which forgets where the clip starts.
    rows = [row for row in rows if "frames_upbound" not in row["func"]]
    assert len(rows) > 90
    for row in rows:
        first, last = row["split"] or (0, row["video_len"] - 1)
        num_frames = row["n_frms"] if "n_frms" in row else row["num_frames"]
        assert compute_frame_indices(num_frames, first, last).tolist() == row["frame_idx"], row


@pytest.mark.parametrize(
    ("num_frames", "first", "last", "expected"),
    [
        pytest.param(1, 5, 90, [5], id="one_is_first"),
        pytest.param(3, 0, 1, [0, 0, 1], id="half_goes_to_even_below"),
        pytest.param(3, 0, 3, [0, 2, 3], id="half_goes_to_even_above"),
        pytest.param(4, 7, 7, [7, 7, 7, 7], id="one_frame_clip"),
        pytest.param(2, 10, 20, [10, 20], id="both_ends"),
    ],
)
def test_compute_frame_indices(num_frames, first, last, expected):
    assert compute_frame_indices(num_frames, first, last).tolist() == expected


HUGE = 10**400


@pytest.mark.parametrize(
    "asked", [{"fps": HUGE}, {"fps": 1e308}, {"frame_range": (0, HUGE)}, {"time_range": (0, HUGE)}]
)
def test_numbers_beyond_all_floats_are_refused(asked):
    (field,) = asked
    with pytest.raises(MediaError) as caught:
        compute_sampled_indices("clip", np.arange(10) / 5, **asked)
    assert caught.value.field == field
