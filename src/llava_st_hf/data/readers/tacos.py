"""TaCoS: what a cook does in a video, with the times of each sentence in frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..annotation_checks import require_frame, require_positive
from ..annotations import AnnotatedSpan
from .activitynet_captions import ActivityNetCaptionsReader


@dataclass(eq=False)
class TacosReader(ActivityNetCaptionsReader):
    """
    The file is an object of {video: {`timestamps`, `sentences`, `fps`, `num_frames`}}, times in frames, counted from
    0. A video has the sentences of several people, one after another, in the order of the file. The tasks are those of
    `ActivityNetCaptionsReader`.
    """

    def read_clip(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the frames of the video and their rate."""
        return {"frame_count": require_frame(raw, "num_frames"), "frame_rate": require_positive(raw, "fps")}

    def read_span(self, times: Any, caption: str, field: str) -> AnnotatedSpan:
        """Return an event with its sentence; an end behind the last frame means that frame."""
        return AnnotatedSpan(times, "frames", caption, field, cut_end=True)
