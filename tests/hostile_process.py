"""Runs commands on hostile input in a process of its own, which may neither grow nor last nor be answered."""

import contextlib
import io
import json
import re
import resource
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import warm_process

from llava_st_cli import main

MAX_RESIDENT_BYTES = 10**9
MAX_SECONDS = 300


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
    output, answers = folder / "out.txt", folder / "answers.txt"
    answers.write_text("y\n" * 1000)  # as `yes y |` gives to whoever asks
    process = warm_process.start(
        _run_all, texts, folder=folder, environment=environment, output=output, answers=answers
    )
    process.join(MAX_SECONDS)
    is_ended = process.exitcode is not None
    process.kill()
    text = output.read_text("utf-8", "replace")
    results = [Ended(*json.loads(line[1:])) for line in text.splitlines() if line.startswith("\0")]
    assert is_ended, f"still running after {MAX_SECONDS} s, at {texts[len(results)]}: {text[-2000:]}"
    assert len(results) == len(texts), f"the process died at {texts[len(results)]}: {text[-2000:]}"
    peak_bytes = int(re.findall(r"^peak (\d+)$", text, flags=re.MULTILINE)[-1]) * 1024
    assert peak_bytes < MAX_RESIDENT_BYTES, f"{peak_bytes / 1e9:.2f} GB"
    assert "[y/N]" not in text + "".join(each.out + each.err for each in results)
    return results


def _run_all(commands: Sequence[Sequence[str] | str]) -> None:
    """Run commands, and print what came of each, and the most memory that was resident."""
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    for command in commands:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(command) if isinstance(command, list) else exec(command, {}) or 0
            except BaseException:  # noqa: BLE001 - whatever it is, it is reported
                code = traceback.format_exc()
        print("\0" + json.dumps([code, out.getvalue(), err.getvalue()]), file=sys.__stdout__, flush=True)
    # Of this process alone: what `wait4` tells is at least the size of the one that started it.
    status = Path("/proc/self/status").read_text()
    peak = re.search(r"^VmHWM:\s*(\d+) kB$", status, flags=re.MULTILINE)[1]
    print("peak " + peak, file=sys.__stdout__, flush=True)


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
