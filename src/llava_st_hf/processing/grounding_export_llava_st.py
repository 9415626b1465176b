"""A `GroundingResult` in the forms that other tools read: JSON, COCO, tables and `supervision.Detections`."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import numpy as np

from .media_llava_st import InputError, show

if TYPE_CHECKING:
    from .grounding_results_llava_st import GroundingResult, LabelledBox

TABLE_COLUMNS = (
    "kind",
    "label",
    "track",
    "start_seconds",
    "end_seconds",
    "frame_index",
    "x1",
    "y1",
    "x2",
    "y2",
    "confidence",
)


def convert_to_plain(value: Any) -> Any:
    """Return dataclasses as dictionaries, tuples as lists and numpy's numbers as Python's, all the way down."""
    if is_dataclass(value):
        saved = (item for item in fields(value) if item.metadata.get("is_saved", True))
        values = ((item, getattr(value, item.name)) for item in saved)
        return {
            item.name: convert_to_plain(content)
            for item, content in values
            if item.metadata.get("is_saved_empty", True) or content
        }
    if isinstance(value, Mapping):
        return {key: convert_to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [convert_to_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def read_plain(kind: Any, value: Any, name: str = "") -> Any:
    """Return what `convert_to_plain` made of a value of this type; anything else is an `InputError` with its field."""
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, UnionType):
        return None if value is None else read_plain(arguments[0], value, name)
    if is_dataclass(kind) and isinstance(value, Mapping):
        known, start = {item.name: item for item in fields(kind)}, name and f"{name}."
        missing = (key for key, item in known.items() if item.default is MISSING and key not in value)
        others = (key for key in value if name and key not in known)  # a command writes more beside the result itself
        for key in (*missing, *others):
            raise _make_error(f"{start}{key} is {'unknown' if key in value else 'missing'}")
        values = {key: read_plain(known[key].type, value[key], f"{start}{key}") for key in known if key in value}
        try:
            return kind(**values)
        except InputError as error:
            raise _make_error(f"{name}: {error}") from error
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(kinds) == len(value):
            pairs = enumerate(zip(kinds, value, strict=True))
            return tuple(read_plain(each, item, f"{name}[{place}]") for place, (each, item) in pairs)
    elif kind in (int, float):
        # What 64 bits do not hold is the number of nothing here, and no table takes it; nor does it take NaN.
        if isinstance(value, (int, kind)) and not isinstance(value, bool) and abs(value) < 2**63:
            return value
    elif value in arguments if origin is Literal else isinstance(value, origin or kind):
        return value
    raise _make_error(f"{name or 'it'} is {show(value)}")


def _make_error(what: str) -> InputError:
    return InputError(f"this is not a grounding result ({what}): give what `to_dict` returned.")


def convert_to_coco(result: "GroundingResult") -> dict[str, Any]:
    """Return what `GroundingResult.to_coco` promises."""
    media = result.media
    if media is None:
        raise InputError("media is not set: COCO needs the size of the picture, give the result its MediaInfo.")
    picture = {"file_name": media.source or "", "width": int(media.width), "height": int(media.height)}
    is_video = media.media_type == "video"
    rows = list(result.labelled_boxes())
    categories = {label: number for number, label in enumerate(dict.fromkeys(row.label for row in rows), start=1)}
    masks = dict(enumerate(result.masks, start=1))
    images, annotations = {}, []
    if not is_video:
        images[None] = {"id": 1, **picture}
    for number, row in enumerate(rows, start=1):
        if row.frame_index not in images:
            frame = {"video_id": 1, "frame_index": row.frame_index, "seconds": row.seconds}
            images[row.frame_index] = {"id": len(images) + 1, **picture, **frame}
        left, top, width, height = row.box.xywh
        annotation = {
            "id": number,
            "image_id": images[row.frame_index]["id"],
            "category_id": categories[row.label],
            "bbox": [left, top, width, height],
            "area": width * height,
            "iscrowd": 0,
        }
        if row.box.confidence is not None:
            annotation["score"] = row.box.confidence
        if is_video:
            moment = {"track_id": row.track, "frame_index": row.frame_index, "seconds": row.seconds}
            annotation |= {"video_id": 1, **moment}
            rle = masks[row.track].find_rle(row.frame_index) if row.track in masks else None
            annotation |= {} if rle is None else {"segmentation": rle}
        annotations.append(annotation)
    coco = {
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
    }
    if is_video:
        coco["videos"] = [{"id": 1, **picture, "spans": [[s.start_seconds, s.end_seconds] for s in result.spans]}]
    return convert_to_plain(coco)


def convert_to_rows(result: "GroundingResult") -> list[dict[str, Any]]:
    """Return a row for each span and each box, with all of `TABLE_COLUMNS`."""
    captions = {caption.span: caption.text for caption in reversed(result.captions) if caption.span is not None}
    rows = [
        {
            "kind": "span",
            "label": captions.get(span, result.query),
            "start_seconds": span.start_seconds,
            "end_seconds": span.end_seconds,
            "confidence": span.confidence,
        }
        for span in result.spans
    ]
    for label in result.labelled_boxes():
        moment = {"start_seconds": label.seconds, "end_seconds": label.seconds, "frame_index": label.frame_index}
        corners = dict(zip(("x1", "y1", "x2", "y2"), label.box.xyxy, strict=True))
        named = {"kind": "box", "label": label.label, "track": label.track}
        rows.append({**named, **moment, **corners, "confidence": label.box.confidence})
    for row in rows:  # half of a character that JSON spells in two is nothing that a table can hold
        row["label"] = row["label"] and row["label"].encode("utf-8", "replace").decode()
    return [convert_to_plain({name: row.get(name) for name in TABLE_COLUMNS}) for row in rows]


def convert_to_dataframe(result: "GroundingResult") -> Any:
    """Return what `GroundingResult.to_dataframe` promises."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("`to_dataframe` needs pandas, which is not installed: run `pip install pandas`.") from error
    types = dict.fromkeys(TABLE_COLUMNS[3:], "float64") | {"track": "Int64", "frame_index": "Int64"}
    return pandas.DataFrame(convert_to_rows(result), columns=list(TABLE_COLUMNS)).astype(types)


def convert_to_detections(rows: "Sequence[LabelledBox]") -> Any:
    """Return what `GroundingResult.to_detections` promises, for the boxes that it has chosen."""
    try:
        import supervision
    except ImportError as error:
        raise ImportError(
            "`to_detections` needs supervision, which is not installed: run `pip install llava-st-hf[detections]`."
        ) from error
    if not rows:
        return supervision.Detections.empty()
    classes = {label: number for number, label in enumerate(dict.fromkeys(row.label for row in rows))}
    confidences = [np.nan if row.box.confidence is None else row.box.confidence for row in rows]
    return supervision.Detections(
        xyxy=np.array([row.box.xyxy for row in rows], dtype=np.float32),  # (boxes, 4)
        confidence=None if np.isnan(confidences).all() else np.array(confidences, dtype=np.float32),
        class_id=np.array([classes[row.label] for row in rows]),
        tracker_id=np.array([row.track or -1 for row in rows]) if any(row.track for row in rows) else None,
        data={
            "class_name": np.array([row.label for row in rows]),
            "frame_index": np.array([-1 if row.frame_index is None else row.frame_index for row in rows]),
            "seconds": np.array([np.nan if row.seconds is None else row.seconds for row in rows]),
        },
    )


__all__ = [
    "TABLE_COLUMNS",
    "convert_to_coco",
    "convert_to_dataframe",
    "convert_to_detections",
    "convert_to_plain",
    "convert_to_rows",
    "read_plain",
]
