"""What can be said when a model is asked: which frames to read, what to ask about them, how to answer."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..processing import Box, InputError, LlavaSTProcessor, MediaError, MediaInfo, Span, get_task, probe_video
from ..processing.frame_sampling_llava_st import check_sampling, compute_clip_end, find_clip
from ..processing.image_loading_llava_st import probe_image
from ..processing.media_llava_st import show
from ..processing.tasks_llava_st import choose_medium, unpack_units, write_values

T = TypeVar("T")

DEFAULT_TASKS = {"video": "stvg", "image": "rec"}


@dataclass(frozen=True)
class ReadingOptions:
    """
    How a clip is read; what is left out is as the processor does it.

    Args:
        num_frames (`int`, *optional*): Frames to sample.
        fps (`float`, *optional*): Frames a second to sample, instead.
        time_range (`tuple[float, float]`, *optional*): Start and end of the part to look at, in seconds.
        frame_range (`tuple[int, int]`, *optional*): The same as the numbers of the first and the last frame.
        video_fps (`float`, *optional*): Frames a second of a clip that is given as frames.
        frame_seconds (`Sequence[float]`, *optional*): The time of each of those frames, instead.
        allow_url (`bool` or `dict`, *optional*):
            Whether a clip or image may be fetched from the network, or within which limits: `max_bytes`,
            `deadline_seconds` and `hosts`, see `FetchRules`.
        file_roots (`Sequence[str]`, *optional*): Folders in which `file://...` of a clip or image may lie.

    Example:

    ```python
    >>> ReadingOptions(num_frames=20).to_kwargs()
    {'num_frames': 20}
    ```
    """

    num_frames: int | None = None
    fps: float | None = None
    time_range: Sequence[float] | None = None
    frame_range: Sequence[int] | None = None
    video_fps: float | None = None
    frame_seconds: Sequence[float] | None = None
    allow_url: bool | Mapping[str, Any] | None = None
    file_roots: Sequence[str] | None = None

    def to_kwargs(self) -> dict[str, Any]:
        """Return what is given, as arguments of the processor."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def check(self, media_type: str, medium: Any) -> None:
        """Raise `InputError` for what no clip could give, or for frames of an image; the medium is not read."""
        if media_type == "video":
            check_sampling(str(medium), self.num_frames, self.fps, self.frame_range, self.time_range)
            return
        for name, value in self.to_kwargs().items():
            if name not in ("allow_url", "file_roots"):
                raise InputError(f"{name} is {value}: {medium} is an image, leave it out.", field=name)


@dataclass(frozen=True)
class Question:
    """
    What is asked about a clip or an image; which of it a task needs is in `TASKS`.

    Args:
        task (`str`, *optional*): One of `TASKS`; `stvg` for a video and `rec` for an image where it is left out.
        query (`str`, *optional*): The event, the object or the question.
        span (`Span` or `Sequence[float]`, *optional*): Start and end in seconds of the file.
        box (`Box` or `Sequence[float]`, *optional*): Left, top, right, bottom in pixels of the original frame.
        start_seconds (`float`, *optional*): Start time in seconds of the file.
        span_fractions, box_fractions, start_fraction (`Sequence[float]` or `float`, *optional*):
            The same as fractions of the clip or of the frame.
        variant (`int`, *optional*): Which published wording.

    Example:

    ```python
    >>> Question("tvg", "she opens the door").to_messages(processor, video="clip.mp4")
    ```
    """

    task: str | None = None
    query: str | None = None
    span: Span | Sequence[float] | None = None
    box: Box | Sequence[float] | None = None
    start_seconds: float | None = None
    span_fractions: Sequence[float] | None = None
    box_fractions: Sequence[float] | None = None
    start_fraction: float | None = None
    variant: int | None = None

    def to_messages(self, processor: LlavaSTProcessor, **media: Any) -> list[dict[str, Any]]:
        """Write the chat messages about a `video` or an `image`; what is wrong is said by `build_messages`."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        given.setdefault("task", DEFAULT_TASKS["image" if media.get("video") is None else "video"])
        return processor.build_messages(**media, **given)

    def check(self, media_type: str, medium: Any) -> None:
        """Raise `InputError` for a question that could not be asked about a medium, which is not read."""
        task = get_task(self.task or DEFAULT_TASKS[media_type])
        choose_medium(task, **{"video": None, "image": None, media_type: medium})
        start, start_fraction = (
            None if value is None else [value] for value in (self.start_seconds, self.start_fraction)
        )
        task.write_prompt(
            self.variant or 0,
            query=self.query,
            span=write_values("span", "tt", self.span, self.span_fractions),
            box=write_values("box", "xyxy", self.box, self.box_fractions),
            start=write_values("start", "t", start, start_fraction),
        )


@dataclass(frozen=True)
class AnsweringOptions:
    """
    How a model answers.

    Args:
        constrained (`bool`, *optional*, defaults to `True`):
            Whether the answer must keep to the grammar of its task. Without beams it is then also refined below the
            bins of the coordinates, with a confidence for each.
        every_frame (`bool`, *optional*, defaults to `False`):
            Whether a tube has a box for every sampled frame of its span (constrained answers only).
        max_new_tokens (`int`, *optional*, defaults to 1024): Longest answer in tokens.
        generate (`dict`, *optional*): Further options of `generate`, such as `num_beams` or `streamer`.

    Example:

    ```python
    >>> AnsweringOptions(max_new_tokens=64, generate={"num_beams": 3})
    ```
    """

    constrained: bool = True
    every_frame: bool = False
    max_new_tokens: int = 1024
    generate: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.max_new_tokens, int) or self.max_new_tokens < 1:
            raise InputError(
                f"max_new_tokens is {self.max_new_tokens!r}: give a whole number from 1 on.", field="max_new_tokens"
            )


READING_NAMES, QUESTION_NAMES, ANSWERING_NAMES = (
    tuple(item.name for item in fields(options)) for options in (ReadingOptions, Question, AnsweringOptions)
)


def make_options(options: type[T], values: Mapping[str, Any]) -> T:
    """Make one of the above; a name that it does not have is an `InputError`."""
    names = [item.name for item in fields(options)]
    if unknown := sorted(set(values) - set(names)):
        raise InputError(f"{unknown[0]} is no option here: give {', '.join(names)}.")
    return options(**values)


def select(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the values that have one of the names; `None` is what is left out."""
    return {name: values[name] for name in names if values.get(name) is not None}


def check_order(medium: Any, queries: Iterable[Any]) -> None:
    """Raise `InputError` where the query was given first and the clip or image second."""
    if isinstance(medium, (str, Path)) and not os.path.exists(medium):
        for file in (query for query in queries if isinstance(query, (str, Path)) and os.path.isfile(query)):
            raise InputError(
                f"media is {show(str(medium))} and query {show(str(file))}, which is a file: the clip or image comes "
                "first, then the query."
            )


def check_questions(media: Any, queries: Iterable[str | None], media_type: str, **options: Any) -> None:
    """
    Find what is wrong with questions before minutes go into loading a model; the medium is not read.

    A query is `None` for a task without one. `options` are what is asked besides, how the clip is read and how to
    answer, as for the pipeline. A question that could not be asked is an `InputError`.
    """
    for query in queries:
        Question(**{**select(options, QUESTION_NAMES), "query": query}).check(media_type, media)
    ReadingOptions(**select(options, READING_NAMES)).check(media_type, media)
    AnsweringOptions(**select(options, ANSWERING_NAMES))


def check_medium(media: Any, media_type: str, options: Mapping[str, Any]) -> None:
    """
    Raise `InputError` for a file that cannot be read, or lacks a part or a time that is meant.

    One frame is decoded. `options` are what is asked and how the clip is read, as for the pipeline.
    """
    if media_type == "image":
        probe_image(media)
        return
    width, height, timeline = probe_video(media)[:3]
    seconds, end = timeline.seconds, timeline.end_seconds
    first, last = find_clip(str(media), seconds, None, options.get("time_range"), end)
    indices, ends_at = tuple(range(first, last + 1)), compute_clip_end(seconds, last, end)
    shown = tuple(seconds[first : last + 1].tolist())
    info = MediaInfo("video", width, height, indices, shown, stated_end_seconds=ends_at)
    for name in ("span", "start_seconds"):
        for time in np.ravel(unpack_units(options.get(name))) if options.get(name) is not None else ():
            try:
                info.fraction_at(float(time))
            except MediaError as error:
                raise MediaError(f"{name}: {error}", field=name) from error
