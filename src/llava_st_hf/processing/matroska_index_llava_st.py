"""What a Matroska or WebM names beside its pictures: FFmpeg keeps all of it, and looks names up one by one.

An empty entry of two bytes becomes a record of many, and a hundred thousand tags take minutes. Elements are read as
FFmpeg reads them: where one is broken, the next of the first level is looked for.
"""

import re
from typing import BinaryIO

from .media_llava_st import OversizedMediaError

EBML_START = b"\x1a\x45\xdf\xa3"
# Tracks, tags, chapters or attachments of one file.
MAX_NAMED = 2**12
# All that stands outside of the clusters, the places of key frames first of all. Each takes some 50 bytes.
_MAX_ELEMENTS = 2**21
SEGMENT, CLUSTER = 0x18538067, 0x1F43B675
_NAMED = {0xAE: "tracks", 0x67C8: "tags", 0x7373: "tags", 0xB6: "chapters", 0x61A7: "attachments"}
TOP_PARTS = {0x1654AE6B, 0x1254C367, 0x1043A770, 0x1941A469, 0x1C53BB6B, 0x114D9B74, 0x1549A966, CLUSTER}
# Elements that hold others which are counted: those of the first level, an edition, a key frame.
_HOLDERS = {SEGMENT, *_NAMED, *TOP_PARTS, 0x45B9, 0xBB} - {CLUSTER}
_NEXT_TOP = re.compile(b"|".join(re.escape(number.to_bytes(4, "big")) for number in sorted(TOP_PARTS)))
_CHUNK_BYTES = 2**16


def check_matroska(file: BinaryIO, num_bytes: int, name: str) -> None:
    """
    Check how much a Matroska names.

    Args:
        file (`BinaryIO`): The file.
        num_bytes (`int`): Its length.
        name (`str`): What to call it in messages.

    Raises:
        `OversizedMediaError`: If it is more than any film has.
    """
    counts: dict[str, int] = {}
    num_elements, num_broken, place, ends = 0, 0, 0, [num_bytes]
    while place < num_bytes:
        while place >= ends[-1] and len(ends) > 1:
            ends.pop()
        head = read_head(file, place)
        if head is None or (head[1] is not None and place + head[2] + head[1] > num_bytes and head[0] not in _HOLDERS):
            num_broken += 1
            if num_broken > MAX_NAMED:
                raise OversizedMediaError(f"{name}: it is damaged in too many places: convert it with ffmpeg.")
            place, ends = _find_next(file, place + 1), [num_bytes]
            continue
        kind, length, num_head = head
        num_elements += 1
        what = _NAMED.get(kind, "elements")
        counts[what] = counts.get(what, 0) + 1
        if counts[what] > MAX_NAMED and kind in _NAMED:
            raise OversizedMediaError(f"{name}: it has more than {MAX_NAMED:,} {what}: convert it with ffmpeg.")
        if num_elements > _MAX_ELEMENTS:
            raise OversizedMediaError(
                f"{name}: it has more than {_MAX_ELEMENTS:,} elements beside its pictures: convert it with ffmpeg."
            )
        place += num_head
        if kind in _HOLDERS and length is not None:
            ends.append(min(place + length, num_bytes))
        elif kind not in _HOLDERS and length is not None:
            place += length


def read_head(file: BinaryIO, place: int) -> tuple[int, int | None, int] | None:
    """Return the number of an element, the length of its content, if that is known, and of its head."""
    file.seek(place)
    head = file.read(12)
    if not head or not head[0]:
        return None
    num_id = 9 - head[0].bit_length()
    if num_id > 4 or len(head) <= num_id or not head[num_id]:
        return None
    num_size = 9 - head[num_id].bit_length()
    field = head[num_id : num_id + num_size]
    if len(field) < num_size:
        return None
    largest = (1 << 7 * num_size) - 1
    length = int.from_bytes(field, "big") & largest
    return int.from_bytes(head[:num_id], "big"), None if length == largest else length, num_id + num_size


def _find_next(file: BinaryIO, place: int) -> int:
    """Return where the next element of the first level may start, or the end of the file."""
    while True:
        file.seek(place)
        chunk = file.read(_CHUNK_BYTES)
        if match := _NEXT_TOP.search(chunk):
            return place + match.start()
        if len(chunk) < _CHUNK_BYTES:
            return place + len(chunk)
        place += len(chunk) - 3


__all__ = ["CLUSTER", "EBML_START", "MAX_NAMED", "SEGMENT", "TOP_PARTS", "check_matroska", "read_head"]
