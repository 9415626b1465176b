"""Agreement of tubes: at the frames that a model saw, at every frame of a clip, and second by second.

The three are different metrics under near names; which one a metric is depends on the protocol.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...processing import InputError, Tube
from ...processing.grounding_results_llava_st import TubeArrays
from .overlap import compute_box_iou


class TubeIoU(NamedTuple):
    """
    How well two tubes agree, see `compute_tube_iou`.

    Args:
        spatial (`float`): sIoU, the mean over the frames that both tubes have; 0 where there are none.
        volume (`float`): vIoU, the same sum over the number of frames that either tube has.

    Example:

    ```python
    >>> TubeIoU(spatial=0.8, volume=0.4).volume
    0.4
    ```
    """

    spatial: float
    volume: float


def compute_tube_iou(answer: Tube, truth: Tube, frame_indices: Sequence[int]) -> TubeIoU:
    """
    Compare two tubes at the frames that the model saw.

    With S the frames that both tubes have, U those that either has and IoU(f) that of the two boxes at frame f:
    sIoU = sum over S of IoU(f) / |S| and vIoU = sum over S of IoU(f) / |U|.

    A box belongs to the seen frame that is nearest to its own (the earlier of two as near), since a model with more
    time tokens than frames may name a moment between two of them. Where several boxes of a tube belong to one frame
    the nearest counts, the last of those as near.

    Args:
        answer (`Tube`): Boxes in pixels, with the indices of their frames in the file.
        truth (`Tube`): The same.
        frame_indices (`Sequence[int]`): Indices in the file of the frames that the model saw.

    Returns:
        `TubeIoU`: Both values, from 0 to 1.

    Raises:
        `InputError`: If `frame_indices` is empty.

    Example:

    ```python
    >>> truth = Tube((TubeBox(0.0, 0, Box(0, 0, 10, 10)), TubeBox(1.0, 10, Box(0, 0, 10, 10))))
    >>> compute_tube_iou(Tube(truth.boxes[:1]), truth, frame_indices=(0, 10))
    TubeIoU(spatial=1.0, volume=0.5)
    ```
    """
    if not len(frame_indices):
        raise InputError("frame_indices is empty: give the frames that the model saw.")
    seen = np.unique(np.asarray(frame_indices))
    (answered, answered_boxes), (true, true_boxes) = _assign_boxes(answer, seen), _assign_boxes(truth, seen)
    shared = answered & true
    if not shared.any():
        return TubeIoU(0.0, 0.0)
    ious = compute_box_iou(answered_boxes[shared], true_boxes[shared])
    return TubeIoU(float(ious.mean()), float(ious.sum() / (answered | true).sum()))


def _assign_boxes(tube: Tube, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which seen frames have a box of a tube, of shape (seen,), and the boxes, of shape (seen, 4)."""
    indices = tube.arrays.frame_indices
    after = np.minimum(np.searchsorted(seen, indices), len(seen) - 1)
    before = np.maximum(after - 1, 0)
    places = np.where(np.abs(indices - seen[before]) <= np.abs(indices - seen[after]), before, after)
    # Those that are far come first, then those that come first in the tube: what is written last, counts.
    order = np.argsort(-np.abs(indices - seen[places]), kind="stable")
    has_box, boxes = np.zeros(len(seen), dtype=bool), np.zeros((len(seen), 4))
    has_box[places], boxes[places[order]] = True, tube.arrays.boxes_pixels[order]
    return has_box, boxes


def interpolate_tube(tube: Tube, frames: ArrayLike) -> np.ndarray:
    """
    Compute the boxes of a tube at any frames: between two boxes it moves evenly, beyond the ends these hold.

    Args:
        tube (`Tube`): Boxes in pixels, with the indices of their frames; of several at one frame the last counts.
        frames (`ArrayLike`): Frame indices of shape (frames,).

    Returns:
        `np.ndarray`: float64 of shape (frames, 4).

    Example:

    ```python
    >>> tube = Tube((TubeBox(0.0, 0, Box(0, 0, 10, 10)), TubeBox(1.0, 10, Box(10, 0, 20, 10))))
    >>> interpolate_tube(tube, [5])
    array([[ 5.,  0., 15., 10.]])
    ```
    """
    indices, boxes = _take_last(tube)
    return np.stack([np.interp(frames, indices, edge) for edge in boxes.T], axis=-1)


def compute_frame_tube_iou(
    answer: Tube | None, answer_range: Sequence[int], truth: Tube, truth_range: Sequence[int]
) -> float:
    """
    Compute vIoU over every frame of a clip, as VidSTG and HC-STVG are scored.

    With A and B the frames of two half-open ranges, vIoU = sum over A n B of IoU(f) / |range from the first to the
    last of both|. The answer is interpolated to every frame; a frame of the truth without a box adds 0.

    Args:
        answer (`Tube`, *optional*): Boxes of the answer, at some frames at least; without any vIoU is 0.
        answer_range (`Sequence[int]`): First frame of the answer, and one past its last.
        truth (`Tube`): Boxes of the truth, at each of its frames.
        truth_range (`Sequence[int]`): The range of the truth; a data set whose end is its last frame loses that.

    Returns:
        `float`: From 0 to 1.

    Example:

    ```python
    >>> tube = Tube(tuple(TubeBox(frame / 10, frame, Box(0, 0, 10, 10)) for frame in range(10)))
    >>> compute_frame_tube_iou(tube, (0, 10), tube, (0, 9))  # a perfect answer, with the truth's end left out
    0.9
    ```
    """
    first, end = max(answer_range[0], truth_range[0]), min(answer_range[1], truth_range[1])
    if answer is None or end <= first:
        return 0.0
    frames, boxes = _take_last(truth)
    shared = (frames >= first) & (frames < end)
    ious = compute_box_iou(interpolate_tube(answer, frames[shared]), boxes[shared])
    return float(ious.sum() / (max(answer_range[1], truth_range[1]) - min(answer_range[0], truth_range[0])))


def join_tubes(tubes: Sequence[Tube]) -> Tube:
    """Return the boxes of several tubes, at least one, as one tube in order of time."""
    if len(tubes) == 1:
        return tubes[0]
    columns = [np.concatenate(column) for column in zip(*(tube.arrays[:3] for tube in tubes), strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Tube.from_arrays(TubeArrays(*(column[order] for column in columns)))


class SecondValues(NamedTuple):
    """How well two tubes agree second by second, see `compute_second_values`; `None` where a value is not defined."""

    t_precision: float | None  # |A n B| / |B|, with A the seconds of the truth, B those of the answer
    t_recall: float | None  # |A n B| / |A|
    t_iou: float | None  # |A n B| / |A u B|
    v_precision: float | None  # S / |B|, with S the sum of the boxes' IoU
    v_recall: float | None  # S / |A|
    v_iou: float | None  # S / |A u B|
    v_iou_shared: float | None  # S / |A n B|


def compute_second_values(answer: Tube | None, truth: Tube | None) -> SecondValues:
    """
    Compare two tubes second by second, as VUE-STG is scored.

    Times are rounded to the second, halves up, of whole milliseconds; of several boxes of a second the first counts;
    a second counts where its box has area.

    Args:
        answer (`Tube`, *optional*): Boxes in any unit, cut to the frame; `None` for no answer.
        truth (`Tube`, *optional*): The same.

    Returns:
        `SecondValues`: The seven values.

    Example:

    ```python
    >>> tube = Tube((TubeBox(0.0, 0, Box(0, 0, 1, 1)), TubeBox(1.0, 1, Box(0, 0, 1, 1))))
    >>> compute_second_values(Tube(tube.boxes[:1]), tube).v_recall
    0.5
    ```
    """
    (said, said_boxes), (true, true_boxes) = take_seconds(answer), take_seconds(truth)
    _, places, true_places = np.intersect1d(said, true, assume_unique=True, return_indices=True)
    total = float(compute_box_iou(said_boxes[places], true_boxes[true_places]).sum())
    shared, either = len(places), len(said) + len(true) - len(places)

    def divide(value: float, count: int) -> float | None:
        return value / count if count else None

    return SecondValues(
        *(divide(shared, count) for count in (len(said), len(true), either)),
        *(divide(total, count) for count in (len(said), len(true), either, shared)),
    )


def take_seconds(tube: Tube | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds of a tube that have a box with area, in order, and the first box of each."""
    if tube is None:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 4))
    seconds, places = np.unique(round_seconds(tube.arrays.seconds), return_index=True)
    boxes = tube.arrays.boxes_pixels[places]
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(-1)
    return seconds[has_area], boxes[has_area]


def compute_best_ious(answer: Tube | None, truth: Tube) -> np.ndarray:
    """
    Return the largest IoU of all boxes of an answer, at each second that the truth has a box at.

    Args:
        answer (`Tube`, *optional*): Any number of boxes a second, rounded to it; `None` for no answer.
        truth (`Tube`): The true boxes; of several in a second the first counts.

    Returns:
        `np.ndarray`: float64 of shape (seconds,), 0 where the answer has no box.
    """
    true, true_boxes = take_seconds(truth)
    best = np.zeros(len(true))
    if answer is None or not len(true):
        return best
    seconds = round_seconds(answer.arrays.seconds)
    places = np.minimum(np.searchsorted(true, seconds), len(true) - 1)
    is_true = true[places] == seconds
    ious = compute_box_iou(answer.arrays.boxes_pixels[is_true], true_boxes[places[is_true]])
    np.maximum.at(best, places[is_true], ious)
    return best


def round_seconds(seconds: np.ndarray) -> np.ndarray:
    """Round times to the second, halves up, of whole milliseconds."""
    return (2 * np.rint(seconds * 1000).astype(np.int64) + 1000) // 2000


def _take_last(tube: Tube) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames of a tube in order, each once, and the last box of each."""
    indices = tube.arrays.frame_indices
    frames, places = np.unique(indices[::-1], return_index=True)
    return frames, tube.arrays.boxes_pixels[len(indices) - 1 - places]
