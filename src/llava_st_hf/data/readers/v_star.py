"""V-STaR: when something happens in a video, where, and what it is, a question for each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..annotation_checks import is_number, read_number, require, require_positive, require_text
from ..annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from ..skips import make_error
from .base import FileReader, Part
from .json_files import load_json

# The question of each task, and what its record is called behind the name of the video.
QUESTIONS: Mapping[str, tuple[str, str]] = {
    "tvg": ("temporal_question", "when"),
    "svg": ("spatial_question", "where"),
    "video_qa": ("question", "what"),
}

_LENGTHS: Mapping[str, float] = {"0 to 60 s": 60, "60 to 180 s": 180}


@dataclass(eq=False)
class VStarReader(FileReader):
    """
    Read are, of an element: `vid`, `width`, `height`, `fps`, `frame_count`, `temporal_question`, `timestamps` (start
    and end in seconds), `spatial_question` (that of the first chain, which is asked with the true times), `bboxes`, a
    list of {`timestamp` in whole seconds, `xmin`, `ymin`, `xmax`, `ymax` in pixels} or of {second_frame: {`xmin`,
    ...}}, `question` and `answer`. Each element is up to three records, called by its video, `when`, `where`, `what`,
    and of a further element of the same video its number.

    The task is `"tvg"` for the questions after the time alone, `"svg"` for those after the place, and `"video_qa"` for
    those in words, which need a judge. The second chain, which gives boxes to be told their time, is not asked.
    `domain` and the length of the video are the groups of an element.
    """

    tasks = tuple(QUESTIONS)

    def list_entries(self) -> Sequence[Part]:
        content = load_json(self.path, list, "the annotation file of V-STaR")
        names = name_elements(content)
        tasks = self.tasks if self.task is None else (self.task,)
        return [
            Part(raw, name and f"{name} {QUESTIONS[task][1]}", task)
            for raw, name in zip(content, names, strict=True)
            for task in tasks
            if task != "video_qa" or (isinstance(raw, Mapping) and "question" in raw)
        ]

    def get_groups(self, index: int) -> dict[str, str]:
        """Return the groups that the public scorer reports: the domain, and the length of the video."""
        raw = self.entries[index].raw
        try:
            seconds = float(raw["frame_count"]) / float(raw["fps"])
            length = next((name for name, end in _LENGTHS.items() if seconds < end), "180 s and more")
            return {"domain": str(raw["domain"]), "length": length}
        except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
            return {}

    def annotate(self, entry: Part) -> Annotation:
        raw = entry.raw
        question = require_text(raw, QUESTIONS[entry.part][0]).strip()
        shared = {"task": entry.part, "media_type": "video"}
        shared["media"] = self.folder.find_video(require_text(raw, "vid"), "vid")
        if entry.part == "video_qa":
            answer = require_text(raw, "answer").strip()
            return Annotation(**shared, query=question, answer=answer, answer_field="answer")
        return Annotation(
            **shared,
            # Asked as it stands: it is no name of an event.
            prompts=(f"{question} Please return the start and end timestamps.",) if entry.part == "tvg" else (),
            query=question if question.endswith("?") else f"{question}?",
            spans=(AnnotatedSpan(require(raw, "timestamps"), field="timestamps", cut_end=True),),
            tubes=() if entry.part == "tvg" else (_read_boxes(require(raw, "bboxes")),),
            size=(int(require_positive(raw, "width")), int(require_positive(raw, "height"))),
            duration_seconds=require_positive(raw, "frame_count") / require_positive(raw, "fps"),
        )


def name_elements(content: Sequence[Any]) -> list[str | None]:
    """Return the `vid` of each element of a file, of the second of a video and those behind it with their number."""
    counts: Counter[str] = Counter()
    names: list[str | None] = []
    for raw in content:
        vid = raw.get("vid") if isinstance(raw, Mapping) else None
        if not isinstance(vid, str):
            names.append(None)
            continue
        counts[vid] += 1
        names.append(vid if counts[vid] == 1 else f"{vid} {counts[vid]}")
    return names


def _read_boxes(given: Any) -> AnnotatedTube:
    if not isinstance(given, list) or not given:
        raise make_error("bboxes", given, "give a list of {timestamp, xmin, ymin, xmax, ymax}")
    boxes = {}
    for place, entry in enumerate(given):
        field = f"bboxes[{place}]"
        named = next(iter(entry.items())) if isinstance(entry, Mapping) and len(entry) == 1 else ("", None)
        if isinstance(named[1], Mapping):  # {"3_90": {...}}, second and frame
            entry = {**named[1], "timestamp": named[0].partition("_")[0]}
        second = read_number(require(entry, "timestamp", f"{field}."))
        if not is_number(second):
            raise make_error(f"{field}.timestamp", second, "give seconds")
        sides = [read_number(require(entry, side, f"{field}.")) for side in ("xmin", "ymin", "xmax", "ymax")]
        boxes[float(second)] = AnnotatedBox(sides, field=field)
    return AnnotatedTube(boxes, field="bboxes")
