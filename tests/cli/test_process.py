"""How the process ends: Ctrl-C at any moment, a reader that goes away, and exit codes."""

import signal
import subprocess
import sys

import pytest

from llava_st_cli import main

SCRIPT = """
import os, signal, sys
from importlib.abc import MetaPathFinder
from llava_st_cli import process, running

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

class Destroyed:
    def __del__(self):
        interrupt()

class Finder(MetaPathFinder):  # Ctrl-C while a module is being imported
    def find_spec(self, name, path, target=None):
        if name == "torch":
            interrupt()

def while_importing():
    sys.meta_path.insert(0, Finder())
    import torch

def interrupt_and_go_on():
    interrupt()
    raise running.CommandError("the work went on")

def in_a_destructor():
    Destroyed()
    print("the work went on")

def twice():
    try:
        interrupt()
    except BaseException:
        interrupt()
    print("the work went on")

def at_the_end():
    import atexit
    atexit.register(interrupt)
    raise running.CommandError("nothing else")

def write_much():
    for _ in range(10_000):
        print("x" * 100)

running.check_exists = lambda *arguments: globals()[sys.argv[1]]()
process.main.__defaults__ = (["data", "check", "records.jsonl"],)
process.run()
"""


def run(what: str, interrupts: signal.Handlers = signal.SIG_DFL) -> subprocess.Popen:
    """Start the script; a job in the background of a shell passes on that it ignores interrupts, so this is set."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupts),
    )


@pytest.mark.parametrize("what", ["interrupt", "while_importing", "in_a_destructor", "twice"])
def test_ctrl_c_is_one_line_at_any_moment(what):
    process = run(what)
    assert process.communicate(timeout=60) == ("", "llava-st: interrupted\n")
    assert process.returncode == 130


def test_ctrl_c_when_all_is_done_needs_no_traceback():
    process = run("at_the_end")
    assert process.communicate(timeout=60)[1] == "llava-st: error: nothing else\nllava-st: interrupted\n"
    assert process.returncode == 130


def test_ctrl_c_that_is_ignored_stays_so():
    process = run("interrupt_and_go_on", interrupts=signal.SIG_IGN)
    assert process.communicate(timeout=60)[1] == "llava-st: error: the work went on\n"
    assert process.returncode == 1


def test_a_reader_that_has_seen_enough_is_no_error():
    process = run("write_much")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0


def test_the_handlers_are_as_they_were():
    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    assert main(["--version"]) == 0
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before
