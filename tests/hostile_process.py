"""Runs commands on hostile input in a process of its own, which may neither grow nor last nor be answered."""

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MAX_RESIDENT_BYTES = 10**9
MAX_SECONDS = 300
_PROGRAM = """
import contextlib, io, json, os, sys, traceback
from llava_st_cli import main
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments) if isinstance(arguments, list) else exec(arguments, {}) or 0
        except BaseException:
            code = traceback.format_exc()
    print("\\0" + json.dumps([code, out.getvalue(), err.getvalue()]), file=sys.__stdout__, flush=True)
# Of this program alone: what `wait4` tells is at least the size of the process that started it.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print("peak " + peak, file=sys.__stdout__, flush=True)
"""


class Ended(NamedTuple):
    """How a command ended: its exit code, or the traceback of what it let through."""

    code: int | str
    out: str
    err: str


def run_commands(commands: Sequence[Sequence[object] | str], folder: Path, **environment: str) -> list[Ended]:
    """
    Run command lines of `llava-st`, one after the other in one process.

    Address space is no measure, since torch maps far more than it uses: resident memory is what is limited.

    Args:
        commands (`Sequence[Sequence[object] | str]`): What stands behind `llava-st`; a text is Python code instead.
        folder (`Path`): Where the process runs.
        environment (`str`): Further environment variables.

    Returns:
        `list[Ended]`: For each command; fails where the process does not live to the end, or takes too much.
    """
    texts = [each if isinstance(each, str) else list(map(str, each)) for each in commands]
    source = Path(__file__).parent.parent / "src"
    variables = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    begin = time.monotonic()
    with open(folder / "out.txt", "w+b") as out, open(folder / "answers.txt", "w+b") as answers:
        answers.write(b"y\n" * 1000)  # as `yes y |` gives to whoever asks
        answers.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(texts)],
            stdin=answers,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**variables, **environment},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS)),
        )
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0 and time.monotonic() - begin < MAX_SECONDS:
            time.sleep(0.05)
        if not ended[0]:
            process.kill()
            process.wait()
        out.seek(0)
        text = out.read().decode("utf-8", "replace")
    results = [Ended(*json.loads(line[1:])) for line in text.splitlines() if line.startswith("\0")]
    process.returncode = 0  # it has been waited for
    assert ended[0], f"still running after {MAX_SECONDS} s, at {texts[len(results)]}: {text[-2000:]}"
    assert len(results) == len(texts), f"the process died at {texts[len(results)]}: {text[-2000:]}"
    peak_bytes = int(re.findall(r"^peak (\d+)$", text, flags=re.MULTILINE)[-1]) * 1024
    assert peak_bytes < MAX_RESIDENT_BYTES, f"{peak_bytes / 1e9:.2f} GB"
    assert "[y/N]" not in text + "".join(each.out + each.err for each in results)
    return results


def check_refused(ended: Ended, *words: str) -> None:
    """Check that a command ended with one line on standard error that has some words."""
    assert ended.code == 1, ended
    assert not ended.out, ended
    lines = [line for line in ended.err.splitlines() if line.startswith("llava-st: error: ")]
    assert len(lines) == 1, ended.err
    assert "Traceback" not in ended.err
    assert ended.err.rstrip().endswith(lines[0]), ended.err
    for word in words:
        assert word in lines[0], (word, ended.err)
