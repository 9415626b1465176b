"""Charades-STA: when a described event happens, in the form of its release and in the JSON form with fractions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..annotation_checks import require, require_text
from ..annotations import AnnotatedSpan, Annotation
from ..samples import Media
from ..skips import make_error
from .base import FileReader
from .tables import read_lines

_LINE = re.compile(r"(?P<video>\S+)\s+(?P<start>\S+)\s+(?P<end>[^\s#]+)\s*##(?P<caption>.*)")
_ENDINGS = (".mp4", ".avi", ".mkv", ".webm")


@dataclass(eq=False)
class CharadesStaReader(FileReader):
    """
    The form of the release is a text file (`.txt`) with a line `VIDEO start end##sentence` for each record, times in
    seconds. They become fractions by the time stamps of the video, which must be there: some ends of the release lie a
    second or more behind it.

    The JSON form is a list of {`image_id`, `caption`, `timestamp`} with `timestamp` = [start, end] as fractions of the
    video; for the same reason an end up to 1.1 means 1. A prefix `v_` of `image_id` is no part of the file's name,
    unless a file has it.

    The sentence is written as in the published evaluation: in lower case, without the full stop.
    """

    tasks = ("tvg",)
    default_task = "tvg"

    @property
    def _is_text(self) -> bool:
        return str(self.path).lower().endswith(".txt")

    def list_entries(self) -> Sequence[Any]:
        return [line for _, line in read_lines(self.path)] if self._is_text else super().list_entries()

    def annotate(self, entry: Any) -> Annotation:
        media, span, caption = self._read_line(entry) if self._is_text else self._read_object(entry)
        # Parity: inference/src/datasets.py strips full stops first and blanks then, so "a. " keeps its full stop.
        query = caption.strip(".").strip().lower()
        if not query:
            raise make_error("caption", caption, "give a sentence")
        return Annotation(task="tvg", media_type="video", media=media, query=query, spans=(span,))

    def _read_line(self, line: str) -> tuple[tuple[Media, ...], AnnotatedSpan, str]:
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise make_error("the line", line, "write VIDEO start end##sentence, in seconds")
        times = []
        for name in ("start", "end"):
            try:
                times.append(float(match[name]))
            except ValueError as error:
                raise make_error(name, match[name], "give a number of seconds") from error
        names = [match["video"] + ending for ending in ("", *_ENDINGS)]
        media = self.folder.find_media(names, "video", "video")
        return media, AnnotatedSpan(times, field="start, end", cut_end=True), match["caption"]

    def _read_object(self, raw: Any) -> tuple[tuple[Media, ...], AnnotatedSpan, str]:
        span = AnnotatedSpan(require(raw, "timestamp"), "fraction", field="timestamp", cut_end=True)
        name = require_text(raw, "image_id")
        names = [name, name.removeprefix("v_")]
        names += [part + ending for part in names for ending in _ENDINGS]
        return self.folder.find_media(names, "video", "image_id"), span, require_text(raw, "caption")
