"""The formats that answers can be written in, by name."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ...processing import GroundingResult, InputError
from ...processing.media_llava_st import format_count
from ...utils.atomic_files import write_text_whole, writing_whole
from .clips import AnsweredClip, collect_clips
from .coco_video import write_coco_video
from .cvat_video import write_cvat_video
from .fiftyone import write_fiftyone
from .label_studio import write_label_studio
from .mot import write_mot
from .webvtt import write_webvtt

_Clips, _Pictures = Sequence[AnsweredClip], Sequence[GroundingResult]


class ExportFormat(NamedTuple):
    """
    A format that answers can be written in.

    Args:
        name (`str`): Name; where the format can be read, too, that of its reader.
        description (`str`): What it is, in one line.
        parts (`tuple[str, ...]`): What it holds of an answer, out of `"tubes"`, `"spans"` and, of images, `"boxes"`.
        write (`Callable`): Takes the clips, and the answers about images; returns the texts of the files by name.
        ending (`str`, *optional*): Ending of its file, where it may be one.
    """

    name: str
    description: str
    parts: tuple[str, ...]
    write: Callable[[_Clips, _Pictures], Mapping[str, str]]
    ending: str | None = None


class ExportSummary(NamedTuple):
    """
    What was written.

    Args:
        paths (`tuple[Path, ...]`): The files.
        num_answers (`int`): Answers that are in them.
        num_left_out (`int`): Answers that have nothing that the format holds, such as a caption without a time.
    """

    paths: tuple[Path, ...]
    num_answers: int
    num_left_out: int


def _for_each(write: Callable[[AnsweredClip], Mapping[str, str]]) -> Callable[[_Clips, _Pictures], Mapping[str, str]]:
    return lambda clips, pictures: {name: text for clip in clips for name, text in write(clip).items()}


def _together(write: Callable[[_Clips], Mapping[str, str]]) -> Callable[[_Clips, _Pictures], Mapping[str, str]]:
    return lambda clips, pictures: write(clips)


_FORMATS = (
    ExportFormat(
        "cvat_video", "CVAT for video 1.1, a file (XML) for each clip", ("tubes",), _for_each(write_cvat_video), ".xml"
    ),
    ExportFormat("mot", "MOT Challenge, a folder with gt/gt.txt for each clip", ("tubes",), _for_each(write_mot)),
    ExportFormat(
        "coco_video", "COCO-VID, of images COCO, one file (JSON)", ("tubes", "boxes"), write_coco_video, ".json"
    ),
    ExportFormat(
        "label_studio",
        "Label Studio, predictions (JSON) and the interface for them (XML)",
        ("tubes", "spans"),
        _together(write_label_studio),
    ),
    ExportFormat("webvtt", "WebVTT, a file of chapters for each clip", ("spans",), _for_each(write_webvtt), ".vtt"),
    ExportFormat("fiftyone", "FiftyOne, a FiftyOneVideoLabelsDataset", ("tubes", "spans"), _together(write_fiftyone)),
)
EXPORT_FORMATS: Mapping[str, ExportFormat] = MappingProxyType({format.name: format for format in _FORMATS})


def export_answers(
    results: Sequence[GroundingResult],
    format: str,
    output: str | os.PathLike,
    *,
    every_frame: bool = False,
    media_folder: str | os.PathLike | None = None,
) -> ExportSummary:
    """
    Write answers in the format of another tool, whole or not at all.

    Args:
        results (`Sequence[GroundingResult]`): The answers, about any number of clips and images.
        format (`str`): One of `EXPORT_FORMATS`.
        output (`str` or `os.PathLike`):
            A folder to make, or a file with the ending of the format, where all goes into one.
        every_frame (`bool`, *optional*, defaults to `False`):
            Whether a tube has a box in each frame from its first to its last, interpolated between those of the
            answer, or at the times that the answer names only. Formats that can say so tell the two apart.
        media_folder (`str` or `os.PathLike`, *optional*):
            Where the clips lie, whose frames are counted; each at its `media.source` by default.

    Returns:
        `ExportSummary`: What was written.

    Raises:
        `InputError`: For an unknown format; an output that does not fit, or exists; a clip that is not
            there; or answers that have nothing that the format holds.

    Example:

    ```python
    >>> export_answers([result], "cvat_video", "annotations.xml", every_frame=True).num_answers
    1
    ```
    """
    if format not in EXPORT_FORMATS:
        raise InputError(f"format is {format!r}: choose one of {', '.join(EXPORT_FORMATS)}.", field="to")
    chosen, output = EXPORT_FORMATS[format], Path(output)
    check_export_output(chosen, output)
    if every_frame and "tubes" not in chosen.parts:
        raise InputError(f"every_frame: {format} holds no boxes; leave it out.", field="every_frame")
    used = [result for result in results if any(_has_part(result, part) for part in chosen.parts)]
    if not used:
        parts = " or ".join(part if part != "boxes" else "boxes of images" for part in chosen.parts)
        raise InputError(f"{format} holds {parts}: none of {format_count(len(results), 'answer')} has any.")
    pictures = [result for result in used if result.media is not None and result.media.media_type == "image"]
    if nameless := [result for result in used if result.media is None]:
        raise InputError(
            f"media is not set in {format_count(len(nameless), 'answer')}: say what they are about; ask about a file."
        )
    files = chosen.write(collect_clips(used, every_frame, media_folder), pictures)
    paths = _write(files, chosen, output)
    return ExportSummary(paths, len(used), len(results) - len(used))


def check_export_output(format: ExportFormat, output: Path) -> None:
    """Refuse an output that does not fit to a format, or cannot be written."""
    problem = None
    if not output.resolve().parent.is_dir():
        problem = f"the folder {output.resolve().parent} does not exist, make it first"
    elif output.suffix and output.suffix.lower() != format.ending:
        file = f", or of a file that ends in {format.ending}" if format.ending else ""
        problem = f"give the name of a folder, which has no ending{file}"
    elif os.path.lexists(output):
        problem = "it exists; delete it or give another name"
    if problem is not None:
        raise InputError(f"output is {str(output)!r}: {problem}.", field="output")


def _has_part(result: GroundingResult, part: str) -> bool:
    if part == "boxes":
        return bool(result.boxes) and result.media is not None and result.media.media_type == "image"
    return bool(getattr(result, part))


def _write(files: Mapping[str, str], format: ExportFormat, output: Path) -> tuple[Path, ...]:
    if output.suffix:
        if len(files) > 1:
            raise InputError(
                f"output is {str(output)!r}: the answers are about {len(files)} clips, which have a file each; give "
                "the name of a folder.",
                field="output",
            )
        (text,) = files.values()
        write_text_whole(output, text)
        return (output,)
    with writing_whole(output) as temporary_path:
        for name, text in files.items():
            target = temporary_path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode())
    return tuple(output / name for name in files)
