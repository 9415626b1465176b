"""What the index of a file claims, held against its length before FFmpeg takes memory or time for it.

The tables of an mp4 say in a few bytes how many samples a track has ("40 million of one byte each"), and FFmpeg makes
an entry of each of them as it opens the file. Every sample has a byte at least, so there cannot be more than bytes.
Boxes are read as FFmpeg reads them: wherever they stand, and one that is broken ends its level. Files of other kinds
have none of these names. Matroska, FLV and Ogg have claims of their own; what the others name is read with a deadline.
"""

import io
import mmap
import os
import re
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, BinaryIO

import numpy as np

from .matroska_index_llava_st import EBML_START, MAX_NAMED, check_matroska
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
# Tables of the names and pictures of a file, and how many bytes one of their rows has at least.
_ROWS = {b"keys": 8, b"iinf": 8, b"iloc": 6}
# An array of times or places in the script data of an FLV, and its length; a row has nine bytes.
_FLV_ARRAY = re.compile(rb"\0(?:\x05times|\x0dfilepositions)\x0a(.{4})", re.DOTALL)
# The comments of the codecs of an Ogg: the length of the name of their writer, which is short, and their number.
_OGG_COMMENTS = re.compile(rb"(?:\x03vorbis|OpusTags|\x81theora|OVP80\x02\x20)(.{4})", re.DOTALL)
_MAX_WRITER = 2**10


def check_index(source: "str | os.PathLike | bytes", name: str) -> None:
    """
    Check that the index of an mp4 can be that of its file; any other file passes.

    One that claims more samples than the file has bytes, or than are read, raises `MediaError`.
    """
    is_path = isinstance(source, (str, os.PathLike))
    with open(source, "rb") if is_path else nullcontext(io.BytesIO(source)) as file:
        num_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(4)
        if start == EBML_START:
            check_matroska(file, num_bytes, name)
        elif start[:3] == b"FLV" or start == b"OggS":
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if is_path else nullcontext(source) as content:
                (_check_flv if start[:3] == b"FLV" else _check_ogg)(content, num_bytes, name)
        else:
            _Index(file, num_bytes, name).check(0, num_bytes)


def _check_flv(content: Any, num_bytes: int, name: str) -> None:
    for match in _FLV_ARRAY.finditer(content):
        (num_rows,) = struct.unpack(">I", match[1])
        if num_rows * 9 > num_bytes:
            raise _make_claim_error(name, num_rows, "key frames", num_bytes)


def _check_ogg(content: Any, num_bytes: int, name: str) -> None:
    for match in _OGG_COMMENTS.finditer(content):
        (length,) = struct.unpack("<I", match[1])
        number = content[match.end() + length : match.end() + length + 4]
        if length > _MAX_WRITER or (len(number) == 4 and struct.unpack("<I", number)[0] > MAX_NAMED):
            raise OversizedMediaError(
                f"{name}: it has more than {MAX_NAMED:,} comments: convert the file with ffmpeg."
            )


def _make_claim_error(name: str, number: int, what: str, num_bytes: int) -> MediaError:
    return MediaError(
        f"{name}: its index claims {number:,} {what}, more than its {num_bytes:,} bytes can hold; it is damaged or "
        "cut short: copy, download or convert it again."
    )


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
            elif kind in _ROWS:
                self._check_rows(kind, begin, stop)
            elif kind == b"meta" and depth < _MAX_DEPTH:  # of four bytes more, or none: its first box says which
                self.file.seek(begin)
                head = self.file.read(min(16, stop - begin))
                self.check(begin + (4 if head[8:12] == b"hdlr" else 0), stop, depth + 1)

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

    def _check_rows(self, kind: bytes, begin: int, stop: int) -> None:
        """Check how many rows a table of names or pictures claims."""
        self.file.seek(begin)
        head = self.file.read(min(10, stop - begin)).ljust(10, b"\0")
        start = 6 if kind == b"iloc" else 4
        # Of these, earlier versions count in two bytes, which is never much.
        is_wide = kind == b"keys" or head[0] > (1 if kind == b"iloc" else 0)
        (num_rows,) = struct.unpack(">I", head[start : start + 4])
        if is_wide and num_rows * _ROWS[kind] > stop - begin:
            raise _make_claim_error(self.name, num_rows, "entries", self.num_bytes)

    def _check_count(self, num_samples: int) -> None:
        if num_samples > self.num_bytes:
            raise _make_claim_error(self.name, num_samples, "samples", self.num_bytes)

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
