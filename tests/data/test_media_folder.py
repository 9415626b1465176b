import pytest

from llava_st_hf.data.media_folder import MediaFolder
from llava_st_hf.data.skips import RecordError


def test_finds_a_file_in_a_folder_below(tmp_path):
    for name in ("b/clip.mp4", "a/clip.mp4", "a/other.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    folder = MediaFolder(tmp_path)
    assert folder.find_media(["clip.mp4"], "video", "video")[0].path == str(tmp_path / "a/clip.mp4")
    assert folder.find_media(["other.mp4", "other.avi"], "video", "video")[0].path == str(tmp_path / "a/other.avi")
    (tmp_path / "clip.mp4").touch()
    assert folder.find_media(["clip.mp4"], "video", "video")[0].path == str(tmp_path / "clip.mp4")
    for name, reason in (("lost", "missing_media"), ("../x", "outside_root"), ("a\0", "invalid_field")):
        with pytest.raises(RecordError) as raised:
            folder.find_media([name], "video", "video")
        assert raised.value.reason == reason
    # A folder beside it whose name only begins in the same way is outside too.
    beside = tmp_path.with_name(tmp_path.name + "_private")
    beside.mkdir()
    (beside / "clip.mp4").touch()
    for name in (f"../{beside.name}/clip.mp4", str(beside / "clip.mp4")):
        with pytest.raises(RecordError, match="outside of") as raised:
            folder.open_media(name, "video")
        assert raised.value.reason == "outside_root"
    with pytest.raises(RecordError, match="give data_folder"):
        MediaFolder(None).find_media(["clip.mp4"], "video", "video")


def test_paths_may_be_written_as_on_windows(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/clip.mp4").touch()
    folder = MediaFolder(tmp_path)
    assert folder.open_media("a\\clip.mp4", "video")[0].path == str(tmp_path / "a/clip.mp4")
    with pytest.raises(RecordError, match="outside of"):
        folder.open_media("..\\..", "video")
    (tmp_path / "a\\clip.mp4").touch()  # here a name as any other
    assert folder.open_media("a\\clip.mp4", "video")[0].path == str(tmp_path / "a\\clip.mp4")


def test_finds_a_video_whatever_its_ending(tmp_path):
    for name in ("a_0.0_9.5.mkv", "b.mp4", "c.avi", "d/frames/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = MediaFolder(tmp_path)
    for name, found in (
        ("a_0.0_9.5", "a_0.0_9.5.mkv"),
        ("b.avi", "b.mp4"),
        ("c.avi", "c.avi"),
        ("d/frames", "d/frames/1.jpg"),
    ):
        assert [item.path for item in folder.find_video(name)] == [str(tmp_path / found)]
    assert folder.find_video("b", places=["lost", "c.avi"])[0].path == str(tmp_path / "c.avi")
    with pytest.raises(RecordError, match="vid is 'e', which does not exist"):
        folder.find_video("e", "vid")
