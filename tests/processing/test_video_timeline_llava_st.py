import os
from fractions import Fraction
from pathlib import Path

import av
import pytest
import video_files as files
from PIL import Image
from PIL import features as pillow_features

from llava_st_hf.processing import video_file_llava_st as video_file
from llava_st_hf.processing.media_llava_st import MediaError
from llava_st_hf.processing.video_decoding_llava_st import iterate_frames, probe_video, read_video


def make_unusable(folder: Path) -> dict:
    sound = files.encode(folder / "sound.mp4")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is not a video\n" * 50)
    (folder / "no_moov.mp4").write_bytes(sound.read_bytes()[: sound.stat().st_size // 2])
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\nsound.mp4\n#EXT-X-ENDLIST\n")
    (folder / "playlist.mp4").write_bytes((folder / "list.m3u8").read_bytes())
    (folder / "list.ffconcat").write_text("ffconcat version 1.0\nfile sound.mp4\n")
    os.mkfifo(folder / "pipe.mp4")
    files.encode(folder / "audio_only.mp4", audio="only")
    Image.new("RGB", (8, 8)).save(folder / "picture.png")
    return {
        "missing": (folder / "nothing.mp4", "does not exist"),
        "directory": (folder, "is a directory"),
        "empty": (folder / "empty.mp4", "empty file"),
        "pipe": (folder / "pipe.mp4", "no regular file"),
        "text": (folder / "text.mp4", "cannot be read as a video"),
        "picture": (folder / "picture.png", "this is an image: give it as image="),
        "no_moov": (folder / "no_moov.mp4", "cannot be read as a video"),
        "audio_only": (folder / "audio_only.mp4", "no video stream"),
        "playlist": (folder / "list.m3u8", "cannot be read as a video"),
        "playlist_named_mp4": (folder / "playlist.mp4", "cannot be read as a video"),
        "concat_script": (folder / "list.ffconcat", "cannot be read as a video"),
        "http": ("http://127.0.0.1:9/clip.mp4", "allow_url=True"),
        "rtmp": ("rtmp://127.0.0.1:9/clip", "rtmp://, which is not opened"),
        "concat_protocol": (f"concat:{sound}|{sound}", "does not exist"),
        "file_protocol": (f"file:{sound}", "does not exist"),
        "no_bytes": (b"", "nothing in it"),
        "random_bytes": (bytes(range(256)) * 20, "cannot be read as a video"),
        "null_byte": ("clip\0.mp4", "null character"),
        "number": (3, "cannot be read; give a path"),
    }


@pytest.fixture(scope="module")
def unusable(tmp_path_factory):
    return make_unusable(tmp_path_factory.mktemp("unusable"))


@pytest.mark.parametrize(
    "case",
    [
        *("missing", "directory", "empty", "pipe", "text", "picture", "no_moov", "audio_only", "playlist"),
        *("playlist_named_mp4", "concat_script", "http", "rtmp", "concat_protocol", "file_protocol", "no_bytes"),
        *("random_bytes", "null_byte", "number"),
    ],
)
def test_unusable_sources_are_refused_with_the_fix(unusable, case):
    source, words = unusable[case]
    with pytest.raises(MediaError) as caught:
        read_video(source, num_frames=4)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    if isinstance(source, (str, Path)):
        assert str(source).replace("\0", "?") in message  # as text that can be printed


def test_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        picture = av.VideoFrame.from_ndarray(files.draw_frame(0, 64, 48), format="rgb24")
        container.mux([*cover.encode(picture), *cover.encode(None)])
        files.write_sound(container, sound)
    with av.open(str(path)) as container:
        assert container.streams.video  # FFmpeg counts the cover among the video streams
    with pytest.raises(MediaError, match="no video stream"):
        read_video(path, num_frames=1)


def test_huge_frames_are_refused(tmp_path, monkeypatch):
    path = files.encode(tmp_path / "sound.mp4")
    monkeypatch.setattr(video_file, "MAX_FRAME_PIXELS", 64 * 48 - 1)
    with pytest.raises(MediaError, match="64 x 48 pixels"):
        read_video(path, num_frames=1)


# --------------------------------------------------------------------------------------------------
# Files that do not tell when their frames are, or which track is meant
# --------------------------------------------------------------------------------------------------
def join_recordings(path: Path, shift: int) -> Path:
    """Write two MPEG-TS recordings of 20 frames, at 25 a second, one behind the other; the second starts later."""
    parts = [files.encode(path.with_suffix(f".{part}.ts"), num_frames=20) for part in (1, 2)]
    unit = Fraction(1, 90000)
    late = files.encode(
        path.with_suffix(".3.ts"), num_frames=20, pts=[k * 3600 + shift for k in range(20)], time_base=unit
    )
    path.write_bytes(parts[0].read_bytes() + (late if shift else parts[1]).read_bytes())
    return path


@pytest.mark.parametrize("shift", [0, 1800], ids=["same stamps", "stamps in between"])
def test_stamps_that_start_again_are_counted_on(tmp_path, shift):
    video = read_video(join_recordings(tmp_path / "joined.ts", shift))
    assert video.frame_seconds == pytest.approx([index / 25 for index in range(40)])
    pictures = [files.draw_frame(index % 20, 64, 48).mean() for index in range(40)]
    assert video.frames.float().mean((1, 2, 3)).tolist() == pytest.approx(pictures, abs=4)
    assert any("start again at frame 20" in note and "25 frames a second" in note for note in video.problems)


def test_a_recording_behind_a_later_one_says_nothing_false_of_the_end(tmp_path):
    """The end that such a file states is a time of the first of its clocks."""
    stamps = {"pts": [900_000 + k * 3600 for k in range(20)], "time_base": Fraction(1, 90000)}
    late = files.encode(tmp_path / "late.ts", num_frames=20, **stamps).read_bytes()
    (tmp_path / "joined.ts").write_bytes(late + files.encode(tmp_path / "a.ts", num_frames=20).read_bytes())
    video = read_video(tmp_path / "joined.ts")
    assert video.frame_seconds == pytest.approx([index / 25 for index in range(40)])
    assert video.stated_end_seconds == pytest.approx(1.6)
    assert [problem.partition(";")[0] for problem in video.problems] == ["its time stamps start again at frame 20"]


def test_a_recording_behind_one_minutes_later_is_no_clock_that_ran_over(tmp_path):
    """FFmpeg takes such a fall for the end of the 33 bits of the clock, and counts on from 26 hours."""
    stamps = {"pts": [200 * 90_000 + k * 3600 for k in range(20)], "time_base": Fraction(1, 90000)}
    late = files.encode(tmp_path / "late.ts", num_frames=20, **stamps).read_bytes()
    (tmp_path / "joined.ts").write_bytes(late + files.encode(tmp_path / "a.ts", num_frames=20).read_bytes())
    video = read_video(tmp_path / "joined.ts")
    assert video.frame_seconds == pytest.approx([index / 25 for index in range(40)])
    assert [problem.partition(";")[0] for problem in video.problems] == ["its time stamps start again at frame 20"]


def damage_stamp(path: Path, number: int, seconds: float, fields: tuple[int, ...]) -> Path:
    """Move the stamps of one packet of an MPEG-TS recording: those 9 (pts) or 14 (dts) bytes behind its start code."""
    content = bytearray(path.read_bytes())
    start = [index for index in range(len(content) - 14) if content[index : index + 4] == b"\0\0\1\xe0"][number]
    for field in fields:
        part = content[start + field : start + field + 5]
        ticks = ((part[0] >> 1 & 7) << 30) + (part[1] << 22) + (part[2] >> 1 << 15) + (part[3] << 7) + (part[4] >> 1)
        ticks = ticks + round(seconds * 90_000)
        content[start + field : start + field + 5] = bytes(
            [
                part[0] & 0xF0 | ticks >> 30 << 1 | 1,
                ticks >> 22 & 255,
                (ticks >> 15 & 127) << 1 | 1,
                ticks >> 7 & 255,
                (ticks & 127) << 1 | 1,
            ]
        )
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("seconds", "fields"),
    [(-0.4, (9, 14)), (20_000, (9, 14)), (60_000, (9, 14)), (0.4, (9,))],
    ids=["earlier", "later", "later than half of the clock", "that of another"],
)
def test_one_false_stamp_of_a_recording_moves_no_other_frame(tmp_path, seconds, fields):
    path = files.encode(tmp_path / "a.ts", num_frames=40)
    true = read_video(path).frame_seconds
    with av.open(str(path)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
    number = stamps.index(sorted(stamps)[20])
    video = read_video(damage_stamp(path, number, seconds, fields))
    assert video.frame_seconds == pytest.approx(true, abs=1e-3)
    assert [problem.partition(";")[0] for problem in video.problems] == ["some of its frames have a false time stamp"]


@pytest.mark.parametrize(
    ("stamps", "seconds"),
    [
        ([0, 100, 200, 200, 300, 400], [0, 0.1, 0.2, 0.25, 0.3, 0.4]),
        ([0, 0, 0, 300, 500, 500], [0, 0.1, 0.2, 0.3, 0.5, 0.625]),
        # One clock of variable rate is kept.
        ([0, 40, 500, 500, 2000, 2040], [0, 0.04, 0.5, 1.25, 2, 2.04]),
    ],
)
def test_frames_with_the_stamp_of_another_lie_between_their_neighbours(tmp_path, stamps, seconds):
    path = files.encode(tmp_path / "a.mkv", num_frames=6, params="bframes=0", pts=[1000 * k for k in range(6)])
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for packet, stamp in zip(packets, stamps, strict=True):
            packet.time_base, packet.pts, packet.dts, packet.stream = Fraction(1, 1000), stamp, stamp, stream
            target.mux(packet)
    video = read_video(tmp_path / "b.mkv")
    assert video.frame_seconds == pytest.approx(seconds)
    note = "some of its frames have the same time stamp; they are put between their neighbours"
    assert note in video.problems
    assert [frame.seconds for frame in iterate_frames(tmp_path / "b.mkv")] == list(video.frame_seconds)


def write_bare(path: Path, container_format: str, codec: str, rate: int = 10, params: str | None = None) -> Path:
    """Write 60 frames as a stream without a container."""
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {f"{codec.removeprefix('lib')}-params": params} if params else {}
        for index in range(60):
            frame = av.VideoFrame.from_ndarray(files.draw_frame(index, 64, 48), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("container_format", "codec", "params"),
    [
        ("h264", "libx264", "bframes=3"),
        ("h264", "libx264", "bframes=0"),
        ("hevc", "libx265", "log-level=none"),
        ("m4v", "mpeg4", None),
    ],
)
def test_a_bare_stream_has_the_rate_that_it_names(tmp_path, container_format, codec, params):
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV was built without {codec}")
    video = read_video(write_bare(tmp_path / "bare", container_format, codec, params=params))
    assert video.frame_seconds == pytest.approx([index / 10 for index in range(60)])
    assert video.problems == (
        "it holds no times; they are counted by frame number at 10 frames a second, which its stream names",
    )


def test_a_guessed_rate_is_said(tmp_path):
    video = read_video(write_bare(tmp_path / "bare", "mjpeg", "mjpeg"))
    assert (video.total_num_frames, video.fps) == (60, 25)
    assert "25 frames a second, which is a guess" in video.problems[0]


@pytest.mark.parametrize(("codec", "params"), [("libx264", "bframes=0"), ("libx264", "bframes=3"), ("mpeg4", "")])
@pytest.mark.parametrize("gap", [0, 7], ids=["every frame", "a gap"])
def test_frames_of_an_avi_are_where_its_chunks_are(tmp_path, codec, params, gap):
    """FFmpeg guesses them a frame or more later, or where a decoder is done with them."""
    numbers = [index if index < 20 else index + gap for index in range(40)]
    path = files.encode(
        tmp_path / "clip.avi",
        codec=codec,
        params=params,
        pts=numbers,
        options={} if params else {"bf": "2", "b": "4000000"},
    )
    video = read_video(path)
    # Out of their order, some frames beside the gap have the place of a neighbour.
    sure = [index for index in range(40) if abs(index - 20) > 3]
    assert [video.frame_seconds[index] for index in sure] == pytest.approx([numbers[index] / 25 for index in sure])
    means = [files.draw_frame(index, 64, 48).mean() for index in range(40)]
    assert video.frames.float().mean((1, 2, 3)).tolist() == pytest.approx(means, abs=4)
    assert video.problems == ()
    assert read_video(path, frame_indices=[5, 30]).frame_seconds == tuple(video.frame_seconds[k] for k in (5, 30))


def test_frames_of_a_container_that_guesses_are_in_their_order(tmp_path):
    path = files.encode(tmp_path / "clip.mxf")
    video = read_video(path)
    assert video.frame_seconds == pytest.approx([index / 25 for index in range(40)])
    means = [files.draw_frame(index, 64, 48).mean() for index in range(40)]
    assert video.frames.float().mean((1, 2, 3)).tolist() == pytest.approx(means, abs=4)
    assert (read_video(path, frame_indices=[7, 21]).frames == video.frames[[7, 21]]).all()


def test_the_still_picture_beside_an_animation_is_no_clip(tmp_path):
    """An animated AVIF has a track of one frame, of the same size, in front of the one that moves."""
    if not pillow_features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    frames = [Image.new("RGB", (64, 48), (40 * index, 0, 0)) for index in range(6)]
    frames[0].save(tmp_path / "clip.avif", save_all=True, append_images=frames[1:], duration=100)
    video = read_video(tmp_path / "clip.avif")
    assert video.frame_seconds == pytest.approx([index / 10 for index in range(6)])


def write_two_tracks(path: Path, defaults: tuple[bool, bool]) -> Path:
    """Write a small track at 5 frames a second, and then a larger one at 10."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=rate) for rate in (5, 10)]
        for stream, (width, height), is_default in zip(streams, ((64, 48), (128, 96)), defaults, strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.disposition = av.stream.Disposition.default if is_default else av.stream.Disposition(0)
        for number, stream in enumerate(streams):
            for index in range(10 * (number + 1)):
                frame = av.VideoFrame.from_ndarray(
                    files.draw_frame(index, stream.width, stream.height), format="rgb24"
                )
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("defaults", "width"), [((False, True), 128), ((True, False), 64)])
def test_of_several_tracks_the_default_one_is_read(tmp_path, defaults, width):
    path = write_two_tracks(tmp_path / "tracks.mkv", defaults)
    video = read_video(path)
    assert (video.width, len(video.frames)) == (width, 20 if width == 128 else 10)
    assert probe_video(path)[:2] == (video.width, video.height)
    assert any("2 video tracks" in note and "and not track" in note for note in video.problems)


@pytest.mark.parametrize(
    ("name", "num_frames", "last_seconds", "words"),
    [
        ("cat.ts", 60, 5.9, "start again at frame 30"),
        ("b.avi", 60, 5.9, None),
        ("b.h264", 60, 5.9, "which its stream names"),
        ("multi.mkv", 20, 1.9, "track 1 (640x360) is read, and not track 0 (64x64)"),
    ],
)
def test_hard_files_have_one_clock(hard_media_dir, name, num_frames, last_seconds, words):
    video = read_video(hard_media_dir / name)
    assert video.total_num_frames == num_frames
    assert video.frame_seconds[-1] - video.frame_seconds[0] == pytest.approx(last_seconds)
    assert [words in note for note in video.problems] == [True] if words else video.problems == ()
    assert [frame.seconds for frame in iterate_frames(hard_media_dir / name)] == list(video.frame_seconds)


class Pipe:
    """A file that cannot be sought in: what is not known when its header is written is never filled in."""

    def __init__(self):
        self.content = b""

    def write(self, content) -> int:
        self.content += bytes(content)
        return len(content)


@pytest.mark.parametrize(
    ("container_format", "codec"),
    [("avi", "mpeg4"), ("avi", "libx264"), ("ivf", "libvpx"), ("flv", "flv"), ("matroska", "mpeg4"), ("nut", "mpeg4")],
)
def test_a_clip_that_was_written_into_a_pipe_ends_with_its_frames(container_format, codec):
    pipe = Pipe()
    with av.open(pipe, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        pictures = (av.VideoFrame(64, 48, "rgb24") for _ in range(20))
        container.mux([*(packet for picture in pictures for packet in stream.encode(picture)), *stream.encode()])
    timeline = probe_video(pipe.content).timeline
    assert timeline.end_seconds == pytest.approx(timeline.seconds[0] + 2.0, abs=0.11)
    assert not timeline.faults
    assert not any("damaged" in note for note in timeline.notes)
