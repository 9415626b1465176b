"""Tracks: objects with a name and boxes frame by frame, as data sets of tracking and detection in video have them."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from ..annotation_checks import check_frame
from ..annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation, BoxForm
from ..samples import Media
from ..skips import RecordError, make_error
from .base import FileReader, name_event, write_label


class TrackedVideo(NamedTuple):
    """The video that tracks are of."""

    name: str  # its name in the file
    pictures: tuple[str, ...] = ()  # the files of its frames, where no video has its name
    places: tuple[str, ...] = ()  # where a folder with its frames may lie, beside its name
    size: tuple[int, int] | None = None  # width and height
    frame_count: int | None = None  # number of frames
    frame_rate: float | None = None  # frames a second


class Track(NamedTuple):
    """One object of a video."""

    name: str  # name of the record
    video: TrackedVideo
    label: Any  # its kind, in words
    # A frame of the video, from 0, the place of the same moment among its pictures, and the four numbers of the box,
    # or `None` where the object is not to be seen.
    rows: Sequence[tuple[Any, Any, Any]]
    form: BoxForm = "xywh"  # what the four numbers are
    phrase: str | None = None  # what describes this object, and no other of its video
    is_crowd: bool = False  # whether it is several objects, which makes no record


@dataclass(eq=False)
class TracksReader(FileReader):
    """
    The tracks of a file, one record each; a format is a subclass with `list_tracks`.

    The task is `"svg"` (where is it between its first and its last frame), `"stvg"` (when, too), `"stvg_several"`
    (each time that it is to be seen) or `"elc"` (from its first box on; its name is the caption). Except for `elc` an
    object is asked for by its phrase, or as "the" and its kind, which says who is meant only where the video has one
    of the kind: other tracks are no records. How many are none is said in a warning.

    Between two boxes the object moves evenly from one to the other, unless a frame between them says that it is not to
    be seen. A box is clipped to the frame; one wholly outside of it says that the object has left the picture.
    """

    tasks = ("svg", "stvg", "stvg_several", "elc")
    default_task = "svg"

    @abstractmethod
    def list_tracks(self) -> Sequence[Track]:
        """Return the tracks of the file; what is wrong with one of them is said when it is read."""

    def list_entries(self) -> Sequence[Track]:
        """Return the tracks that make a record."""
        tracks = self.list_tracks()
        kinds = Counter((track.video.name, repr(track.label)) for track in tracks)
        entries = [
            track
            for track in tracks
            if not track.is_crowd
            and (self.task == "elc" or track.phrase is not None or kinds[track.video.name, repr(track.label)] == 1)
        ]
        self.warn_of_left_out(len(tracks) - len(entries), len(tracks), "tracks")
        return entries

    def get_entry_id(self, entry: Track) -> str:
        return entry.name

    def annotate(self, entry: Track) -> Annotation:
        video, media = entry.video, self._find_media(entry.video)
        has_pictures = len(media) > 1 and video.pictures
        boxes: dict[int, AnnotatedBox | None] = {}
        for frame, place, values in entry.rows:
            number = place if has_pictures else check_frame(frame, "frame")
            box = None if values is None else AnnotatedBox(values, entry.form, field=f"box of frame {frame}")
            if box is not None and video.size is not None and _is_outside(box, video.size):
                box = None
            if boxes.get(number) is not None and box is not None:
                raise make_error("frame", frame, "it has two boxes of this object; give one")
            boxes[number] = box or boxes.get(number)
        runs = [
            [frame for frame, _ in run]
            for is_seen, run in groupby(sorted(boxes.items()), key=lambda item: item[1] is not None)
            if is_seen
        ]
        if not runs:
            raise RecordError("invalid_field", "boxes", "the track has no box: give one where the object is seen.")
        ends = [(run[0], run[-1]) for run in runs] if self.task == "stvg_several" else [(runs[0][0], runs[-1][-1])]
        label = entry.label
        if not entry.phrase and not (isinstance(label, str) and label.strip()):
            raise make_error("label", label, "give the name of the object")
        phrase = (entry.phrase or f"the {write_label(label)}").strip()
        return Annotation(
            task=self.task,
            media_type="video",
            media=media,
            query=name_event(phrase),
            answer=phrase,
            spans=tuple(AnnotatedSpan(end, "frames", field="frames") for end in ends),
            tubes=(AnnotatedTube(boxes, "frames"),),
            size=video.size,
            frame_count=len(media) if has_pictures else video.frame_count,
            frame_rate=None if has_pictures else video.frame_rate,
        )

    def _find_media(self, video: TrackedVideo) -> tuple[Media, ...]:
        """Return the video file, or the folder of its frames, or else the pictures that are listed."""
        if not video.name:
            raise RecordError("missing_media", "video", "the file names no video: write its name into it.")
        try:
            found = self.folder.find_video(video.name, places=video.places)
        except RecordError as error:
            if not video.pictures or error.reason not in ("missing_media", "empty_media"):
                raise
            found = ()
        if len(found) == 1 or not video.pictures:
            return found
        # A folder may have more frames than were annotated.
        return tuple(Media(path=self.folder.resolve(name, "file_name")) for name in video.pictures)


def _is_outside(box: AnnotatedBox, size: tuple[int, int]) -> bool:
    """Tell whether a box that has an area has none of it inside the frame."""
    left, top, right, bottom = box.xyxy
    has_area = left < right and top < bottom
    return has_area and (right <= 0 or bottom <= 0 or left >= size[0] or top >= size[1])
