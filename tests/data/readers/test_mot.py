import shutil

import pytest
from PIL import Image

from llava_st_hf.data.readers.mot import MotReader
from llava_st_hf.data.readers.registry import guess_format
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.media_llava_st import InputError

LINES = """1,4,32,24,64,48,1,3,1.0
2,4,64,24,64,48,1,3,1.0
4,4,128,24,64,48,1,3,0.5
1,1,0,0,32,24,1,1,1
2,1,0,0,32,24,1,1,1
3,1,0,0,32,24,1,1,1
3,2,0,0,32,24,1,1,1
3,9,0,0,32,24,0,1,1
"""
SEQINFO = "[Sequence]\nname=MOT-01\nimDir=img1\nframeRate=30\nseqLength=4\nimWidth=320\nimHeight=240\nimExt=.png\n"


@pytest.fixture
def sequence(tmp_path):
    folder = tmp_path / "MOT-01"
    for name in ("gt", "img1"):
        (folder / name).mkdir(parents=True)
    for frame in range(1, 5):
        Image.new("RGB", (320, 240)).save(folder / f"img1/{frame:06d}.png")
    (folder / "gt/gt.txt").write_text(LINES)
    (folder / "seqinfo.ini").write_text(SEQINFO)
    return folder


def test_a_sequence_of_pictures(sequence, caplog):
    assert guess_format(sequence / "gt/gt.txt") == "mot"
    for folder in (sequence, sequence.parent):
        reader = MotReader(sequence / "gt/gt.txt", "mot", folder, vary_prompts=False)
        (record,) = reader  # there are two pedestrians, and one that does not count
        assert (record.id, len(record.media), record.video_fps) == ("MOT-01 track 4", 4, 30.0)
        assert "Between  {<t=0.0><t=1.0>} , where is the car?" in record.messages[0]["content"]
        times = [lexeme.value for lexeme in record.find_coordinates()[1] if lexeme.kind == "t"]
        assert times == pytest.approx([0, 1 / 3, 1])  # frame 3 has others, but not this one
    assert "2 of 3 tracks make no record" in caplog.text


def test_pictures_of_another_sequence_are_not_taken(sequence):
    (sequence / "seqinfo.ini").unlink()
    (record,) = MotReader(sequence / "gt/gt.txt", "mot", sequence.parent, video_fps=30.0)
    assert len(record.media) == 4  # img1 is where they are, also where nothing says so
    other = sequence.with_name("MOT-02")
    shutil.copytree(sequence / "gt", other / "gt")
    for facts in ("", SEQINFO.replace("MOT-01", "MOT-02")):
        (other / "seqinfo.ini").write_text(facts)
        (record,) = MotReader(other / "gt/gt.txt", "mot", sequence.parent)
        assert record.reason in ("missing_media", "empty_media")


def test_names_tell_more(sequence):
    reader = MotReader(sequence / "gt/gt.txt", "mot", sequence, names={1: "the man in red", "2": "the boy"})
    assert [record.id.split()[-1] for record in reader] == ["4", "1", "2"]
    assert "where is the man in red?" in reader[1].messages[0]["content"]
    assert len(MotReader(sequence / "gt/gt.txt", "mot", sequence, task="elc")) == 3
    with pytest.raises(InputError, match="names has to give a text for each id"):
        MotReader(sequence / "gt/gt.txt", "mot", sequence, names={1: 3})


def test_a_box_outside_of_the_frame_says_that_the_object_is_gone(sequence):
    (sequence / "gt/gt.txt").write_text("1,4,32,24,64,48,1,3,1\n2,4,-64,24,64,48,1,3,0\n3,4,-32,24,64,48,1,3,1\n")
    (record,) = MotReader(sequence / "gt/gt.txt", "mot", sequence)
    assert isinstance(record, Sample), record
    coordinates = [(lexeme.kind, lexeme.value) for lexeme in record.find_coordinates()[1]]
    assert [value for kind, value in coordinates if kind == "t"] == pytest.approx([0, 2 / 3])
    assert coordinates[-4:] == [("x", 0.0), ("y", 0.1), ("x", 0.1), ("y", 0.3)]  # clipped


def test_a_byte_order_mark_is_no_part_of_the_facts(sequence):
    (sequence / "seqinfo.ini").write_text(SEQINFO, encoding="utf-8-sig")
    (record,) = MotReader(sequence / "gt/gt.txt", "mot", sequence)
    assert record.id == "MOT-01 track 4"


def test_a_video_beside_its_text(tmp_path, clip):
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "a.txt").write_text("11 1 10 20 40 40\n21 1 50 20 40 40\n")
    (record,) = MotReader(tmp_path / "a.txt", "mine", tmp_path, num_frames=40)
    assert isinstance(record, Sample), record
    assert "where is the object?" in record.messages[0]["content"]
    times = [lexeme.value * 39 for lexeme in record.find_coordinates()[1] if lexeme.kind == "t"]
    assert times == pytest.approx(range(10, 21))


@pytest.mark.parametrize("rest", ["3.2,4.5,0", "-3.2,4.5,0", "4,0,0", "-1,-1,-1"])
def test_the_eighth_of_ten_numbers_is_no_kind(tmp_path, clip, rest):
    # A place in the world in MOT15, a kind of another table in VisDrone, and nothing in what trackers write.
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "a.txt").write_text(f"11,1,10,20,40,40,1,{rest}\n12,1,50,20,40,40,1,7,4,0\n")
    (record,) = MotReader(tmp_path / "a.txt", "mine", tmp_path)
    assert "where is the object?" in record.messages[0]["content"]
    assert len([lexeme for lexeme in record.find_coordinates()[1] if lexeme.kind == "t"]) == 2


def test_says_what_is_wrong(tmp_path, sequence):
    for text, found in (
        ("1,2,3\n", "line 1: '1,2,3' is no line of MOT"),
        ("\n1,1,a,0,9,9", "line 2: '1,1,a,0,9,9'"),
        ("5,1,10,20,40,40\n0,1,10,20,40,40\n", "line 2: '0,1,10,20,40,40' is before the first frame: count frames fr"),
        ("1,-1,10,20,40,40,0.9,-1,-1,-1\n", r"has the id -1, as detections \(det.txt\) have: give a file with an id"),
    ):
        (tmp_path / "a.txt").write_text(text)
        with pytest.raises(InputError, match=found):
            MotReader(tmp_path / "a.txt", "mine", tmp_path)
    (sequence / "seqinfo.ini").write_text("name=1")
    with pytest.raises(InputError, match=r"seqinfo\.ini cannot be read"):
        MotReader(sequence / "gt/gt.txt", "mot", sequence)
