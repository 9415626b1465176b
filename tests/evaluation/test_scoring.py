"""Properties of scores, whatever the protocol."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_st_hf.evaluation.predictions import Predictions
from llava_st_hf.evaluation.protocols import CommunityProtocol, get_protocol
from llava_st_hf.evaluation.scoring import score_answer, score_predictions
from llava_st_hf.evaluation.summary import summarize_predictions
from llava_st_hf.evaluation.truths import Truth
from llava_st_hf.processing.grounding_results_llava_st import GroundingResult, Span, Tube, TubeArrays
from llava_st_hf.processing.media_llava_st import MediaInfo

PROTOCOLS = [get_protocol("default"), get_protocol("vue"), CommunityProtocol("past")]
STVG = st.builds(
    dict,
    first=st.integers(0, 50),
    frames=st.integers(2, 40),
    left=st.floats(0, 100),
    top=st.floats(0, 100),
    width=st.floats(5, 90),
    height=st.floats(5, 90),
)


def make_truth(first, frames, left, top, width, height, scale: float = 1.0) -> Truth:
    media = MediaInfo("video", int(200 * scale), int(200 * scale), tuple(range(100)), tuple(map(float, range(100))))
    indices = np.arange(first, first + frames)
    box = np.array([left, top, left + width, top + height]) * scale
    tube = Tube.from_arrays(TubeArrays(indices.astype(float), indices, np.tile(box, (frames, 1))))
    spans = (Span(float(first), float(first + frames - 1)),)
    return Truth("stvg", GroundingResult("", spans=spans, tubes=(tube,), media=media))


def move(answer: GroundingResult, pixels: float) -> GroundingResult:
    arrays = answer.tubes[0].arrays
    tube = Tube.from_arrays(arrays._replace(boxes_pixels=arrays.boxes_pixels + np.array([pixels, 0, pixels, 0])))
    return replace(answer, tubes=(tube,))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
@settings(deadline=None, max_examples=50)
@given(values=STVG)
def test_a_perfect_answer_is_worth_1(protocol, values):
    truth = make_truth(**values)
    scores = score_answer(truth.result, truth, protocol)
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
@settings(deadline=None, max_examples=50)
@given(values=STVG, pixels=st.floats(0, 4.9))
def test_a_worse_box_is_never_worth_more_and_the_size_of_the_frame_changes_nothing(protocol, values, pixels):
    values = {**values, "left": min(values["left"], 90)}
    truth, larger = make_truth(**values), make_truth(**values, scale=7)
    near, far = (score_answer(move(truth.result, step), truth, protocol) for step in (pixels, 2 * pixels))
    assert all(near[name] >= far[name] - 1e-9 for name in near)
    scaled = score_answer(move(larger.result, 7 * pixels), larger, protocol)
    assert scaled == pytest.approx(near)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
@settings(deadline=None, max_examples=20)
@given(items=st.lists(st.tuples(STVG, st.floats(0, 20)), min_size=2, max_size=6), order=st.randoms())
def test_the_order_of_items_does_not_matter(protocol, items, order):
    truths = {str(place): make_truth(**values) for place, (values, _) in enumerate(items)}
    results = {name: move(truths[name].result, pixels) for name, (_, pixels) in zip(truths, items, strict=True)}
    names = list(truths)
    order.shuffle(names)
    found = []
    for chosen in (list(truths), names):
        lines = score_predictions({name: truths[name] for name in chosen}, Predictions(results), protocol)
        found.append(protocol.compute_metrics("stvg", [line["scores"] for line in lines]))
    assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_lines_are_those_of_a_report():
    truths = {"a": make_truth(0, 10, 0, 0, 10, 10), "b": make_truth(0, 10, 0, 0, 10, 10)}
    spanless = replace(truths["a"].result, tubes=())
    protocol = get_protocol("default")
    summary = summarize_predictions(score_predictions(truths, Predictions({"a": spanless}), protocol), protocol)
    assert summary["tasks"]["stvg"]["failures"] == {"missing_tube": 1, "no_answer": 1}
    assert summary["tasks"]["stvg"]["metrics"]["m_tIoU"] == 0.5
    assert summary["tasks"]["stvg"]["items"] == 2
