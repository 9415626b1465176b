"""`llava-st evaluate`, from the command line to the report."""

import json
import os
import subprocess
import sys
import typing

import pytest

from llava_st_cli import main
from llava_st_cli.app import make_program
from llava_st_cli.evaluate import evaluate
from llava_st_hf.data.shapes.scenes import DIFFICULTIES
from llava_st_hf.evaluation.benchmarks import st_shapes
from llava_st_hf.evaluation.protocols import PROTOCOLS


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
    assert out.strip() in (folder / "report.md").read_text()
    assert f"llava-st evaluate st-shapes --model {checkpoint} " in (folder / "report.md").read_text()
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
    assert main(["evaluate", "imagenet", "--model", str(checkpoint)]) == 2
    assert "st-shapes" in capsys.readouterr().err


def test_choices_are_those_of_the_library():
    parameters = {parameter.name: parameter for parameter in make_program().commands["evaluate"].params}
    assert parameters["seed"].default == st_shapes.FIRST_EVALUATION_SEED
    hints = typing.get_type_hints(evaluate)
    assert typing.get_args(hints["benchmark"]) == (st_shapes.StShapes.name,)
    assert sorted(typing.get_args(hints["difficulty"])) == sorted(DIFFICULTIES)
    assert sorted(typing.get_args(hints["protocol"])) == sorted(PROTOCOLS)


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
        predictions.append([{**json.loads(line), "seconds": None} for line in lines])
    assert predictions[0] == predictions[1]
    assert not list((tmp_path / "two").glob("predictions.rank*"))
