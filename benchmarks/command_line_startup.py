"""CPU seconds of what the command line answers without a model: helps, versions, wrong arguments, files not there.

Each line is run as a process of its own, user and system time together, the smallest of the repeats. `train --help`
lists the keys of TRL's recipes and is printed apart, beside `import llava_st_hf`.

    python benchmarks/command_line_startup.py [--repeats 3]
"""

import argparse
import os
import shlex
import subprocess
import sys

from llava_st_cli.app import make_program

LIMIT_SECONDS = 0.8
COMMANDS = make_program().commands
LINES = [
    "--version",
    "--help",
    *(f"{name} --help" for name in COMMANDS if name != "train"),
    *(f"data {name} --help" for name in COMMANDS["data"].commands),
    "grond",
    "ground clip.mp4 query --frames many",
    "ground clip.mp4 query --task fly",
    "ground nowhere.mp4 query",
    "ground nowhere.mp4 query --model ./nowhere",
    "data check nowhere.jsonl",
    "evaluate st-shapes --model ./nowhere",
    "train nowhere.yaml",
]


def measure(arguments: list[str], repeats: int) -> float:
    """Return the CPU seconds of a process, children included."""
    seconds = []
    for _ in range(repeats):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        _, _, usage = os.wait4(process.pid, 0)
        seconds.append(usage.ru_utime + usage.ru_stime)
    return min(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    slowest = 0.0
    for line in LINES:
        seconds = measure(["-m", "llava_st_cli", *shlex.split(line)], repeats)
        slowest = max(slowest, seconds)
        print(f"{seconds:5.2f} s  llava-st {line}", flush=True)
    print(f"{measure(['-m', 'llava_st_cli', 'train', '--help'], 1):5.2f} s  llava-st train --help (not limited)")
    library = measure(["-c", "import llava_st_hf"], repeats)
    print(f"{library:5.2f} s  import llava_st_hf (not limited)")
    print(f"the slowest took {slowest:.2f} s of {LIMIT_SECONDS} s, {slowest / library:.2f} of the import")
    assert slowest <= LIMIT_SECONDS, f"{slowest:.2f} s is above {LIMIT_SECONDS} s"


if __name__ == "__main__":
    main()
