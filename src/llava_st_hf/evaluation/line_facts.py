"""What the lines of `predictions.jsonl` say of their items beside what these are worth."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# The value that says most about an answer, the first that the protocol has.
_DECISIVE = ("viou", "v_iou", "iou", "tiou", "siou")


def find_decisive(names: Iterable[str]) -> str:
    """Return which of the values of an item says most about its answer."""
    names = tuple(names)
    return next((name for name in _DECISIVE if name in names), names[0])


def list_clips(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the clip of each item; one whose file is not known is its own."""
    media = [line["result"].get("media") if has_result(line) else None for line in lines]
    return [str((medium or {}).get("source") or line["id"]) for medium, line in zip(media, lines, strict=True)]


def list_confidences(lines: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the confidence of each answer, that of its least sure part, shape (items,); NaN where there is none."""
    return np.array([_find_confidence(line) for line in lines], dtype=np.float64)


def has_result(line: Mapping[str, Any]) -> bool:
    """Tell whether a line has an answer that was read."""
    return isinstance(line.get("result"), dict)


def _find_confidence(line: Mapping[str, Any]) -> float:
    if not has_result(line):
        return np.nan
    spans, boxes, tubes = (line["result"].get(name, ()) for name in ("spans", "boxes", "tubes"))
    parts = [*spans, *boxes, *(entry["box"] for tube in tubes for entry in tube["boxes"])]
    return min((part["confidence"] for part in parts if part["confidence"] is not None), default=np.nan)
