"""What is odd about records that can be used: what an answer lacks, and units that a whole source may have wrong.

One record with a short event, or a box in the upper left, is nothing odd. A source in which all are so may have
fractions where seconds are meant, or widths where right edges are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from ...processing import GroundingResult, MediaInfo
from ..media_probe import VideoHeader, check_headers
from ..samples import Sample
from ..turns import Turn

# Events below this, in clips over that, are odd where a source has no others.
SHORT_SECONDS = 1.0
LONG_CLIP_SECONDS = 10.0
# Boxes of fewer records may well be so by chance.
MIN_RECORDS = 3
_THOUSAND = 1000


def find_doubts(turns: Sequence[Turn]) -> Iterator[tuple[str, str]]:
    """
    Yield what the answers of a record lack or have wrong for its task, as a kind of problem and a message.

    What is missing counts only where no answer of the record has it: not every turn of a conversation points at
    something.
    """
    for turn in turns:
        for problem in turn.answer.problems:
            everywhere = all(any(other.kind == problem.kind for other in t.answer.problems) for t in turns)
            if everywhere or not problem.kind.startswith("missing_"):
                yield problem.kind, problem.message


def measure_medium(sample: Sample, media: Sequence[MediaInfo], decode: str) -> VideoHeader | None:
    """Return size and length of the one medium of a record, as far as `check_media` looked and told."""
    if decode == "none" or len(media) != 1 or sample.frame_range is not None:
        return None  # of a part of a clip the length is not known
    if decode == "header":
        return check_headers(sample)
    seconds = media[0].end_seconds - media[0].start_seconds if media[0].media_type == "video" else None
    return VideoHeader(None, seconds, media[0].width, media[0].height)


@dataclass
class UnitDoubts:
    """
    How many records of a source look as if their numbers had another unit or form.
    """

    num_spans: int = 0  # records with spans, in clips of more than `LONG_CLIP_SECONDS`
    num_short: int = 0  # those of them whose spans are all shorter than `SHORT_SECONDS`
    num_boxes: int = 0  # records with boxes
    num_xywh: int = 0  # those of them whose boxes are also possible as left, top, width, height
    num_nearer: int = 0  # those of these whose boxes then lie nearer to the middle
    num_large: int = 0  # records with boxes in frames of more than 1000 pixels
    num_thousandths: int = 0  # those of them whose boxes all lie within the first 1000 pixels

    def merge(self, other: "UnitDoubts") -> None:
        """Count the records of another part of the source."""
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))

    def add(self, turns: Sequence[Turn], medium: VideoHeader | None) -> None:
        """Count one record; without its medium only what does not depend on a size or a length."""
        results = [result for turn in turns for result in (turn.question, turn.answer)]
        lengths = [span.fractions[1] - span.fractions[0] for result in results for span in result.spans]
        if lengths and medium is not None and (medium.duration_seconds or 0) > LONG_CLIP_SECONDS:
            self.num_spans += 1
            self.num_short += max(lengths) * medium.duration_seconds < SHORT_SECONDS
        boxes = np.concatenate([_list_boxes(result) for result in results] or [np.empty((0, 4))])
        if not len(boxes):
            return
        self.num_boxes += 1
        starts, ends = boxes[:, :2], boxes[:, 2:]
        if (starts + ends <= 1).all():
            self.num_xywh += 1
            centers = ((starts + ends) / 2, starts + ends / 2)  # of right, bottom, and of width, height
            as_edges, as_sides = (np.linalg.norm(center - 0.5, axis=1).mean() for center in centers)
            self.num_nearer += int(as_sides < as_edges)
        if medium is not None and max(medium.width, medium.height) > _THOUSAND:
            self.num_large += 1
            edges = boxes[:, 2:] * (medium.width, medium.height)
            self.num_thousandths += bool((edges <= _THOUSAND).all())

    def find(self) -> Iterator[tuple[str, int, str]]:
        """Yield what holds for all records of the source: a kind, the number of records, and what to look at."""
        if 0 < self.num_spans == self.num_short:
            yield (
                "short_spans",
                self.num_short,
                f"all spans are below {SHORT_SECONDS:g} s, in clips over {LONG_CLIP_SECONDS:g} s: give seconds of the "
                "file, not fractions or minutes",
            )
        if MIN_RECORDS <= self.num_boxes == self.num_xywh < 2 * self.num_nearer:
            yield (
                "boxes_like_xywh",
                self.num_xywh,
                "all boxes lie in the upper left, and most nearer to the middle if they are left, top, width, height: "
                "look at them with `data show`, and give box_format: xywh if they are",
            )
        if MIN_RECORDS <= self.num_large == self.num_thousandths:
            yield (
                "boxes_like_thousandths",
                self.num_thousandths,
                "all boxes lie within the first 1000 pixels of larger frames: look at them with `data show`, and give "
                "unit: thousandth if they are shares of the frame from 0 to 1000",
            )


def _list_boxes(result: GroundingResult) -> np.ndarray:
    """Return the boxes of a result and of its tubes as fractions of the frame, (boxes, 4)."""
    pixels = [np.array([box.xyxy for box in result.boxes], dtype=np.float64).reshape(-1, 4)]
    pixels += [tube.arrays.boxes_pixels for tube in result.tubes]
    return np.concatenate(pixels) / ([result.media.width, result.media.height] * 2)
