"""Masks of a tube, in COCO's compressed run lengths: what `pycocotools` reads, written and read without it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .media_llava_st import MAX_FRAME_PIXELS, InputError, show

_FIRST_LETTER = 48  # of the 64 that hold 5 bits of a number, and whether more of it follow
_MOST_BITS = 60  # of a number that one who means well writes: longer ones take time without end


@dataclass(frozen=True)
class TubeMasks:
    """
    Which pixels an object covers, in each frame that was followed from the first box of its tube on.

    Args:
        frame_indices (`tuple[int, ...]`): Indices in presentation order of frames of the original file, ascending.
        seconds (`tuple[float, ...]`): Their times in seconds of the original file.
        rles (`tuple[Mapping[str, Any], ...]`):
            A mask for each, as COCO writes it: `size` (height and width in pixels of the frame as it is displayed)
            and `counts`. A mask without a pixel says that the object is not to be seen.

    Example:

    ```python
    >>> masks = TubeMasks((50,), (2.0,), (encode_mask(np.eye(3, dtype=bool)),))
    >>> masks.decode(50).sum()
    3
    ```
    """

    frame_indices: tuple[int, ...]
    seconds: tuple[float, ...]
    rles: tuple[Mapping[str, Any], ...]

    def __post_init__(self):
        if not len(self.frame_indices) == len(self.seconds) == len(self.rles):
            raise InputError(
                f"frame_indices has {len(self.frame_indices)} entries, seconds {len(self.seconds)} and rles "
                f"{len(self.rles)}: masks need one of each for every frame."
            )
        for rle in self.rles:
            _read_rle(rle)

    def __repr__(self) -> str:
        when = f", {self.seconds[0]:.2f} s to {self.seconds[-1]:.2f} s" if self.seconds else ""
        return f"TubeMasks({len(self.rles)} frames{when})"

    @cached_property
    def _by_frame(self) -> dict[int, Mapping[str, Any]]:
        return dict(zip(self.frame_indices, self.rles, strict=True))

    def find_rle(self, frame_index: int) -> Mapping[str, Any] | None:
        """Return the mask of a frame in COCO's form, `None` where there is none."""
        return self._by_frame.get(frame_index)

    def decode(self, frame_index: int) -> np.ndarray | None:
        """Return the mask of a frame, `bool` of shape (height, width), `None` where there is none."""
        rle = self.find_rle(frame_index)
        return None if rle is None else decode_mask(rle)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask, `bool` of shape (height, width), as COCO writes it: `size` and `counts`."""
    pixels = np.asarray(mask, dtype=bool).ravel(order="F")  # column by column
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    ends = [*([0] if pixels.size and pixels[0] else []), *changes.tolist(), pixels.size]  # runs start with 0s
    runs = np.diff(ends, prepend=0).tolist()
    letters = []
    for place, run in enumerate(runs):
        number = run - runs[place - 2] if place > 2 else run  # from the fourth on: how much longer than the last alike
        while True:
            bits, number = number & 31, number >> 5
            is_more = number != (-1 if bits & 16 else 0)
            letters.append(chr(_FIRST_LETTER + bits + 32 * is_more))
            if not is_more:
                break
    return {"size": [int(side) for side in mask.shape], "counts": "".join(letters)}


def decode_mask(rle: Mapping[str, Any]) -> np.ndarray:
    """Return a mask, `bool` of shape (height, width); `InputError` for what is no mask as COCO writes it."""
    height, width, counts = _read_rle(rle)
    runs, number, shift = [], 0, 0
    for letter in counts:
        bits = ord(letter) - _FIRST_LETTER
        number, shift = number | (bits & 31) << shift, shift + 5
        if shift > _MOST_BITS:
            break
        if not bits & 32:
            number -= 1 << shift if bits & 16 else 0
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number, shift = 0, 0
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise InputError(f"the counts of a mask do not fill its size of {height}x{width} pixels: give COCO's form.")
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return pixels.reshape(width, height).T


def _read_rle(rle: Mapping[str, Any]) -> tuple[int, int, str]:
    """Return height, width and counts of a mask; `InputError` for another form, or more pixels than a frame has."""
    size, counts = rle.get("size"), rle.get("counts")
    is_size = isinstance(size, (list, tuple)) and [type(side) for side in size] == [int, int] and min(size) >= 0
    if len(rle) != 2 or not is_size or not isinstance(counts, str) or math.prod(size) > MAX_FRAME_PIXELS:
        raise InputError(
            f"rles has {show(rle)}: give COCO's compressed form, size [height, width] and counts, a text."
        )
    return *size, counts


__all__ = ["TubeMasks", "decode_mask", "encode_mask"]
