"""The best answer that ignores the clip: what any metric of a model has to be compared with.

It may use the question, as a model does, but not the picture: one span and one box for all clips, the box that the
question gives, the commonest words. The span and the box are those, of all true ones of other records and of their
mean and median, whose mean IoU with the others is largest.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.samples import Sample
from ..data.turns import make_stand_in
from ..processing import MediaInfo, get_task
from ..processing.notation_llava_st import NOTATION, CoordinateVocabulary, write_box, write_span, write_time
from .metrics import compute_box_iou, compute_temporal_iou, normalize_text
from .questions import Question, read_question, read_truth

_MAX_CANDIDATES = 1000


@dataclass(frozen=True)
class BlindBaseline:
    """
    One answer to all questions of a task, but for what a question itself gives.

    Args:
        span (`tuple[float, float]`, *optional*):
            Start and end as fractions; where the question gives the start only the end is used.
        duration (`float`, *optional*): The end after the start that the question gives, instead of a fixed end.
        box (`tuple[float, float, float, float]`, *optional*): Left, top, right, bottom as fractions.
        text (`str`, *optional*, defaults to `""`): Words.

    Example:

    ```python
    >>> baseline = BlindBaseline(span=(0.25, 0.75))
    >>> baseline.write(Question("tvg", "When does it stop?"), clip, CoordinateVocabulary())
    '{<t_25><t_74>}'
    ```
    """

    span: tuple[float, float] | None = None
    duration: float | None = None
    box: tuple[float, float, float, float] | None = None
    text: str = ""

    def write(self, question: Question, medium: MediaInfo, vocabulary: CoordinateVocabulary) -> str:
        """
        Write the answer to one question, in the tokens of the vocabulary.

        Args:
            question (`Question`): The question.
            medium (`MediaInfo`): The clip or image; only its sampled frames are used.
            vocabulary (`CoordinateVocabulary`): The coordinate tokens.

        Returns:
            `str`: The answer.
        """
        task = get_task(question.task)
        span = question.span if "span" in task.needs else self.span
        if "start" in task.needs:
            end = self.span[1] if self.duration is None else question.start + self.duration
            span = (question.start, min(max(end, question.start), 1.0))
        box = question.box if "box" in task.needs else self.box
        writers = {
            "text": lambda: self.text,
            "caption": lambda: self.text,
            "span": lambda: write_span(*span, vocabulary),
            "end": lambda: _write_end(span, vocabulary),
            "box": lambda: write_box(box, vocabulary),
            "tube": lambda: _write_tube(span, box, medium, vocabulary),
        }
        return task.answer_format.write(**{field: writers[field]() for field in task.answer_format.fields})


def fit_blind_baseline(task: str, samples: Iterable[Sample]) -> BlindBaseline | None:
    """
    Find the best blind answer on records that are not in the benchmark.

    Args:
        task (`str`): The task of all of them.
        samples (`Iterable[Sample]`): The records; their media are not opened.

    Returns:
        `BlindBaseline` or `None`: `None` where there are no records.
    """
    truths, questions = [], []
    for sample in samples:
        media = make_stand_in(sample)
        truths.append(read_truth(sample, media))
        questions.append(read_question(sample, media, CoordinateVocabulary()))
    if not truths:
        return None
    needs, fields = get_task(task).needs, get_task(task).answer_format.fields
    spans = np.array([truth.spans[0].fractions for truth in truths if truth.spans])
    boxes = [truth.boxes[0].fractions for truth in truths if truth.boxes]
    boxes += [entry.box.fractions for truth in truths for tube in truth.tubes[:1] for entry in tube.boxes]
    words = [truth.captions[0].text if truth.captions else truth.plain_text for truth in truths]
    times = {"span": _find_best(spans, compute_temporal_iou) if len(spans) else None}
    if "start" in needs:
        times = _find_end(np.array([question.start for question in questions]), spans)
    return BlindBaseline(
        **times,
        box=_find_best(np.array(boxes), compute_box_iou) if boxes and "box" not in needs else None,
        text=_find_commonest(words) if {"text", "caption"} & {*fields} else "",
    )


def _find_best(truths: np.ndarray, compute_iou: Callable[..., np.ndarray]) -> tuple[float, ...]:
    """Return the row, of the truths, their mean and their median, with the largest mean IoU with all of them."""
    step = -(-len(truths) // _MAX_CANDIDATES)  # a tube has many boxes
    truths = truths[::step]
    candidates = np.concatenate([truths, [truths.mean(0), np.median(truths, axis=0)]])
    ious = [compute_iou(candidate, truths).mean() for candidate in candidates]
    return tuple(candidates[int(np.argmax(ious))].tolist())


def _find_end(starts: np.ndarray, spans: np.ndarray) -> dict[str, object]:
    """Return the best end of events whose start is known: at a fixed time, or a fixed time after the start."""
    ends = [({"span": (0.0, float(end))}, np.full_like(starts, end)) for end in spans[:, 1]]
    ends += [({"duration": float(end - start)}, starts + (end - start)) for start, end in spans]

    def score(candidate: tuple[dict[str, object], np.ndarray]) -> float:
        answers = np.stack([starts, np.clip(candidate[1], starts, 1.0)], axis=1)
        return float(compute_temporal_iou(answers, spans).mean())

    return max(ends, key=score)[0]


def _find_commonest(texts: Sequence[str]) -> str:
    """Return the commonest text; equal ones may be written with capitals or without."""
    written = {normalize_text(text): text for text in texts}
    return written[Counter(map(normalize_text, texts)).most_common(1)[0][0]]


def _write_end(span: Sequence[float], vocabulary: CoordinateVocabulary) -> str:
    # Rounded up, so that the end is not before the start.
    return vocabulary.token("t", int(np.ceil(round(span[1] * (vocabulary.size("t") - 1), 6))))


def _write_tube(
    span: Sequence[float], box: Sequence[float], medium: MediaInfo, vocabulary: CoordinateVocabulary
) -> str:
    """Write the same box at every sampled frame of a span; at the nearest one where it holds none."""
    fractions = np.unique(medium.frame_fractions)
    inside = fractions[(fractions >= span[0] - 1e-6) & (fractions <= span[1] + 1e-6)]
    if not len(inside):
        inside = fractions[[int(np.abs(fractions - span[0]).argmin())]]
    times = dict.fromkeys(write_time(fraction, vocabulary) for fraction in inside)
    return NOTATION.write_entries([(time, write_box(box, vocabulary)) for time in times])
