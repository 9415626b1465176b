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


def append_box(content: bytes, path: tuple[bytes, ...], box: bytes) -> bytes:
    """Return an mp4 with one more box at the end of the one that a path of kinds leads to."""
    start = content.index(path[0]) - 4
    (size,) = struct.unpack(">I", content[start : start + 4])
    inner = content[start + 8 : start + size]
    inner = append_box(inner, path[1:], box) if len(path) > 1 else inner + box
    return content[:start] + write_box(path[0], inner) + content[start + size :]


def write_claiming_keys(folder: Path, num_keys: int = 2**26) -> bytes:
    """Return an mp4 that claims so many names of what is said about it, with and without the version of `meta`."""
    handler = write_box(b"hdlr", b"\0" * 8 + b"mdta" + b"\0" * 13)
    keys = write_box(b"keys", struct.pack(">II", 0, num_keys))
    version = b"\0" * 4 if num_keys % 2 else b""
    return append_box(write_mp4(folder, num_frames=4), (b"moov",), write_box(b"meta", version + handler + keys))


def write_claiming_avif(kind: bytes, num_items: int = 2**28 - 1) -> bytes:
    """Return an AVIF that claims so many pictures in its table of them (`iinf`) or of their places (`iloc`)."""
    handler = write_box(b"hdlr", b"\0" * 8 + b"pict" + b"\0" * 13)
    head = b"\1\0\0\0" if kind == b"iinf" else b"\2\0\0\0\x44\x40"
    table = write_box(kind, head + struct.pack(">I", num_items) + b"\0" * 100)
    return write_box(b"ftyp", b"avif\0\0\0\0avifmif1") + write_box(b"meta", b"\0" * 4 + handler + table)


def write_claiming_flv(folder: Path, num_rows: int = 2**28 - 1) -> bytes:
    """Return an FLV whose script claims so many key frames."""
    content = encode(folder / "whole.flv", num_frames=4, codec="flv1", container_format="flv").read_bytes()
    array = b"\x0a" + struct.pack(">I", num_rows)
    script = b"\x02\0\x0aonMetaData\x08\0\0\0\1\0\x09keyframes\x03"
    script += b"\0\x0dfilepositions" + array + b"\0" + struct.pack(">d", 1) + b"\0\x05times" + array + b"\0\0\x09"
    tag = b"\x12" + struct.pack(">I", len(script))[1:] + b"\0" * 7 + script
    return content[:13] + tag + struct.pack(">I", len(tag)) + content[13:]


def write_element(kind: str, content: bytes) -> bytes:
    return bytes.fromhex(kind) + (2**56 | len(content)).to_bytes(8, "big") + content


def write_naming_matroska(folder: Path, kind: str, content: bytes, before: bytes = b"") -> bytes:
    """Return a Matroska with one more element of the first level in front of its pictures, behind some bytes."""
    whole = encode(folder / "whole.mkv", num_frames=4, container_format="matroska").read_bytes()
    segment, cluster = whole.index(bytes.fromhex("18538067")), whole.index(bytes.fromhex("1f43b675"))
    unknown = b"\x01" + b"\xff" * 7
    added = before + write_element(kind, content)
    return whole[: segment + 4] + unknown + whole[segment + 12 : cluster] + added + whole[cluster:]


def write_tags(num_tags: int) -> bytes:
    """Return the tags of a Matroska, each of its own name: FFmpeg compares each with all before."""
    tags = (
        write_element("67C8", write_element("45A3", b"%06d" % k) + write_element("4487", b"x"))
        for k in range(num_tags)
    )
    return write_element("7373", b"".join(tags))


def write_commented_ogg(num_comments: int, writer: bytes = b"me") -> bytes:
    """Return the beginning of an Ogg of sound that claims so many comments."""
    packet = b"\x03vorbis" + struct.pack("<I", len(writer)) + writer + struct.pack("<I", num_comments) + b"\0" * 90
    return b"OggS\0\2" + b"\0" * 20 + b"\x01" + bytes([min(255, len(packet))]) + packet
