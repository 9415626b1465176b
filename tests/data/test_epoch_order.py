import numpy as np
import pytest

from llava_st_hf.data.epoch_order import SourceOrder, compute_epoch_order, compute_hashes, shuffle


def get_lanes(order, epoch, batch_size, num_lanes):
    """Return for each place of an epoch the lane that reads it."""
    return (epoch * len(order) + np.arange(len(order))) // batch_size % num_lanes


def make_blocks(*sizes):
    return np.cumsum([0, *sizes])


def test_the_order_is_the_same_on_every_machine():
    # The first outputs of splitmix64 for the seed 0, as published with it.
    assert compute_hashes(3).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert shuffle(10, 0, 1).tolist() == [9, 4, 1, 7, 5, 8, 0, 6, 3, 2]
    order = compute_epoch_order([SourceOrder(4, 4, 1), SourceOrder(3, 6, 2, make_blocks(2, 1))], 1, 2, 2)
    assert order.tolist() == [1, 5, 4, 4, 6, 0, 3, 6, 5, 2]


@pytest.mark.parametrize("size", [0, 1, 2, 70_000])
def test_shuffle_is_a_permutation_that_depends_on_every_word(size):
    orders = [shuffle(size, *words).tolist() for words in ((0, 0), (0, 0), (1, 0), (0, 1), (-1, 0), (2**64 + 1, 0))]
    assert all(sorted(order) == list(range(size)) for order in orders)
    assert orders[0] == orders[1]
    if size > 2:
        assert len({tuple(order) for order in orders}) == 4  # numbers that are equal below 2^64 are the same
        assert abs(np.corrcoef(orders[0], range(size))[0, 1]) < 0.02


@pytest.mark.parametrize("num_lanes", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_every_epoch_visits_every_record_as_often_as_asked(batch_size, num_lanes):
    sources = [
        SourceOrder(101, 101, 1),
        SourceOrder(37, 37, 2, make_blocks(5, 1, 9, 9, 9, 4)),
        SourceOrder(10, 30, 3),
        SourceOrder(20, 40, 4, make_blocks(7, 7, 6)),
        SourceOrder(1, 1, 5),
    ]
    wanted = np.repeat([1, 1, 3, 2, 1], [101, 37, 10, 20, 1])
    orders = [compute_epoch_order(sources, epoch, batch_size, num_lanes) for epoch in range(4)]
    for order in orders:
        assert np.array_equal(np.bincount(order, minlength=len(wanted)), wanted)
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("bounds", [None, make_blocks(3, 4, 4, 2)])
def test_parts_of_a_pass_add_up_to_passes(bounds):
    # 5 of 13 per epoch: after 13 epochs each was visited 5 times, and never more than once more than another.
    visits = np.zeros(13, dtype=int)
    for epoch in range(13):
        order = compute_epoch_order([SourceOrder(13, 5, 0, bounds)], epoch, 2, 2)
        assert len(order) == 5
        visits += np.bincount(order, minlength=13)
        assert visits.max() - visits.min() <= 1
    assert visits.tolist() == [5] * 13


@pytest.mark.parametrize(("num_lanes", "batch_size"), [(1, 4), (2, 4), (4, 4), (4, 3)])
def test_lanes_touch_blocks_of_their_own(num_lanes, batch_size):
    num_blocks, size = 40, 10
    sources = [SourceOrder(400, 400, 0, make_blocks(*[size] * num_blocks)), SourceOrder(133, 133, 1)]
    for epoch in range(2):
        order = compute_epoch_order(sources, epoch, batch_size, num_lanes)
        lanes = get_lanes(order, epoch, batch_size, num_lanes)
        touched = [set((order[(lanes == lane) & (order < 400)] // size).tolist()) for lane in range(num_lanes)]
        # Only the blocks at the borders of lanes are read by two.
        assert sum(map(len, touched)) <= num_blocks + num_lanes - 1
        assert set.union(*touched) == set(range(num_blocks))
        assert max(map(len, touched)) <= num_blocks // num_lanes + 2


def test_a_lane_has_two_blocks_open_and_mixes_them():
    size = 10
    order = compute_epoch_order([SourceOrder(400, 400, 0, make_blocks(*[size] * 40))], 0, 4, 2)
    lane = order[get_lanes(order, 0, 4, 2) == 0]
    blocks = lane // size
    changes = [
        (first, last)
        for first, last in ((np.argmax(blocks == b), 199 - np.argmax(blocks[::-1] == b)) for b in set(blocks.tolist()))
    ]
    for place in range(len(lane)):
        assert sum(first <= place <= last for first, last in changes) <= 2
    assert (np.diff(blocks[:20]) != 0).sum() > 4
    assert lane[:10].tolist() != sorted(lane[:10].tolist())
    assert len(set(blocks[:20].tolist())) == 2


def test_every_stretch_has_the_proportions_of_the_whole():
    sources = [
        SourceOrder(6000, 6000, 0),
        SourceOrder(3000, 3000, 1, make_blocks(*[100] * 30)),
        SourceOrder(500, 1000, 2),
    ]
    for num_lanes in (1, 4):
        order = compute_epoch_order(sources, 0, 5, num_lanes)
        kinds = np.digitize(order, [6000, 9000])
        for stretch in np.split(kinds, 20):
            assert np.abs(np.bincount(stretch, minlength=3) - [300, 150, 50]).max() <= 5 * num_lanes


def test_repeated_passes_come_one_after_the_other():
    order = compute_epoch_order([SourceOrder(100, 300, 0)], 0, 1, 1)
    assert all(len(set(part.tolist())) == 100 for part in np.split(order, 3))


def test_an_epoch_may_begin_inside_a_batch():
    sources = [SourceOrder(30, 30, 0, make_blocks(*[5] * 6))]
    # 30 records in batches of 4: the second epoch begins in the middle of batch 7, which is of lane 1.
    for epoch in range(5):
        order = compute_epoch_order(sources, epoch, 4, 2)
        lanes = get_lanes(order, epoch, 4, 2)
        touched = [len(set((order[lanes == lane] // 5).tolist())) for lane in range(2)]
        assert sum(touched) <= 7
        assert sorted(order.tolist()) == list(range(30))
