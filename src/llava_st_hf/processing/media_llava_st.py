"""What the system remembers of an image or a clip, and the errors that bad input raises.

Every coordinate that the model reads or writes is a fraction of the media: of the width, of the height, or of the
way from the first to the last frame of the clip. `MediaInfo` is what turns those fractions into pixels of the
original frame and seconds of the original file, and back. It has no dependency but numpy, and it travels with the
processor's output, so that an answer can be put back onto the media it was asked about.
"""

import math
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

_JOINERS = "\u200c\u200d"  # which some scripts are not written without


def make_printable(text: str, kept: str = "") -> str:
    """
    Return a text without what a terminal obeys instead of showing it: control characters, turned directions.

    Args:
        text (`str`): The text.
        kept (`str`, *optional*, defaults to `""`): What else stays, such as `"\\n"`; other white space is a space.
    """
    if text.isprintable():
        return text
    text, kept = text.encode("utf-8", "backslashreplace").decode(), kept + _JOINERS
    return "".join(c if c.isprintable() or c in kept else " " if c.isspace() else "?" for c in text)


def format_count(count: int, noun: str) -> str:
    """Return a number with a noun as many: `1 box`, `2,000 boxes`."""
    ending = "" if count == 1 else "es" if noun.endswith(("x", "s", "ch")) else "s"
    return f"{count:,} {noun}{ending}"


def show(value: Any) -> str:
    """Return a value for a message: on one line, and not longer than that."""
    written = " ".join(repr(value).split())
    return written if len(written) <= 80 else written[:77] + "..."


class InputError(ValueError):
    """
    Raised for input that the user can fix; the message names the field, its value and the fix.

    Args:
        message (`str`): What is wrong, in one line.
        field (`str`, *optional*): The argument or field at fault, for callers that know it by another name.
    """

    def __init__(self, message: str = "", *, field: str | None = None):
        super().__init__(make_printable(message))
        self.field = field


class MediaError(InputError):
    """Raised when an image or a video cannot be found, read or sampled as asked."""


class MissingMediaError(MediaError):
    """Raised when there is no file of the name that was given."""


class EmptyMediaError(MediaError):
    """Raised when a medium has no frames or no pixels, or not those that are asked for."""


class OversizedMediaError(MediaError):
    """Raised when a picture or a clip is larger than what is opened."""


class PromptError(InputError):
    """Raised when a prompt cannot be written or read: a bad coordinate, a placeholder too many, too many tokens."""


class PromptLengthError(PromptError):
    """Raised when a prompt with its media has more tokens than it may have."""


# A frame above this many pixels (8K is 35 million at most) is refused: a file of a few kilobytes can claim 2**31 of
# them, and decoders hold several frames at a time.
MAX_FRAME_PIXELS = 36 * 2**20
# How the note begins that a clip has of frames whose times nobody knows.
UNKNOWN_RATE = "unknown_rate"


def is_finite(value: float) -> bool:
    """Tell whether a number is finite as a float; a whole number with hundreds of digits is not."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


@dataclass(frozen=True, repr=False)
class MediaInfo:
    """
    Size and time line of one image or clip, as the model saw it.

    Args:
        media_type (`str`): `"image"` or `"video"`.
        width (`int`): Width of the first frame as it is displayed: upright, in square pixels. In a clip whose frames
            differ in size, boxes have the same share of each.
        height (`int`): Height of it.
        frame_indices (`tuple[int, ...]`, *optional*, defaults to `()`):
            Index in presentation order of each sampled frame, one for each frame that the model sees; empty for an
            image.
        frame_seconds (`tuple[float, ...]`, *optional*, defaults to `()`):
            Time stamp (pts) in seconds of each sampled frame, as long as `frame_indices`.
        source (`str`, *optional*): Path or name of the media, for messages and for drawing.
        problems (`tuple[str, ...]`, *optional*, defaults to `()`):
            What was wrong with the file and was worked around, in words (for example undecodable frames).
        stated_end_seconds (`float`, *optional*):
            Where the clip ends: its file, as the longest of container, video and audio says, or the part that is
            meant. A time up to there and one frame more is that of the last frame. It says which times are taken,
            not what was answered: results are saved and compared without it.

    Example:

    ```python
    >>> clip = MediaInfo("video", 640, 360, frame_indices=(0, 50, 100), frame_seconds=(0.0, 2.0, 4.0))
    >>> clip.seconds_at(0.25)
    1.0
    ```
    """

    media_type: str
    width: int
    height: int
    frame_indices: tuple[int, ...] = ()
    frame_seconds: tuple[float, ...] = ()
    source: str | None = None
    problems: tuple[str, ...] = ()
    stated_end_seconds: float | None = field(default=None, compare=False, metadata={"is_saved": False})

    def __post_init__(self):
        if self.media_type not in ("image", "video"):
            raise MediaError(f"media_type is {self.media_type!r}: give 'image' or 'video'.")
        if self.media_type == "video" and (
            not self.frame_indices or len(self.frame_indices) != len(self.frame_seconds)
        ):
            raise MediaError(
                f"frame_indices has {len(self.frame_indices)} entries and frame_seconds {len(self.frame_seconds)}: "
                "a video needs one of each for every sampled frame."
            )

    def __repr__(self) -> str:
        parts = [f"{self.media_type} of {self.width}x{self.height} pixels"]
        if self.frame_indices:
            parts.append(
                f"{format_count(len(self.frame_indices), 'frame')} from {self.start_seconds:.2f} s to "
                f"{self.end_seconds:.2f} s"
            )
        parts += [
            f"{name}={value!r}" for name, value in (("source", self.source), ("problems", self.problems)) if value
        ]
        return f"MediaInfo({', '.join(parts)})"

    @property
    def start_seconds(self) -> float:
        """Time of the first sampled frame: the fraction 0."""
        return self.frame_seconds[0]

    @property
    def end_seconds(self) -> float:
        """Time of the last sampled frame: the fraction 1."""
        return self.frame_seconds[-1]

    @cached_property
    def frame_fractions(self) -> np.ndarray:
        """Fraction of each sampled frame on the way from the first to the last frame index, shape (frames,)."""
        first, last = self.frame_indices[0], self.frame_indices[-1]
        fractions = (np.asarray(self.frame_indices, dtype=np.float64) - first) / max(last - first, 1)
        fractions.flags.writeable = False  # it is kept
        return fractions

    @cached_property
    def _frame_seconds(self) -> np.ndarray:
        return np.asarray(self.frame_seconds, dtype=np.float64)

    def __getstate__(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}  # without what is kept for speed

    def _require_video(self) -> None:
        if self.media_type != "video":
            raise MediaError(f"{self.source or 'the image'} is an image: it has no time. Ask about a video instead.")

    def seconds_at(self, fraction: float) -> float:
        """Return the time in seconds at `fraction` (0 to 1) of the clip; follows variable frame rates."""
        return float(self.compute_seconds(fraction))

    def compute_seconds(self, fractions: np.ndarray) -> np.ndarray:
        """Return `seconds_at` of many fractions."""
        self._require_video()
        return np.interp(fractions, self.frame_fractions, self._frame_seconds)

    def fraction_at(self, seconds: float) -> float:
        """
        Return the fraction (0 to 1) of the clip at `seconds`; a time outside the clip raises `MediaError`.

        A time up to the stated end and one frame more means the last frame. Where the first frame of a file is shown
        late, a time from 0 on means it.
        """
        self._require_video()
        slack = (self.end_seconds - self.start_seconds) / max(self.frame_indices[-1] - self.frame_indices[0], 1)
        start, end = self.start_seconds, self.end_seconds
        if self.stated_end_seconds is not None:
            start = min(start, 0.0) if self.frame_indices[0] == 0 else start
            end = max(end, self.stated_end_seconds)
        if not is_finite(seconds) or not start - slack <= seconds <= end + slack:
            raise MediaError(f"the time {seconds} s is outside the clip: give a time from {start:.3f} to {end:.3f} s.")
        return float(np.interp(seconds, self._frame_seconds, self.frame_fractions))


__all__ = [
    "UNKNOWN_RATE",
    "EmptyMediaError",
    "InputError",
    "MediaError",
    "MediaInfo",
    "MissingMediaError",
    "OversizedMediaError",
    "PromptError",
    "PromptLengthError",
]
