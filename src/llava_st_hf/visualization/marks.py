"""What a picture shows of an answer: each thing in it with its words, its colour and when it is there.

A thing is what one query, phrase or sentence names: its spans and boxes, or one tube of several. Every picture, page
and table takes its colours and numbers from here, so that they agree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..processing import Box, GroundingResult, Span, Tube, TubeMasks

Color = tuple[int, int, int]

# Okabe and Ito's colours, which the colour-blind tell apart (jfly.uni-koeln.de/color): for each thing in turn.
PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (204, 121, 167),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
NO_WORDS = "object"
# Answers and annotation files round their times: a frame this near to an end of a span is in it.
TIME_TOLERANCE_SECONDS = 1e-3


@dataclass
class Mark:
    """
    One thing that an answer names.

    Args:
        number (`int`): From 1.
        label (`str`): The words for it.
        has_own_words (`bool`): Whether those are more than the query of the answer.
        spans (`list[Span]`): When it is there.
        boxes (`list[Box]`): Where it is, whenever it is there.
        within (`list[Span]`): The spans in which its boxes are drawn: its own, or all of the answer. Always if empty.
        tube (`Tube`, *optional*): Where it is at which moment.
        masks (`TubeMasks`, *optional*): Which pixels it covers.
    """

    number: int
    label: str
    has_own_words: bool
    spans: list[Span] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    within: list[Span] = field(default_factory=list)
    tube: Tube | None = None
    masks: TubeMasks | None = None

    @property
    def color(self) -> Color:
        """Its colour in all pictures."""
        return PALETTE[(self.number - 1) % len(PALETTE)]

    @property
    def periods(self) -> list[tuple[float, float]]:
        """Start and end in seconds of its spans, or of its tube where it has none."""
        tubes = [self.tube] if self.tube is not None and not self.spans else []
        return [(period.start_seconds, period.end_seconds) for period in (*self.spans, *tubes)]

    @property
    def confidence(self) -> float | None:
        """That of the least sure of its spans, or of its boxes where it has none; `None` where no scores were read."""
        boxes = [entry.box for entry in self.tube.boxes] if self.tube is not None else []
        # Boxes have their own beside them; what stands beside a span is the span's, as everywhere else.
        parts = self.spans or [*self.boxes, *boxes]
        return min((part.confidence for part in parts if part.confidence is not None), default=None)


def list_marks(results: GroundingResult | Sequence[GroundingResult]) -> list[Mark]:
    """
    List the things in one or several answers about a medium, in the order in which they get their colours.

    Example:

    ```python
    >>> result = GroundingResult("", spans=(Span(1.0, 2.0, 0.9),), query="a dog")
    >>> [(mark.label, mark.color, mark.confidence) for mark in list_marks(result)]
    [('a dog', (230, 159, 0), 0.9)]
    ```
    """
    marks: dict[tuple, Mark] = {}

    def get(part: int, label: str, result: GroundingResult, track: int = 0) -> Mark:
        new = Mark(len(marks) + 1, label, label not in (result.query, NO_WORDS))
        return marks.setdefault((part, label, track), new)

    for part, result in enumerate(as_results(results)):
        captions = {caption.span: caption.text for caption in reversed(result.captions) if caption.span is not None}
        is_paired = len(result.spans) == len(result.tubes) > 0
        name = result.query or (result.captions[0].text if len(result.captions) == 1 else "")
        for track, tube in enumerate(result.tubes):
            own = captions.get(result.spans[track]) if is_paired else None
            mark = get(part, own or name or NO_WORDS, result, track)
            mark.tube = tube
            mark.masks = result.masks[track] if track < len(result.masks) else None
            mark.spans += [result.spans[track]] if is_paired else []
        for span in () if is_paired else result.spans:
            label = captions.get(span) or result.query or NO_WORDS
            get(part, label, result).spans.append(span)
        for row in result.labelled_boxes():
            if row.track is None:
                mark = get(part, row.label, result)
                mark.boxes.append(row.box)
                mark.within = mark.spans or list(result.spans)
    return list(marks.values())


def get_words(result: GroundingResult) -> str:
    """Return what an answer says in words that are nowhere else: not of captions, which stand at their marks."""
    words = "" if result.captions else result.plain_text.strip()
    return words if any(character.isalnum() for character in words) else ""


def as_results(results: GroundingResult | Sequence[GroundingResult]) -> list[GroundingResult]:
    """Return one or several answers as a list."""
    return [results] if isinstance(results, GroundingResult) else list(results)


class Schedule:
    """
    Which things are in which frames of a clip, and where.

    A thing is in every frame from the start to the end of its spans, both included; a span between two frames is that
    of the nearer one. So are its boxes: the first and last box of a tube hold up to the ends of its spans, for at most
    one step of it (a single box throughout), and none is drawn outside.

    Args:
        marks (`Sequence[Mark]`): The things.
        frame_seconds (`Sequence[float]`): Time of every frame of the file.
        sampling_step (`float`, *optional*, defaults to 0.0): Seconds between two frames that the model saw.
    """

    def __init__(self, marks: Sequence[Mark], frame_seconds: Sequence[float], sampling_step: float = 0.0):
        self.marks = list(marks)
        self.seconds = np.asarray(frame_seconds, dtype=np.float64)
        self.windows = [[self._find_window(*period) for period in mark.periods] for mark in self.marks]
        self.holds = [max(sampling_step, _compute_step(mark.tube)) for mark in self.marks]
        self.tubes = [self._find_tube_windows(number) for number in range(len(self.marks))]
        self.boxes = [
            [self._find_window(span.start_seconds, span.end_seconds) for span in mark.within] for mark in self.marks
        ]

    def _find_tube_windows(self, number: int) -> list[tuple[int, int]]:
        """Return where a tube is drawn: in its spans, or from its first to its last box if it has none near it."""
        tube, hold = self.marks[number].tube, self.holds[number]
        if tube is None:
            return []
        spans = self.marks[number].spans
        near = [
            s.start_seconds <= tube.end_seconds + hold and s.end_seconds >= tube.start_seconds - hold for s in spans
        ]
        return self.windows[number] if any(near) else [self._find_window(tube.start_seconds, tube.end_seconds)]

    def _find_window(self, start: float, end: float) -> tuple[int, int]:
        """Return the first and the last frame of a period."""
        first = int(np.searchsorted(self.seconds, start - TIME_TOLERANCE_SECONDS, side="left"))
        last = int(np.searchsorted(self.seconds, end + TIME_TOLERANCE_SECONDS, side="right")) - 1
        if first > last:
            first = last = int(np.abs(self.seconds - (start + end) / 2).argmin())
        return first, last

    def find_active(self, frame: int) -> list[Mark]:
        """Return the things that are there in a frame, by its number in the file."""
        return [mark for mark, windows in zip(self.marks, self.windows, strict=True) if _is_in(frame, windows)]

    def find_boxes(self, frame: int) -> Iterator[tuple[Box, Mark]]:
        """Yield the boxes to draw in a frame."""
        for number, mark in enumerate(self.marks):
            if mark.tube is not None and _is_in(frame, self.tubes[number]):
                is_only = (frame, frame) in self.tubes[number]
                tolerance = np.inf if is_only else self.holds[number] + TIME_TOLERANCE_SECONDS
                box = mark.tube.box_at(float(self.seconds[frame]), tolerance)
                if box is not None:
                    yield box, mark
            if not self.boxes[number] or _is_in(frame, self.boxes[number]):
                yield from ((box, mark) for box in mark.boxes)

    def list_ends(self) -> list[int]:
        """Return the first and last frame of each span, and of each tube without one, in order."""
        return sorted({frame for windows in (*self.windows, *self.tubes) for window in windows for frame in window})

    def list_boxed(self) -> list[int]:
        """Return the frame nearest to each box of the tubes that is drawn, in order."""
        tubes = [(mark.tube, windows) for mark, windows in zip(self.marks, self.tubes, strict=True) if mark.tube]
        moments = [(entry.seconds, windows) for tube, windows in tubes for entry in tube.boxes]
        frames = [(int(np.abs(self.seconds - seconds).argmin()), windows) for seconds, windows in moments]
        return sorted({frame for frame, windows in frames if _is_in(frame, windows)})


def _is_in(frame: int, windows: Sequence[tuple[int, int]]) -> bool:
    return any(first <= frame <= last for first, last in windows)


def _compute_step(tube: Tube | None) -> float:
    """Return the middle one of the times between two boxes of a tube; a single box is all that is known."""
    if tube is None or len(tube.boxes) < 2:
        return np.inf
    return float(np.median(np.diff(tube.arrays.seconds)))


def compute_sampling_step(result: GroundingResult) -> float:
    """Return the time between two frames that the model saw, 0 where that is not known."""
    media = result.media
    if media is None or media.media_type != "video" or len(media.frame_seconds) < 2:
        return 0.0
    return (media.end_seconds - media.start_seconds) / (len(media.frame_seconds) - 1)
