"""Every metric and every row that the published scorer was run on."""

import json
from pathlib import Path

import pytest

from llava_st_hf.evaluation.reference_protocol import (
    ReferenceTruth,
    compute_box_metrics,
    compute_span_metrics,
    compute_tube_metrics,
    convert_answer,
    parse_box,
    parse_span,
    score_box,
    score_span,
    score_tube,
)
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary

# `eval_stvg` sums over a set of strings, so its last bit is not fixed.
SUM_TOLERANCE = {"rel": 0, "abs": 1e-9}
TUBE_TASKS = ("stvg", "svg", "elc")
NAMES = {"tiou": "mtiou", "siou": "msiou", "viou": "mstiou"}


def list_folders(parity_dir: Path, name: str) -> list[Path]:
    folders = sorted(parity_dir.glob(f"*/metrics/{name}"))
    assert folders
    return folders


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def make_truth(row: dict) -> ReferenceTruth:
    truth = row["gt"]
    boxes = {int(frame): box for frame, box in truth["svg"].items()}
    span = tuple(truth["tvg"]) if "tvg" in truth else None
    return ReferenceTruth(boxes, tuple(row["split"]), row["width"], row["height"], span)


def test_rec(parity_dir):
    for file in list_folders(parity_dir, "rec.jsonl"):
        expected = json.loads((file.parent / "expected.json").read_text())["rec"]
        rows = read_rows(file)
        ious = [score_box(row["outputs"], row["gt_bbox"]) for row in rows]
        assert ious == [row["iou"] for row in expected["per_row"]]
        boxes = [parse_box(convert_answer(row["outputs"])) for row in rows]
        assert boxes == [row["parsed_box"] for row in expected["per_row"]]
        assert sum(iou is not None for iou in ious) == expected["rows_with_a_parsed_box"] < len(rows)
        metrics = compute_box_metrics(ious)
        assert metrics == {name: expected[name] for name in metrics}


def test_tvg(parity_dir):
    for file in list_folders(parity_dir, "tvg.jsonl"):
        expected = json.loads((file.parent / "expected.json").read_text())["tvg"]
        rows = read_rows(file)
        ious = [score_span(row["outputs"], row["gt"]) for row in rows]
        assert ious == [row["tiou"] for row in expected["per_row"]]
        spans = [list(parse_span(convert_answer(row["outputs"]))) for row in rows]
        assert spans == [row["parsed_span"] for row in expected["per_row"]]
        metrics = compute_span_metrics(ious)
        assert metrics == {name: expected[name] for name in metrics}


@pytest.mark.parametrize("task", TUBE_TASKS)
def test_tubes(parity_dir, task):
    for file in list_folders(parity_dir, f"{task}.jsonl"):
        expected = json.loads((file.parent / "expected.json").read_text())[task]
        rows = read_rows(file)
        scores = [score_tube(row["outputs"], make_truth(row)) for row in rows]
        for score, row in zip(scores, expected["per_row"], strict=True):
            assert score["tiou"] == row["mtiou"]
            assert {NAMES[name]: value for name, value in score.items()} == pytest.approx(row, **SUM_TOLERANCE)
        metrics = compute_tube_metrics(scores)
        wanted = {name: value for name, value in expected.items() if isinstance(value, float)}
        assert metrics == pytest.approx(wanted, **SUM_TOLERANCE)


def test_metrics_of_all_tasks_together(parity_dir):
    for file in list_folders(parity_dir, "total_eval.json"):
        expected = json.loads(file.read_text())
        rows = {task: read_rows(file.parent / f"{task}.jsonl") for task in ("rec", "tvg", *TUBE_TASKS)}
        metrics = {
            "refcoco": compute_box_metrics([score_box(row["outputs"], row["gt_bbox"]) for row in rows["rec"]]),
            "charades_sta": compute_span_metrics([score_span(row["outputs"], row["gt"]) for row in rows["tvg"]]),
        }
        for task in TUBE_TASKS:
            metrics[task] = compute_tube_metrics([score_tube(row["outputs"], make_truth(row)) for row in rows[task]])
            expected[task].pop("caption_score")
        assert metrics.keys() == expected.keys()
        for name in expected:
            assert metrics[name] == pytest.approx(expected[name], **SUM_TOLERANCE)


def score_edge_case(case: dict) -> dict[str, float] | list[float]:
    if case.get("func") == "eval_tvg":
        metrics = compute_span_metrics([score_span(row["converted_outputs"], row["gt"]) for row in case["rows"]])
        return [*metrics.values()]
    if case.get("func") == "eval_rec":
        return compute_box_metrics([score_box(row["converted_outputs"], row["gt_bbox"]) for row in case["rows"]])
    rows = [case["row"]] if "row" in case else case["rows"]
    return compute_tube_metrics([score_tube(row["outputs"], make_truth(row)) for row in rows])


def is_fault_of_the_truth(case: dict) -> bool:
    if case.get("rows") == []:
        return True
    return "row" in case and case["row"]["split"][0] == case["row"]["split"][1]


def test_edge_cases(parity_dir):
    for file in list_folders(parity_dir, "edge_cases.json"):
        cases = json.loads(file.read_text())
        for case in cases:
            if "error" not in case["result"]:
                expected = case["result"]
                if isinstance(expected, dict):
                    expected.pop("caption_score")
                assert score_edge_case(case) == pytest.approx(expected, **SUM_TOLERANCE), case
            elif is_fault_of_the_truth(case):
                with pytest.raises(InputError, match=r"give at least one|needs two frames"):
                    score_edge_case(case)
            else:  # the answer's own doing
                metrics = score_edge_case(case)
                assert all(0 <= value <= 100 for value in metrics.values()), case
        assert sum("error" in case["result"] for case in cases) >= 6


def test_answers_that_end_the_published_scorer_are_worth_what_they_hold():
    truth = ReferenceTruth({10: (10, 10, 20, 20)}, (0, 99), 100, 100, span=(10, 20))
    text = "{<t_10><t_20>}<t_150>:[<x_1><y_1><x_20><y_20>]"
    assert score_tube(text, truth) == {"tiou": pytest.approx(0.9997, abs=1e-4), "siou": 0, "viou": 0}
    assert score_tube("", ReferenceTruth({0: (1, 1, 2, 2)}, (0, 99), 100, 100, span=(0, 0)))["tiou"] == 0
    assert score_tube(None, truth) == {"tiou": 0, "siou": 0, "viou": 0}
    assert score_box(None, (0, 0, 1, 1)) is None
    assert score_span(None, (0, 1)) is None


def test_truth_at_a_frame_that_is_not_sampled():
    text = "<t_1>:[<x_10><y_10><x_20><y_20>]"
    sampled = {10: (10, 10, 20, 20)}
    expected = score_tube(text, ReferenceTruth(sampled, (0, 990), 100, 100))
    assert expected["siou"] > 0.9
    # The frame between two that are sampled is left out.
    assert score_tube(text, ReferenceTruth({**sampled, 11: (0, 0, 1, 1)}, (0, 990), 100, 100)) == expected


def test_text_helpers_of_the_published_code(parity_dir):
    """`replace_and_normalize`, `parse_span_from_text` and `parse_box_from_text`, row by row."""
    counts = dict.fromkeys(("replace_and_normalize", "parse_span_from_text", "parse_box_from_text"), 0)
    for file in sorted(parity_dir.glob("*/unit/utils.json")):
        for row in json.loads(file.read_text()):
            if row["func"] not in counts or row["args"] == [None]:
                continue
            counts[row["func"]] += 1
            if row["func"] == "replace_and_normalize":
                found = convert_answer(row["args"][0], *([None] if row["kwargs"]["return_token"] else []))
            else:
                parse = parse_span if row["func"] == "parse_span_from_text" else parse_box
                found = parse(*row["args"])
            found = list(found) if isinstance(found, tuple) else found
            assert found == row["result"], row
    assert min(counts.values()) >= 30


def test_both_spellings_of_tokens():
    assert convert_answer("{<t_10><t_20>} <t_10>:[<x_1><y_2><x_30><y_40>]") == convert_answer(
        "{<TEMP-010><TEMP-020>} <TEMP-010>:[<WIDTH-001><HEIGHT-002><WIDTH-030><HEIGHT-040>]"
    )
    assert convert_answer("<t_19>", CoordinateVocabulary(20, 10)) == "1.00000,"


def test_other_token_counts():
    truth = ReferenceTruth({5: (0, 0, 50, 50)}, (0, 9), 100, 100, span=(5, 9))
    text = "{<t_5><t_9>} <t_5>:[<x_0><y_0><x_10><y_10>]"
    score = score_tube(text, truth, CoordinateVocabulary(10, 21))
    assert score["siou"] == score["viou"] == 1
    assert score["tiou"] > 0.999


def test_shares_of_tvg_count_only_what_is_above():
    assert compute_span_metrics([0.5, 0.6])["R1@(0.5)"] == 50
    assert compute_tube_metrics([{"tiou": 0.5, "siou": 0.5, "viou": 0.5}])["tiou@0.5"] == 100
    assert compute_box_metrics([0.5, None])["R1@(0.5)"] == 100


def test_no_answer_with_a_box_at_all():
    assert compute_box_metrics([None]) == {"miou": 0, "R1@(0.5)": 0}
    with pytest.raises(InputError, match="no items"):
        compute_box_metrics([])


def test_absurd_numbers_do_not_raise():
    truth = ReferenceTruth({10: (10, 10, 20, 20)}, (0, 99), 100, 100, span=(10, 20))
    long = "9" * 5000
    text = f"{{<t_{long}><t_20>}} <t_10>:[<x_{long}><y_1><x_20><y_20>] {{{long}.0,0.5}} [{long}, 0, 1, 1]"
    assert score_tube(text, truth) == {"tiou": 0, "siou": 0, "viou": 0}
    assert score_box(text, (0, 0, 1, 1)) is None
