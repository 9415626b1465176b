"""ActivityNet Captions: the events of a video, each with its times in seconds and a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..annotation_checks import require, require_object, require_positive, require_text
from ..annotations import AnnotatedSpan, Annotation
from ..sample_writing import DEFAULT_NUM_FRAMES
from ..skips import make_error
from .base import FileReader, name_event
from .json_files import load_json


class _Events(NamedTuple):
    """A video of the file, and which of its events is meant; `None` for all of them."""

    video: str
    raw: Any
    place: int | None = None


@dataclass(eq=False)
class ActivityNetCaptionsReader(FileReader):
    """
    The records of an annotation file of ActivityNet Captions.

    The file is an object of {video: {`duration`, `timestamps`, `sentences`}}, times in seconds; it is held in memory.
    The task is `"tvg"` (a record for each sentence, which is asked after in lower case and without the full stop),
    `"tr"` (the same, the sentence is the answer) or `"dvc"` (a record for each video, with all of its sentences).

    The video is the name, with any ending, in `data_folder` or in a folder right below it; one of another `duration`
    is skipped. An end behind the video means its end, and is noted.
    """

    num_frames: int = DEFAULT_NUM_FRAMES
    vary_prompts: bool = True
    tasks = ("tvg", "tr", "dvc")
    default_task = "tvg"

    def list_entries(self) -> Sequence[_Events]:
        """Return the videos, or the sentences of each; a video without any is one record, so that it is reported."""
        content = load_json(self.path, dict, "{video: {timestamps, sentences, ...}}")
        entries = []
        for video, raw in content.items():
            sentences = raw.get("sentences") if isinstance(raw, Mapping) else None
            count = len(sentences) if isinstance(sentences, list) and self.task != "dvc" else 0
            entries += [_Events(video, raw, place) for place in range(count)] or [_Events(video, raw)]
        return entries

    def get_entry_id(self, entry: _Events) -> str | None:
        """Return the name of the video, and the number of the sentence where there is a record for each."""
        return entry.video if entry.place is None else f"{entry.video} {entry.place}"

    def annotate(self, entry: _Events) -> Annotation:
        """Return what a video says, or one of its sentences."""
        raw = require_object(entry.raw)
        sentences, times = (require(raw, name) for name in ("sentences", "timestamps"))
        if not isinstance(sentences, list) or not isinstance(times, list) or not 0 < len(sentences) == len(times):
            raise make_error("timestamps", times, "give a list with [start, end] for each of the sentences")
        clip = self.read_clip(raw)
        places = range(len(times)) if entry.place is None else [entry.place]
        spans = []
        for place in places:
            text = require_text({"text": sentences[place]}, "text", f"sentences[{place}].").strip()
            spans.append(self.read_span(times[place], text, f"timestamps[{place}]"))
        return Annotation(
            task=self.task,
            media_type="video",
            media=self.folder.find_video(entry.video),
            query=name_event(spans[0].caption),
            answer=None if self.task == "dvc" else spans[0].caption,
            spans=tuple(spans),
            **clip,
        )

    def read_clip(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an entry says of its video, as arguments of `Annotation`."""
        return {"duration_seconds": require_positive(raw, "duration")}

    def read_span(self, times: Any, caption: str, field: str) -> AnnotatedSpan:
        """Return an event with its sentence."""
        return AnnotatedSpan(times, caption=caption, field=field, cut_end=True)
