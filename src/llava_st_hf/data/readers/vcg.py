"""Open questions about videos in the form of the benchmark of Video-ChatGPT, whose answers a judge scores."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..annotation_checks import require_text
from ..annotations import Annotation
from .base import FileReader, Part
from .json_files import load_json


@dataclass(eq=False)
class VcgReader(FileReader):
    """
    Read are, of an element: `video_name`, `Q` and `A`; or, of the questions after consistency, `Q1`, `Q2` and `A`,
    which are two records. A record is called as the public judge calls it, by its video and how many elements of the
    same video stand before it; where there are two, with `Q1` or `Q2` behind that. The task is `"video_qa"`.
    """

    tasks = ("video_qa",)
    default_task = "video_qa"

    def list_entries(self) -> Sequence[Part]:
        """Return the questions, with the names that the public judge gives them."""
        content = load_json(self.path, list, "a file of questions of Video-ChatGPT")
        counts: Counter[str] = Counter()
        questions = []
        for raw in content:
            video = raw.get("video_name") if isinstance(raw, Mapping) else None
            name = f"{video}_{counts[video]}" if isinstance(video, str) else None
            counts[video if isinstance(video, str) else ""] += 1
            keys = ("Q1", "Q2") if isinstance(raw, Mapping) and "Q1" in raw else ("Q",)
            questions += [Part(raw, name and (name if key == "Q" else f"{name} {key}"), key) for key in keys]
        return questions

    def annotate(self, entry: Part) -> Annotation:
        raw = entry.raw
        return Annotation(
            task=self.task,
            media_type="video",
            media=self.folder.find_video(require_text(raw, "video_name"), "video_name"),
            query=require_text(raw, entry.part).strip(),
            answer=require_text(raw, "A").strip(),
            answer_field="A",
        )
