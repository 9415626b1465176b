"""Reading the text of an answer into seconds and pixels.

The text is whatever a model wrote: it may be malformed, repeated or cut off. Three rules hold for all of it.

1. Nothing raises. What is missing or malformed becomes a `Problem` that says what, why and where.
2. A group is read if its meaning is complete, even where its form is not (an unclosed bracket, the wrong bracket): a
   coordinate names its axis, so two times are a span and two widths and two heights are a box. Otherwise the whole
   group is left out; no value is ever clipped, swapped or guessed.
3. Whatever is there is read, whatever the task asked for.

The text is cut into lexemes (coordinates and brackets) by one regular expression whose every part is bounded, and the
lexemes are walked once, so the time is linear in the length of the text.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

from .answer_formats_llava_st import AnswerFormat, get_answer_format
from .grounding_results_llava_st import (
    Box,
    Caption,
    GroundingResult,
    Problem,
    ProblemKind,
    Span,
    Tube,
    TubeBox,
)
from .grounding_text_llava_st import LEXEME_PATTERN, remove_coordinates
from .media_llava_st import InputError, MediaInfo

_DECIMAL = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,40})?|\.\d{1,40})", re.ASCII)
_NUMBERS = re.compile(r"\s*(\d?\.?\d{1,9})\s*,\s*(\d?\.?\d{1,9})\s*(?:,\s*(\d?\.?\d{1,9})\s*,\s*(\d?\.?\d{1,9})\s*)?")
_CUT_COORDINATE = re.compile(r"<[txy]?\s*\Z")
_ENDS_IN = re.compile(r"\bends?\s{1,3}(?:in|at|on)\W{0,3}\Z", re.IGNORECASE)
_OBJECT_MARKER = re.compile(r"object bounding box(?:es)?\b", re.IGNORECASE)
_SENTENCE_END = re.compile("[.!?](?=\\s|\\Z)|[\n\u3002\uff01\uff1f]")
_WORD = re.compile(r"\w+")
_SEPARATORS = " \t\r\n,;:\u3001\uff0c\uff1a\uff1b"  # the last four: Chinese comma, colon and so on
_EXCERPT = 80


class _Lexeme(NamedTuple):
    """One coordinate or bracket: its kind (t, x, y or the bracket), place in the text and, if readable, value."""

    kind: str
    start: int
    end: int
    fraction: float | None = None
    confidence: float | None = None
    written: float | None = None  # the fraction of the token itself, where scores refined it


class _Taken(NamedTuple):
    """A bracketed run of coordinates; `defect` is what is wrong with its brackets, `next` the lexeme after it."""

    members: list[_Lexeme]
    start: int
    end: int
    next: int
    defect: ProblemKind | None


class _Group(NamedTuple):
    """What was read at a place of the text; the value is None where it was malformed."""

    kind: str  # "span", "box", "tube", or "end" for "Ends in <t_5>"
    start: int
    end: int
    value: Span | Box | Tube | None


def parse_answer(
    text: str,
    media: MediaInfo,
    *,
    answer_format: AnswerFormat | str | None = None,
    num_temporal_tokens: int = 100,
    num_spatial_tokens: int = 100,
    start_seconds: float | None = None,
    task: str | None = None,
    query: str | None = None,
    refinements: Mapping[int, tuple[float, float | None]] | None = None,
) -> GroundingResult:
    """
    Read an answer of the model; no text whatever raises.

    Args:
        text (`str`): The answer, coordinate tokens included, special tokens taken out.
        media (`MediaInfo`): The clip or image that was asked about; turns fractions into seconds and pixels.
        answer_format (`AnswerFormat` or `str`, *optional*):
            One of `ANSWER_FORMATS`, or its name. Says how captions are cut out and what counts as missing. Without it
            captions are read wherever words stand by a box or a span, and nothing counts as missing.
        num_temporal_tokens (`int`, *optional*, defaults to 100): Number of time tokens, N: `<t_k>` is k / (N - 1).
        num_spatial_tokens (`int`, *optional*, defaults to 100): Number of tokens of each of height and width.
        start_seconds (`float`, *optional*):
            Start of the event where the prompt gave it, in seconds; with it "Ends in <t_5>" is a span.
        task (`str`, *optional*): Kept in the result.
        query (`str`, *optional*): Kept in the result.
        refinements (`Mapping[int, tuple[float, float | None]]`, *optional*):
            Where scores refine a token below its bin: from the offset in characters of the token in `text` to its
            fraction and confidence, which then stand for the token.

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
    if min(num_temporal_tokens, num_spatial_tokens) < 2:
        raise InputError("num_temporal_tokens and num_spatial_tokens need to be 2 or more.")
    reader = _Reader(text, media, num_temporal_tokens, num_spatial_tokens, start_seconds, refinements or {})
    reader.read()
    captions = _read_captions(reader, answer_format)
    _check_against_format(reader, answer_format)
    return GroundingResult(
        text=text,
        spans=tuple(reader.spans),
        boxes=tuple(reader.boxes),
        tubes=tuple(reader.tubes),
        captions=tuple(captions),
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
        num_temporal_tokens: int,
        num_spatial_tokens: int,
        start_seconds: float | None,
        refinements: Mapping[int, tuple[float, float | None]],
    ):
        self.text, self.media = text, media
        self.num_tokens = {"t": num_temporal_tokens, "x": num_spatial_tokens, "y": num_spatial_tokens}
        self.start_seconds = start_seconds
        self.is_video = media.media_type == "video"
        self.start_fraction = None
        if start_seconds is not None and self.is_video:
            self.start_fraction = media.fraction_at(start_seconds)
        self.spans: list[Span] = []
        self.boxes: list[Box] = []
        self.tubes: list[Tube] = []
        self.groups: list[_Group] = []
        self.problems: list[Problem] = []
        self.is_truncated = False
        self.wrapper: _Lexeme | None = None  # the open bracket around a tube
        self.tube: dict[float, TubeBox] = {}
        self.tube_range: tuple[int, int] | None = None  # lexeme positions of the tube being read
        self.tube_time = -1.0
        # A cut-off coordinate at the very end holds no words.
        cut = _CUT_COORDINATE.search(text, max(0, len(text) - _EXCERPT))
        self.end = cut.start() if cut else len(text)
        self.lexemes = [self._make_lexeme(match, refinements) for match in LEXEME_PATTERN.finditer(text)]
        if cut:
            self._report_truncated(cut.start(), "a coordinate")
        # words[i]: how many of the gaps before lexeme i hold words; words[-1] counts the text after the last too.
        starts = [*(lexeme.start for lexeme in self.lexemes), max(self.end, self._end_of(len(self.lexemes) - 1))]
        gaps = (_has_words(text[self._end_of(i - 1) : start]) for i, start in enumerate(starts))
        self.words = list(accumulate(gaps))

    def report(self, kind: ProblemKind, message: str, start: int = 0, end: int | None = None) -> None:
        """Note a problem; without a place it is about the whole answer."""
        excerpt = "" if end is None else self.text[start : min(end, start + _EXCERPT)]
        self.problems.append(Problem(kind, message, excerpt, start, len(self.text) if end is None else end))

    def read(self) -> None:
        """Read all groups."""
        i = 0
        while i < len(self.lexemes):
            if self.lexemes[i].kind in "[{":
                i = self._read_opening(i)
            elif self.lexemes[i].kind in "]}":
                i = self._read_closing(i)
            else:
                i = self._read_bare(i)
        self._finish_tube()
        self._close_wrapper(closing=None)
        self._check_tubes_against_spans()
        self.groups.sort(key=lambda group: group.start)  # a tube is noted when it ends

    # Lexemes

    def _make_lexeme(self, match: re.Match, refinements: Mapping[int, tuple[float, float | None]]) -> _Lexeme:
        axis, form, body, closing = match.groups()
        start, end = match.span()
        if axis is None:
            return _Lexeme(match[0], start, end)
        if not closing:
            if end >= self.end:
                self._report_truncated(start, "a coordinate")
            else:
                self.report("malformed_coordinate", "A coordinate is not closed by '>'.", start, end)
            return _Lexeme(axis, start, end)
        written = self._read_fraction(axis, form, body, start, end)
        fraction, confidence = refinements.get(start, (written, None))
        return _Lexeme(axis, start, end, fraction, confidence, written)

    def _read_fraction(self, axis: str, form: str, body: str, start: int, end: int) -> float | None:
        last = self.num_tokens[axis] - 1
        if form == "_" and body.isascii() and body.isdigit():
            if int(body) <= last:
                return int(body) / last
            self.report("out_of_range", f"The token index is over {last}, the last of its axis.", start, end)
        elif form == "=" and _DECIMAL.fullmatch(body):
            if 0.0 <= float(body) <= 1.0:
                return abs(float(body))  # "-0" is 0
            self.report("out_of_range", "A continuous coordinate is outside 0 to 1.", start, end)
        else:
            self.report("malformed_coordinate", "A coordinate holds no number that can be read.", start, end)
        return None

    def _end_of(self, i: int) -> int:
        return self.lexemes[i].end if i >= 0 else 0

    def _kind(self, i: int) -> str | None:
        return self.lexemes[i].kind if i < len(self.lexemes) else None

    def _is_coordinate(self, i: int) -> bool:
        return i < len(self.lexemes) and self.lexemes[i].kind in "txy"

    def _is_joined(self, i: int) -> bool:
        """Whether no words stand between lexeme i - 1 and lexeme i (or the end of the text)."""
        return self.words[i] == self.words[i - 1]

    def _starts_tube_entry(self, i: int) -> bool:
        return self._kind(i) == "t" and self._kind(i + 1) == "[" and self._is_joined(i + 1)

    def _ends_a_group(self, i: int) -> bool:
        if self.tube_range is not None:
            return self.tube_range[1] == i
        return bool(self.groups) and self.groups[-1].end == self.lexemes[i].end

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

    def _close_wrapper(self, closing: _Lexeme | None) -> None:
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
            return _Taken(members, start, end, j + 1, defect)
        j = next((k for k in range(i + 1, j) if not self._is_joined(k)), j)  # unclosed: up to the first word
        if j > i + 1 and self._starts_tube_entry(j - 1):
            j -= 1
        members = self.lexemes[i + 1 : j]
        at_end = j == len(self.lexemes) and self._is_joined(j)
        if at_end:
            self._report_truncated(start, "a group")
        return _Taken(members, start, self._end_of(j - 1), j, None if at_end else "unclosed_bracket")

    def _read_bare_numbers(self, opening: _Lexeme, closing: _Lexeme) -> list[_Lexeme]:
        """Read `{0.1, 0.5}` or `[0.1, 0.2, 0.3, 0.4]`; the bracket says which axes are meant."""
        match = _NUMBERS.fullmatch(self.text, opening.end, closing.start)
        numbers = [(float(match[k]), *match.span(k)) for k in range(1, 5) if match[k]] if match else []
        axes = "xyxy" if opening.kind == "[" else "tt"
        if len(numbers) != len(axes) or any(value > 1.0 for value, _, _ in numbers):
            return []
        return [_Lexeme(axis, start, end, value) for axis, (value, start, end) in zip(axes, numbers, strict=True)]

    # Groups

    def _read_group(self, taken: _Taken) -> None:
        axes = "".join(member.kind for member in taken.members)
        if axes.count("t") * 2 > len(axes):
            self._finish_tube()
            span = self._read_span(taken)
            self.groups.append(_Group("span", taken.start, taken.end, span))
            if span is not None:
                self.spans.append(span)
            return
        box = self._read_box(taken)
        self.groups.append(_Group("box", taken.start, taken.end, box))
        if box is not None:
            self.boxes.append(box)

    def _is_complete(self, taken: _Taken, axes: str, bracket: str, name: str) -> bool:
        """Check the number and the axes of the coordinates of a group, and report what is wrong with its form."""
        kinds = "".join(member.kind for member in taken.members)
        place = (taken.start, taken.end)
        count_is_right = sorted(kinds) == sorted(axes)
        if any(member.fraction is None for member in taken.members):
            return False  # reported where the coordinate was read
        if count_is_right and kinds != axes:
            self.report("wrong_coordinate_order", f"A {name} has its axes in the order {kinds}, not {axes}.", *place)
        elif not count_is_right and (self.is_truncated and taken.next >= len(self.lexemes) and taken.defect is None):
            return False  # cut off: reported already
        elif not count_is_right and taken.defect == "unclosed_bracket":
            message = f"A {name} is not closed and has {len(kinds)} of {len(axes)} coordinates."
            self.report("unclosed_bracket", message, *place)
            return False
        elif not count_is_right and len(kinds) == len(axes):
            self.report("wrong_coordinate_axis", f"A {name} needs the axes {axes}, these are {kinds}.", *place)
        elif not count_is_right:
            wrong_axis = set(kinds) - set(axes)
            kind = "wrong_coordinate_axis" if wrong_axis else "wrong_coordinate_count"
            self.report(kind, f"A {name} needs {len(axes)} coordinates, here are {len(kinds)}.", *place)
        if count_is_right:
            defect = taken.defect or ("wrong_bracket" if self.text[taken.start] != bracket else None)
            if defect:
                self.report(defect, f"The form of a {name} is wrong, its coordinates are complete.", *place)
        return count_is_right

    def _read_span(self, taken: _Taken) -> Span | None:
        if not self._is_complete(taken, "tt", "{", "span"):
            return None
        start, end = taken.members
        fractions = (start.fraction, end.fraction)
        if fractions[0] > fractions[1]:  # of the same bin, refined past each other
            fractions = (start.written, end.written)
        return self._make_span(*fractions, _least([start, end]), taken.start, taken.end)

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
        x1, x2 = (member.fraction for member in taken.members if member.kind == "x")
        y1, y2 = (member.fraction for member in taken.members if member.kind == "y")
        if x1 >= x2 or y1 >= y2:
            self.report("degenerate_box", "The box has no area or is reversed.", taken.start, taken.end)
            return None
        width, height = self.media.width, self.media.height
        pixels = (x1 * width, y1 * height, x2 * width, y2 * height)
        return Box(*pixels, confidence=_least(taken.members), fractions=(x1, y1, x2, y2))

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

    def _read_end(self, lexeme: _Lexeme) -> None:
        self._finish_tube()
        span = None
        if lexeme.fraction is None:
            pass  # reported where the coordinate was read
        elif not self.is_video:
            self.report("time_on_image", "An end makes no sense for an image.", lexeme.start, lexeme.end)
        elif self.start_fraction is None:
            seconds = self.media.seconds_at(lexeme.fraction)
            message = f"The answer gives only the end, {seconds:.3f} s: pass the start of the prompt as start_seconds."
            self.report("missing_start", message, lexeme.start, lexeme.end)
        else:
            end = lexeme.fraction if lexeme.fraction >= self.start_fraction else lexeme.written
            fractions = (self.start_fraction, end)
            span = self._make_span(*fractions, lexeme.confidence, lexeme.start, lexeme.end)
        if span is not None:
            self.spans.append(span)
        self.groups.append(_Group("end", lexeme.start, lexeme.end, span))

    def _read_tube_entry(self, i: int) -> int:
        if self.tube_range and self.words[i] != self.words[self.tube_range[1]]:
            self._finish_tube()  # words in between: another object
        time, taken = self.lexemes[i], self._take_group(i + 1)
        self.tube_range = (self.tube_range[0] if self.tube_range else i, taken.next - 1)
        if taken.members:
            box = self._read_box(taken)
        else:
            box = None
            if not self.is_truncated:
                message = "A box has no coordinates that can be read."
                self.report("wrong_coordinate_count", message, time.start, taken.end)
        if box is None or time.written is None:
            return taken.next
        if not self.is_video:
            if not self.tube:
                self.report("time_on_image", "A tube makes no sense for an image.", time.start, taken.end)
            self.boxes.append(box)
        elif time.written in self.tube:
            self.report("duplicate_time", "The tube gives this time twice; the last counts.", time.start, taken.end)
        elif time.written < self.tube_time:
            self.report("non_increasing_time", "The tube goes back in time.", time.start, taken.end)
        # The time of a box names a sampled frame, so it is never refined below its bin.
        self.tube_time = time.written
        self.tube[time.written] = self._make_tube_box(time.written, box)
        return taken.next

    def _make_tube_box(self, fraction: float, box: Box) -> TubeBox:
        if not self.is_video:
            return TubeBox(0.0, 0, box)
        first, last = self.media.frame_indices[0], self.media.frame_indices[-1]
        # Parity: the published sampling rule, so a token's frame is the frame that was sampled for it.
        frame_index = first + round(fraction * (last - first))
        return TubeBox(self.media.seconds_at(fraction), frame_index, box, fraction)

    def _finish_tube(self) -> None:
        if self.tube_range is None:
            return
        first, last = self.tube_range
        tube = None
        if self.tube and self.is_video:
            # The second key is for clips whose time stamps stand still.
            tube = Tube(tuple(sorted(self.tube.values(), key=lambda entry: (entry.seconds, entry.fraction))))
            self.tubes.append(tube)
        self.groups.append(_Group("tube", self.lexemes[first].start, self.lexemes[last].end, tube))
        self.tube, self.tube_range, self.tube_time = {}, None, -1.0

    def _check_tubes_against_spans(self) -> None:
        if not self.spans:
            return
        # A time stands for all that is nearer to its bin than to the next one.
        slack = 0.5 / (self.num_tokens["t"] - 1) + 1e-6
        start = self.media.seconds_at(min(span.fractions[0] for span in self.spans) - slack)
        end = self.media.seconds_at(max(span.fractions[1] for span in self.spans) + slack)
        for group in self.groups:
            if not isinstance(group.value, Tube):
                continue
            tube = group.value
            if tube.start_seconds < start - 1e-6 or tube.end_seconds > end + 1e-6:
                message = (
                    f"The tube goes from {tube.start_seconds:.3f} to {tube.end_seconds:.3f} s, the span from "
                    f"{start:.3f} to {end:.3f} s."
                )
                self.report("tube_outside_span", message, group.start, group.end)


def _has_words(gap: str) -> bool:
    """Whether a gap between lexemes holds words; a lone 'and' joins, as a comma does."""
    words = _WORD.finditer(gap)
    first = next(words, None)
    return first is not None and (first[0].lower() != "and" or next(words, None) is not None)


def _least(members: Iterable[_Lexeme]) -> float | None:
    """Confidence of a group: that of its least sure coordinate."""
    confidences = [member.confidence for member in members if member.confidence is not None]
    return min(confidences, default=None)


def _clean(text: str) -> str:
    return remove_coordinates(text).strip(_SEPARATORS)


def _read_captions(reader: _Reader, answer_format: AnswerFormat | None) -> list[Caption]:
    """Cut the words out that belong to spans and boxes."""
    kinds = {group.kind for group in reader.groups}
    name = None if answer_format is None else answer_format.name
    if name == "end_caption_and_tube" or (name is None and "end" in kinds):
        captions = _read_end_caption(reader)
    elif name == "phrases_with_boxes" or (name is None and "box" in kinds):
        captions = _read_phrases(reader)
    elif name == "sentences_with_spans" or (name is None and kinds == {"span"}):
        captions = _read_sentences(reader)
    else:
        return []
    if answer_format is not None and not all(caption.text for caption in captions):
        reader.report("missing_caption", "Words are missing beside a span or a box.")
    return [caption for caption in captions if caption.text]


def _read_end_caption(reader: _Reader) -> list[Caption]:
    """Read the caption of `Ends in <t_5>, caption. Object bounding box: tube`."""
    moment = next((group for group in reader.groups if group.kind in ("end", "span")), None)
    tube = next((group for group in reader.groups if group.kind == "tube"), None)
    start = moment.end if moment else 0
    end = tube.start if tube and tube.start >= start else len(reader.text)
    marker = _OBJECT_MARKER.search(reader.text, start, end)
    span = moment.value if moment else None
    return [Caption(_clean(reader.text[start : marker.start() if marker else end]), span=span)]


def _read_phrases(reader: _Reader) -> list[Caption]:
    """Give each box the words before it, back to the box or the end of the sentence before."""
    phrases: list[tuple[str, list[Box]]] = []
    position = 0
    for group in reader.groups:
        if group.kind != "box":
            position = max(position, group.end) if group.kind == "tube" else position
            continue
        words = reader.text[position : group.start]
        position = max(position, group.end)
        boxes = [] if group.value is None else [group.value]
        if phrases and not _has_words(words):  # a dog [box] [box]: two instances
            phrases[-1][1].extend(boxes)
            continue
        sentence_end = max((match.end() for match in _SENTENCE_END.finditer(words)), default=0)
        if _WORD.search(words, sentence_end):
            words = words[sentence_end:]
        phrases.append((_clean(words).strip("." + _SEPARATORS), boxes))
    return [Caption(text, boxes=tuple(boxes)) for text, boxes in phrases]


def _read_sentences(reader: _Reader) -> list[Caption]:
    """Give each span its sentence: the one after it if the answer starts with a span, else the one around it."""
    groups = [group for group in reader.groups if group.kind in ("span", "end")]
    if not groups:
        return []
    text = reader.text
    if not _WORD.search(text[: groups[0].start]):
        ends = [*(group.start for group in groups[1:]), len(text)]
        pieces = zip(groups, ends, strict=True)
        return [Caption(_clean(text[group.end : end]), span=group.value) for group, end in pieces]
    captions, position = [], 0
    for number, group in enumerate(groups):
        limit = groups[number + 1].start if number + 1 < len(groups) else len(text)
        before = text[position : group.start]
        start = position + max((match.end() for match in _SENTENCE_END.finditer(before)), default=0)
        match = _SENTENCE_END.search(text, group.end, limit)
        # Two spans in one sentence share it out: each has the words before it, the last also those after it.
        position = match.end() if match else (group.end if limit < len(text) else limit)
        captions.append(Caption(_clean(text[start:position]), span=group.value))
    return captions


def _check_against_format(reader: _Reader, answer_format: AnswerFormat | None) -> None:
    """Report what the format asks for and is not there, or is there more than once."""
    for name, found in (("span", reader.spans), ("box", reader.boxes), ("tube", reader.tubes)):
        if answer_format is None or name not in answer_format.parts:
            continue
        if not found:
            reader.report(f"missing_{name}", f"The answer has no {name} that can be read.")
        elif len(found) > 1 and name not in answer_format.several:
            reader.report(f"extra_{name}", f"The answer has {len(found)} {name}s where one was asked for.")


__all__ = ["parse_answer"]
