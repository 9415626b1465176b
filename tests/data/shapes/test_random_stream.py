import numpy as np
import pytest

from llava_st_hf.data.shapes.random_stream import RandomStream


def test_numbers_are_those_of_every_machine():
    rng = RandomStream(seed=7, index=3)
    assert [rng.integer(1000) for _ in range(5)] == [562, 358, 803, 864, 282]
    assert rng.uniform() == 0.9545600981541877
    assert rng.bytes(5).tolist() == [87, 15, 91, 76, 201]
    assert rng.shuffle(range(6)) == [3, 4, 2, 1, 5, 0]


def test_seed_index_and_stream_each_give_other_numbers():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**63 - 1, 0, 0)]
    assert len({RandomStream(*key).integer(2**60) for key in keys}) == len(keys)


def test_numpy_s_global_generator_has_no_part():
    np.random.seed(1)
    first = RandomStream(0, 0).uniform()
    np.random.seed(2)
    assert RandomStream(0, 0).uniform() == first


def test_numbers_are_even():
    rng = RandomStream(0, 0)
    counts = np.bincount([rng.integer(5) for _ in range(5000)], minlength=5)
    assert counts.min() > 900
    numbers = [rng.uniform(2, 4) for _ in range(5000)]
    assert 2 <= min(numbers) < 2.01 and 3.99 < max(numbers) < 4
    assert np.mean(numbers) == pytest.approx(3, abs=0.03)
    assert np.mean([rng.chance(0.2) for _ in range(5000)]) == pytest.approx(0.2, abs=0.02)
    firsts = np.bincount([rng.shuffle("abc").index("a") for _ in range(3000)])
    assert firsts.min() > 900


def test_split_keeps_the_total_and_the_minimums():
    for index in range(200):
        lengths = RandomStream(0, index).split(20, [4, 2, 4, 2], [1, 3, 1, 3])
        assert sum(lengths) == 20
        assert all(length >= least for length, least in zip(lengths, [4, 2, 4, 2], strict=True))
    assert RandomStream(0, 0).split(6, [4, 2], [1, 1]) == [4, 2]


def test_split_gives_larger_shares_more():
    lengths = np.array([RandomStream(1, index).split(100, [0, 0], [1, 3]) for index in range(500)])
    assert lengths[:, 1].mean() > 1.5 * lengths[:, 0].mean()
