"""inspect-ai itself, in an environment of its own, with the shipped model: the metrics of `llava-st evaluate`."""

import json
import os
import subprocess

import pytest
from pip_environment import ROOT, make_environment, run_pip

from llava_st_cli import main
from llava_st_hf.demo import SHIPPED_CHECKPOINT

pytestmark = pytest.mark.slow
SCRIPT = """
import json, sys
from inspect_ai import eval
from llava_st_hf.evaluation.harnesses.inspect_task import grounding
found = {}
for name in sys.argv[2:]:
    (log,) = eval(grounding(f"tasks/llava_st_shapes_{name}.jsonl", sys.argv[1]), model=None, display="none")
    assert log.status == "success", log.error
    (score,) = log.results.scores
    found[name] = {each.name: each.value for each in score.metrics.values()}
print("found" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory, libraries):
    """A Python with inspect-ai and this package, and all else from that of the tests."""
    python = make_environment(tmp_path_factory.mktemp("inspect"), libraries)
    run_pip(python, "inspect-ai==0.3.285")
    run_pip(python, "--no-deps", str(ROOT))
    return python


def test_metrics_are_equal_to_the_last_digit(environment, tmp_path):
    names = ["stvg", "rec", "elc"]
    choice = ["--model", str(SHIPPED_CHECKPOINT), "--tasks", *names, "--num-clips", "4"]
    assert main(["evaluate", "st-shapes", *choice, "--output-dir", str(tmp_path / "evaluated"), "--quiet"]) == 0
    assert main(["lmms-tasks", "--num-clips", "4", "--output-dir", str(tmp_path / "tasks")]) == 0
    done = subprocess.run(
        [environment, "-c", SCRIPT, str(SHIPPED_CHECKPOINT), *names],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    expected = json.loads((tmp_path / "evaluated" / "metrics.json").read_text())["tasks"]
    found = json.loads(done.stdout.partition("found")[2])
    assert found == {name: expected[name]["metrics"] for name in names}
