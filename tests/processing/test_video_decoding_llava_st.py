import gc
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
import video_files as files
from PIL import Image

from llava_st_hf.processing import video_decoding_llava_st as reading
from llava_st_hf.processing import video_timeline_llava_st as video_timeline
from llava_st_hf.processing.frame_sampling_llava_st import compute_frame_indices
from llava_st_hf.processing.media_llava_st import MediaError
from llava_st_hf.processing.video_decoding_llava_st import (
    FrameDecoder,
    iterate_frames,
    probe_video,
    read_video,
    resize_frames,
)
from llava_st_hf.processing.video_file_llava_st import open_video

UNEVEN_PTS = [int(p) for p in np.cumsum(np.random.default_rng(0).integers(1, 40, 40))]
FAST_VPX = {"deadline": "realtime", "cpu-used": "8"}
SOUND_FILES = {
    "b_frames.mp4": {},
    "one_long_gop.mp4": {"num_frames": 100, "params": "keyint=250:bframes=3"},
    "open_gop.mp4": {"num_frames": 60, "params": files.B_FRAMES + ":open-gop=1"},
    "open_gop.ts": {"num_frames": 60, "params": files.B_FRAMES + ":open-gop=1"},
    "intra_refresh.ts": {"num_frames": 60, "params": "intra-refresh=1:keyint=12:bframes=0"},
    "interlaced.mp4": {"num_frames": 60, "params": files.B_FRAMES + ":tff=1"},
    "variable_rate.mp4": {"pts": UNEVEN_PTS, "time_base": Fraction(1, 600)},
    "variable_rate.mkv": {"pts": UNEVEN_PTS, "time_base": Fraction(1, 600)},
    "edit_list.mp4": {
        "num_frames": 60,
        "first_packet_shift": -17,
        "container_options": {"avoid_negative_ts": "disabled"},
    },
    "no_count.mkv": {},
    "no_count.ts": {},
    "vp9.webm": {"codec": "libvpx-vp9", "options": FAST_VPX},
    "vp8.webm": {"codec": "libvpx", "options": FAST_VPX},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "b_frames_without_pts.avi": {},
    "elementary_stream.h264": {"container_format": "h264"},
    "ten_bit.mp4": {"pix_fmt": "yuv420p10le"},
    "odd_size.mp4": {"width": 35, "height": 27, "pix_fmt": "yuv444p"},
    "one_frame.mp4": {"num_frames": 1},
    "sound_first.mp4": {"audio": "first"},
    "rotated.mp4": {},
    "name with # and : in it.mp4": {},
}


@pytest.fixture(scope="session")
def sound_file(tmp_path_factory):
    """A function from a name in SOUND_FILES to the encoded file and its full decode, each made once."""
    folder, made = tmp_path_factory.mktemp("videos"), {}

    def make(name):
        if name not in made:
            path = files.encode(folder / name, **SOUND_FILES[name])
            if name == "rotated.mp4":
                files.rotate_mp4(path)
            made[name] = (path, *files.decode_everything(path))
        return made[name]

    return make


# ----------------------------------------------------------------------------------------------------
# Sound files
# ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SOUND_FILES)
@pytest.mark.parametrize("request_name", ["few", "more_than_there_are", "all", "late_range"])
def test_frames_are_those_of_a_full_decode(sound_file, name, request_name):
    path, frames, seconds = sound_file(name)
    last, late = len(frames) - 1, (len(frames) - 1) * 3 // 4
    request, expected = {
        "few": ({"num_frames": 7}, compute_frame_indices(7, 0, last)),
        "more_than_there_are": ({"num_frames": 130}, compute_frame_indices(130, 0, last)),
        "all": ({}, np.arange(last + 1)),
        "late_range": ({"num_frames": 3, "frame_range": (late, last)}, compute_frame_indices(3, late, last)),
    }[request_name]
    video = read_video(path, **request)
    assert video.frame_indices == tuple(expected.tolist())
    assert (video.frames.numpy() == frames[expected]).all()
    is_bare = name.endswith(".h264")
    assert ["which its stream names" in note for note in video.problems] == [True] * is_bare
    assert video.total_num_frames == len(frames)
    assert (video.height, video.width) == frames.shape[2:]
    assert len(video.frame_seconds) == len(expected)
    if not name.endswith((".avi", ".h264")):  # these give no time stamps: times follow from the rate
        assert video.frame_seconds == tuple(seconds[index] for index in expected)
    else:
        assert np.allclose(np.diff(sorted(set(video.frame_seconds))), np.diff(sorted(set(expected))) / 25, atol=1e-3)


@pytest.mark.parametrize("name", SOUND_FILES)
def test_one_by_one_they_are_the_same(sound_file, name):
    path, frames, _ = sound_file(name)
    video, probe = read_video(path), probe_video(path)
    one_by_one = list(iterate_frames(path))
    assert tuple(frame.index for frame in one_by_one) == video.frame_indices
    assert tuple(frame.seconds for frame in one_by_one) == video.frame_seconds == tuple(probe.timeline.seconds)
    assert (np.stack([frame.image for frame in one_by_one]).transpose(0, 3, 1, 2) == frames).all()
    assert (probe.width, probe.height) == (video.width, video.height)


def test_edit_list_hides_frames(sound_file):
    path, frames, _ = sound_file("edit_list.mp4")
    with av.open(str(path)) as container:
        assert any(packet.is_discard for packet in container.demux(video=0))  # or the file tests nothing
    assert read_video(path, num_frames=1).total_num_frames == len(frames) < 60


def test_rotated_frames_stand_upright(sound_file):
    path, frames, _ = sound_file("rotated.mp4")
    video = read_video(path, num_frames=2)
    assert (video.width, video.height) == (48, 64)
    with av.open(str(path)) as container:
        first = next(container.decode(video=0))
        assert first.rotation in (90, -90)
        assert (np.rot90(first.to_ndarray(format="rgb24"), first.rotation // 90) == frames[0].transpose(1, 2, 0)).all()


def test_bytes_and_path_give_the_same(sound_file):
    path, _, _ = sound_file("open_gop.mp4")
    assert (read_video(path.read_bytes(), num_frames=5).frames == read_video(str(path), num_frames=5).frames).all()


def test_what_it_says_of_itself_need_not_be_text(tmp_path, monkeypatch):
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        container.metadata["title"] = "TITLE-TO-BE"
        stream = container.add_stream("mpeg4", rate=5)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))))
        container.mux(stream.encode(None))
    content = (tmp_path / "clip.mkv").read_bytes()
    assert content.count(b"TITLE-TO-BE") == 1
    content = content.replace(b"TITLE-TO-BE", b"\xff" * 11)
    assert len(read_video(content, num_frames=1).frames) == 1

    def open_of_19(file, **options):
        assert "metadata_errors" not in options  # which PyAV 19 does not know any more
        return opened(file, metadata_errors="surrogateescape", **options)

    opened = av.open
    monkeypatch.setattr(av, "__version__", "19.0.2")
    if "metadata_errors" in (av.open.__doc__ or ""):
        monkeypatch.setattr(av, "open", open_of_19)
    assert len(read_video(content, num_frames=1).frames) == 1


def test_resize_while_decoding_is_resize_afterwards(sound_file):
    path, frames, _ = sound_file("odd_size.mp4")
    video = read_video(path, num_frames=5, size=(40, 30))
    assert (video.frames == resize_frames(torch.from_numpy(frames[list(video.frame_indices)]), (40, 30))).all()
    assert (video.height, video.width) == (27, 35)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param({"fps": 25}, list(range(40)), id="fps_of_the_file"),
        pytest.param({"fps": 5}, list(range(0, 40, 5)), id="fps_lower"),
        pytest.param({"fps": 50, "frame_range": (0, 2)}, [0, 0, 1, 1, 2], id="fps_higher_repeats"),
        pytest.param({"fps": 0.001}, [0], id="fps_lower_than_one_frame"),
        pytest.param({"time_range": (0.4, 0.6)}, [10, 11, 12, 13, 14, 15], id="time_range_includes_both_ends"),
        pytest.param({"time_range": (0.41, 0.59)}, [11, 12, 13, 14], id="time_range_between_frames"),
        pytest.param({"time_range": (1.5, 1.6)}, [38, 39], id="time_range_to_the_end_of_the_last_frame"),
        pytest.param({"time_range": [0.4, 0.8], "num_frames": 3}, [10, 15, 20], id="time_range_and_num_frames"),
        pytest.param({"frame_range": [3.0, np.int64(5)]}, [3, 4, 5], id="whole_numbers_of_other_types"),
        pytest.param({"num_frames": np.int32(2)}, [0, 39], id="numpy_count"),
    ],
)
def test_sampling(sound_file, request_, expected):
    path, frames, _ = sound_file("b_frames.mp4")
    video = read_video(path, **request_)
    assert list(video.frame_indices) == expected
    assert (video.frames.numpy() == frames[expected]).all()


def test_frames_are_read_by_their_numbers(sound_file):
    path, *_ = sound_file("b_frames.mp4")
    whole, chosen = read_video(path), read_video(path, frame_indices=(0, 3, 3, 39))
    assert chosen.frame_indices == (0, 3, 3, 39)
    assert torch.equal(chosen.frames, whole.frames[[0, 3, 3, 39]])
    for indices in ((), (3, 1), (-1, 2), (0, 40)):
        with pytest.raises(MediaError, match="frame_indices must be ascending numbers of its 40 frames"):
            read_video(path, frame_indices=indices)
    with pytest.raises(MediaError, match="frame_indices is given beside"):
        read_video(path, frame_indices=(0,), num_frames=1)


def test_seconds_follow_a_variable_rate(sound_file):
    path, _, _ = sound_file("variable_rate.mp4")
    seconds = np.asarray(UNEVEN_PTS) / 600
    video = read_video(path, time_range=(float(seconds[7]) - 1e-3, float(seconds[11]) + 1e-3))
    assert video.frame_indices == (7, 8, 9, 10, 11)
    assert np.allclose(video.frame_seconds, seconds[7:12], atol=1e-3)  # mp4 rounds the start


# ----------------------------------------------------------------------------------------------------
# Only what is needed is decoded
# ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def four_hours(tmp_path_factory):
    """A clip of 14,400 frames, one a second, with a key frame every 50; and its full decode."""
    path = tmp_path_factory.mktemp("long") / "four_hours.mp4"
    pts = list(range(14400))
    params = "keyint=50:scenecut=0:bframes=2"
    files.encode(path, num_frames=14400, width=32, height=32, pts=pts, time_base=Fraction(1), params=params)
    return path, files.decode_everything(path)[0]


@pytest.mark.parametrize("use_index", [True, False], ids=["container_index", "packet_scan"])
@pytest.mark.parametrize(
    ("request_", "most_packets"),
    [
        pytest.param({"num_frames": 5, "frame_range": (14000, 14040)}, 60, id="frames_near_the_end"),
        pytest.param({"num_frames": 4, "time_range": (7200.0, 7210.0)}, 60, id="seconds_in_the_middle"),
        pytest.param({"num_frames": 10}, 520, id="whole_clip"),
    ],
)
def test_of_a_long_clip_only_the_needed_parts_are_decoded(four_hours, monkeypatch, use_index, request_, most_packets):
    path, every_frame = four_hours
    if not use_index:
        monkeypatch.setattr(video_timeline, "_timeline_from_index", lambda file: None)
    video = read_video(path, **request_)
    assert video.total_num_frames == 14400
    assert video.duration_seconds == pytest.approx(4 * 3600)
    assert 0 < video.num_decoded_packets <= most_packets
    assert video.frame_seconds == tuple(float(index) for index in video.frame_indices)
    assert (video.frames.numpy() == every_frame[list(video.frame_indices)]).all()


def test_a_long_clip_is_not_scanned_where_its_index_will_do(four_hours, monkeypatch):
    timelines = []
    original = video_timeline._timeline_from_index
    monkeypatch.setattr(
        video_timeline,
        "_timeline_from_index",
        lambda *arguments: timelines.append(original(*arguments)) or timelines[-1],
    )
    path, _ = four_hours
    read_video(path, num_frames=2)
    assert timelines[0].grid_step is not None
    with av.open(str(path)) as container:
        pts = sorted(packet.pts for packet in container.demux(video=0) if packet.size)
    assert timelines[0].stamps.tolist() == pts


def test_an_index_that_lies_is_found_out(sound_file, monkeypatch):
    path, frames, _ = sound_file("variable_rate.mp4")

    def invent_index(file):
        stamps = np.arange(40, dtype=np.int64) * 300  # a constant rate, which the file has not
        return video_timeline._make_timeline(file, stamps, key_stamps=stamps[:1], grid_step=300)

    monkeypatch.setattr(video_timeline, "_timeline_from_index", invent_index)
    assert (read_video(path).frames.numpy() == frames).all()


def test_each_packet_is_decoded_once_and_disposable_frames_are_skipped(sound_file, monkeypatch):
    path, _, _ = sound_file("one_long_gop.mp4")
    assert read_video(path, num_frames=500).num_decoded_packets == 100
    decoded = []
    original = reading.FrameDecoder._make_frame
    monkeypatch.setattr(
        reading.FrameDecoder,
        "_make_frame",
        lambda self, index, frame: decoded.append(index) or original(self, index, frame),
    )
    read_video(path, num_frames=500)
    assert len(decoded) == len(set(decoded)) == 100


# ----------------------------------------------------------------------------------------------------
# Real clips
# ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "chosen", [slice(1, 3), pytest.param(slice(None), marks=pytest.mark.slow)], ids=["two", "all"]
)
def test_real_clips(real_media_dir, chosen):
    clips = sorted(real_media_dir.glob("*.mp4"))[chosen]
    assert clips
    for path in clips:
        frames, seconds = files.decode_everything(path)
        expected = compute_frame_indices(100, 0, len(frames) - 1)
        video = read_video(path, num_frames=100)
        assert (video.frames.numpy() == frames[expected]).all(), path.name
        assert video.frame_seconds == tuple(seconds[index] for index in expected), path.name
        small = read_video(path, num_frames=8, size=(384, 384))
        pillow = [
            np.asarray(Image.fromarray(frames[i].transpose(1, 2, 0)).resize((384, 384), Image.Resampling.BICUBIC))
            for i in small.frame_indices
        ]
        difference = np.abs(small.frames.numpy().transpose(0, 2, 3, 1).astype(int) - np.stack(pillow))
        # One grey level; on a few pixels in ten million torch's coarser weights round twice the same way.
        assert (difference > 1).mean() < 1e-6 and difference.max() <= 2 and difference.mean() < 0.005, path.name


@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        pytest.param((480, 270), (384, 384), id="portrait"),
        pytest.param((360, 640), (384, 384), id="landscape"),
        pytest.param((200, 100), (384, 384), id="larger"),
        pytest.param((500, 333), (24, 24), id="tiny"),
        pytest.param((384, 384), (384, 384), id="same"),
    ],
)
def test_resize_is_pillows(size, new_size):
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(noise).resize(new_size[::-1], Image.Resampling.BICUBIC)).astype(int)
    ours = resize_frames(torch.from_numpy(noise).permute(2, 0, 1)[None], new_size)[0].permute(1, 2, 0).numpy()
    difference = np.abs(ours - expected)
    assert difference.max() <= 2 and difference.mean() < 0.02


# ----------------------------------------------------------------------------------------------------
# Damaged files
# ----------------------------------------------------------------------------------------------------
def test_damaged_packets_are_replaced_by_the_nearest_frame_and_reported(tmp_path):
    path = files.encode(tmp_path / "damaged.mp4", num_frames=48, params="keyint=12:scenecut=0:bframes=0")
    files.damage_packets(path, 24, 35)  # a whole group of pictures
    video = read_video(path)
    decoded = decode_past_damage(path)
    assert len(video.frames) == video.total_num_frames == 48
    assert len(decoded) < 48
    for place in range(48):
        shown = video.frame_indices[place]
        assert shown == min(decoded, key=lambda index: (abs(index - place), index))
        assert (video.frames[place].numpy() == decoded[shown]).all()
        assert video.frame_seconds[place] == pytest.approx(shown / 25, abs=1e-4)
    num_replaced = sum(video.frame_indices[place] != place for place in range(48))
    assert any(f"{num_replaced} of 48 sampled frames" in problem for problem in video.problems)


def decode_past_damage(path):
    """Return the frames {index: pixels} that a sequential decode gives when broken packets are passed over."""
    decoded = {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    pixels = frame.to_ndarray(format="rgb24").transpose(2, 0, 1)
                    decoded[round(float(frame.pts * frame.time_base) * 25)] = pixels
            except av.error.InvalidDataError:
                continue
    return decoded


def test_truncated_but_readable_file_is_read_and_reported(tmp_path):
    path = files.encode(tmp_path / "cut.mp4", container_options={"movflags": "faststart"})
    frames, _ = files.decode_everything(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    video = read_video(path)
    assert 1 < video.total_num_frames < 40
    assert any("cut short" in problem for problem in video.problems)
    assert (video.frames[0].numpy() == frames[0]).all()
    assert max(video.frame_indices) < video.total_num_frames


def test_a_cut_file_without_an_index_is_reported(tmp_path):
    path = files.encode(tmp_path / "cut.mkv")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.5)])
    video = read_video(path, num_frames=4)
    assert video.frames.shape[0] == 4
    assert video.problems and not any("\n" in problem for problem in video.problems)


def test_undecodable_frames_are_left_out_one_by_one(tmp_path):
    path = files.encode(tmp_path / "damaged.mp4", num_frames=48, params="keyint=12:scenecut=0:bframes=0")
    files.damage_packets(path, 24, 35)
    decoded = decode_past_damage(path)
    frames = {frame.index: frame.image for frame in iterate_frames(path)}
    assert list(frames) == sorted(decoded)
    assert all((frames[index].transpose(2, 0, 1) == decoded[index]).all() for index in decoded)


def damage_bytes(path, number):
    """Overwrite, or take out, up to a sixth of a file at a place that the number chooses."""
    noise, data = np.random.default_rng(number), bytearray(path.read_bytes())
    start, length = noise.integers(len(data) // 20, len(data) - 100), noise.integers(10, len(data) // 6)
    size = len(data[start : start + length])
    data[start : start + length] = noise.bytes(size) if number % 2 else b""
    return bytes(data)


@pytest.mark.parametrize("ending", ["mp4", "ts", "mkv"])
def test_frames_of_a_damaged_file_are_in_the_order_of_time(tmp_path, ending):
    """Without the frames that they refer to, decoders give some frames before earlier ones."""
    path = files.encode(tmp_path / f"sound.{ending}", num_frames=60)
    pictures = np.stack([files.draw_frame(index, 64, 48) for index in range(60)]).astype(int)
    start = read_video(path, num_frames=1).frame_seconds[0]
    num_early = 0
    for number in range(12):
        content = damage_bytes(path, number)
        try:
            frames, video = list(iterate_frames(content)), read_video(content)
            with open_video(content) as file:
                stamps = [frame.pts for frame in file.decode_all() if frame.pts is not None]
        except MediaError:
            continue
        if any("counted by frame number" in problem for problem in video.problems):
            continue  # the stamps themselves are damaged
        num_early += stamps != sorted(stamps)
        for indices in ([frame.index for frame in frames], [frame.seconds for frame in frames]):
            assert indices == sorted(set(indices))
        assert list(video.frame_seconds) == sorted(video.frame_seconds)
        assert list(video.frame_indices) == sorted(video.frame_indices)
        # What can be recognized has its own time, but for frames that a decoder made up of others.
        late = []
        for frame in frames:
            distances = np.abs(pictures - frame.image.astype(int)).mean((1, 2, 3))
            if distances.min() < 6:
                late.append(frame.seconds - start - distances.argmin() / 25)
        assert np.mean(np.abs(late) > 0.03) < 0.1 if late else True
    assert num_early >= (ending != "mkv")


def test_each_sample_that_does_not_come_is_shown_by_the_nearest_that_does(tmp_path, monkeypatch):
    path = files.encode(tmp_path / "clip.mp4", params="keyint=12:scenecut=0:bframes=0")
    give = FrameDecoder._seek
    # A seek gives all but frame 20, which the way from the start does not give either, nor the frames around it.
    monkeypatch.setattr(
        FrameDecoder, "_seek", lambda self, indices: (pair for pair in give(self, indices) if pair[0] != 20)
    )
    decode = FrameDecoder._decode_in_order
    monkeypatch.setattr(
        FrameDecoder, "_decode_in_order", lambda self: (pair for pair in decode(self) if not 15 < pair[0] < 30)
    )
    video = read_video(path, frame_indices=[18, 20, 23, 35])
    assert video.frame_indices == (18, 18, 23, 35)
    assert (video.frames[1] == video.frames[0]).all()


@pytest.mark.parametrize("with_index", [True, False])
def test_an_avi_that_lacks_a_part_says_so(tmp_path, with_index):
    path = files.encode(tmp_path / "clip.avi", num_frames=60)
    frames, _ = files.decode_everything(path)
    content = path.read_bytes()
    middle = len(content) // 2
    end = content.rindex(b"idx1") if not with_index else None
    path.write_bytes(content[:middle] + content[middle + len(content) // 6 : end])
    video = read_video(path)
    assert video.total_num_frames < 58
    # Without the index nothing says how many frames the gap had.
    words = "it lists 60 frames up to its last, and holds" if with_index else "it lists 60 frames and holds"
    assert any(words in problem for problem in video.problems)
    assert any(problem.startswith("the file is damaged: ") for problem in video.problems)
    if with_index:
        for shown, seconds in zip(video.frames[-10:].numpy(), video.frame_seconds[-10:], strict=True):
            differences = np.abs(frames.astype(int) - shown).mean((1, 2, 3))
            assert differences.argmin() == pytest.approx(25 * seconds)


def test_what_is_said_of_the_end_is_true_of_the_times_given(hard_media_dir):
    """The stamps of the second half are those of the first: what follows from them says nothing of the file."""
    video = read_video(hard_media_dir / "cat.ts")
    assert (video.total_num_frames, video.duration_seconds) == (60, pytest.approx(6.0))
    assert not any("its pictures end at" in problem for problem in video.problems)


# ----------------------------------------------------------------------------------------------------
# Unusable requests
# ----------------------------------------------------------------------------------------------------
NAN = float("nan")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        pytest.param({"num_frames": 0}, "num_frames is 0", id="no_frames"),
        pytest.param({"num_frames": -3}, "num_frames is -3", id="negative_count"),
        pytest.param({"num_frames": 2.5}, "num_frames is 2.5", id="fraction_of_a_frame"),
        pytest.param({"num_frames": "8"}, "num_frames is '8'", id="count_as_text"),
        pytest.param({"num_frames": True}, "num_frames is True", id="count_as_truth"),
        pytest.param({"num_frames": 10**7}, "num_frames is 10000000", id="count_too_high"),
        pytest.param({"fps": 0}, "fps is 0", id="no_rate"),
        pytest.param({"fps": -1.0}, "fps is -1.0", id="negative_rate"),
        pytest.param({"fps": NAN}, "fps is nan", id="rate_not_a_number"),
        pytest.param({"fps": 1e9}, "lower it", id="rate_too_high"),
        pytest.param({"fps": 2, "num_frames": 8}, "give one of them", id="rate_and_count"),
        pytest.param({"frame_range": (0, 9), "time_range": (0, 1)}, "give one of them", id="two_ranges"),
        pytest.param({"frame_range": (0, 40)}, "frames are 0 to 39", id="frames_outside"),
        pytest.param({"frame_range": (-1, 4)}, "0 <= start <= end", id="negative_frame"),
        pytest.param({"frame_range": (9, 3)}, "0 <= start <= end", id="frames_reversed"),
        pytest.param({"frame_range": (0.5, 3)}, "whole frame numbers", id="half_a_frame"),
        pytest.param({"frame_range": (1, 2, 3)}, "two numbers", id="three_frames"),
        pytest.param({"frame_range": 5}, "two numbers", id="one_frame"),
        pytest.param({"time_range": (5.0, 6.0)}, "outside the video", id="seconds_outside"),
        pytest.param({"time_range": (1.0, 60.0)}, "outside the video", id="seconds_past_the_end"),
        pytest.param({"time_range": (1.0, 0.5)}, "give start <= end", id="seconds_reversed"),
        pytest.param({"time_range": (-1.0, 0.5)}, "outside the video", id="negative_seconds"),
        pytest.param({"time_range": (NAN, 0.5)}, "two numbers", id="seconds_not_a_number"),
        pytest.param({"time_range": (0.0, float("inf"))}, "two numbers", id="endless"),
        pytest.param({"time_range": (0.41, 0.42)}, "no frame lies in", id="between_two_frames"),
    ],
)
def test_unusable_requests_are_refused_with_the_fix(sound_file, request_, words):
    path, _, _ = sound_file("b_frames.mp4")
    with pytest.raises(MediaError) as caught:
        read_video(path, **request_)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------
# Frames as they are displayed
# ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("aspect", "is_turned", "displayed"),
    [
        (Fraction(64, 45), False, (128, 72)),
        (Fraction(64, 45), True, (72, 128)),
        (Fraction(8, 9), False, (80, 72)),
        (Fraction(1000, 1), False, (90, 72)),
        (Fraction(181, 180), False, (90, 72)),
    ],
    ids=["wide", "wide and turned", "narrow", "absurd", "rounded"],
)
def test_pixels_are_those_of_the_displayed_frame(tmp_path, aspect, is_turned, displayed):
    path = files.encode_anamorphic(tmp_path / "clip.mp4", aspect, is_turned=is_turned)
    video = read_video(path)
    assert (video.width, video.height) == probe_video(path)[:2] == displayed
    assert video.frames.shape[:1:-1] == displayed
    assert {frame.image.shape[1::-1] for frame in iterate_frames(path)} == {displayed}


@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)])
def test_mirrored_frames_are_shown_as_players_do(tmp_path, matrix):
    path = files.encode(tmp_path / "clip.mp4", num_frames=3)
    right_x, right_y, down_x, down_y = matrix
    data = bytearray(path.read_bytes())
    values = (right_x, right_y, 0, down_x, down_y)
    struct.pack_into(">5i", data, data.index(b"tkhd") + 44, *(value << 16 for value in values))
    (stored,) = read_video(path, num_frames=1).frames.numpy()
    path.write_bytes(data)
    video = read_video(path, num_frames=1)
    # A point (x, y), from the middle of the picture, is shown at (x * right_x + y * down_x, x * right_y + y * down_y).
    expected = stored if right_x else stored.transpose(0, 2, 1)
    expected = expected[:, :: right_y + down_y, :: right_x + down_x]
    assert (video.frames[0].numpy() == expected).all()
    assert (video.width, video.height) == probe_video(path)[:2] == expected.shape[:0:-1]


@pytest.mark.parametrize(
    "request_of_part", [{}, {"frame_range": (12, 19)}, {"num_frames": 3}, {"frame_range": (0, 3)}]
)
def test_a_clip_has_the_size_of_its_first_frame(tmp_path, request_of_part):
    path = files.encode_changing_size(tmp_path / "clip.mkv")
    video = read_video(path, **request_of_part)
    assert (video.width, video.height) == probe_video(path)[:2] == (64, 48)
    is_changing = request_of_part != {"frame_range": (0, 3)}
    assert ["size of the frames changes" in note for note in video.problems] == [True] * is_changing


@pytest.mark.parametrize(
    ("name", "size"), [("sar.mp4", (512, 288)), ("sz3.mkv", (320, 240)), ("multi.mkv", (640, 360))]
)
def test_hard_files_have_one_geometry(hard_media_dir, name, size):
    video = read_video(hard_media_dir / name)
    assert (video.width, video.height) == probe_video(hard_media_dir / name)[:2] == size
    assert read_video(hard_media_dir / name, num_frames=1, frame_range=(15, 19)).width == size[0]


def test_decoded_frames_are_freed_at_once(tmp_path):
    path = files.encode(tmp_path / "clip.mp4", num_frames=30)
    gc.collect()
    gc.disable()  # what is freed at once does not wait for it
    try:
        assert read_video(path, num_frames=30).total_num_frames == 30
        assert sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects()) <= 1
    finally:
        gc.enable()
