"""CPU seconds that a question of ST-Shapes takes in an evaluation of the small model that ships, on one core.

Everything counts from the loaded model to the report: drawing clips, asking, scoring, blind baselines, pages. Not
importing and loading, which are printed beside it. With `--against` the same runs in turn on another checkout; the
answers and scores have to be the same.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py [--num-clips 100] [--tasks stvg tvg] [--against OTHER/src]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_RUN = """
import sys, time, torch
torch.set_num_threads(1)
from llava_st_hf import load_pipeline
from llava_st_hf.demo import SHIPPED_CHECKPOINT
from llava_st_hf.evaluation.benchmarks.st_shapes import StShapes
from llava_st_hf.evaluation.runner import evaluate
folder, num_clips, *tasks = sys.argv[1:]
ground = load_pipeline(SHIPPED_CHECKPOINT)
loaded = time.process_time()
evaluate(ground.model, ground.processor, StShapes(int(num_clips), tasks or None), folder, quiet=True)
print("cpu", loaded, time.process_time() - loaded)
"""


def measure(source: Path, folder: Path, arguments: list[str]) -> tuple[float, float, list]:
    """Return the CPU seconds of loading and of evaluating in a process of its own, and what was answered."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _RUN, str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    loading, seconds = map(float, done.stdout.split("cpu", 1)[1].split())
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    return loading, seconds, sorted([line["id"], line["answer"], line["scores"], line["baseline"]] for line in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, default=100, help="items of each task")
    parser.add_argument("--tasks", nargs="*", default=[])
    parser.add_argument("--against", type=Path, help="src folder of another checkout")
    options = parser.parse_args()
    arguments = [str(options.num_clips), *options.tasks]
    sources = [Path(__file__).resolve().parents[1] / "src", *([options.against] if options.against else [])]
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(source, Path(folder) / str(place), arguments) for place, source in enumerate(sources)]
    for source, (loading, seconds, answers) in zip(sources, found, strict=True):
        print(
            f"{source}: {1000 * seconds / len(answers):.1f} ms of CPU a question, {len(answers)} questions in "
            f"{seconds:.1f} s; {loading:.1f} s of importing and loading are not in it"
        )
    if options.against:
        equal = "the same" if found[0][2] == found[1][2] else "NOT THE SAME"
        print(
            f"CPU of a question / that of the other: {found[0][1] / found[1][1]:.2f}; answers and scores are {equal}"
        )


if __name__ == "__main__":
    main()
