"""Tables and reports."""

from llava_st_hf.evaluation.protocols import DefaultProtocol
from llava_st_hf.evaluation.report import format_metrics_table, format_report, summarize_predictions


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
    assert metrics["unusable"] == [{"id": "tvg-2", "reason": "missing_media", "detail": "a.mp4 does not exist"}]


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
    assert "| rec  | acc@0.5 | 1.000 |                |" in format_metrics_table(metrics)


def test_report():
    metrics = {
        **summarize_predictions(PREDICTIONS, DefaultProtocol()),
        "settings": {"benchmark": "st-shapes", "model": "tiny", "protocol": "default", "tasks": ["tvg", "rec"]},
        "command": "llava-st evaluate st-shapes --model tiny",
        "versions": {"torch": "2.13.0"},
        "device": "cpu",
    }
    report = format_report(metrics)
    assert report.startswith("# tiny on st-shapes\n\n| task | metric")
    for part in (
        "## 1 items could not be used and are worth 0\n\n- tvg-2: missing_media: a.mp4 does not exist",
        "```\nllava-st evaluate st-shapes --model tiny\n```",
        "- tasks: tvg, rec",
        "- torch: 2.13.0",
        "Every item counts",
    ):
        assert part in report
    metrics["settings"]["protocol"] = "reference"
    assert "with its faults" in format_report(metrics)


def test_long_lists_are_cut():
    predictions = [
        make_prediction(number, "tvg", {"tiou": 0}, "missing_media", result=None, problems=["gone"])
        for number in range(30)
    ]
    metrics = summarize_predictions(predictions, DefaultProtocol())
    settings = {"benchmark": "b", "model": "m", "protocol": "default"}
    report = format_report({**metrics, "settings": settings, "command": None, "versions": {}, "device": "cpu"})
    assert "- tvg-19: " in report
    assert "- tvg-20: " not in report
    assert "- and 10 more, see metrics.json" in report
    assert len(metrics["unusable"]) == 30
