"""QVHighlights: each stretch of a video in which a described thing is to be seen."""

from dataclasses import dataclass
from typing import Any

from ..annotation_checks import require, require_positive, require_text
from ..annotations import AnnotatedSpan, Annotation
from ..skips import make_error
from .base import FileReader, name_event


@dataclass(eq=False)
class QvHighlightsReader(FileReader):
    """
    Read are, of a query: `qid`, `query`, `vid`, `duration`, and `relevant_windows`, a list of [start, end] in seconds.
    The sentence is asked after in lower case and without the full stop. A video of another `duration`, where that is
    given, is skipped.

    The task is `"tvg_several"`: all windows of a query are its answer, in the order of time. As `"tvg"` only queries
    with one window can be read.
    """

    tasks = ("tvg_several", "tvg")
    default_task = "tvg_several"
    id_key = "qid"

    def annotate(self, entry: Any) -> Annotation:
        windows = require(entry, "relevant_windows")
        if not isinstance(windows, list) or not windows:
            raise make_error("relevant_windows", windows, "give a list of [start, end] in seconds")
        # Windows are made of clips of 2 s, of which the last one may reach over the end.
        spans = [
            AnnotatedSpan(window, field=f"relevant_windows[{place}]", cut_end=True)
            for place, window in enumerate(windows)
        ]
        return Annotation(
            task=self.task,
            media_type="video",
            media=self.folder.find_video(require_text(entry, "vid"), "vid"),
            query=name_event(require_text(entry, "query")),
            spans=tuple(sorted(spans, key=lambda span: span.times)),
            duration_seconds=None if entry.get("duration") is None else require_positive(entry, "duration"),
        )
