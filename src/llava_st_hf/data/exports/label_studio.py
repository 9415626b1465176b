"""Label Studio: a task for each clip, with its tubes and spans as predictions, and the interface for them."""

import json
from collections.abc import Sequence
from typing import Any

from .clips import AnsweredClip, ExportedSpan, ExportedTrack

_CONFIG = """<View>
  <TimelineLabels name="timeline" toName="video"><Label value="span"/></TimelineLabels>
  <Labels name="labels" toName="video"><Label value="object"/></Labels>
  <VideoRectangle name="box" toName="video"/>
  <Video name="video" value="$video" frameRate="$frame_rate"/>
</View>
"""


def write_label_studio(clips: Sequence[AnsweredClip]) -> dict[str, str]:
    """
    Write the tubes and spans of clips as `tasks.json`, and the interface to set up for a project with them.

    The labels are `object` and `span`; what they are in words is in the notes of each region. Places are percentages
    of the frame, frames count from 1. Between the boxes of a track Label Studio interpolates as `Tube.box_at` does;
    its last box says that it ends. `video` is the path of the clip, as the answer has it: put in its place the address
    under which Label Studio serves it.
    """
    tasks = [
        {
            "data": {"video": str(clip.path), "frame_rate": clip.frame_rate},
            "predictions": [
                {
                    "model_version": "llava-st",
                    "result": [
                        *(_write_track(track, clip) for track in clip.list_tracks()),
                        *(_write_span(number, span) for number, span in enumerate(clip.list_spans(), start=1)),
                    ],
                }
            ],
        }
        for clip in clips
    ]
    return {"tasks.json": json.dumps(tasks, indent=2) + "\n", "label_config.xml": _CONFIG}


def _write_track(track: ExportedTrack, clip: AnsweredClip) -> dict[str, Any]:
    width, height = clip.media.width, clip.media.height
    sequence = []
    for row in track.boxes:
        left, top, box_width, box_height = row.box.xywh
        sequence.append(
            {
                "frame": row.frame_index + 1,
                "time": row.seconds,
                "enabled": row is not track.boxes[-1],
                "rotation": 0,
                "x": 100 * left / width,
                "y": 100 * top / height,
                "width": 100 * box_width / width,
                "height": 100 * box_height / height,
                "auto": not row.is_named,
            }
        )
    value = {
        "framesCount": clip.num_frames,
        "duration": clip.timeline.duration_seconds,
        "sequence": sequence,
        "labels": ["object"],
    }
    return _write_region(f"track{track.number}", "box", "videorectangle", value, track.label)


def _write_span(number: int, span: ExportedSpan) -> dict[str, Any]:
    ranges = [{"start": span.first_frame + 1, "end": span.last_frame + 1}]
    value = {"ranges": ranges, "timelinelabels": ["span"]}
    region = _write_region(f"span{number}", "timeline", "timelinelabels", value, span.label)
    return region if span.span.confidence is None else {**region, "score": span.span.confidence}


def _write_region(id: str, name: str, kind: str, value: dict[str, Any], words: str) -> dict[str, Any]:
    meta = {"text": [words]}
    return {"id": id, "from_name": name, "to_name": "video", "type": kind, "value": value, "meta": meta}
