"""Writes files that claim, in a few bytes, more than there is."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from video_files import encode


def write_gif(num_frames: int) -> bytes:
    """Return a GIF of one pixel that is shown so many times."""
    pictures = [Image.new("P", (1, 1), color) for color in (0, 1)]
    pictures[0].save(file := io.BytesIO(), "GIF", save_all=True, append_images=pictures[1:], duration=10)
    content = file.getvalue()
    second = content.rindex(b"\x21\xf9")
    return content[:-1] + content[second:-1] * (num_frames - 1) + b";"


def write_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_png(width: int, height: int, num_frames: int | None = None) -> bytes:
    """Return a PNG that claims a size, and frames of an animation; there are rows of it as for its first 1000."""
    rows = zlib.compress(b"\0" * 1000)
    animation = b"" if num_frames is None else write_chunk(b"acTL", struct.pack(">II", num_frames, 0))
    control = struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 100, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            write_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            animation,
            b"" if num_frames is None else write_chunk(b"fcTL", control),
            write_chunk(b"IDAT", rows),
            write_chunk(b"IEND", b""),
        )
    )


def write_webp(num_frames: int, width: int = 16, height: int = 16) -> bytes:
    """Return an animated WebP that shows one frame so many times."""
    pictures = [Image.fromarray(np.full((height, width, 3), color, np.uint8)) for color in (0, 255)]
    pictures[0].save(file := io.BytesIO(), "WEBP", save_all=True, append_images=pictures[1:], duration=10)
    content = file.getvalue()
    first = content.index(b"ANMF")
    (size,) = struct.unpack("<I", content[first + 4 : first + 8])
    frame = content[first : first + 8 + size]
    body = content[8:first] + frame * num_frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def write_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def change_box(content: bytes, kind: bytes, change) -> bytes:
    """Return an mp4 with the content of the first box of a kind replaced by one of the same length or shorter."""
    start = content.index(kind) - 4
    (size,) = struct.unpack(">I", content[start : start + 4])
    changed = change(content[start + 8 : start + size])
    padding = size - 8 - len(changed)
    assert padding == 0 or padding >= 8
    filled = write_box(b"free", b"\0" * (padding - 8)) if padding else b""
    return content[:start] + write_box(kind, changed) + filled + content[start + size :]


def write_mp4(folder: Path, **options) -> bytes:
    path = folder / "whole.mp4"
    encode(path, **options)
    return path.read_bytes()


def write_claiming_mp4(folder: Path, num_samples: int = 4 * 10**7) -> bytes:
    """Return an mp4 of few bytes whose tables claim so many samples of one byte in one chunk."""
    content = write_mp4(folder, num_frames=40)
    content = change_box(content, b"stsz", lambda old: struct.pack(">III", 0, 1, num_samples))
    content = change_box(content, b"stts", lambda old: struct.pack(">IIII", 0, 1, num_samples, 512)[: len(old)])
    return change_box(content, b"stsc", lambda old: struct.pack(">IIIII", 0, 1, 1, num_samples, 1))


def write_claiming_fragment(folder: Path, num_samples: int = 4 * 10**7) -> bytes:
    """Return an mp4 in fragments, one of which claims so many samples that it says nothing of."""
    content = write_mp4(folder, num_frames=40, container_options={"movflags": "frag_keyframe+empty_moov"})
    return change_box(content, b"trun", lambda old: struct.pack(">III", 1, num_samples, 0))
