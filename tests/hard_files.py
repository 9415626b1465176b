"""Writes clips of every kind that readers get wrong, each with the numbers, times and size of its frames."""

import io
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

MILLISECOND = Fraction(1, 1000)
_NUM_BITS = 6


def draw_number(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """Return a picture whose upper half has a number in stripes, and whose lower half is white at the left only."""
    picture = np.full((height, width), 90, dtype=np.uint8)
    for place in range(_NUM_BITS):
        stripe = slice(place * width // _NUM_BITS, (place + 1) * width // _NUM_BITS)
        picture[: height // 2, stripe] = 235 if number >> place & 1 else 20
    picture[height // 2 :, : width // 2] = 235
    return np.repeat(picture[:, :, None], 3, axis=2)


def read_number(image: np.ndarray) -> int | None:
    """Return the number of a picture; `None` for one that is not upright, or has none."""
    height, width = image.shape[:2]
    shade = image.astype(float).mean(2)
    stripes = [shade[height // 4, int((place + 0.5) * width / _NUM_BITS)] for place in range(_NUM_BITS)]
    left, right = (shade[3 * height // 4, width * part // 4] for part in (1, 3))
    if not (left > 180 > 140 > right > 50) or any(70 < stripe < 180 for stripe in stripes):
        return None
    return sum(1 << place for place, stripe in enumerate(stripes) if stripe >= 180)


@dataclass(frozen=True)
class HardFile:
    """
    What is right of a file.

    Args:
        path (`Path`): The file.
        seconds (`list[float]`): The time of each of its frames.
        size (`tuple[int, int]`): Width and height as it is displayed.
        numbers (`list[int]`): The number that each frame shows.
        notes (`tuple[str, ...]`): Words of each of the notes.
        end_seconds (`float`, *optional*): The end that is stated.
        tolerance (`float`): Of the times.
    """

    path: Path
    seconds: list[float]
    size: tuple[int, int] = (96, 64)
    numbers: list[int] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    end_seconds: float | None = None
    tolerance: float = 1e-4


def write(
    path: Path,
    *,
    codec: str = "libx264",
    pts: Iterable[int] = range(0, 2000, 100),
    time_base: Fraction = MILLISECOND,
    size: tuple[int, int] = (96, 64),
    pix_fmt: str = "yuv420p",
    options: dict | None = None,
    container_format: str | None = None,
    container_options: dict | None = None,
    prepare: Callable = lambda container, stream: None,
    finish: Callable = lambda container: None,
    draw: Callable = draw_number,
    rate: int = 10,
    data_first: bool = False,
) -> HardFile:
    """Write frames that show 0, 1, 2, ... at some times; `prepare` and `finish` may add to the container."""
    pts = list(pts)
    if codec == "libx264":
        options = {"preset": "ultrafast", "crf": "18", "x264-params": "bframes=2:keyint=8", **(options or {})}
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as container:
        if data_first:
            container.add_data_stream("klv")
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.options = options or {}
        stream.codec_context.time_base = time_base
        prepare(container, stream)
        container.start_encoding()
        for number, stamp in enumerate(pts):
            picture = draw(number, *size)
            frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        finish(container)
    return HardFile(path, [float(stamp * time_base) for stamp in pts], size, list(range(len(pts))))


def draw_see_through(number: int, width: int, height: int) -> np.ndarray:
    """Return the picture of a number with its white left to what is behind it."""
    picture = draw_number(number, width, height)
    alpha = np.where(picture[:, :, :1] > 200, 0, 255).astype(np.uint8)
    return np.concatenate([np.where(picture > 200, 0, picture).astype(np.uint8), alpha], axis=2)


def add_sound(seconds: float, start: float = 0.0) -> dict[str, Callable]:
    """Return what writes some seconds of silence beside a clip."""
    sounds = []

    def prepare(container, stream):
        sounds.append(container.add_stream("aac", rate=16000))

    def finish(container):
        for index in range(round(seconds * 16000 / 1024)):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.time_base = 16000, Fraction(1, 16000)
            silence.pts = index * 1024 + round(start * 16000)
            container.mux(sounds[0].encode(silence))
        container.mux(sounds[0].encode(None))

    return {"prepare": prepare, "finish": finish}


def add_cover(path: Path, container_format: str) -> HardFile:
    covers = []

    def prepare(container, stream):
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 192, 128, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        covers.append(cover)

    def finish(container):
        picture = av.VideoFrame.from_ndarray(draw_number(63, 192, 128), format="rgb24")
        container.mux([*covers[0].encode(picture), *covers[0].encode(None)])

    return write(path, prepare=prepare, finish=finish, container_format=container_format)


def attach_cover(path: Path) -> HardFile:
    content = io.BytesIO()
    Image.fromarray(draw_number(63, 192, 128)).save(content, "JPEG")
    return write(
        path, prepare=lambda container, _: container.add_attachment("cover.jpg", "image/jpeg", content.getvalue())
    )


def edit(path: Path, parts: list[tuple[int, int]]) -> HardFile:
    """Write a clip whose edit list shows some parts of it, each from a frame on for a number of frames."""
    found = write(path, options={"x264-params": "bframes=0:keyint=1"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        scale = container.streams.video[0].time_base
    start = data.index(b"edts") - 4
    end = start + int.from_bytes(data[start : start + 4], "big")
    rows = b"".join(
        struct.pack(">IiI", count * 100, round(first * Fraction(1, 10) / scale), 1 << 16) for first, count in parts
    )
    table = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(parts)) + rows
    new = struct.pack(">I4s", 8 + len(table), b"edts") + table
    for name in (b"moov", b"trak"):  # the index stands behind the frames
        place = data.index(name) - 4
        size = int.from_bytes(data[place : place + 4], "big") + len(new) - (end - start)
        data[place : place + 4] = size.to_bytes(4, "big")
    data[start:end] = new
    path.write_bytes(data)
    numbers = [first + k for first, count in parts for k in range(count)]
    return replace(found, seconds=[k / 10 for k in range(len(numbers))], numbers=numbers)


def add_track(path: Path, size: tuple[int, int], is_default: tuple[bool, bool] | None) -> HardFile:
    """Write a second track of black frames."""
    others = []

    def prepare(container, stream):
        other = container.add_stream("libx264", rate=5)
        other.width, other.height, other.pix_fmt = *size, "yuv420p"
        for track, default in zip((stream, other), is_default or (), strict=False):
            track.disposition = av.stream.Disposition.default if default else av.stream.Disposition(0)
        others.append(other)

    def finish(container):
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((size[1], size[0], 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 5)
            container.mux(others[0].encode(frame))
        container.mux(others[0].encode(None))

    found = write(path, prepare=prepare, finish=finish)
    return replace(found, notes=("2 video tracks",))


def turn(path: Path, degrees: int) -> HardFile:
    """Write frames that lie, which the file turns upright."""

    def draw(number, width, height):
        return np.ascontiguousarray(np.rot90(draw_number(number, *size), -degrees // 90))

    size = (96, 64) if degrees % 180 else (64, 96)
    stored = size[::-1] if degrees % 180 else size
    found = write(path, size=stored, draw=draw, prepare=lambda _, stream: stream.set_display_rotation(degrees))
    return replace(found, size=size)


def stretch(path: Path, aspect: Fraction, size: tuple[int, int], **options) -> HardFile:
    def prepare(container, stream):
        stream.sample_aspect_ratio = aspect

    found = write(path, size=size, prepare=prepare, **options)
    return replace(found, size=(round(size[0] * aspect), size[1]))


def cut(path: Path, first: int, count: int) -> HardFile:
    """Write a clip of which an edit list shows a part."""
    found = write(path, options={"x264-params": "bframes=0:keyint=8"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        scale = container.streams.video[0].time_base
    place = data.index(b"elst") + 12
    data[place : place + 4] = (count * 100).to_bytes(4, "big")  # in the movie's milliseconds
    data[place + 4 : place + 8] = round(first * Fraction(1, 10) / scale).to_bytes(4, "big")
    path.write_bytes(data)
    return replace(found, seconds=found.seconds[:count], numbers=list(range(first, first + count)))


def change_size(path: Path, codec: str, sizes=((96, 64), (192, 128))) -> HardFile:
    """Write ten frames of one size and ten of another into one track."""
    options = {"libx264": {"x264-params": "bframes=0", "preset": "ultrafast"}, "libvpx": {"deadline": "realtime"}}
    packets = []
    for part, size in enumerate(sizes):
        context = av.CodecContext.create(codec, "w")
        context.width, context.height = size
        context.pix_fmt, context.time_base, context.framerate = "yuv420p", Fraction(1, 10), Fraction(10)
        context.options, context.thread_count = options[codec], 1
        for number in range(10 * part, 10 * part + 10):
            frame = av.VideoFrame.from_ndarray(draw_number(number, *size), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            packets += context.encode(frame)
        packets += context.encode(None)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuv420p"
        stream.options = options[codec]
        container.start_encoding()
        for packet in packets:
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            container.mux(packet)
    seconds = [number / 10 for number in range(20)]
    return HardFile(path, seconds, sizes[0], list(range(20)), ("the size of the frames changes",))


def save_pictures(path: Path, delays: list[int], see_through: bool = False, **options) -> HardFile:
    """Write an animation with the milliseconds that each picture stays."""
    draw = draw_see_through if see_through else draw_number
    pictures = [Image.fromarray(draw(number, 96, 64)) for number in range(len(delays))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=delays, **options)
    shown = [delay if delay > 10 else 100 for delay in delays]
    seconds = [sum(shown[:k]) / 1000 for k in range(len(delays))]
    num_guessed = sum(delay <= 10 for delay in delays)
    notes = (f"{num_guessed} of its {len(delays)} pictures have no duration: it is guessed",) if num_guessed else ()
    return HardFile(path, seconds, (96, 64), list(range(len(delays))), notes=notes)


def drop_avi_index(path: Path) -> HardFile:
    found = write(path, codec="mpeg4", options={"b": "4000000"}, time_base=Fraction(1, 10), pts=range(20))
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"idx1")])
    return replace(found, notes=("its index is missing",))


def write_live(path: Path, **options) -> HardFile:
    """Write a clip to where nobody can go back: without a length, and without an index."""

    class Pipe(io.RawIOBase):
        def __init__(self):
            self.content = bytearray()

        def writable(self):
            return True

        def write(self, part):
            self.content += part
            return len(part)

    pipe = Pipe()
    found = write(path.with_suffix(".tmp" + path.suffix), **options)
    with (
        av.open(str(found.path)) as source,
        av.open(pipe, "w", format={".webm": "webm", ".mkv": "matroska"}[path.suffix], options={"live": "1"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    path.write_bytes(pipe.content)
    return replace(found, path=path)


def read_as_bare(path: Path, container_format: str, codec: str, **options) -> HardFile:
    stamps = {"time_base": Fraction(1, 10), "pts": range(20)}
    found = write(path, codec=codec, container_format=container_format, **stamps, **options)
    return replace(found, notes=("it holds no times",))


def join(path: Path) -> HardFile:
    """Write a clip with another one behind it, which players do not show."""
    found = write(path)
    other = write(path.with_suffix(".other.mp4"), pts=range(0, 1000, 100))
    path.write_bytes(path.read_bytes() + other.path.read_bytes())
    return found


def cut_out(path: Path, first: int, count: int) -> HardFile:
    """Write an AVI in which the bytes of some frames are missing."""
    options = {"b": "4000000", "g": "1"}
    found = write(path, codec="mpeg4", options=options, time_base=Fraction(1, 10), pts=range(20))
    with av.open(str(path)) as container:
        places = [packet.pos - 8 for packet in container.demux(video=0) if packet.size]
    content = path.read_bytes()
    path.write_bytes(content[: places[first]] + content[places[first + count] :])
    numbers = [number for number in found.numbers if not first <= number < first + count]
    notes = (f"it lists 20 frames up to its last, and holds {20 - count}", "the file is damaged: it has")
    return replace(found, seconds=[number / 10 for number in numbers], numbers=numbers, notes=notes)


def state_no_end(path: Path, value: int) -> HardFile:
    """Write a clip whose headers do not say how long it is: 0, or the largest number."""
    found = write(path)
    data = bytearray(path.read_bytes())
    for box, place in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        start = data.index(box) + place
        data[start : start + 4] = value.to_bytes(4, "big")
    path.write_bytes(data)
    return found


def turn_and_stretch(path: Path) -> HardFile:
    """Write frames that lie, of pixels twice as wide as high, which the file turns upright."""

    def prepare(container, stream):
        stream.sample_aspect_ratio = Fraction(2)
        stream.set_display_rotation(90)

    def draw(number, width, height):
        lying = Image.fromarray(np.ascontiguousarray(np.rot90(draw_number(number, height, 2 * width), -1)))
        return np.asarray(lying.resize((width, height)))

    return replace(write(path, size=(64, 48), draw=draw, prepare=prepare), size=(48, 128))


def add_data_track(path: Path) -> HardFile:
    """Write a track of other data before that of the pictures."""
    tracks = []

    def prepare(container, stream):
        tracks.append(container.streams.data[0])

    def finish(container):
        for number in range(4):
            packet = av.Packet(b"data")
            packet.stream, packet.time_base, packet.pts, packet.dts = tracks[0], MILLISECOND, *[500 * number] * 2
            container.mux(packet)

    return write(path, options={"x264-params": "bframes=0"}, prepare=prepare, finish=finish, data_first=True)


_VPX = {"deadline": "realtime", "cpu-used": "8", "b": "2000000"}
_MPEG = {"b": "6000000", "bf": "2", "g": "8"}
_AV1 = {"preset": "12", "svtav1-params": "lp=1"}
_HIDDEN = {"deadline": "good", "cpu-used": "4", "b": "600000", "auto-alt-ref": "1", "lag-in-frames": "16"}
_INTERLACED = {"b": "6000000", "flags": "+ildct+ilme"}
_UNEVEN = [0, 40, 80, 500, 540, 2000, 2033, 2067, 5000, 5100]


def _move(found: HardFile, seconds: float, **changes) -> HardFile:
    return replace(found, seconds=[second + seconds for second in found.seconds], **changes)


HARD_FILES: dict[str, Callable[[Path], HardFile]] = {
    "starts at 5 s.mkv": lambda p: write(p, pts=range(5000, 7000, 100)),
    "starts at 5 s.flv": lambda p: write(p, pts=range(5000, 7000, 100), options={"x264-params": "bframes=0:keyint=8"}),
    "starts at 5 s.asf": lambda p: write(p, pts=range(5000, 7000, 100), codec="wmv2", options={"b": "4000000"}),
    "delayed.mp4": lambda p: write(p, pts=range(2000, 4000, 100)),
    "starts at 5 s.ts": lambda p: write(p, pts=range(5000, 7000, 100)),
    "cut.mp4": lambda p: cut(p, 5, 10),
    "cut at a key frame.mov": lambda p: cut(p, 8, 9),
    "timecode.mov": lambda p: write(
        p, prepare=lambda container, stream: stream.metadata.update(timecode="01:00:00:00")
    ),
    "uneven.webm": lambda p: write(p, codec="libvpx-vp9", pts=_UNEVEN, options=_VPX),
    "uneven.mp4": lambda p: write(p, pts=_UNEVEN),
    "slow.mp4": lambda p: write(p, pts=range(0, 600000, 60000)),
    "29.97.mp4": lambda p: write(p, pts=range(0, 20020, 1001), time_base=Fraction(1, 30000)),
    "clip.flv": lambda p: write(p, options={"x264-params": "bframes=0:keyint=8"}),
    "clip.asf": lambda p: write(p, codec="wmv2", options={"b": "4000000"}),
    "clip.nut": lambda p: write(p, options={"x264-params": "bframes=0:keyint=8"}),
    "clip.3gp": lambda p: replace(  # pixels of H.263 are 12:11
        write(p, codec="h263", size=(176, 144), options={"b": "4000000"}), size=(192, 144)
    ),
    "clip.ogv": lambda p: write(p, codec="libvpx", options=_VPX, time_base=Fraction(1, 10), pts=range(20)),
    "clip.y4m": lambda p: write(
        p, codec="wrapped_avframe", container_format="yuv4mpegpipe", time_base=Fraction(1, 10), pts=range(20)
    ),
    "fragments.mp4": lambda p: write(
        p, container_options={"movflags": "frag_keyframe+empty_moov"}, options={"x264-params": "bframes=0:keyint=8"}
    ),
    "live.webm": lambda p: write_live(p, codec="libvpx", options=_VPX),
    "live.mkv": lambda p: write_live(p),
    "no index.avi": lambda p: drop_avi_index(p),
    "turned 90.mov": lambda p: turn(p, 90),
    "turned 180.mov": lambda p: turn(p, 180),
    "turned 270.mp4": lambda p: turn(p, 270),
    "turned 90.mkv": lambda p: turn(p, 90),
    "turned 270.mkv": lambda p: turn(p, 270),
    "wide pixels.mkv": lambda p: stretch(p, Fraction(64, 45), (90, 72)),
    "wide pixels.ts": lambda p: stretch(p, Fraction(64, 45), (90, 72), options={"x264-params": "bframes=0:keyint=8"}),
    "narrow pixels.mkv": lambda p: stretch(p, Fraction(8, 9), (90, 60)),
    "small default track.mkv": lambda p: add_track(p, (192, 128), (True, False)),
    "two tracks.mp4": lambda p: add_track(p, (48, 32), None),
    "cover.mp4": lambda p: add_cover(p, "mp4"),
    "attached cover.mkv": attach_cover,
    "two parts.mp4": lambda p: edit(p, [(2, 5), (12, 6)]),
    "twice.mp4": lambda p: edit(p, [(5, 5), (5, 5)]),
    "backwards.mov": lambda p: edit(p, [(10, 5), (0, 5)]),
    "two sizes.ts": lambda p: change_size(p, "libx264"),
    "two sizes.webm": lambda p: change_size(p, "libvpx"),
    "odd.webm": lambda p: write(p, codec="libvpx-vp9", size=(97, 65), options=_VPX),
    "odd.mkv": lambda p: write(p, codec="ffv1", size=(97, 65), pix_fmt="yuv444p"),
    "10 bits.mp4": lambda p: write(p, pix_fmt="yuv420p10le"),
    "10 bits.mkv": lambda p: write(
        p, codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": "log-level=none"}
    ),
    "yuv444.mp4": lambda p: write(p, pix_fmt="yuv444p"),
    "gray.mkv": lambda p: write(p, codec="ffv1", pix_fmt="gray"),
    "gray 16.mkv": lambda p: write(p, codec="ffv1", pix_fmt="gray16le"),
    "alpha.webm": lambda p: write(p, codec="libvpx-vp9", pix_fmt="yuva420p", options=_VPX, draw=draw_see_through),
    "alpha png.mov": lambda p: write(p, codec="png", pix_fmt="rgba", draw=draw_see_through),
    "alpha qtrle.mov": lambda p: write(p, codec="qtrle", pix_fmt="argb", draw=draw_see_through),
    "alpha prores.mov": lambda p: write(p, codec="prores_ks", pix_fmt="yuva444p10le", draw=draw_see_through),
    "alpha ffv1.mkv": lambda p: write(p, codec="ffv1", pix_fmt="bgra", draw=draw_see_through),
    "alpha.gif": lambda p: save_pictures(p, [100, 50, 400, 100], see_through=True, disposal=2),
    "alpha.png": lambda p: save_pictures(p, [100, 50, 400, 100], see_through=True, disposal=1),
    "alpha.webp": lambda p: save_pictures(p, [100, 50, 400, 100], see_through=True, lossless=True),
    "loops.gif": lambda p: save_pictures(p, [100] * 6, loop=3),
    "loops.png": lambda p: save_pictures(p, [100] * 6, loop=3),
    "no delays.gif": lambda p: save_pictures(p, [0] * 6),
    "no delays.png": lambda p: replace(save_pictures(p, [0] * 6), seconds=[k / 15 for k in range(6)]),
    "short delays.gif": lambda p: save_pictures(p, [20, 30, 40, 50]),
    "no delays.webp": lambda p: save_pictures(p, [0] * 6, lossless=True),
    "one frame.mp4": lambda p: write(p, pts=[0]),
    "one frame at 3 s.mkv": lambda p: write(p, pts=[3000]),
    "long sound.mp4": lambda p: replace(write(p, **add_sound(4)), end_seconds=4.0, notes=("its pictures end at 2",)),
    "short sound.mp4": lambda p: write(p, **add_sound(0.5)),
    "sound first.mkv": lambda p: write(p, pts=range(1000, 3000, 100), **add_sound(2)),
    "bare.h264": lambda p: read_as_bare(p, "h264", "libx264"),
    "bare.hevc": lambda p: read_as_bare(p, "hevc", "libx265", options={"x265-params": "log-level=none"}),
    "after 26 hours.ts": lambda p: write(p, pts=range(93_000_000, 93_002_000, 100)),
    "bare.m2v": lambda p: read_as_bare(p, "mpeg2video", "mpeg2video", options={"b": "6000000"}, rate=25),
    "bare.obu": lambda p: replace(  # it names no rate
        read_as_bare(p, "obu", "libsvtav1", options=_AV1), seconds=[k / 25 for k in range(20)]
    ),
    "av1.mp4": lambda p: write(p, codec="libsvtav1", options=_AV1),
    "clip.mpg": lambda p: _move(
        write(p, codec="mpeg2video", options=_MPEG, rate=25, time_base=Fraction(1, 25), pts=range(20)), 0.54
    ),
    "clip.vob": lambda p: _move(
        write(p, codec="mpeg2video", options=_MPEG, rate=25, time_base=Fraction(1, 25), pts=range(20)), 0.54
    ),
    "clip.m2ts": lambda p: write(
        p, options={"x264-params": "bframes=0"}, container_format="mpegts", container_options={"mpegts_m2ts_mode": "1"}
    ),
    "tiny.mkv": lambda p: write(p, codec="ffv1", size=(12, 4), pix_fmt="yuv444p"),
    "bare.m4v": lambda p: read_as_bare(p, "m4v", "mpeg4", options={"b": "4000000"}),
    "clip.ivf": lambda p: write(p, codec="libvpx", options=_VPX, time_base=Fraction(1, 10), pts=range(20)),
    "frames cut out.avi": lambda p: cut_out(p, 6, 2),
    "two indexes.mp4": join,
    "no length.mp4": lambda p: state_no_end(p, 0),
    "unknown length.mp4": lambda p: state_no_end(p, 2**32 - 1),
    "turned, wide pixels.mp4": turn_and_stretch,
    "turned, wide pixels.mkv": turn_and_stretch,
    "data first.ts": add_data_track,
    "negative offsets.mp4": lambda p: write(p, container_options={"movflags": "negative_cts_offsets"}),
    "open groups.mkv": lambda p: write(p, options={"x264-params": "keyint=8:scenecut=0:bframes=2:open-gop=1"}),
    "no key frames.mkv": lambda p: write(p, options={"x264-params": "intra-refresh=1:keyint=20:bframes=0"}),
    "fields.mp4": lambda p: write(p, options={"x264-params": "interlaced=1:tff=1:bframes=2"}),
    "full range.mp4": lambda p: write(p, pix_fmt="yuvj420p"),
    "hidden frames.webm": lambda p: write(p, codec="libvpx", pts=range(0, 4000, 100), options=_HIDDEN),
    "hidden frames.mkv": lambda p: write(p, codec="libvpx-vp9", pts=range(0, 4000, 100), options=_HIDDEN),
    "240 a second.mp4": lambda p: write(p, pts=range(20), time_base=Fraction(1, 240), rate=240),
    "rgb 16.mov": lambda p: write(p, codec="png", pix_fmt="rgb48be"),
    "raw.avi": lambda p: write(p, codec="rawvideo", pix_fmt="bgr24", time_base=Fraction(1, 10), pts=range(20)),
    "dropped frames.avi": lambda p: write(
        p, codec="mpeg4", options={"b": "4000000"}, time_base=Fraction(1, 10), pts=[0, 1, 2, 3, 7, 8, 9, 15, 16]
    ),
    "interlaced.ts": lambda p: _move(
        write(p, codec="mpeg2video", options=_INTERLACED, rate=25, time_base=Fraction(1, 25), pts=range(20)),
        0.04,  # its encoder is late by a frame
        tolerance=1e-3,
    ),
}
