"""The ST-Align release: conversations with placeholders, whose coordinates stand in lists beside the text.

A record has `id`, `video` or `image` or neither, `conversations`, and optionally `meta.split` and `variables`:

```json
{"id": 7, "video": "kitchen/1.mp4", "meta": {"split": [0, 250]},
 "conversations": [{"from": "human", "value": "<video>\\nWhen does she cut the carrots?"},
                   {"from": "gpt", "value": "{<TEMP-OUTPUT><TEMP-OUTPUT>}"}],
 "variables": {"temporal_output_locations": [0.12, 0.47]}}
```

The placeholders of each kind take the values of their list in the order of the text. Tokens of the published
vocabulary, `<TEMP-041>`, become ours, `<t_41>`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...processing import PromptError
from ...processing.media_llava_st import format_count
from ...processing.notation_llava_st import NOTATION
from ..annotation_checks import check_frame, check_numbers, is_number, require_object
from ..samples import MEDIA_PLACEHOLDER, Media, Sample
from ..skips import make_error, make_fault
from .base import FileReader

_AXES = {"TEMP": "t", "HEIGHT": "y", "WIDTH": "x"}
_LISTS = {
    (name, direction): f"{prefix}_{direction.lower()}_locations"
    for name, prefix in (("TEMP", "temporal"), ("HEIGHT", "spatial_height"), ("WIDTH", "spatial_width"))
    for direction in ("INPUT", "OUTPUT")
}
_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
_DIRECTIONS = {"human": "INPUT", "gpt": "OUTPUT"}
# How far the release's coordinates may lie outside of [0, 1]: boxes that reach over the frame, ends after the clip.
MAX_OUTSIDE = 0.05
_PLACEHOLDER = re.compile(r"<(TEMP|HEIGHT|WIDTH)-(?:(INPUT|OUTPUT)|0*([0-9]{1,9}))>")
_LEADING_MEDIA = re.compile(r"(?:(?:<image>|<video>)\n)+")


@dataclass(eq=False)
class StAlignReader(FileReader):
    """
    Records of the ST-Align release, from JSON or JSONL; without `task`, that of each is inferred, see `infer_task`.
    """

    def read(self, index: int) -> Sample:
        record = require_object(self.entries[index])
        record_id = self.read_id(record, index)
        media_type, media = self._read_media(record)
        values = _Variables(record.get("variables"))
        messages = _read_messages(record, values, media_type, 1 if media_type == "video" else len(media))
        sample = Sample(
            id=record_id,
            source=self.source,
            task=infer_task(messages, media_type) if self.task is None else self.task,
            media_type=media_type,
            media=media,
            messages=messages,
            frame_range=_read_split(record),
            notes=values.notes,
        )
        return self.time_frames(sample)

    def read_task(self, index: int) -> str:
        """Return the task of a record whose media need not be there; raises `RecordError` for texts without sense."""
        record = require_object(self.entries[index])
        media_type = next((name for name in ("video", "image") if record.get(name) is not None), "text")
        names = record.get(media_type)
        num_media = len(names) if isinstance(names, list) else 1
        messages = _read_messages(record, _Variables(record.get("variables")), media_type, num_media)
        return infer_task(messages, media_type) if self.task is None else self.task

    def _read_media(self, record: Mapping[str, Any]) -> tuple[str, tuple[Media, ...]]:
        given = [name for name in ("video", "image") if record.get(name) is not None]
        if not given:
            return "text", ()
        if len(given) > 1:
            raise make_error("video", record["video"], "image is given too; a record is about one of them")
        media_type, names = given[0], record[given[0]]
        if isinstance(names, list):
            if media_type == "video" or not names:
                raise make_error(
                    media_type,
                    names,
                    "give the path of one clip, or of a folder with its frames; only image may be a list of paths",
                )
            return media_type, tuple(
                medium
                for position, name in enumerate(names)
                for medium in self.folder.open_media(name, media_type, f"image[{position}]")
            )
        return media_type, self.folder.open_media(names, media_type, media_type)


def _read_split(record: Mapping[str, Any]) -> tuple[int, int] | None:
    meta = record.get("meta")
    if meta is None:
        return None
    if not isinstance(meta, Mapping):
        raise make_error("meta", meta, "give an object, or leave it out")
    split = meta.get("split")
    if split is None:
        return None
    first, last = check_numbers(split, 2, "meta.split", "the first and the last frame")
    return check_frame(first, "meta.split"), check_frame(last, "meta.split")


def _read_messages(
    record: Mapping[str, Any], values: "_Variables", media_type: str, num_media: int
) -> tuple[dict[str, str], ...]:
    turns = record.get("conversations")
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise make_error("conversations", turns, "give a list of objects with from and value")
    messages = []
    for position, turn in enumerate(turns):
        name, speaker, text = f"conversations[{position}]", turn.get("from"), turn.get("value")
        if not isinstance(speaker, str) or speaker not in _ROLES:
            raise make_error(f"{name}.from", speaker, "give 'human' or 'gpt'")
        if not isinstance(text, str):
            raise make_error(f"{name}.value", text, "give a text")
        messages.append({"role": _ROLES[speaker], "content": values.write_into(text, name, speaker)})
    values.check_all_taken()
    _remove_leading_media(messages, media_type, num_media)
    return tuple(messages)


def _remove_leading_media(messages: list[dict[str, str]], media_type: str, num_media: int) -> None:
    """Take away the placeholders before the first question, where media stand anyway; any other stays."""
    first = next((message for message in messages if message["role"] == "user"), None)
    match = _LEADING_MEDIA.match(first["content"]) if first is not None else None
    if match is None or not first["content"][match.end() :].strip():
        return
    num_found = sum(len(MEDIA_PLACEHOLDER.findall(message["content"])) for message in messages)
    placeholders = match.group().split()
    # Records of LLaVA-Video and its kin write <image> for a clip.
    accepted = {"<video>", "<image>"} if media_type == "video" else {"<image>"}
    if len(placeholders) == num_found == num_media and accepted.issuperset(placeholders):
        first["content"] = first["content"][match.end() :]


class _Variables:
    """The lists of coordinates of one record; each placeholder takes the next value of its list."""

    def __init__(self, variables: Any):
        variables = {} if variables is None else variables
        if not isinstance(variables, Mapping):
            raise make_error("variables", variables, "give an object with six lists")
        self._values: dict[str, list[Any]] = {}
        self._counts = dict.fromkeys(_LISTS.values(), 0)
        self.notes: tuple[tuple[str, str], ...] = ()  # what was put right
        for name in _LISTS.values():
            values = variables.get(name)
            values = [] if values is None else values
            if not isinstance(values, list):
                raise make_error(f"variables.{name}", values, "give a list of numbers")
            for position, value in enumerate(values):
                place = f"variables.{name}[{position}]"
                if not is_number(value) or not -MAX_OUTSIDE <= value <= 1 + MAX_OUTSIDE:
                    raise make_error(place, value, "give a fraction from 0 to 1")
                if not 0 <= value <= 1:
                    # Parity: the published code takes such a value for the first or the last token of its axis.
                    self.notes = (("clamped_coordinate", f"{place} is {value}, which counts as the edge"),)
            self._values[name] = [min(max(value, 0), 1) for value in values]

    def write_into(self, text: str, turn: str, speaker: str) -> str:
        """Replace the placeholders and the published tokens of one turn by coordinates."""

        def replace(match: re.Match) -> str:
            axis, direction, bin_index = _AXES[match[1]], match[2], match[3]
            if direction is None:
                return f"<{axis}_{bin_index}>"
            if direction != _DIRECTIONS.get(speaker):
                fix = f"{speaker!r} says it; INPUT belongs to 'human', OUTPUT to 'gpt'"
                raise make_error(f"{turn}.value", match.group(), fix, "holds")
            name = _LISTS[match[1], direction]
            position = self._counts[name]
            self._counts[name] += 1
            # Too few are reported when all placeholders are counted.
            if position >= len(self._values[name]):
                return ""
            return NOTATION.write_coordinate(axis, self._values[name][position])

        return _PLACEHOLDER.sub(replace, text)

    def check_all_taken(self) -> None:
        """Raise `RecordError` for a list that has more or fewer values than the text has placeholders."""
        for (axis, direction), name in _LISTS.items():
            num_values, num_places = len(self._values[name]), self._counts[name]
            if num_values != num_places:
                said = f"{format_count(num_values, 'value')}, but the text has {num_places} <{axis}-{direction}>"
                raise make_fault(f"variables.{name}", f"has {said}", "give one value for each")


# Of texts whose coordinates are marked by their axes.
_SPAN = re.compile(r"\{<t>[\s,]*<t>\}")
_BOX = re.compile(r"\[<x>[\s,]*<y>[\s,]*<x>[\s,]*<y>\]")
_TUBE = re.compile(rf"<t>\s*:\s*{_BOX.pattern}")
_END = re.compile(r"\s*Ends in\s+<t>")
_COORDINATE = re.compile(r"<[txy]>")
_WORD = re.compile(r"\w")
_ASKS_FOR_EVENTS = re.compile(r"\b(?:events?|activities|dense)\b", re.IGNORECASE)
_ASKS_FOR_DESCRIPTION = re.compile(r"\b(?:describe|description|explanation|caption|summari[sz]e)\b", re.IGNORECASE)
_ASKS_FOR_CAPTION = re.compile(
    r"\b(?:describe|description|caption|summari[sz]e)\b|what (?:was|is) (?:going on|happening)", re.IGNORECASE
)
_ASKS_FOR_CLASS = re.compile(r"\b(?:what|which) (?:action|activity)\b|\bclassif", re.IGNORECASE)


def infer_task(messages: Sequence[Mapping[str, str]], media_type: str) -> str:
    """
    Tell the task of a conversation, whose coordinates are inline, from the form of its question and of its answer.

    Several turns are `tgc` (video) or `igc` (image) where an answer holds spans or boxes, else `conversation`.
    """
    try:
        marked = [
            (message["role"], NOTATION.replace_coordinates(message["content"], lambda each: f"<{each.kind}>"))
            for message in messages
        ]
    except PromptError:  # which the record says when it is made
        return "conversation"
    questions = [text for role, text in marked if role == "user"]
    answers = [text for role, text in marked if role == "assistant"]
    group = _SPAN if media_type == "video" else _BOX
    if media_type == "text" or len(answers) != 1 or len(questions) != 1:
        grounded = any(group.search(answer) for answer in answers) and media_type != "text"
        return {"video": "tgc", "image": "igc"}[media_type] if grounded else "conversation"
    infer = _infer_of_video if media_type == "video" else _infer_of_image
    return infer(questions[0], answers[0])


def _infer_of_video(question: str, answer: str) -> str:
    spans = _SPAN.findall(answer)
    if _END.match(answer):
        return "elc"
    if _TUBE.search(answer):
        return ("stvg" if len(spans) == 1 else "stvg_several") if spans else "svg"
    if spans:
        if len(spans) > 1 and not _WORD.search(_SPAN.sub("", answer)):
            return "tvg_several"
        # "{span}" or "It happens in {span}.", but not "{span}, a sentence."
        if len(spans) == 1 and not _WORD.search(_SPAN.split(answer)[1]):
            return "tvg"
        return "dvc" if _ASKS_FOR_EVENTS.search(question) else "tgc"
    if _COORDINATE.search(answer):
        return "conversation"
    if _SPAN.search(question):
        return "tr"
    if _ASKS_FOR_CLASS.search(question):
        return "classification"
    return "video_captioning" if _ASKS_FOR_CAPTION.search(question) else "video_qa"


def _infer_of_image(question: str, answer: str) -> str:
    boxes = _BOX.findall(answer)
    if boxes:
        if len(boxes) == 1 and not _WORD.search(_BOX.sub("", answer)):
            return "rec"
        return "dgc" if _ASKS_FOR_DESCRIPTION.search(question) else "igc"
    return "rc" if _BOX.search(question) and not _COORDINATE.search(answer) else "conversation"
