"""Coordinates of prompts and of answers that are to be learnt: read strictly, and turned into fractions of the media.

What cannot be read raises `PromptError` with the fix. What a model answers is read by `answer_parsing_llava_st`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from .media_llava_st import MediaInfo, PromptError
from .notation_llava_st import AXIS_NAMES, NOTATION, CoordinateVocabulary, Lexeme, Notation

_GROUPS = {
    "{": ("span", "tt", "a start and an end", (0.1, 0.5)),
    "[": ("box", "xyxy", "left, top, right, bottom", (0.1, 0.2, 0.5, 0.6)),
}


def compute_fraction(
    coordinate: Lexeme,
    media: Sequence[MediaInfo] = (),
    vocabulary: CoordinateVocabulary | None = None,
    preceding: int | None = None,
    notation: Notation = NOTATION,
) -> float:
    """
    Turn one coordinate into a fraction of its medium.

    Seconds and pixels are of the nearest medium that has them among the first `preceding` of a sample, which stand
    before the coordinate in the text (all by default), or of the first of all. A number outside its range, or units
    where the sample has no such medium, raise `PromptError`, a time outside the clip `MediaError`.
    """
    axis, value, unit = coordinate[:3]
    if unit == "bin":
        vocabulary = vocabulary or CoordinateVocabulary()
        if value >= vocabulary.size(axis):
            raise PromptError(
                f"the coordinate token {vocabulary.token(axis, value)} does not exist: give an index from 0 to "
                f"{vocabulary.size(axis) - 1}."
            )
        return vocabulary.fraction(axis, value)
    if unit == "fraction" and 0 <= value <= 1:
        return value
    if unit == "fraction":
        with_unit = notation.write_coordinate(axis, value, "seconds" if axis == "t" else "pixels")
        raise PromptError(
            f"the {AXIS_NAMES[axis]} coordinate {coordinate.text} is outside 0 to 1: write a fraction, or give its "
            f"unit as in {with_unit}."
        )
    # Only a clip has seconds: an image between the clip and the time does not take the time for itself.
    usable = [medium for medium in media if unit == "pixels" or medium.media_type == "video"]
    if not usable:
        required = "a video" if unit == "seconds" else "an image or a video"
        raise PromptError(
            f"the coordinate {coordinate.text} is in {unit}, but the sample has no such medium: give {required} with "
            f"the prompt, or write a fraction such as {notation.write_coordinate(axis, 0.35)}."
        )
    before = [medium for medium in media[:preceding] if any(medium is other for other in usable)]
    medium = before[-1] if before else usable[0]
    if unit == "seconds":
        return medium.fraction_at(value)
    size = medium.width if axis == "x" else medium.height
    if not 0 <= value <= size:
        raise PromptError(
            f"the {AXIS_NAMES[axis]} coordinate {coordinate.text} is outside the frame of "
            f"{medium.width}x{medium.height} pixels: give a value from 0 to {size}."
        )
    return value / size


def check_prompt_coordinates(text: str, is_answer: bool = False, notation: Notation = NOTATION) -> None:
    """
    Check the coordinates of a prompt as far as that is possible before the media are known.

    In an answer to be learnt any word may stand, and several units are not compared. An unreadable number, an unknown
    axis, a fraction outside [0, 1], and a span or box that is not one raise `PromptError`.
    """
    if not is_answer:
        check_misspelled(text, notation)
    lexemes = notation.lex(text)
    coordinates = notation.list_coordinates(lexemes)
    for coordinate in coordinates:
        if coordinate.unit == "fraction":
            compute_fraction(coordinate, notation=notation)
    if not is_answer or len({coordinate.unit for coordinate in coordinates}) == 1:
        check_groups(text, lexemes, notation=notation)


def check_misspelled(text: str, notation: Notation = NOTATION) -> None:
    """Raise `PromptError` for what can only be a coordinate with a slip of the pen, such as `<q=1s>` or `<t:3>`."""
    if (found := notation.find_misspelled(text)) is not None:
        examples = (("t", 0.35, "fraction"), ("t", 3.5, "seconds"), ("x", 12.5, "pixels"))
        *first, last = (notation.write_coordinate(*example) for example in examples)
        raise PromptError(
            f"{found} is no coordinate: the axes are t (time), x (width) and y (height), as in {', '.join(first)} or "
            f"{last}."
        )


def check_groups(
    text: str,
    lexemes: Sequence[Lexeme],
    fractions: Mapping[int, float] | None = None,
    notation: Notation = NOTATION,
) -> None:
    """
    Check every span and box of a text that is made of coordinates only; one that is not in order raises `PromptError`.

    Compared are `fractions`, those of the coordinates by their start, and a group with one that is not there is passed
    over. Without them numbers of one unit are compared as they are written.
    """
    for opening, members, end in _find_groups(text, lexemes):
        if fractions is not None and not all(member.start in fractions for member in members):
            continue
        name, axes, meaning, example = _GROUPS[opening.kind]
        found, written = [member.kind for member in members], text[opening.start : end]
        if "".join(found) != axes:
            raise PromptError(
                f"the {name} {written} holds {len(found)} coordinate{'s' * (len(found) != 1)} ({' '.join(found)}): a "
                f"{name} is {meaning}, {notation.write_values(axes, example)}."
            )
        half = len(members) // 2
        for low, high in zip(members[:half], members[half:], strict=True):
            difference = high.value - low.value if low.unit == high.unit else math.nan
            if fractions is not None:
                difference = fractions[high.start] - fractions[low.start]
            if name == "span" and difference < 0:
                raise PromptError(f"the span {written} ends before it starts: give the earlier time first.")
            if name == "box" and difference <= 0:
                raise PromptError(
                    f"the box {written} has no area: give the left top corner first, then the right bottom one."
                )


def _find_groups(text: str, lexemes: Sequence[Lexeme]) -> Iterator[tuple[Lexeme, Sequence[Lexeme], int]]:
    """Yield opening bracket, coordinates and end of each group that holds coordinates and nothing else."""
    first = None
    for index, lexeme in enumerate(lexemes):
        if lexeme.kind in _GROUPS:
            first = index
        elif lexeme.kind in "]}":
            if first is not None and lexemes[first].kind + lexeme.kind in ("{}", "[]") and index > first + 1:
                members, pairs = lexemes[first + 1 : index], pairwise(lexemes[first : index + 1])
                between = "".join(text[before.end : after.start] for before, after in pairs)
                # Brackets around words are words.
                if not between.strip(" ,;\n") and all(member.value is not None for member in members):
                    yield lexemes[first], members, lexeme.end
            first = None


__all__ = [
    "check_groups",
    "check_misspelled",
    "check_prompt_coordinates",
    "compute_fraction",
]
