import pytest

from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.utils.sizes import parse_size


@pytest.mark.parametrize("size", ["", "GB", "-1GB", "0", "two", "1TB"])
def test_sizes_that_are_none(size):
    with pytest.raises(InputError, match="size"):
        parse_size(size)


def test_sizes():
    assert [parse_size(text) for text in ("2GB", "1.5 mb", "1GiB", "100")] == [2 * 10**9, 1_500_000, 2**30, 100]
