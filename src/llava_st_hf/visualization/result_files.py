"""Shows a `GroundingResult`, and writes it to a file of the form that its ending names."""

import csv
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..processing import GroundingResult, InputError
from ..processing.grounding_export_llava_st import TABLE_COLUMNS, convert_to_rows
from .annotated_clip import write_annotated_video
from .output_files import check_output, save_picture, writing_beside
from .result_html import draw_result, find_source, render_html, render_page

logger = logging.getLogger(__name__)


def show_result(result: GroundingResult, source: Any = None) -> None:
    """
    Show an answer in the notebook that it is called from, or else in the program that shows pictures.

    Args:
        result (`GroundingResult`): The answer.
        source (`str`, `Path` or `bytes`, *optional*): The clip or image; `result.media.source` where it is left out.

    Raises:
        `InputError`: If the clip or image cannot be read, or there is no program to show pictures.
    """
    from PIL import ImageShow  # which imports all of IPython where that is installed

    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if hasattr(shell, "kernel"):
        ipython.display.display(ipython.display.HTML(render_html(result, source)))
    elif not ImageShow.show(draw_result(result, source), title=result.query):
        raise InputError("there is no program here that shows pictures: write one with save('answer.png').")


def save_result(result: GroundingResult, path: str | os.PathLike, source: Any = None, overwrite: bool = False) -> None:
    """
    Write an answer as `.json`, `.csv`, `.html`, `.png`, `.jpg` or, of a clip, `.mp4`; whole or not at all.

    Args:
        result (`GroundingResult`): The answer.
        path (`str` or `os.PathLike`): The file to write; an earlier output is replaced.
        source (`str`, `Path` or `bytes`, *optional*): The clip or image; `result.media.source` where it is left out.
        overwrite (`bool`, *optional*, defaults to `False`): Whether any other file that is there is replaced, too.

    Raises:
        `InputError`: For another ending, a clip or image that cannot be read, or a file that cannot be written.
    """
    is_image = result.media is not None and result.media.media_type == "image"
    medium = result.media.source if source is None and result.media else source
    inputs = [medium] if isinstance(medium, (str, os.PathLike)) else []
    check_output(path, [*_WRITERS] if is_image else [*_WRITERS, ".mp4"], inputs, "path", overwrite)
    ending = Path(path).suffix.lower()
    if ending == ".mp4":
        for note in write_annotated_video(find_source(result, source), result, path, overwrite=overwrite):
            logger.warning("%s: %s", path, note)
        return
    write = _WRITERS[ending]
    with writing_beside(path, medium, overwrite) as temporary_path:
        write(temporary_path, result, source)


def _write_json(path: Path, result: GroundingResult, source: Any) -> None:
    path.write_text(json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_csv(path: Path, result: GroundingResult, source: Any) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, TABLE_COLUMNS)
        writer.writeheader()
        writer.writerows(convert_to_rows(result))


def _write_html(path: Path, result: GroundingResult, source: Any) -> None:
    path.write_text(render_page(result, source), encoding="utf-8")


def _write_picture(path: Path, result: GroundingResult, source: Any) -> None:
    save_picture(draw_result(result, source), path)


_WRITERS: dict[str, Callable[[Path, GroundingResult, Any], None]] = {
    ".json": _write_json,
    ".csv": _write_csv,
    ".html": _write_html,
    ".png": _write_picture,
    ".jpg": _write_picture,
    ".jpeg": _write_picture,
}
