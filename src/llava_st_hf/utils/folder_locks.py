"""One process at a time in an output folder: the second one is refused, and told who is there."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: there is no lock, as on file systems that have none
    fcntl = None

from ..processing import InputError
from .atomic_files import LOCK_FILE


@contextmanager
def locking_folder(folder: str | os.PathLike, purpose: str) -> Iterator[None]:
    """
    Keep a folder for this process; it is made where it does not exist, and removed again if nothing came into it.

    Args:
        folder (`str` or `os.PathLike`): The folder.
        purpose (`str`): What this process does there, for the message that another one gets.

    Raises:
        `InputError`: If another process is at work there, or the folder cannot be made.

    Example:

    ```python
    >>> with locking_folder("published", "publishes a data set"):
    ...     ...
    ```
    """
    folder = Path(folder)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output_dir is {folder}: it cannot be made ({error.strerror}), give another.") from error
    try:
        with locking(folder / LOCK_FILE, purpose):
            yield
    finally:
        if is_new:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def locking(path: str | os.PathLike, purpose: str) -> Iterator[None]:
    """Hold a lock file, which names its owner and goes with it, however the process ends; see `locking_folder`."""
    descriptor = _acquire(Path(path))
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}, which {purpose}".encode())
        yield
    finally:
        with suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except OSError as error:
            raise InputError(f"{path.parent} cannot be written to ({error.strerror}): give another.") from error
        if fcntl is None:
            return descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 1000).decode("utf-8", "replace") or "another process"
            os.close(descriptor)
            raise InputError(f"{path.parent} is in use by {owner}: wait for it, or name another.") from error
        except OSError:  # a file system without locks
            return descriptor
        with suppress(OSError):  # an owner that ended in between has removed the file
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)
