"""In which order items are asked: questions about one clip together, answers of like length in one batch.

The order depends on the benchmark and on the size of a batch only, not on how many processes there are nor on what was
answered before a stop: kernels round by what stands in a batch, so that only equal batches give equal digits.
"""

from collections.abc import Mapping, Sequence

from ..data.samples import Sample
from ..data.skips import RecordError
from .benchmarks.base import Benchmark

_BATCHES = 4  # of a window, so that there is a choice of items of like length
_MIN_ITEMS, _MIN_WINDOWS = 8, 8  # so that many processes have something to do on a small benchmark


def split_into_windows(benchmark: Benchmark, batch_size: int) -> list[list[int]]:
    """
    Split the items into parts that are read at a time, and that processes share; those about one clip stay together.

    `batch_size` is the number of questions asked at a time; returned are the numbers of the items of each part.
    """
    size = min(_BATCHES * batch_size, max(_MIN_ITEMS, len(benchmark) // _MIN_WINDOWS))
    if size > batch_size:
        size -= size % batch_size
    by_medium: dict[object, list[int]] = {}
    for index in range(len(benchmark)):
        by_medium.setdefault(benchmark.get_medium(index) or index, []).append(index)
    windows: list[list[int]] = [[]]
    for indices in by_medium.values():
        if windows[-1] and len(windows[-1]) + len(indices) > size:
            windows.append([])
        windows[-1] += indices
    return [window for window in windows if window]


def split_into_batches(
    benchmark: Benchmark, samples: Mapping[int, Sample | RecordError], batch_size: int
) -> list[list[int]]:
    """Split the items of a window, `samples` by their numbers, into batches of one task each: numbers of items."""
    by_task: dict[str, list[int]] = {}
    for index in samples:
        by_task.setdefault(benchmark.get_task(index), []).append(index)
    lengths = {index: _measure(sample) for index, sample in samples.items()}
    batches = []
    for indices in by_task.values():
        longest: dict[object, int] = {}  # by clip
        media = {index: benchmark.get_medium(index) or index for index in indices}
        for index, medium in media.items():
            longest[medium] = max(longest.get(medium, 0), lengths[index])
        places = {medium: place for place, medium in enumerate(longest)}
        indices.sort(key=lambda index: (longest[media[index]], places[media[index]], lengths[index], index))
        batches += [indices[first : first + batch_size] for first in range(0, len(indices), batch_size)]
    return batches


def _measure(sample: Sample | RecordError) -> int:
    """Return about how long question and answer are; of the answer, as the true one is."""
    messages: Sequence[Mapping[str, str]] = () if isinstance(sample, RecordError) else sample.messages
    return sum(len(message["content"]) for message in messages)
