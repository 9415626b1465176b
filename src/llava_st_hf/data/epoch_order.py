"""The order in which the records of several sources are visited, computed from numbers alone.

The order of an epoch is a pure function of the sources' sizes, a seed and the epoch, and the same on every machine:
it rests on integer hashes (splitmix64), not on a random generator. It is dealt to lanes, one for each reader (a worker
of a process), so that a source that is read in blocks gives each block to one reader.

How: the passes over a source follow one upon the other, each shuffled anew, and an epoch takes the next records of
that endless line. Within an epoch the line is cut into one piece per lane, of which only the blocks at the cuts are
shared. In each lane the pieces of all sources are interleaved evenly, so that every stretch of the epoch has the
proportions of the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# Blocks whose records are shuffled among each other, and which a reader therefore has open at the same time.
NUM_BLOCKS_IN_WINDOW = 2
_MASK = 2**64 - 1
_HALF = np.uint64(32)
_LOW_HALF = np.uint64(2**32 - 1)
_GOLDEN = 0x9E3779B97F4A7C15
_HASHED_AT_ONCE = 1 << 16
_WINDOW_WORD = 1  # tells the hashes of different uses apart
_INTERLEAVING_WORD = 2


@dataclass(frozen=True)
class SourceOrder:
    """What the order needs to know of one source."""

    num_records: int  # number of records to choose from, at least 1
    num_visits: int  # how many of them an epoch visits
    seed: int  # seed of its shuffling
    # int64 of shape (blocks + 1,): block b holds the records from `block_bounds[b]` to `block_bounds[b + 1]`. Without
    # it, reading one record costs as much as reading it beside its neighbours.
    block_bounds: np.ndarray | None = None


def compute_hashes(size: int, *words: int) -> np.ndarray:
    """Return hashes, uint64 (size,), of the numbers below `size`; `words` such as a seed and an epoch choose them."""
    state = 0
    for word in words:
        state = int(_scramble(np.array([(state + word + _GOLDEN) & _MASK], dtype=np.uint64))[0])
    hashes = np.empty(size, dtype=np.uint64)
    for first in range(0, size, _HASHED_AT_ONCE):  # so that intermediate results stay small
        numbers = np.arange(first + 1, min(first + _HASHED_AT_ONCE, size) + 1, dtype=np.uint64)
        hashes[first : first + len(numbers)] = _scramble(numbers * np.uint64(_GOLDEN) + np.uint64(state))
    return hashes


def _scramble(values: np.ndarray) -> np.ndarray:
    """The output function of splitmix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def shuffle(size: int, *words: int) -> np.ndarray:
    """Return the numbers below `size`, up to 2^32, in an order that depends on `words` alone: uint32 (size,)."""
    return _sort_by(compute_hashes(size, *words))


def _sort_by(keys: np.ndarray) -> np.ndarray:
    """Return the places of keys (uint64, spent) in the order of their upper halves, equal ones as they stand."""
    # The place in the lower half makes all keys different: any way of sorting gives the same order, in place.
    keys &= ~_LOW_HALF
    keys |= np.arange(len(keys), dtype=np.uint32)
    keys.sort()
    return keys.astype(np.uint32)  # keeps the lower half


def compute_epoch_order(sources: Sequence[SourceOrder], epoch: int, batch_size: int, num_lanes: int) -> np.ndarray:
    """
    Return the records of one epoch in the order in which they are visited: uint32 (visits,), counted through all
    sources, which have fewer than 2^32 in all.

    Batches are counted through all epochs; batch b is of lane b mod `num_lanes`.
    """
    num_visits = sum(source.num_visits for source in sources)
    first = epoch * num_visits
    first_batch, last_batch = first // batch_size, -(-(first + num_visits) // batch_size)

    def find_slots(lane: int) -> np.ndarray:
        """Return the places in the epoch that belong to a lane."""
        batches = np.arange(first_batch + (lane - first_batch) % num_lanes, last_batch, num_lanes)
        slots = (batches[:, None] * batch_size + np.arange(-first, batch_size - first)).ravel()
        # The epoch may begin and end inside a batch.
        return slots[np.searchsorted(slots, 0) : np.searchsorted(slots, num_visits)]

    streams = _deal(sources, epoch, np.array([len(find_slots(lane)) for lane in range(num_lanes)], dtype=np.int64))
    order = np.empty(num_visits, dtype=np.uint32)
    for lane in range(num_lanes):
        order[find_slots(lane)] = _interleave([stream[lane] for stream in streams], epoch, lane)
    return order


def _deal(sources: Sequence[SourceOrder], epoch: int, room: np.ndarray) -> list[list[np.ndarray]]:
    """Return for each source and lane the records in the order in which the lane reads them."""
    streams, offset = [], 0
    for source in sources:
        lanes: list[list[np.ndarray]] = [[] for _ in room]
        # Cut whole passes out of the endless line of passes.
        first, last = epoch * source.num_visits, (epoch + 1) * source.num_visits
        while first < last:
            number, start = divmod(first, source.num_records)
            stop = min(source.num_records, start + last - first)
            ends = (stop - start) * np.cumsum(room) // room.sum()
            room = room - np.diff(ends, prepend=0)
            cuts = [start, *(start + ends).tolist()]
            for lane, piece in enumerate(_cut_pass(source, number, cuts)):
                piece += np.uint32(offset)
                lanes[lane].append(piece)
            first += stop - start
        streams.append([pieces[0] if len(pieces) == 1 else np.concatenate(pieces) for pieces in lanes])
        offset += source.num_records
    return streams


def _cut_pass(source: SourceOrder, number: int, cuts: Sequence[int]) -> list[np.ndarray]:
    """Return the pieces between `cuts` of one shuffled pass over a source."""
    if source.block_bounds is None:
        line = shuffle(source.num_records, source.seed, number)
        return [line[first:last] for first, last in pairwise(cuts)]
    bounds = source.block_bounds
    order = shuffle(len(bounds) - 1, source.seed, number)
    sizes = np.diff(bounds)[order]
    ends = np.cumsum(sizes)
    pieces = []
    for first, last in pairwise(cuts):
        places = np.arange(first, last)
        block = np.searchsorted(ends, places, side="right")
        records = (bounds[order[block]] + places - (ends - sizes)[block]).astype(np.uint32)
        # Shuffled as a whole, then the windows are put into their order again.
        mixed = shuffle(len(places), source.seed, number, first, _WINDOW_WORD)
        window = (block - block[:1]) // NUM_BLOCKS_IN_WINDOW
        pieces.append(records[mixed[np.argsort(window[mixed], kind="stable")]])
    return pieces


def _interleave(streams: Sequence[np.ndarray], epoch: int, lane: int) -> np.ndarray:
    """Merge streams so that each is spread evenly over the whole."""
    keys = np.empty(sum(map(len, streams)), dtype=np.uint64)
    first = 0
    for number, stream in enumerate(streams):
        # Record j of n comes at a random place between j / n and (j + 1) / n.
        key = compute_hashes(len(stream), epoch, lane, number, _INTERLEAVING_WORD)
        key >>= _HALF
        key |= np.arange(len(stream), dtype=np.uint64) << _HALF
        key //= np.uint64(max(len(stream), 1))
        key <<= _HALF
        keys[first : first + len(stream)] = key
        first += len(stream)
    return np.concatenate(streams)[_sort_by(keys)]
