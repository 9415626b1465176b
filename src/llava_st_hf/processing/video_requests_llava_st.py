"""What is said of each video of a call: which of its frames are meant, and when they are where no file says it."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .media_llava_st import InputError, MediaError

REQUEST_FIELDS = ("num_frames", "fps", "frame_range", "time_range")
# Of frames that are given without a file: when they are.
TIME_FIELDS = ("video_fps", "frame_seconds")
# What a block of a chat may have, None apart.
_BLOCK_KEYS = {
    "image": ("type", "image", "url", "path", "base64"),
    "video": ("type", "video", "url", "path", *REQUEST_FIELDS, *TIME_FIELDS),
}
# What other libraries call what can be said here.
_NAMES_HERE = {
    **dict.fromkeys(("nframes", "n_frames", "max_frames", "min_frames"), "num_frames"),
    **dict.fromkeys(("video_start", "video_end", "start_time", "end_time"), "time_range, in seconds"),
    **dict.fromkeys(("sample_fps", "target_fps"), "fps"),
    "raw_fps": "video_fps",
}


def list_requests(options: dict[str, Any], num_videos: int) -> list[dict[str, Any]]:
    """Return for each video which frames are asked for, from values that are for all or listed for each."""
    requests: list[dict[str, Any]] = [{} for _ in range(num_videos)]
    for name in REQUEST_FIELDS:
        value = options.get(name)
        is_pair_field = name.endswith("range")
        listed = isinstance(value, (list, tuple)) and (
            not is_pair_field
            or not len(value)
            or any(item is None or isinstance(item, (list, tuple)) for item in value)
        )
        if listed and len(value) != num_videos:
            raise MediaError(f"{name} has {len(value)} entries for {num_videos} videos; give one for each.")
        for index, request in enumerate(requests):
            request[name] = value[index] if listed else value
    return requests


def list_times(name: str, value: Any, num_videos: int) -> list[Any]:
    """Return the rate, or the times, of each video's frames, and check them."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if name == "frame_seconds" and not isinstance(value, (list, tuple)):
        raise MediaError(f"frame_seconds is {value!r}; give the time of each frame in seconds.", field=name)
    is_for_one = name == "frame_seconds" and not any(isinstance(item, (list, tuple, type(None))) for item in value)
    values = list(value) if isinstance(value, (list, tuple)) and not is_for_one else [value]
    if name == "video_fps" and not isinstance(value, (list, tuple)):
        values = values * num_videos
    if len(values) != num_videos:
        raise MediaError(f"{name} has {len(values)} entries for {num_videos} videos; give one for each.", field=name)
    for entry in values:
        try:
            times = np.asarray([] if entry is None else entry, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            times = np.array([np.nan])
        if name == "video_fps" and not (np.isfinite(times) & (times > 0)).all():
            raise MediaError(f"video_fps is {entry!r}; give a number of frames a second above 0.", field=name)
        if name == "frame_seconds" and not (np.isfinite(times).all() and (np.diff(times) >= 0).all()):
            raise MediaError(
                "frame_seconds are not numbers in order; give the time of each frame, ascending.", field=name
            )
    return values


def list_block_requests(conversations: Sequence[Any], defaults: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return which frames the blocks of videos ask for, listed for each video, where any of them does."""
    blocks = [
        block
        for messages in conversations
        for message in messages
        if not isinstance(message.get("content"), (str, type(None)))
        for block in message["content"]
        if block.get("type") in _BLOCK_KEYS
    ]
    for block in blocks:
        _check_block(block)
    blocks = [block for block in blocks if block["type"] == "video"]
    names = (*REQUEST_FIELDS, *TIME_FIELDS)
    own = [{name: block[name] for name in names if block.get(name) is not None} for block in blocks]
    if not any(own):
        return {}
    # A video's own number of frames or rate takes the place of either default.
    rates = [{"num_frames": None, "fps": None} if {"num_frames", "fps"} & request.keys() else {} for request in own]
    requests = [{**defaults, **rate, **request} for rate, request in zip(rates, own, strict=True)]
    given = [name for name in names if name in REQUEST_FIELDS or any(name in request for request in requests)]
    return {name: [request.get(name) for request in requests] for name in given}


def _check_block(block: Mapping[str, Any]) -> None:
    """Raise `MediaError` for a key of a medium's block that nothing would come of."""
    kind, known = block["type"], _BLOCK_KEYS[block["type"]]
    for key, value in block.items():
        if value is None or key in known:
            continue
        if kind == "video" and key in _NAMES_HERE:
            fix = f"give {_NAMES_HERE[key]}, as it is called here"
        elif "pixels" in key or key.startswith("resized_"):
            fix = "every frame is resized to the square that the model was trained with, leave it out"
        else:
            fix = f"leave it out; a block may have {', '.join(known)}"
        raise MediaError(f"the chat has a block of type {kind!r} with {key}={value!r:.60}: {fix}.", field=key)


def refuse_unknown_arguments(kwargs: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise `InputError` for an argument that nothing would come of."""
    for name, value in kwargs.items():
        if value is None or name in known:
            continue
        near = _NAMES_HERE.get(name) or next(iter(difflib.get_close_matches(name, known, 1)), None)
        fix = f"give {near}, as it is called here" if near else "leave it out"
        raise InputError(f"{name} is {value!r:.60}, which is no argument of the processor: {fix}.", field=name)


def refuse_video_options(kwargs: Mapping[str, Any]) -> None:
    """Raise `MediaError` for an option that chooses frames, where a call has no video to choose them from."""
    given = {**(kwargs.get("videos_kwargs") or {}), **kwargs}
    for name in (*REQUEST_FIELDS, *TIME_FIELDS):
        if given.get(name) is not None:
            raise MediaError(
                f"{name} is {given[name]!r}, but there is no video: leave it out or give a video.", field=name
            )


__all__ = [
    "REQUEST_FIELDS",
    "TIME_FIELDS",
    "list_block_requests",
    "list_requests",
    "list_times",
    "refuse_unknown_arguments",
    "refuse_video_options",
]
