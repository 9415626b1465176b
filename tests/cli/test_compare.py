"""`llava-st compare`."""

import json
import typing

import pytest
from run_lines import make_line
from truth_files import write_hc_stvg

from llava_st_cli import main
from llava_st_cli.compare import AnswerForm
from llava_st_hf.evaluation.prediction_forms import FORMS
from llava_st_hf.evaluation.predictions import BOX_FORMS, BOX_UNITS, TIME_UNITS


@pytest.fixture
def runs(tmp_path):
    for name, value in (("before", 0.4), ("after", 0.8)):
        folder = tmp_path / name
        folder.mkdir()
        settings = {"benchmark": "mine", "model": name, "protocol": "default"}
        (folder / "run.json").write_text(json.dumps(settings))
        (folder / "predictions.jsonl").write_text("".join(f"{json.dumps(make_line(k, value))}\n" for k in range(4)))
    return [str(tmp_path / name) for name in ("before", "after")]


def test_two_runs(runs, tmp_path, capsys):
    assert main(["compare", *runs, "--output-dir", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("task", "metric", "before", "after", "change", "95", "%", "between", "clear", "better", "equal", "worse")
    ]
    (row,) = [line.split() for line in lines if " m_tIoU " in line]
    assert row == [*["tvg", "m_tIoU", "0.400", "0.800", "+0.400", "+0.400", "to", "+0.400", "yes", "4", "0", "0"]]
    assert (tmp_path / "out" / "report.html").is_file() and lines[-1].endswith("report.html")


def test_two_files_of_answers(tmp_path, capsys):
    annotations = write_hc_stvg(tmp_path / "val_v2.json")
    for name, end in (("a", 6.95), ("b", 6.0)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": "1_a.mp4", "span": [5.0, end]}))
    files = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    code = main(["compare", *files, "--annotations", str(annotations), "--output-dir", str(tmp_path / "out")])
    out = capsys.readouterr().out
    assert code == 0, out
    (row,) = [line.split() for line in out.splitlines() if " m_tIoU " in line]
    assert float(row[2]) == pytest.approx(1.0, abs=0.03) and float(row[3]) < 0.6


def test_files_of_answers_in_other_units(tmp_path, capsys):
    """Seconds and pixels as fractions, and boxes by their size, are the same answers as those in the units of old."""
    annotations = write_hc_stvg(tmp_path / "val_v2.json")
    box, share = [10, 20, 50, 60], [10 / 320, 20 / 240, 50 / 320, 60 / 240]
    answers = {"sure": ([5.0, 7.0], box), "shares": ([0.25, 0.35], share)}
    for name, (span, sides) in answers.items():
        record = {"id": "1_a.mp4", "span": span, "tube": {str(span[0]): sides, str(span[1]): sides}}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(record))
    annotated = ["--annotations", str(annotations), "--output-dir", str(tmp_path / "out"), "--box-form", "xywh"]
    found = []
    for name, units in (("sure", []), ("shares", ["--unit", "fraction", "--time-unit", "fraction"])):
        files = [str(tmp_path / f"{name}.jsonl")] * 2
        assert main(["compare", *files, *annotated, *units]) == 0
        rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("stvg")]
        found.append({row[1]: float(row[2]) for row in rows if row[1].startswith("m_")})
    assert found[0] == pytest.approx(found[1], abs=0.02)  # the length of the clip is no round number
    assert found[0]["m_tIoU"] > 0.9 and found[0]["m_vIoU"] > 0.4


def test_what_does_not_count_is_said_and_the_task_can_be_chosen(tmp_path, capsys):
    video = {"duration": 10.0, "timestamps": [[0, 4]], "sentences": ["A dog runs."]}
    (tmp_path / "val_1.json").write_text(json.dumps({"v_1": video}))
    for name, key in (("right", "v_1"), ("wrong", "v_2")):
        events = [{"sentence": "A dog runs.", "timestamp": [0, 4]}]
        (tmp_path / f"{name}.json").write_text(json.dumps({"results": {key: events}}))
    files = [str(tmp_path / f"{name}.json") for name in ("right", "wrong")]
    given = ["--annotations", str(tmp_path / "val_1.json"), "--task", "dvc", "--predictions-format", "activitynet"]
    assert main(["compare", *files, *given, "--output-dir", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    (row,) = [line.split() for line in captured.out.splitlines() if " EtF1 " in line]
    assert row[:4] == ["dvc", "EtF1", "1.000", "0.000"]
    assert captured.err.count("\n") == 1
    assert f"{files[1]}: 1 unknown_id: the benchmark has no item of this name; the first in v_2" in captured.err


def test_the_items_of_a_benchmark_by_its_name(tmp_path, capsys):
    write_hc_stvg(tmp_path / "val_v2.json")
    answers = tmp_path / "answers.jsonl"
    answers.write_text("")
    files = [str(answers)] * 2
    given = ["--annotations", "hc-stvg-v2", "--data", str(tmp_path), "--output-dir", str(tmp_path / "out")]
    assert main(["compare", *files, *given]) == 0
    assert "m_vIoU" in capsys.readouterr().out
    assert main(["compare", *files, "--annotations", "hc-stvg-v9"]) == 1
    assert "The nearest is hc-stvg-v2" in capsys.readouterr().err
    given = ["--annotations", str(tmp_path / "val_v2.json"), "--data", str(tmp_path)]
    assert main(["compare", *files, *given]) == 1
    assert "--data does nothing with a file of annotations" in capsys.readouterr().err


def test_the_protocol_of_a_judge_needs_its_scores(runs, capsys):
    assert main(["compare", *runs, "--annotations", runs[0], "--protocol", "judge"]) == 1
    assert "give --predictions-format judged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--time-unit", "fraction"], "--time-unit is fraction: it goes with --annotations only"),
        (["--box-form", "xywh"], "--box-form is xywh: it goes with --annotations only"),
        (["--unit", "pixels"], "--unit is pixels: it goes with --annotations only"),
        (["--data", "clips"], "--data is clips: it goes with --annotations only"),
        (["--protocol", "vue"], "--protocol is vue: it goes with --annotations only"),
    ],
)
def test_what_cannot_act_is_refused(runs, capsys, arguments, message):
    assert main(["compare", *runs, *arguments]) == 1
    assert message in capsys.readouterr().err


def test_what_is_not_there(runs, capsys):
    assert main(["compare", runs[0], "nowhere"]) == 1
    assert "nowhere: no such run or file" in capsys.readouterr().err


def test_choices_are_those_of_the_library():
    hints = typing.get_type_hints(AnswerForm, include_extras=True)
    for name, known in (
        ("predictions_format", FORMS),
        ("unit", BOX_UNITS),
        ("time_unit", TIME_UNITS),
        ("box_form", BOX_FORMS),
    ):
        choices = typing.get_args(typing.get_args(typing.get_args(hints[name])[0])[0])
        assert set(choices) == set(known)
