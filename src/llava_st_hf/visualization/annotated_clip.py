"""Writes a clip with the answer drawn onto every frame; memory does not grow with its length."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from ..processing.grounding_results_llava_st import GroundingResult
from ..processing.video_decoding_llava_st import iterate_frames, probe_video
from ..processing.video_timeline_llava_st import Timeline
from .drawing import FAINT_INK, INK, PAPER, SPAN_COLOR, Style, draw_box, wrap
from .output_files import writing_beside
from .timeline import DrawnTimeline, describe_spans, draw_bar, find_boxes_at

_SHADE = (10, 12, 16, 165)  # of the strips over a clip, with alpha


def write_annotated_video(
    source_path: str | os.PathLike,
    result: GroundingResult,
    output_path: str | os.PathLike,
    progress: Callable[[int, int | None], None] | None = None,
) -> None:
    """
    Write the clip with the boxes, the time line and the query drawn onto it.

    The output is an MP4 that browsers play (H.264, yuv420p, index at the front, even size), upright, with the time
    stamps of the source and without its sound. Where those start below 0 they are moved to start at 0, because
    players leave out what is earlier; the times that are written onto the frames stay those of the source. It appears
    under its name only when it is complete.

    Args:
        source_path (`str` or `os.PathLike`): The clip that was asked about.
        result (`GroundingResult`): What to draw.
        output_path (`str` or `os.PathLike`): Where to write; an existing file is replaced.
        progress (`Callable[[int, int | None], None]`, *optional*):
            Called after each frame with the number of frames done and the number that the file claims to have.

    Raises:
        `MediaError`: If the clip cannot be read or the output cannot be written.
    """
    with writing_beside(output_path, source_path) as temporary_path:
        video = probe_video(source_path)
        encoder = _Encoder(temporary_path, video.timeline, (video.width, video.height))
        media = result.media if result.media and result.media.media_type == "video" else video
        scale = (video.width / media.width, video.height / media.height)
        annotator = _Annotator(result, encoder.size, _timeline_of_file(result, video.timeline), scale)
        try:
            for frame in iterate_frames(source_path, video.timeline):
                image = encoder.fit(frame.image)
                annotator.draw(image, frame.seconds)
                encoder.write(image, frame.seconds)
                if progress is not None:
                    progress(encoder.num_frames, len(video.timeline))
            encoder.finish()
        finally:
            encoder.close()


def _timeline_of_file(result: GroundingResult, timeline: Timeline) -> DrawnTimeline:
    """The time line of the whole file, stretched to what the result speaks of."""
    end = timeline.end_seconds
    if result.media is not None and result.media.media_type == "video":
        end = max(end, result.media.end_seconds)
    end = max([end, *(span.end_seconds for span in result.spans), *(tube.end_seconds for tube in result.tubes)])
    return DrawnTimeline(min(float(timeline.seconds[0]), 0.0), end, result.spans)


class _Annotator:
    """Draws onto the frames of one clip; what does not change from frame to frame is prepared once."""

    def __init__(
        self, result: GroundingResult, size: tuple[int, int], timeline: DrawnTimeline, scale: tuple[float, float]
    ):
        self.result, self.size, self.timeline, self.scale = result, size, timeline, scale
        self.style = Style.for_size(*size)
        self.header = self._make_header()
        self.footer = self._make_footer()
        self.shades = [Image.new("RGBA", strip.size, _SHADE) for strip in (self.header, self.footer)]

    def draw(self, image: Image.Image, seconds: float) -> None:
        """Draw onto the frame at `seconds`, in place."""
        bottom = self.size[1] - self.footer.height
        for shade, top in zip(self.shades, (0, bottom), strict=True):
            image.paste(shade, (0, top), shade)
        # The boxes lie between the shades and the writing, so that each hides as little of the other as can be.
        for box, color, label in find_boxes_at(self.result, self.timeline, seconds):
            draw_box(image, box, color, label, self.style, self.scale, top_limit=self.header.height)
        image.paste(self.header, (0, 0), self.header)
        image.paste(self.footer, (0, bottom), self.footer)
        self._draw_position(image, seconds)

    def _make_header(self) -> Image.Image:
        style, width = self.style, self.size[0]
        max_lines = 2 if self.size[1] < 12 * style.line_height else 3
        lines = wrap(self.result.query or "", style.font, width - 4 * style.pad, max_lines)
        height = len(lines) * style.line_height + 2 * style.pad if lines else 0
        strip = Image.new("RGBA", (width, height))
        draw = ImageDraw.Draw(strip)
        for number, line in enumerate(lines):
            middle = style.pad + (number + 0.5) * style.line_height
            draw.text((2 * style.pad, middle), line, fill=INK, font=style.font, anchor="lm")
        return strip

    def _make_footer(self) -> Image.Image:
        style, width = self.style, self.size[0]
        strip = Image.new("RGBA", (width, style.line_height + 4 * style.pad))
        draw = ImageDraw.Draw(strip)
        draw_bar(draw, self.timeline, *self._rail(), strip.height - 2 * style.pad, max(4, style.font_size // 3))
        return strip

    def _rail(self) -> tuple[int, int]:
        return 2 * self.style.pad, self.size[0] - 1 - 2 * self.style.pad

    def _draw_position(self, image: Image.Image, seconds: float) -> None:
        style, (left, right) = self.style, self._rail()
        draw = ImageDraw.Draw(image)
        top = self.size[1] - self.footer.height
        middle = top + style.pad + style.line_height / 2
        now, total = f"{seconds:.1f} s", f"{seconds:.1f} / {self.timeline.end:.1f} s"
        spans = describe_spans(self.timeline.spans)
        is_inside = self.timeline.is_inside(seconds)
        room = right - left - style.font.getlength(spans) - 2 * style.pad
        text = total if style.font.getlength(total) <= room else now
        draw.text((left, middle), text, fill=INK, font=style.font, anchor="lm")
        if style.font.getlength(text) <= room:
            color = SPAN_COLOR if is_inside else FAINT_INK
            draw.text((right, middle), spans, fill=color, font=style.font, anchor="rm")
        x, y, radius = left + self.timeline.share(seconds) * (right - left), self.size[1] - 2 * style.pad, style.pad
        dot = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(dot, fill=INK, outline=SPAN_COLOR if is_inside else PAPER, width=max(1, style.line // 2))


class _Encoder:
    """Writes pictures as H.264 in MP4 with the times of the source."""

    def __init__(self, path: Path, timeline: Timeline, size: tuple[int, int]):
        width, height = self.original_size = size
        self.size = (width + width % 2, height + height % 2)  # yuv420p has one colour for 2 x 2 pixels
        self.num_frames, self.last_pts = 0, None
        self.unit = timeline.time_base
        self.first_seconds = min(float(timeline.seconds[0]), 0.0)
        # The track counts in the unit of the source, so that every time stamp stays exact.
        unit = str(self.unit.denominator)
        options = {"movflags": "+faststart", "video_track_timescale": unit, "movie_timescale": unit}
        self.container = av.open(str(path), "w", format="mp4", options=options)
        codec = "libx264" if "libx264" in av.codecs_available else "h264"
        rate = Fraction(timeline.fps or 25).limit_denominator(60000)
        self.stream = self.container.add_stream(codec, rate=rate, options={"crf": "20", "preset": "veryfast"})
        self.stream.width, self.stream.height = self.size
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.time_base = self.stream.time_base = self.unit

    def fit(self, image: np.ndarray) -> Image.Image:
        """Return the frame at the size of the output; at an odd size the last row or column is doubled."""
        if image.shape[1::-1] != self.original_size:
            image = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(self.original_size))
        right, below = (self.size[k] - self.original_size[k] for k in (0, 1))
        if right or below:
            image = np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")
        return Image.fromarray(np.ascontiguousarray(image))

    def write(self, image: Image.Image, seconds: float) -> None:
        frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
        pts = round((seconds - self.first_seconds) / self.unit)
        if self.last_pts is not None:
            pts = max(pts, self.last_pts + 1)
        frame.pts, frame.time_base, self.last_pts = pts, self.unit, pts
        self.container.mux(self.stream.encode(frame))
        self.num_frames += 1

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self.container.mux(self.stream.encode(None))

    def close(self) -> None:
        self.container.close()


__all__ = ["write_annotated_video"]
