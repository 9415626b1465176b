"""What can be missing or malformed in an answer."""

from dataclasses import dataclass
from typing import Literal

ProblemKind = Literal[
    "missing_span",
    "missing_box",
    "missing_tube",
    "missing_caption",
    "missing_start",
    "extra_span",
    "extra_box",
    "extra_tube",
    "reversed_span",
    "degenerate_box",
    "wrong_coordinate_count",
    "wrong_coordinate_axis",
    "wrong_coordinate_order",
    "wrong_bracket",
    "unclosed_bracket",
    "text_in_group",
    "bare_numbers",
    "out_of_range",
    "malformed_coordinate",
    "stray_coordinate",
    "duplicate_time",
    "non_increasing_time",
    "tube_outside_span",
    "time_on_image",
    "truncated_answer",
]

# What each kind means, and what became of the value.
PROBLEM_KINDS: dict[ProblemKind, str] = {
    "missing_span": "The task asks for a span and none could be read.",
    "missing_box": "The task asks for a box and none could be read.",
    "missing_tube": "The task asks for a tube and none could be read.",
    "missing_caption": "The task asks for words beside a span or a box and there are none.",
    "missing_start": "The answer gives only the end ('Ends in') and the start was not passed; no span is made.",
    "extra_span": "The task asks for one span and there are more; all are kept, the first is the answer.",
    "extra_box": "The task asks for one box and there are more; all are kept, the first is the answer.",
    "extra_tube": "The task asks for one tube and there are more; all are kept, the first is the answer.",
    "reversed_span": "A span ends before it starts; left out.",
    "degenerate_box": "A box has its right edge not right of its left one, or its bottom not below its top; left out.",
    "wrong_coordinate_count": "A group has too few or too many coordinates; left out.",
    "wrong_coordinate_axis": "A group mixes axes that make neither a span nor a box; left out.",
    "wrong_coordinate_order": "A box has two widths and two heights in another order than x y x y; read by the names.",
    "wrong_bracket": "A span in square or a box in curly brackets, or two kinds mixed; read.",
    "unclosed_bracket": "A bracket is not closed; read if all coordinates are there, else left out.",
    "text_in_group": "Words stand between the coordinates of a group; the coordinates are read.",
    "bare_numbers": "A group holds plain numbers from 0 to 1 and no coordinate tokens; read as fractions.",
    "out_of_range": "A token index or a fraction is too large for its axis; its group is left out.",
    "malformed_coordinate": "A coordinate token cannot be read; its group is left out.",
    "stray_coordinate": "Coordinates stand outside any group; left out.",
    "duplicate_time": "A tube gives a time twice; the last box is kept.",
    "non_increasing_time": "A tube goes back in time; the boxes are put in order of time.",
    "tube_outside_span": "A tube has boxes before or after the span; kept.",
    "time_on_image": "The answer gives times but is about an image; the times are left out, the boxes kept.",
    "truncated_answer": "The text ends in the middle of a coordinate or a group; what is complete is read.",
}


@dataclass(frozen=True)
class Problem:
    """
    Something in an answer that is missing or malformed.

    Args:
        kind (`str`): One of `PROBLEM_KINDS`, where each is described.
        message (`str`): What and why, in a sentence.
        text (`str`): The piece of the answer (its first 80 characters); empty for something missing.
        start (`int`): Offset in characters of the piece in the answer; for something missing 0.
        end (`int`): Offset in characters after the piece; for something missing the length of the answer.

    Example:

    ```python
    >>> Problem("missing_box", "The answer has no box.", "", 0, 17).kind
    'missing_box'
    ```
    """

    kind: ProblemKind
    message: str
    text: str
    start: int
    end: int


__all__ = ["PROBLEM_KINDS", "Problem", "ProblemKind"]
