"""The canonical record: one conversation about one clip, some images or nothing, coordinates written in the text.

Everything that reads data makes a `Sample`, everything that uses data takes one. In Python it is this dataclass, in
Parquet and in `datasets` it is a row of `get_features()`, with a column for each of its fields but `notes`; `media` is
a list of {`bytes`, `path`} there.

Coordinates are written `<t=0.409>`, `<x=0.35>`, `<y=0.442>`: fractions of the clip (of `frame_range`, where given), of
the width and of the height. `<t=3.5s>` and `<x=120px>` are allowed where the fractions are not known yet. Media stand
at the front of the first user turn, unless the text says with `<video>` or `<image>` where they stand.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np

from ..processing import TASKS
from ..processing.media_llava_st import show
from ..processing.notation_llava_st import NOTATION, Lexeme
from ..processing.prompt_coordinates_llava_st import check_prompt_coordinates
from ..processing.prompt_expansion_llava_st import check_encodable
from ..processing.video_requests_llava_st import TIME_FIELDS, list_times
from .skips import make_error, make_fault, record_errors

MEDIA_TYPES = ("video", "image", "text")
MAX_TEXT_CHARACTERS = 200_000  # of all messages together; far above what a context of 32,768 tokens holds
MAX_MESSAGES = 2000  # the time to render a chat template grows with the square of the turns
_ROLES = ("user", "assistant")
MEDIA_PLACEHOLDER = re.compile("<image>|<video>")
_CONTROL_TOKEN = re.compile(r"<\|(?:im_start|im_end|endoftext)\|>")


@dataclass(frozen=True)
class Media:
    """
    One clip, image or frame of a record; one of the three is given.

    Args:
        path (`str`, *optional*): Path of the file. Beside `content` it is only a name.
        content (`bytes`, *optional*): The file itself.
        frames (`np.ndarray`, *optional*):
            uint8 (frames, height, width, 3) of a clip or (height, width, 3) of an image, for media that were made in
            memory. It cannot be stored in a row.
    """

    path: str | None = None
    content: bytes | None = None
    frames: np.ndarray | None = None

    def __post_init__(self):
        if self.path is None and self.content is None and self.frames is None:
            raise make_fault("media", "has neither a path nor bytes", "give one of them", "missing_media")
        if not isinstance(self.path, (str, type(None))) or not isinstance(self.content, (bytes, type(None))):
            raise make_error("media", [self.path, self.content], "give the path as text, the content as bytes")
        if self.path is not None:
            with record_errors("media"):
                check_encodable("media", self.path)
        is_array = isinstance(self.frames, np.ndarray) and self.frames.dtype == np.uint8
        if self.frames is not None and not (is_array and self.frames.ndim in (3, 4) and self.frames.shape[-1] == 3):
            fix = "give a uint8 array (frames, height, width, 3) of a clip or (height, width, 3) of an image"
            raise make_error("media", self.frames, fix)

    @property
    def source(self) -> "np.ndarray | bytes | str":
        """What the medium is read from: its array, its bytes or its path."""
        if self.frames is not None:
            return self.frames
        return self.path if self.content is None else self.content


@dataclass(frozen=True)
class Sample:
    """
    One record in the canonical form; making one checks it.

    Args:
        id (`str`): Name of the record, unique within its source.
        source (`str`): Name of the data set it comes from.
        task (`str`): One of `TASKS`.
        media_type (`str`): `"video"`, `"image"` or `"text"`.
        media (`tuple[Media, ...]`): A clip, images, or the frames of a clip in order; empty for text.
        messages (`tuple[dict[str, str], ...]`):
            `role` (`"system"` once at the front, then `"user"` and `"assistant"` in turns) and `content`.
        frame_range (`tuple[int, int]`, *optional*): First and last frame of the part of the clip that is meant.
        video_fps (`float`, *optional*): Frames a second of a clip that is kept as frames.
        frame_seconds (`tuple[float, ...]`, *optional*): The time of each of those frames, instead.
        notes (`tuple[tuple[str, str], ...]`, *optional*, defaults to `()`):
            What its reader put right, a kind and a sentence each, for `llava-st data check`. No part of the record.
        box_kind (`tuple[str, str]`, *optional*):
            Form and unit in which its file has boxes, for the same. No part of the record.

    Raises:
        `RecordError`: With the field, its value and the fix, for anything that does not fit together.

    Example:

    ```python
    >>> sample = Sample(
    ...     id="1",
    ...     source="kitchen",
    ...     task="tvg",
    ...     media_type="video",
    ...     media=(Media(path="kitchen.mp4"),),
    ...     messages=(
    ...         {"role": "user", "content": "When does she cut the carrots?"},
    ...         {"role": "assistant", "content": "{<t=0.12><t=0.47>}"},
    ...     ),
    ... )
    >>> sample.to_messages()[0]["content"][0]
    {'type': 'video', 'video': 'kitchen.mp4'}
    ```
    """

    id: str
    source: str
    task: str
    media_type: str
    media: tuple[Media, ...]
    messages: tuple[Mapping[str, str], ...]
    frame_range: tuple[int, int] | None = None
    video_fps: float | None = None
    frame_seconds: tuple[float, ...] | None = None
    notes: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    box_kind: tuple[str, str] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        for name in ("id", "source"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip() or len(value) > 1000:
                raise make_error(name, value, "give a text of 1 to 1,000 characters")
            with record_errors(name):
                check_encodable(name, value)
        if not isinstance(self.task, str) or self.task not in TASKS:
            raise make_error("task", self.task, f"choose one of {', '.join(TASKS)}")
        self._check_media()
        self._check_frame_range()
        frames = self.media if len(self.media) > 1 or not self.media else self.media[0].frames
        check_frame_times(len(frames) if self.is_kept_as_frames else 0, self.video_fps, self.frame_seconds)
        self._check_messages()

    def _check_media(self) -> None:
        if self.media_type not in MEDIA_TYPES:
            raise make_error("media_type", self.media_type, f"choose one of {', '.join(MEDIA_TYPES)}")
        if bool(self.media) != (self.media_type != "text"):
            raise make_fault(
                "media",
                f"has {len(self.media)} entries, but media_type is {self.media_type!r}",
                "give at least one for a video or an image, none for text",
                "invalid_field" if self.media else "missing_media",
            )
        needed = TASKS[self.task].media_type
        if needed not in ("any", self.media_type):
            raise make_error("media_type", self.media_type, f"task {self.task!r} needs {needed}; fix one of the two")

    def _check_frame_range(self) -> None:
        if self.frame_range is None:
            return
        numbers = self.frame_range if isinstance(self.frame_range, (tuple, list)) else ()
        is_whole = [isinstance(number, Integral) and not isinstance(number, bool) for number in numbers]
        if self.media_type != "video" or is_whole != [True, True] or not 0 <= numbers[0] <= numbers[1]:
            fix = "give the first and the last frame of a video as whole numbers, the first not after the last"
            raise make_error("frame_range", self.frame_range, fix)

    @property
    def is_kept_as_frames(self) -> bool:
        """Whether the medium is a clip in the form of its frames, which do not tell when they are."""
        return self.media_type == "video" and (len(self.media) > 1 or self.media[0].frames is not None)

    @property
    def has_times(self) -> bool:
        """Whether something says when the frames of a clip are: its file, or the record."""
        return not self.is_kept_as_frames or self.video_fps is not None or self.frame_seconds is not None

    def _check_messages(self) -> None:
        if not isinstance(self.messages, (tuple, list)) or not all(isinstance(m, Mapping) for m in self.messages):
            raise make_error("messages", self.messages, "give a list of role and content")
        roles = [message.get("role") for message in self.messages]
        turns = roles[1:] if roles[:1] == ["system"] else roles
        if not turns or len(turns) % 2 or any(role != _ROLES[index % 2] for index, role in enumerate(turns)):
            raise make_error("messages", roles, "user and assistant take turns, user first")
        if len(self.messages) > MAX_MESSAGES:
            said = f"holds {len(self.messages):,} turns, more than {MAX_MESSAGES:,}"
            raise make_fault("messages", said, "split the record", "too_long")
        lengths = 0
        for index, message in enumerate(self.messages):
            name, content = f"messages[{index}].content", message.get("content")
            if not isinstance(content, str) or not content.strip():
                raise make_error(name, content, "give a text that is not empty")
            lengths += len(content)
            if lengths > MAX_TEXT_CHARACTERS:
                said = f"hold more than {MAX_TEXT_CHARACTERS:,} characters"
                raise make_fault("messages", said, "shorten or split the record", "too_long")
            if match := _CONTROL_TOKEN.search(content):
                raise make_error(name, match.group(), "leave out the control token", "holds")
            with record_errors(name):
                check_encodable(name, content)
                # What the assistant says is checked as strictly, as it is to be learnt.
                check_prompt_coordinates(content, is_answer=message["role"] == "assistant")
        self._check_placeholders()

    def _check_placeholders(self) -> None:
        found = [(m["role"], token) for m in self.messages for token in MEDIA_PLACEHOLDER.findall(m["content"])]
        expected = ["<video>"] if self.media_type == "video" else ["<image>"] * len(self.media)
        if found and found != [("user", token) for token in expected]:
            said = f"hold the placeholders {show([token for _, token in found])}, but the media are {show(expected)}"
            fix = "write one for each medium in the turns of the user, or none at all"
            raise make_fault("messages", said, fix)

    def to_row(self) -> dict[str, Any]:
        """
        Return the record as a row of `get_features()`.

        Raises:
            `RecordError`: For media that are only arrays in memory: encode them first.
        """
        if any(item.frames is not None for item in self.media):
            raise make_fault("media", "are arrays in memory", "encode them as a file first")
        return {
            "id": self.id,
            "source": self.source,
            "task": self.task,
            "media_type": self.media_type,
            "media": [{"bytes": item.content, "path": item.path} for item in self.media],
            "frame_range": None if self.frame_range is None else list(self.frame_range),
            "video_fps": self.video_fps,
            "frame_seconds": None if self.frame_seconds is None else list(self.frame_seconds),
            "messages": [{"role": message["role"], "content": message["content"]} for message in self.messages],
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Sample":
        """
        Make a record of a row of `get_features()`; columns beside those are ignored.

        Raises:
            `RecordError`: For a missing column, or one with a value that it cannot have.
        """
        if not isinstance(row, Mapping):
            raise make_error("record", row, "give an object with fields")
        missing = [name for name in ("id", "source", "task", "media_type", "messages") if row.get(name) is None]
        if missing:
            raise make_fault(missing[0], "is missing", "a canonical record has it")
        media = row.get("media")
        media = [] if media is None else media
        if not isinstance(media, (list, tuple)) or not all(isinstance(item, Mapping) for item in media):
            raise make_error("media", media, "give a list of {bytes, path}")
        lists = {name: row.get(name) for name in ("messages", "frame_range", "frame_seconds")}
        return cls(
            **{name: row.get(name) for name in ("id", "source", "task", "media_type", "video_fps")},
            **{name: tuple(value) if isinstance(value, list) else value for name, value in lists.items()},
            media=tuple(Media(path=item.get("path"), content=item.get("bytes")) for item in media),
        )

    def to_messages(self, media: Sequence[Any] | None = None) -> list[dict[str, Any]]:
        """
        Return the record as chat messages for `LlavaSTProcessor.apply_chat_template`.

        Args:
            media (`Sequence[Any]`, *optional*):
                What to put in the place of the media: a clip, or the images in order. Defaults to the paths, bytes or
                arrays of the record, with the times of frames.

        Returns:
            `list[dict]`: Messages whose content is a list of blocks, media at their places.
        """
        kind, times = self.media_type, {}
        if media is None:
            times = {name: getattr(self, name) for name in TIME_FIELDS if getattr(self, name) is not None}
            media = [item.source for item in self.media]
            # Frames that are kept as pictures are one clip.
            media = [media] if kind == "video" and len(media) > 1 else media
        frames = {"frame_range": list(self.frame_range)} if self.frame_range is not None else {}
        blocks = [{"type": kind, kind: item, **frames, **times} for item in media]
        marked = any(MEDIA_PLACEHOLDER.search(message["content"]) for message in self.messages)
        messages = []
        for message in self.messages:
            content: list[dict[str, Any]] = []
            if message["role"] == "user" and not marked:
                content, blocks = blocks, []
            for index, text in enumerate(MEDIA_PLACEHOLDER.split(message["content"])):
                if index:
                    content.append(blocks.pop(0))
                    text = text.removeprefix("\n")  # the template writes it
                if text:
                    content.append({"type": "text", "text": text})
            messages.append({"role": message["role"], "content": content})
        return messages

    @classmethod
    def from_messages(
        cls,
        messages: Sequence[Mapping[str, Any]],
        id: str,
        source: str,
        task: str,
        frame_range: tuple[int, int] | None = None,
    ) -> "Sample":
        """
        Make a record of chat messages, as `to_messages` and `LlavaSTProcessor.build_messages` write them.

        Args:
            messages (`Sequence[Mapping]`):
                Messages with `role` and `content`, a text or a list of blocks: `{"type": "text", "text": ...}`,
                `{"type": "video", "video": ...}`, `{"type": "image", "image": ...}`; media are paths, bytes, arrays
                (uint8), or for a video a list of these, its frames, beside which `video_fps` or `frame_seconds` may
                stand.
            id (`str`): Name of the record.
            source (`str`): Name of the data set.
            task (`str`): One of `TASKS`.
            frame_range (`tuple[int, int]`, *optional*): First and last frame; that of the video's block by default.

        Returns:
            `Sample`: The record; placeholders are written where media do not stand at the front of the first turn.

        Raises:
            `RecordError`: For blocks of another kind, media of two kinds, or a record that is not one.
        """
        blocks_of_turns = [_list_blocks(message, index) for index, message in enumerate(messages)]
        blocks = [block for turn in blocks_of_turns for block in turn if block["type"] != "text"]
        kinds = {block["type"] for block in blocks}
        if len(kinds) > 1 or (kinds == {"video"} and len(blocks) > 1):
            given = [block["type"] for block in blocks]
            raise make_error("messages", given, "give one video, or images alone", "hold")
        first_turn = next(
            (turn for m, turn in zip(messages, blocks_of_turns, strict=True) if m.get("role") == "user"), []
        )
        is_at_front = [block["type"] != "text" for block in first_turn[: len(blocks)]] == [True] * len(blocks)
        written = []
        for message, turn in zip(messages, blocks_of_turns, strict=True):
            texts = [b["text"] if b["type"] == "text" else "" if is_at_front else f"<{b['type']}>\n" for b in turn]
            written.append({"role": message.get("role"), "content": "".join(texts)})
        media = [item for block in blocks for item in _list_media(block[block["type"]])]
        times = {name: block[name] for block in blocks for name in TIME_FIELDS if block.get(name) is not None}
        ranges = [tuple(block["frame_range"]) for block in blocks if block.get("frame_range") is not None]
        return cls(
            id=id,
            source=source,
            task=task,
            media_type=kinds.pop() if kinds else "text",
            media=tuple(media),
            messages=tuple(written),
            frame_range=frame_range if frame_range is not None or not ranges else ranges[0],
            video_fps=times.get("video_fps"),
            frame_seconds=tuple(times["frame_seconds"]) if "frame_seconds" in times else None,
        )

    def find_coordinates(self) -> list[list[Lexeme]]:
        """Return the coordinates of each message, in their order."""
        return [NOTATION.find_coordinates(message["content"]) for message in self.messages]


def check_frame_times(num_frames: int, video_fps: Any, frame_seconds: Any) -> None:
    """Check what a record says of the times of its clip's frames, of which a file or an image has 0 here."""
    if video_fps is None and frame_seconds is None:
        return
    name, value = ("video_fps", video_fps) if frame_seconds is None else ("frame_seconds", frame_seconds)
    if not num_frames:
        raise make_error(name, value, "it is of a clip that is kept as frames; a file says it by itself, leave it out")
    if video_fps is not None and frame_seconds is not None:
        raise make_error("video_fps", video_fps, "frame_seconds says when the frames are too; give one of the two")
    with record_errors(name):
        list_times(name, list(value) if isinstance(value, tuple) else value, 1)
    if name == "frame_seconds" and len(value) != num_frames:
        raise make_error(name, value, f"give a time for each of the {num_frames} frames")


def get_features(kind: str | None = None) -> Any:
    """
    Return the `datasets.Features` of the canonical record.

    Args:
        kind (`str`, *optional*):
            `"video"` or `"image"` where all media are such files: the viewer of the Hub then shows them, and
            `datasets` decodes them on request. What is stored and read is the same, {bytes, path}.
    """
    from datasets import Features, Image, List, Value, Video

    plain = {"bytes": Value("binary"), "path": Value("string")}
    return Features(
        {
            "id": Value("string"),
            "source": Value("string"),
            "task": Value("string"),
            "media_type": Value("string"),
            "media": List({"video": Video(decode=False), "image": Image(decode=False)}.get(kind, plain)),
            "frame_range": List(Value("int64")),
            "video_fps": Value("float64"),
            "frame_seconds": List(Value("float64")),
            "messages": List({"role": Value("string"), "content": Value("string")}),
        }
    )


def _list_blocks(message: Mapping[str, Any], index: int) -> list[Mapping[str, Any]]:
    """Return the content of a message as blocks."""
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for block in blocks if isinstance(blocks, (list, tuple)) else [blocks]:
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind not in ("text", "image", "video") or block.get(kind) is None:
            raise make_error(f"messages[{index}].content", block, "give blocks of type text, image or video", "holds")
    return list(blocks)


def _list_media(value: Any) -> list[Media]:
    """Return what one block holds: a medium, or the frames of a clip."""
    if isinstance(value, (list, tuple)):
        return [item for frame in value for item in _list_media(frame)]
    if isinstance(value, bytes):
        return [Media(content=value)]
    return [Media(path=value)] if isinstance(value, str) else [Media(frames=value)]
