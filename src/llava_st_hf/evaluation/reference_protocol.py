"""The published scorer, reproduced with its faults, so that metrics can be set beside the published ones.

It works on the text of an answer, in fractions rounded to 5 decimals, and differs from our own protocol in this:

- REC: an answer without a box is left out of the mean, so a model gains by not answering.
- TVG: R@t counts IoU > t, where the others count >= t. An answer without a span, or with `{0,0}`, is worth 0.
- STVG, ELC: the span of the truth is rounded to 3 decimals, so that even a right answer is worth a little below 1.
- ELC: the span is looked for as `{a,b}`, where the trained form is `Ends in <t>`, which scores 0.
- SVG: tIoU is 0 by definition. m_vIoU is called mstiou.
- Boxes of a tube are rounded to whole pixels; of two boxes at one frame the last counts; boxes of the truth at frames
  that no time token names are left out.

Three things end the published scorer with an error. Here a truth that cannot be scored, or no items at all, is an
`InputError` with the reason. What an answer did wrong never raises: a time token that does not exist loses its box,
and an empty span against an empty truth is worth 0.

The published scores of captions are those of `metrics.captions` and `metrics.meteor`, of `parse_caption`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..processing import InputError
from ..processing.notation_llava_st import CoordinateVocabulary

THRESHOLDS = (0.3, 0.5, 0.7)
_VOCABULARY = CoordinateVocabulary()  # 100 tokens an axis, as published
# The bounds on the digits keep what a model may write within what a float and an int can hold.
_TOKEN = re.compile(r"<(?:(?P<published>TEMP|HEIGHT|WIDTH)-|(?P<axis>[txy])_)(?P<bin>\d{1,40})>")
_PUBLISHED_AXES = {"TEMP": "t", "HEIGHT": "y", "WIDTH": "x"}
_NUMBER = r"(\d{1,40}(?:\.\d{1,40})?)"
_SPAN = re.compile(r"\{" + r",\s*".join([_NUMBER] * 2) + r"\}")
_BOX = re.compile(r"\[\s*" + r"\s*,\s*".join([_NUMBER] * 4) + r"\s*\]")
_TUBE_ENTRY = re.compile(r"(?<!\d)(\d{1,40}),:\[" + ",".join([r"(\d{1,40})"] * 4) + r"\]")


@dataclass(frozen=True)
class ReferenceTruth:
    """
    The truth about one clip as the published benchmark gives it.

    Example:

    ```python
    >>> truth = ReferenceTruth({10: (10, 10, 20, 20)}, (0, 99), 100, 100, span=(10, 20))
    >>> round(score_tube("{<t_10><t_20>} <t_10>:[<x_10><y_10><x_20><y_20>]", truth)["tiou"], 4)
    0.9997
    ```
    """

    boxes: Mapping[int, Sequence[float]]  # left, top, right, bottom in pixels, by the index of a sampled frame
    frame_range: tuple[int, int]  # first and last frame of the clip
    width: int  # width of a frame in pixels
    height: int  # height of a frame in pixels
    span: tuple[float, float] | None = None  # first and last frame of the event; without one tIoU is 0


def convert_answer(text: str, vocabulary: CoordinateVocabulary | None = _VOCABULARY) -> str:
    """
    Replace the coordinate tokens of an answer by numbers, as the published code does before it scores.

    Tokens are written as in `<t_41>` or, in the published spelling, `<TEMP-041>`; they become fractions with 5
    decimals, `"{0.10101,0.20202}"`, and without a vocabulary their numbers.
    """

    def write(match: re.Match) -> str:
        axis, index = match["axis"] or _PUBLISHED_AXES[match["published"]], int(match["bin"])
        return f"{index if vocabulary is None else format(vocabulary.fraction(axis, index), '.5f')},"

    return _TOKEN.sub(write, text).replace(",]", "]").replace(",}", "}")


def score_box(
    text: str | None, truth: Sequence[float], vocabulary: CoordinateVocabulary = _VOCABULARY
) -> float | None:
    """
    Score a REC answer: the IoU of its first box with the truth (left, top, right, bottom as fractions).

    `None` for an answer without a box, which `compute_box_metrics` leaves out.
    """
    box = parse_box(convert_answer(text or "", vocabulary))
    return None if box is None else _box_iou(box, truth)


def score_span(
    text: str | None, truth: Sequence[float], vocabulary: CoordinateVocabulary = _VOCABULARY
) -> float | None:
    """
    Score a TVG answer: the IoU of its first span with the truth (start and end as fractions).

    `None` for an answer without a span or with `{0,0}`, which counts as 0.
    """
    span = parse_span(convert_answer(text or "", vocabulary))
    return None if span == (0, 0) else _span_iou(span, truth)


def score_tube(
    text: str | None, truth: ReferenceTruth, vocabulary: CoordinateVocabulary = _VOCABULARY
) -> dict[str, float]:
    """
    Score an answer to STVG, SVG or ELC by `tiou`, `siou` and `viou`; without a span, as in SVG, tIoU is 0.

    A clip of one frame is an `InputError`.
    """
    text = text or ""
    first, last = truth.frame_range
    if last <= first:
        raise InputError(f"frame_range is {truth.frame_range}: the published scorer needs two frames at least.")
    frames = [first + round(vocabulary.fraction("t", k) * (last - first)) for k in range(vocabulary.size("t"))]
    boxes = {frame: box for frame, box in truth.boxes.items() if frame in frames}
    temporal_iou = 0.0
    if truth.span is not None:
        span = [round((frame - first) / (last - first), 3) for frame in truth.span]
        temporal_iou = float(_span_iou(parse_span(convert_answer(text, vocabulary)), span))
    answered = {}
    sizes = (truth.width, truth.height) * 2
    for token, *edges in _parse_tube(convert_answer(text, None)):
        if token < len(frames):
            triples = zip("xyxy", edges, sizes, strict=True)
            answered[frames[token]] = [round(vocabulary.fraction(axis, edge) * size) for axis, edge, size in triples]
    shared, either = answered.keys() & boxes.keys(), answered.keys() | boxes.keys()
    total = sum(_box_iou(answered[frame], boxes[frame]) for frame in sorted(shared))
    return {
        "tiou": temporal_iou,
        "siou": total / len(shared) if shared else 0.0,
        "viou": total / len(either) if either else 0.0,
    }


def compute_box_metrics(ious: Sequence[float | None]) -> dict[str, float]:
    """Return `miou` and, in percent, `R1@(0.5)` of REC over the answers that have a box; 0 where none has."""
    _require_items(ious)
    parsed = [iou for iou in ious if iou is not None]
    hits = sum(iou >= 0.5 for iou in parsed)
    return {"miou": sum(parsed) / max(len(parsed), 1), "R1@(0.5)": hits / max(len(parsed), 1) * 100}


def compute_span_metrics(ious: Sequence[float | None]) -> dict[str, float]:
    """Return `miou` and, in percent, `R1@(t)` of TVG for the three thresholds."""
    _require_items(ious)
    values = [iou or 0.0 for iou in ious]
    hits = {f"R1@({t})": sum(value > t for value in values) / len(values) * 100 for t in THRESHOLDS}
    return {"miou": sum(values) / len(values), **hits}


def compute_tube_metrics(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return `mtiou`, `msiou`, `mstiou` and, in percent, their shares for the three thresholds."""
    _require_items(scores)
    metrics = {}
    for name, mean_name in (("tiou", "mtiou"), ("siou", "msiou"), ("viou", "mstiou")):
        values = [score[name] for score in scores]
        metrics[mean_name] = sum(values) / len(values)
        for threshold in THRESHOLDS:
            metrics[f"{name}@{threshold}"] = sum(value >= threshold for value in values) / len(values) * 100
    return metrics


def parse_span(converted: str) -> tuple[float, float]:
    """Return the first span of a converted answer, (0, 0) where there is none."""
    match = _SPAN.search(converted)
    return (float(match[1]), float(match[2])) if match else (0, 0)


def parse_box(converted: str) -> list[float] | None:
    """Return the first box of a converted answer, `None` where there is none."""
    match = _BOX.search(converted)
    return [float(number) for number in match.groups()] if match else None


def parse_caption(text: str) -> str:
    """Return the caption of an ELC answer: what stands before the first full stop, behind its last comma."""
    return text.split(".")[0].split(",")[-1]


def _parse_tube(converted: str) -> list[tuple[int, ...]]:
    """Return time, left, top, right, bottom of each box of a converted answer, as token numbers."""
    return [tuple(map(int, match.groups())) for match in _TUBE_ENTRY.finditer(converted)]


def _span_iou(span: Sequence[float], truth: Sequence[float]) -> float:
    intersection = min(span[1], truth[1]) - max(span[0], truth[0])
    hull = max(span[1], truth[1]) - min(span[0], truth[0])
    return intersection / hull if intersection > 0 else 0.0


def _box_iou(box: Sequence[float], truth: Sequence[float]) -> float:
    width = max(0, min(box[2], truth[2]) - max(box[0], truth[0]))
    height = max(0, min(box[3], truth[3]) - max(box[1], truth[1]))
    areas = (box[2] - box[0]) * (box[3] - box[1]) + (truth[2] - truth[0]) * (truth[3] - truth[1])
    union = areas - width * height
    return width * height / union if union else 0.0


def _require_items(scores: Sequence[object]) -> None:
    if not len(scores):
        raise InputError("there are no items to score: give at least one.")
