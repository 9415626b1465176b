import json
from fractions import Fraction
from pathlib import Path

import pytest
from video_files import encode

from llava_st_hf.data.media_probe import probe_media
from llava_st_hf.data.readers.hc_stvg import HcStvgReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.data.turns import read_turns
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo
from llava_st_hf.processing.tasks_llava_st import TASKS

BOXES = [[i, 10, 20, 50] for i in range(31)]
FIRST = {"bbox": BOXES, "st_frame": 21, "st_time": 0.8, "ed_time": 2.0, "img_num": 101, "width": 200, "height": 100}
V1 = {**FIRST, "caption": "The man sits down."}
V2 = {
    "bbox": BOXES,
    "st_frame": 21,
    "ed_frame": 51,
    "img_num": 101,
    "img_size": [100, 200],
    "English": "The man sits down.",
    "Chinese": "x",
}


def open_hc_stvg(folder: Path, entry: object, **options) -> HcStvgReader:
    (folder / "video/part1").mkdir(parents=True, exist_ok=True)
    (folder / "video/part1/1_a.mp4").touch()
    (folder / "a.json").write_text(json.dumps({"1_a.mp4": entry}))
    return HcStvgReader(folder / "a.json", "hc_stvg", folder / "video", num_frames=11, **options)


@pytest.mark.parametrize("entry", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("task", ["stvg", "svg", "tvg", "elc"])
def test_reads_both_versions(tmp_path, entry, task):
    reader = open_hc_stvg(tmp_path, entry, task=task)
    (sample,) = reader
    assert (sample.id, sample.frame_range) == ("1_a.mp4", None)
    assert sample.media[0].path == str(tmp_path / "video/part1/1_a.mp4")
    frames = tuple(range(101))
    result = parse_answer(
        sample.messages[1]["content"],
        MediaInfo("video", 200, 100, frames, frames),
        answer_format=TASKS[task].answer_format,
        start_seconds=20 if task == "elc" else None,
    )
    assert not result.problems
    if task != "svg":  # st_frame counts from 1
        assert (result.spans[0].start_seconds, result.spans[0].end_seconds) == pytest.approx((20, 50))
    if task != "tvg":
        assert [(round(entry.seconds), entry.box.xyxy) for entry in result.tubes[0].boxes] == [
            (frame, pytest.approx((frame - 20, 10, frame, 60))) for frame in (20, 30, 40, 50)
        ]


def test_a_sentence_of_either_version_is_read(tmp_path):
    for english in (None, ""):
        (sample,) = open_hc_stvg(tmp_path, {**V1, "English": english}, task="tvg")
        assert isinstance(sample, Sample), sample


def test_a_size_may_have_the_number_of_channels_behind(tmp_path):
    (expected,) = open_hc_stvg(tmp_path, V2)
    (sample,) = open_hc_stvg(tmp_path, {**V2, "img_size": [100, 200, 3]})
    assert sample.messages == expected.messages


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"img_num": None}, "img_num"),
        ({"img_num": 50}, "st_frame"),
        ({"st_frame": 0}, "st_frame"),
        ({"st_frame": None}, "st_frame"),
        ({"bbox": []}, "bbox"),
        ({"bbox": None}, "bbox"),
        ({"bbox": [[1, 2, 3]] * 31}, "bbox[0]"),
        ({"bbox": [[300, 2, 3, 4]] * 31}, "bbox[0]"),
        ({"img_size": [100]}, "img_size"),
        ({"img_size": None}, "width"),
        ({"English": 3}, "English"),
    ],
)
def test_says_what_is_wrong(tmp_path, changes, field):
    skipped = open_hc_stvg(tmp_path, {**V2, **changes})[0]
    assert not isinstance(skipped, Sample)
    assert skipped.id == "1_a.mp4"
    assert skipped.detail.startswith(field)


@pytest.mark.parametrize(("rate", "num_frames"), [(5, 100), (10, 200), (4, 80)])
def test_a_copy_at_another_rate_has_the_right_seconds(tmp_path, rate, num_frames):
    path = tmp_path / "video/1_a.mp4"
    path.parent.mkdir()
    encode(path, num_frames=num_frames, pts=list(range(num_frames)), time_base=Fraction(1, rate), params="bframes=0")
    entry = {**V2, "img_num": 100, "img_size": [48, 64], "bbox": [[i, 10, 20, 20] for i in range(31)]}
    (tmp_path / "a.json").write_text(json.dumps({"1_a.mp4": entry}))
    (record,) = HcStvgReader(tmp_path / "a.json", "hc_stvg", tmp_path / "video")
    assert isinstance(record, Sample), record
    # Frame 20 of 100 in 20 seconds is at 4 s, the last one of the event at 10 s.
    (turn,) = read_turns(record, probe_media(record))
    assert (turn.answer.spans[0].start_seconds, turn.answer.spans[0].end_seconds) == pytest.approx((4, 10))
    assert turn.answer.tubes[0].box_at(6.0).xyxy == pytest.approx((10, 10, 30, 30), abs=0.6)


def test_a_video_of_another_length_is_named(tmp_path):
    path = tmp_path / "video/1_a.mp4"
    path.parent.mkdir()
    encode(path, num_frames=90, pts=list(range(90)), time_base=Fraction(1, 10), params="bframes=0")
    (tmp_path / "a.json").write_text(json.dumps({"1_a.mp4": V2}))
    (skipped,) = HcStvgReader(tmp_path / "a.json", "hc_stvg", tmp_path / "video")
    assert skipped.reason == "mismatched_media"
    assert "90 frames and 9.000 s, but the annotations are of one with 101 frames and 20.000 s" in skipped.detail


def test_refuses_another_file(tmp_path):
    assert open_hc_stvg(tmp_path, 3)[0].reason == "invalid_json"
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(InputError, match="holds no object"):
        HcStvgReader(tmp_path / "b.json", "hc_stvg")
    with pytest.raises(InputError, match="choose one of stvg, svg, tvg, elc"):
        open_hc_stvg(tmp_path, V1, task="rec")
