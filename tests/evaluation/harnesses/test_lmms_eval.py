"""lmms-eval itself, in an environment of its own, with the shipped model: the metrics of `llava-st evaluate`."""

import json
import os
import subprocess
import venv

import pytest
from pip_environment import ROOT, run_pip

from llava_st_cli import main
from llava_st_hf.demo import SHIPPED_CHECKPOINT

pytestmark = pytest.mark.slow
# It cannot be installed beside this package with its requirements, and needs these of them.
HARNESS = ["lmms-eval==0.7.3"]
NEEDED = ["evaluate", "filelock<4", "httpx", "loguru", "pytablewriter", "pytz", "sacrebleu", "tenacity"]
TASKS = ["llava_st_shapes_stvg", "llava_st_shapes_rec", "llava_st_shapes_elc"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory, libraries):
    """A Python with lmms-eval and this package, and all else from that of the tests."""
    folder = tmp_path_factory.mktemp("lmms")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run_pip(python, "--no-deps", *HARNESS)
    run_pip(python, *NEEDED)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "libraries.pth").write_text(f"{libraries}\n")
    run_pip(python, "--no-deps", str(ROOT))
    return python


def test_metrics_are_equal_to_the_last_digit(environment, tmp_path):
    evaluated, tasks, output = tmp_path / "evaluated", tmp_path / "tasks", tmp_path / "output"
    choice = ["--model", str(SHIPPED_CHECKPOINT), "--tasks", "stvg", "rec", "elc", "--num-clips", "4"]
    sizes = ["--batch-size", "4", "--output-dir", str(evaluated), "--quiet"]
    assert main(["evaluate", "st-shapes", *choice, *sizes]) == 0
    assert main(["lmms-tasks", "--num-clips", "4", "--output-dir", str(tasks)]) == 0
    arguments = ["--model", "llava_st", "--model_args", f"pretrained={SHIPPED_CHECKPOINT}", "--batch_size", "4"]
    arguments += ["--tasks", ",".join(TASKS), "--include_path", str(tasks), "--output_path", str(output)]
    done = subprocess.run(
        [environment, "-m", "lmms_eval", *arguments, "--verbosity", "DEBUG"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "HF_HOME": str(tmp_path / "home")},
    )
    written = list(output.rglob("*_results.json"))
    assert done.returncode == 0 and len(written) == 1, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    results = json.loads(written[0].read_text())["results"]
    expected = json.loads((evaluated / "metrics.json").read_text())["tasks"]
    for name in TASKS:
        metrics = expected[name.rpartition("_")[2]]["metrics"]
        assert {metric: results[name][f"{metric},none"] for metric in metrics} == metrics
