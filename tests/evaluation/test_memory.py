"""Memory is measured for each batch, and a limit halves the next ones."""

import numpy as np
import pytest
import torch

from llava_st_hf.evaluation.memory import MemoryBudget, choose_batch_size, is_out_of_memory
from llava_st_hf.processing.media_llava_st import InputError


def test_the_peak_is_that_of_the_batch():
    budget = MemoryBudget(torch.device("cpu"))
    budget.begin()
    before = budget.end(1)
    array = np.ones(200_000_000, dtype=np.uint8)
    assert budget.end(1) >= before + 150_000_000
    del array


def test_a_batch_above_the_limit_halves_the_next():
    used = MemoryBudget(torch.device("cpu"))._read_peak()
    budget = MemoryBudget(torch.device("cpu"), f"{(used + 100_000_000) / 1e9:.3f}GB")
    budget.begin()
    budget.end(8)
    assert budget.max_items > 8
    array = np.ones(400_000_000, dtype=np.uint8)
    budget.end(8)
    assert budget.max_items == 4
    budget.end(1)
    assert budget.max_items == 1
    del array


@pytest.mark.parametrize(("limit", "message"), [("much", "size is 'much'"), ("1MB", "before anything is asked")])
def test_limits_that_cannot_hold(limit, message):
    with pytest.raises(InputError, match=message) as caught:
        MemoryBudget(torch.device("cpu"), limit)
    assert caught.value.field == "max_memory"


def test_errors_of_memory_are_told_from_others():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_batches_are_as_large_as_their_pixels_allow():
    assert choose_batch_size("cuda", 100, 384, 384) == 9
    assert choose_batch_size("cpu", 20, 72, 72) == 64
    assert choose_batch_size("cuda", 1000, 1000, 1000) == 1
