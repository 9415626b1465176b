"""What cannot be read or written is one line, and leaves nothing behind."""

from pathlib import Path

import pytest
from drawn_clips import write_clip

from llava_st_hf.processing import GroundingResult, InputError, MediaError
from llava_st_hf.visualization import check_output, write_annotated_video, write_contact_sheet


def _not_a_video(path):
    path.write_text("no video at all" * 100)


def _cut_off(path):
    content = write_clip(path).read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 40])


@pytest.mark.parametrize("write", [write_annotated_video, write_contact_sheet])
@pytest.mark.parametrize(
    "make",
    [lambda path: None, lambda path: path.touch(), lambda path: path.mkdir(), _not_a_video, _cut_off],
    ids=["missing", "empty", "a folder", "not a video", "cut off"],
)
def test_a_bad_source_is_one_line_and_leaves_nothing(make, write, tmp_path):
    source = tmp_path / "source.mp4"
    make(source)
    output = tmp_path / "out.mp4"
    output.write_text("what was there before")
    with pytest.raises(MediaError) as error:
        write(source, GroundingResult(""), output, overwrite=True)
    assert "\n" not in str(error.value) and "source.mp4" in str(error.value)
    assert output.read_text() == "what was there before"
    assert {path.name for path in tmp_path.iterdir()} <= {"source.mp4", "out.mp4"}


def test_a_failure_midway_leaves_nothing(clip_path, result, tmp_path):
    def stop(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_annotated_video(clip_path, result, tmp_path / "out.mp4", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_bad_output_says_so(clip_path, result, tmp_path):
    with pytest.raises(InputError, match="does not exist, make it first"):
        write_annotated_video(clip_path, result, tmp_path / "nowhere" / "out.mp4")
    with pytest.raises(InputError, match="that is a folder"):
        write_contact_sheet(clip_path, result, tmp_path)
    with pytest.raises(InputError, match="that is what is drawn on"):
        write_annotated_video(clip_path, result, clip_path)
    with pytest.raises(InputError, match="columns"):
        write_contact_sheet(clip_path, result, tmp_path / "out.png", columns=0)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("drawn.gif", "ends in .png or .jpg"),
        ("folder.png", "that is a folder"),
        ("nowhere/drawn.png", "does not exist"),
        ("clip.png", "that is what is drawn on"),
    ],
)
def test_an_output_that_could_not_be_written_is_found_before(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    Path("clip.png").touch()
    with pytest.raises(InputError, match=f"^sheet is {name}: .*{words}") as found:
        check_output(name, (".png", ".jpg"), [tmp_path / "clip.png"], field="sheet")
    assert found.value.field == "sheet"
    check_output("DRAWN.PNG", (".png", ".jpg"), [tmp_path / "clip.png"])
