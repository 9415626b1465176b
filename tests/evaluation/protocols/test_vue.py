"""VUE-STG: the published table from the public answers, groups, and what is not defined."""

import numpy as np
import pytest

from llava_st_hf.evaluation.predictions import read_predictions
from llava_st_hf.evaluation.protocols import get_protocol
from llava_st_hf.evaluation.protocols.vue import find_groups
from llava_st_hf.evaluation.scoring import score_predictions
from llava_st_hf.evaluation.truths import read_truths
from llava_st_hf.processing.grounding_results_llava_st import GroundingResult, Tube, TubeArrays
from llava_st_hf.processing.media_llava_st import MediaInfo

NAMES = ("t_Precision", "t_Recall", "t_IoU", "v_Precision", "v_Recall", "v_IoU", "v_IoU_Int")
PUBLISHED = {
    "vidi2": (0.730, 0.598, 0.532, 0.446, 0.363, 0.326, 0.603),
    "gemini-3-pro-preview": (0.519, 0.353, 0.275, 0.090, 0.057, 0.046, 0.166),
    "gpt-5": (0.383, 0.195, 0.164, 0.130, 0.065, 0.055, 0.336),
    "qwen3-vl-32b-instruct": (0.453, 0.392, 0.259, 0.086, 0.075, 0.051, 0.185),
}


@pytest.fixture(scope="module")
def folder(real_annotations_dir):
    return real_annotations_dir / "vue_stg"


@pytest.fixture(scope="module")
def truths(folder):
    found = read_truths(folder)
    assert (len(found.items), found.unusable) == (1600, ())
    return found.items


@pytest.mark.parametrize("system", PUBLISHED)
def test_the_published_table(folder, truths, system):
    predictions = read_predictions(folder / f"predictions_{system}.csv", truths, "vue_csv")
    protocol = get_protocol("vue")
    lines = score_predictions(truths, predictions, protocol)
    metrics = protocol.compute_metrics("stvg_several", [line["scores"] for line in lines])
    assert tuple(round(metrics[name], 3) for name in NAMES) == PUBLISHED[system]
    # Beside them, every item counted: what is not defined in an item is 0 there.
    for name, key in (("t_Precision", "t_precision"), ("v_Precision", "v_precision"), ("v_IoU_Int", "v_iou_shared")):
        share = np.mean([line["scores"][key] is not None for line in lines])
        assert metrics[f"{name}_all"] == pytest.approx(metrics[name] * share)
        assert metrics[f"{name}_all"] < metrics[name]
    if system == "gpt-5":
        assert share == pytest.approx(1 - 0.546, abs=5e-4)
    # Our own, second by second, is the same v_IoU, over all items.
    ours = get_protocol("default")
    values = [line["scores"] for line in score_predictions(truths, predictions, ours)]
    assert ours.compute_metrics("stvg_several", values)["m_vIoU"] == pytest.approx(metrics["v_IoU"], abs=2e-3)


def make_result(boxes: dict[float, tuple[float, float, float, float]], end: float = 100.0) -> GroundingResult:
    media = MediaInfo("video", 1, 1, tuple(range(101)), tuple(map(float, range(101))), stated_end_seconds=end)
    seconds = np.array(list(boxes))
    tube = Tube.from_arrays(TubeArrays(seconds, np.rint(seconds).astype(int), np.array(list(boxes.values()))))
    return GroundingResult("", tubes=(tube,), media=media)


def test_groups():
    small = make_result({1.0: (0, 0, 0.1, 0.5), 2.0: (0, 0, 0.1, 0.5)}, end=59.0)
    assert find_groups(small) == {"box": "0 to 10 %", "clip": "0 to 1 min", "truth": "0 to 3 s"}
    large = make_result({float(second): (0, 0, 1, 0.31) for second in range(10)}, end=600.0)
    assert find_groups(large) == {"box": "30 to 100 %", "clip": "10 to 30 min", "truth": "10 to 60 s"}


def test_boxes_are_cut_and_their_corners_put_in_order():
    truth = make_result({1.0: (0.5, 0.5, 1, 1)})
    answer = make_result({1.0: (2, 2, 0.5, 0.5), 5.0: (3, 3, 4, 4)})  # the second is outside
    scores = get_protocol("vue").score("stvg_several", answer, truth, None)
    assert set(scores.values()) == {1.0}


def test_an_answer_to_nothing_drops_out():
    protocol = get_protocol("vue")
    scores = [protocol.score_nothing("stvg_several"), dict.fromkeys(protocol.get_measure_names("stvg_several"), 1.0)]
    metrics = protocol.compute_metrics("stvg_several", scores)
    assert (metrics["t_Precision"], metrics["t_Precision_all"], metrics["t_IoU"]) == (1.0, 0.5, 0.5)
    assert protocol.score("stvg_several", GroundingResult(""), make_result({1.0: (0, 0, 1, 1)}), None) == scores[0]
    assert set(protocol.compute_metrics("stvg_several", scores[:1]).values()) == {0.0}
