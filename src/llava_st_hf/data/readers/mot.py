"""MOT: tracks of objects in one video as text, a line for each box."""

import configparser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...processing import InputError
from ..annotation_checks import read_number
from .tables import read_lines
from .tracks import Track, TrackedVideo, TracksReader

# Of MOT16 and its successors.
_CLASSES = {
    1: "pedestrian",
    2: "person on a vehicle",
    3: "car",
    4: "bicycle",
    5: "motorbike",
    6: "vehicle without a motor",
    7: "static person",
    8: "distractor",
    9: "occluder",
    10: "occluder on the ground",
    11: "occluder",
    12: "reflection",
}
_NUM_COLUMNS = 6  # that every line has
_NUM_COLUMNS_OF_KINDS = 9  # of ten the eighth is a place in the world, or a kind of another data set


@dataclass(eq=False)
class MotReader(TracksReader):
    """
    A line is `frame, id, left, top, width, height, confidence, class, visibility`, frames from 1, the box in pixels;
    the last three may be left out. A line whose confidence is 0 does not count. Kinds are those of MOT16; where there
    are ten numbers, as in MOT15 and in what trackers write, the eighth is none. Detections, which have no ids, are
    refused.

    The video is named in `seqinfo.ini` beside the folder of the file, as are its frames, rate and size; without that,
    it has the name of the file, or of the folder of the sequence. It is a video file, or a folder of pictures, such as
    `img1` in that of the sequence. The tasks are those of `TracksReader`.
    """

    names: Mapping[int, str] = field(default_factory=dict)  # what describes an object in words, by its id

    def list_tracks(self) -> Sequence[Track]:
        if not isinstance(self.names, Mapping) or not all(isinstance(name, str) for name in self.names.values()):
            raise InputError("names has to give a text for each id, {3: 'the man in a red coat'}.")
        names = {str(number): name for number, name in self.names.items()}
        video, groups = self._read_video(), {}
        for values in self._read_lines():
            if len(values) > _NUM_COLUMNS and values[6] == 0:
                continue  # the benchmark ignores it
            kind = _CLASSES.get(values[7]) if 7 < len(values) <= _NUM_COLUMNS_OF_KINDS else None
            groups.setdefault((int(values[1]), kind or "object"), []).append((values[0] - 1, values[2:6]))
        # A frame that others have and this object has not is one where it is not to be seen.
        frames = sorted({frame for group in groups.values() for frame, _ in group})
        tracks = []
        for (number, kind), group in groups.items():
            own = {frame for frame, _ in group}
            gaps = [frame for frame in frames if min(own) < frame < max(own) and frame not in own]
            rows = [*((frame, frame, box) for frame, box in group), *((frame, frame, None) for frame in gaps)]
            name = f"{video.name} track {number}"
            tracks.append(Track(name, video, kind, rows, phrase=names.get(str(number))))
        return tracks

    def _read_lines(self) -> list[list[float]]:
        """Return the numbers of each line."""
        rows = []
        for number, line in read_lines(self.path):
            values = [read_number(cell) for cell in line.replace(",", " ").split()]
            if len(values) < _NUM_COLUMNS or not all(isinstance(value, float) for value in values):
                raise InputError(
                    f"{self.path}, line {number}: {line[:80]!r} is no line of MOT: give frame, id, left, top, width, "
                    "height, and perhaps confidence, class and visibility."
                )
            if values[0] < 1 or values[1] < 0:
                fix = "is before the first frame: count frames from 1"
                if values[1] < 0:
                    fix = "has the id -1, as detections (det.txt) have: give a file with an id for each object, gt.txt"
                raise InputError(f"{self.path}, line {number}: {line[:80]!r} {fix}.")
            rows.append(values)
        return rows

    def _read_video(self) -> TrackedVideo:
        """Return the video, as `seqinfo.ini` tells it, or by the name of the file or of its folder."""
        path = Path(self.path).absolute()
        folder = path.parent.parent if path.parent.name in ("gt", "det") else path.parent
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(folder / "seqinfo.ini", encoding="utf-8-sig")
            told = dict(parser["Sequence"]) if "Sequence" in parser else {}
        except (configparser.Error, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{folder / 'seqinfo.ini'} cannot be read: {reason}.") from error
        numbers = {key: read_number(told.get(key)) for key in ("framerate", "seqlength", "imwidth", "imheight")}
        known = {key: value for key, value in numbers.items() if isinstance(value, float) and value > 0}
        name = told.get("name") or (folder.name if path.stem in ("gt", "det") else path.stem)
        pictures = told.get("imdir") or ("img1" if folder != path.parent else None)
        places = [f"{name}/{pictures}"] if pictures else []
        if pictures and self.folder.path is not None:  # and in no folder below it, which is that of another sequence
            places.append(str(self.folder.path / pictures))
        is_size = {"imwidth", "imheight"} <= known.keys()
        return TrackedVideo(
            name,
            places=tuple(places),
            size=(int(known["imwidth"]), int(known["imheight"])) if is_size else None,
            frame_count=int(known["seqlength"]) if "seqlength" in known else None,
            frame_rate=known.get("framerate"),
        )
