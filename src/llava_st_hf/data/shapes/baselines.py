"""What answers that ignore the clip score on ST-Shapes: a model that looks must score more.

The answers are constants, each the best for its figure on the samples themselves, which no blind model can pass by
much. They may use what the prompt gives away: the start time and the box of event localization and captioning (elc).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np

from ...processing.coordinate_text_llava_st import find_coordinates
from ...processing.grounding_llava_st import GroundingResult
from ...processing.grounding_parsing_llava_st import parse_answer
from ...processing.grounding_text_llava_st import remove_coordinates
from ...processing.media_llava_st import MediaInfo
from ...processing.tasks_llava_st import TASKS
from ..samples import Sample
from .dataset import ShapesDataset

_GRID = 10  # steps of the width and the height on which the edges of constant boxes lie


def compute_baselines(dataset: ShapesDataset, num_samples: int | None = None) -> dict[str, dict[str, float]]:
    """
    Compute, for each task of a data set, the figures of the best answers that ignore the clip.

    | figure | of | what it is |
    | --- | --- | --- |
    | `m_tIoU`, `tIoU@0.5` | tvg, dvc, tgc, stvg, elc | the best constant span; for elc the best share of the rest |
    | `m_IoU`, `IoU@0.5` | rec, dgc, igc | the best constant box |
    | `m_sIoU`, `sIoU@0.5` | stvg, elc, svg | the best constant box at the true frames; for elc the given box |
    | `m_vIoU` | stvg, elc, svg | both at once, over the frames of truth or answer |
    | `exact_match` | tasks with text | the most common answer, without its coordinates |
    | `exact_match_by_question` | the same | the most common answer to each question |

    The answers by question are taken from one half of the samples and measured on the other.

    Args:
        dataset (`ShapesDataset`): Clips and images with their questions.
        num_samples (`int`, *optional*): How many of its samples, from the first; all by default.

    Returns:
        `dict[str, dict[str, float]]`: For each task its figures, from 0 to 1.
    """
    samples: dict[str, list[Sample]] = defaultdict(list)
    for index in range(len(dataset) if num_samples is None else min(num_samples, len(dataset))):
        sample = dataset.read(index)
        samples[sample.task].append(sample)
    times = tuple(frame / (dataset.num_frames - 1) for frame in range(dataset.num_frames))
    return {task: _measure_task(samples[task], times) for task in TASKS if task in samples}


def format_baselines(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Return what `compute_baselines` returns as lines of text, one for each task."""
    return "\n".join(
        f"{task:<16}  " + "  ".join(f"{name} {value:.3f}" for name, value in values.items())
        for task, values in figures.items()
    )


def _measure_task(samples: Sequence[Sample], times: tuple[float, ...]) -> dict[str, float]:
    answer_format = TASKS[samples[0].task].answer_format
    answers = [_read_answer(sample, times) for sample in samples]
    figures = {}
    if answer_format in _MEASURES:
        figures |= _MEASURES[answer_format](samples, answers, times)
    if answer_format not in ("span", "box", "tube", "span_and_tube"):
        figures |= _measure_words(samples)
    return figures


def _read_answer(sample: Sample, times: tuple[float, ...]) -> GroundingResult:
    """Read the true answer; with a clip of one second and one pixel its numbers are fractions."""
    media = MediaInfo("image", 1, 1)
    if sample.media_type == "video":
        media = MediaInfo("video", 1, 1, frame_indices=tuple(range(len(times))), frame_seconds=times)
    answer_format = TASKS[sample.task].answer_format
    start = None
    if answer_format == "end_caption_and_tube":
        start = find_coordinates(sample.messages[-2]["content"])[0].value
    return parse_answer(sample.messages[-1]["content"], media, answer_format=answer_format, start_seconds=start)


# ---------------------------------------------------------------------------------------------------------------------
# Intersection over union
# ---------------------------------------------------------------------------------------------------------------------
def _compute_span_ious(candidates: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Compare spans (n, 2) with spans (m, 2): (n, m)."""
    candidates, spans = candidates[:, None], spans[None]
    shared = np.minimum(candidates[..., 1], spans[..., 1]) - np.maximum(candidates[..., 0], spans[..., 0])
    together = np.maximum(candidates[..., 1], spans[..., 1]) - np.minimum(candidates[..., 0], spans[..., 0])
    return np.maximum(shared, 0) / together


def _compute_box_ious(candidates: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Compare boxes (n, 4) with boxes (m, 4): (n, m)."""
    candidates, boxes = candidates[:, None], boxes[None]
    sides = np.minimum(candidates[..., 2:], boxes[..., 2:]) - np.maximum(candidates[..., :2], boxes[..., :2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    areas = [(each[..., 2:] - each[..., :2]).prod(axis=-1) for each in (candidates, boxes)]
    return shared / (areas[0] + areas[1] - shared)


def _list_constant_spans(times: Sequence[float]) -> np.ndarray:
    """Return every span (n, 2) between two frames."""
    return np.array(list(combinations(times, 2)))


def _list_constant_boxes() -> np.ndarray:
    """Return every box (n, 4) whose edges lie on a grid."""
    sides = [(first / _GRID, last / _GRID) for first, last in combinations(range(_GRID + 1), 2)]
    return np.array([(x1, y1, x2, y2) for x1, x2 in sides for y1, y2 in sides])


def _summarize(name: str, ious: np.ndarray) -> dict[str, float]:
    """Return the best mean and the best share from 0.5 of `ious` (candidates, truths)."""
    return {f"m_{name}": float(ious.mean(axis=1).max()), f"{name}@0.5": float((ious >= 0.5).mean(axis=1).max())}


# ---------------------------------------------------------------------------------------------------------------------
# Figures by the form of the answer
# ---------------------------------------------------------------------------------------------------------------------
def _measure_spans(
    samples: Sequence[Sample], answers: Sequence[GroundingResult], times: Sequence[float]
) -> dict[str, float]:
    return _summarize("tIoU", _compute_span_ious(_list_constant_spans(times), _stack_spans(answers)))


def _stack_spans(answers: Sequence[GroundingResult]) -> np.ndarray:
    return np.array([(span.start_seconds, span.end_seconds) for answer in answers for span in answer.spans])


def _measure_boxes(
    samples: Sequence[Sample], answers: Sequence[GroundingResult], times: Sequence[float]
) -> dict[str, float]:
    boxes = np.array([box.xyxy for answer in answers for box in answer.boxes])
    return _summarize("IoU", _compute_box_ious(_list_constant_boxes(), boxes))


def _stack_tube(answer: GroundingResult) -> tuple[np.ndarray, np.ndarray]:
    """Return the times (n,) and the boxes (n, 4) of a tube."""
    entries = answer.tubes[0].boxes
    return np.array([entry.seconds for entry in entries]), np.array([entry.box.xyxy for entry in entries])


def _measure_tubes(
    samples: Sequence[Sample], answers: Sequence[GroundingResult], times: Sequence[float]
) -> dict[str, float]:
    """Measure constant boxes at the true frames, which the prompt gives."""
    candidates = _list_constant_boxes()
    by_sample = [_compute_box_ious(candidates, _stack_tube(answer)[1]).mean(axis=1) for answer in answers]
    figures = _summarize("sIoU", np.stack(by_sample, axis=1))
    return {**figures, "m_vIoU": figures["m_sIoU"]}


def _measure_spans_and_tubes(
    samples: Sequence[Sample], answers: Sequence[GroundingResult], times: Sequence[float]
) -> dict[str, float]:
    figures = {**_measure_spans(samples, answers, times), **_measure_tubes(samples, answers, times)}
    candidates = _list_constant_boxes()
    tubes = [_stack_tube(answer) for answer in answers]
    means = np.mean([_compute_box_ious(candidates, boxes).mean(axis=1) for _, boxes in tubes], axis=0)
    best_box = candidates[[int(means.argmax())]]
    spans = _list_constant_spans(times)
    volumes = [
        _compute_volume_ious(moments, _compute_box_ious(best_box, boxes)[0], spans, times) for moments, boxes in tubes
    ]
    return {**figures, "m_vIoU": float(np.mean(volumes, axis=0).max())}


def _compute_volume_ious(
    moments: np.ndarray, ious: np.ndarray, spans: np.ndarray, times: Sequence[float]
) -> np.ndarray:
    """
    Compare a tube with answers that have one box for each frame of a span.

    Args:
        moments (`np.ndarray`): Times of the tube, (n,).
        ious (`np.ndarray`): At these the intersection over union of the box of the tube with that of the answer, (n,).
        spans (`np.ndarray`): Starts and ends of the answers, (m, 2).
        times (`Sequence[float]`): Times of all frames.

    Returns:
        `np.ndarray`: Sums over the shared frames by the number of frames of tube or answer, (m,).
    """
    shared, answered = (_are_within(each, spans) for each in (moments, np.array(times)))
    num_together = len(moments) + answered.sum(axis=1) - shared.sum(axis=1)
    return (shared * ious).sum(axis=1) / num_together


def _are_within(moments: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return which moments (n,) lie within which spans (m, 2): (m, n)."""
    slack = 1e-4  # of written times
    return (moments >= spans[:, :1] - slack) & (moments <= spans[:, 1:] + slack)


def _measure_ends(
    samples: Sequence[Sample], answers: Sequence[GroundingResult], times: Sequence[float]
) -> dict[str, float]:
    """Measure answers that keep the box of the prompt from its start on, for a constant share of the rest."""
    frames = np.array(times)
    steps = len(times) - 1
    overlaps, places, volumes = [], [], []
    for sample, answer in zip(samples, answers, strict=True):
        start, *box = (coordinate.value for coordinate in find_coordinates(sample.messages[-2]["content"]))
        moments, boxes = _stack_tube(answer)
        ious = _compute_box_ious(np.array([box]), boxes)[0]
        first = round(start * steps)
        ends = frames[[first + round((steps - first) * share) for share in frames[1:]]]
        spans = np.stack([np.full(len(ends), frames[first]), ends], axis=1)
        overlaps.append(_compute_span_ious(spans, _stack_spans([answer]))[:, 0])
        places.append([ious.mean()])
        volumes.append(_compute_volume_ious(moments, ious, spans, times))
    figures = _summarize("tIoU", np.stack(overlaps, axis=1)) | _summarize("sIoU", np.array(places).T)
    return {**figures, "m_vIoU": float(np.mean(volumes, axis=0).max())}


def _measure_words(samples: Sequence[Sample]) -> dict[str, float]:
    """Measure constant words, and constant words for each question, over all turns."""
    turns = []
    for sample in samples:
        texts = [remove_coordinates(message["content"]) for message in sample.messages]
        turns.append(list(zip(texts[::2], texts[1::2], strict=True)))
    flat = [turn for each in turns for turn in each]
    ((constant, count),) = Counter(answer for _, answer in flat).most_common(1)
    by_question: dict[str, Counter[str]] = defaultdict(Counter)
    for question, answer in (turn for each in turns[::2] for turn in each):
        by_question[question][answer] += 1
    rest = [turn for each in turns[1::2] for turn in each]
    right = sum(
        answer == (by_question[question].most_common(1)[0][0] if question in by_question else constant)
        for question, answer in rest
    )
    return {"exact_match": count / len(flat), "exact_match_by_question": right / max(len(rest), 1)}


_MEASURES: dict[str, Callable[..., dict[str, float]]] = {
    "span": _measure_spans,
    "sentences_with_spans": _measure_spans,
    "box": _measure_boxes,
    "phrases_with_boxes": _measure_boxes,
    "tube": _measure_tubes,
    "span_and_tube": _measure_spans_and_tubes,
    "end_caption_and_tube": _measure_ends,
}


__all__ = ["compute_baselines", "format_baselines"]
