"""The command line as a process: how it ends, and that Ctrl-C ends it at any moment without a traceback.

This is the first module that is imported, so it imports nothing that takes time.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

INTERRUPTED = 130  # as shells count a process that Ctrl-C ended
NOTICE = "llava-st: interrupted"


def run() -> NoReturn:
    """Be the process `llava-st`."""
    code = main()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: _leave())  # what libraries tidy up at the end
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command line.

    Args:
        arguments (`Sequence[str]`, *optional*): What stands behind `llava-st`; that of the process by default.

    Returns:
        `int`: The exit code, see `running.EXIT_CODES`.
    """
    given = tuple(sys.argv[1:] if arguments is None else arguments)
    with _interruptible():
        from .app import make_program

        try:
            make_program()(args=list(given), prog_name="llava-st", obj=given)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C raise `KeyboardInterrupt`, and end the process where that could get lost or ended badly before."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # the caller has a way of its own
        return
    process, hook, is_interrupted = os.getpid(), sys.unraisablehook, False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        if os.getpid() == process and (is_interrupted or _is_importing(frame)):
            _leave()
        is_interrupted = True
        raise KeyboardInterrupt

    def report(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt and os.getpid() == process:
            _leave()  # it was raised in a destructor or a callback, where nobody can catch it
        hook(unraisable)

    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_importing(frame: FrameType | None) -> bool:
    """Tell whether a module is being imported: compiled ones turn an interrupt into errors and tracebacks."""
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _leave() -> NoReturn:
    os.write(2, f"{NOTICE}\n".encode())
    os._exit(INTERRUPTED)
