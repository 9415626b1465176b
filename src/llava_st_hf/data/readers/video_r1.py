"""Questions of VideoR1 and its kin (OneThinker, EasyVideoR1): a `problem`, and a `solution` with times and boxes."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...processing.question_wordings_llava_st import ANSWER_REQUESTS, PLACE_QUESTIONS
from ..annotation_checks import read_seconds, require, require_text
from ..annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from ..skips import make_error
from .base import FileReader


@dataclass(eq=False)
class VideoR1Reader(FileReader):
    """
    Read are, of a record: `problem_id`, `path`, `problem` (the question) and `solution`, an object, also as JSON in a
    text between `<answer>` and `</answer>`:

    - {`time`: [start, end] in seconds, `boxes`: {second: [left, top, right, bottom] in pixels}} is `"stvg"`;
    - {`time`: [start, end]} is `"tvg"`;
    - {`boxes`: [left, top, right, bottom]}, of an image, is `"rec"`.

    Boxes at whole seconds are interpolated to the sampled frames. A record of stvg without any box, as an event
    shorter than a second has, is skipped; with `task="tvg"` it is read, as all records with times are. The question is
    that of the file; to one of stvg the published request is appended, from one of tvg the question after the place is
    taken.
    """

    tasks = ("stvg", "tvg", "rec")
    id_key = "problem_id"
    has_prompts = True

    def annotate(self, entry: Any) -> Annotation:
        solution = _read_solution(require(entry, "solution"))
        boxes = solution.get("boxes")
        task = self.task
        if task is None and "time" in solution:
            task = "tvg" if boxes is None else "stvg"
        task = task or "rec"
        path, problem = require_text(entry, "path"), require_text(entry, "problem").strip()
        media_type = "image" if task == "rec" else "video"
        spans, images, tubes = (), (), ()
        if task == "rec":
            images = (AnnotatedBox(require(solution, "boxes", "solution."), field="solution.boxes"),)
        else:
            # As in the data sets that the questions are made of, such as Charades-STA.
            spans = (AnnotatedSpan(require(solution, "time", "solution."), field="solution.time", cut_end=True),)
        if task == "stvg":
            tubes = (_read_tube(boxes),)
            problem += ANSWER_REQUESTS["stvg"] if problem.endswith(("?", ".")) else f" {ANSWER_REQUESTS['stvg']}"
        for question in PLACE_QUESTIONS if task == "tvg" else ():
            problem = problem.removesuffix(question).rstrip()
        return Annotation(
            task=task,
            media_type=media_type,
            media=self.folder.find_media([path, os.path.basename(path)], media_type, "path"),
            prompts=(problem,),
            spans=spans,
            boxes=images,
            tubes=tubes,
        )


def _read_solution(given: Any) -> Mapping[str, Any]:
    """Return the object that a solution is, or holds as text."""
    solution = given
    if isinstance(given, str):
        text = given.partition("<answer>")[2].partition("</answer>")[0] if "<answer>" in given else given
        try:
            solution = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise make_error("solution", given, f"it holds no JSON with time and boxes: {error}") from error
    if not isinstance(solution, Mapping) or not {"time", "boxes"} & solution.keys():
        raise make_error("solution", given, "give an object with time, or boxes, or both")
    return solution


def _read_tube(given: Any) -> AnnotatedTube:
    if not isinstance(given, Mapping) or not given:
        raise make_error("solution.boxes", given, "give a box for each second; without any, read it as the task tvg")
    boxes = {}
    for key, box in given.items():
        seconds = read_seconds(key)
        if not isinstance(seconds, float):
            raise make_error("solution.boxes", key, "give the times of boxes in seconds, as in '3'")
        boxes[seconds] = AnnotatedBox(box, field=f"solution.boxes[{key}]")
    return AnnotatedTube(boxes, field="solution.boxes")
