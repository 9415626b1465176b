"""Draws answers: boxes onto images and clips, spans onto a time line, a clip onto one sheet, all onto a page.

A box of a tube is shown from the tube's first to its last moment, interpolated linearly between the two boxes around
the frame's time stamp; its first and last box hold for half a sampling step more. A box without a time is shown on
every frame of the spans, or on all frames where there is no span.
"""

from .annotated_clip import write_annotated_video
from .contact_sheet import draw_contact_sheet, write_contact_sheet
from .drawing import BOX_COLORS, SPAN_COLOR, draw_on_image
from .output_files import check_output
from .result_files import save_result, show_result
from .result_html import draw_result, render_html, render_page

__all__ = [
    "BOX_COLORS",
    "SPAN_COLOR",
    "check_output",
    "draw_contact_sheet",
    "draw_on_image",
    "draw_result",
    "render_html",
    "render_page",
    "save_result",
    "show_result",
    "write_annotated_video",
    "write_contact_sheet",
]
