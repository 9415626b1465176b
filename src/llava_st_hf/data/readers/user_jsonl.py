"""A user's own annotations: JSONL with seconds of the file and pixels of the displayed frame."""

import difflib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ...processing.answer_parsing_llava_st import parse_answer
from ...processing.media_llava_st import InputError, MediaError, MediaInfo, PromptError
from ...processing.notation_llava_st import compute_fraction, find_coordinates, format_coordinate
from ...processing.tasks_llava_st import TASKS, Task, get_task
from ..media_probe import probe_image, probe_video
from ..samples import Media, Sample
from ..skips import RecordError, show
from .base import MediaFolder, Reader, require_object
from .json_files import JsonRecords
from .tubes import (
    DEFAULT_NUM_FRAMES,
    BoxValues,
    TubeEntries,
    check_count,
    check_numbers,
    check_times,
    choose_variant,
    compute_box_fractions,
    interpolate_boxes,
    make_error,
    require_text,
    write_box,
    write_end_caption,
    write_span,
    write_time,
    write_tube,
    write_turns,
)

# What a record of each task has beside its medium. The order is that in which a task is looked for.
RECORD_FIELDS = {
    "stvg": ("query", "span_seconds", "boxes"),
    "svg": ("query", "span_seconds", "boxes"),
    "elc": ("span_seconds", "boxes", "answer"),
    "tvg": ("query", "span_seconds"),
    "tr": ("span_seconds", "answer"),
    "rec": ("query", "box"),
    "rc": ("box", "answer"),
    "tgc": ("query", "answer"),
    "igc": ("query", "answer"),
    "video_qa": ("query", "answer"),
    "conversation": ("query", "answer"),
    "dvc": ("answer",),
    "dgc": ("answer",),
    "classification": ("answer",),
    "video_captioning": ("answer",),
}
_NEVER_GUESSED = ("svg", "video_qa", "classification")
# These answers hold times or boxes in their text; without any they are another task's.
_AXIS_OF_TEXT = {"tgc": "t", "dvc": "t", "igc": "x", "dgc": "x"}
_FIELDS = ("query", "answer", "span_seconds", "boxes", "box", "start_seconds")
_KEYS = ("video", "image", "task", "id", "caption", *_FIELDS)
# How much a key has to look like one of these to be taken for a slip: `bbox` does, `boxer` does not.
_MIN_LIKENESS = 0.85
_BOX_PIXELS = "[left, top, right, bottom] in pixels"
# Whether an answer can be read does not depend on the medium.
_ANY_IMAGE = MediaInfo("image", 1000, 1000)
_ANY_CLIP = MediaInfo("video", 1000, 1000, (0, 999), (0.0, 999.0))
# Frames at the very edge of a span count as inside, whatever the last digit of its seconds.
_EDGE_SECONDS = 1e-6


class UserJsonlReader(Reader):
    """
    The records of a JSONL file that somebody wrote for own clips and images.

    A line is an object with `video` or `image` (a path), what is asked and what is true:

    - `query`: the question, or what is described;
    - `answer` or `caption`: a text. Times and places in it are written `<t=3.5s>` and `<x=120px>`, or as fractions
      `<t=0.25>`, a span `{<t=1s><t=3.5s>}`, a box `[<x=10px><y=20px><x=50px><y=80px>]`;
    - `span_seconds`: [start, end] of the event, in seconds of the file;
    - `box`: [left, top, right, bottom] in pixels of the displayed image;
    - `boxes`: the same by time in a video, `{"3.1": [10, 20, 50, 80], "4.0": null}`; `null` says that the object is
      not to be seen at that time;
    - `task`: see the table. It may be left out where the fields say it (not for the tasks marked *);
    - `id`: name of the record, by default its number;
    - `start_seconds`: for `elc`, the time that the question names, by default the start of the span.

    Other keys are left alone, but one that looks like a slip of these, as `bboxes` does, is an error.

    | task | medium | fields |
    | --- | --- | --- |
    | `stvg` | video | `query`, `span_seconds`, `boxes` |
    | `svg` * | video | `query`, `span_seconds`, `boxes` |
    | `elc` | video | `span_seconds`, `boxes`, `caption` |
    | `tvg` | video | `query`, `span_seconds` |
    | `tr` | video | `span_seconds`, `caption` |
    | `rec` | image | `query`, `box` |
    | `rc` | image | `box`, `caption` |
    | `tgc` | video | `query`, `answer` with spans in it |
    | `igc` | image | `query`, `answer` with a box after each phrase |
    | `video_qa` * | video | `query`, `answer` |
    | `conversation` | any | `query`, `answer` |
    | `dvc` | video | `caption` with a span before each sentence |
    | `dgc` | image | `caption` with a box after each phrase |
    | `classification` * | video | `answer` |
    | `video_captioning` | video | `caption` |

    The model learns a box at each sampled frame inside the span. The boxes given are interpolated to them; beside the
    first, the last and a `null`, a box holds for `HOLD_SECONDS`. A box may reach over the edge of the frame by
    `MAX_OVERHANG_PIXELS` or `MAX_OVERHANG_SHARE` of its side and is then cut off.

    Args:
        path (`str` or `Path`): The file, `.jsonl` or `.json` with one list.
        source (`str`): Name of the data set.
        data_folder (`str` or `Path`, *optional*): Folder of the media.
        task (`str`, *optional*): Task of the records that do not name one themselves.
        num_frames (`int`, *optional*, defaults to 100): How many frames of a clip are sampled.
        vary_prompts (`bool`, *optional*, defaults to `False`):
            Whether a record's name chooses one of the published prompts of its task, instead of the first.

    Example:

    ```python
    >>> # {"video": "kitchen.mp4", "query": "she cuts the carrots", "span_seconds": [0.0, 2.5]}
    >>> reader = UserJsonlReader("mine.jsonl", "mine", data_folder="clips")
    >>> reader[0].task, reader[0].messages[1]["content"]
    ('tvg', '{<t=0.0><t=0.25>}')
    ```
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        data_folder: str | Path | None = None,
        task: str | None = None,
        num_frames: int = DEFAULT_NUM_FRAMES,
        vary_prompts: bool = False,
    ):
        self.source = source
        self.task = None if task is None else get_task(task).name
        self.num_frames = check_count("num_frames", num_frames)
        self._vary_prompts = vary_prompts
        self._folder = MediaFolder(data_folder)
        self._records = JsonRecords(path)

    def __len__(self) -> int:
        return len(self._records)

    def get_id(self, index: int) -> str:
        """Return the `id` of the record, or its number where it has none or cannot be read."""
        try:
            raw = self._records[index]
        except RecordError:
            raw = None
        return self._name(raw, index)

    def _name(self, raw: Any, index: int) -> str:
        name = raw.get("id") if isinstance(raw, Mapping) else None
        return str(name) if _is_name(name) else f"record {index}"

    def read(self, index: int) -> Sample:
        """Read one record; raises `RecordError` if it cannot be used."""
        raw = require_object(self._records[index])
        if raw.get("id") is not None and not _is_name(raw["id"]):
            raise make_error("id", raw["id"], "give a text or a whole number, or leave it out")
        media_type = _get_media_type(raw)
        media = self._folder.open_media(raw[media_type], media_type, media_type)
        record = _Record(raw, media_type, media, self.num_frames)
        task = record.choose_task(self.task)
        record_id = self._name(raw, index)
        variant = choose_variant(task.name, self.source, record_id, self._vary_prompts)
        try:
            messages = record.write(task, variant)
        except PromptError as error:
            raise RecordError("invalid_field", "query", f"the record cannot be written: {error}") from error
        return Sample(record_id, self.source, task.name, media_type, media, messages)


def _is_name(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and bool(str(value).strip())


class _Record:
    """One line of the file while it is turned into a conversation; the medium is looked into only when needed."""

    def __init__(self, raw: Mapping[str, Any], media_type: str, media: tuple[Media, ...], num_frames: int):
        self.media_type = media_type
        self.media = media
        self.num_frames = num_frames
        _check_keys(raw)
        if raw.get("answer") is not None and raw.get("caption") is not None:
            raise make_error("caption", raw["caption"], "answer says the same; give one of the two")
        self.task_name = raw.get("task")
        self.answer_field = "caption" if raw.get("answer") is None else "answer"
        self.fields = {name: raw[name] for name in _FIELDS if raw.get(name) is not None}
        if raw.get("caption") is not None:
            self.fields["answer"] = raw["caption"]
        for name in ("query", "answer"):
            if name in self.fields:
                require_text(self.fields, name)

    # ----------------------------------------------------------------------------------------------
    # The task
    # ----------------------------------------------------------------------------------------------
    def choose_task(self, default: str | None) -> Task:
        """Return the task that the record names, or else the one its fields fit."""
        name = self.task_name or default
        if name is None:
            return TASKS[self._guess_task()]
        if not isinstance(name, str) or name not in TASKS:
            raise make_error("task", name, f"choose one of {', '.join(TASKS)}")
        task = TASKS[name]
        if task.media_type not in ("any", self.media_type):
            raise make_error("task", name, f"it is about {task.media_type}s, but {self.media_type} is given; fix one")
        missing = [field for field in RECORD_FIELDS[name] if field not in self.fields]
        if missing:
            raise RecordError(
                "invalid_field",
                missing[0],
                f"{' and '.join(missing)} missing: task {name!r} needs {', '.join(RECORD_FIELDS[name])}.",
            )
        return task

    def _guess_task(self) -> str:
        given = set(self.fields)
        axes = {coordinate.axis for coordinate in _find_coordinates(self.fields.get("answer", ""), self.answer_field)}
        for name, fields in RECORD_FIELDS.items():
            # A field that the task would not use says that another one may be meant.
            if (
                TASKS[name].media_type in ("any", self.media_type)
                and name not in _NEVER_GUESSED
                and given - ({"start_seconds"} if name == "elc" else set()) == set(fields)
                and _AXIS_OF_TEXT.get(name, "") in ("", *axes)
            ):
                return name
        options = "; ".join(
            f"{name}: {', '.join(fields)}"
            for name, fields in RECORD_FIELDS.items()
            if TASKS[name].media_type in ("any", self.media_type)
        )
        raise RecordError(
            "invalid_field",
            "task",
            f"{self.media_type} with {', '.join(sorted(given)) or 'nothing else'} fits no task: give task, or the "
            f"fields of one of these. {options}.",
        )

    # ----------------------------------------------------------------------------------------------
    # Fractions
    # ----------------------------------------------------------------------------------------------
    @cached_property
    def info(self) -> MediaInfo:
        """Size and times of the medium."""
        if self.media_type == "image":
            return probe_image(self.media[0].path)
        if len(self.media) > 1:
            raise make_error(
                "video", f"a folder of {len(self.media)} pictures", "it has no seconds; give a video file"
            )
        return probe_video(self.media[0].path, self.num_frames)

    def compute_time(self, seconds: float, field: str) -> float:
        """Return a time of the file as a fraction of the clip."""
        try:
            return self.info.fraction_at(seconds)
        except MediaError as error:
            raise RecordError("invalid_field", field, f"{field} is {show(self.fields[field])}: {error}") from error

    @cached_property
    def span_seconds(self) -> tuple[float, float]:
        """Start and end in seconds of the file."""
        return check_times(self.fields["span_seconds"], "span_seconds", "[start, end] in seconds")

    @cached_property
    def span(self) -> tuple[float, float]:
        """Start and end as fractions."""
        start, end = (self.compute_time(seconds, "span_seconds") for seconds in self.span_seconds)
        return start, end

    @cached_property
    def box(self) -> BoxValues:
        """The box of an image, as fractions."""
        return self._compute_box(self.fields["box"], "box")

    def _compute_box(self, value: Any, field: str) -> BoxValues:
        numbers = check_numbers(value, 4, field, _BOX_PIXELS)
        return compute_box_fractions(numbers, self.info.width, self.info.height, field)

    def compute_tube(self, start_seconds: float) -> TubeEntries:
        """Return time and box, as fractions, at each sampled frame from a start to the end of the span."""
        boxes = self._read_boxes()
        end_seconds = self.span_seconds[1]
        frames = {
            index: (seconds, fraction)  # a short clip has some frames twice
            for index, seconds, fraction in zip(
                self.info.frame_indices, self.info.frame_seconds, self.info.frame_fractions.tolist(), strict=True
            )
            if start_seconds - _EDGE_SECONDS <= seconds <= end_seconds + _EDGE_SECONDS
        }
        if not frames:
            raise make_error(
                "span_seconds",
                [start_seconds, end_seconds],
                f"none of the {self.num_frames} sampled frames lies in it; widen it, or raise num_frames",
            )
        found = interpolate_boxes(boxes, [seconds for seconds, _ in frames.values()])
        entries = [
            (fraction, box) for (_, fraction), box in zip(frames.values(), found, strict=True) if box is not None
        ]
        if not entries:
            raise make_error("boxes", self.fields["boxes"], "none is at or near a sampled frame of the span; add some")
        return entries

    def _read_boxes(self) -> dict[float, BoxValues | None]:
        given = self.fields["boxes"]
        if not isinstance(given, Mapping) or not given:
            raise make_error("boxes", given, f"give {_BOX_PIXELS} by second, {{'3.1': [10, 20, 50, 80]}}")
        boxes: dict[float, BoxValues | None] = {}
        for key, value in given.items():
            try:
                seconds = float(key)
            except ValueError as error:
                raise make_error("boxes", key, "give the times of boxes in seconds, as in '3.1'") from error
            if seconds in boxes:
                raise make_error("boxes", key, "this time is there twice; give one box for each")
            self.compute_time(seconds, "boxes")
            boxes[seconds] = None if value is None else self._compute_box(value, f"boxes[{key}]")
        return boxes

    def convert_text(self, name: str) -> str:
        """Return a text with the seconds and pixels in it as fractions."""
        text, field = self.fields[name], self.answer_field if name == "answer" else name
        pieces, end = [], 0
        for coordinate in _find_coordinates(text, field):
            if coordinate.unit not in ("seconds", "pixels"):
                continue
            if coordinate.unit == "seconds" and self.media_type == "image":
                raise make_error(field, text[coordinate.start : coordinate.end], "an image has no time; leave it out")
            try:
                fraction = compute_fraction(coordinate, [self.info], num_bins=1)
            except (PromptError, MediaError) as error:
                raise RecordError("invalid_field", field, f"{field}: {error}") from error
            pieces += [text[end : coordinate.start], format_coordinate(coordinate.axis, fraction)]
            end = coordinate.end
        return "".join([*pieces, text[end:]])

    # ----------------------------------------------------------------------------------------------
    # The conversation
    # ----------------------------------------------------------------------------------------------
    def write(self, task: Task, variant: int) -> tuple[dict[str, str], ...]:
        """Return the question and the answer of a task, in the published form."""
        inputs: dict[str, str] = {}
        if "query" in task.needs:
            inputs["query"] = self.convert_text("query")
        if "span" in task.needs:
            inputs["span"] = write_span(*self.span)
        if task.name == "elc":
            start_seconds, start = self._read_start()
            tube = self.compute_tube(start_seconds)
            inputs |= {"start": write_time(start), "box": write_box(tube[0][1])}
            return write_turns(
                task.write_prompt(variant, **inputs),
                write_end_caption(self.span[1], self.convert_text("answer"), tube),
            )
        if "box" in task.needs:
            inputs["box"] = write_box(self.box)
        return write_turns(task.write_prompt(variant, **inputs), self._write_answer(task))

    def _read_start(self) -> tuple[float, float]:
        """Return the time that the question of elc names, in seconds and as a fraction."""
        if "start_seconds" not in self.fields:
            return self.span_seconds[0], self.span[0]
        value = self.fields["start_seconds"]
        (seconds,) = check_numbers([value], 1, "start_seconds", "in seconds")
        if not self.span_seconds[0] <= seconds <= self.span_seconds[1]:
            raise make_error("start_seconds", value, f"give a time inside span_seconds = {list(self.span_seconds)}")
        return seconds, self.compute_time(seconds, "start_seconds")

    def _write_answer(self, task: Task) -> str:
        if task.answer_format.name == "span":
            return write_span(*self.span)
        if task.answer_format.name == "box":
            return write_box(self.box)
        if task.answer_format.name == "tube":
            return write_tube(self.compute_tube(self.span_seconds[0]))
        if task.answer_format.name == "span_and_tube":
            return f"{write_span(*self.span)} {write_tube(self.compute_tube(self.span_seconds[0]))}"
        answer = self.convert_text("answer")
        if task.answer_format.name != "text":
            self._check_answer(task, answer)
        return answer

    def _check_answer(self, task: Task, answer: str) -> None:
        """Raise `RecordError` for a written answer that cannot be read as one of its task."""
        media = _ANY_CLIP if self.media_type == "video" else _ANY_IMAGE
        problems = parse_answer(answer, media, answer_format=task.answer_format).problems
        if problems:
            raise make_error(
                self.answer_field,
                answer,
                f"{problems[0].message} Task {task.name!r} has answers such as {task.example_answer!r}; fix it",
            )


def _check_keys(raw: Mapping[str, Any]) -> None:
    """Refuse a key that is nearly one of those that are read: what stands there would be lost in silence."""
    absent = [name for name in _KEYS if raw.get(name) is None]
    for key in raw.keys() - set(_KEYS):
        if near := difflib.get_close_matches(key.lower(), absent, n=1, cutoff=_MIN_LIKENESS):
            raise make_error(key, raw[key], f"no key of that name is read; did you mean {near[0]}")


def _get_media_type(raw: Mapping[str, Any]) -> str:
    """Return which medium a record has."""
    given = [name for name in ("video", "image") if raw.get(name) is not None]
    if len(given) != 1:
        raise RecordError(
            "invalid_field" if given else "missing_media",
            "video",
            f"the record has {' and '.join(given) or 'neither video nor image'}: give the path of one.",
        )
    return given[0]


def _find_coordinates(text: str, field: str) -> list[Any]:
    try:
        return find_coordinates(text)
    except InputError as error:
        raise RecordError("invalid_field", field, f"{field}: {error}") from error


__all__ = ["RECORD_FIELDS", "UserJsonlReader"]
