"""How coordinates, spans, boxes and tubes are written in a text, and how they are read again.

Three ways to write one coordinate, on the axes `t` (time), `x` (width) and `y` (height):

- `<t=0.409>`, `<x=0.35>`: a fraction of the clip or of the frame, in [0, 1];
- `<t=3.5s>`, `<x=120px>`: seconds of the file or pixels of the original frame, which need the media to be known;
- `<t_41>`: a token of the vocabulary itself.

A span is `{<t..><t..>}`, a box `[<x..><y..><x..><y..>]`, top left corner first, a tube `<t..>:[box], <t..>:[box]`.

A `Notation` cuts a text into lexemes and writes them. The lexer never raises; how strict a reader is, is its own
affair: `prompt_coordinates_llava_st` raises an error for what `answer_parsing_llava_st` reports and goes on.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .media_llava_st import InputError, PromptError

AXES = "tyx"  # in the order of the ids of their tokens
AXIS_NAMES = {"t": "time", "x": "width", "y": "height"}
AXIS_UNITS = {"t": ("s", "seconds"), "x": ("px", "pixels"), "y": ("px", "pixels")}  # as written, as in a `Lexeme`
_CLOSING = {"{": "}", "[": "]"}
_BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))

BoxFractions = tuple[float, float, float, float]
TubeEntries = Sequence[tuple[float, BoxFractions]]


@dataclass(frozen=True)
class CoordinateVocabulary:
    """
    The coordinate tokens of a model: `<t_0>`, `<t_1>`, ... `<y_0>`, ... `<x_0>`, ... with ids in this order.

    Example:

    ```python
    >>> vocabulary = CoordinateVocabulary(num_temporal_tokens=10, offset=1000)
    >>> vocabulary.locate(1012), vocabulary.token("y", 2), vocabulary.fraction("t", 9)
    (('y', 2), '<y_2>', 1.0)
    ```
    """

    num_temporal_tokens: int = 100  # number of time tokens
    num_spatial_tokens: int = 100  # number of tokens of each of height and width
    offset: int | None = None  # id of `<t_0>`, where ids matter

    def __post_init__(self):
        for name in ("num_temporal_tokens", "num_spatial_tokens"):
            if getattr(self, name) < 2:
                raise InputError(f"{name} is {getattr(self, name)}: an axis needs 2 tokens or more, for its two ends.")

    def __len__(self) -> int:
        return self.num_temporal_tokens + 2 * self.num_spatial_tokens

    def size(self, axis: str) -> int:
        """Return how many tokens an axis has."""
        return self.num_temporal_tokens if axis == "t" else self.num_spatial_tokens

    @staticmethod
    def token(axis: str, bin_index: int) -> str:
        """Return the token of a bin, for example `"<t_41>"`."""
        return f"<{axis}_{bin_index}>"

    @property
    def tokens(self) -> list[str]:
        """All tokens in the order of their ids."""
        return [self.token(axis, index) for axis in AXES for index in range(self.size(axis))]

    def first_id(self, axis: str) -> int:
        """Return the id of the first token of an axis."""
        return self.offset + sum(self.size(before) for before in AXES[: AXES.index(axis)])

    def locate(self, token_id: int) -> tuple[str, int]:
        """Return axis and bin of the id of a coordinate token."""
        axis = next(axis for axis in reversed(AXES) if token_id >= self.first_id(axis))
        return axis, token_id - self.first_id(axis)

    def contains(self, ids: Any, axes: str = AXES) -> Any:
        """Tell which ids, of an array or a tensor, are coordinate tokens, of all axes or of neighbours in `AXES`."""
        return (ids >= self.first_id(axes[0])) & (ids < self.first_id(axes[-1]) + self.size(axes[-1]))

    def fraction(self, axis: str, bin_index: int) -> float:
        """Return the place of a bin on its axis, from 0 to 1."""
        return bin_index / (self.size(axis) - 1)

    def nearest(self, axis: str, fraction: float) -> int:
        """Return the bin that is nearest to a fraction."""
        return round(float(fraction) * (self.size(axis) - 1))

    def split(self, axis: str, fraction: float) -> tuple[int, float]:
        """
        Split a fraction p of an axis of N tokens into the bin k below it and the offset r: p (N - 1) = k + r.

        What is outside [0, 1] counts as the nearer end. The offset is in [0, 1), as a float32 holds it; the end of the
        axis is k = N - 1, r = 0.
        """
        position = min(max(float(fraction), 0.0), 1.0) * (self.size(axis) - 1)
        bin_index = math.floor(position)
        # Rounding to float32 may reach 1, which is the next bin's name for the same place: stay below.
        return bin_index, min(float(np.float32(position - bin_index)), _BELOW_ONE)


class Lexeme(NamedTuple):
    """
    One coordinate or one bracket as it stands in a text.

    Example:

    ```python
    >>> NOTATION.lex("until <t=3.5s>")[0][:5]
    ('t', 3.5, 'seconds', 6, 14)
    ```
    """

    # The axis of a coordinate, `"t"`, `"x"` or `"y"`, or the bracket: `"{"` and `"}"` hold a span, `"["` and `"]"` a
    # box. `"<"` is the start of a coordinate at the end of a text that is cut off there.
    kind: str
    value: float | None  # the number as written; `None` for a bracket and for what holds no number
    unit: str  # `"fraction"` of the clip or frame, `"seconds"`, `"pixels"`, or `"bin"` for a token `<t_41>`
    start: int  # index in the text of its first character
    end: int  # index in the text after its last character
    text: str  # what is written there
    is_closed: bool = True  # whether it is there to its end
    # Why it cannot stand in a prompt, in words; what has neither a problem nor a value is words there.
    problem: str | None = None


class WholeTube(NamedTuple):
    """A tube in faultless form: where it stands, and time, left, top, right, bottom of its boxes, (boxes, 5)."""

    start: int
    end: int
    unit: str  # "bin" or "fraction"
    rows: np.ndarray


class Notation(ABC):
    """
    A way to write coordinates in text.

    Another one is another class with the four abstract methods. Its lexemes cover what it writes: a reader takes
    letters and digits between two of them for words.
    """

    # To be written for each notation
    @abstractmethod
    def lex(self, text: str, start: int = 0, end: int | None = None) -> list[Lexeme]:
        """Return the coordinates and brackets of a text, or of a part of it, in their order; nothing raises."""

    @abstractmethod
    def write_coordinate(self, axis: str, value: float, unit: str = "fraction") -> str:
        """
        Write a number in the unit of a `Lexeme`, so that reading it again gives the same number.

        It also takes the place of a coordinate in a group that is written already.
        """

    @abstractmethod
    def write_group(self, axes: str, coordinates: Sequence[str]) -> str:
        """
        Put written coordinates together: `axes` is `"t"` for a time, `"tt"` for a span, `"xyxy"` for a box.

        Each is what `write_coordinate` wrote, a token, or a placeholder that must come back as it is.
        """

    @abstractmethod
    def write_entries(self, entries: Sequence[tuple[str, str]]) -> str:
        """Put the times and boxes of a tube together, each as `write_group` wrote it."""

    def find_whole_tubes(self, text: str) -> Iterator[WholeTube]:
        """Yield long runs of boxes whose form is faultless, which are then not read one by one; a matter of speed."""
        yield from ()

    def find_misspelled(self, text: str) -> str | None:
        """Return what can only be a coordinate with a slip of the pen."""
        return None

    # Writing
    def write_values(
        self,
        axes: str,
        values: Sequence[float],
        unit: str = "fraction",
        vocabulary: CoordinateVocabulary | None = None,
    ) -> str:
        """Write a time, a span or a box (axes `"t"`, `"tt"`, `"xyxy"`), with a vocabulary as its nearest tokens."""
        written = [
            self.write_coordinate(axis, value, unit)
            if vocabulary is None
            else vocabulary.token(axis, vocabulary.nearest(axis, value))
            for axis, value in zip(axes, values, strict=True)
        ]
        return self.write_group(axes, written)

    def write_time(self, fraction: float, vocabulary: CoordinateVocabulary | None = None) -> str:
        """Return `<t=0.1>`, with a vocabulary the nearest token."""
        return self.write_values("t", (fraction,), vocabulary=vocabulary)

    def write_span(
        self, start_fraction: float, end_fraction: float, vocabulary: CoordinateVocabulary | None = None
    ) -> str:
        """Return `{<t=0.1><t=0.5>}`, with a vocabulary the nearest tokens."""
        return self.write_values("tt", (start_fraction, end_fraction), vocabulary=vocabulary)

    def write_box(self, box: BoxFractions, vocabulary: CoordinateVocabulary | None = None) -> str:
        """Return `[<x=0.1><y=0.2><x=0.5><y=0.6>]` of the fractions left, top, right, bottom; or the nearest tokens."""
        return self.write_values("xyxy", box, vocabulary=vocabulary)

    def write_tube(self, entries: TubeEntries, vocabulary: CoordinateVocabulary | None = None) -> str:
        """Return `<t=0.1>:[box], <t=0.2>:[box]` of fractions, with a vocabulary the nearest tokens."""
        return self.write_entries(
            [(self.write_time(time, vocabulary), self.write_box(box, vocabulary)) for time, box in entries]
        )

    # Reading
    def list_coordinates(self, lexemes: Sequence[Lexeme]) -> list[Lexeme]:
        """Return the coordinates among the lexemes of a prompt; one that cannot be read raises `PromptError`."""
        for lexeme in lexemes:
            if lexeme.problem is not None:
                raise PromptError(lexeme.problem)
        return [lexeme for lexeme in lexemes if lexeme.value is not None]

    def find_coordinates(self, text: str) -> list[Lexeme]:
        """Return every coordinate of `text` in its order; one that cannot be read raises `PromptError`."""
        return self.list_coordinates(self.lex(text))

    def replace_coordinates(self, text: str, write: Callable[[Lexeme], str]) -> str:
        """Return a text with every coordinate replaced by what `write` makes of it; raises as `find_coordinates`."""
        pieces, end = [], 0
        for coordinate in self.find_coordinates(text):
            pieces += [text[end : coordinate.start], write(coordinate)]
            end = coordinate.end
        return "".join([*pieces, text[end:]])

    def remove_coordinates(self, text: str) -> str:
        """Return the words of an answer: coordinates, the brackets around them and what joins them are taken out."""
        lexemes = self.lex(text)
        part_of_group = [lexeme.kind in AXES for lexeme in lexemes]
        for i in reversed(range(len(lexemes) - 1)):  # an opening bracket goes with the coordinate after it
            part_of_group[i] |= lexemes[i].kind in _CLOSING and part_of_group[i + 1]
        for i in range(1, len(lexemes)):
            part_of_group[i] |= lexemes[i].kind in _CLOSING.values() and part_of_group[i - 1]
        pieces, position, was_group = [], 0, False
        for lexeme, is_group in zip(lexemes, part_of_group, strict=True):
            gap = text[position : lexeme.start]
            if not (was_group and is_group) or re.search(r"\w", gap):
                pieces.append(gap)
            pieces.append(" " if is_group else lexeme.text)
            position, was_group = lexeme.end, is_group
        words = " ".join("".join([*pieces, text[position:]]).split())
        words = re.sub(r" ([,.;:!?])", r"\1", words)
        # "{span}, sentence. {span}, sentence." leaves a comma at the start of each sentence.
        return re.sub(r"(^|[.!?])[,;:]+", r"\1", words).strip()

    def find_open_group(self, text: str) -> int | None:
        """Return where the group begins that a text ends in: a span or box without its end, or a time before a box."""
        lexemes = self.lex(text)
        i, end = len(lexemes) - 1, len(text)
        while i >= 0 and lexemes[i].kind in AXES and not text[lexemes[i].end : end].strip(" \t\r\n,;"):
            i, end = i - 1, lexemes[i].start
        is_open = i >= 0 and lexemes[i].kind in _CLOSING and not text[lexemes[i].end : end].strip(" \t\r\n,;")
        first, end = (i, lexemes[i].start) if is_open else (len(lexemes), len(text))
        if first > 0 and lexemes[first - 1].kind == "t" and text[lexemes[first - 1].end : end].strip() in ("", ":"):
            first -= 1
        return lexemes[first].start if first < len(lexemes) else None


# A coordinate, whole, malformed or cut off, or a bracket. What stands between a number and its `>` is looked at only,
# so that words behind an open coordinate stay words. No `<` lies inside, so each character is read twice at most.
_LEXEME = re.compile(r"<([txy])(\s*=|_)([^<>\[\]{}\s]{0,64})(?:(>)|(?=([^<>]*)>))?|[\[\]{}]|<[txy]?\s*\Z")
_DIGITS = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER = re.compile(rf"({_DIGITS})\s*([A-Za-z%]*)", re.ASCII)
# `<q=1s>`, `<T=0.5>` and `<t:3>`; `<p=0.05>`, `<n=5>` and `<b:1>` may be words of a question and stay plain text.
_MISSPELLED = re.compile(
    rf"<(?![txy]\s*=)(?:[A-Za-z]\s*=\s*{_DIGITS}\s*(?:s|px)|[TXY]\s*=\s*{_DIGITS}|"
    rf"[TXYtxy]\s*:\s*{_DIGITS}\s*(?:s|px)?)>"
)


def _make_tube_pattern(number: str) -> str:
    """Write a pattern of tubes whose coordinates are all of one form."""
    entry = r"{}[ \n]?:?[ \n]?\[{}{}{}{}\]".format(*(f"<{axis}{number}>" for axis in "txyxy"))
    return rf"{entry}(?:,?[ \n]?{entry})*"


_WHOLE_TUBE = re.compile(
    rf"(?P<bin>{_make_tube_pattern('_[0-9]{1,9}')})|"
    rf"(?P<fraction>{_make_tube_pattern('=(?:[0-9](?:[.][0-9]{0,40})?|[.][0-9]{1,40})')})"
)
_TO_NUMBERS = bytes(code if chr(code) in "0123456789." else ord(" ") for code in range(256))  # the rest is blank


class TokenNotation(Notation):
    """
    The notation that the model was trained with, see the top of this file.

    Example:

    ```python
    >>> TokenNotation().write_span(0.1, 0.5)
    '{<t=0.1><t=0.5>}'
    ```
    """

    def lex(self, text: str, start: int = 0, end: int | None = None) -> list[Lexeme]:
        """Return the coordinates and brackets of a text, or of a part of it, in their order; nothing raises."""
        lexemes = []
        for match in _LEXEME.finditer(text, start, len(text) if end is None else end):
            if match[1] is not None:
                lexemes.append(self._read_coordinate(match))
            elif match[0] in "[]{}" or match.end() == len(text):
                lexemes.append(Lexeme(match[0][0], None, "", *match.span(), match[0]))
        return lexemes

    def _read_coordinate(self, match: re.Match) -> Lexeme:
        axis, form, body, closing, rest = match.groups()
        (start, end), is_closed, problem = match.span(), closing is not None, None
        whole = match[0] if rest is None else f"{match[0]}{rest}>"
        if form == "_":
            if is_closed and body.isascii() and body.isdigit():
                return Lexeme(axis, int(body), "bin", start, end, whole)
            if (is_closed or rest is not None) and body.lstrip("+-")[:1].isdigit():
                problem = f"the coordinate token {whole} has no whole number: write for example <{axis}_41>."
            return Lexeme(axis, None, "bin", start, end, match[0], is_closed, problem)
        number = _NUMBER.fullmatch((body + (rest or "")).strip())
        value = float(number[1]) if number else math.nan
        suffix, unit = AXIS_UNITS[axis]
        if is_closed or rest is not None:
            if math.isfinite(value) and number[2] in ("", suffix):
                return Lexeme(axis, value, unit if number[2] else "fraction", start, start + len(whole), whole)
            fault = f"has the unit {number[2]!r}" if math.isfinite(value) else "is not a finite number"
            problem = (
                f"the {AXIS_NAMES[axis]} coordinate {whole} {fault}: write a fraction such as <{axis}=0.35>, or "
                f"{unit} such as <{axis}=120{suffix}>."
            )
        return Lexeme(axis, None, "fraction", start, end, match[0], is_closed, problem)

    def find_whole_tubes(self, text: str) -> Iterator[WholeTube]:
        """Yield the runs of boxes that need not be read one by one."""
        for match in _WHOLE_TUBE.finditer(text):
            dtype = np.int64 if match.lastgroup == "bin" else np.float64
            numbers = np.fromstring(match[0].encode("ascii").translate(_TO_NUMBERS), dtype, sep=" ")
            yield WholeTube(*match.span(), match.lastgroup, numbers.reshape(-1, 5))

    def find_misspelled(self, text: str) -> str | None:
        """Return what can only be a coordinate with a slip of the pen, such as `<q=1s>` or `<t:3>`."""
        match = _MISSPELLED.search(text)
        return match[0] if match else None

    def write_coordinate(self, axis: str, value: float, unit: str = "fraction") -> str:
        """Return for example `"<t=3.5s>"` of 3.5 seconds."""
        suffix = "" if unit == "fraction" else AXIS_UNITS[axis][0]
        number = repr(float(value))
        if "e" in number:  # 1e-05
            number = np.format_float_positional(value, trim="0")
        return f"<{axis}={number}{suffix}>"

    def write_group(self, axes: str, coordinates: Sequence[str]) -> str:
        """Put brackets around the coordinates of a span or a box."""
        opening = {"t": "", "tt": "{", "xyxy": "["}[axes]
        return opening + "".join(coordinates) + _CLOSING.get(opening, "")

    def write_entries(self, entries: Sequence[tuple[str, str]]) -> str:
        """Return `time:box, time:box`."""
        return ", ".join(f"{time}:{box}" for time, box in entries)


NOTATION: Notation = TokenNotation()
write_time, write_span = NOTATION.write_time, NOTATION.write_span
write_box, write_tube = NOTATION.write_box, NOTATION.write_tube

__all__ = [
    "AXES",
    "AXIS_NAMES",
    "AXIS_UNITS",
    "NOTATION",
    "BoxFractions",
    "CoordinateVocabulary",
    "Lexeme",
    "Notation",
    "TokenNotation",
    "TubeEntries",
    "WholeTube",
    "write_box",
    "write_span",
    "write_time",
    "write_tube",
]
