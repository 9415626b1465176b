"""What is odd about records that can be used: what an answer lacks, and units that a whole source may have wrong.

One record with a short event, or a box in the upper left, is nothing odd. A source in which all are so may have
fractions where seconds are meant, or widths where right edges are.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

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


def find_marks(
    turns: Sequence[Turn], medium: VideoHeader | None, box_kind: tuple[str, str] | None = None
) -> Iterator[str]:
    """
    Yield how the numbers of one record look, to be counted for its source.

    It has `spans`, in a clip of more than `LONG_CLIP_SECONDS`, all `short`; `boxes`, all of which are also possible as
    left, top, width, height (`xywh`), and lie `nearer` to the middle then; boxes in frames of more than 1000 pixels
    (`large`), all within the first 1000 (`thousandths`). Without its medium, what needs none is told; and of the form
    and the unit that its file says of its boxes (`box_kind`) there is no doubt.
    """
    results = [result for turn in turns for result in (turn.question, turn.answer)]
    lengths = [span.fractions[1] - span.fractions[0] for result in results for span in result.spans]
    if lengths and medium is not None and (medium.duration_seconds or 0) > LONG_CLIP_SECONDS:
        yield "spans"
        if max(lengths) * medium.duration_seconds < SHORT_SECONDS:
            yield "short"
    boxes = np.concatenate([_list_boxes(result) for result in results] or [np.empty((0, 4))])
    if not len(boxes):
        return
    form, unit = box_kind or ("xyxy", "pixels")
    if form == "xyxy":
        yield "boxes"
    starts, ends = boxes[:, :2], boxes[:, 2:]
    if form == "xyxy" and (starts + ends <= 1).all():
        yield "xywh"
        centers = ((starts + ends) / 2, starts + ends / 2)  # of right, bottom, and of width, height
        as_edges, as_sides = (np.linalg.norm(center - 0.5, axis=1).mean() for center in centers)
        if as_sides < as_edges:
            yield "nearer"
    if unit == "pixels" and medium is not None and max(medium.width, medium.height) > _THOUSAND:
        yield "large"
        if (ends * (medium.width, medium.height) <= _THOUSAND).all():
            yield "thousandths"


def find_unit_doubts(counts: Counter[str]) -> Iterator[tuple[str, int, str]]:
    """Yield what holds for all records of a source, whose marks are counted: a kind, their number, what to look at."""
    if 0 < counts["spans"] == counts["short"]:
        yield (
            "short_spans",
            counts["short"],
            f"all spans are below {SHORT_SECONDS:g} s, in clips over {LONG_CLIP_SECONDS:g} s: give seconds of the "
            "file, not fractions or minutes",
        )
    if MIN_RECORDS <= counts["boxes"] == counts["xywh"] < 2 * counts["nearer"]:
        yield (
            "boxes_like_xywh",
            counts["xywh"],
            "all boxes lie in the upper left, and most nearer to the middle if they are left, top, width, height: "
            "look at them with `data show`, and give box_format: xywh if they are (of records of one's own)",
        )
    if MIN_RECORDS <= counts["large"] == counts["thousandths"]:
        yield (
            "boxes_like_thousandths",
            counts["large"],
            "all boxes lie within the first 1000 pixels of larger frames: look at them with `data show`, and give "
            "unit: thousandth if they are shares of the frame from 0 to 1000 (of records of one's own)",
        )


def _list_boxes(result: GroundingResult) -> np.ndarray:
    """Return the boxes of a result and of its tubes as fractions of the frame, (boxes, 4)."""
    pixels = [np.array([box.xyxy for box in result.boxes], dtype=np.float64).reshape(-1, 4)]
    pixels += [tube.arrays.boxes_pixels for tube in result.tubes]
    return np.concatenate(pixels) / ([result.media.width, result.media.height] * 2)
