"""`llava-st evaluate`, from the command line to the report."""

import json
import os
import subprocess
import sys
import time
import typing

import pytest
from truth_files import write_hc_stvg

from llava_st_cli import main
from llava_st_cli.app import make_program
from llava_st_cli.evaluate import AnswerFile, ShapesChoice, evaluate
from llava_st_hf.data.shapes.scenes import DIFFICULTIES
from llava_st_hf.evaluation.benchmarks import st_shapes
from llava_st_hf.evaluation.prediction_forms import FORMS
from llava_st_hf.evaluation.predictions import BOX_UNITS
from llava_st_hf.evaluation.protocols import PROTOCOLS
from llava_st_hf.evaluation.truths import draw_truths


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
        (("HC", "--predictions", "FILE", "--audit", "FILE"), "exclude each other"),
        (("HC", "--predictions", "FILE", "--predictions-format", "qwen"), "unit is missing"),
        (("HC", "--predictions", "nowhere.jsonl"), "cannot be read"),
        (("HC", "--predictions", "FILE", "--protocol", "judge"), "give --predictions-format judged"),
        (("HC", "--predictions", "FILE", "--task", "tvg", "--protocol", "vue"), "scores none of the items"),
    ],
)
def test_answers_that_cannot_be_scored_are_one_line(answers, capsys, arguments, message):
    names = {"HC": answers[0], "FILE": answers[1]}
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


@pytest.mark.slow
def test_two_processes_give_what_one_gives(checkpoint, tmp_path):
    arguments = ["evaluate", "st-shapes", "--model", str(checkpoint), "--num-clips", "3", "--tasks", "rec", "tr"]
    arguments += ["--max-new-tokens", "16", "--device", "cpu", "--batch-size", "2", "--output-dir"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    outputs = []
    for name, launcher in (("one", []), ("two", launch)):
        command = [sys.executable, *launcher, "-m", "llava_st_cli", *arguments, str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert outputs[0].count("| rec ") == 1
    predictions = []
    for name in ("one", "two"):
        lines = (tmp_path / name / "predictions.jsonl").read_text().splitlines()
        predictions.append([{**json.loads(line), "seconds": None, "peak_bytes": None} for line in lines])
    assert predictions[0] == predictions[1]
    assert not list((tmp_path / "two").glob("predictions.rank*"))


@pytest.mark.slow
def test_killed_three_times_every_item_is_answered_once(checkpoint, tmp_path):
    """SIGKILL at moments that differ; the file is that of a run without a stop, but for time and memory."""
    arguments = ["evaluate", "--model", str(checkpoint), "--num-clips", "24", "--tasks", "rec", "tr", "tvg"]
    arguments += ["--max-new-tokens", "16", "--device", "cpu", "--batch-size", "4", "--output-dir"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "llava_st_cli", *arguments]
    subprocess.run([*command, str(tmp_path / "whole")], env=environment, check=True, capture_output=True, timeout=300)
    file, counts = tmp_path / "killed" / "predictions.jsonl", []
    for target in (1, 20, 45):  # lines
        process = subprocess.Popen(
            [*command, str(tmp_path / "killed")],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and (not file.exists() or file.read_bytes().count(b"\n") < target):
            time.sleep(0.01)
        process.kill()
        process.wait()
        counts.append(file.read_bytes().count(b"\n"))
    assert 1 <= counts[0] < 72 and counts[-1] < 72  # stopped in the middle
    subprocess.run([*command, str(tmp_path / "killed")], env=environment, check=True, capture_output=True, timeout=300)
    found = []
    for name in ("whole", "killed"):
        lines = (tmp_path / name / "predictions.jsonl").read_text().splitlines()
        found.append([{**json.loads(line), "seconds": None, "peak_bytes": None} for line in lines])
    assert found[0] == found[1]
    assert len({line["id"] for line in found[1]}) == len(found[1]) == 72
