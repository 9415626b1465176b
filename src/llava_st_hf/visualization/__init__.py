"""Draws answers: boxes onto images and clips, spans onto a time line, a clip onto one sheet, all onto a page.

A thing has one colour and one number in all of them (`marks`). It is shown from the first to the last frame of its
spans; the box of a tube is interpolated linearly between the two boxes around the frame's time stamp. A box without a
time is shown on every frame of the spans, or on all frames where there is no span.
"""

from .annotated_clip import write_annotated_video
from .contact_sheet import draw_contact_sheet, write_contact_sheet
from .drawing import draw_on_image
from .marks import PALETTE, Mark, list_marks
from .output_files import check_output, save_picture, writing_beside
from .result_files import save_result, show_result
from .result_html import draw_result, render_html, render_page

__all__ = [
    "PALETTE",
    "Mark",
    "check_output",
    "draw_contact_sheet",
    "draw_on_image",
    "draw_result",
    "list_marks",
    "render_html",
    "render_page",
    "save_picture",
    "save_result",
    "show_result",
    "write_annotated_video",
    "write_contact_sheet",
    "writing_beside",
]
