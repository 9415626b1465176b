"""What is missing of a video file, told by how its parts are joined: FFmpeg goes on behind a damage without a word.

Every part of a container says how long it is, so that the next one begins behind it. Where none does, bytes were lost
or overwritten. What codecs pack is not looked into: of those without check sums any bytes make a picture.
"""

import io
import mmap
import os
import re
import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .matroska_index_llava_st import CLUSTER, EBML_START, SEGMENT, TOP_PARTS, read_head

# Bytes with their bits in reverse: the check sums of Ogg and FFV1 take them from the highest on, zlib's does not.
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MXF_PARTITION = bytes.fromhex("060e2b34020501010d01020101")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
# The number of bytes in the script data of an FLV.
_FLV_LENGTH = re.compile(rb"\0\x08filesize\0(.{8})", re.DOTALL)
# Parts of a file that are looked at; each takes a microsecond.
_MAX_PARTS = 2**22
_Walk = Generator[None, None, tuple[int | None, int]]
# So many times frames of an AVI may be missing, and so many at once; by so many packets a place is found again.
_MAX_JUMPS, _MAX_LOST, _MAX_COMPARED = 64, 4096, 8
# What stands in a Matroska, its segments and their clusters.
_MATROSKA_PARTS = TOP_PARTS | {0x1A45DFA3, SEGMENT, 0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0xAF, 0x5854, 0xEC, 0xBF}


def find_damage(source: "str | os.PathLike | bytes") -> tuple[str, ...]:
    """Return what is wrong with the parts of a file, in a sentence, or nothing of a sound or unknown one."""
    with _open(source) as content:
        walk = next((walk for start, walk in _WALKS.items() if re.match(start, content[:16], re.DOTALL)), None)
        place, num_stated = _go(walk(content)) if walk else (None, 0)
        if place is not None and place < len(content):
            damage = f"byte {place:,} of its {len(content):,} bytes does not begin a part of it, as it should"
        elif num_stated > len(content):
            damage = f"it has {len(content):,} bytes of the {num_stated:,} that it says"
        else:
            return ()
    return (f"the file is damaged: {damage}; frames may be missing or wrong",)


def _go(walk: _Walk) -> tuple[int | None, int]:
    """Return the end of a walk: the first place where no part begins as it should, and the length that is stated."""
    try:
        for _ in range(_MAX_PARTS):
            next(walk)
    except StopIteration as end:
        return end.value
    return None, 0


@contextmanager
def _open(source: "str | os.PathLike | bytes") -> Iterator[Any]:
    if not isinstance(source, (str, os.PathLike)):
        yield source if isinstance(source, bytes) else bytes(source)
        return
    with open(source, "rb") as file:
        if not os.fstat(file.fileno()).st_size:  # which cannot be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _walk_avi(content: Any) -> _Walk:
    end, place, num_stated = len(content), 0, 0
    while place + 8 <= min(end, len(content)):
        yield
        kind, length = bytes(content[place : place + 4]), _read(content, "<I", place + 4)
        if not kind.isascii() or not kind.decode().isprintable():
            return place, num_stated
        if length in (0, 2**32 - 1):
            pass  # it was not known yet, and never is where a file is written into a pipe
        elif kind == b"RIFF" and not place:
            end = num_stated = place + 8 + length
        elif content[place + 8 : place + 12] == b"movi" and not content.rfind(b"idx1") > place:
            num_stated = place + 8 + length  # behind the frames only the index is missing
        place += 12 if kind in (b"RIFF", b"LIST") else 8 + length + length % 2
    return (place if place > end + 1 else None), num_stated


def _walk_flv(content: Any) -> _Walk:
    stated = _FLV_LENGTH.search(content, 0, 2**16)
    num_stated = int(struct.unpack(">d", stated[1])[0]) if stated else 0
    place = _read(content, ">I", 5) + 4
    while place + 15 <= len(content):
        yield
        kind, length = content[place] & 31, _read(content, ">I", place) & 0xFFFFFF
        if kind not in (8, 9, 15, 18) or any(content[place + 8 : place + 11]):
            return place, num_stated
        place += 15 + length
    return place, max(num_stated, place - 4)  # behind the last tag its length may be missing


def _walk_fragments(content: Any) -> _Walk:
    """Walk an mp4; of one that is not in fragments the index says which frames it has."""
    place, has_fragments = 0, False
    while place + 8 <= len(content):
        yield
        length, kind = _read(content, ">I", place), bytes(content[place + 4 : place + 8])
        length = _read(content, ">Q", place + 8) if length == 1 else length or len(content) - place
        if length < 8 or not kind.isascii() or not kind.decode().isprintable():
            return (place if has_fragments else None), 0
        has_fragments |= kind == b"moof"
        place += length
    return (place, place) if has_fragments else (None, 0)


def _walk_ivf(content: Any) -> _Walk:
    place = _read(content, "<H", 6)
    while place + 12 <= len(content):
        yield
        place += 12 + _read(content, "<I", place)
    return place, place


def _walk_mxf(content: Any) -> _Walk:
    place = 0
    while place + 17 <= len(content):
        yield
        first = content[place + 16]
        num_length = 1 + (first & 127 if first > 128 else 0)
        length = int.from_bytes(content[place + 17 : place + 16 + num_length], "big") if num_length > 1 else first
        begin = place + 16 + num_length
        # One of these says where it is.
        is_partition = content[place : place + 13] == _MXF_PARTITION and content[place + 13] in (2, 3, 4)
        if content[place : place + 4] != _MXF_PARTITION[:4] or (
            is_partition and _read(content, ">Q", begin + 8) != place
        ):
            return place, 0
        place = begin + length
    return place, place


def _walk_ogg(content: Any) -> _Walk:
    place, numbers = 0, {}
    while place + 27 <= len(content):
        yield
        serial, number, total = struct.unpack("<III", content[place + 14 : place + 26])
        num_head = 27 + content[place + 26]
        stop = place + num_head + sum(content[place + 27 : place + num_head])
        page = bytes(content[place:stop])
        is_next = number == numbers.get(serial, number - 1) + 1
        is_right = stop > len(content) or _sum_up(page[:22] + bytes(4) + page[26:]) == total
        if page[:4] != b"OggS" or not is_next or not is_right:
            return place, 0
        numbers[serial], place = number, stop
    return place, place


def _walk_ts(content: Any) -> _Walk:
    start = 4 if content[4:5] == content[196:197] == b"G" else 0  # with the time of its arrival before each packet
    length = next((size for size in (188, 192, 204) if content[start + size : start + size + 1] == b"G"), None)
    if length is None or content[start : start + 1] != b"G":
        return None, 0
    yield
    is_right = np.frombuffer(content, dtype=np.uint8)[start::length] == ord("G")
    if not is_right.all():
        return start + length * int(np.argmin(is_right)), 0
    return None, -(-len(content) // length) * length


def _walk_asf(content: Any) -> _Walk:
    properties, data = content.find(_ASF_PROPERTIES), _read(content, "<Q", 16)
    if properties < 0 or _read(content, "<I", properties + 88) & 1:  # it was sent as it was recorded
        return None, 0
    num_stated, length = _read(content, "<Q", properties + 40), _read(content, "<I", properties + 92)
    num_packets = _read(content, "<Q", data + 40) if content[data : data + 16] == _ASF_DATA else 0
    for place in range(data + 50, min(data + 50 + num_packets * length, len(content)), length or 1):
        yield
        if content[place] != content[data + 50]:
            return place, num_stated
    return None, num_stated


def _walk_matroska(content: Any) -> _Walk:
    file, place, end = io.BytesIO(content) if isinstance(content, bytes) else content, 0, 0
    while place < min(len(content), end or len(content)):
        yield
        head = read_head(file, place)
        if head is None or head[0] not in _MATROSKA_PARTS:
            return place, end
        kind, length, num_head = head
        if kind == SEGMENT and length is not None:
            end = place + num_head + length
        place += num_head + (0 if kind in (SEGMENT, CLUSTER) or length is None else length)
    return None, max(place, end)


def find_avi_slots(source: "str | os.PathLike | bytes", number: int, packets: list[tuple[int, int]]) -> list[int]:
    """
    Find at which places of its track the frames of an AVI are that lost some: its index lists those that it had.

    Args:
        source (`str`, `os.PathLike` or `bytes`): The file.
        number (`int`): Of the track.
        packets (`list[tuple[int, int]]`): Place in the file and size of each of its packets.

    Returns:
        `list[int]`: One for each packet, ascending. Empty if none is missing, or it cannot be told which.
    """
    with _open(source) as content:
        begin = content.rfind(b"idx1") + 8
        index = bytes(content[begin : begin + _read(content, "<I", begin - 4)]) if begin > 8 else b""
    rows = np.frombuffer(index[: len(index) // 16 * 16], dtype="<u4").reshape(-1, 4).astype(np.int64)
    rows = rows[np.isin(rows[:, 0], [int.from_bytes(b"%02dd%c" % (number, kind), "little") for kind in b"bc"])]
    entries, is_held = rows[:, 2:].tolist(), rows[:, 3] > 0
    if not packets or len(packets) >= is_held.sum():
        return []
    slot_at, size_at = {offset: slot for slot, (offset, _) in enumerate(entries)}, dict(entries)
    # Behind a cut all lie nearer to the start, by as much as was lost up to there.
    last_shift = packets[-1][0] - int(rows[is_held, 2][-1])
    slots, shift, num_jumps = [-1], 0, 0
    for number, (place, size) in enumerate(packets):
        slot = slot_at.get(place - shift, -1)
        if slot <= slots[-1] or size_at[place - shift] != size:
            num_jumps += 1
            if num_jumps > _MAX_JUMPS:
                return []
            fits = {}  # frames may have the same size, so that those behind decide
            for slot, (offset, length) in enumerate(entries[slots[-1] + 1 :][:_MAX_LOST], slots[-1] + 1):
                if length == size:
                    moved = place - offset
                    following = packets[number : number + _MAX_COMPARED]
                    num_fitting = sum(size_at.get(start - moved) == length for start, length in following)
                    fits[slot] = num_fitting, moved == last_shift
            slot = max(fits, key=fits.get, default=slots[-1] + 1)  # one that was joined to others fits nowhere
            shift = place - entries[slot][0] if fits else shift
        slots.append(slot)
    return slots[1:] if slots[-1] < len(entries) else []


def is_damaged_ffv1(packet: bytes) -> bool:
    """Return whether a frame of FFV1 has right and wrong check sums: its decoder says nothing of a wrong one."""
    stop, is_right = len(packet), []
    while stop >= 8:
        start = stop - int.from_bytes(packet[stop - 8 : stop - 5], "big") - 8
        is_right.append(start >= 0 and _sum_up(packet[start:stop]) == 0)
        if start < 0:
            break  # a length is wrong, or its parts have no check sums
        stop = start
    return any(is_right) and not all(is_right)


def _sum_up(content: bytes) -> int:
    """Return the check sum (CRC-32) of bytes whose bits count from the highest on."""
    mirrored = zlib.crc32(content.translate(_REVERSED), 2**32 - 1) ^ (2**32 - 1)
    return int(f"{mirrored:032b}"[::-1], 2)


def _read(content: Any, form: str, place: int) -> int:
    """Return a number of the file, 0 behind its end."""
    part = content[place : place + struct.calcsize(form)]
    return struct.unpack(form, part)[0] if len(part) == struct.calcsize(form) else 0


_WALKS = {
    rb"RIFF....AVI": _walk_avi,
    rb"FLV": _walk_flv,
    rb"....(?:ftyp|styp|moov|moof)": _walk_fragments,
    rb"DKIF": _walk_ivf,
    rb"OggS": _walk_ogg,
    re.escape(_MXF_PARTITION): _walk_mxf,
    rb"(?:....)?G": _walk_ts,
    re.escape(_ASF_HEADER): _walk_asf,
    re.escape(EBML_START): _walk_matroska,
}


__all__ = ["find_avi_slots", "find_damage", "is_damaged_ffv1"]
