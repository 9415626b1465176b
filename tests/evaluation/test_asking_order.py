"""The order of asking: nothing lost, clips together, like lengths together, the same for any number of processes."""

import pytest

from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.skips import RecordError
from llava_st_hf.evaluation.asking_order import split_into_batches, split_into_windows
from llava_st_hf.evaluation.benchmarks.base import Benchmark


class Items(Benchmark):
    """Items of given clips, tasks and lengths of answers."""

    name = "items"

    def __init__(self, items: list[tuple[str | None, str, int]]):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def get_id(self, index: int) -> str:
        return str(index)

    def get_task(self, index: int) -> str:
        return self.items[index][1]

    def get_medium(self, index: int) -> str | None:
        return self.items[index][0]

    def read(self, index: int) -> Sample | RecordError:
        medium, task, length = self.items[index]
        messages = ({"role": "user", "content": "?"}, {"role": "assistant", "content": "a" * length})
        return Sample(str(index), "items", task, "video", (Media(path=medium or f"{index}.mp4"),), messages)


def split(benchmark: Items, batch_size: int) -> list[list[int]]:
    batches = []
    for window in split_into_windows(benchmark, batch_size):
        samples = {index: benchmark.read(index) for index in window}
        batches += split_into_batches(benchmark, samples, batch_size)
    return batches


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
def test_every_item_is_asked_once_with_others_of_its_task(batch_size):
    benchmark = Items([(None, ("tvg", "tr")[index % 3 == 0], index * 7 % 13 + 1) for index in range(101)])
    batches = split(benchmark, batch_size)
    assert sorted(index for batch in batches for index in batch) == list(range(101))
    assert max(map(len, batches)) <= batch_size
    assert all(len({benchmark.get_task(index) for index in batch}) == 1 for batch in batches)


def test_answers_of_like_length_are_in_one_batch():
    benchmark = Items([(None, "tvg", length) for length in (9, 1, 8, 2, 7, 3, 6, 4)])
    assert split(benchmark, 4) == [[1, 3, 5, 7], [6, 4, 2, 0]]


def test_questions_about_one_clip_follow_each_other():
    benchmark = Items([("abc"[index % 3], "tvg", index + 1) for index in range(12)])
    batches = split(benchmark, 4)
    assert [{benchmark.get_medium(index) for index in batch} for batch in batches] == [{"a"}, {"b"}, {"c"}]


def test_a_small_benchmark_has_work_for_several_processes():
    assert len(split_into_windows(Items([(None, "tvg", 1)] * 64), 64)) == 8
