"""Writes a clip with the answer drawn onto every frame; memory does not grow with its length."""

import os
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from ..processing import GroundingResult, iterate_frames, probe_video
from ..processing.video_decoding_llava_st import VideoFrame, VideoProbe
from .clip_writer import ClipWriter
from .drawing import MIN_WIDTH, PAPER, Style, draw_box, tint_mask
from .fonts import describe_missing_fonts
from .marks import Mark, Schedule, as_results, compute_sampling_step, list_marks
from .output_files import writing_beside
from .timeline import DrawnTimeline, arrange_bars, draw_position, make_footer, make_header

_MAX_ROWS = 6  # above the picture


def write_annotated_video(
    source_path: str | os.PathLike,
    results: GroundingResult | Sequence[GroundingResult],
    output_path: str | os.PathLike,
    progress: Callable[[int, int | None], None] | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """
    Write the clip with the boxes drawn onto it, what was asked above it and the time line below.

    The output is an MP4 that browsers play (H.264, yuv420p, index at the front, even size), upright, in square pixels,
    with the time stamps and the sound of the source. The picture keeps its size, and only boxes and masks are drawn
    onto it: the strips are beside it. Where time stamps start below 0 they are moved to start at 0, because players
    leave out what is earlier; the times that are written beside the picture stay those of the source. The file appears
    under its name only when it is complete.

    Args:
        source_path (`str` or `os.PathLike`): The clip that was asked about.
        results (`GroundingResult` or a sequence of them): What to draw; each query has its colours.
        output_path (`str` or `os.PathLike`): Where to write; an earlier output is replaced.
        progress (`Callable[[int, int | None], None]`, *optional*):
            Called after each frame with the number of frames done and the number that the file claims to have.
        overwrite (`bool`, *optional*, defaults to `False`): Whether any other file that is there is replaced, too.

    Returns:
        `tuple[str, ...]`: Sentences on what could not be kept or written as it should be.

    Raises:
        `MediaError`: If the clip cannot be read or the output cannot be written.
    """
    with writing_beside(output_path, source_path, overwrite) as temporary_path:
        video = probe_video(source_path)
        annotator = _Annotator(as_results(results), video)
        writer = ClipWriter(temporary_path, source_path, video.timeline, annotator.size)
        try:
            for frame in iterate_frames(source_path, video.timeline):
                writer.write(annotator.draw(frame), frame.seconds)
                if progress is not None:
                    progress(writer.num_frames, len(video.timeline))
            writer.finish()
        finally:
            writer.close()
    missing = describe_missing_fonts(*annotator.texts)
    return (*writer.notes, *([missing] if missing else []))


class _Annotator:
    """Draws the frames of one clip; what does not change from frame to frame is prepared once."""

    def __init__(self, results: list[GroundingResult], video: VideoProbe):
        self.results, self.video = results, video
        self.marks = list_marks(results)
        self.texts = [text for text in (*(result.query for result in results), *(m.label for m in self.marks)) if text]
        step = max(map(compute_sampling_step, results), default=0.0)
        self.schedule = Schedule(self.marks, video.timeline.seconds, step)
        self.has_numbers = len(self.marks) > 1
        media = next(
            (result.media for result in results if result.media and result.media.media_type == "video"), video
        )
        self.scale = (video.width / media.width, video.height / media.height)
        self.style = Style.for_size(video.width, video.height)
        width = max(video.width, MIN_WIDTH)
        self.bars = arrange_bars(self.marks)
        self.timeline = self._make_timeline()
        self.footer = make_footer(self.bars, self.timeline, self.style, width)
        self.headers: dict[tuple[int, ...], Image.Image] = {}
        self.header_height = 0
        self.header_height = max(self._get_header(rows).height for rows in self._list_rows())
        self.corner = ((width - video.width) // 2, self.header_height)
        height = self.header_height + video.height + self.footer.height
        self.size = (width + width % 2, height + height % 2)

    def draw(self, frame: VideoFrame) -> Image.Image:
        """Return the frame with all that belongs to it."""
        picture = Image.fromarray(np.ascontiguousarray(frame.image))
        if picture.size != (self.video.width, self.video.height):
            picture = picture.resize((self.video.width, self.video.height))
        for box, mark in self.schedule.find_boxes(frame.index):
            mask = mark.masks.decode(frame.index) if mark.masks is not None else None
            if mask is not None:
                tint_mask(picture, mask, mark.color)
            draw_box(picture, box, mark.color, self.style, self.scale, mark.number if self.has_numbers else None)
        active = self.schedule.find_active(frame.index)
        canvas = Image.new("RGB", self.size, PAPER)
        canvas.paste(self._get_header(self._choose_rows(active)), (0, 0))
        canvas.paste(picture, self.corner)
        footer = self.footer.copy()
        draw_position(footer, self.timeline, self.style, frame.seconds, active, self.has_numbers)
        canvas.paste(footer, (0, self.header_height + self.video.height))
        return canvas

    def _make_timeline(self) -> DrawnTimeline:
        """The time line of the whole file, stretched to what the results speak of."""
        timeline = self.video.timeline
        moments = [moment for bar in self.bars for moment in (bar.start, bar.end)]
        moments += [r.media.end_seconds for r in self.results if r.media and r.media.media_type == "video"]
        return DrawnTimeline(min(float(timeline.seconds[0]), 0.0), max([timeline.end_seconds, *moments]))

    def _choose_rows(self, active: list[Mark]) -> list[Mark]:
        """Return the things that are told above the picture: all of a few, or else those that are there."""
        return self.marks if len(self.marks) <= _MAX_ROWS else active[:_MAX_ROWS]

    def _list_rows(self) -> list[list[Mark]]:
        """Return what is told above the picture, each time that it may be more."""
        starts = {window[0] for windows in self.schedule.windows for window in windows}
        return [self._choose_rows(self.schedule.find_active(start)) for start in starts] or [self._choose_rows([])]

    def _get_header(self, marks: list[Mark]) -> Image.Image:
        """Return the strip above the picture; it keeps its height."""
        key = tuple(mark.number for mark in marks)
        if key not in self.headers:
            if len(self.headers) > 2 * _MAX_ROWS:
                self.headers.clear()
            self.headers[key] = make_header(self.results, marks, self.style, self.footer.width, self.header_height)
        return self.headers[key]
