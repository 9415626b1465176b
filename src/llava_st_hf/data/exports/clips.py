"""What answers say about one clip, by its frames: what the formats of other tools are written from."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...processing import Box, GroundingResult, InputError, MediaInfo, Span, Tube, TubeBox
from ...processing.video_timeline_llava_st import Timeline
from ..media_probe import probe_timeline


class FrameBox(NamedTuple):
    """The box of an object in a frame (from 0); `is_named` where the answer has it, and it is not interpolated."""

    frame_index: int
    seconds: float
    box: Box
    is_named: bool


class ExportedTrack(NamedTuple):
    """A tube under its number in the clip, from 1, and in words."""

    number: int
    label: str
    boxes: tuple[FrameBox, ...]


class ExportedSpan(NamedTuple):
    """A span in words, and its first and last frame (from 0), both included."""

    label: str
    span: Span
    first_frame: int
    last_frame: int


@dataclass(eq=False)
class AnsweredClip:
    """A clip, and all that was answered about it."""

    name: str  # a name that no other clip has, without ending; fit for a file
    path: Path  # the file
    media: MediaInfo  # its size
    results: tuple[GroundingResult, ...]  # the answers
    # Whether a track has a box in each frame from its first to its last, interpolated between those of the answer, or
    # at the times that the answer names only.
    every_frame: bool = False

    @cached_property
    def timeline(self) -> Timeline:
        """When each frame is."""
        if not self.path.is_file():
            raise InputError(
                f"media.source is {str(self.path)!r}: the clip is not there, and its frames have to be counted; give "
                "media_folder, where it lies.",
                field="media_folder",
            )
        return probe_timeline(str(self.path))

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.timeline)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.timeline.fps

    def list_labelled_spans(self) -> list[tuple[str, Span]]:
        """Return the spans of all answers with their words, in order of time."""
        rows = []
        for result in self.results:
            captions = {caption.span: caption.text for caption in reversed(result.captions) if caption.span}
            rows += [(clean_label(captions.get(span) or result.query), span) for span in result.spans]
        return sorted(rows, key=lambda row: (row[1].start_seconds, row[1].end_seconds))

    def list_spans(self) -> list[ExportedSpan]:
        """Return the spans of all answers with their words and frames, in order of time."""
        return [
            ExportedSpan(label, span, self._find_frame(span.start_seconds), self._find_frame(span.end_seconds))
            for label, span in self.list_labelled_spans()
        ]

    def list_tracks(self, shared_frames: bool = False) -> list[ExportedTrack]:
        """
        Return the tubes of all answers.

        With `shared_frames` all have boxes at the times that any of them names, as far as they last: for formats in
        which a frame without a box says that the object is not to be seen.
        """
        tubes = [(result, tube) for result in self.results for tube in result.tubes]
        named = {entry.frame_index for _, tube in tubes for entry in tube.boxes} if shared_frames else set()
        tracks = []
        for number, (result, tube) in enumerate(tubes, start=1):
            label = next(row.label for row in result.labelled_boxes() if row.track is not None)
            tracks.append(ExportedTrack(number, clean_label(label), self._list_boxes(tube, named)))
        return tracks

    def fill(self, result: GroundingResult) -> GroundingResult:
        """Return an answer with the boxes that its tubes have in `list_tracks(shared_frames=True)`."""
        named = {entry.frame_index for one in self.results for tube in one.tubes for entry in tube.boxes}
        tubes = [
            Tube(tuple(TubeBox(row.seconds, row.frame_index, row.box) for row in self._list_boxes(tube, named)))
            for tube in result.tubes
        ]
        return replace(result, tubes=tuple(tubes))

    def _list_boxes(self, tube: Tube, shared: Iterable[int]) -> tuple[FrameBox, ...]:
        # Of two times in one frame the first counts: formats by frames have one box each.
        named = {entry.frame_index: entry for entry in reversed(tube.boxes)}
        first, last = min(named), max(named)
        frames = range(first, last + 1) if self.every_frame else named.keys() | set(shared)
        boxes = []
        for frame in sorted(frame for frame in frames if first <= frame <= last):
            if frame in named:
                boxes.append(FrameBox(frame, named[frame].seconds, named[frame].box, True))
            else:
                seconds = self._find_seconds(frame)
                boxes.append(FrameBox(frame, seconds, tube.box_at(seconds, math.inf), False))
        return tuple(boxes)

    def _find_seconds(self, frame: int) -> float:
        if frame >= self.num_frames:
            raise InputError(
                f"media.source is {str(self.path)!r}, which has {self.num_frames} frames, but the answer has a box "
                f"in frame {frame}: give the file that was asked about.",
                field="media_folder",
            )
        return float(self.timeline.seconds[frame])

    def _find_frame(self, seconds: float) -> int:
        return int(np.argmin(np.abs(self.timeline.seconds - seconds)))


def clean_label(text: str | None) -> str:
    """Return words on one line, without what XML and players do not take."""
    text = "".join(character if character.isprintable() else " " for character in text or "")
    return " ".join(text.split()) or "object"


def collect_clips(
    results: Sequence[GroundingResult], every_frame: bool, media_folder: str | os.PathLike | None
) -> list[AnsweredClip]:
    """
    Return the clips that answers are about, each with its answers, in order of appearance; others are passed over.

    They lie in `media_folder`, by default each at its `media.source`. An answer that does not say what clip it is
    about is an `InputError`.
    """
    groups: dict[Path, list[GroundingResult]] = {}
    for result in results:
        if result.media is None or result.media.media_type != "video":
            continue
        if not result.media.source:
            raise InputError("media.source is not set: the answer has to name its clip; ask about a file.")
        source = Path(result.media.source)
        groups.setdefault(source if media_folder is None else Path(media_folder) / source.name, []).append(result)
    clips, names = [], set()
    for path, group in groups.items():
        name, number = path.stem, 2
        while name in names:
            name, number = f"{path.stem}-{number}", number + 1
        names.add(name)
        clips.append(AnsweredClip(name, path, group[0].media, tuple(group), every_frame))
    return clips
