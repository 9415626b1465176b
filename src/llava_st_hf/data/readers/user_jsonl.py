"""A user's own annotations: JSONL with seconds of the file and pixels of the displayed frame."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...processing import TASKS, InputError, Task
from ...processing.video_requests_llava_st import TIME_FIELDS
from ..annotation_checks import (
    check_numbers,
    is_number,
    read_number,
    read_seconds,
    read_size,
    require_object,
    require_text,
)
from ..annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from ..sample_writing import find_text_coordinates
from ..samples import Media
from ..skips import RecordError, make_error, show
from .base import FileReader

_AXES = {"span": "t", "box": "x"}
_FIELDS = ("query", "answer", "span_seconds", "boxes", "box", "start_seconds")
# What a box is, of a record or of all of them, with the values that it may have.
_BOX_KINDS = {"box_format": ("xyxy", "xywh"), "unit": ("pixels", "fraction", "thousandth")}
_KEYS = ("video", "image", "task", "id", "caption", *_BOX_KINDS, "width", "height", *_FIELDS, *TIME_FIELDS)
# Keys that others have for the same, as hints.
_SPAN_HINT = "span_seconds: [start, end] in seconds"
_BOX_HINT = "box: [left, top, right, bottom] in pixels, of a clip boxes: {second: box}"
HINTS = {
    **dict.fromkeys(("start", "end", "start_time", "end_time", "span", "segment", "window"), _SPAN_HINT),
    **dict.fromkeys(("timestamp", "timestamps", "time", "times"), _SPAN_HINT),
    **dict.fromkeys(("bbox", "bboxes", "bounding_box", "xywh", "xyxy"), _BOX_HINT),
    **dict.fromkeys(("question", "sentence", "text", "prompt", "expression", "phrase"), "query: what is asked"),
}
MEDIA_HINTS = dict.fromkeys(
    ("file", "filename", "file_name", "path", "media", "clip", "vid", "video_path", "video_file", "img", "image_path"),
    "video, or image: the path of the file",
)
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
    - `span_seconds`: [start, end] of the event, in seconds of the file, or `["00:03.5", "1:02:03"]`; a list of such
      where it happens several times;
    - `box`: [left, top, right, bottom] in pixels of the displayed image;
    - `boxes`: the same by time in a video, `{"3.1": [10, 20, 50, 80], "4.0": null}` or `[[3.1, [10, 20, 50, 80]],
      ...]`; `null` says that the object is not to be seen at that time;
    - `box_format`: `"xywh"` where boxes are [left, top, width, height];
    - `unit`: `"fraction"` or `"thousandth"` where they are shares of the frame, from 0 to 1 or from 0 to 1000;
    - `width`, `height`: of the frames that pixels are counted in, by default those of the file. A copy of another
      size has the boxes at the same shares; one of another shape is skipped;
    - `video_fps`: frames a second, where `video` is a folder of pictures; or `frame_seconds`, the time of each;
    - `task`: may be left out where the fields say it; each of `TASKS` has its `record_fields`. Of several tasks with
      the same, the first is meant, or one with spans or boxes in its answers if the answer has some;
    - `id`: name of the record, by default its number;
    - `start_seconds`: for `elc`, the time that the question names, by default the start of the span.

    Other keys are left alone, but one that looks like a slip of these, as `bboxes` does, is an error.

    The model learns a box at each sampled frame inside the span. The boxes given are interpolated to them; beside the
    first, the last and a `null`, a box holds for `HOLD_SECONDS`. A box may reach over the edge of the frame by
    `MAX_OVERHANG_PIXELS` or `MAX_OVERHANG_SHARE` of its side and is then cut off.
    """

    vary_prompts: bool = False
    box_format: str = "xyxy"  # `box_format` of the records that do not say it
    unit: str = "pixels"  # `unit` of the records that do not say it

    def __post_init__(self):
        for name, values in _BOX_KINDS.items():
            if getattr(self, name) not in values:
                raise InputError(f"{name} is {show(getattr(self, name))}: choose one of {', '.join(values)}.")
        super().__post_init__()

    def annotate(self, entry: Any) -> Annotation:
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
        task = self._choose_task(raw, media_type, fields, answer_field)
        used = task.record_fields
        kind = self._read_kind(raw)
        return Annotation(
            task=task.name,
            media_type=media_type,
            media=media,
            **_read_times(raw, media),
            query=task.name_query(fields["query"]) if "query" in fields else None,
            answer=fields.get("answer"),
            answer_field=answer_field,
            spans=_read_spans(fields, "start" in task.needs) if "span_seconds" in used else (),
            boxes=(_read_box(fields["box"], "box", kind),) if "box" in used else (),
            tubes=(_read_tube(fields["boxes"], kind),) if "boxes" in used else (),
            size=read_size(raw),
            cut_overhang=False,
        )

    def _read_kind(self, raw: Mapping[str, Any]) -> dict[str, str]:
        """Return what the boxes of a record are, as arguments of `AnnotatedBox`."""
        for name, values in _BOX_KINDS.items():
            if raw.get(name) is not None and raw[name] not in values:
                raise make_error(name, raw[name], f"choose one of {', '.join(values)}")
            if raw.get(name) is not None and all(raw.get(field) is None for field in ("box", "boxes")):
                raise make_error(
                    name, raw[name], "it is of boxes, and none are given; leave it out: times are seconds"
                )
        return {"form": raw.get("box_format") or self.box_format, "unit": raw.get("unit") or self.unit}

    def _choose_task(
        self, raw: Mapping[str, Any], media_type: str, fields: Mapping[str, Any], answer_field: str
    ) -> Task:
        """Return the task that the record names, or else the one that its fields fit."""
        name = raw.get("task") or self.task
        if name is None:
            return _guess_task(raw, media_type, fields, answer_field)
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
                f"{' and '.join(missing)} missing: task {name!r} needs {', '.join(task.record_fields)}."
                f"{describe_slips(raw)}",
            )
        return task


def _guess_task(raw: Mapping[str, Any], media_type: str, fields: Mapping[str, Any], answer_field: str) -> Task:
    """Return the first task that has these fields, rather one whose answers have times or boxes as this one does."""
    axes = {coordinate.kind for coordinate in find_text_coordinates(fields.get("answer", ""), answer_field)}
    possible = [task for task in TASKS.values() if task.media_type in ("any", media_type)]
    has_several = _has_several(fields.get("span_seconds"))
    found = []
    for task in possible:
        # Times or boxes in the text of an answer; without any it is another task's.
        form = task.answer_format
        axis = next((_AXES[part] for part in form.several if part in _AXES and part not in form.fields), None)
        # A field that the task would not use says that another one may be meant.
        given = set(fields) - ({"start_seconds"} if "start" in task.needs else set())
        fits_spans = "span_seconds" not in fields or has_several == task.answer_format.takes_several("span")
        if given == set(task.record_fields) and fits_spans and (axis is None or axis in axes):
            found.append((axis is None, task))
    if not found:
        is_other = ("box" if media_type == "video" else "boxes") in fields
        options = "; ".join(f"{task.name}: {', '.join(task.record_fields)}" for task in possible)
        names = [f"{name} (several)" if name == "span_seconds" and has_several else name for name in sorted(fields)]
        raise RecordError(
            "invalid_field",
            "task",
            f"{media_type} with {', '.join(names) or 'nothing else'} fits no task.{describe_slips(raw)}"
            f"{f' Write {_BOX_HINT}.' if is_other else ''} Give task, or the fields of one of these: {options}.",
        )
    task = min(found, key=lambda pair: pair[0])[1]
    # What stands under a key of others, and is said nowhere else, would be lost in silence.
    said = {*fields, *(("box",) if "boxes" in fields else ()), *(("span_seconds",) if media_type == "image" else ())}
    for key in raw:
        hint = HINTS.get(str(key).lower())
        if hint is not None and raw[key] is not None and hint.partition(":")[0] not in said:
            fix = f"no key of that name is read. Write it as {hint}. Or give task: {task.name}, if it is none"
            raise make_error(str(key), raw[key], fix)
    return task


def _read_times(raw: Mapping[str, Any], media: Sequence[Media]) -> dict[str, Any]:
    """Return when the pictures of a clip are."""
    times = {name: raw[name] for name in TIME_FIELDS if raw.get(name) is not None}
    if times and len(media) < 2:
        name, value = next(iter(times.items()))
        raise make_error(name, value, "it is of a video that is a folder of pictures; leave it out")
    if "video_fps" in times:
        times["video_fps"] = read_number(times["video_fps"])
    if "frame_seconds" in times:
        seconds = times["frame_seconds"]
        if not isinstance(seconds, (list, tuple)):
            raise make_error("frame_seconds", seconds, "give the time of each picture in seconds")
        times["frame_seconds"] = tuple(read_seconds(second) for second in seconds)
    return times


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
            f"the record has {' and '.join(given) or 'neither video nor image'}: give the path of one."
            f"{'' if given else describe_slips([key for key in raw if raw[key] is not None])}",
        )
    return given[0]


def describe_slips(keys: Collection[Any]) -> str:
    """Say how what stands under the keys of others is to be written."""
    known = HINTS if {"video", "image"} & set(keys) else {**MEDIA_HINTS, **HINTS}
    given = {str(key).lower(): str(key) for key in keys}
    hints: dict[str, list[str]] = {}
    for name, hint in known.items():  # in the order of the table: that of a set differs from run to run
        if name in given:
            hints.setdefault(hint, []).append(given[name])
    return "".join(f" Write {', '.join(keys)} as {hint}." for hint, keys in hints.items())


def _has_several(given: Any) -> bool:
    """Tell whether spans are given as a list of them."""
    return isinstance(given, (list, tuple)) and len(given) > 0 and all(isinstance(one, (list, tuple)) for one in given)


def _read_spans(fields: Mapping[str, Any], has_start: bool) -> tuple[AnnotatedSpan, ...]:
    """Return the spans in the order of time; of a task whose question names a start, from `start_seconds` on."""
    given = fields["span_seconds"]
    has_several, spans = _has_several(given), []
    for place, times in enumerate(given if has_several else [given]):
        times = [read_seconds(time) for time in times] if isinstance(times, (list, tuple)) else times
        spans.append(AnnotatedSpan(times, field=f"span_seconds[{place}]" if has_several else "span_seconds"))
    spans.sort(key=lambda span: span.times)
    if not has_start or "start_seconds" not in fields:
        return tuple(spans)
    (start,) = check_numbers([read_seconds(fields["start_seconds"])], 1, "start_seconds", "in seconds")
    first = spans[0]
    if not first.times[0] <= start <= first.times[1]:
        raise make_error("start_seconds", start, f"give a time inside span_seconds = {list(first.times)}")
    return AnnotatedSpan([start, first.times[1]], field="span_seconds"), *spans[1:]


def _read_box(given: Any, field: str, kind: Mapping[str, str]) -> AnnotatedBox:
    """Return a box; its numbers may be in quotes."""
    values = [read_number(value) for value in given] if isinstance(given, (list, tuple)) else given
    return AnnotatedBox(values, field=field, **kind)


def _read_tube(given: Any, kind: Mapping[str, str]) -> AnnotatedTube:
    """Return the boxes of a clip by second."""
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    if (
        not isinstance(pairs, list)
        or not pairs
        or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs)
    ):
        raise make_error(
            "boxes", given, "give [left, top, right, bottom] in pixels by second, {'3.1': [10, 20, 50, 80]}"
        )
    boxes: dict[float, AnnotatedBox | None] = {}
    for key, value in pairs:
        seconds = read_seconds(key)
        if not is_number(seconds):
            raise make_error("boxes", key, "give the times of boxes in seconds, as in '3.1'")
        if seconds in boxes:
            raise make_error("boxes", key, "this time is there twice; give one box for each")
        boxes[seconds] = None if value is None else _read_box(value, f"boxes[{key}]", kind)
    return AnnotatedTube(boxes)
