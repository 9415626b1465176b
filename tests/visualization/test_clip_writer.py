"""The sound of a clip goes with it, copied or encoded, in time with the picture."""

from fractions import Fraction

import av
import numpy as np
import pytest
import video_files as files

from llava_st_hf.processing import GroundingResult, Span, read_video
from llava_st_hf.visualization import write_annotated_video

RATE = 48000


def write_sounding_clip(path, codec, picture_start=0.0, start=0.0, seconds=2.0):
    """Write a clip with a beep of 1000 Hz from 1.0 to 1.2 s after its start."""
    with av.open(str(path), "w", options={"mpegts_copyts": "1"} if start else {}) as container:
        video = container.add_stream("libx264", rate=25, options=files.X264)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=RATE, layout="mono")
        for index in range(round(seconds * 25)):
            frame = av.VideoFrame.from_ndarray(files.draw_frame(index, 64, 48), format="rgb24")
            frame.pts, frame.time_base = index + round((start + picture_start) * 25), Fraction(1, 25)
            container.mux(video.encode(frame))
        times = np.arange(round(seconds * RATE)) / RATE
        wave = np.where((times >= 1) & (times < 1.2), 0.5 * np.sin(2 * np.pi * 1000 * times), 0)
        for first in range(0, len(wave), 960):
            samples = (wave[None, first : first + 960] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, first + round(start * RATE), Fraction(1, RATE)
            container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def read_sound(path):
    """Return the codec, the length in seconds, the packets, and the time from which on the beep is heard."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    with av.open(str(path)) as container:
        resampler, loud, end = av.AudioResampler("flt", "mono", RATE), None, 0.0
        for frame in container.decode(audio=0):
            for piece in resampler.resample(frame):
                samples = np.abs(piece.to_ndarray()[0])
                if loud is None and samples.max() > 0.2:
                    loud = frame.time + int((samples > 0.2).argmax()) / RATE
                end = frame.time + piece.samples / RATE
    return stream.codec_context.codec.canonical_name, end, packets, loud


@pytest.mark.parametrize(
    ("name", "codec", "kept", "starts"),
    [
        ("clip.mp4", "aac", "aac", (0.0, 0.0)),
        ("clip.mp4", "aac", "aac", (0.4, 0.0)),  # the picture comes later than the sound
        ("clip.mkv", "pcm_s16le", "aac", (0.4, 0.0)),
        ("clip.ts", "aac", "aac", (0.0, 2**33 / 90000 - 1)),  # which FFmpeg reads as -1
        ("clip.ts", "mp2", "aac", (0.0, 2**33 / 90000 - 1)),
        ("clip.mkv", "libmp3lame", "mp3", (0.0, 0.0)),
        ("clip.mkv", "libopus", "opus", (0.0, 0.0)),
        ("clip.mov", "pcm_s16le", "aac", (0.0, 0.0)),
        ("clip.avi", "pcm_s16le", "aac", (0.0, 0.0)),
        ("clip.ts", "aac", "aac", (0.0, 0.0)),
        ("clip.mkv", "ac3", "aac", (0.0, 0.0)),
    ],
)
def test_the_sound_is_kept(name, codec, kept, starts, tmp_path):
    if codec not in av.codecs_available:
        pytest.skip(f"FFmpeg has no {codec} here")
    source = write_sounding_clip(tmp_path / name, codec, *starts)
    notes = write_annotated_video(source, GroundingResult("", spans=(Span(0, 1),)), tmp_path / "out.mp4")
    assert notes == ()
    (_, end, packets, loud), (new_codec, new_end, new_packets, new_loud) = map(
        read_sound, (source, tmp_path / "out.mp4")
    )
    assert new_codec == kept
    starts = [read_video(path, num_frames=1).frame_seconds[0] for path in (source, tmp_path / "out.mp4")]
    if name == "clip.avi":  # the beep is a second behind the first picture, as it was written
        assert loud - starts[0] == pytest.approx(1.0, abs=0.03)
    assert new_loud - starts[1] == pytest.approx(loud - starts[0], abs=0.03)
    assert new_end - starts[1] == pytest.approx(end - starts[0], abs=0.05)
    if codec == "aac" and name == "clip.mp4":
        assert new_packets == packets


def test_sound_whose_clock_starts_again_is_counted_like_the_picture(tmp_path):
    part = write_sounding_clip(tmp_path / "part.ts", "aac").read_bytes()
    (tmp_path / "joined.ts").write_bytes(part + part)
    assert write_annotated_video(tmp_path / "joined.ts", GroundingResult(""), tmp_path / "out.mp4") == ()
    codec, end, _, loud = read_sound(tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        last = [frame.time for frame in container.decode(video=0)][-1]
    assert (codec, last) == ("aac", pytest.approx(3.96, abs=0.01))
    assert end == pytest.approx(4.0, abs=0.15)
    assert 0.9 < loud < 1.1


def test_a_clip_without_sound_has_none(tmp_path):
    files.encode(tmp_path / "clip.mp4")
    assert write_annotated_video(tmp_path / "clip.mp4", GroundingResult(""), tmp_path / "out.mp4") == ()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_sound_that_breaks_off_is_told(tmp_path, monkeypatch):
    source = write_sounding_clip(tmp_path / "clip.mp4", "aac")

    def fail(self, stream):
        yield from ()
        raise av.error.InvalidDataError(1, "broken")

    monkeypatch.setattr("llava_st_hf.visualization.clip_writer._Sound._copy", fail)
    (note,) = write_annotated_video(source, GroundingResult(""), tmp_path / "out.mp4")
    assert note == "its sound ends at 0.00 s: it could not be read further (broken)"


def test_the_sound_of_real_clips_is_kept_packet_by_packet(real_media_dir, tmp_path):
    source = real_media_dir / "5INX3.mp4"
    with av.open(str(source)) as container:
        has_sound = bool(container.streams.audio)
    if not has_sound:
        source = real_media_dir / "3843663025.mp4"
    write_annotated_video(source, GroundingResult(""), tmp_path / "out.mp4")
    assert read_sound(tmp_path / "out.mp4")[:3] == read_sound(source)[:3]
