"""Encodes the video files that the tests read: every oddity of real files, small and made in a moment."""

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 25
X264 = {"preset": "ultrafast", "crf": "18", "threads": "1"}
B_FRAMES = "keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0:b-pyramid=normal:ref=3"


def draw_frame(index: int, width: int, height: int) -> np.ndarray:
    """Return a picture that differs from that of every other index: moving gradients and a bar. uint8, (h, w, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    red = (x * 3 + index * 7) % 256
    green = (y * 5 + index * 3) % 256
    blue = np.where((x + index) % width < 4, 255, (index * 11) % 256)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def encode(
    path: "Path | io.BytesIO",
    *,
    num_frames: int = 40,
    width: int = 64,
    height: int = 48,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    params: str = B_FRAMES,
    options: dict | None = None,
    container_options: dict | None = None,
    container_format: str | None = None,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    first_packet_shift: int = 0,
    audio: str | None = None,
) -> Path:
    """Encode a clip; `pts` are in `time_base`, `audio` is "first" or "only", `first_packet_shift` moves all stamps."""
    time_base = time_base or Fraction(1, RATE)
    target = path if isinstance(path, io.BytesIO) else str(path)
    with av.open(target, "w", format=container_format, options=container_options or {}) as container:
        sound = container.add_stream("aac", rate=16000) if audio else None
        if audio == "only":
            write_sound(container, sound)
            return path
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = time_base
        if codec == "libx264":
            stream.options = {**X264, "x264-params": params, **(options or {})}
        else:
            stream.options = options or {}
        if sound is not None:
            container.start_encoding()
            write_sound(container, sound)
        packets = []
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(draw_frame(index, width, height), format="rgb24")
            frame.pts = pts[index] if pts else index
            frame.time_base = time_base
            packets += stream.encode(frame)
        for packet in packets + stream.encode(None):
            if first_packet_shift:
                packet.pts += first_packet_shift * round(1 / (RATE * packet.time_base))
                packet.dts += first_packet_shift * round(1 / (RATE * packet.time_base))
            container.mux(packet)
    return path


def write_sound(container: "av.container.OutputContainer", stream: "av.audio.AudioStream") -> None:
    """Write half a second of silence."""
    for index in range(8):
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.time_base, sound.pts = 16000, Fraction(1, 16000), index * 1024
        container.mux(stream.encode(sound))
    container.mux(stream.encode(None))


def rotate_mp4(path: Path) -> Path:
    """Write a quarter turn into the track header, as a telephone held upright does."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # after version 0's fields
    struct.pack_into(">9i", data, matrix, 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def damage_packets(path: Path, first: int, last: int) -> Path:
    """Overwrite the video packets numbered `first` to `last` (in decoding order) with noise."""
    with av.open(str(path)) as container:
        spots = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0)
    for position, size in spots[first : last + 1]:
        data[position : position + size] = noise.integers(0, 256, size, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    return path


def decode_everything(path: "Path | io.BytesIO") -> tuple[np.ndarray, list[float]]:
    """Return what a full sequential decode gives: upright RGB (frames, 3, height, width), and seconds."""
    frames, seconds = [], []
    with av.open(path if isinstance(path, io.BytesIO) else str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
            seconds.append(None if frame.pts is None else float(frame.pts * frame.time_base))
    return np.stack(frames).transpose(0, 3, 1, 2), seconds


def encode_negative(path: Path) -> Path:
    """Encode 40 frames from -1 to 0.56 s: their clock of 33 bits, that of MPEG-TS, starts again within the clip."""
    stamps = [2**33 - 90000 + 3600 * index for index in range(40)]
    options = {"mpegts_copyts": "1"}
    return encode(path, pts=stamps, time_base=Fraction(1, 90000), container_options=options)


def encode_anamorphic(path, aspect=Fraction(64, 45), size=(90, 72), is_turned=False):
    """Write 10 frames whose pixels are not square."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height = size
        stream.pix_fmt, stream.sample_aspect_ratio = "yuv420p", aspect
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(draw_frame(index, *size), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return rotate_mp4(path) if is_turned else path


def encode_changing_size(path, sizes=((64, 48), (128, 96))):
    """Write 10 frames of one size and then 10 of another, in one track of MJPEG."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuvj420p"
        container.start_encoding()
        for index in range(20):
            size = sizes[index // 10]
            codec = av.CodecContext.create("mjpeg", "w")
            codec.width, codec.height, codec.pix_fmt, codec.time_base = *size, "yuvj420p", Fraction(1, 10)
            frame = av.VideoFrame.from_ndarray(draw_frame(index, *size), format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1, 10)
            for packet in [*codec.encode(frame), *codec.encode(None)]:
                packet.pts = packet.dts = index
                packet.time_base, packet.stream = Fraction(1, 10), stream
                container.mux(packet)
    return path
