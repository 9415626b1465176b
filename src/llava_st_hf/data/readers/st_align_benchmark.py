"""The ST-Align benchmark: stvg.json, svg.json and elc.json, with the published questions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...processing.tasks_llava_st import ANSWER_REQUESTS
from ..samples import Sample
from ..skips import RecordError, show
from .base import MediaFolder, Reader, require_object
from .json_files import JsonRecords
from .tubes import (
    DEFAULT_NUM_FRAMES,
    SampledFrames,
    check_count,
    check_frame,
    check_numbers,
    check_task,
    compute_box_fractions,
    convert_xywh,
    make_error,
    require,
    require_frame,
    require_text,
    write_box,
    write_span,
    write_time,
    write_tube,
    write_turns,
)

_TASKS = ("stvg", "svg", "elc")
_XYWH = "[left, top, width, height] in pixels"
# Parity: the published pipeline opens the question of svg with "At" or "Between" by chance; this is the form of
# `TASKS["svg"]`. The spaces around a span, a time and a box are those that the weights were trained with.
_PROMPT_FORMS = {
    "svg": (("From <s> to <e>", "Between  {span} "),),
    "elc": (("Starts in <s>", " Starts in {start} "), ("<first_bbox>", " {box}")),
}


class StAlignBenchmarkReader(Reader):
    """
    The records of one file of the ST-Align benchmark.

    A record has `video_path`, `conversations` (a question and an answer, `from` and `value`) and `meta`:

    - `width`, `height`: of the frames, in pixels;
    - `split`: first and last frame of the clip;
    - `time_token`: `"<s>"` and `"<e>"`, first and last frame of the event;
    - `spatial_token`: `"<bboxes>"`, boxes [left, top, width, height] in pixels by frame; and for `elc`
      `"<first_bbox>"`, by default the first of them.

    The question is the published one. Its coordinates have the three decimals that the published pipeline gives them.
    The answer is exact. Its boxes are those at sampled frames, as in the published evaluation.

    Args:
        path (`str` or `Path`): `stvg.json`, `svg.json` or `elc.json`, or a part of one.
        source (`str`): Name of the data set.
        data_folder (`str` or `Path`, *optional*): Folder of the videos.
        task (`str`, *optional*):
            `"stvg"`, `"svg"` or `"elc"`. By default each record's question says which it is.
        max_items (`int`, *optional*, defaults to 2000): How many records count, from the first one on.
        num_frames (`int`, *optional*, defaults to 100): How many frames of a clip are sampled.

    Example:

    ```python
    >>> reader = StAlignBenchmarkReader("elc.json", "st_align_elc", data_folder="videos")
    >>> reader[0].messages[1]["content"][:40]
    'Ends in <t=0.8322147651006712>, the adul'
    ```
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        data_folder: str | Path | None = None,
        task: str | None = None,
        max_items: int = 2000,
        num_frames: int = DEFAULT_NUM_FRAMES,
    ):
        self.source = source
        self.task = None if task is None else check_task(task, _TASKS, "st_align_benchmark")
        self.num_frames = check_count("num_frames", num_frames)
        self._max_items = check_count("max_items", max_items)
        self._records = JsonRecords(path)
        self._folder = MediaFolder(data_folder)

    def __len__(self) -> int:
        return min(len(self._records), self._max_items)

    def read(self, index: int) -> Sample:
        """Read one record; raises `RecordError` if it cannot be used."""
        raw = require_object(self._records[index])
        question, answer = _get_turns(raw)
        task = self.task or _guess_task(question)
        meta = require(raw, "meta")
        split = require(meta, "split", "meta.")
        first, last = (check_frame(frame, "meta.split") for frame in check_numbers(split, 2, "meta.split", "frames"))
        if first > last:
            raise make_error("meta.split", split, "it ends before it starts; give the first and the last frame")
        clip = SampledFrames(first, last, self.num_frames)
        times = require(meta, "time_token", "meta.")
        start, end = (require_frame(times, name, "meta.time_token.") for name in ("<s>", "<e>"))
        if start > end:
            raise make_error("meta.time_token", times, "it ends before it starts; give <s> not after <e>")
        span = tuple(clip.compute_fraction(frame, "meta.time_token") for frame in (start, end))
        boxes, first_box = _read_boxes(meta)
        width, height = _read_size(meta)
        tube = write_tube(clip.compute_tube(boxes, width, height, "meta.spatial_token.<bboxes>"))
        if task == "elc":
            answer = _fill(answer, (("<e>", write_time(span[1])), ("<bboxes>", tube)))
        else:
            answer = f"{write_span(*span)} {tube}" if task == "stvg" else tube
        # Parity: inference/src/datasets.py writes the coordinates of a question with three decimals.
        box = compute_box_fractions(first_box, width, height, "meta.spatial_token.<first_bbox>", clip=True)
        inputs = {
            "span": write_span(*(round(time, 3) for time in span)),
            "start": write_time(round(span[0], 3)),
            "box": write_box(tuple(round(value, 3) for value in box)),
        }
        forms = ((mark, form.format(**inputs)) for mark, form in _PROMPT_FORMS.get(task, ()))
        return Sample(
            id=str(raw.get("id", self.get_id(index))),
            source=self.source,
            task=task,
            media_type="video",
            media=self._folder.open_media(require_text(raw, "video_path"), "video", "video_path"),
            messages=write_turns(_fill(question, forms) + ANSWER_REQUESTS[task], answer),
            frame_range=(first, last),
        )


def _get_turns(raw: Mapping[str, Any]) -> tuple[str, str]:
    """Return the question, without the placeholder at its front, and the answer."""
    turns = require(raw, "conversations")
    if not isinstance(turns, list) or [turn.get("from") for turn in turns if isinstance(turn, Mapping)] != [
        "human",
        "gpt",
    ]:
        raise make_error("conversations", turns, "give a turn of human and one of gpt")
    question, answer = (require_text(turn, "value", f"conversations[{index}].") for index, turn in enumerate(turns))
    return question.removeprefix("<video>").removeprefix("\n"), answer


def _guess_task(question: str) -> str:
    if "<first_bbox>" in question:
        return "elc"
    return "svg" if "<s>" in question else "stvg"


def _fill(text: str, forms: Any) -> str:
    """Replace each mark of a text by what it stands for."""
    for mark, written in forms:
        if mark not in text:
            raise RecordError(
                "invalid_field",
                "conversations",
                f"conversations hold {show(text)}, without {mark}: give the text of the published benchmark.",
            )
        text = text.replace(mark, written)
    return text


def _read_boxes(meta: Mapping[str, Any]) -> tuple[dict[int, list[float]], list[float]]:
    """Return left, top, right, bottom by frame, and the box of a question."""
    spatial = require(meta, "spatial_token", "meta.")
    field = "meta.spatial_token.<bboxes>"
    given = require(spatial, "<bboxes>", "meta.spatial_token.")
    if not isinstance(given, Mapping) or not given:
        raise make_error(field, given, "give a box for each of some frames")
    boxes = {
        check_frame(frame, field): convert_xywh(check_numbers(box, 4, f"{field}[{frame}]", _XYWH))
        for frame, box in given.items()
    }
    if spatial.get("<first_bbox>") is None:
        return boxes, boxes[min(boxes)]
    first = check_numbers(spatial["<first_bbox>"], 4, "meta.spatial_token.<first_bbox>", _XYWH)
    return boxes, convert_xywh(first)


def _read_size(meta: Mapping[str, Any]) -> tuple[int, int]:
    return require_frame(meta, "width", "meta."), require_frame(meta, "height", "meta.")


__all__ = ["StAlignBenchmarkReader"]
