"""The best answer that ignores the clip."""

import numpy as np
import pytest

from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.evaluation.benchmarks.st_shapes import StShapes
from llava_st_hf.evaluation.blind_baseline import BlindBaseline, fit_blind_baseline
from llava_st_hf.evaluation.metrics import compute_temporal_iou
from llava_st_hf.evaluation.protocols import find_failure
from llava_st_hf.evaluation.questions import Question
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import MediaInfo
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary
from llava_st_hf.processing.tasks_llava_st import TASKS

CLIP = MediaInfo("video", 72, 72, tuple(range(20)), tuple(index / 5 for index in range(20)))
BOX = (0.1, 0.2, 0.5, 0.6)


def make_samples(task: str, answers: list[str], question: str = "What?") -> list[Sample]:
    media_type = "image" if task in ("rec", "rc") else "video"
    return [
        Sample(
            id=str(number),
            source="test",
            task=task,
            media_type=media_type,
            media=(Media(path="unread"),),
            messages=({"role": "user", "content": question}, {"role": "assistant", "content": answer}),
        )
        for number, answer in enumerate(answers)
    ]


def test_best_span_is_no_worse_than_any_other():
    draws = np.sort(np.random.default_rng(0).uniform(size=(60, 2)), axis=1)
    answers = [f"{{<t={start:.4f}><t={end:.4f}>}}" for start, end in draws]
    fitted = fit_blind_baseline("tvg", make_samples("tvg", answers))
    score = compute_temporal_iou(fitted.span, draws).mean()
    assert score >= max(compute_temporal_iou(span, draws).mean() for span in draws) - 1e-4
    assert score >= compute_temporal_iou(draws.mean(0), draws).mean() - 1e-4


def test_median_box_wins_where_it_is_better():
    edges = [(0.1, 0.2, 0.6, 0.6), (0.2, 0.1, 0.6, 0.6), (0.2, 0.2, 0.7, 0.6), (0.2, 0.2, 0.6, 0.7)]
    boxes = [f"[<x={x1}><y={y1}><x={x2}><y={y2}>]" for x1, y1, x2, y2 in edges]
    fitted = fit_blind_baseline("rec", make_samples("rec", boxes))
    assert fitted.box == pytest.approx((0.2, 0.2, 0.6, 0.6))


def test_box_of_tubes_is_that_of_their_boxes():
    boxes = ["[<x=0.1><y=0.1><x=0.2><y=0.2>]", "[<x=0.5><y=0.5><x=0.9><y=0.9>]", "[<x=0.5><y=0.5><x=0.9><y=0.9>]"]
    tube = ", ".join(f"<t=0.{number}>:{box}" for number, box in enumerate(boxes))
    fitted = fit_blind_baseline("svg", make_samples("svg", [tube]))
    assert fitted.box == pytest.approx((0.5, 0.5, 0.9, 0.9))


def test_commonest_words():
    fitted = fit_blind_baseline("rc", make_samples("rc", ["a ring.", "A dog.", "a dog"]))
    assert fitted.text.lower().rstrip(".") == "a dog"


def test_end_of_an_event_whose_start_is_given():
    tube = "Object bounding box: <t=0.5>:[<x=0.1><y=0.2><x=0.5><y=0.6>]"
    fixed_end = [
        make_samples("elc", [f"Ends in <t=0.9>, it grows. {tube}"], f"Starts in <t={start}>, what?")[0]
        for start in (0.1, 0.4, 0.5)
    ]
    assert fit_blind_baseline("elc", fixed_end).span == (0.0, 0.9)
    fixed_duration = [
        make_samples("elc", [f"Ends in <t={start + 0.2:.1f}>, it grows. {tube}"], f"Starts in <t={start}>, what?")[0]
        for start in (0.1, 0.4, 0.7)
    ]
    fitted = fit_blind_baseline("elc", fixed_duration)
    assert fitted.duration == pytest.approx(0.2)
    assert fitted.text == "it grows."


def test_nothing_to_fit_on():
    assert fit_blind_baseline("tvg", []) is None


@pytest.mark.parametrize(
    ("answer", "question", "text"),
    [
        (BlindBaseline(span=(0.25, 0.75)), Question("tvg", "?"), "{<t_5><t_14>}"),
        (BlindBaseline(box=BOX), Question("rec", "?"), "[<x_10><y_20><x_50><y_60>]"),
        (BlindBaseline(text="a dog."), Question("rc", "?"), "a dog."),
        (
            BlindBaseline(box=BOX),
            Question("svg", "?", span=(4.9 / 19, 6.1 / 19)),
            "<t_5>:[<x_10><y_20><x_50><y_60>], <t_6>:[<x_10><y_20><x_50><y_60>]",
        ),
        # A span between two frames gets the nearest.
        (BlindBaseline(box=BOX), Question("svg", "?", span=(0.27, 0.28)), "<t_5>:[<x_10><y_20><x_50><y_60>]"),
        (
            BlindBaseline(span=(0, 2 / 19), text="it grows."),
            Question("elc", "?", start=1 / 19, box=BOX),
            "Ends in <t_2>, it grows. Object bounding box: <t_1>:[<x_10><y_20><x_50><y_60>], "
            "<t_2>:[<x_10><y_20><x_50><y_60>]",
        ),
        # An end before the start is the start.
        (
            BlindBaseline(span=(0, 0.1), text="it grows."),
            Question("elc", "?", start=17.5 / 19, box=BOX),
            "Ends in <t_18>, it grows. Object bounding box: <t_17>:[<x_10><y_20><x_50><y_60>]",
        ),
    ],
)
def test_written_in_tokens(answer, question, text):
    tokens = CoordinateVocabulary(20, 101)
    assert answer.write(question, CLIP, tokens) == text
    read = parse_answer(
        text,
        CLIP if question.task != "rec" else MediaInfo("image", 72, 72),
        answer_format=TASKS[question.task].answer_format,
        vocabulary=tokens,
        start_seconds=None if question.start is None else CLIP.seconds_at(question.start),
    )
    assert find_failure(question.task, read) is None
    # What the tokens cannot say as finely as the start is given may stick out of the span a little.
    assert {problem.kind for problem in read.problems} <= {"tube_outside_span"}


def test_baselines_of_shapes_are_readable(few_training_samples, tell_baselines):
    benchmark = StShapes(2)
    for index, text in enumerate(tell_baselines(benchmark)):
        sample = benchmark.read(index)
        medium = CLIP if sample.media_type == "video" else MediaInfo("image", 72, 72)
        answer = parse_answer(text, medium, answer_format=TASKS[sample.task].answer_format, start_seconds=0.0)
        assert find_failure(sample.task, answer) is None, text
