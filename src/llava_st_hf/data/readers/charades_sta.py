"""Charades-STA: when a described event happens, in the form of its release and in the JSON form with fractions."""

import re
from pathlib import Path

from ...processing.media_llava_st import InputError, MediaError
from ...processing.tasks_llava_st import get_task
from ..media_probe import find_media, probe_video
from ..samples import Media, Sample
from ..skips import RecordError, show
from .base import MediaFolder, Reader, require_object
from .json_files import JsonRecords
from .tubes import (
    DEFAULT_NUM_FRAMES,
    check_count,
    check_task,
    check_times,
    make_error,
    require,
    require_text,
    write_span,
    write_turns,
)

_LINE = re.compile(r"(?P<video>\S+)\s+(?P<start>\S+)\s+(?P<end>[^\s#]+)\s*##(?P<caption>.*)")
# A larger end is in seconds, or wrong.
MAX_END_FRACTION = 1.1
_ENDINGS = (".mp4", ".avi", ".mkv", ".webm")


class CharadesStaReader(Reader):
    """
    The records of Charades-STA, as temporal video grounding (tvg).

    The form of the release is a text file with a line `VIDEO start end##sentence` for each record, times in seconds.
    They become fractions by the time stamps of the video, which must be there. An end after the last frame means the
    last frame: some ends of the release lie a second or more behind the video.

    The JSON form is a list of {`image_id`, `caption`, `timestamp`} with `timestamp` = [start, end] as fractions of
    the video; for the same reason an end up to `MAX_END_FRACTION` means 1. A prefix `v_` of `image_id` is no part of
    the file's name, unless a file has it.

    The sentence is written as in the published evaluation: in lower case, without the full stop.

    Args:
        path (`str` or `Path`): The text file (`.txt`), or the JSON file (`.json` or `.jsonl`).
        source (`str`): Name of the data set.
        data_folder (`str` or `Path`, *optional*): Folder of the videos.
        task (`str`, *optional*): Only `"tvg"`.
        num_frames (`int`, *optional*, defaults to 100):
            How many frames are sampled; seconds become fractions between their first and their last one.

    Raises:
        `InputError`: If a text file is no UTF-8.

    Example:

    ```python
    >>> reader = CharadesStaReader("charades_sta_test.txt", "charades_sta", data_folder="Charades_v1")
    >>> reader[0].messages[0]["content"][:52]
    "Give you a textual query: 'person turn a light on.'."
    ```
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        data_folder: str | Path | None = None,
        task: str | None = None,
        num_frames: int = DEFAULT_NUM_FRAMES,
    ):
        self.source = source
        self.task = check_task(task, ("tvg",), "charades_sta")
        self.num_frames = check_count("num_frames", num_frames)
        self._folder = MediaFolder(data_folder)
        self._is_text = str(path).lower().endswith(".txt")
        self._records = _read_lines(path) if self._is_text else JsonRecords(path)

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: int) -> Sample:
        """Read one record; raises `RecordError` if it cannot be used."""
        read = self._read_line if self._is_text else self._read_object
        media, span, caption = read(self._records[index])
        # Parity: inference/src/datasets.py strips full stops first and blanks then, so "a. " keeps its full stop.
        query = caption.strip(".").strip().lower()
        if not query:
            raise make_error("caption", caption, "give a sentence")
        return Sample(
            id=self.get_id(index),
            source=self.source,
            task=self.task,
            media_type="video",
            media=media,
            messages=write_turns(get_task(self.task).write_prompt(query=query), write_span(*span)),
        )

    def _read_line(self, line: str) -> tuple[tuple[Media, ...], tuple[float, float], str]:
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise RecordError(
                "invalid_field", "record", f"the line is {show(line)}: write VIDEO start end##sentence, in seconds."
            )
        numbers = []
        for name in ("start", "end"):
            try:
                numbers.append(float(match[name]))
            except ValueError as error:
                raise make_error(name, match[name], "give a number of seconds") from error
        start, end = check_times(numbers, "start and end", "[start, end] in seconds")
        media = find_media(self._folder, [match["video"] + e for e in ("", *_ENDINGS)], "video", "video")
        if len(media) > 1:
            raise make_error("video", match["video"], "it is a folder of pictures, which has no seconds; give a file")
        info = probe_video(media[0].path, self.num_frames)
        try:
            span = (info.fraction_at(start), info.fraction_at(min(end, info.end_seconds)))
        except MediaError as error:
            raise RecordError("invalid_field", "start", f"start is {start:g}: {error}") from error
        return media, span, match["caption"]

    def _read_object(self, raw: object) -> tuple[tuple[Media, ...], tuple[float, float], str]:
        raw = require_object(raw)
        wanted = "[start, end] as fractions of the video, from 0 to 1"
        start, end = check_times(require(raw, "timestamp"), "timestamp", wanted)
        if not 0 <= start <= 1 or end > MAX_END_FRACTION:
            raise make_error("timestamp", raw["timestamp"], f"give {wanted}")
        name = require_text(raw, "image_id")
        names = [name, name.removeprefix("v_")]
        media = find_media(self._folder, [*names, *(n + e for n in names for e in _ENDINGS)], "video", "image_id")
        return media, (start, min(end, 1.0)), require_text(raw, "caption")


def _read_lines(path: str | Path) -> list[str]:
    """Return the lines of a text file that are not blank."""
    try:
        return [line for line in Path(path).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a text file: {error}.") from error


__all__ = ["MAX_END_FRACTION", "CharadesStaReader"]
