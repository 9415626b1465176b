"""How much memory a batch takes, and how many questions are asked at a time where it is too much."""

import contextlib
import re
import resource
import sys
from pathlib import Path

import torch

from ..processing import InputError
from ..utils.sizes import parse_size

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CPU_MESSAGE = re.compile(r"not enough memory|can't allocate memory|out of memory", re.IGNORECASE)
_PIXEL_BYTES = 3 * 2**29  # of the clips of one batch as floats: 8 of 100 frames of 384x384 pixels


class MemoryBudget:
    """
    Measures the peak of each batch, and halves the next ones where it is above a limit.

    On a GPU that is the memory of the device, and the limit holds for each allocation. Elsewhere it is that of the
    process, and a batch above the limit is noticed when it is done.

    Args:
        device (`torch.device`): Where the model is.
        max_memory (`str`, *optional*): The limit, such as `"16GB"`.

    Attributes:
        max_items (`int`): Most questions to be asked at a time.

    Raises:
        `InputError`: For a limit that is no size, or is used up before anything is asked.

    Example:

    ```python
    >>> budget = MemoryBudget(model.device, "16GB")
    >>> budget.begin()
    >>> answerer.answer(samples)
    >>> budget.end(len(samples))
    1234567890
    ```
    """

    def __init__(self, device: torch.device, max_memory: str | None = None):
        self.device = torch.device(device)
        self.max_items = sys.maxsize
        self._max_bytes = None
        if max_memory is None:
            return
        try:
            self._max_bytes = parse_size(max_memory)
        except InputError as error:
            raise InputError(str(error), field="max_memory") from error
        self.begin()
        if (used := self._read_peak()) >= self._max_bytes:
            raise InputError(
                f"max_memory is {max_memory}, and {used / 1e9:.2f} GB are in use before anything is asked: give more.",
                field="max_memory",
            )
        if self.device.type == "cuda":
            total = torch.cuda.get_device_properties(self.device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(self._max_bytes / total, 1.0), self.device)

    def begin(self) -> None:
        """Measure from here on."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            with contextlib.suppress(OSError):  # elsewhere than on Linux the peak is that of the whole run
                _RESET.write_text("5")

    def end(self, num_items: int) -> int:
        """Return the peak in bytes since `begin`; one above the limit halves further batches."""
        peak = self._read_peak()
        if self.is_above(peak):
            self.halve(num_items)
        return peak

    def is_above(self, peak: int) -> bool:
        """Tell whether a peak in bytes is above the limit."""
        return self._max_bytes is not None and peak > self._max_bytes

    def halve(self, num_items: int) -> None:
        """Ask at most half as many questions at a time as were too many; one at least."""
        self.max_items = min(self.max_items, max(1, num_items // 2))
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _read_peak(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        with contextlib.suppress(OSError, StopIteration):
            lines = _STATUS.read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there is not enough memory, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _CPU_MESSAGE.search(str(error)) is not None


def choose_batch_size(device: torch.device, num_frames: int, height: int, width: int) -> int:
    """Return how many questions are asked at a time: as many clips as 1.5 GB of pixels hold, up to 64."""
    return max(1, min(64, _PIXEL_BYTES // (num_frames * height * width * 3 * 4)))
