"""
Processes that start with the libraries imported, where a process of its own is needed and its start is not what is
tested: importing them takes longer than most of what is done there.

The first one starts a server that imports them, once for this process; each further process is a fork of that one.
"""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

# Those that read settings when they are imported read them in the server.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["llava_st_hf.training.run", "llava_st_hf.evaluation", "llava_st_hf.visualization"])


def start(
    function: Callable,
    *arguments: object,
    folder: Path,
    environment: dict[str, str] | None = None,
    output: Path | None = None,
    answers: Path | None = None,
) -> BaseProcess:
    """
    Start a function of a module in a process of its own.

    Args:
        function (`Callable`): The function; modules are imported anew there, so that nothing of this process is seen.
        arguments (`object`): Its arguments, which are pickled.
        folder (`Path`): Where the process runs.
        environment (`dict[str, str]`, *optional*): Further environment variables, set before the function is called.
        output (`Path`, *optional*): File for what it prints and for its traceback; by default those of this process.
        answers (`Path`, *optional*): File that it reads as its standard input, which is empty by default.

    Returns:
        `BaseProcess`: The process; its `exitcode` is 1 where the function raised.
    """
    with mock.patch.dict(os.environ, _ENVIRONMENT):
        forkserver.ensure_running()
    work = (function, arguments, folder, environment or {}, output, answers)
    process = _CONTEXT.Process(target=_work, args=work)
    process.start()
    return process


def run_together(function: Callable, num_processes: int, folder: Path, *arguments: object) -> None:
    """Call `function(folder, *arguments)` in processes that train together, each of which must come to its end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": num_processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": probe.getsockname()[1]}
    shared |= {"LOCAL_WORLD_SIZE": num_processes, "GLOO_SOCKET_IFNAME": "lo", "ACCELERATE_USE_CPU": "true"}
    outputs = [folder / f"output-{rank}.txt" for rank in range(num_processes)]
    processes = [
        start(
            function,
            folder,
            *arguments,
            folder=folder,
            environment={**shared, "RANK": rank, "LOCAL_RANK": rank},
            output=output,
        )
        for rank, output in enumerate(outputs)
    ]
    try:
        for process in processes:
            process.join(300)
    finally:
        for process in processes:
            process.kill()
    printed = "\n".join(output.read_text() for output in outputs)
    assert [process.exitcode for process in processes] == [0] * num_processes, printed


def _work(
    function: Callable,
    arguments: tuple,
    folder: Path,
    environment: dict[str, str],
    output: Path | None,
    answers: Path | None,
) -> None:
    os.chdir(folder)
    os.environ.update({name: str(value) for name, value in environment.items()})
    os.dup2(os.open(answers or os.devnull, os.O_RDONLY), 0)
    if output is not None:
        sys.stdout.flush()
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
    function(*arguments)
