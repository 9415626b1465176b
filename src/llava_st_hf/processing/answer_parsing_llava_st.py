"""Reading the text of an answer into seconds and pixels.

The text is whatever a model wrote: it may be malformed, repeated or cut off. Three rules hold for all of it.

1. Nothing raises. What is missing or malformed becomes a `Problem` that says what, why and where.
2. A group is read if its meaning is complete, even where its form is not (an unclosed bracket, the wrong bracket): a
   coordinate names its axis, so two times are a span and two widths and two heights are a box. Otherwise the whole
   group is left out; no value is ever clipped, swapped or guessed.
3. Whatever is there is read, whatever the task asked for.

The notation cuts the text into lexemes (coordinates and brackets), and the lexemes are walked once, so the time is
linear in the length of the text. A tube whose form is faultless is one lexeme, and its boxes are read all at once.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from .answer_captions_llava_st import AnswerGroup, has_words, read_captions
from .answer_formats_llava_st import AnswerFormat, get_answer_format
from .answer_problems_llava_st import Problem, ProblemKind
from .grounding_results_llava_st import Box, GroundingResult, Span, Tube, TubeArrays, TubeBox
from .media_llava_st import MediaInfo
from .notation_llava_st import AXES, NOTATION, CoordinateVocabulary, Lexeme, Notation, WholeTube

# From the place of a coordinate token in the text to its fraction and confidence, where scores tell them.
Refinements = Mapping[int, tuple[float, float | None]]
_NUMBERS = re.compile(r"\s*(\d?\.?\d{1,9})\s*,\s*(\d?\.?\d{1,9})\s*(?:,\s*(\d?\.?\d{1,9})\s*,\s*(\d?\.?\d{1,9})\s*)?")
_ENDS_IN = re.compile(r"\bends?\s{1,3}(?:in|at|on)\W{0,3}\Z", re.IGNORECASE)


class _Taken(NamedTuple):
    """A bracketed run of coordinates; `defect` is what is wrong with its brackets, `next` the lexeme after it."""

    bracket: str
    members: list[Lexeme]
    start: int
    end: int
    next: int
    defect: ProblemKind | None


def parse_answer(
    text: str,
    media: MediaInfo,
    *,
    answer_format: AnswerFormat | str | None = None,
    vocabulary: CoordinateVocabulary | None = None,
    start_seconds: float | None = None,
    task: str | None = None,
    query: str | None = None,
    refinements: Refinements | None = None,
    notation: Notation = NOTATION,
) -> GroundingResult:
    """
    Read an answer of the model; no text whatever raises.

    Args:
        text (`str`): The answer, coordinate tokens included, special tokens taken out.
        media (`MediaInfo`): The clip or image that was asked about; turns fractions into seconds and pixels.
        answer_format (`AnswerFormat` or `str`, *optional*):
            One of `ANSWER_FORMATS`, or its name. Says how captions are cut out and what counts as missing. Without it
            captions are read wherever words stand by a box or a span, and nothing counts as missing.
        vocabulary (`CoordinateVocabulary`, *optional*): Of N tokens `<t_k>` is k / (N - 1); 100 an axis by default.
        start_seconds (`float`, *optional*):
            Start of the event where the prompt gave it, in seconds; with it "Ends in <t_5>" is a span.
        task (`str`, *optional*): Kept in the result.
        query (`str`, *optional*): Kept in the result.
        refinements (`Mapping[int, tuple[float, float | None]]`, *optional*):
            Where scores refine a token below its bin: from the offset in characters of the token in `text` to its
            fraction and confidence, which then stand for the token.
        notation (`Notation`, *optional*): How the answer is written.

    Returns:
        `GroundingResult`: spans, boxes, tubes, captions and problems; `PROBLEM_KINDS` says what becomes of a value
        with a problem.

    Raises:
        `InputError`: For a wrong argument other than the text: an unknown format, a start outside the clip.

    Example:

    ```python
    >>> clip = MediaInfo("video", 640, 360, frame_indices=(0, 99), frame_seconds=(0.0, 9.9))
    >>> parse_answer("It occurs at {<t_10><t_20>}.", clip, answer_format="span").spans
    (Span(start_seconds=1.0, end_seconds=2.0, confidence=None),)
    ```
    """
    if answer_format is not None:
        answer_format = get_answer_format(answer_format)
    reader = _Reader(text, media, vocabulary or CoordinateVocabulary(), notation, start_seconds, refinements or {})
    reader.read()
    captions = read_captions(text, reader.groups, answer_format, notation)
    if answer_format is not None and not all(caption.text for caption in captions):
        reader.report("missing_caption", "Words are missing beside a span or a box.")
    _check_against_format(reader, answer_format)
    return GroundingResult(
        text=text,
        spans=tuple(reader.spans),
        boxes=tuple(reader.boxes),
        tubes=tuple(reader.tubes),
        captions=tuple(caption for caption in captions if caption.text),
        problems=tuple(sorted(reader.problems, key=lambda problem: (problem.start, problem.end))),
        task=task,
        query=query,
        media=media,
    )


class _Reader:
    """One walk over the lexemes of an answer; collects what it reads and what it cannot read."""

    def __init__(
        self,
        text: str,
        media: MediaInfo,
        vocabulary: CoordinateVocabulary,
        notation: Notation,
        start_seconds: float | None,
        refinements: Refinements,
    ):
        self.text, self.media, self.vocabulary, self.notation = text, media, vocabulary, notation
        self.is_video = media.media_type == "video"
        has_start = start_seconds is not None and self.is_video
        self.start_fraction = media.fraction_at(start_seconds) if has_start else None
        self.spans: list[Span] = []
        self.boxes: list[Box] = []
        self.tubes: list[Tube] = []
        self.groups: list[AnswerGroup] = []
        self.problems: list[Problem] = []
        self.is_truncated = False
        self.wrapper: Lexeme | None = None  # the open bracket around a tube
        self.whole_tubes: dict[int, TubeArrays] = {}  # by their start
        self.refinements = refinements
        self.written: dict[int, float | None] = {}  # what a refined token itself says, by its start
        self.tube: dict[float, TubeBox] | TubeArrays = {}
        self.tube_range: tuple[int, int] | None = None  # lexeme positions of the tube being read
        self.tube_time = -1.0
        self.end = len(text)
        self.lexemes = self._list_lexemes()
        if self.end < len(text):
            self._report_truncated(self.end, "a coordinate")
        # words[i]: how many of the gaps before lexeme i hold words; words[-1] counts the text after the last too.
        ends = [0, *(lexeme.end for lexeme in self.lexemes)]
        starts = [*(lexeme.start for lexeme in self.lexemes), max(self.end, ends[-1])]
        gaps = (text[end:start] for end, start in zip(ends, starts, strict=True))
        self.words = list(accumulate(bool(gap) and has_words(gap) for gap in gaps))

    def report(self, kind: ProblemKind, message: str, start: int = 0, end: int | None = None) -> None:
        """Note a problem; without a place it is about the whole answer."""
        excerpt = "" if end is None else self.text[start : min(end, start + 80)]
        self.problems.append(Problem(kind, message, excerpt, start, len(self.text) if end is None else end))

    def read(self) -> None:
        """Read all groups."""
        i = 0
        while i < len(self.lexemes):
            if self.lexemes[i].kind in "[{":
                i = self._read_opening(i)
            elif self.lexemes[i].kind in "]}":
                i = self._read_closing(i)
            elif self.lexemes[i].kind == "tube":
                i = self._read_whole_tube(i)
            else:
                i = self._read_bare(i)
        self._finish_tube()
        self._close_wrapper(closing=None)
        self._check_tubes_against_spans()
        self.groups.sort(key=lambda group: group.start)  # a tube is noted when it ends

    # Lexemes

    def _list_lexemes(self) -> list[Lexeme]:
        """Cut the text into lexemes; the value of a coordinate becomes its fraction, None if it cannot be read."""
        lexemes, position = [], 0
        # About an image there are no tubes, and a refined box has numbers of its own.
        one_by_one = not self.is_video or self.refinements
        for tube in () if one_by_one else self.notation.find_whole_tubes(self.text):
            if (arrays := self._compute_arrays(tube)) is not None:
                lexemes += self.notation.lex(self.text, position, tube.start)
                lexemes.append(Lexeme("tube", None, "", tube.start, tube.end, ""))
                self.whole_tubes[tube.start] = arrays
                position = tube.end
        lexemes += self.notation.lex(self.text, position)
        if lexemes and lexemes[-1].kind == "<":  # it holds no words
            self.end = lexemes.pop().start
        return [self._read_coordinate(lexeme) if lexeme.kind in AXES else lexeme for lexeme in lexemes]

    def _read_coordinate(self, lexeme: Lexeme) -> Lexeme:
        kind, value, unit, start, end = lexeme[:5]
        last = self.vocabulary.size(kind) - 1
        fraction = None
        if not lexeme.is_closed and end >= self.end:
            self._report_truncated(start, "a coordinate")
        elif not lexeme.is_closed:
            self.report("malformed_coordinate", "A coordinate is not closed by '>'.", start, end)
        elif value is None or unit not in ("bin", "fraction"):
            self.report("malformed_coordinate", "A coordinate holds no number that can be read.", start, end)
        elif unit == "bin" and value > last:
            self.report("out_of_range", f"The token index is over {last}, the last of its axis.", start, end)
        elif unit == "fraction" and not 0.0 <= value <= 1.0:
            self.report("out_of_range", "A continuous coordinate is outside 0 to 1.", start, end)
        else:
            fraction = value / last if unit == "bin" else abs(value)  # "-0" is 0
        if fraction is not None and start in self.refinements:
            self.written[start], fraction = fraction, self.refinements[start][0]
        return Lexeme(kind, fraction, unit, start, end, lexeme.text)

    def _compute_arrays(self, tube: WholeTube) -> TubeArrays | None:
        """Put a tube onto its clip; one with a fault is left to be read box by box."""
        fractions = tube.rows
        if tube.unit == "bin":
            fractions = fractions / np.array([self.vocabulary.size(axis) - 1 for axis in "txyxy"])
        times, boxes = fractions[:, 0], fractions[:, 1:]
        seconds = self.media.compute_seconds(times)
        is_clean = fractions.max() <= 1 and (boxes[:, :2] < boxes[:, 2:]).all()
        if not is_clean or (times[1:] <= times[:-1]).any() or (seconds[1:] < seconds[:-1]).any():
            return None
        pixels = boxes * np.array([self.media.width, self.media.height] * 2)
        return TubeArrays(seconds, self._compute_frames(times).astype(np.int64), pixels, times, boxes)

    def _compute_frames(self, fractions: np.ndarray) -> np.ndarray:
        # Parity: the published sampling rule, so a token's frame is the frame that was sampled for it.
        first, last = self.media.frame_indices[0], self.media.frame_indices[-1]
        return first + np.rint(fractions * (last - first))

    def _end_of(self, i: int) -> int:
        return self.lexemes[i].end if i >= 0 else 0

    def _kind(self, i: int) -> str | None:
        return self.lexemes[i].kind if i < len(self.lexemes) else None

    def _is_coordinate(self, i: int) -> bool:
        return i < len(self.lexemes) and self.lexemes[i].kind in AXES

    def _is_joined(self, i: int) -> bool:
        """Whether no words stand between lexeme i - 1 and lexeme i (or the end of the text)."""
        return self.words[i] == self.words[i - 1]

    def _starts_tube_entry(self, i: int) -> bool:
        is_entry = self._kind(i) == "t" and self._kind(i + 1) == "[" and self._is_joined(i + 1)
        return is_entry or self._kind(i) == "tube"

    def _ends_a_group(self, i: int) -> bool:
        if self.tube_range is not None:
            return self.tube_range[1] == i
        return bool(self.groups) and self.groups[-1].end == self.lexemes[i].end

    def _get_written(self, coordinate: Lexeme) -> float | None:
        """The fraction of a coordinate before scores refined it."""
        return self.written.get(coordinate.start, coordinate.value)

    def _get_confidence(self, members: Sequence[Lexeme]) -> float | None:
        """Confidence of a group: that of its least sure coordinate."""
        found = [self.refinements[member.start][1] for member in members if member.start in self.refinements]
        return min((confidence for confidence in found if confidence is not None), default=None)

    def _report_truncated(self, start: int, what: str) -> None:
        if not self.is_truncated:
            self.is_truncated = True
            self.report("truncated_answer", f"The answer ends inside {what}.", start, len(self.text))

    # Brackets

    def _read_opening(self, i: int) -> int:
        if self._starts_tube_entry(i + 1) and self._is_joined(i + 1):  # a bracket around a tube
            self._finish_tube()
            self._close_wrapper(closing=None)
            self.wrapper = self.lexemes[i]
            return i + 1
        taken = self._take_group(i)
        if taken.members:
            self._read_group(taken)
        return taken.next

    def _read_closing(self, i: int) -> int:
        if self.wrapper is not None:
            self._finish_tube()
            self._close_wrapper(closing=self.lexemes[i])
        elif i > 0 and self._is_joined(i) and self._ends_a_group(i - 1):
            lexeme = self.lexemes[i]
            self.report("wrong_bracket", "A bracket is closed that was not opened.", lexeme.start, lexeme.end)
        return i + 1

    def _close_wrapper(self, closing: Lexeme | None) -> None:
        wrapper, self.wrapper = self.wrapper, None
        if wrapper is None:
            return
        if closing is None:
            if self.words[-1] == self.words[len(self.lexemes) - 1] and self.groups[-1].end == self.lexemes[-1].end:
                self._report_truncated(wrapper.start, "a tube")
            else:
                self.report("unclosed_bracket", "The bracket around a tube is not closed.", wrapper.start, wrapper.end)
        elif wrapper.kind + closing.kind not in ("{}", "[]"):
            self.report("wrong_bracket", "The brackets around a tube differ.", closing.start, closing.end)

    def _take_group(self, i: int) -> _Taken:
        """Take the coordinates that belong to the opening bracket at lexeme i."""
        opening, j = self.lexemes[i], i + 1
        while self._is_coordinate(j):
            j += 1
        start, closing = opening.start, self._kind(j)
        if closing in ("]", "}"):
            members, end = self.lexemes[i + 1 : j], self.lexemes[j].end
            defect = None
            if opening.kind + closing not in ("{}", "[]"):
                defect = "wrong_bracket"
            elif members and self.words[j] != self.words[i]:
                defect = "text_in_group"
            if not members:
                members = self._read_bare_numbers(opening, self.lexemes[j])
                defect = "bare_numbers" if members else None
            return _Taken(opening.kind, members, start, end, j + 1, defect)
        j = next((k for k in range(i + 1, j) if not self._is_joined(k)), j)  # unclosed: up to the first word
        if j > i + 1 and self._starts_tube_entry(j - 1):
            j -= 1
        members = self.lexemes[i + 1 : j]
        at_end = j == len(self.lexemes) and self._is_joined(j)
        if at_end:
            self._report_truncated(start, "a group")
        return _Taken(opening.kind, members, start, self._end_of(j - 1), j, None if at_end else "unclosed_bracket")

    def _read_bare_numbers(self, opening: Lexeme, closing: Lexeme) -> list[Lexeme]:
        """Read `{0.1, 0.5}` or `[0.1, 0.2, 0.3, 0.4]`; the bracket says which axes are meant."""
        match = _NUMBERS.fullmatch(self.text, opening.end, closing.start)
        numbers = [(float(match[k]), *match.span(k)) for k in range(1, 5) if match[k]] if match else []
        axes = "xyxy" if opening.kind == "[" else "tt"
        if len(numbers) != len(axes) or any(value > 1.0 for value, _, _ in numbers):
            return []
        return [Lexeme(axis, value, "", *place, "") for axis, (value, *place) in zip(axes, numbers, strict=True)]

    # Groups

    def _read_group(self, taken: _Taken) -> None:
        is_span = 2 * sum(member.kind == "t" for member in taken.members) > len(taken.members)
        if is_span:
            self._finish_tube()
        value = self._read_span(taken) if is_span else self._read_box(taken)
        self._note("span" if is_span else "box", taken.start, taken.end, value)

    def _note(self, kind: str, start: int, end: int, value: Span | Box | Tube | None) -> None:
        self.groups.append(AnswerGroup(kind, start, end, value))
        if value is not None:
            {"box": self.boxes, "tube": self.tubes}.get(kind, self.spans).append(value)

    def _is_complete(self, taken: _Taken, axes: str, bracket: str, name: str) -> bool:
        """Check the number and the axes of the coordinates of a group, and report what is wrong with its form."""
        kinds = "".join(member.kind for member in taken.members)
        place = (taken.start, taken.end)
        if any(member.value is None for member in taken.members):
            return False  # reported where the coordinate was read
        if sorted(kinds) != sorted(axes):
            if taken.defect == "unclosed_bracket":
                message = f"A {name} is not closed and has {len(kinds)} of {len(axes)} coordinates."
                self.report("unclosed_bracket", message, *place)
            elif taken.defect or not self.is_truncated or taken.next < len(self.lexemes):  # else reported already
                message = f"A {name} needs {len(axes)} coordinates, here are {len(kinds)}."
                if len(kinds) == len(axes):
                    message = f"A {name} needs the axes {axes}, these are {kinds}."
                wrong_axis = len(kinds) == len(axes) or set(kinds) - set(axes)
                self.report("wrong_coordinate_axis" if wrong_axis else "wrong_coordinate_count", message, *place)
            return False
        if kinds != axes:
            self.report("wrong_coordinate_order", f"A {name} has its axes in the order {kinds}, not {axes}.", *place)
        if defect := taken.defect or ("wrong_bracket" if taken.bracket != bracket else None):
            self.report(defect, f"The form of a {name} is wrong, its coordinates are complete.", *place)
        return True

    def _read_span(self, taken: _Taken) -> Span | None:
        if not self._is_complete(taken, "tt", "{", "span"):
            return None
        start, end = taken.members
        fractions = (start.value, end.value)
        if fractions[0] > fractions[1]:  # of the same bin, refined past each other
            fractions = (self._get_written(start), self._get_written(end))
        return self._make_span(*fractions, self._get_confidence(taken.members), taken.start, taken.end)

    def _make_span(
        self, start: float, end: float, confidence: float | None, text_start: int, text_end: int
    ) -> Span | None:
        if not self.is_video:
            self.report("time_on_image", "A span makes no sense for an image.", text_start, text_end)
            return None
        start_seconds, end_seconds = self.media.seconds_at(start), self.media.seconds_at(end)
        if start > end or start_seconds > end_seconds:
            message = f"The span starts at {start_seconds:.3f} s and ends before, at {end_seconds:.3f} s."
            self.report("reversed_span", message, text_start, text_end)
            return None
        return Span(start_seconds, end_seconds, confidence, (start, end))

    def _read_box(self, taken: _Taken) -> Box | None:
        if not self._is_complete(taken, "xyxy", "[", "box"):
            return None
        x1, x2 = (member.value for member in taken.members if member.kind == "x")
        y1, y2 = (member.value for member in taken.members if member.kind == "y")
        if x1 >= x2 or y1 >= y2:
            self.report("degenerate_box", "The box has no area or is reversed.", taken.start, taken.end)
            return None
        width, height = self.media.width, self.media.height
        pixels = (x1 * width, y1 * height, x2 * width, y2 * height)
        return Box(*pixels, confidence=self._get_confidence(taken.members), fractions=(x1, y1, x2, y2))

    # Coordinates outside brackets: tubes, "Ends in", strays

    def _read_bare(self, i: int) -> int:
        lexeme = self.lexemes[i]
        if self._starts_tube_entry(i):
            return self._read_tube_entry(i)
        before = self.text[max(0, lexeme.start - 16) : lexeme.start]
        if lexeme.kind == "t" and _ENDS_IN.search(before):
            self._read_end(lexeme)
            return i + 1
        j = i + 1
        while self._is_coordinate(j) and self._is_joined(j) and not self._starts_tube_entry(j):
            j += 1
        at_end = j == len(self.lexemes) and self._is_joined(j)
        if at_end and j == i + 1 and lexeme.kind == "t" and self.tube_range and self._is_joined(i):
            self._report_truncated(lexeme.start, "a tube")
        elif not self.is_truncated or not at_end:
            self.report("stray_coordinate", "Coordinates outside any group.", lexeme.start, self._end_of(j - 1))
        return j

    def _read_end(self, lexeme: Lexeme) -> None:
        self._finish_tube()
        span = None
        if lexeme.value is None:
            pass  # reported where the coordinate was read
        elif not self.is_video:
            self.report("time_on_image", "An end makes no sense for an image.", lexeme.start, lexeme.end)
        elif self.start_fraction is None:
            seconds = self.media.seconds_at(lexeme.value)
            message = f"The answer gives only the end, {seconds:.3f} s: pass the start of the prompt as start_seconds."
            self.report("missing_start", message, lexeme.start, lexeme.end)
        else:
            end = lexeme.value if lexeme.value >= self.start_fraction else self._get_written(lexeme)
            confidence = self._get_confidence([lexeme])
            span = self._make_span(self.start_fraction, end, confidence, lexeme.start, lexeme.end)
        self._note("end", lexeme.start, lexeme.end, span)

    def _read_tube_entry(self, i: int) -> int:
        time, taken = self.lexemes[i], self._take_group(i + 1)
        self._go_on_with_tube(i, taken.next - 1)
        if taken.members:
            box = self._read_box(taken)
        else:
            box = None
            if not self.is_truncated:
                message = "A box has no coordinates that can be read."
                self.report("wrong_coordinate_count", message, time.start, taken.end)
        # The time of a box names a sampled frame, so it is never refined below its bin.
        if box is not None and (fraction := self._get_written(time)) is not None:
            self._add_to_tube(fraction, box, time.start, taken.end)
        return taken.next

    def _read_whole_tube(self, i: int) -> int:
        whole = self.lexemes[i]
        self._go_on_with_tube(i, i)
        arrays = self.whole_tubes[whole.start]
        if not self.tube:
            self.tube, self.tube_time = arrays, float(arrays.fractions[-1])
            return i + 1
        lexemes = self.notation.lex(self.text, whole.start, whole.end)
        starts = [lexeme.start for lexeme in lexemes if lexeme.kind == "t"]
        ends = [lexeme.end for lexeme in lexemes if lexeme.kind == "]"]
        for entry, start, end in zip(Tube.from_arrays(arrays).boxes, starts, ends, strict=True):
            self._add_to_tube(entry.fraction, entry.box, start, end)
        return i + 1

    def _go_on_with_tube(self, first: int, last: int) -> None:
        """Take lexemes into the tube, or begin another one behind words: these are about another object."""
        if self.tube_range and self.words[first] != self.words[self.tube_range[1]]:
            self._finish_tube()
        self.tube_range = (self.tube_range[0] if self.tube_range else first, last)
        if isinstance(self.tube, TubeArrays):
            self.tube = {entry.fraction: entry for entry in Tube.from_arrays(self.tube).boxes}

    def _add_to_tube(self, time: float, box: Box, start: int, end: int) -> None:
        if not self.is_video:
            if not self.tube:
                self.report("time_on_image", "A tube makes no sense for an image.", start, end)
            self.boxes.append(box)
            self.tube[time] = TubeBox(0.0, 0, box)
            return
        if time in self.tube:
            self.report("duplicate_time", "The tube gives this time twice; the last counts.", start, end)
        elif time < self.tube_time:
            self.report("non_increasing_time", "The tube goes back in time.", start, end)
        self.tube_time = time
        self.tube[time] = TubeBox(self.media.seconds_at(time), int(self._compute_frames(time)), box, time)

    def _finish_tube(self) -> None:
        if self.tube_range is None:
            return
        first, last = self.tube_range
        tube = None
        if isinstance(self.tube, TubeArrays):
            tube = Tube.from_arrays(self.tube)
        elif self.tube and self.is_video:
            # The second key is for clips whose time stamps stand still.
            tube = Tube(tuple(sorted(self.tube.values(), key=lambda entry: (entry.seconds, entry.fraction))))
        self._note("tube", self.lexemes[first].start, self.lexemes[last].end, tube)
        self.tube, self.tube_range, self.tube_time = {}, None, -1.0

    def _check_tubes_against_spans(self) -> None:
        if not self.spans:
            return
        # A time stands for all that is nearer to its bin than to the next one.
        slack = 0.5 / (self.vocabulary.size("t") - 1) + 1e-6
        start = self.media.seconds_at(min(span.fractions[0] for span in self.spans) - slack)
        end = self.media.seconds_at(max(span.fractions[1] for span in self.spans) + slack)
        for group in filter(lambda group: isinstance(group.value, Tube), self.groups):
            first, last = group.value.arrays.seconds[[0, -1]].tolist()
            if first < start - 1e-6 or last > end + 1e-6:
                message = f"The tube goes from {first:.3f} to {last:.3f} s, the span from {start:.3f} to {end:.3f} s."
                self.report("tube_outside_span", message, group.start, group.end)


def _check_against_format(reader: _Reader, answer_format: AnswerFormat | None) -> None:
    """Report what the format asks for and is not there, or is there more than once."""
    for name, found in (("span", reader.spans), ("box", reader.boxes), ("tube", reader.tubes)):
        if answer_format is None or name not in answer_format.parts:
            continue
        if not found:
            reader.report(f"missing_{name}", f"The answer has no {name} that can be read.")
        elif len(found) > 1 and name not in answer_format.several:
            reader.report(f"extra_{name}", f"The answer has {len(found)} {name}s where one was asked for.")


__all__ = ["Refinements", "parse_answer"]
