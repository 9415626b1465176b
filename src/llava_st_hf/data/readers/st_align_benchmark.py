"""The ST-Align benchmark: stvg.json, svg.json and elc.json, with the published questions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...processing.notation_llava_st import write_box, write_span, write_time
from ...processing.question_wordings_llava_st import ANSWER_REQUESTS, SPAN_OPENERS
from ..annotation_checks import (
    check_count,
    check_frame,
    check_numbers,
    require,
    require_frame,
    require_size,
    require_text,
)
from ..annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from ..skips import make_error
from .base import FileReader

_BOXES = "meta.spatial_token.<bboxes>"
_CAPTION = re.compile(r"Ends in <e>, (?P<caption>.*) Object bounding box: <bboxes>", re.DOTALL)
# Parity: inference/src/datasets.py opens the question of svg with one of `SPAN_OPENERS` by chance; here the record's
# name chooses. The spaces around a span, a time and a box are those that the weights were trained with.
_QUESTION_FORMS = {
    "stvg": (),
    "svg": (("From <s> to <e>", "{opener}  {span} "),),
    "elc": (("Starts in <s>", " Starts in {start} "), ("<first_bbox>", " {box}")),
}


@dataclass(eq=False)
class StAlignBenchmarkReader(FileReader):
    """
    A record has `video_path`, `conversations` (a question and an answer, `from` and `value`) and `meta`:

    - `width`, `height`: of the frames, in pixels;
    - `split`: first and last frame of the clip;
    - `time_token`: `"<s>"` and `"<e>"`, first and last frame of the event;
    - `spatial_token`: `"<bboxes>"`, boxes [left, top, width, height] in pixels by frame; and for `elc`
      `"<first_bbox>"`, by default the first of them.

    The question is the published one. Its coordinates have the three decimals that the published pipeline gives them.
    The answer is exact. Its boxes are those at sampled frames, as in the published evaluation. Without `task`, each
    record's question says whether it is `"stvg"`, `"svg"` or `"elc"`.
    """

    max_items: int = 2000  # how many records count, from the first one on
    tasks = tuple(_QUESTION_FORMS)

    def list_entries(self) -> Sequence[Any]:
        """Return the records of the file, also those that do not count."""
        check_count("max_items", self.max_items)
        return super().list_entries()

    def __len__(self) -> int:
        return min(len(self.entries), self.max_items)

    def annotate(self, entry: Any) -> Annotation:
        question, answer = _get_turns(entry)
        task = self.task or _guess_task(question)
        meta = require(entry, "meta")
        split = check_numbers(require(meta, "split", "meta."), 2, "meta.split", "the first and the last frame")
        first, last = (check_frame(frame, "meta.split") for frame in split)
        if first > last:
            raise make_error("meta.split", split, "it ends before it starts; give the first and the last frame")
        times = require(meta, "time_token", "meta.")
        event = [require_frame(times, name, "meta.time_token.") for name in ("<s>", "<e>")]
        tube, first_box = _read_boxes(meta)
        size = require_size(meta, "meta.")
        caption = _CAPTION.fullmatch(answer.strip())
        if task == "elc" and caption is None:
            raise make_error(
                "conversations[1].value", answer, "give 'Ends in <e>, CAPTION Object bounding box: <bboxes>'"
            )
        # Parity: inference/src/datasets.py writes the coordinates of a question with three decimals.
        start, end = (round((frame - first) / max(last - first, 1), 3) for frame in event)
        box = first_box.compute_fractions(size, cut_overhang=True)
        written = {
            "span": write_span(start, end),
            "start": write_time(start),
            "box": write_box(tuple(round(value, 3) for value in box)),
        }
        return Annotation(
            task=task,
            media_type="video",
            media=self.folder.open_media(require_text(entry, "video_path"), "video", "video_path"),
            prompts=tuple(
                _fill(question, task, {**written, "opener": opener}) + ANSWER_REQUESTS[task]
                for opener in (SPAN_OPENERS if task == "svg" else SPAN_OPENERS[:1])
            ),
            answer=None if caption is None else caption["caption"],
            spans=(AnnotatedSpan(event, "frames", field="meta.time_token"),),
            tubes=(tube,),
            size=size,
            frame_range=(first, last),
        )


def _get_turns(raw: Mapping[str, Any]) -> tuple[str, str]:
    """Return the question, without the placeholder at its front, and the answer."""
    turns = require(raw, "conversations")
    speakers = [turn.get("from") for turn in turns if isinstance(turn, Mapping)] if isinstance(turns, list) else []
    if speakers != ["human", "gpt"]:
        raise make_error("conversations", turns, "give a turn of human and one of gpt")
    question, answer = (require_text(turn, "value", f"conversations[{index}].") for index, turn in enumerate(turns))
    return question.removeprefix("<video>").removeprefix("\n"), answer


def _guess_task(question: str) -> str:
    if "<first_bbox>" in question:
        return "elc"
    return "svg" if "<s>" in question else "stvg"


def _fill(question: str, task: str, written: Mapping[str, str]) -> str:
    """Replace each mark of a question by what it stands for."""
    for mark, form in _QUESTION_FORMS[task]:
        if mark not in question:
            raise make_error("conversations[0].value", question, f"give the text of the benchmark, with {mark}")
        question = question.replace(mark, form.format(**written))
    return question


def _read_boxes(meta: Mapping[str, Any]) -> tuple[AnnotatedTube, AnnotatedBox]:
    """Return the boxes by frame, and the box of a question."""
    spatial = require(meta, "spatial_token", "meta.")
    given = require(spatial, "<bboxes>", "meta.spatial_token.")
    if not isinstance(given, Mapping) or not given:
        raise make_error(_BOXES, given, "give a box for each of some frames")
    boxes = {
        check_frame(frame, _BOXES): AnnotatedBox(box, "xywh", field=f"{_BOXES}[{frame}]")
        for frame, box in given.items()
    }
    first_box = boxes[min(boxes)]
    if spatial.get("<first_bbox>") is not None:
        first_box = AnnotatedBox(spatial["<first_bbox>"], "xywh", field="meta.spatial_token.<first_bbox>")
    return AnnotatedTube(boxes, "frames", interpolate=False, field=_BOXES), first_box
