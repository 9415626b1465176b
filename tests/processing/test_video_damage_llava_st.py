"""Damaged files: no broken frame and no moved time without a word."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hard_files import add_sound, read_number, write

from llava_st_hf.processing import MediaError
from llava_st_hf.processing.video_damage_llava_st import find_damage
from llava_st_hf.processing.video_decoding_llava_st import read_video


def draw_noise(number: int, width: int, height: int) -> np.ndarray:
    """Return a picture that takes many bytes."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


TENTHS = {"time_base": Fraction(1, 10), "pts": range(20)}
KEYS = {"codec": "mpeg4", "options": {"b": "4000000", "g": "1"}}  # each frame by itself
MPEG4 = {"codec": "mpeg4", "options": {"b": "400000", "g": "10"}}
H264 = {"options": {"x264-params": "bframes=0:keyint=10"}}
MJPEG = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "draw": draw_noise}
FFV1 = {"codec": "ffv1", "options": {"level": "3", "slicecrc": "1", "g": "1"}}
MPEG2 = {
    "codec": "mpeg2video",
    "rate": 25,
    "time_base": Fraction(1, 25),
    "options": {"b": "4000000"},
    "draw": draw_noise,
}
FRAGMENTS = {"container_options": {"movflags": "frag_keyframe+empty_moov"}}
VP8 = {"codec": "libvpx", "options": {"deadline": "realtime", "b": "2000000"}}
CONTAINERS = {
    "clip.avi": {**KEYS, **TENTHS},
    "clip.flv": H264,
    "clip.mp4": {**H264, **FRAGMENTS},
    "clip.mkv": H264,
    "clip.webm": VP8,
    "clip.ts": H264,
    "clip.m2ts": {**H264, "container_format": "mpegts", "container_options": {"mpegts_m2ts_mode": "1"}},
    "clip.ogv": {**VP8, **TENTHS},
    "clip.asf": {"codec": "wmv2", "options": {"b": "4000000"}, "draw": draw_noise},
    "clip.mxf": MPEG2,
    "clip.ivf": {**VP8, **TENTHS},
}


def list_packets(path) -> list[tuple[int, int]]:
    """Return the place and the size of each packet of a file, in the order of the file."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
        return sorted(packet for packet in packets if packet[0] is not None)


def lose(path, start: int, stop: int, with_zeros: bool = False) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:start] + bytes(stop - start if with_zeros else 0) + content[stop:])


def read_numbers(video) -> list[int | None]:
    return [read_number(frame.permute(1, 2, 0).numpy()) for frame in video.frames]


@pytest.mark.parametrize("with_zeros", [False, True])
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_whose_parts_do_not_join_says_so(tmp_path, name, with_zeros):
    path = write(tmp_path / name, **CONTAINERS[name]).path
    assert find_damage(path) == find_damage(memoryview(path.read_bytes())) == read_video(path).problems == ()
    packets = list_packets(path)
    start = packets[len(packets) // 2][0] - 7
    if name == "clip.asf":  # of which a packet holds many frames
        start = path.read_bytes().index(b"\x82\0\0", path.stat().st_size // 3)
    lose(path, start, start + 333, with_zeros)
    (note,) = find_damage(path)
    assert note.startswith("the file is damaged: ")
    for request in ({}, {"num_frames": 3}):
        try:
            assert note in read_video(path, **request).problems
        except MediaError as error:  # of some nothing is left
            assert "damaged" in str(error) or "download" in str(error)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_that_ends_too_early_says_so(tmp_path, name):
    path = write(tmp_path / name, **CONTAINERS[name]).path
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3 - 7])
    assert find_damage(path)


@pytest.mark.parametrize("with_sound", [False, True])
@pytest.mark.parametrize("with_zeros", [False, True])
@pytest.mark.parametrize(("first", "count"), [(3, 1), (3, 2), (3, 3), (4, 10), (9, 1), (16, 3), (18, 1)])
def test_frames_behind_a_gap_of_an_avi_keep_their_times(tmp_path, first, count, with_zeros, with_sound):
    path = tmp_path / "clip.avi"
    write(path, **KEYS, **TENTHS, **(add_sound(2) if with_sound else {}))
    times = read_video(path).frame_seconds
    packets = list_packets(path)
    lose(path, packets[first][0] - 8, packets[first + count][0] - 8, with_zeros)
    left = [number for number in range(20) if not first <= number < first + count]
    video = read_video(path)
    assert read_numbers(video) == left
    assert video.frame_seconds == pytest.approx([times[number] for number in left])
    assert any(f" frames up to its last, and holds {len(left)} of them" in problem for problem in video.problems)
    few = read_video(path, time_range=(1.0, 1.9), num_frames=3)
    assert [times[number] for number in read_numbers(few)] == pytest.approx(few.frame_seconds)


def test_a_cut_through_two_frames_of_an_avi_moves_no_other(tmp_path):
    path = tmp_path / "clip.avi"
    write(path, **KEYS, **TENTHS)
    packets = list_packets(path)
    for first in (12, 4):
        lose(path, packets[first][0] + 50, packets[first + 1][0] + 90)
    video = read_video(path)
    numbers = read_numbers(video)
    shown = [number for number in numbers if number is not None]
    assert set(range(20)) - set(shown) <= {4, 5, 6, 12, 13, 14}
    for number, seconds in zip(numbers, video.frame_seconds, strict=True):
        assert number is None or seconds == pytest.approx(number / 10) or number in (3, 4, 11, 12)
    assert any("it lists 20 frames up to its last" in problem for problem in video.problems)


def test_an_avi_without_a_gap_is_counted_as_before(tmp_path):
    """Frames that were dropped as it was recorded are empty entries of its index."""
    found = write(tmp_path / "clip.avi", **KEYS, time_base=Fraction(1, 10), pts=[0, 1, 2, 6, 7, 12])
    video = read_video(found.path)
    assert video.problems == ()
    assert video.frame_seconds == pytest.approx([0, 0.1, 0.2, 0.6, 0.7, 1.2])


def damage_inside(path, number: int, with_zeros: bool = False) -> None:
    """Overwrite a part of a frame behind its start, with noise or zeros."""
    packets = list_packets(path)
    start, size = packets[number] if len(packets) > number else (path.stat().st_size // 2, 400)
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 256, size // 4, dtype=np.uint8).tobytes()
    noise = bytes(40) if with_zeros else noise
    content[start + size // 2 : start + size // 2 + len(noise)] = noise
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("clip.avi", {**MPEG4, **TENTHS}, "damaged"),
        ("clip.mp4", MPEG4, "damaged"),
        ("clip.mkv", H264, "damaged"),
        ("clip.mp4", H264, "damaged"),
        ("clip.mkv", FFV1, "damaged"),
        ("clip.mpg", MPEG2, "damaged"),
        ("clip.avi", {**MJPEG, **TENTHS}, "could not be decoded"),
        ("clip.mov", MJPEG, "could not be decoded"),
    ],
)
def test_a_frame_that_is_made_up_in_part_is_noted(tmp_path, name, options, words):
    path = write(tmp_path / name, **options).path
    before = read_video(path)
    assert before.problems == ()
    damage_inside(path, 12, with_zeros=options.get("codec") == "mjpeg")
    video = read_video(path)
    assert any(words in problem for problem in video.problems)
    some = read_video(path, frame_indices=[13])
    assert (some.frames[0] == before.frames[13]).all() or any(words in problem for problem in some.problems)
    assert read_video(path, frame_indices=[2]).problems == ()  # of a run that the damage is not in


def test_frames_before_a_key_frame_are_no_damage(tmp_path):
    """Of an open group some are shown before the key frame, and cannot be decoded from it."""
    params = "keyint=10:min-keyint=10:scenecut=0:bframes=3:b-adapt=0:open-gop=1"
    path = write(tmp_path / "clip.mkv", pts=range(0, 6000, 100), options={"x264-params": params}).path
    for first in range(0, 60, 7):
        assert read_video(path, frame_range=(first, min(first + 3, 59))).problems == ()


def test_a_packet_of_a_ts_that_lacks_a_part_is_noted(tmp_path):
    path = write(tmp_path / "clip.ts", size=(640, 480), options={"x264-params": "bframes=0:keyint=10"}).path
    start = list_packets(path)[12][0]
    lose(path, start + 188, start + 3 * 188)
    (note, *_) = read_video(path, num_frames=2).problems
    assert note.startswith("1 video packets lack a part")


def test_recordings_that_are_joined_lack_nothing(tmp_path):
    """Their continuity counters do not go on, but the second begins with a key frame where the first ends."""
    parts = [write(tmp_path / f"{start}.ts", pts=range(start, start + 2000, 100), **H264) for start in (0, 2000)]
    (tmp_path / "joined.ts").write_bytes(b"".join(part.path.read_bytes() for part in parts))
    video = read_video(tmp_path / "joined.ts")
    assert video.problems == ()
    assert video.frame_seconds == pytest.approx([k / 10 for k in range(40)])
