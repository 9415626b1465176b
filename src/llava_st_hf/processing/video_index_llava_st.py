"""What the index of an mp4 claims, held against the length of its file before FFmpeg takes memory for it.

The tables of an mp4 say in a few bytes how many samples a track has ("40 million of one byte each"), and FFmpeg makes
an entry of each of them as it opens the file. Every sample has a byte at least, so there cannot be more than bytes.
Boxes are read as FFmpeg reads them: wherever they stand, and one that is broken ends its level. Files of other kinds
have none of these names.
"""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, BinaryIO

import numpy as np

from .media_llava_st import MediaError, OversizedMediaError

# Samples of one track: 19 hours at 60 frames a second. Each takes some 60 bytes.
MAX_SAMPLES = 2**22
# An edit list may show all samples of a track again in each of its entries.
_MAX_EDITED_SAMPLES = 2**25
_MAX_BOXES = 2**22
_MAX_DEPTH = 16
_CONTAINERS = (
    *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"mvex", b"udta", b"wave", b"dinf"),
    *(b"sinf", b"schi", b"gmhd", b"tref", b"clip", b"matt"),
)
_TABLES = (b"stsz", b"stz2", b"stsc", b"stco", b"co64", b"stts", b"trun", b"elst")


def check_index(source: "str | os.PathLike | bytes", name: str) -> None:
    """
    Check that the index of an mp4 can be that of its file; any other file passes.

    Args:
        source (`str`, `os.PathLike` or `bytes`): Path of the file, or its content.
        name (`str`): What to call it in messages.

    Raises:
        `MediaError`: If it claims more samples than the file has bytes, or than are read.
    """
    is_path = isinstance(source, (str, os.PathLike))
    with open(source, "rb") if is_path else nullcontext(io.BytesIO(source)) as file:
        num_bytes = file.seek(0, os.SEEK_END)
        _Index(file, num_bytes, name).check(0, num_bytes)


class _Index:
    def __init__(self, file: BinaryIO, num_bytes: int, name: str):
        self.file, self.num_bytes, self.name = file, num_bytes, name
        self.num_boxes = 0
        self.num_in_fragments = 0
        self.track: dict[str, Any] = {}

    def check(self, start: int, end: int, depth: int = 0) -> None:
        """Check the boxes between two places of the file."""
        for kind, begin, stop in self._list_boxes(start, end):
            if kind in _CONTAINERS and depth < _MAX_DEPTH:
                if kind == b"trak":
                    self.track = {}
                self.check(begin, stop, depth + 1)
                if kind == b"trak":
                    self._check_track()
            elif kind == b"cmov":  # its packed tables cannot be seen
                raise MediaError(f"{self.name}: its index is compressed (cmov): convert the file with ffmpeg.")
            elif kind in _TABLES:
                self._read_table(kind, begin, stop)

    def _list_boxes(self, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        while start + 8 <= end:
            self.num_boxes += 1
            if self.num_boxes > _MAX_BOXES:
                raise OversizedMediaError(f"{self.name}: it has more than {_MAX_BOXES:,} boxes; convert it anew.")
            self.file.seek(start)
            size, kind = struct.unpack(">I4s", self.file.read(8))
            begin = start + 8
            if size == 1:
                content = self.file.read(8)
                if len(content) < 8:
                    return
                (size,), begin = struct.unpack(">Q", content), start + 16
            stop = end if size == 0 else min(start + size, end)
            if stop < begin:
                return
            yield kind, begin, stop
            start = stop

    def _read_table(self, kind: bytes, begin: int, stop: int) -> None:
        self.file.seek(begin)
        head = self.file.read(min(20, stop - begin)).ljust(20, b"\0")
        first, second = struct.unpack(">II", head[4:12])
        if kind == b"trun":
            self.num_in_fragments += first
            self._check_count(self.num_in_fragments)
        elif kind in (b"stsz", b"stz2"):
            self._check_count(second)
            self.track["num_samples"] = second
        elif kind == b"elst":
            self.track["num_edits"] = min(first, (stop - begin) // 12)
        elif kind == b"stts":
            # The samples of raw sound are indexed in groups.
            self.track["is_raw_sound"] = first == 1 and struct.unpack(">I", head[12:16])[0] == 1
        elif kind == b"stsc":
            self.file.seek(begin + 8)
            content = self.file.read(max(0, min(first * 12, stop - begin - 8)))
            rows = np.frombuffer(content[: len(content) // 12 * 12], dtype=">u4").reshape(-1, 3)
            self.track["chunks"] = rows[:, :2].astype(np.int64)
        else:
            self.track["num_chunks"] = min(first, (stop - begin) // 4)

    def _check_count(self, num_samples: int) -> None:
        if num_samples > self.num_bytes:
            raise MediaError(
                f"{self.name}: its index claims {num_samples:,} samples, more than its {self.num_bytes:,} bytes can "
                "hold; it is damaged or cut short: copy, download or convert it again."
            )

    def _check_track(self) -> None:
        """Check a track that was read whole: how many entries FFmpeg makes of it."""
        num_samples = self.track.get("num_samples", 0)
        if num_samples > MAX_SAMPLES and not self.track.get("is_raw_sound"):
            raise OversizedMediaError(
                f"{self.name}: a track of it has {num_samples:,} samples, more than the limit of {MAX_SAMPLES:,}; cut "
                "the clip into parts."
            )
        if num_samples * self.track.get("num_edits", 0) > _MAX_EDITED_SAMPLES:
            raise OversizedMediaError(
                f"{self.name}: a track of it is cut into {self.track['num_edits']:,} pieces by an edit list: convert "
                "the file with ffmpeg."
            )
        chunks, num_chunks = self.track.get("chunks"), self.track.get("num_chunks", 0)
        if chunks is None or not len(chunks):
            return
        ends = np.append(chunks[1:, 0], num_chunks + 1)
        num_in_chunks = int((np.clip(ends - chunks[:, 0], 0, num_chunks) * chunks[:, 1].astype(object)).sum())
        self._check_count(num_in_chunks)


__all__ = ["MAX_SAMPLES", "check_index"]
