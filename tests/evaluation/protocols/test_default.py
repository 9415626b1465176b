"""What one answer is worth, by task and protocol, and why an answer failed."""

from dataclasses import replace

import numpy as np
import pytest

from llava_st_hf.evaluation.metrics.meteor import METEOR
from llava_st_hf.evaluation.protocols import MEASURES, PROTOCOLS, DefaultProtocol, find_failure, get_protocol
from llava_st_hf.evaluation.protocols.default import CAPTION_MEASURES
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.grounding_results_llava_st import Caption, GroundingResult, Span
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary
from llava_st_hf.processing.tasks_llava_st import TASKS

# Of 99 pixels, which the published rounding of boxes leaves as they are.
CLIP = MediaInfo("video", 99, 99, tuple(range(100)), tuple(index / 10 for index in range(100)))
IMAGE = MediaInfo("image", 100, 100)
BOX = "[<x_10><y_10><x_20><y_20>]"
TRUE_ANSWERS = {
    "tvg": "{<t_10><t_20>}",
    "stvg": f"{{<t_10><t_11>}} <t_10>:{BOX}, <t_11>:{BOX}",
    "svg": f"<t_10>:{BOX}, <t_11>:{BOX}",
    "elc": f"Ends in <t_20>, the red ring grows. Object bounding box: <t_10>:{BOX}, <t_20>:{BOX}",
    "rec": BOX,
    "tr": "the red ring grows.",
    "rc": "a red ring.",
    "dvc": "{<t_0><t_31>}, a man opens the door. {<t_32><t_99>}, he walks into the kitchen.",
    "video_qa": "in the kitchen.",
    "multiple_choice": "(B) the door",
    "tvg_several": "{<t_10><t_20>}, {<t_40><t_50>}",
    "stvg_several": f"{{<t_10><t_11>}}, {{<t_40><t_40>}} <t_10>:{BOX}, <t_11>:{BOX}; another: <t_40>:{BOX}",
}


def read(task: str, text: str) -> GroundingResult:
    medium = IMAGE if task in ("rec", "rc") else CLIP
    start = 1.0 if task == "elc" else None
    return parse_answer(text, medium, answer_format=TASKS[task].answer_format, start_seconds=start)


def score(task: str, text: str, protocol: str = "default") -> dict[str, float | None]:
    return get_protocol(protocol).score(task, read(task, text), read(task, TRUE_ANSWERS[task]), CoordinateVocabulary())


@pytest.mark.parametrize("task", TRUE_ANSWERS)
def test_the_truth_is_worth_1(task):
    protocol, scores = PROTOCOLS["default"], score(task, TRUE_ANSWERS[task])
    assert {name: scores[name] for name in scores if name != "texts"} == dict.fromkeys(
        protocol.get_measure_names(task), 1.0
    )
    assert {float(values.mean()) for values in protocol.list_values(task, [scores, scores]).values()} == {1.0}
    statistics = protocol.list_statistics(task, [scores, scores])
    for name in {"Bleu_1", METEOR, "ROUGE_L"} & statistics.keys():
        assert statistics[name].value == pytest.approx(1), name
    assert find_failure(task, read(task, TRUE_ANSWERS[task])) is None


@pytest.mark.parametrize("task", TRUE_ANSWERS)
def test_an_empty_answer_is_worth_0(task):
    protocol, scores = PROTOCOLS["default"], score(task, "")
    assert {value for name, value in scores.items() if name != "texts"} == {0.0}
    values = protocol.list_values(task, [scores, score(task, TRUE_ANSWERS[task])])
    assert {float(each.mean()) for each in values.values()} == {0.5}
    assert all(statistic.value < 1e-6 for statistic in protocol.list_statistics(task, [scores]).values())
    assert find_failure(task, read(task, "")) == "empty_answer"


@pytest.mark.parametrize(
    ("task", "text", "expected"),
    [
        ("tvg", "{<t_10><t_15>}", {"tiou": 0.5}),
        ("tvg", "{<t_10><t_15>} or {<t_10><t_20>}", {"tiou": 0.5}),  # the first counts
        ("rec", "[<x_10><y_10><x_20><y_15>]", {"iou": 0.5}),
        ("svg", f"<t_11>:{BOX}, <t_12>:{BOX}", {"siou": 1.0, "viou": 1 / 3}),
        ("stvg", f"<t_10>:{BOX}", {"tiou": 0.0, "siou": 1.0, "viou": 0.5}),
        ("stvg", "{<t_10><t_11>}", {"tiou": 1.0, "siou": 0.0, "viou": 0.0}),
        ("elc", "Ends in <t_15>, The red ring  grows", {"tiou": 0.5, "siou": 0, "viou": 0, "caption_match": 1}),
        ("elc", f"Ends in <t_20>, a ring. Object bounding box: <t_10>:{BOX}", {"caption_match": 0, "viou": 0.5}),
        ("tvg_several", "{<t_40><t_50>}", {"tiou": 0.5}),
        ("tvg_several", "{<t_40><t_50>}, {<t_10><t_20>}", {"tiou": 1.0}),
        ("tvg_several", "{<t_10><t_20>}, {<t_50><t_70>}", {"tiou": 0.25}),
        ("stvg_several", f"{{<t_10><t_11>}} <t_40>:{BOX}; another: <t_10>:{BOX}", {"siou": 1, "viou": 2 / 3}),
        ("stvg_several", f"{{<t_40><t_40>}} <t_41>:{BOX}", {"tiou": 0, "siou": 0, "viou": 0}),
        ("tr", "The red ring grows", {"match": 1}),
        ("tr", "The ring grows.", {"match": 0}),
        ("rc", "a red RING.", {"match": 1}),
    ],
)
def test_parts_count_on_their_own(task, text, expected):
    scores = score(task, text)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("task", "text", "reason"),
    [
        ("tvg", "It does not occur.", "missing_span"),
        ("tvg", "{<t_20><t_10>}", "reversed_span"),
        ("tvg", "{<t_20><t_150>}", "out_of_range"),
        ("tvg", "{<t_20>", "truncated_answer"),
        ("rec", "[<x_20><y_10><x_10><y_20>]", "degenerate_box"),
        ("rec", "<x_20><y_10>", "stray_coordinate"),
        ("stvg", "{<t_10><t_11>}", "missing_tube"),
        ("stvg", "[<t_10><t_11>]", "missing_tube"),  # read despite its brackets, so these are not the reason
        ("elc", f"Ends in <t_20>, Object bounding box: <t_10>:{BOX}", "missing_caption"),
        ("rc", " ", "empty_answer"),
        ("rc", BOX, "empty_answer"),  # no words
        ("rc", "a dog", None),
    ],
)
def test_reason_of_a_failure(task, text, reason):
    assert find_failure(task, read(task, text)) == reason


def test_names_of_metrics():
    protocol = PROTOCOLS["default"]
    assert set(protocol.compute_metrics("tvg", [{"tiou": 0.5}])) == {"m_tIoU", "R@0.3", "R@0.5", "R@0.7"}
    assert protocol.compute_metrics("tvg", [{"tiou": 0.5}])["R@0.5"] == 1
    assert "tIoU@0.5" in protocol.compute_metrics("stvg", [{"tiou": 0.5, "siou": 0, "viou": 0}])
    assert set(protocol.compute_metrics("rec", [{"iou": 0.5}])) == {"m_IoU", "acc@0.5"}
    with pytest.raises(InputError, match="at least one"):
        protocol.compute_metrics("rec", [])


def test_what_the_table_of_tasks_names_exists():
    for task in TASKS.values():
        assert {*task.measures} <= {*MEASURES, *CAPTION_MEASURES}
        parts = {MEASURES[name].part.replace("sentence", "caption") for name in task.measures if name in MEASURES}
        assert parts <= {*task.answer_format.parts, *(("choice",) if task.name == "multiple_choice" else ())}
    for protocol in PROTOCOLS.values():
        for task in protocol.list_tasks():
            nothing = [protocol.score_nothing(task)] * 2
            means, others = protocol.list_values(task, nothing), protocol.list_statistics(task, nothing)
            assert {*means, *others} == set(protocol.compute_metrics(task, nothing))
            counted = {name for name, values in means.items() if np.isfinite(values).any()}
            assert {*counted, *others} == {*protocol.compute_intervals(task, nothing)}
            assert set(protocol.get_headline(task)) <= set(
                protocol.compute_metrics(task, [protocol.score_nothing(task)])
            )


def test_reference_protocol_has_the_published_faults():
    assert score("tvg", "{<t_10><t_20>}", "reference")["tiou"] == pytest.approx(1, abs=1e-4)
    assert score("tvg", "none", "reference") == {"tiou": None}
    assert score("rec", "none", "reference") == {"iou": None}
    scores = score("elc", TRUE_ANSWERS["elc"], "reference")
    assert (scores["tiou"], scores["siou"], scores["viou"]) == (0, 1, 1)  # "Ends in"
    # It takes for the caption what stands before the first full stop, behind its last comma.
    assert scores["texts"] == {"": [(" the red ring grows", ["the red ring grows."])]}
    assert score("svg", TRUE_ANSWERS["svg"], "reference") == {"tiou": 0, "siou": 1, "viou": 1}
    metrics = PROTOCOLS["reference"].compute_metrics("rec", [{"iou": None}, {"iou": 0.8}])
    assert metrics == {"miou": 0.8, "R1@(0.5)": 100}
    assert PROTOCOLS["reference"].compute_metrics("tvg", [{"tiou": None}, {"tiou": 0.5}])["R1@(0.5)"] == 0
    # A stand-in of ours that could not be asked is 0 there too, not left out.
    assert PROTOCOLS["reference"].score_nothing("rec") == {"iou": 0}


def test_reference_protocol_takes_the_part_of_a_clip():
    clip = replace(CLIP, frame_indices=tuple(range(500, 700, 2)))
    truth = parse_answer(TRUE_ANSWERS["stvg"], clip, answer_format="span_and_tube")
    scores = PROTOCOLS["reference"].score("stvg", truth, truth, CoordinateVocabulary())
    assert scores["siou"] == scores["viou"] == 1
    assert scores["tiou"] > 0.98  # spans are 2 frames long, and the truth is rounded


def test_unknown_protocol():
    with pytest.raises(InputError, match="protocol is 'mine': choose one of default, reference"):
        get_protocol("mine")


def test_several_spans_are_ranked_and_matched():
    """Two of three events are found, the wrong one is the surest: by hand, R1 0, AP 2 (2/3) / 3 and F1 2/3."""
    said = tuple(Span(*times, confidence=sure) for *times, sure in ((0, 1, 0.5), (50, 60, 0.9), (10, 12, 0.7)))
    truth = GroundingResult("", spans=(Span(0, 1), Span(10, 12), Span(20, 30)))
    scores = DefaultProtocol().score("tvg_several", GroundingResult("", spans=said), truth, CoordinateVocabulary())
    assert scores["first_tiou"] == 0
    assert scores["span_ap"] == pytest.approx((2 / 3 + 2 / 3) / 3)
    assert scores["event_f1"] == pytest.approx(2 / 3)


def test_dense_captions_are_a_story():
    def tell(*events):
        captions = tuple(Caption(text, Span(start, end)) for start, end, text in events)
        return GroundingResult("told", spans=tuple(caption.span for caption in captions), captions=captions)

    truth = tell((0, 5, "a man opens the old door"), (5, 9, "he walks into the kitchen"))
    protocol, vocabulary = DefaultProtocol(), CoordinateVocabulary()
    right = protocol.score("dvc", truth, truth, vocabulary)
    half = protocol.score("dvc", tell((0, 5, "a man opens the old door")), truth, vocabulary)
    assert right["event_f1"] == 1.0 and right["soda"] > 0.9
    assert half["event_f1"] == pytest.approx(2 / 3)
    assert half["soda"] == pytest.approx(right["soda"] * 2 / 3, abs=0.02)
    nothing = protocol.score("dvc", GroundingResult("nothing"), truth, vocabulary)
    assert (nothing["event_f1"], nothing["soda"]) == (0, 0)
