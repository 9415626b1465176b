"""ActivityNet Captions: the events of a video, each with its times in seconds and a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..annotation_checks import require, require_positive, require_text
from ..annotations import AnnotatedSpan, Annotation
from ..skips import make_error
from .base import FileReader, Part, name_event
from .json_files import load_json


@dataclass(eq=False)
class ActivityNetCaptionsReader(FileReader):
    """
    The file is an object of {video: {`duration`, `timestamps`, `sentences`}}, times in seconds. The task is `"tvg"` (a
    record for each sentence, which is asked after in lower case and without the full stop), `"tr"` (the same, the
    sentence is the answer) or `"dvc"` (a record for each video, with all of its sentences).
    """

    tasks = ("tvg", "tr", "dvc")
    default_task = "tvg"

    def list_entries(self) -> Sequence[Part]:
        """Return the videos, or the sentences of each; a video without any is one record, so that it is reported."""
        entries = []
        for video, raw in load_json(self.path, dict, "{video: {timestamps, sentences, ...}}").items():
            sentences = raw.get("sentences") if isinstance(raw, Mapping) else None
            count = len(sentences) if isinstance(sentences, list) and self.task != "dvc" else 0
            parts = [Part(raw, f"{video} {place}", (video, [place])) for place in range(count)]
            entries += parts or [Part(raw, video, (video, None))]
        return entries

    def annotate(self, entry: Part) -> Annotation:
        raw, _, (video, places) = entry
        sentences, times = (require(raw, name) for name in ("sentences", "timestamps"))
        if not isinstance(sentences, list) or not isinstance(times, list) or not 0 < len(sentences) == len(times):
            raise make_error("timestamps", times, "give a list with [start, end] for each of the sentences")
        clip, spans = self.read_clip(raw), []
        for place in range(len(times)) if places is None else places:
            text = require_text({"text": sentences[place]}, "text", f"sentences[{place}].").strip()
            spans.append(self.read_span(times[place], text, f"timestamps[{place}]"))
        return Annotation(
            task=self.task,
            media_type="video",
            media=self.folder.find_video(video),
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
