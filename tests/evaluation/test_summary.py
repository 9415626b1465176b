"""What a run found, and its table."""

import pytest

from llava_st_hf.evaluation.metrics import caption_sets
from llava_st_hf.evaluation.metrics.meteor import METEOR, count_meteor
from llava_st_hf.evaluation.protocols import DefaultProtocol
from llava_st_hf.evaluation.summary import format_metrics_table, summarize_predictions


def make_prediction(number: int, task: str, scores: dict, failure: str | None = None, **fields) -> dict:
    line = {"id": f"{task}-{number}", "task": task, "scores": scores, "failure": failure, "seconds": 0.5}
    return {**line, "baseline": dict.fromkeys(scores, 0.25), "result": {}, "problems": [], **fields}


PREDICTIONS = [
    make_prediction(0, "tvg", {"tiou": 0.8}),
    make_prediction(1, "tvg", {"tiou": 0.0}, "missing_span"),
    make_prediction(2, "tvg", {"tiou": 0.0}, "missing_media", result=None, problems=["a.mp4 does not exist"]),
    make_prediction(0, "rec", {"iou": 0.5}),
]


def test_metrics_failures_and_unusable_items():
    metrics = summarize_predictions(PREDICTIONS, DefaultProtocol())
    tvg = metrics["tasks"]["tvg"]
    assert (tvg["items"], tvg["seconds"]) == (3, 1.5)
    assert tvg["metrics"]["R@0.5"] == 1 / 3
    assert tvg["baseline"]["m_tIoU"] == 0.25
    assert tvg["failures"] == {"missing_span": 1, "missing_media": 1}
    assert (tvg["counted"]["R@0.5"], tvg["groups"], tvg["calibration"]) == (3, {}, None)
    low, high = tvg["intervals"]["m_tIoU"]
    assert 0 <= low < tvg["metrics"]["m_tIoU"] < high < 0.81
    assert metrics["unusable"] == [{"id": "tvg-2", "reason": "missing_media", "detail": "a.mp4 does not exist"}]


def test_groups_and_confidences():
    def answer(confidence: float) -> dict:
        return {"spans": [{"confidence": confidence}], "boxes": [], "tubes": [], "media": None}

    lines = [
        make_prediction(0, "tvg", {"tiou": 0.9}, groups={"length": "short"}, result=answer(0.9)),
        make_prediction(1, "tvg", {"tiou": 0.1}, groups={"length": "long"}, result=answer(0.3)),
        make_prediction(2, "tvg", {"tiou": 0.5}, groups={"length": "long"}),
    ]
    found = summarize_predictions(lines, DefaultProtocol())["tasks"]["tvg"]
    assert found["groups"]["length"] == {
        "long": {"items": 2, "metrics": {"R@0.5": 0.5, "m_tIoU": 0.3}},
        "short": {"items": 1, "metrics": {"R@0.5": 1.0, "m_tIoU": 0.9}},
    }
    assert found["calibration"] == pytest.approx(
        {"ece": 0.1, "risk_coverage_area": 0.3, "value": "tiou", "answers": 2}
    )


def test_captions_are_compared_once(monkeypatch):
    """METEOR of thousands of captions takes seconds: metrics and intervals are of the same counts."""
    compared = []

    def count(captions, references):
        compared.extend(captions)
        return count_meteor(captions, references)

    monkeypatch.setattr(caption_sets, "count_meteor", count)
    texts = {"": [("a circle turns", ["a circle turns"])]}
    scores = dict.fromkeys(DefaultProtocol().get_measure_names("elc"), 1.0) | {"texts": texts}
    line = make_prediction(0, "elc", scores, baseline=None)
    elc = summarize_predictions([line], DefaultProtocol())["tasks"]["elc"]
    assert elc["metrics"][METEOR] == elc["intervals"][METEOR][0] == 1
    assert compared == ["a circle turns"]


def test_table():
    table = format_metrics_table(summarize_predictions(PREDICTIONS, DefaultProtocol()))
    assert table.splitlines() == [
        "| task | metric  | model | blind baseline | items | failures                        |",
        "| ---- | ------- | ----: | -------------: | ----: | ------------------------------- |",
        "| tvg  | R@0.5   | 0.333 |          0.000 |     3 | 1 missing_span, 1 missing_media |",
        "| tvg  | m_tIoU  | 0.267 |          0.250 |     3 | 1 missing_span, 1 missing_media |",
        "| rec  | acc@0.5 | 1.000 |          0.000 |     1 | none                            |",
    ]


def test_table_without_a_baseline():
    predictions = [{**prediction, "baseline": None} for prediction in PREDICTIONS]
    metrics = summarize_predictions(predictions, DefaultProtocol())
    assert metrics["tasks"]["rec"]["baseline"] is None
    assert "| rec  | acc@0.5 | 1.000 |     1 | none" in format_metrics_table(metrics)
