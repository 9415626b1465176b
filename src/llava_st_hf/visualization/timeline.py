"""What a picture of a clip shows at a moment: the time line with its spans, and the boxes of that moment."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

from PIL import ImageDraw

from ..processing.grounding_results_llava_st import Box, GroundingResult, Span
from .drawing import BOX_COLORS, SPAN_COLOR, Color, write_label


class DrawnTimeline(NamedTuple):
    """What the time line shows, in seconds."""

    start: float
    end: float
    spans: tuple[Span, ...]

    def share(self, seconds: float) -> float:
        """Return where a moment lies between start (0) and end (1)."""
        return min(max((seconds - self.start) / max(self.end - self.start, 1e-9), 0.0), 1.0)

    def is_inside(self, seconds: float, tolerance: float = 0.0) -> bool:
        """Return whether a moment lies in a span."""
        return any(s.start_seconds - tolerance <= seconds <= s.end_seconds + tolerance for s in self.spans)


def describe_spans(spans: Sequence[Span]) -> str:
    """Write the times of the first spans."""
    parts = [f"{span.start_seconds:.1f} - {span.end_seconds:.1f} s" for span in spans[:3]]
    return ", ".join(parts) + (", ..." if len(spans) > 3 else "")


def draw_bar(
    draw: ImageDraw.ImageDraw, timeline: DrawnTimeline, left: int, right: int, middle: int, thickness: int
) -> None:
    """Draw the whole time as a rail and each span as a coloured stretch of it, at least as long as it is thick."""
    radius, right = thickness // 2, max(right, left + thickness)
    draw.rounded_rectangle((left, middle - radius, right, middle + radius), radius=radius, fill=(96, 102, 112))
    for span in timeline.spans:
        start, end = (left + timeline.share(t) * (right - left) for t in (span.start_seconds, span.end_seconds))
        end = min(max(end, start + thickness), right)
        start = min(start, end - thickness)
        draw.rounded_rectangle((start, middle - radius, end, middle + radius), radius=radius, fill=SPAN_COLOR)


def find_boxes_at(
    result: GroundingResult, timeline: DrawnTimeline, seconds: float
) -> Iterator[tuple[Box, Color, str]]:
    """Yield the boxes to draw at a moment, each in the colour that it has throughout the clip."""
    tolerance, colors = compute_half_sampling_step(result), cycle(BOX_COLORS)
    for track, tube in enumerate(result.tubes, start=1):
        color, box = next(colors), tube.box_at(seconds, tolerance)
        if box is not None:
            yield box, color, write_label(box, str(track) if len(result.tubes) > 1 else "")
    if not timeline.spans or timeline.is_inside(seconds, tolerance):
        for row in result.labelled_boxes():
            if row.track is None:
                yield row.box, next(colors), write_label(row.box, row.label)


def compute_half_sampling_step(result: GroundingResult) -> float:
    """Return how long the first and last box of a tube hold: half the time between two frames that the model saw."""
    media = result.media
    if media is None or media.media_type != "video" or len(media.frame_seconds) < 2:
        return 0.05
    return (media.end_seconds - media.start_seconds) / (len(media.frame_seconds) - 1) / 2


__all__ = ["DrawnTimeline", "compute_half_sampling_step", "describe_spans", "draw_bar", "find_boxes_at"]
