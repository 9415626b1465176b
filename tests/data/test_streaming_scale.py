"""One epoch over as many records as ST-Align has: each once, in flat memory, resumed exactly, by 1 to 4 readers."""

import itertools
import resource
import tracemalloc

import numpy as np
import pytest
from torch.utils.data import DataLoader

from llava_st_hf.data.mixture import Mixture
from llava_st_hf.data.mixture_spec import MixtureSpec, SourceSpec

NUM_RECORDS, BLOCK = 4_331_000, 1000  # in row groups, as published Parquet has them
BATCH_SIZE = 512

pytestmark = pytest.mark.slow


class Numbers:
    """A source that is nothing but an index: record i is the number i."""

    source_names = ("numbers",)

    def __len__(self):
        return NUM_RECORDS

    def __getitem__(self, index):
        return index

    def get_block_sizes(self):
        return [BLOCK] * (NUM_RECORDS // BLOCK)


@pytest.fixture(autouse=True)
def numbers(monkeypatch):
    monkeypatch.setattr(SourceSpec, "open", lambda spec, num_frames=None: Numbers())


def make_mixture(num_readers):
    spec = MixtureSpec(datasets=(SourceSpec(json_path="numbers"),), seed=1)
    return Mixture(spec, batch_size=BATCH_SIZE, num_readers=num_readers)


def read(mixture, num_readers, first_batch=0):
    sampler = mixture.make_batch_sampler(first_batch)
    workers = num_readers if num_readers > 1 else 0
    return DataLoader(mixture, batch_sampler=sampler, num_workers=workers, collate_fn=np.array)


@pytest.mark.parametrize("num_readers", [1, 2, 3, 4])
def test_an_epoch_visits_each_record_once_and_resumes_anywhere(num_readers):
    mixture = make_mixture(num_readers)
    batches = list(read(mixture, num_readers))
    order = np.concatenate(batches)
    assert len(order) == NUM_RECORDS
    assert np.array_equal(np.sort(order), np.arange(NUM_RECORDS))
    assert abs(np.corrcoef(order[::100], np.arange(0, NUM_RECORDS, 100))[0, 1]) < 0.05
    # A row group is fetched by one reader, but for those at the borders.
    lanes = np.arange(NUM_RECORDS) // BATCH_SIZE % num_readers
    readers_of_block = [len(set(found)) for found in np.split(lanes[np.argsort(order)], NUM_RECORDS // BLOCK)]
    assert sum(count > 1 for count in readers_of_block) <= 2 * num_readers
    for first_batch in (1, len(batches) // 2 + 1, len(batches) - 3):
        resumed = list(itertools.islice(read(make_mixture(num_readers), num_readers, first_batch), 3))
        for one, other in zip(resumed, batches[first_batch:], strict=False):
            assert np.array_equal(one, other)


def test_memory_is_flat_over_the_epoch():
    mixture = make_mixture(1)
    tracemalloc.start()
    try:
        mixture[0]  # computes the order
        held, peak = tracemalloc.get_traced_memory()
        assert held < 6 * NUM_RECORDS
        assert peak < 50 * NUM_RECORDS
        tracemalloc.reset_peak()
        for index in range(0, NUM_RECORDS, 3):
            mixture[index]
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - held < 10**6 and after - held < 10**6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3 * 10**6  # kilobytes, torch included
