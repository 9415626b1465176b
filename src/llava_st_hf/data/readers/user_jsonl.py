"""A user's own annotations: JSONL with seconds of the file and pixels of the displayed frame."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...processing.tasks_llava_st import TASKS, Task
from ..annotation_checks import check_numbers, require_object, require_text
from ..annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from ..sample_writing import DEFAULT_NUM_FRAMES, find_text_coordinates
from ..skips import RecordError, make_error
from .base import FileReader

_AXES = {"span": "t", "box": "x"}
_FIELDS = ("query", "answer", "span_seconds", "boxes", "box", "start_seconds")
_KEYS = ("video", "image", "task", "id", "caption", *_FIELDS)
# How much a key has to look like one of these to be taken for a slip: `bbox` does, `boxer` does not.
_MIN_LIKENESS = 0.85


@dataclass(eq=False)
class UserJsonlReader(FileReader):
    """
    The records of a JSONL file, or a JSON file with one list, that somebody wrote for own clips and images.

    A record is an object with `video` or `image` (a path), what is asked and what is true:

    - `query`: the question, or what is described;
    - `answer` or `caption`: a text. Times and places in it are written `<t=3.5s>` and `<x=120px>`, or as fractions
      `<t=0.25>`, a span `{<t=1s><t=3.5s>}`, a box `[<x=10px><y=20px><x=50px><y=80px>]`;
    - `span_seconds`: [start, end] of the event, in seconds of the file;
    - `box`: [left, top, right, bottom] in pixels of the displayed image;
    - `boxes`: the same by time in a video, `{"3.1": [10, 20, 50, 80], "4.0": null}`; `null` says that the object is
      not to be seen at that time;
    - `task`: may be left out where the fields say it; each of `TASKS` has its `record_fields`. Of several tasks with
      the same, the first is meant, or one with spans or boxes in its answers if the answer has some;
    - `id`: name of the record, by default its number;
    - `start_seconds`: for `elc`, the time that the question names, by default the start of the span.

    Other keys are left alone, but one that looks like a slip of these, as `bboxes` does, is an error.

    The model learns a box at each sampled frame inside the span. The boxes given are interpolated to them; beside the
    first, the last and a `null`, a box holds for `HOLD_SECONDS`. A box may reach over the edge of the frame by
    `MAX_OVERHANG_PIXELS` or `MAX_OVERHANG_SHARE` of its side and is then cut off.

    Example:

    ```python
    >>> # {"video": "kitchen.mp4", "query": "she cuts the carrots", "span_seconds": [0.0, 2.5]}
    >>> reader = UserJsonlReader("mine.jsonl", "mine", data_folder="clips")
    >>> reader[0].task, reader[0].messages[1]["content"]
    ('tvg', '{<t=0.0><t=0.25>}')
    ```
    """

    num_frames: int = DEFAULT_NUM_FRAMES
    vary_prompts: bool = False

    def annotate(self, entry: Any) -> Annotation:
        """Return what a line says."""
        raw = require_object(entry)
        media_type = _get_media_type(raw)
        media = self.folder.open_media(raw[media_type], media_type, media_type)
        _check_keys(raw)
        answer_field = "caption" if raw.get("answer") is None else "answer"
        fields = {name: raw[name] for name in _FIELDS if raw.get(name) is not None}
        if raw.get("caption") is not None:
            fields["answer"] = raw["caption"]
        for name in {"query", "answer"} & fields.keys():
            require_text(fields, name)
        task = self._choose_task(raw.get("task"), media_type, fields, answer_field)
        used = task.record_fields
        return Annotation(
            task=task.name,
            media_type=media_type,
            media=media,
            query=fields.get("query"),
            answer=fields.get("answer"),
            answer_field=answer_field,
            spans=(_read_span(fields, "start" in task.needs),) if "span_seconds" in used else (),
            boxes=(AnnotatedBox(fields["box"]),) if "box" in used else (),
            tubes=(_read_tube(fields["boxes"]),) if "boxes" in used else (),
            cut_overhang=False,
        )

    def _choose_task(self, name: Any, media_type: str, fields: Mapping[str, Any], answer_field: str) -> Task:
        """Return the task that the record names, or else the one that its fields fit."""
        name = name or self.task
        if name is None:
            return _guess_task(media_type, fields, answer_field)
        if not isinstance(name, str) or name not in TASKS:
            raise make_error("task", name, f"choose one of {', '.join(TASKS)}")
        task = TASKS[name]
        if task.media_type not in ("any", media_type):
            raise make_error("task", name, f"it is about {task.media_type}s, but {media_type} is given; fix one")
        missing = [field for field in task.record_fields if field not in fields]
        if missing:
            raise RecordError(
                "invalid_field",
                missing[0],
                f"{' and '.join(missing)} missing: task {name!r} needs {', '.join(task.record_fields)}.",
            )
        return task


def _guess_task(media_type: str, fields: Mapping[str, Any], answer_field: str) -> Task:
    """Return the first task that has these fields, rather one whose answers have times or boxes as this one does."""
    axes = {coordinate.kind for coordinate in find_text_coordinates(fields.get("answer", ""), answer_field)}
    possible = [task for task in TASKS.values() if task.media_type in ("any", media_type)]
    found = []
    for task in possible:
        # Times or boxes in the text of an answer; without any it is another task's.
        axis = next((_AXES[part] for part in task.answer_format.several if part in _AXES), None)
        # A field that the task would not use says that another one may be meant.
        given = set(fields) - ({"start_seconds"} if "start" in task.needs else set())
        if given == set(task.record_fields) and (axis is None or axis in axes):
            found.append((axis is None, task))
    if not found:
        options = "; ".join(f"{task.name}: {', '.join(task.record_fields)}" for task in possible)
        raise RecordError(
            "invalid_field",
            "task",
            f"{media_type} with {', '.join(sorted(fields)) or 'nothing else'} fits no task: give task, or the fields "
            f"of one of these. {options}.",
        )
    return min(found, key=lambda pair: pair[0])[1]


def _check_keys(raw: Mapping[str, Any]) -> None:
    """Refuse a key that is nearly one of those that are read: what stands there would be lost in silence."""
    absent = [name for name in _KEYS if raw.get(name) is None]
    for key in raw.keys() - set(_KEYS):
        if near := difflib.get_close_matches(key.lower(), absent, n=1, cutoff=_MIN_LIKENESS):
            raise make_error(key, raw[key], f"no key of that name is read; did you mean {near[0]}")
    if raw.get("answer") is not None and raw.get("caption") is not None:
        raise make_error("caption", raw["caption"], "answer says the same; give one of the two")


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


def _read_span(fields: Mapping[str, Any], has_start: bool) -> AnnotatedSpan:
    """Return the span; of a task whose question names a start, from `start_seconds` on."""
    span = AnnotatedSpan(fields["span_seconds"], field="span_seconds")
    if not has_start or "start_seconds" not in fields:
        return span
    (start,) = check_numbers([fields["start_seconds"]], 1, "start_seconds", "in seconds")
    if not span.times[0] <= start <= span.times[1]:
        raise make_error("start_seconds", start, f"give a time inside span_seconds = {list(span.times)}")
    return AnnotatedSpan([start, span.times[1]], field="span_seconds")


def _read_tube(given: Any) -> AnnotatedTube:
    """Return the boxes of a clip by second."""
    if not isinstance(given, Mapping) or not given:
        raise make_error(
            "boxes", given, "give [left, top, right, bottom] in pixels by second, {'3.1': [10, 20, 50, 80]}"
        )
    boxes: dict[float, AnnotatedBox | None] = {}
    for key, value in given.items():
        try:
            seconds = float(key)
        except ValueError as error:
            raise make_error("boxes", key, "give the times of boxes in seconds, as in '3.1'") from error
        if seconds in boxes:
            raise make_error("boxes", key, "this time is there twice; give one box for each")
        boxes[seconds] = None if value is None else AnnotatedBox(value, field=f"boxes[{key}]")
    return AnnotatedTube(boxes)


__all__ = ["UserJsonlReader"]
