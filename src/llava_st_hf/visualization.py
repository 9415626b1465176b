"""Draws grounding results: boxes onto images and clips, spans onto a time line, a clip onto one sheet.

A box of a tube is shown from the tube's first to its last moment, interpolated linearly between the two boxes around
the frame's time stamp; its first and last box hold for half a sampling step more. A box without a time is shown on
every frame of the spans, or on all frames where there is no span. Clips are decoded and encoded frame by frame, so
memory does not grow with their length.
"""

import os
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .processing.grounding_results_llava_st import Box, GroundingResult, Span
from .processing.image_loading_llava_st import describe_source
from .processing.media_llava_st import InputError, MediaError
from .processing.video_decoding_llava_st import iterate_frames, probe_video, read_video
from .processing.video_timeline_llava_st import Timeline

Color = tuple[int, int, int]

# One for each tube or box in turn: bright, so that black label text is legible on all of them.
BOX_COLORS: tuple[Color, ...] = (
    (255, 196, 0),
    (0, 204, 255),
    (255, 105, 145),
    (140, 230, 90),
    (190, 150, 255),
    (255, 150, 70),
)
SPAN_COLOR: Color = (0, 214, 150)
_INK: Color = (255, 255, 255)
_FAINT_INK: Color = (150, 156, 166)
_PAPER: Color = (20, 22, 27)
_SHADE = (10, 12, 16, 165)  # of the strips over a clip, with alpha
_MAX_QUERY_CHARACTERS = 400
_MAX_SHEET_CELLS = 400
_CELL_PIXELS = 320  # longer side of a picture on the sheet


@dataclass(frozen=True)
class _Style:
    """Sizes in pixels that go with the shorter side of the picture, so that 320 and 4,000 pixels look alike."""

    line: int
    font_size: int

    @classmethod
    def for_size(cls, width: int, height: int) -> "_Style":
        shorter = min(width, height)
        return cls(line=max(2, round(shorter / 180)), font_size=max(12, round(shorter / 30)))

    @cached_property
    def font(self) -> ImageFont.FreeTypeFont:
        return ImageFont.load_default(self.font_size)

    @property
    def pad(self) -> int:
        return max(3, self.font_size // 3)

    @property
    def line_height(self) -> int:
        return round(self.font_size * 1.3)


class _Timeline(NamedTuple):
    """What the time line shows, in seconds."""

    start: float
    end: float
    spans: tuple[Span, ...]

    def share(self, seconds: float) -> float:
        """Where a moment lies between start (0) and end (1)."""
        return min(max((seconds - self.start) / max(self.end - self.start, 1e-9), 0.0), 1.0)

    def is_inside(self, seconds: float, tolerance: float = 0.0) -> bool:
        return any(s.start_seconds - tolerance <= seconds <= s.end_seconds + tolerance for s in self.spans)


# ---------------------------------------------------------------------------------------------------------------------
# Public functions
# ---------------------------------------------------------------------------------------------------------------------
def draw_on_image(image: Image.Image, result: GroundingResult) -> Image.Image:
    """
    Draw the boxes of a result onto a copy of its image.

    Args:
        image (`PIL.Image.Image`): The image that was asked about; at another size the boxes are scaled to it.
        result (`GroundingResult`): Its boxes are labelled with their phrase, or else with the query.

    Returns:
        `PIL.Image.Image`: An RGB image, turned upright as its EXIF data says.

    Example:

    ```python
    >>> result = GroundingResult("...", boxes=(Box(10, 10, 40, 40),), query="a dog")
    >>> draw_on_image(Image.new("RGB", (64, 64)), result).size
    (64, 64)
    ```
    """
    canvas = ImageOps.exif_transpose(image).convert("RGB")
    media = result.media
    scale = (canvas.width / media.width, canvas.height / media.height) if media else (1.0, 1.0)
    style = _Style.for_size(*canvas.size)
    for number, row in enumerate(result.labelled_boxes()):
        color = BOX_COLORS[number % len(BOX_COLORS)]
        _draw_box(canvas, row.box, color, _label_of(row.box, row.label), style, scale)
    return canvas


def write_annotated_video(
    source_path: str | os.PathLike,
    result: GroundingResult,
    output_path: str | os.PathLike,
    progress: Callable[[int, int | None], None] | None = None,
) -> None:
    """
    Write the clip with the boxes, the time line and the query drawn onto it.

    The output is an MP4 that browsers play (H.264, yuv420p, index at the front, even size), upright, with the time
    stamps of the source and without its sound. It appears under its name only when it is complete.

    Args:
        source_path (`str` or `os.PathLike`): The clip that was asked about.
        result (`GroundingResult`): What to draw.
        output_path (`str` or `os.PathLike`): Where to write; an existing file is replaced.
        progress (`Callable[[int, int | None], None]`, *optional*):
            Called after each frame with the number of frames done and the number that the file claims to have.

    Raises:
        `MediaError`: If the clip cannot be read or the output cannot be written.
    """
    with _writing(source_path, output_path, ".mp4") as temporary:
        video = probe_video(source_path)
        encoder = _Encoder(temporary, video.timeline, (video.width, video.height))
        annotator = _Annotator(result, encoder.size, _timeline_of_file(result, video.timeline))
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


def write_contact_sheet(
    source_path: str | os.PathLike,
    result: GroundingResult,
    output_path: str | os.PathLike,
    columns: int = 5,
    rows: int = 4,
) -> None:
    """
    Write one PNG with frames of the clip, the boxes on them and the spans on a time line below.

    The frames are spread evenly over what the model saw (`result.media`), or over the file where that is not known.
    Those inside a span have a coloured frame.

    Args:
        source_path (`str` or `os.PathLike`): The clip that was asked about.
        result (`GroundingResult`): What to draw.
        output_path (`str` or `os.PathLike`): Where to write; an existing file is replaced.
        columns (`int`, *optional*, defaults to 5): Pictures side by side.
        rows (`int`, *optional*, defaults to 4): Pictures one above the other; fewer for a clip of few frames.

    Raises:
        `InputError`: If `columns` or `rows` is not usable.
        `MediaError`: If the clip cannot be read or the output cannot be written.
    """
    if columns < 1 or rows < 1 or columns * rows > _MAX_SHEET_CELLS:
        raise InputError(
            f"columns is {columns} and rows {rows}: give at least one of each and {_MAX_SHEET_CELLS} in all."
        )
    with _writing(source_path, output_path, ".png") as temporary:
        probe = probe_video(source_path)
        scale = _CELL_PIXELS / max(probe.width, probe.height)
        size = (max(1, round(probe.width * scale)), max(1, round(probe.height * scale)))
        media = result.media if result.media and result.media.media_type == "video" else None
        time_range = (media.start_seconds, media.end_seconds) if media else None
        clip = read_video(source_path, num_frames=columns * rows, size=size[::-1], time_range=time_range)
        unique = dict(zip(clip.frame_indices, range(len(clip.frame_indices)), strict=True)).values()
        pictures = [(clip.frame_seconds[k], Image.fromarray(clip.frames[k].permute(1, 2, 0).numpy())) for k in unique]
        timeline = _Timeline(*(time_range or (clip.frame_seconds[0], clip.frame_seconds[-1])), result.spans)
        scales = (size[0] / probe.width, size[1] / probe.height)
        _draw_sheet(pictures, result, timeline, scales, columns).save(temporary, format="PNG")


# ---------------------------------------------------------------------------------------------------------------------
# Boxes and text
# ---------------------------------------------------------------------------------------------------------------------
def _draw_box(
    canvas: Image.Image,
    box: Box,
    color: Color,
    label: str,
    style: _Style,
    scale: tuple[float, float] = (1.0, 1.0),
    top_limit: int = 0,
) -> None:
    """
    Draw a box, its line centred on the edge and kept inside the picture, with a dark rim for bright scenes.

    Args:
        canvas (`PIL.Image.Image`): Drawn onto, in place.
        box (`Box`): In pixels of the original frame.
        color (`tuple[int, int, int]`): RGB.
        label (`str`): Written on the top edge: above it, or inside where there is no room above.
        style (`_Style`): Line width and font.
        scale (`tuple[float, float]`): Pixels of the canvas for one pixel of the original frame, across and down.
        top_limit (`int`): Row of the canvas above which no label is written.
    """
    draw = ImageDraw.Draw(canvas)
    half, rim = style.line // 2, max(1, style.line // 3)
    x1, x2 = (_clamp(round(x * scale[0]), half, canvas.width - 1 - half) for x in (box.x1, box.x2))
    y1, y2 = (_clamp(round(y * scale[1]), half, canvas.height - 1 - half) for y in (box.y1, box.y2))
    outer = (x1 - half, y1 - half, max(x2 + half, x1), max(y2 + half, y1))
    draw.rectangle((outer[0] - rim, outer[1] - rim, outer[2] + rim, outer[3] + rim), outline=_PAPER, width=rim)
    draw.rectangle(outer, outline=color, width=style.line)
    if label:
        _draw_tag(draw, label, outer, color, style, canvas.width, top_limit)


def _draw_tag(
    draw: ImageDraw.ImageDraw,
    label: str,
    box: tuple[int, int, int, int],
    color: Color,
    style: _Style,
    canvas_width: int,
    top_limit: int,
) -> None:
    text = _shorten(_printable(label), style.font, canvas_width - 2 * style.pad)
    width = round(style.font.getlength(text)) + 2 * style.pad
    height = style.line_height
    left = _clamp(box[0], 0, max(0, canvas_width - width))
    top = box[1] - height if box[1] - height >= top_limit else max(box[1], top_limit)
    draw.rectangle((left, top, left + width, top + height), fill=color)
    draw.text((left + style.pad, top + height / 2), text, fill=(0, 0, 0), font=style.font, anchor="lm")


def _label_of(box: Box, label: str) -> str:
    return label if box.confidence is None else f"{label} {box.confidence:.0%}".strip()


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _printable(text: str) -> str:
    """Put a text on one line and take out what no font can measure (control characters, lone surrogates)."""
    text = text[:_MAX_QUERY_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    return text[: _count_fitting(text, font, width - font.getlength("..."))].rstrip() + "..."


def _count_fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """How many characters of a text fit into a width."""
    return max(bisect_right(range(len(text) + 1), width, key=lambda k: font.getlength(text[:k])) - 1, 0)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float, max_lines: int) -> list[str]:
    """Break a text into lines at spaces, and inside words that are longer than a line."""
    rest, lines = _printable(text), []
    while rest and len(lines) < max_lines - 1:
        fitting = max(_count_fitting(rest, font, width), 1)
        # The last space up to there, unless all of it fits or a word is longer than the line.
        cut = fitting if fitting == len(rest) else rest.rfind(" ", 0, fitting + 1)
        cut = cut if cut > 0 else fitting
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*lines, _shorten(rest, font, width)] if rest else lines


# ---------------------------------------------------------------------------------------------------------------------
# Time line
# ---------------------------------------------------------------------------------------------------------------------
def _describe_spans(spans: Sequence[Span]) -> str:
    parts = [f"{span.start_seconds:.1f} - {span.end_seconds:.1f} s" for span in spans[:3]]
    return ", ".join(parts) + (", ..." if len(spans) > 3 else "")


def _draw_bar(
    draw: ImageDraw.ImageDraw, timeline: _Timeline, left: int, right: int, middle: int, thickness: int
) -> None:
    """Draw the whole time as a rail and each span as a coloured stretch of it, at least as long as it is thick."""
    radius, right = thickness // 2, max(right, left + thickness)
    draw.rounded_rectangle((left, middle - radius, right, middle + radius), radius=radius, fill=(96, 102, 112))
    for span in timeline.spans:
        start, end = (left + timeline.share(t) * (right - left) for t in (span.start_seconds, span.end_seconds))
        end = min(max(end, start + thickness), right)
        start = min(start, end - thickness)
        draw.rounded_rectangle((start, middle - radius, end, middle + radius), radius=radius, fill=SPAN_COLOR)


class _Annotator:
    """Draws onto the frames of one clip; what does not change from frame to frame is prepared once."""

    def __init__(self, result: GroundingResult, size: tuple[int, int], timeline: _Timeline):
        self.result, self.size, self.timeline = result, size, timeline
        self.style = _Style.for_size(*size)
        self.header = self._make_header()
        self.footer = self._make_footer()
        self.shades = [Image.new("RGBA", strip.size, _SHADE) for strip in (self.header, self.footer)]

    def draw(self, image: Image.Image, seconds: float) -> None:
        """Draw onto the frame at `seconds`, in place."""
        bottom = self.size[1] - self.footer.height
        for shade, top in zip(self.shades, (0, bottom), strict=True):
            image.paste(shade, (0, top), shade)
        # The boxes lie between the shades and the writing, so that each hides as little of the other as can be.
        for box, color, label in _boxes_at(self.result, self.timeline, seconds):
            _draw_box(image, box, color, label, self.style, top_limit=self.header.height)
        image.paste(self.header, (0, 0), self.header)
        image.paste(self.footer, (0, bottom), self.footer)
        self._draw_position(image, seconds)

    def _make_header(self) -> Image.Image:
        style, width = self.style, self.size[0]
        max_lines = 2 if self.size[1] < 12 * style.line_height else 3
        lines = _wrap(self.result.query or "", style.font, width - 4 * style.pad, max_lines)
        height = len(lines) * style.line_height + 2 * style.pad if lines else 0
        strip = Image.new("RGBA", (width, height))
        draw = ImageDraw.Draw(strip)
        for number, line in enumerate(lines):
            middle = style.pad + (number + 0.5) * style.line_height
            draw.text((2 * style.pad, middle), line, fill=_INK, font=style.font, anchor="lm")
        return strip

    def _make_footer(self) -> Image.Image:
        style, width = self.style, self.size[0]
        strip = Image.new("RGBA", (width, style.line_height + 4 * style.pad))
        draw = ImageDraw.Draw(strip)
        _draw_bar(draw, self.timeline, *self._rail(), strip.height - 2 * style.pad, max(4, style.font_size // 3))
        return strip

    def _rail(self) -> tuple[int, int]:
        return 2 * self.style.pad, self.size[0] - 1 - 2 * self.style.pad

    def _draw_position(self, image: Image.Image, seconds: float) -> None:
        style, (left, right) = self.style, self._rail()
        draw = ImageDraw.Draw(image)
        top = self.size[1] - self.footer.height
        middle = top + style.pad + style.line_height / 2
        now, total = f"{seconds:.1f} s", f"{seconds:.1f} / {self.timeline.end:.1f} s"
        spans = _describe_spans(self.timeline.spans)
        is_inside = self.timeline.is_inside(seconds)
        room = right - left - style.font.getlength(spans) - 2 * style.pad
        text = total if style.font.getlength(total) <= room else now
        draw.text((left, middle), text, fill=_INK, font=style.font, anchor="lm")
        if style.font.getlength(text) <= room:
            color = SPAN_COLOR if is_inside else _FAINT_INK
            draw.text((right, middle), spans, fill=color, font=style.font, anchor="rm")
        x, y, radius = left + self.timeline.share(seconds) * (right - left), self.size[1] - 2 * style.pad, style.pad
        dot = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(dot, fill=_INK, outline=SPAN_COLOR if is_inside else _PAPER, width=max(1, style.line // 2))


def _boxes_at(result: GroundingResult, timeline: _Timeline, seconds: float) -> Iterator[tuple[Box, Color, str]]:
    """Yield the boxes to draw at a moment, each in the colour that it has throughout the clip."""
    tolerance, colors = _half_sampling_step(result), cycle(BOX_COLORS)
    for track, tube in enumerate(result.tubes, start=1):
        color, box = next(colors), tube.box_at(seconds, tolerance)
        if box is not None:
            yield box, color, _label_of(box, str(track) if len(result.tubes) > 1 else "")
    if not timeline.spans or timeline.is_inside(seconds, tolerance):
        for row in result.labelled_boxes():
            if row.track is None:
                yield row.box, next(colors), _label_of(row.box, row.label)


def _half_sampling_step(result: GroundingResult) -> float:
    """How long the first and the last box of a tube hold: half the time between two frames that the model saw."""
    media = result.media
    if media is None or media.media_type != "video" or len(media.frame_seconds) < 2:
        return 0.05
    return (media.end_seconds - media.start_seconds) / (len(media.frame_seconds) - 1) / 2


# ---------------------------------------------------------------------------------------------------------------------
# Contact sheet
# ---------------------------------------------------------------------------------------------------------------------
def _draw_sheet(
    pictures: list[tuple[float, Image.Image]],
    result: GroundingResult,
    timeline: _Timeline,
    scale: tuple[float, float],
    columns: int,
) -> Image.Image:
    style, title = _Style(line=3, font_size=15), _Style(line=3, font_size=20)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    picture_width, picture_height = pictures[0][1].size
    gap, margin = 14, 28
    cell = (picture_width + gap, picture_height + style.line_height + gap)
    width = max(2 * margin + columns * cell[0] - gap, 360)
    lines = _wrap(result.query or "", title.font, width - 2 * margin, 3)
    top = margin + len(lines) * title.line_height + (gap if lines else 0)
    bottom = top + rows * cell[1]
    sheet = Image.new("RGB", (width, bottom + 2 * style.line_height + margin), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * title.line_height), line, fill=_INK, font=title.font)
    tolerance = min((pictures[-1][0] - pictures[0][0]) / max(len(pictures) - 1, 1) / 2, _half_sampling_step(result))
    for number, (seconds, picture) in enumerate(pictures):
        for box, color, label in _boxes_at(result, timeline, seconds):
            _draw_box(picture, box, color, label, style, scale)
        left, upper = margin + number % columns * cell[0], top + number // columns * cell[1]
        is_inside = timeline.is_inside(seconds, tolerance)
        if is_inside:
            frame = (left - 4, upper - 4, left + picture_width + 3, upper + picture_height + 3)
            draw.rectangle(frame, outline=SPAN_COLOR, width=4)
        sheet.paste(picture, (left, upper))
        color = SPAN_COLOR if is_inside else _FAINT_INK
        middle = upper + picture_height + 4 + style.line_height / 2
        draw.text((left, middle), f"{seconds:.2f} s", fill=color, font=style.font, anchor="lm")
    moments = [seconds for seconds, _ in pictures]
    _draw_sheet_timeline(draw, timeline, moments, (margin, width - 1 - margin, bottom + gap), style)
    return sheet


def _draw_sheet_timeline(
    draw: ImageDraw.ImageDraw,
    timeline: _Timeline,
    moments: Sequence[float],
    place: tuple[int, int, int],
    style: _Style,
) -> None:
    """Draw the rail with a tick for each picture, and under it the times of the two ends and of the spans."""
    left, right, middle = place
    _draw_bar(draw, timeline, left, right, middle, 10)
    for seconds in moments:
        x = left + timeline.share(seconds) * (right - left)
        draw.line((x, middle - 9, x, middle + 9), fill=_INK, width=2)
    text_middle = middle + 12 + style.line_height / 2
    draw.text((left, text_middle), f"{timeline.start:.1f} s", fill=_FAINT_INK, font=style.font, anchor="lm")
    draw.text((right, text_middle), f"{timeline.end:.1f} s", fill=_FAINT_INK, font=style.font, anchor="rm")
    spans = _shorten(_describe_spans(timeline.spans), style.font, (right - left) * 0.6)
    draw.text(((left + right) / 2, text_middle), spans, fill=SPAN_COLOR, font=style.font, anchor="mm")


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------
def check_output(
    path: str | os.PathLike, endings: Sequence[str], media: Sequence[str | os.PathLike] = (), field: str = "output"
) -> None:
    """
    Find out that a file could not be written, before anything is made that goes into it.

    Args:
        path (`str` or `os.PathLike`): The file; one that exists would be replaced.
        endings (`Sequence[str]`): Endings that its name may have, in lower case.
        media (`Sequence[str | os.PathLike]`, *optional*): Files that it must not replace.
        field (`str`, *optional*, defaults to `"output"`): What it is called in the message.

    Raises:
        `InputError`: If it could not.
    """
    path, problem = Path(path), None
    folder = path.resolve().parent
    if path.suffix.lower() not in endings:
        problem = f"give a name that ends in {' or '.join(endings)}"
    elif path.is_dir():
        problem = "that is a folder, give the name of a file"
    elif not folder.is_dir():
        problem = f"the folder {folder} does not exist, make it first"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        problem = "it may not be written there, give another folder"
    elif path.resolve() in [Path(medium).resolve() for medium in media]:
        problem = "that is what is drawn on, give another name"
    if problem is not None:
        raise InputError(f"{field} is {path}: {problem}.", field=field)


@contextmanager
def _writing(source: str | os.PathLike, output: str | os.PathLike, suffix: str) -> Iterator[str]:
    """Give a temporary name beside the output, and rename it to the output only if all went well."""
    output = Path(output)
    if not output.parent.is_dir():
        raise MediaError(f"{output}: its folder does not exist; create {output.parent} first.")
    if output.is_dir():
        raise MediaError(f"{output}: is a directory; give the name of a file to write.")
    if output.exists() and Path(source).exists() and output.samefile(source):
        raise MediaError(f"{output}: is the clip itself; write to another file.")
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(suffix=suffix, prefix=f".{output.stem}-", dir=output.parent)
        os.close(handle)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are for the owner only
        os.replace(temporary, output)
    except (av.error.FFmpegError, OSError) as error:
        reason = " ".join(str(error.strerror or error).split())
        raise MediaError(
            f"{output}: could not be written from {describe_source(source)} ({reason}); check the clip, the folder's "
            "permissions and the free space."
        ) from None  # the trace of an FFmpeg error says nothing that the message does not
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _timeline_of_file(result: GroundingResult, timeline: Timeline) -> _Timeline:
    """The time line of the whole file, stretched to what the result speaks of."""
    end = timeline.end_seconds
    if result.media is not None and result.media.media_type == "video":
        end = max(end, result.media.end_seconds)
    end = max([end, *(span.end_seconds for span in result.spans), *(tube.end_seconds for tube in result.tubes)])
    return _Timeline(min(float(timeline.seconds[0]), 0.0), end, result.spans)


class _Encoder:
    """Writes pictures as H.264 in MP4 with the times of the source."""

    def __init__(self, path: str, timeline: Timeline, size: tuple[int, int]):
        width, height = self.original_size = size
        self.size = (width + width % 2, height + height % 2)  # yuv420p has one colour for 2 x 2 pixels
        self.num_frames, self.last_pts = 0, None
        self.unit = timeline.time_base
        # The track counts in the unit of the source, so that every time stamp stays exact.
        unit = str(self.unit.denominator)
        options = {"movflags": "+faststart", "video_track_timescale": unit, "movie_timescale": unit}
        self.container = av.open(path, "w", format="mp4", options=options)
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
        pts = round(seconds / self.unit)
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


__all__ = ["BOX_COLORS", "SPAN_COLOR", "check_output", "draw_on_image", "write_annotated_video", "write_contact_sheet"]
