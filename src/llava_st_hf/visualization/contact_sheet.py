"""Draws frames of a clip, the boxes on them and the time line onto one picture."""

import os
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ..processing.grounding_results_llava_st import GroundingResult
from ..processing.media_llava_st import InputError
from ..processing.video_decoding_llava_st import probe_video, read_video
from .drawing import FAINT_INK, INK, PAPER, SPAN_COLOR, Style, draw_box, shorten, wrap
from .output_files import writing_beside
from .timeline import DrawnTimeline, compute_half_sampling_step, describe_spans, draw_bar, find_boxes_at

_MAX_CELLS = 400


def draw_contact_sheet(
    source: str | os.PathLike | bytes,
    result: GroundingResult,
    columns: int = 5,
    rows: int = 4,
    cell_pixels: int = 320,
) -> Image.Image:
    """
    Draw frames of the clip, the boxes on them and the spans on a time line below.

    The frames are spread evenly over what the model saw (`result.media`), or over the file where that is not known.
    Those inside a span have a coloured frame.

    Args:
        source (`str`, `os.PathLike` or `bytes`): The clip that was asked about.
        result (`GroundingResult`): What to draw.
        columns (`int`, *optional*, defaults to 5): Pictures side by side.
        rows (`int`, *optional*, defaults to 4): Pictures one above the other; fewer for a clip of few frames.
        cell_pixels (`int`, *optional*, defaults to 320): Longer side of each picture.

    Returns:
        `PIL.Image.Image`: The sheet.

    Raises:
        `InputError`: If `columns` or `rows` is not usable.
        `MediaError`: If the clip cannot be read.
    """
    if columns < 1 or rows < 1 or columns * rows > _MAX_CELLS:
        raise InputError(f"columns is {columns} and rows {rows}: give at least one of each and {_MAX_CELLS} in all.")
    probe = probe_video(source)
    scale = cell_pixels / max(probe.width, probe.height)
    size = (max(1, round(probe.width * scale)), max(1, round(probe.height * scale)))
    media = result.media if result.media and result.media.media_type == "video" else None
    time_range = (media.start_seconds, media.end_seconds) if media else None
    clip = read_video(source, num_frames=columns * rows, size=size[::-1], time_range=time_range)
    unique = dict(zip(clip.frame_indices, range(len(clip.frame_indices)), strict=True)).values()
    pictures = [(clip.frame_seconds[k], Image.fromarray(clip.frames[k].permute(1, 2, 0).numpy())) for k in unique]
    timeline = DrawnTimeline(*(time_range or (clip.frame_seconds[0], clip.frame_seconds[-1])), result.spans)
    width, height = (media.width, media.height) if media else (probe.width, probe.height)
    return _draw_sheet(pictures, result, timeline, (size[0] / width, size[1] / height), columns)


def write_contact_sheet(
    source_path: str | os.PathLike,
    result: GroundingResult,
    output_path: str | os.PathLike,
    columns: int = 5,
    rows: int = 4,
) -> None:
    """
    Write one PNG with frames of the clip, the boxes on them and the spans on a time line below.

    Args:
        source_path (`str` or `os.PathLike`): The clip that was asked about.
        result (`GroundingResult`): What to draw.
        output_path (`str` or `os.PathLike`): Where to write; an existing file is replaced.
        columns, rows (`int`, *optional*): As for `draw_contact_sheet`.

    Raises:
        `InputError`: If `columns` or `rows` is not usable.
        `MediaError`: If the clip cannot be read or the output cannot be written.
    """
    with writing_beside(output_path, source_path) as temporary_path:
        draw_contact_sheet(source_path, result, columns, rows).save(temporary_path, format="PNG")


def _draw_sheet(
    pictures: list[tuple[float, Image.Image]],
    result: GroundingResult,
    timeline: DrawnTimeline,
    scale: tuple[float, float],
    columns: int,
) -> Image.Image:
    style, title = Style(line=3, font_size=15), Style(line=3, font_size=20)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    picture_width, picture_height = pictures[0][1].size
    gap, margin = 14, 28
    cell = (picture_width + gap, picture_height + style.line_height + gap)
    width = max(2 * margin + columns * cell[0] - gap, 360)
    lines = wrap(result.query or "", title.font, width - 2 * margin, 3)
    top = margin + len(lines) * title.line_height + (gap if lines else 0)
    bottom = top + rows * cell[1]
    sheet = Image.new("RGB", (width, bottom + 2 * style.line_height + margin), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * title.line_height), line, fill=INK, font=title.font)
    half_step = (pictures[-1][0] - pictures[0][0]) / max(len(pictures) - 1, 1) / 2
    tolerance = min(half_step, compute_half_sampling_step(result))
    for number, (seconds, picture) in enumerate(pictures):
        for box, color, label in find_boxes_at(result, timeline, seconds):
            draw_box(picture, box, color, label, style, scale)
        left, upper = margin + number % columns * cell[0], top + number // columns * cell[1]
        is_inside = timeline.is_inside(seconds, tolerance)
        if is_inside:
            frame = (left - 4, upper - 4, left + picture_width + 3, upper + picture_height + 3)
            draw.rectangle(frame, outline=SPAN_COLOR, width=4)
        sheet.paste(picture, (left, upper))
        color = SPAN_COLOR if is_inside else FAINT_INK
        middle = upper + picture_height + 4 + style.line_height / 2
        draw.text((left, middle), f"{seconds:.2f} s", fill=color, font=style.font, anchor="lm")
    moments = [seconds for seconds, _ in pictures]
    _draw_sheet_timeline(draw, timeline, moments, (margin, width - 1 - margin, bottom + gap), style)
    return sheet


def _draw_sheet_timeline(
    draw: ImageDraw.ImageDraw,
    timeline: DrawnTimeline,
    moments: Sequence[float],
    place: tuple[int, int, int],
    style: Style,
) -> None:
    """Draw the rail with a tick for each picture, and under it the times of the two ends and of the spans."""
    left, right, middle = place
    draw_bar(draw, timeline, left, right, middle, 10)
    for seconds in moments:
        x = left + timeline.share(seconds) * (right - left)
        draw.line((x, middle - 9, x, middle + 9), fill=INK, width=2)
    text_middle = middle + 12 + style.line_height / 2
    draw.text((left, text_middle), f"{timeline.start:.1f} s", fill=FAINT_INK, font=style.font, anchor="lm")
    draw.text((right, text_middle), f"{timeline.end:.1f} s", fill=FAINT_INK, font=style.font, anchor="rm")
    spans = shorten(describe_spans(timeline.spans), style.font, (right - left) * 0.6)
    draw.text(((left + right) / 2, text_middle), spans, fill=SPAN_COLOR, font=style.font, anchor="mm")


__all__ = ["draw_contact_sheet", "write_contact_sheet"]
