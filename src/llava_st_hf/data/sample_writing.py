"""From an annotation to a record: the one way in which questions and answers are written from spans, boxes and texts.

Times become fractions of the sampled clip, boxes fractions of the frame, and a tube has a box at each sampled frame.
Fractions are written by `repr`, so that what is read again is the same number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from ..processing import TASKS, MediaError, MediaInfo, PromptError, get_task, parse_answer
from ..processing.frame_sampling_llava_st import compute_frame_indices
from ..processing.media_llava_st import format_count
from ..processing.notation_llava_st import NOTATION, Lexeme, write_box, write_span, write_time, write_tube
from ..processing.prompt_coordinates_llava_st import compute_fraction
from .annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation, BoxValues
from .media_fit import MediaFit, check_size, fit_to_file
from .media_loading import TIMES_FIX
from .media_probe import probe_frames, probe_image, probe_video
from .samples import Sample, check_frame_times
from .skips import RecordError, make_error, make_fault, record_errors, show

# How long a box holds where no second one tells how it moves on.
HOLD_SECONDS = 0.5
# Frames that the published system samples of each clip.
DEFAULT_NUM_FRAMES = 100
# Frames at the very edge of a span count as inside, whatever the last digit of its fractions.
_EDGE = 1e-7
# Whether an answer can be read does not depend on the medium.
_ANY_MEDIUM = {
    "image": MediaInfo("image", 1000, 1000),
    "video": MediaInfo("video", 1000, 1000, (0, 999), (0.0, 999.0)),
}

TubeEntries = Sequence[tuple[float, BoxValues]]


def make_sample(
    annotation: Annotation, id: str, source: str, num_frames: int = DEFAULT_NUM_FRAMES, variant: int = 0
) -> Sample:
    """
    Write the record of an annotation.

    Where the annotations count the frames of the video (`frame_range` or `frame_count` is given), times are fractions
    of those, if the file has as many; of a copy at another rate, see `media_fit`, and in all other cases they are
    fractions of the file's own time line.

    Args:
        annotation (`Annotation`): What the file says.
        id (`str`): Name of the record.
        source (`str`): Name of the data set.
        num_frames (`int`, *optional*, defaults to 100): How many frames of a clip are sampled.
        variant (`int`, *optional*, defaults to 0):
            Which of the wordings of the question is written; the number goes round where there are fewer.

    Returns:
        `Sample`: The record.

    Raises:
        `RecordError`: With the field, its value and the fix, for what does not fit the medium or the task.

    Example:

    ```python
    >>> annotation = Annotation(
    ...     task="tvg",
    ...     media_type="video",
    ...     media=(Media(path="clip.mp4"),),
    ...     query="she cuts the carrots",
    ...     spans=(AnnotatedSpan((25, 50), "frames"),),
    ...     frame_count=101,
    ... )
    >>> make_sample(annotation, id="1", source="kitchen").messages[1]["content"]
    '{<t=0.25><t=0.5>}'
    ```
    """
    try:
        conversation = _Conversation(annotation, num_frames)
        messages = conversation.write(variant)
    except PromptError as error:
        raise RecordError("invalid_field", "query", f"the record cannot be written: {error}") from error
    return Sample(
        id=id,
        source=source,
        task=annotation.task,
        media_type=annotation.media_type,
        media=annotation.media,
        messages=messages,
        frame_range=conversation.frame_range,
        video_fps=conversation.video_fps,
        frame_seconds=annotation.frame_seconds,
        notes=tuple(conversation.notes.items()),
        box_kind=annotation.box_kind,
    )


def find_text_coordinates(text: str, field: str) -> list[Lexeme]:
    """Return the coordinates of a text of a record; one that cannot be read is a `RecordError`."""
    with record_errors(field):
        return NOTATION.find_coordinates(text)


def interpolate_boxes(
    boxes_by_time: Mapping[float, BoxValues | None], times: Sequence[float], hold: float = HOLD_SECONDS
) -> list[BoxValues | None]:
    """
    Return the box at each of some times, `None` where there is none.

    Between two boxes it moves evenly from one to the other. Before the first, after the last and beside a `None`,
    which says that there is no box at that time, the nearest box holds for a while, in the unit of the times.
    """
    known = sorted(boxes_by_time)
    boxes = [boxes_by_time[time] for time in known]
    found: list[BoxValues | None] = []
    for time in times:
        after = int(np.searchsorted(known, time))  # first time not before it
        if after < len(known) and known[after] == time:
            found.append(boxes[after])
            continue
        neighbours = [(known[i], boxes[i]) for i in (after - 1, after) if 0 <= i < len(known) and boxes[i] is not None]
        if len(neighbours) == 2:
            (start, first), (end, last) = neighbours
            share = (time - start) / (end - start)
            found.append(tuple((1 - share) * a + share * b for a, b in zip(first, last, strict=True)))
        else:
            found.append(next((box for near, box in neighbours if abs(time - near) <= hold), None))
    return found


# --------------------------------------------------------------------------------------------------
# The clip
# --------------------------------------------------------------------------------------------------
class SampledClip(NamedTuple):
    """The moments that the model sees of a clip, in frames or in seconds, and the way from there to fractions."""

    unit: Literal["frames", "seconds"]
    end: float  # time of the last frame
    moments: Sequence[tuple[float, float]]  # time and fraction of each sampled frame, each once
    compute_fraction: Callable[[float], float]  # raises MediaError for a time outside of the clip

    @classmethod
    def of_frames(cls, first: int, last: int, num_frames: int) -> "SampledClip":
        """Return the clip between two frames; a short one has some of its sampled frames twice."""

        length = max(last - first, 1)

        def compute_frame_fraction(frame: float) -> float:
            if not first <= frame <= last:
                raise MediaError(f"frame {frame:g} is outside of the clip; give frames from {first} to {last}.")
            return (frame - first) / length

        frames = np.unique(compute_frame_indices(num_frames, first, max(first, last))).tolist()
        moments = [(frame, (frame - first) / length) for frame in frames]
        return cls("frames", last, moments, compute_frame_fraction)

    @classmethod
    def of_file(cls, info: MediaInfo) -> "SampledClip":
        """Return the clip of a video's own time line."""
        fractions = info.frame_fractions.tolist()
        moments = dict(zip(info.frame_indices, zip(info.frame_seconds, fractions, strict=True), strict=True))
        return cls("seconds", info.end_seconds, list(moments.values()), info.fraction_at)

    @classmethod
    def of_duration(cls, seconds: float, num_frames: int) -> "SampledClip":
        """Return the clip of a video of which only the length is known."""

        def compute_share(time: float) -> float:
            if not 0 <= time <= seconds:
                raise MediaError(f"the time {time:g} s is outside the clip: give a time from 0 to {seconds:g} s.")
            return time / seconds

        shares = np.linspace(0, 1, num_frames).tolist()
        return cls("seconds", seconds, [(share * seconds, share) for share in shares], compute_share)


class _Conversation:
    """An annotation while it is written; the medium is looked into only when it is needed."""

    def __init__(self, annotation: Annotation, num_frames: int):
        self.annotation = annotation
        self.num_frames = num_frames
        self.task = get_task(annotation.task)
        self.notes: dict[str, str] = {}  # what is put right, by its kind
        # Start and end of each span, checked also where the texts have none.
        self.spans = [self._compute_span(span) for span in annotation.spans]

    # ----------------------------------------------------------------------------------------------
    # Fractions
    # ----------------------------------------------------------------------------------------------
    @cached_property
    def info(self) -> MediaInfo:
        """Size and times of the medium."""
        annotation, media = self.annotation, self.annotation.media
        if annotation.media_type == "image":
            return probe_image(media[0].path)
        if len(media) == 1:
            return probe_video(media[0].path, self.num_frames)
        if annotation.video_fps is None and annotation.frame_seconds is None:
            pictures = f"a folder of {format_count(len(media), 'picture')}"
            raise make_error("video", pictures, f"it has no seconds; {TIMES_FIX}, or a video file")
        check_frame_times(len(media), annotation.video_fps, annotation.frame_seconds)
        return probe_frames(annotation, self.num_frames)

    @cached_property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the frames that boxes are of, where the annotations say them."""
        if (note := check_size(self.annotation)) is not None:
            self.notes["stored_size"] = note
        return self.annotation.size

    @cached_property
    def fit(self) -> MediaFit:
        """How the annotations lie in the file."""
        return fit_to_file(self.annotation)

    @property
    def frame_range(self) -> tuple[int, int] | None:
        """First and last frame of the part of the file that is meant."""
        return None if self.annotation.frame_range is None else self.fit.frame_range

    @cached_property
    def clip(self) -> SampledClip:
        """The sampled frames: of the frames that the annotations count, or else of the file."""
        media, duration = self.annotation.media, self.annotation.duration_seconds
        if self.annotation.media_type == "image":
            raise make_error("image", media[0].path, "it has no time; leave out spans and tubes")
        if self.fit.by_frames:
            return SampledClip.of_frames(*self.fit.frame_range, self.num_frames)
        if self.fit.frame_range is not None:
            return SampledClip.of_file(probe_video(media[0].path, self.num_frames, self.fit.frame_range))
        try:
            return SampledClip.of_file(self.info)
        except RecordError:
            if duration is None:
                raise
            return SampledClip.of_duration(duration, self.num_frames)

    @property
    def span(self) -> tuple[float, float]:
        """Start and end of the one span."""
        return self._take_one("spans", self.spans)

    @cached_property
    def tubes(self) -> list[TubeEntries]:
        """Time and box at each sampled frame that has one: a tube for each span."""
        annotated = self.annotation.tubes
        if not self.task.answer_format.takes_several("tube"):
            return [self._compute_tube(self._take_one("tubes", annotated), self.span)]
        if len(annotated) not in (1, len(self.spans)):
            raise RecordError(
                "invalid_field",
                "tubes",
                f"there are {format_count(len(annotated), 'tube')} for {format_count(len(self.spans), 'span')}: give "
                "one each.",
            )
        annotated = annotated * len(self.spans) if len(annotated) == 1 else annotated
        return [self._compute_tube(tube, span, is_part=True) for tube, span in zip(annotated, self.spans, strict=True)]

    @property
    def box(self) -> BoxValues:
        """The one box, or where there is a tube its first."""
        if self.annotation.tubes:
            return self.tubes[0][0][1]
        return self._compute_box(self._take_one("boxes", self.annotation.boxes))

    def _take_one(self, name: str, values: Sequence[Any]) -> Any:
        if len(values) != 1:
            task = self.annotation.task
            fix = f"; {task}_several takes more" if len(values) > 1 and f"{task}_several" in TASKS else ""
            raise RecordError(
                "invalid_field", name, f"the record has {len(values)} {name}: task {task!r} needs one{fix}."
            )
        return values[0]

    @property
    def frame_rate(self) -> float | None:
        """Frames a second of the annotations."""
        known = self.annotation.frame_rate or self.annotation.video_fps
        return known or (None if self.annotation.media_type == "image" else self.fit.frame_rate)

    @property
    def video_fps(self) -> float | None:
        """Frames a second of a clip that is kept as pictures: what is said of them, or of a video with as many."""
        annotation = self.annotation
        num_pictures = len(annotation.media) if annotation.media_type == "video" else 1
        if annotation.video_fps or annotation.frame_seconds or num_pictures == 1:
            return annotation.video_fps
        return annotation.frame_rate if annotation.frame_count == num_pictures else None

    def _convert_time(self, time: float, unit: str, field: str) -> float:
        """Return a time in the unit of the clip."""
        if unit == self.clip.unit:
            return time
        if not self.frame_rate:
            raise make_error(field, time, f"it is in {unit}, which need frame_rate to be compared with the video")
        if unit == "frames":
            return self.fit.start_seconds + time / self.frame_rate
        # As of every time in seconds: the end that a file states, and a frame more, is its last frame.
        frame, last = time * self.frame_rate, self.clip.end
        return last if last < frame <= last + 2 + _EDGE else frame

    def _compute_time(self, time: float, field: str, value: Any) -> float:
        try:
            return self.clip.compute_fraction(time)
        except MediaError as error:
            raise RecordError("invalid_field", field, f"{field} is {show(value)}: {error}") from error

    def _compute_span(self, span: AnnotatedSpan) -> tuple[float, float]:
        value = list(span.times)
        if span.unit == "fraction":
            start, end = map(float, value)
            if end > 1:
                self._note_cut_end(span, 1)
            return start, min(end, 1.0)
        start, end = (self._convert_time(time, span.unit, span.field) for time in value)
        start = self._compute_time(start, span.field, value)
        try:
            return start, self._compute_time(end, span.field, value)
        except RecordError:
            # A file fits that is a little shorter than what was annotated: the end of that one is its end.
            length = self.annotation.duration_seconds or 0.0
            if not (span.cut_end or (span.unit == "seconds" and value[1] <= length)) or end < self.clip.end:
                raise
        self._note_cut_end(span, f"{self.clip.end:g} {self.clip.unit}")
        return start, 1.0

    def _note_cut_end(self, span: AnnotatedSpan, end: Any) -> None:
        self.notes["cut_end"] = (
            f"{span.field} is {list(span.times)}, of a clip that ends at {end}, which counts as its end"
        )

    def _compute_box(self, box: AnnotatedBox) -> BoxValues:
        size = self.size or ((1, 1) if box.unit == "fraction" else (self.info.width, self.info.height))
        try:
            return box.compute_fractions(size)
        except RecordError:
            if not self.annotation.cut_overhang:
                raise
            fractions = box.compute_fractions(size, cut_overhang=True)
        self.notes["cut_box"] = (
            f"{box.field} is {list(box.values)}, far over the edge of the frame, and is cut off there"
        )
        return fractions

    def _compute_tube(self, tube: AnnotatedTube, span: tuple[float, float], is_part: bool = False) -> TubeEntries:
        """Return the entries of a tube; where it `is_part` of one with more spans, those of this span only."""
        given = {self._convert_time(time, tube.unit, tube.field): box for time, box in tube.boxes.items()}
        times = np.interp(span, *np.array([(fraction, time) for time, fraction in self.clip.moments]).T)
        if tube.interpolate:
            entries = self._interpolate(tube, given, span, times)
        else:
            entries = self._take_boxes(given, times, is_part)
        if not entries:
            said = f"has {format_count(len(given), 'box')}, none of them at or near a sampled frame of the event"
            raise make_fault(tube.field, said, "give more boxes, or a larger num_frames")
        return entries

    def _take_boxes(
        self, given: Mapping[float, AnnotatedBox | None], times: Sequence[float], is_part: bool
    ) -> TubeEntries:
        """Return the boxes at sampled frames; of an event between two frames its box that is nearest to one."""
        # A frame of the annotations and one of the file that are the same moment, but for their rounding.
        slack = 0.5 / self.frame_rate + _EDGE if self.clip.unit == "seconds" and self.frame_rate else 0.0
        known = np.array(sorted(time for time, box in given.items() if box is not None))
        inside = known[(known >= times[0] - slack) & (known <= times[1] + slack)]
        moments = np.array([time for time, _ in self.clip.moments])
        for candidates, reach in ((inside if is_part else known, slack), (inside, np.inf)):
            if not len(candidates):
                continue
            distances = np.abs(candidates[:, None] - moments)
            nearest, distances = candidates[distances.argmin(0)].tolist(), distances.min(0)
            places = np.flatnonzero(distances <= reach) if reach < np.inf else [int(distances.argmin())]
            if len(places):
                return [(self.clip.moments[place][1], self._compute_box(given[nearest[place]])) for place in places]
        return []

    def _interpolate(
        self,
        tube: AnnotatedTube,
        given: Mapping[float, AnnotatedBox | None],
        span: tuple[float, float],
        times: Sequence[float],
    ) -> TubeEntries:
        """Return the entries at the sampled frames of a span, or at the one nearest to a span between two frames."""
        if not self.annotation.cut_overhang:
            for time in given:
                self._compute_time(time, tube.field, time)
        boxes = {time: None if box is None else self._compute_box(box) for time, box in given.items()}
        moments = [moment for moment in self.clip.moments if span[0] - _EDGE <= moment[1] <= span[1] + _EDGE]
        asked = [time for time, _ in moments]
        if not moments:
            moments = [min(self.clip.moments, key=lambda moment: abs(moment[1] - sum(span) / 2))]
            asked = [min(max(moments[0][0], times[0]), times[1])]  # the moment of the event that is nearest to it
        hold = HOLD_SECONDS if self.clip.unit == "seconds" else HOLD_SECONDS * (self.frame_rate or 0)
        found = interpolate_boxes(boxes, asked, hold)
        entries = [(fraction, box) for (_, fraction), box in zip(moments, found, strict=True) if box is not None]
        known = [time for time, box in boxes.items() if box is not None]
        if entries or not known:
            return entries
        # Sampled frames may lie further apart than a box holds: half of the way between two is near.
        reach = max(
            hold, (self.clip.moments[-1][0] - self.clip.moments[0][0]) / max(len(self.clip.moments) - 1, 1) / 2
        )
        distances = np.abs(np.array(known)[:, None] - asked)
        box, place = np.unravel_index(distances.argmin(), distances.shape)
        return [(moments[place][1], boxes[known[box]])] if distances[box, place] <= reach + _EDGE else []

    # ----------------------------------------------------------------------------------------------
    # Text
    # ----------------------------------------------------------------------------------------------
    def write(self, variant: int) -> tuple[dict[str, str], ...]:
        """Return the question and the answer, in the published form."""
        prompts, asks_subject = self.annotation.prompts, self.annotation.asks_subject
        if prompts:
            prompt = prompts[variant % len(prompts)]
        else:
            fields = {name: self._write(name) for name in self.task.needs}
            variant %= len(self.task.list_prompts(asks_subject))
            prompt = self.task.write_prompt(variant, asks_subject, **fields)
        form = self.task.answer_format
        answer = form.write(**{name: self._write_answer(name) for name in form.fields})
        if form.several and "text" in form.fields:
            self._check_answer(answer)
        return ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})

    def _write_answer(self, name: str) -> str | list[str]:
        """Return what stands at one of the fields of an answer, a list where there may be several."""
        if not self.task.answer_format.takes_several(name):
            return self._write(name)
        if not self.spans:
            raise make_fault("spans", "is empty", f"task {self.annotation.task!r} needs one")
        if name == "span":
            return [write_span(*span) for span in self.spans]
        return [write_tube(entries) for entries in self.tubes]

    def _write(self, name: str) -> str:
        """Return what stands at one of the fields of a prompt or of an answer."""
        if name == "query":
            return self._convert_text("query", self.annotation.query)
        if name == "text" and self.annotation.answer is None and "span" in self.task.answer_format.several:
            captions = [_close(span.caption or "") for span in self.annotation.spans]
            return " ".join(f"{write_span(*span)}, {text}" for span, text in zip(self.spans, captions, strict=True))
        if name in ("text", "caption"):
            text = self._convert_text(self.annotation.answer_field, self.annotation.answer)
            return text if name == "text" else _close(text)
        if name in ("start", "end"):
            return write_time(self.span[name == "end"])
        if name == "span":
            return write_span(*self.span)
        return write_box(self.box) if name == "box" else write_tube(self.tubes[0])

    def _convert_text(self, field: str, text: str | None) -> str:
        """Return a text with the seconds and pixels in it as fractions."""
        if text is None:
            raise make_fault(field, "is missing", f"task {self.annotation.task!r} needs it")
        pieces, end = [], 0
        for coordinate in find_text_coordinates(text, field):
            if coordinate.unit not in ("seconds", "pixels"):
                continue
            if coordinate.unit == "seconds" and self.annotation.media_type == "image":
                raise make_error(field, coordinate.text, "an image has no time; leave it out")
            with record_errors(field):
                info = self.info
                if coordinate.unit == "pixels" and self.size is not None:
                    info = replace(info, width=self.size[0], height=self.size[1])
                fraction = compute_fraction(coordinate, [info])
            pieces += [text[end : coordinate.start], NOTATION.write_coordinate(coordinate.kind, fraction)]
            end = coordinate.end
        return "".join([*pieces, text[end:]])

    def _check_answer(self, answer: str) -> None:
        """Raise `RecordError` for a written answer that cannot be read as one of its task."""
        medium = _ANY_MEDIUM[self.annotation.media_type]
        problems = parse_answer(answer, medium, answer_format=self.task.answer_format).problems
        if problems:
            fix = f"{problems[0].message} Task {self.task.name!r} has answers such as {self.task.example_answer!r}"
            raise make_error(self.annotation.answer_field, answer, fix)


def _close(caption: str) -> str:
    """End a sentence with a full stop, unless it ends already."""
    caption = caption.strip()
    return caption if caption.endswith((".", "!", "?")) else caption + "."
