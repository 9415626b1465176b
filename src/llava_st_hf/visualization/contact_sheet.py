"""Draws frames of a clip, the boxes on them and the time line onto one picture."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ..processing import GroundingResult, InputError, probe_video, read_video
from ..processing.video_decoding_llava_st import VideoProbe
from .drawing import FAINT_INK, INK, PAPER, Style, draw_box, draw_chips, prepare, wrap
from .fonts import describe_missing_fonts
from .marks import Schedule, as_results, compute_sampling_step, list_marks
from .output_files import save_picture, writing_beside
from .timeline import DrawnTimeline, arrange_bars, get_rail, make_footer, make_header

_MAX_CELLS = 400
_MAX_ROWS = 24  # above the pictures
_GAP, _MARGIN, _MIN_WIDTH, _MIN_CELL_HEIGHT = 18, 28, 480, 60  # pixels


def draw_contact_sheet(
    source: str | os.PathLike | bytes,
    results: GroundingResult | Sequence[GroundingResult],
    columns: int = 5,
    rows: int = 4,
    cell_pixels: int = 320,
) -> Image.Image:
    """
    Draw frames of the clip, the boxes on them and the spans on a time line below.

    The first and last frame of every span and tube are shown, for which the sheet grows if it must, then as many of
    those that carry boxes as fit; the others are spread over what the model saw (`result.media`), or over the file
    where that is not known. What is left out is said. Frames inside a span have a coloured rim.

    Args:
        source (`str`, `os.PathLike` or `bytes`): The clip that was asked about.
        results (`GroundingResult` or a sequence of them): What to draw; each query has its colours.
        columns (`int`, *optional*, defaults to 5): Pictures side by side; fewer and larger ones of a very wide clip.
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
    results, video = as_results(results), probe_video(source)
    num_cells, room = columns * rows, columns * cell_pixels
    columns = max(1, min(columns, round(room * video.height / video.width / _MIN_CELL_HEIGHT)))
    scale = room / columns / max(video.width, video.height)
    size = (max(1, round(video.width * scale)), max(1, round(video.height * scale)))
    media = [result.media for result in results if result.media and result.media.media_type == "video"]
    step = max(map(compute_sampling_step, results), default=0.0)
    schedule = Schedule(list_marks(results), video.timeline.seconds, step)
    seen = _find_seen(video, [moment for item in media for moment in (item.start_seconds, item.end_seconds)])
    choice = choose_frames(schedule, seen, num_cells)
    clip = read_video(source, frame_indices=choice.frames, size=size[::-1])
    choice = choice._replace(frames=list(clip.frame_indices))  # of one that cannot be decoded it is the nearest
    pictures = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in clip.frames]
    width, height = (media[0].width, media[0].height) if media else (video.width, video.height)
    for frame, picture in zip(choice.frames, pictures, strict=True):
        for box, mark in schedule.find_boxes(frame):
            number = mark.number if len(schedule.marks) > 1 else None
            draw_box(picture, box, mark.color, _STYLE, (size[0] / width, size[1] / height), number)
    return _draw_sheet(pictures, choice, results, schedule, seen, columns)


def write_contact_sheet(
    source_path: str | os.PathLike,
    results: GroundingResult | Sequence[GroundingResult],
    output_path: str | os.PathLike,
    columns: int = 5,
    rows: int = 4,
    overwrite: bool = False,
) -> None:
    """
    Write one picture with frames of the clip, the boxes on them and the spans on a time line below.

    Args:
        source_path (`str` or `os.PathLike`): The clip that was asked about.
        results (`GroundingResult` or a sequence of them): What to draw.
        output_path (`str` or `os.PathLike`): Where to write a PNG, or a JPEG if its name ends so; an earlier output
            is replaced.
        columns, rows (`int`, *optional*): As for `draw_contact_sheet`.
        overwrite (`bool`, *optional*, defaults to `False`): Whether any other file that is there is replaced, too.

    Raises:
        `InputError`: If `columns` or `rows` is not usable.
        `MediaError`: If the clip cannot be read or the output cannot be written.
    """
    with writing_beside(output_path, source_path, overwrite) as temporary_path:
        save_picture(draw_contact_sheet(source_path, results, columns, rows), temporary_path)


# --------------------------------------------------------------------------------------------------
# Which frames
# --------------------------------------------------------------------------------------------------
class FrameChoice(NamedTuple):
    """The frames on a sheet, by their numbers in the file, and what is not on it."""

    frames: list[int]
    num_left_out: int  # of those with the ends of spans
    num_boxed_left_out: int  # of those with the boxes of tubes
    num_boxed: int


def choose_frames(schedule: Schedule, seen: tuple[int, int], num_cells: int) -> FrameChoice:
    """
    Choose the frames of a sheet.

    Args:
        schedule (`Schedule`): What is in which frame.
        seen (`tuple[int, int]`): First and last frame of what the model saw.
        num_cells (`int`): Pictures on the sheet; exceeded for the ends of spans, up to 400.
    """
    ends, boxed = schedule.list_ends(), schedule.list_boxed()
    chosen = ends if len(ends) <= _MAX_CELLS else _thin(ends, _MAX_CELLS)
    num_cells = max(num_cells, len(chosen))
    # A quarter is for what is around them.
    room = max(num_cells * 3 // 4 - len(chosen), 0)
    others = [frame for frame in boxed if frame not in set(chosen)]
    frames = sorted({*chosen, *_thin(others, room)})
    for edge in seen:
        if len(frames) < num_cells and edge not in frames:
            frames.append(edge)
    frames = _fill(sorted(frames), num_cells)
    shown = set(frames)
    left_out = [sum(frame not in shown for frame in wanted) for wanted in (ends, boxed)]
    return FrameChoice(frames, *left_out, len(boxed))


def _thin(frames: list[int], count: int) -> list[int]:
    """Take some of a list, spread evenly, with its ends where there are two or more."""
    if len(frames) <= count:
        return frames
    return [frames[k] for k in np.linspace(0, len(frames) - 1, count).round().astype(int)]


def _fill(anchors: list[int], count: int) -> list[int]:
    """Add frames between some, each into what is then the widest gap, and spread them evenly within it."""
    gaps = np.diff(anchors)
    added = np.zeros(len(gaps), dtype=int)
    for _ in range(count - len(anchors)):
        steps = np.where(added + 1 < gaps, gaps / (added + 1), 0)
        if not steps.any():
            break
        added[steps.argmax()] += 1
    filled = [np.linspace(a, b, n + 2) for a, b, n in zip(anchors, anchors[1:], added, strict=False)]
    return np.unique(np.concatenate([anchors, *filled]).round().astype(int)).tolist()


def _find_seen(video: VideoProbe, moments: list[float]) -> tuple[int, int]:
    """Return the first and last frame of the file between some moments, of all of it if there are none."""
    seconds = video.timeline.seconds
    if not moments:
        return 0, len(seconds) - 1
    first, last = (int(np.abs(seconds - moment).argmin()) for moment in (min(moments), max(moments)))
    return first, last


# --------------------------------------------------------------------------------------------------
# The sheet
# --------------------------------------------------------------------------------------------------
_STYLE, _TITLE = Style(line=3, font_size=16), Style(line=3, font_size=20)


def _draw_sheet(
    pictures: list[Image.Image],
    choice: FrameChoice,
    results: list[GroundingResult],
    schedule: Schedule,
    seen: tuple[int, int],
    columns: int,
) -> Image.Image:
    columns = min(columns, len(pictures))
    num_rows = -(-len(pictures) // columns)
    picture_width, picture_height = pictures[0].size
    # Of a narrow clip the pictures stand apart, so that their times have room.
    times = [f"{seconds:.2f} s" for seconds in schedule.seconds[choice.frames]]
    needed = max(map(_STYLE.font.getlength, times)) + min(len(schedule.marks) - 1, 3) * 1.5 * _STYLE.font_size
    label_width = max(picture_width, round(needed))
    cell = (label_width + _GAP, picture_height + _STYLE.line_height + _GAP)
    width = max(columns * cell[0] - _GAP, _MIN_WIDTH)
    marks, seconds = schedule.marks, schedule.seconds
    header = make_header(results, marks[:_MAX_ROWS], _TITLE, width)
    bars = arrange_bars(marks)
    shown = [
        *seconds[choice.frames],
        *seconds[list(seen)],
        *(moment for bar in bars for moment in (bar.start, bar.end)),
    ]
    timeline = DrawnTimeline(float(min(shown)), float(max(shown)))
    footer = _draw_footer(make_footer(bars, timeline, _STYLE, width), timeline, seconds[choice.frames])
    notes = wrap(prepare(_describe_choice(choice, results, schedule)), _STYLE.font, width - 2 * _STYLE.pad, 4)
    top = _MARGIN + header.height
    bottom = top + num_rows * cell[1]
    height = bottom + footer.height + len(notes) * _STYLE.line_height + _MARGIN
    sheet = Image.new("RGB", (width + 2 * _MARGIN, height), PAPER)
    sheet.paste(header, (_MARGIN, _MARGIN - _STYLE.pad))
    sheet.paste(footer, (_MARGIN, bottom))
    draw = ImageDraw.Draw(sheet)
    for number, (frame, picture) in enumerate(zip(choice.frames, pictures, strict=True)):
        left, upper = _MARGIN + number % columns * cell[0], top + number // columns * cell[1]
        active = schedule.find_active(frame)
        if active:
            rim = (left - 4, upper - 4, left + picture_width + 3, upper + picture_height + 3)
            draw.rectangle(rim, outline=active[0].color, width=4)
        sheet.paste(picture, (left, upper))
        middle = upper + picture_height + 4 + _STYLE.line_height / 2
        _STYLE.font.write(draw, (left, middle), times[number], INK if active else FAINT_INK)
        if len(marks) > 1:
            free = (left + _STYLE.font.getlength(times[number]), left + label_width)
            draw_chips(draw, active, free, upper + picture_height + 6, _STYLE, True)
    for number, line in enumerate(notes):
        middle = bottom + footer.height + (number + 0.5) * _STYLE.line_height
        _STYLE.font.write(draw, (_MARGIN + _STYLE.pad, middle), line, FAINT_INK)
    return sheet


def _draw_footer(strip: Image.Image, timeline: DrawnTimeline, moments: Sequence[float]) -> Image.Image:
    """Write the times of both ends into the strip with the time line, and a tick for each picture."""
    draw, (left, right) = ImageDraw.Draw(strip), get_rail(_STYLE, strip.width)
    middle = _STYLE.pad + _STYLE.line_height / 2
    _STYLE.font.write(draw, (left, middle), f"{timeline.start:.2f} s", FAINT_INK)
    _STYLE.font.write(draw, (right, middle), f"{timeline.end:.2f} s", FAINT_INK, "r")
    for seconds in moments:
        x = left + timeline.share(seconds) * (right - left)
        draw.line((x, _STYLE.line_height + _STYLE.pad, x, strip.height), fill=INK, width=2)
    return strip


def _describe_choice(choice: FrameChoice, results: list[GroundingResult], schedule: Schedule) -> str:
    """Say what is not on the sheet."""
    parts = [f"{len(choice.frames)} of {len(schedule.seconds)} frames"]
    if choice.num_boxed_left_out:
        parts.append(f"{choice.num_boxed_left_out} of {choice.num_boxed} frames with boxes are left out")
    if choice.num_left_out:
        parts.append(f"{choice.num_left_out} frames with ends of spans are left out")
    if len(schedule.marks) > _MAX_ROWS:
        parts.append(f"{len(schedule.marks) - _MAX_ROWS} more things are not listed above")
    texts = [text for text in (*(r.query for r in results), *(mark.label for mark in schedule.marks)) if text]
    missing = describe_missing_fonts(*texts)
    return "; ".join([*parts, *([missing] if missing else [])])
