from pathlib import Path

import pytest

from llava_st_hf.data.readers.cvat_video import CvatVideoReader
from llava_st_hf.data.readers.registry import guess_format
from llava_st_hf.processing.media_llava_st import InputError

META = """<meta><task><id>3</id><name>clips</name><size>{size}</size><start_frame>{start}</start_frame>
<original_size><width>320</width><height>240</height></original_size><source>a.mp4</source></task></meta>"""
TRACK = """<track id="0" label="circle" source="manual">
<box frame="10" keyframe="1" outside="0" occluded="0" xtl="10" ytl="20" xbr="50" ybr="60" z_order="0">
<attribute name="{name}">the red circle</attribute></box>
<box frame="20" keyframe="1" outside="0" occluded="1" xtl="50.5" ytl="20" xbr="90.5" ybr="60"></box>
<box frame="21" keyframe="1" outside="1" occluded="1" xtl="50.5" ytl="20" xbr="90.5" ybr="60"></box></track>"""


def open_tracks(folder: Path, clip: Path, text: str, **options) -> CvatVideoReader:
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "annotations.xml").write_text(text)
    return CvatVideoReader(folder / "annotations.xml", "mine", folder, num_frames=40, **options)


def write(size: int = 40, start: int = 0, name: str = "color") -> str:
    return f"<annotations>{META.format(size=size, start=start)}{TRACK.format(name=name)}</annotations>"


def test_a_track_is_a_record(tmp_path, clip):
    reader = open_tracks(tmp_path, clip, write())
    assert guess_format(tmp_path / "annotations.xml") == "cvat_video"
    (record,) = reader
    assert record.id == "a.mp4 track 0"
    assert "where is the circle?" in record.messages[0]["content"]
    times = [lexeme.value * 39 for lexeme in record.find_coordinates()[1] if lexeme.kind == "t"]
    assert times == pytest.approx(range(10, 21))
    sides = [lexeme.value for lexeme in record.find_coordinates()[1] if lexeme.kind != "t"]
    assert sides[-4:] == pytest.approx([50.5 / 320, 20 / 240, 90.5 / 320, 60 / 240])
    (named,) = open_tracks(tmp_path, clip, write(name="description"))
    assert "where is the red circle?" in named.messages[0]["content"]


KEYS = """<track id="0" label="circle">
<box frame="5" keyframe="1" outside="0" xtl="10" ytl="20" xbr="50" ybr="60"></box>
<box frame="15" keyframe="1" outside="1" xtl="90" ytl="20" xbr="130" ybr="60"></box>
<box frame="20" keyframe="1" outside="0" xtl="110" ytl="20" xbr="150" ybr="60"></box>
<box frame="30" keyframe="1" outside="0" xtl="210" ytl="20" xbr="250" ybr="60"></box></track>"""


@pytest.mark.parametrize(
    ("stop", "spans"), [("", [(5, 14), (20, 39)]), ("<stop_frame>35</stop_frame>", [(5, 14), (20, 35)])]
)
def test_key_frames_last_as_in_cvat(tmp_path, clip, stop, spans):
    text = f"<annotations>{META.format(size=40, start=0)}{KEYS}</annotations>".replace("</size>", f"</size>{stop}")
    reader = open_tracks(tmp_path, clip, text, task="stvg_several")
    annotation = reader.annotate(reader.list_entries()[0])
    assert [span.times for span in annotation.spans] == spans
    boxes = annotation.tubes[0].boxes
    lefts = {frame: box and box.values[0] for frame, box in boxes.items()}
    assert lefts == {5: 10, 14: 10, 15: None, 20: 110, 30: 210, spans[1][1]: 210}


def test_a_track_with_every_frame_ends_with_its_last(tmp_path, clip):
    rows = "".join(f'<box frame="{k}" outside="0" xtl="1" ytl="2" xbr="30" ybr="40"/>' for k in range(10, 21))
    text = f'<annotations>{META.format(size=40, start=0)}<track id="0" label="circle">{rows}</track></annotations>'
    reader = open_tracks(tmp_path, clip, text)
    assert reader.annotate(reader.list_entries()[0]).spans[0].times == (10, 20)


def test_frames_are_counted_where_the_task_has_the_whole_video(tmp_path, clip):
    detail = open_tracks(tmp_path, clip, write(size=90))[0].detail
    assert detail.startswith("video is 'a.mp4' with 40 frames and 4.000 s, but the annotations are of one with 90 fr")
    # A task that begins later counts its own frames.
    assert len(open_tracks(tmp_path, clip, write(size=30, start=10))[0].messages) == 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<!DOCTYPE a [<!ENTITY b "bbb">]><annotations>&b;</annotations>', "has a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', "has a document type"),
        ("<annotations><track>", "cannot be read as an XML file: no element found"),
        ("<annotation/>", "holds <annotation>, not <annotations>"),
        ("", "cannot be read as an XML file"),
    ],
)
def test_refuses_another_file(tmp_path, clip, text, found):
    with pytest.raises(InputError, match=found):
        open_tracks(tmp_path, clip, text)


def test_says_what_is_wrong_with_a_track(tmp_path, clip):
    text = write().replace('xtl="10"', 'xtl="ten"').replace('<box frame="20"', '<box frame="-1"')
    assert open_tracks(tmp_path, clip, text)[0].detail.startswith("box of frame 10.0 is ['ten', 20.0, 50.0, 60.0]")
    assert open_tracks(tmp_path, clip, write().replace("a.mp4", "b.mp4"))[0].detail.startswith("video is 'b.mp4'")


def test_a_turned_box_is_the_upright_one_around_it(tmp_path, clip):
    text = write().replace('xtl="10" ytl="20" xbr="50" ybr="60" z_order="0"', 'xtl="20" ytl="20" xbr="60" ybr="40" {}')
    for angle, expected in (("90", (30, 10, 50, 50)), ("0.0", (20, 20, 60, 40))):
        (record,) = open_tracks(tmp_path, clip, text.format(f'rotation="{angle}"'))
        sides = [lexeme.value for lexeme in record.find_coordinates()[1] if lexeme.kind != "t"][:4]
        assert sides == pytest.approx([side / (320, 240)[n % 2] for n, side in enumerate(expected)])


def test_labels_are_not_taken_for_the_video(tmp_path, clip):
    labels = "<labels><label><name>circle</name></label></labels>"
    text = write().replace("<name>clips</name>", labels + "<name>a.mp4</name>").replace("<source>a.mp4</source>", "")
    assert open_tracks(tmp_path, clip, text)[0].id == "a.mp4 track 0"


def test_a_file_that_names_no_video_says_so(tmp_path, clip):
    # As the export of a job.
    text = write().replace("<name>clips</name>", "").replace("<source>a.mp4</source>", "")
    (record,) = open_tracks(tmp_path, clip, text)
    assert record.id.endswith(" track 0") and record.detail.startswith("the file names no video")
