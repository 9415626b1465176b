"""FiftyOne: a data set on disk of the type `FiftyOneVideoLabelsDataset`, which it imports."""

import json
from collections.abc import Sequence
from typing import Any

from .clips import AnsweredClip


def write_fiftyone(clips: Sequence[AnsweredClip]) -> dict[str, str]:
    """
    Write the spans of clips as temporal detections, and the boxes of their tubes as detections of frames.

    Places are fractions of the frame, frames count from 1, `index` is the number of the tube. `is_named` of a
    detection says that the answer has it and it was not interpolated. The clips stay where they are: the manifest
    names them by their absolute paths.
    """
    index, files = [], {}
    for clip in clips:
        labels = f"labels/{clip.name}.json"
        index.append({"data": str(clip.path.resolve()), "labels": labels})
        files[labels] = json.dumps(_describe_clip(clip), indent=2) + "\n"
    manifest = {"type": "eta.core.datasets.LabeledVideoDataset", "description": "answers of llava-st", "index": index}
    return {"manifest.json": json.dumps(manifest, indent=2) + "\n", **files}


def _describe_clip(clip: AnsweredClip) -> dict[str, Any]:
    width, height = clip.media.width, clip.media.height
    frames: dict[int, list[dict[str, Any]]] = {}
    for track in clip.list_tracks():
        for row in track.boxes:
            x1, y1, x2, y2 = row.box.xyxy
            is_named = {"type": "eta.core.data.BooleanAttribute", "name": "is_named", "value": row.is_named}
            detection = {
                "type": "eta.core.objects.DetectedObject",
                "label": track.label,
                "index": track.number,
                "bounding_box": {
                    "top_left": {"x": x1 / width, "y": y1 / height},
                    "bottom_right": {"x": x2 / width, "y": y2 / height},
                },
                "attrs": {"attrs": [is_named]},
            }
            if row.box.confidence is not None:
                detection["confidence"] = row.box.confidence
            frames.setdefault(row.frame_index + 1, []).append(detection)
    events = []
    for span in clip.list_spans():
        event = {
            "type": "eta.core.events.VideoEvent",
            "label": span.label,
            "support": {"ranges": [[span.first_frame + 1, span.last_frame + 1]]},
        }
        events.append(event if span.span.confidence is None else {**event, "confidence": span.span.confidence})
    return {
        "filename": clip.path.name,
        "events": {"events": events},
        "frames": {
            str(number): {"frame_number": number, "objects": {"objects": objects}}
            for number, objects in sorted(frames.items())
        },
    }
