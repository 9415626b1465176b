import copy
import json
from fractions import Fraction
from pathlib import Path

import pytest
from video_files import encode

from llava_st_hf.data.readers.vidstg import VidStgReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo
from llava_st_hf.processing.question_wordings_llava_st import PLACE_QUESTIONS
from llava_st_hf.processing.tasks_llava_st import TASKS

ENTRY = {
    "vid": "515",
    "frame_count": 120,
    "fps": 25.0,
    "width": 200,
    "height": 100,
    "subject/objects": [{"tid": 0, "category": "dog"}, {"tid": 1, "category": "cat"}],
    "used_segment": {"begin_fid": 10, "end_fid": 110},
    "temporal_gt": {"begin_fid": 30, "end_fid": 61},
    "captions": [{"description": "a dog runs to a cat.", "type": "dog", "target_id": 0}],
    "questions": [{"description": "what does the dog run to?", "type": "cat", "target_id": 1}],
}


def make_vidor() -> dict:
    """Boxes of two objects; that of object 1 is moved right by a pixel each frame."""
    return {
        "video_id": "515",
        "video_path": "0001/515.mp4",
        "trajectories": [
            [
                {"tid": 0, "bbox": {"xmin": 0, "ymin": 0, "xmax": 20, "ymax": 20}, "generated": 0, "tracker": "none"},
                {"tid": 1, "bbox": {"xmin": i, "ymin": 10, "xmax": i + 20, "ymax": 60}, "generated": 0},
            ]
            for i in range(120)
        ],
    }


def open_vidstg(folder: Path, entries: list, vidor: dict | None = None, **options) -> VidStgReader:
    (folder / "video/0001").mkdir(parents=True, exist_ok=True)
    (folder / "video/0001/515.mp4").touch()
    (folder / "vidor/training/0001").mkdir(parents=True, exist_ok=True)
    (folder / "vidor/training/0001/515.json").write_text(json.dumps(make_vidor() if vidor is None else vidor))
    (folder / "a.json").write_text(json.dumps(entries))
    options.setdefault("vidor_folder", folder / "vidor")
    return VidStgReader(folder / "a.json", "vidstg", folder / "video", num_frames=11, **options)


def parse(sample: Sample, **options):
    frames = tuple(range(10, 111))
    return parse_answer(
        sample.messages[1]["content"],
        MediaInfo("video", 200, 100, frames, frames),
        answer_format=TASKS[sample.task].answer_format,
        **options,
    )


def test_each_sentence_is_a_record(tmp_path):
    caption, question = open_vidstg(tmp_path, [ENTRY])
    assert [caption.id, question.id] == ["entry 0 captions 0", "entry 0 questions 0"]
    assert caption.frame_range == (10, 110)
    assert caption.media[0].path == str(tmp_path / "video/0001/515.mp4")
    # In the wording of ST-Align, which each record's id chooses.
    assert caption.messages[0]["content"].startswith(
        "When does a dog runs to a cat occur in the video? Where is the corresponding subject/object located?"
    )
    assert question.messages[0]["content"].startswith(
        "What does the dog run to? Please find the corresponding time period in the video. "
        + PLACE_QUESTIONS[2]
        + "Please firstly"
    )
    result = parse(question)
    assert not result.problems
    assert (result.spans[0].start_seconds, result.spans[0].end_seconds) == pytest.approx((30, 60))
    # Every tenth frame is sampled; the frame after the last one of the event is not in it.
    assert [entry.seconds for entry in result.tubes[0].boxes] == pytest.approx([30, 40, 50, 60])
    assert [entry.box.xyxy for entry in result.tubes[0].boxes] == [
        pytest.approx((frame, 10, frame + 20, 60)) for frame in (30, 40, 50, 60)
    ]


@pytest.mark.parametrize(("task", "count"), [("svg", 2), ("tvg", 2), ("elc", 1)])
def test_other_tasks(tmp_path, task, count):
    reader = open_vidstg(tmp_path, [ENTRY], task=task)
    assert len(reader) == count
    for sample in reader:
        assert isinstance(sample, Sample)
        result = parse(sample, start_seconds=30 if task == "elc" else None)
        assert not result.problems
        assert bool(result.tubes) == (task != "tvg")
    if task == "elc":
        assert reader[0].messages[0]["content"].startswith(" Starts in <t=0.2> , what happened")
        assert result.captions[0].text == "a dog runs to a cat."


def test_spans_alone_need_no_boxes(tmp_path):
    (tmp_path / "video").mkdir()
    (tmp_path / "video/515.mp4").touch()
    reader = open_vidstg(tmp_path, [ENTRY], task="tvg", vidor_folder=None)
    assert reader[0].messages[1]["content"] == "{<t=0.2><t=0.5>}"


def test_takes_boxes_from_the_entry_itself(tmp_path):
    reader = open_vidstg(tmp_path, [{**ENTRY, "trajectories": make_vidor()["trajectories"]}], vidor_folder=None)
    assert reader[0].messages == open_vidstg(tmp_path, [ENTRY])[0].messages
    assert open_vidstg(tmp_path, [ENTRY], vidor_folder=None)[0].detail.startswith("trajectories of video 515")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"vid": None}, "vid"),
        ({"vid": "516"}, "vid"),
        ({"frame_count": None}, "frame_count"),
        ({"frame_count": 100}, "used_segment"),
        ({"used_segment": {"begin_fid": 10, "end_fid": 9}}, "used_segment"),
        ({"used_segment": None}, "used_segment"),
        ({"temporal_gt": {"begin_fid": 5, "end_fid": 20}}, "temporal_gt is [5, 19]: frame 5 is outside of the clip"),
        ({"temporal_gt": {"begin_fid": 5}}, "temporal_gt.end_fid"),
        ({"width": None}, "width"),
        ({"captions": [{"description": "a dog"}]}, "captions[0].target_id"),
        ({"captions": [{"description": "a dog", "target_id": 7}]}, "target_id"),
        ({"captions": [{"target_id": 0}]}, "captions[0].description"),
        ({"captions": None, "questions": []}, "captions"),
        ({"captions": [4]}, "captions[0] is 4"),
    ],
)
def test_says_what_is_wrong(tmp_path, changes, field):
    skipped = open_vidstg(tmp_path, [{**ENTRY, **changes}])[0]
    assert not isinstance(skipped, Sample)
    assert skipped.detail.startswith(field)


def test_says_what_is_wrong_with_a_box(tmp_path):
    vidor = make_vidor()
    broken = copy.deepcopy(vidor)
    broken["trajectories"][30][0]["bbox"] = {"xmin": 1, "ymin": 2, "xmax": 3}
    assert open_vidstg(tmp_path, [ENTRY], broken)[0].detail.startswith("trajectories[30].bbox.ymax is missing")


def test_an_entry_that_is_no_object_is_reported(tmp_path):
    reader = open_vidstg(tmp_path, [3, ENTRY])
    assert len(reader) == 3
    assert (reader[0].id, reader[0].reason) == ("entry 0", "invalid_json")


def test_refuses_another_file(tmp_path):
    with pytest.raises(InputError, match="vidor_folder"):
        open_vidstg(tmp_path, [], vidor_folder=tmp_path / "lost")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(InputError, match="holds no list"):
        VidStgReader(tmp_path / "b.json", "vidstg")


# ------------------------------------------------------------------------------------------------ the file at hand


@pytest.mark.parametrize(
    ("rate", "num_frames", "frame_range"), [(25, 120, (10, 110)), (50, 240, (20, 220)), (50, 241, (20, 220))]
)
def test_a_copy_at_another_rate_has_the_right_seconds(tmp_path, rate, num_frames, frame_range):
    reader = open_vidstg(tmp_path, [ENTRY])
    path = tmp_path / "video/0001/515.mp4"
    stamps = {"pts": list(range(num_frames)), "time_base": Fraction(1, rate)}
    encode(path, num_frames=num_frames, width=96, params="bframes=0", **stamps)
    caption, question = reader
    assert caption.frame_range == frame_range
    times = [coordinate.value for coordinate in question.find_coordinates()[1] if coordinate.kind == "t"]
    assert times == pytest.approx([0.2, 0.5, 0.2, 0.3, 0.4, 0.5])
    sides = [coordinate.value * 200 for coordinate in question.find_coordinates()[1] if coordinate.kind == "x"]
    assert sides[::2] == pytest.approx([30, 40, 50, 60])


@pytest.mark.parametrize(
    ("rate", "num_frames", "changes"), [(25, 100, {}), (50, 120, {}), (50, 240, {"fps": None}), (25, 120, {"fps": 30})]
)
def test_another_video_is_named(tmp_path, rate, num_frames, changes):
    reader = open_vidstg(tmp_path, [{**ENTRY, **changes}])
    path = tmp_path / "video/0001/515.mp4"
    encode(path, num_frames=num_frames, pts=list(range(num_frames)), time_base=Fraction(1, rate), params="bframes=0")
    assert [record.reason for record in reader] == ["mismatched_media"] * 2


def test_real_clips_are_those_that_were_annotated(real_annotations_dir, real_media_dir):
    path = real_annotations_dir / "vidstg_val_excerpt.json"
    names = {file.stem for file in real_media_dir.glob("*.mp4")}
    entries = json.loads(path.read_text())
    for record in VidStgReader(path, "vidstg", real_media_dir, task="tvg"):
        number = int(record.id.split()[1])
        assert isinstance(record, Sample) == (entries[number]["vid"] in names), record


# ------------------------------------------------------------------------------------------------ the real file


@pytest.fixture(scope="module")
def real_records(real_annotations_dir, tmp_path_factory):
    """The entries of the excerpt, and the records of their sentences; the videos are empty files."""
    path = real_annotations_dir / "vidstg_val_excerpt.json"
    entries, folder = json.loads(path.read_text()), tmp_path_factory.mktemp("videos")
    for entry in entries:
        (folder / f"{entry['vid']}.mp4").touch()
    return entries, list(VidStgReader(path, "vidstg", folder, task="tvg"))


def test_no_real_record_is_skipped_for_its_numbers(real_records):
    entries, records = real_records
    assert len(records) == sum(len(entry["captions"]) + len(entry["questions"]) for entry in entries) > 1000
    assert [record for record in records if not isinstance(record, Sample)] == []
    # Such as have the event up to the last frame of the segment, whose number the file has for its end.
    by_entry = {record.id.rpartition(" ")[0]: record for record in records}
    for number, entry in enumerate(entries):
        record = by_entry[f"entry {number} captions"]
        segment, event = entry["used_segment"], entry["temporal_gt"]
        assert record.frame_range == (segment["begin_fid"], segment["end_fid"])
        ends_together = event["end_fid"] == segment["end_fid"] + 1
        assert record.messages[1]["content"].endswith("<t=1.0>}") == ends_together


def test_fractions_are_the_published_ones(real_records):
    entries, records = real_records
    (number,) = (
        number
        for number, entry in enumerate(entries)
        if entry["vid"] == "4240545211" and entry["used_segment"] == {"begin_fid": 0, "end_fid": 257}
    )
    (record,) = (record for record in records if record.id == f"entry {number} captions 0")
    start, end = (coordinate.value for coordinate in record.find_coordinates()[1])
    assert round(start, 3) == 0.591 and (start, end) == (152 / 257, 246 / 257)


def test_fractions_of_the_published_demo(tmp_path):
    # 4591061010, whose segment is 346 to 743, the last one included.
    segment, event = {"begin_fid": 346, "end_fid": 743}, {"begin_fid": 444, "end_fid": 480}
    entry = {**ENTRY, "frame_count": 744, "used_segment": segment, "temporal_gt": event, "questions": []}
    (record,) = open_vidstg(tmp_path, [entry], task="tvg")
    start, end = (coordinate.value for coordinate in record.find_coordinates()[1])
    assert (round(start, 4), round(end, 4)) == (0.2469, 0.3350)


def test_real_spans_are_those_of_st_align(real_records, real_annotations_dir):
    entries, records = real_records
    derived = json.loads((real_annotations_dir / "st_align_stvg_truth_excerpt.json").read_text())
    spans: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        entry = entries[int(record.id.split()[1])]
        first, last = record.frame_range
        frames = [first + coordinate.value * (last - first) for coordinate in record.find_coordinates()[1]]
        spans.setdefault(f"{entry['vid']}.mp4", []).append(tuple(frame / entry["fps"] for frame in frames))
    # Of these three videos the excerpt has every entry.
    derived = [item for item in derived if item["path"] in ("3843663025.mp4", "4240545211.mp4", "8665030691.mp4")]
    assert len(derived) > 10
    for item in derived:
        times = json.loads(item["solution"].removeprefix("<answer>").removesuffix("</answer>"))["time"]
        assert any(span == pytest.approx(times, abs=1e-6) for span in spans[item["path"]]), item["problem"]
