import os
from pathlib import Path

import av
import pytest
import video_files as files
from PIL import Image

from llava_st_hf.processing import video_timeline_llava_st as video_timeline
from llava_st_hf.processing.media_llava_st import MediaError
from llava_st_hf.processing.video_decoding_llava_st import read_video


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
        assert str(source) in message


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
    monkeypatch.setattr(video_timeline, "MAX_FRAME_PIXELS", 64 * 48 - 1)
    with pytest.raises(MediaError, match="64 x 48 pixels"):
        read_video(path, num_frames=1)
