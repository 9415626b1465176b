"""Draws the truth of a record: what its answers say, and what its questions give, onto its clip or images."""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from ...processing import Caption, GroundingResult, InputError, open_image
from ...processing.image_loading_llava_st import load_images
from ...visualization import check_output as check_writable
from ...visualization import draw_on_image, save_picture, write_annotated_video, write_contact_sheet, writing_beside
from ...visualization.marks import get_words
from ..samples import Sample
from ..shapes.encoding import encode_frames
from ..turns import Turn

logger = logging.getLogger(__name__)

QUESTION_LABEL = "asked about"
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg")
_IMAGE_HEIGHT = 480  # pixels, of several images side by side


def check_output(sample: Sample, output_path: str | Path, overwrite: bool = False) -> None:
    """Raise `InputError` where a record cannot be drawn under that name."""
    if sample.media_type == "text":
        raise InputError(f"record {sample.id!r} has no medium: there is nothing to draw, leave the output out.")
    allowed = (*PICTURE_ENDINGS, ".mp4") if sample.media_type == "video" else PICTURE_ENDINGS
    files = [item.path for item in sample.media if item.content is None and item.path is not None]
    check_writable(output_path, allowed, files, overwrite=overwrite)


def draw_record(
    sample: Sample,
    turns: Sequence[Turn],
    output_path: str | Path,
    progress: Callable[[int, int | None], None] | None = None,
    overwrite: bool = False,
) -> None:
    """
    Draw a record.

    Args:
        sample (`Sample`): A record with a clip or images.
        turns (`Sequence[Turn]`): What it says, see `read_turns`.
        output_path (`str` or `Path`):
            `.png` or `.jpg`: the image (several stand side by side), or a contact sheet of the clip; `.mp4`: the whole
            clip. An earlier output is replaced.
        progress (`Callable[[int, int | None], None]`, *optional*): As for `write_annotated_video`.
        overwrite (`bool`, *optional*, defaults to `False`): Whether any other file that is there is replaced, too.

    Raises:
        `InputError`: For an output that does not go with the record.
        `MediaError`: If a medium cannot be read or the output cannot be written.

    Example:

    ```python
    >>> draw_record(sample, read_turns(sample, probe_media(sample, num_frames=100)), "record.png")
    ```
    """
    path = Path(output_path)
    check_output(sample, path, overwrite)
    if sample.media_type == "image":
        with writing_beside(path, None, overwrite) as temporary_path:
            save_picture(_draw_images(sample, turns), temporary_path)
        return
    result = merge_turns(turns)
    with _get_clip(sample) as clip:
        if path.suffix.lower() == ".mp4":
            for note in write_annotated_video(clip, result, path, progress, overwrite):
                logger.warning("%s: %s", path, note)
        else:
            write_contact_sheet(clip, result, path, overwrite=overwrite)


def merge_turns(turns: Sequence[Turn]) -> GroundingResult:
    """
    Return all that a conversation says of one medium as one result, for a picture.

    Boxes that a question gives are labelled as such, with what is answered in words. Its spans are the spans of the
    result where no answer has one.
    """
    answers, questions = [turn.answer for turn in turns], [turn.question for turn in turns]
    spans = tuple(span for answer in answers for span in answer.spans)
    asked = tuple(box for question in questions for box in question.boxes)
    captions = tuple(caption for answer in answers for caption in answer.captions)
    words = " ".join(filter(None, map(get_words, answers)))
    label = f"{QUESTION_LABEL}: {words}" if words and asked else QUESTION_LABEL
    return GroundingResult(
        text="\n".join(answer.text for answer in answers),
        spans=spans or tuple(span for question in questions for span in question.spans),
        boxes=(*(box for answer in answers for box in answer.boxes), *asked),
        tubes=tuple(tube for result in (*answers, *questions) for tube in result.tubes),
        captions=(*captions, *(Caption(label, boxes=(box,)) for box in asked)),
        query=answers[0].query if answers else None,
        media=answers[0].media if answers else None,
    )


def _draw_images(sample: Sample, turns: Sequence[Turn]) -> Image.Image:
    pictures = [
        open_image(item.source) if item.frames is None else Image.fromarray(item.frames) for item in sample.media
    ]
    infos = load_images(pictures)[1]
    drawn = []
    for index, picture in enumerate(pictures):
        about = [turn for turn in turns if turn.index == index]
        drawn.append(draw_on_image(picture, merge_turns(about)) if about else picture)
    if len(drawn) == 1:
        return drawn[0]
    widths = [max(1, round(info.width * _IMAGE_HEIGHT / info.height)) for info in infos]
    strip = Image.new("RGB", (sum(widths), _IMAGE_HEIGHT))
    for index, (picture, width) in enumerate(zip(drawn, widths, strict=True)):
        strip.paste(picture.resize((width, _IMAGE_HEIGHT)), (sum(widths[:index]), 0))
    return strip


@contextmanager
def _get_clip(sample: Sample) -> Iterator[str]:
    """Give the path of a file with the clip of a record, in whatever form it has it."""
    first = sample.media[0]
    if len(sample.media) == 1 and first.frames is None and first.content is None:
        yield first.path
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "clip.mp4"
        if sample.is_kept_as_frames:
            pictures = (np.asarray(open_image(item.source)) for item in sample.media)
            # Colours are not halved, so that an odd size can stay as it is.
            form, options = {"pix_fmt": "yuv444p"}, {"crf": "10", "preset": "veryfast"}
            encode_frames(sample, pictures if first.frames is None else first.frames, str(path), form, options)
        else:
            path.write_bytes(first.content)
        yield str(path)
