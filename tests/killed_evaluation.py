"""Evaluations in processes of their own that are killed at random moments, and what is left in their folders.

As a script it asks the model that ships 500 clips, with one process, with two, and with one that is killed twenty
times; the three files have to be the same but for seconds and memory:

    python tests/killed_evaluation.py [--num-clips 500] [--kills 20] [--tasks tvg] [--seed 0]
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_COSTS = ("seconds", "peak_bytes")


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Return the predictions of a run that is done, without what they cost; nothing else is left of it."""
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert not list(folder.glob("predictions.rank*"))
    return [{name: value for name, value in line.items() if name not in _COSTS} for line in lines]


def start(folder: Path, arguments: Sequence[str], num_processes: int = 1) -> subprocess.Popen:
    """Start `llava-st evaluate` in a process group of its own."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    command = [sys.executable, *(launch if num_processes > 1 else []), "-m", "llava_st_cli", "evaluate", *arguments]
    return subprocess.Popen(
        [*command, "--output-dir", str(folder), "--quiet"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def run(folder: Path, arguments: Sequence[str], num_processes: int = 1) -> list[dict[str, Any]]:
    """Let an evaluation come to its end, and return its predictions."""
    assert start(folder, arguments, num_processes).wait(timeout=3600) == 0
    return read_lines(folder)


def run_killed(
    folder: Path, arguments: Sequence[str], num_items: int, kills: int, seed: int = 0, num_processes: int = 1
) -> tuple[list[dict[str, Any]], list[int]]:
    """Kill an evaluation at random moments, let it come to its end; returns predictions, and lines at each kill."""
    moments, counts = random.Random(seed), []
    for number in range(kills):
        done = count_lines(folder)
        left = max(num_items - done, 0)  # a kill while the files of the processes become one leaves lines twice
        target = done + moments.randint(0, 2 * left // (kills - number + 1))
        process = start(folder, arguments, num_processes)
        if target == done:  # while it starts
            time.sleep(moments.uniform(0, 8))
        while process.poll() is None and count_lines(folder) < target:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.2))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        counts.append(count_lines(folder))
    return run(folder, arguments, num_processes), counts


def count_lines(folder: Path) -> int:
    """Return how many lines there are, whole or cut off."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("predictions*.jsonl"))


def main() -> None:
    """Run all three and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("num-clips", 500), ("kills", 20), ("seed", 0), ("batch-size", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tasks", nargs="+", default=["tvg"])
    options = parser.parse_args()
    arguments = ["st-shapes", "--num-clips", str(options.num_clips), "--batch-size", str(options.batch_size)]
    arguments += ["--tasks", *options.tasks]
    num_items = options.num_clips * len(options.tasks)
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / each for each in ("one", "two", "killed")]
        one, two = (run(folder, arguments, count) for folder, count in zip(folders, (1, 2), strict=False))
        killed, counts = run_killed(folders[2], arguments, num_items, options.kills, options.seed)
        metrics = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    assert len({line["id"] for line in killed}) == len(killed) == num_items
    tasks = [{task: {**found, "seconds": 0} for task, found in each["tasks"].items()} for each in metrics]
    report = [
        f"{num_items} items, killed with {counts} of them written",
        f"two processes give what one gives: {one == two and tasks[0] == tasks[1]}",
        f"killed {options.kills} times, the same: {one == killed and tasks[0] == tasks[2]}",
    ]
    sys.stdout.write("\n".join(report) + "\n")
    sys.exit(not (one == two == killed and tasks[0] == tasks[1] == tasks[2]))


if __name__ == "__main__":
    main()
