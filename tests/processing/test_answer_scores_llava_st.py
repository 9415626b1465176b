"""Coordinates finer than a bin: the soft label that a model was taught is read back from its probabilities."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llava_st_hf import MediaInfo
from llava_st_hf.processing.answer_scores_llava_st import refine_bin
from llava_st_hf.processing.batch_feature_llava_st import GroundingContext, LlavaSTBatchFeature

CLIP = MediaInfo("video", 1000, 1000, tuple(range(100)), tuple(index / 99 for index in range(100)))
fractions = st.floats(0.0, 1.0)


def answer(processor, pieces: list[str | tuple[str, float]]) -> tuple[list[int], tuple[torch.Tensor, ...]]:
    """Ids and scores of a model that gives each coordinate the probabilities of its soft label, and picks the best."""
    first = processor.coordinate_token_offset
    begin = {"t": first, "y": first + processor.num_temporal_tokens}
    begin["x"] = begin["y"] + processor.num_spatial_tokens
    ids, scores = [], []
    for piece in pieces:
        probabilities = torch.zeros(first + processor.num_temporal_tokens + 2 * processor.num_spatial_tokens)
        if isinstance(piece, str):
            for token_id in processor.tokenizer.encode(piece):
                ids.append(token_id)
                scores.append(probabilities.scatter(0, torch.tensor(token_id), 1.0).log()[None])
            continue
        axis, fraction = piece
        bin_index, share = divmod(fraction * 99, 1)
        probabilities[begin[axis] + int(bin_index)] = 1 - share
        if share:
            probabilities[begin[axis] + int(bin_index) + 1] = share
        ids.append(int(probabilities.argmax()))
        scores.append(probabilities.log()[None])
    return ids, tuple(scores)


def read(processor, pieces, with_scores: bool, task: str):
    ids, scores = answer(processor, pieces)
    outputs = SimpleNamespace(sequences=torch.tensor([ids]), scores=scores if with_scores else None)
    inputs = LlavaSTBatchFeature({}, media=[(CLIP,)], contexts=[GroundingContext(task=task)])
    (result,) = processor.post_process_grounding(outputs, inputs)
    return result


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fractions, fractions)
def test_a_span_is_given_back_to_a_thousandth_of_the_axis(processor, one, other):
    start, end = sorted((one, other))
    pieces = ["{", ("t", start), ("t", end), "}"]
    result = read(processor, pieces, with_scores=True, task="tvg")
    assert not result.problems
    (span,) = result.spans
    assert span.start_seconds == pytest.approx(start, abs=1e-3)
    assert span.end_seconds == pytest.approx(end, abs=1e-3)
    assert span.confidence == pytest.approx(1.0, abs=1e-3)
    (coarse,) = read(processor, pieces, with_scores=False, task="tvg").spans
    assert abs(coarse.start_seconds - start) <= 0.5 / 99 + 1e-6
    assert coarse.confidence is None


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(fractions, min_size=4, max_size=4))
def test_a_box_is_given_back_to_a_thousandth_of_the_frame(processor, places):
    (x1, x2), (y1, y2) = sorted(places[:2]), sorted(places[2:])
    if min(x2 - x1, y2 - y1) < 1 / 99:
        return  # both edges may fall into one bin: no box
    pieces = ["[", ("x", x1), ("y", y1), ("x", x2), ("y", y2), "]"]
    (box,) = read(processor, pieces, with_scores=True, task="tgc").boxes
    assert box.xyxy == pytest.approx((1000 * x1, 1000 * y1, 1000 * x2, 1000 * y2), abs=1.0)


def test_without_scores_the_error_is_up_to_half_a_bin(processor):
    pieces = ["{", ("t", 10.49 / 99), ("t", 50.49 / 99), "}"]
    (coarse,) = read(processor, pieces, with_scores=False, task="tvg").spans
    (fine,) = read(processor, pieces, with_scores=True, task="tvg").spans
    assert abs(coarse.start_seconds - 10.49 / 99) > 0.48 / 99
    assert abs(fine.start_seconds - 10.49 / 99) < 1e-5


def test_refined_coordinates_never_cross(processor):
    """The start leans up and the end down within one bin: the span is kept, at the bin."""
    ids, scores = answer(processor, ["{", ("t", 10 / 99), ("t", 10 / 99), "}"])
    first = processor.coordinate_token_offset
    for step, neighbour in ((1, 11), (2, 9)):
        probabilities = torch.zeros(scores[step].shape[1])
        probabilities[first + 10], probabilities[first + neighbour] = 0.6, 0.4
        scores = (*scores[:step], probabilities.log()[None], *scores[step + 1 :])
    outputs = SimpleNamespace(sequences=torch.tensor([ids]), scores=scores)
    inputs = LlavaSTBatchFeature({}, media=[(CLIP,)], contexts=[GroundingContext(task="tvg")])
    (result,) = processor.post_process_grounding(outputs, inputs)
    assert not result.problems
    assert result.spans[0].start_seconds == result.spans[0].end_seconds == pytest.approx(10 / 99)


@pytest.mark.parametrize(
    ("probabilities", "winner", "bin_index", "mass"),
    [
        ([0.0, 1.0, 0.0], 1, 1.0, 1.0),
        ([0.25, 0.75, 0.0], 1, 0.75, 1.0),
        ([0.0, 0.3, 0.1], 1, 1.25, 0.4),
        ([1.0, 0.0, 0.0], 0, 0.0, 1.0),
        ([0.9, 0.1, 0.0], 1, 1 - 0.4995, 1.0),  # sampled against the odds: stays nearest to its bin
        ([0.0, 0.0, 0.0], 2, 2.0, 0.0),
    ],
)
def test_the_better_neighbour_shares(probabilities, winner, bin_index, mass):
    fraction, confidence = refine_bin(probabilities, winner)
    assert fraction * 2 == pytest.approx(bin_index)
    assert confidence == pytest.approx(mass)
    assert math.isfinite(fraction)
