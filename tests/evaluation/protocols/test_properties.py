"""What must hold for each task and protocol, whatever the answers are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_st_hf.evaluation.protocols import PROTOCOLS
from llava_st_hf.processing.grounding_results_llava_st import Box, Caption, GroundingResult, Span, Tube, TubeArrays
from llava_st_hf.processing.media_llava_st import MediaInfo
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary

# Protocols that score what an answer says in seconds and pixels; the published one scores its text.
SCORED = [
    (name, task)
    for name in ("default", "community", "vue", "v_star")
    for task in PROTOCOLS[name].list_tasks()
    if task not in ("multiple_choice",)
]
NUM_SECONDS = 12
WORD = st.sampled_from(["a", "red", "dog", "runs", "to", "the", "old", "house", "and", "stops"])
WORDS = st.lists(WORD, min_size=1, max_size=8).map(" ".join)
SIDE = st.integers(0, 30).map(float)
BOXES = st.tuples(SIDE, SIDE, st.integers(10, 30).map(float), st.integers(10, 30).map(float)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


@st.composite
def results(draw):
    """An answer with all parts: one span or two apart, a tube over them, a box, and sentences."""
    first = draw(st.integers(0, 3)), draw(st.integers(4, 5))
    second = draw(st.integers(7, 8)), draw(st.integers(9, NUM_SECONDS - 1))
    spans = [first, second][: draw(st.integers(1, 2))]
    seconds = np.array([second for start, end in spans for second in range(start, end + 1)], dtype=float)
    boxes = np.array(draw(st.lists(BOXES, min_size=len(seconds), max_size=len(seconds))))
    spans = tuple(Span(float(start), float(end)) for start, end in spans)
    captions = tuple(Caption(draw(WORDS), span=span) for span in spans)
    return GroundingResult(
        captions[0].text,
        spans=spans,
        boxes=(Box(*boxes[0]),),
        tubes=(Tube.from_arrays(TubeArrays(seconds, seconds.astype(int), boxes)),),
        captions=captions,
        media=MediaInfo("video", 100, 100, tuple(range(NUM_SECONDS)), tuple(map(float, range(NUM_SECONDS)))),
    )


def score(name, task, answer, truth):
    scores = PROTOCOLS[name].score(task, answer, truth, CoordinateVocabulary())
    return {key: value for key, value in scores.items() if key != "texts"}


def scale(result, factor):
    arrays = result.tubes[0].arrays
    tube = Tube.from_arrays(arrays._replace(boxes_pixels=arrays.boxes_pixels * factor))
    boxes = tuple(Box(*(side * factor for side in box.xyxy)) for box in result.boxes)
    media = replace(result.media, width=result.media.width * factor, height=result.media.height * factor)
    return replace(result, tubes=(tube,), boxes=boxes, media=media)


@pytest.mark.parametrize(("name", "task"), SCORED)
@settings(deadline=None, max_examples=15)
@given(truth=results(), other=results())
def test_a_perfect_answer_is_worth_most_and_all_lie_between(name, task, truth, other):
    best, values = score(name, task, truth, truth), score(name, task, other, truth)
    # The community loses the last frame of a truth.
    least = 0.5 if name == "community" else 1.0
    assert all(least - 1e-9 <= value <= 1 + 1e-9 for value in best.values() if value is not None), best
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in values.values() if value is not None)


@pytest.mark.parametrize(("name", "task"), SCORED)
@settings(deadline=None, max_examples=10)
@given(truth=results(), other=results(), factor=st.sampled_from([2, 3, 10]))
def test_the_size_of_the_frame_does_not_matter(name, task, truth, other, factor):
    before, after = score(name, task, other, truth), score(name, task, scale(other, factor), scale(truth, factor))
    for key, value in before.items():
        assert after[key] == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(("name", "task"), SCORED)
@settings(deadline=None, max_examples=10)
@given(pairs=st.lists(st.tuples(results(), results()), min_size=2, max_size=4), seed=st.integers(0, 9))
def test_the_order_of_items_does_not_matter(name, task, pairs, seed):
    protocol = PROTOCOLS[name]
    scores = [protocol.score(task, answer, truth, CoordinateVocabulary()) for answer, truth in pairs]
    order = np.random.default_rng(seed).permutation(len(scores))
    metrics = protocol.compute_metrics(task, scores)
    assert protocol.compute_metrics(task, [scores[place] for place in order]) == pytest.approx(metrics)
    for metric, value in metrics.items():
        assert 0 <= value <= (10 if metric == "CIDEr" else 1) + 1e-6, metric


@pytest.mark.parametrize(
    ("name", "task"),
    [pair for pair in SCORED if {"siou", "viou", "v_iou", "iou"} & {*PROTOCOLS[pair[0]].get_measure_names(pair[1])}],
)
@settings(deadline=None, max_examples=15)
@given(truth=results(), far=st.integers(1, 8), farther=st.integers(1, 8))
def test_a_worse_box_never_scores_higher(name, task, truth, far, farther):
    def move(pixels):
        arrays = truth.tubes[0].arrays
        tube = Tube.from_arrays(arrays._replace(boxes_pixels=arrays.boxes_pixels + np.array([pixels, 0, pixels, 0])))
        boxes = tuple(Box(box.x1 + pixels, box.y1, box.x2 + pixels, box.y2) for box in truth.boxes)
        return score(name, task, replace(truth, tubes=(tube,), boxes=boxes), truth)

    near, worse = move(far), move(far + farther)
    for key, value in near.items():
        assert value is None or worse[key] <= value + 1e-9, key
