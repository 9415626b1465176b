"""`llava-st evaluate`, from the command line to the report."""

import json
import os
import typing

import killed_evaluation
import pytest
from truth_files import write_hc_stvg

from llava_st_cli import main
from llava_st_cli.app import make_program
from llava_st_cli.evaluate import ACTING, AnswerFile, ShapesChoice, evaluate
from llava_st_hf.data.shapes.scenes import DIFFICULTIES
from llava_st_hf.evaluation.benchmarks import st_shapes
from llava_st_hf.evaluation.prediction_forms import FORMS
from llava_st_hf.evaluation.predictions import BOX_UNITS
from llava_st_hf.evaluation.protocols import PROTOCOLS
from llava_st_hf.evaluation.truths import draw_truths
from llava_st_hf.hub.results import read_evaluation


@pytest.fixture
def run(checkpoint, tmp_path, monkeypatch, capsys):
    """Run the command on a small part of the benchmark and return exit code, output and errors."""
    monkeypatch.setattr(st_shapes, "NUM_TRAINING_SAMPLES", 10)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        short = ["--num-clips", "1", "--max-new-tokens", "16", "--device", "cpu", "--quiet"]
        code = main(["evaluate", "st-shapes", "--model", str(checkpoint), *short, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_from_model_to_report(run, checkpoint, tmp_path):
    code, out, err = run("--tasks", "rec", "tr", "--batch-size", "2")
    assert (code, err) == (0, "")
    assert [line.split("|")[1].strip() for line in out.splitlines()] == ["task", "----", "rec", "tr"]
    folder = tmp_path / "evaluation_output" / "st-shapes" / checkpoint.name
    report = (folder / "report.md").read_text()
    assert [row.split("|")[3].strip() in report for row in out.splitlines()[2:]] == [True, True]
    assert (folder / "report.html").is_file()
    assert f"llava-st evaluate st-shapes --model {checkpoint.name} " in report
    settings = json.loads((folder / "run.json").read_text())
    # At the model's own resolution.
    assert (settings["num_frames"], settings["size"], settings["difficulty"]) == (20, 54, "standard")
    assert settings["tasks"] == ["rec", "tr"]
    lines = (folder / "predictions.jsonl").read_text()
    code, again, _ = run("--tasks", "rec", "tr")
    assert (code, again) == (0, out)
    assert (folder / "predictions.jsonl").read_text() == lines  # nothing was asked again


def test_another_run_in_the_folder(run, tmp_path):
    assert run("--tasks", "rec", "--output-dir", str(tmp_path / "run"))[0] == 0
    code, out, err = run("--tasks", "rec", "--output-dir", str(tmp_path / "run"), "--seed", "1000001")
    assert (code, out) == (1, "")
    assert "holds a run with seed=1000000, and now seed is 1000001: give the same to go on" in err
    assert err.count("\n") == 1


def test_protocol_and_difficulty(run, tmp_path):
    code, out, _ = run("--protocol", "reference", "--tasks", "rec", "--difficulty", "easy", "--output-dir", "run")
    assert code == 0
    assert "R1@(0.5)" in out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["difficulty"] == "easy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "dvc"), "tasks is ['dvc']: choose from stvg"),
        (("--seed", "3"), "seed is 3: smaller ones than 1,000,000 are for training"),
        (("--num-clips", "0"), "num_clips is 0: give at least 1"),
        (("--batch-size", "0", "--tasks", "rec"), "batch_size is 0: give at least 1"),
        (("--tasks", "tr", "--protocol", "reference"), "tasks has tr, which protocol 'reference' does not score"),
        (("--model", "./nowhere"), "--model is ./nowhere: no such folder"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, tmp_path, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert not (tmp_path / "evaluation_output").exists()


def test_unknown_benchmark(checkpoint, capsys):
    assert main(["evaluate", "imagenet", "--model", str(checkpoint)]) == 1
    assert "st-shapes" in capsys.readouterr().err


@pytest.fixture
def answers(tmp_path):
    """Annotations of one record, and answers: the true one, one too many, and a box that is reversed."""
    record = {"id": "1_a.mp4", "span": [5.0, 6.95], "tube": {"5": [10, 20, 60, 80], "6.95": [49, 20, 99, 80]}}
    record["tube"]["6"] = [90, 20, 60, 80]
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in (record, {"id": "nobody", "span": [1, 2]})))
    return [str(write_hc_stvg(tmp_path / "hc.json")), str(path)]


@pytest.mark.parametrize(
    ("protocol", "row"),
    [("default", "m_vIoU | 1.000"), ("community", "m_vIoU   | 0.975"), ("vue", "t_Precision     | 1.000")],
)
def test_answers_of_another_system(answers, capsys, protocol, row):
    assert main(["evaluate", answers[0], "--predictions", answers[1], "--protocol", protocol]) == 0
    out = capsys.readouterr().out
    assert row in out
    assert "1 unknown_id: the benchmark has no item of this name; the first in nobody" in out
    assert "1 reversed_box" in out


def test_audit_of_answers(answers, capsys):
    assert main(["evaluate", answers[0], "--audit", answers[1]]) == 0
    out = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in out.splitlines()[:9]] == [
        *(
            "answers",
            "-------------",
            "the file",
            "the truth",
            "one box of it",
            "fifty boxes",
            "whole clip",
            "mean box",
        ),
        "empty",
    ]
    assert "most different: item 1_a.mp4" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hc-stvg-v2", "--predictions", "FILE"), "data is missing: hc-stvg-v2 needs a folder with val_v2.json"),
        (("hc-stvg-v2", "--data", "nowhere"), "which is no folder"),
        (("HC", "--num-clips", "3"), "--num-clips is 3: only clips of st-shapes are drawn"),
        (("st-shapes", "--task", "tvg"), "--task is tvg: st-shapes has no files"),
        (("hcstvg_v2",), "The nearest is hc-stvg-v2"),
        (("HC", "--predictions", "FILE", "--audit", "FILE"), "--audit does nothing with --predictions: leave it out"),
        (("HC", "--predictions", "FILE", "--data", "."), "no media are opened"),
        (("HC", "--predictions", "FILE", "--tasks", "rec"), "--tasks is rec: the items are of stvg"),
        (("HC", "--predictions", "FILE", "--predictions-format", "qwen"), "unit is missing"),
        (("HC", "--predictions", "nowhere.jsonl"), "cannot be read"),
        (("HC", "--predictions", "FILE", "--protocol", "judge"), "give --predictions-format judged"),
        (("HC", "--predictions", "FILE", "--task", "tvg", "--protocol", "vue"), "scores none of the items"),
        (("HC", "--predictions", "VUE"), "has the columns of vue_csv: declare that form"),
        (("HC", "--predictions", "VUE", "--predictions-format", "judged"), "has the columns of vue_csv"),
        (("HC", "--audit", "VUE"), "(on the command line: --predictions-format"),
        (("HC", "--predictions", "HC"), "answers no item (1 missing_id: "),
    ],
)
def test_answers_that_cannot_be_scored_are_one_line(answers, tmp_path, capsys, arguments, message):
    (tmp_path / "vue.csv").write_text("query_id,time_ms,x0,y0,x1,y1\na,1000,0,0,1,1\n")
    names = {"HC": answers[0], "FILE": answers[1], "VUE": str(tmp_path / "vue.csv")}
    assert main(["evaluate", *(names.get(each, each) for each in arguments)]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert message in captured.err


def test_choices_are_those_of_the_library():
    hints = typing.get_type_hints(evaluate)
    answers, shapes = typing.get_type_hints(AnswerFile), typing.get_type_hints(ShapesChoice)
    assert sorted(typing.get_args(answers["predictions_format"])) == sorted(FORMS)
    assert sorted(typing.get_args(typing.get_args(answers["unit"])[0])) == sorted(BOX_UNITS)
    assert sorted(typing.get_args(typing.get_args(shapes["difficulty"])[0])) == sorted(DIFFICULTIES)
    assert sorted(typing.get_args(hints["protocol"])) == sorted(PROTOCOLS)
    flags = {name: each for each in make_program().commands["evaluate"].params for name in each.opts}
    assert f"({st_shapes.FIRST_EVALUATION_SEED})" in flags["--seed"].help


def test_without_a_model_the_one_that_ships_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(st_shapes, "NUM_TRAINING_SAMPLES", 10)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--num-clips", "1", "--tasks", "rec", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert "| rec  | acc@0.5" in captured.out
    assert captured.err == "without --model the small one that ships answers, which knows shapes only\n"
    assert (tmp_path / "evaluation_output/st-shapes/llava-st-tiny-shapes/report.md").exists()


def test_all_benchmarks_are_listed(capsys):
    assert main(["evaluate", "--list"]) == 0
    out = capsys.readouterr().out
    for name in ("st-shapes", "st-align-elc", "vidstg-interrogative", "hc-stvg-v1", "vue-stg", "refcoco+-testB"):
        assert any(line.startswith(f"{name} ") for line in out.splitlines()), name


def test_own_records_are_asked_and_what_is_absent_is_said(checkpoint, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    record = {"video": clip.name, "query": "it turns", "span_seconds": [1.0, 2.0]}
    lines = [{**record, "id": "here"}, {**record, "id": "gone", "video": "gone.mp4"}]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arguments = ["mine.jsonl", "--data", str(clip.parent), "--model", str(checkpoint), "--max-new-tokens", "16"]
    assert main(["evaluate", *arguments, "--output-dir", "run", "--quiet"]) == 0
    captured = capsys.readouterr()
    expected = "PARTIAL: 1 of 2 items (50.0%) can be asked; the media of 1 are absent and are in no metric"
    assert captured.out.startswith(expected)
    assert captured.err.startswith(f"{expected}:\n  gone: video is 'gone.mp4'")
    assert (tmp_path / "run/report.md").read_text().splitlines()[0].endswith("on mine.jsonl (partial: 1 of 2 items)")


def test_answers_about_drawn_clips(tmp_path, capsys):
    benchmark = st_shapes.StShapes(2, ("rec",))
    truths = draw_truths(benchmark).items
    lines = [{"id": name, "boxes": [list(truth.result.boxes[0].xyxy)]} for name, truth in truths.items()]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    predictions = ["--predictions", str(tmp_path / "answers.jsonl"), "--num-clips", "2"]
    assert main(["evaluate", "st-shapes", *predictions]) == 0
    out = capsys.readouterr().out
    assert next(line for line in out.splitlines() if line.startswith("| rec")).split("|")[3].strip() == "1.000"


def test_a_folder_for_answers_of_a_file_is_that_of_a_run(answers, tmp_path, monkeypatch, capsys):
    arguments = ["evaluate", answers[0], "--predictions", answers[1], "--protocol", "vue", "--output-dir", "run"]
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert f"| {metrics['tasks']['stvg']['metrics']['t_Precision']:.3f} |" in printed
    assert {"id": "nobody", "reason": "unknown_id", "count": 1} in metrics["problems"]
    settings = json.loads((tmp_path / "run/run.json").read_text())
    assert settings == metrics["settings"]
    os.utime(tmp_path / "run/metrics.json", (0, 0))  # as one that was copied may have
    assert read_evaluation(tmp_path / "run").date == metrics["date"] > "2026"
    assert (settings["benchmark"], settings["model"], settings["protocol"]) == ("hc.json", "answers.jsonl", "vue")
    (line,) = map(json.loads, (tmp_path / "run/predictions.jsonl").read_text().splitlines())
    assert (line["id"], line["problems"]) == ("1_a.mp4", ["reversed_box"])
    report = (tmp_path / "run/report.md").read_text()
    assert report.startswith("# answers.jsonl on hc.json")
    assert "| unknown_id" in report
    assert (tmp_path / "run/report.html").is_file()
    assert main(["compare", "run", "run"]) == 0
    capsys.readouterr()
    assert main(arguments) == 0  # again, the same
    with open(answers[1], "a") as file:
        file.write("\n")
    assert main(arguments) == 1
    assert "holds a run with answers=" in capsys.readouterr().err


def test_some_tasks_of_answers_about_drawn_clips(tmp_path, capsys):
    (tmp_path / "answers.jsonl").write_text("")
    predictions = ["--predictions", str(tmp_path / "answers.jsonl"), "--num-clips", "1", "--tasks", "rc", "tvg"]
    assert main(["evaluate", *predictions, "--output-dir", str(tmp_path / "run")]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert {*rows[2:]} == {"rc", "tvg"}
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert {item["reason"] for item in metrics["unusable"]} == {"no_answer"}


PARAMETERS = {each.name: each for each in make_program().commands["evaluate"].params}
MODES = {"--list": ["--list"], "--predictions": ["--predictions", "FILE"], "--audit": ["--audit", "FILE"], "": []}
IDLE = [
    (mode, name)
    for mode, (named, acting) in zip(MODES, ACTING.values(), strict=True)
    for name, each in PARAMETERS.items()
    if name not in acting
    and name != named
    and not each.hidden
    and "--help" not in each.opts
    # Of two that name what is done the first does.
    and not (mode == "" and name in ("list_them", "predictions", "audit"))
    and not (mode in ("--predictions", "--audit") and name == "list_them")
    and not (mode == "--audit" and name == "predictions")
]


def test_the_table_names_every_option():
    acting = frozenset().union(*(acting for _, acting in ACTING.values()), (named for named, _ in ACTING.values()))
    assert acting - {""} == {name for name, each in PARAMETERS.items() if "--help" not in each.opts}


@pytest.mark.parametrize(("mode", "name"), IDLE, ids=lambda each: each or "model")
def test_an_option_that_does_nothing_is_refused(answers, capsys, mode, name):
    parameter = PARAMETERS[name]
    values = {"model": os.path.dirname(answers[0]), "benchmark": answers[0], "dtype": "auto", "difficulty": "easy"}
    values |= {"predictions_format": "jsonl", "unit": "pixels", "time_unit": "seconds", "box_form": "xyxy"}
    values["protocol"] = "vue"
    if parameter.param_type_name == "argument":
        words = [values[name]]
    elif parameter.is_flag:
        words = parameter.opts[:1]
    else:
        words = [parameter.opts[0], values.get(name, "1")]
    given = [answers[1] if each == "FILE" else each for each in MODES[mode]]
    assert main(["evaluate", *words, *given]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    called = parameter.metavar if parameter.param_type_name == "argument" else parameter.opts[0]
    assert f"{called} does nothing with" in captured.err or f"{called} does nothing without" in captured.err


def test_answers_are_scored_by_one_process(answers, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["evaluate", answers[0], "--predictions", answers[1]]) == 1
    assert "answers of a file are scored by one process" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
def test_killed_at_random_every_item_is_answered_once(checkpoint, tmp_path, num_processes):
    """The whole of it, 500 clips and twenty kills, is `python tests/killed_evaluation.py`."""
    arguments = ["st-shapes", "--model", str(checkpoint), "--num-clips", "24", "--tasks", "rec", "tr", "tvg"]
    arguments += ["--max-new-tokens", "16", "--device", "cpu", "--batch-size", "4"]
    whole = killed_evaluation.run(tmp_path / "whole", arguments)
    folder = tmp_path / "killed"
    killed, counts = killed_evaluation.run_killed(folder, arguments, 72, 4, num_processes=num_processes)
    assert killed == whole
    assert len({line["id"] for line in killed}) == len(killed) == 72
    assert counts[0] < 72
