"""The cache that grows in steps holds the same numbers as the one that copies itself."""

import torch
from transformers import DynamicCache

from llava_st_hf.inference.growing_cache import make_growing_cache


def test_it_holds_what_the_usual_cache_holds():
    torch.manual_seed(0)
    usual, growing = DynamicCache(), make_growing_cache()
    for length in (5, *[1] * 300, 40):
        for layer in range(2):
            new = torch.randn(2, 3, 2, length, 4)
            expected = usual.update(*new, layer)
            found = growing.update(*new, layer)
            assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))
    assert growing.get_seq_length() == usual.get_seq_length() == 345
    assert growing.get_mask_sizes(1, 0) == usual.get_mask_sizes(1, 0)


def test_some_rows_are_kept():
    torch.manual_seed(0)
    usual, growing = DynamicCache(), make_growing_cache()
    for rows, length in ((4, 5), (2, 1), (2, 200)):
        new = torch.randn(2, rows, 2, length, 4)
        expected, found = usual.update(*new, 0), growing.update(*new, 0)
        assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))
        if rows == 4:
            for cache in (usual, growing):
                cache.batch_select_indices(torch.tensor([0, 3]))
