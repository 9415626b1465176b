import json
from pathlib import Path

import pytest
from PIL import Image

from llava_st_hf.data.media_probe import probe_video
from llava_st_hf.data.readers.video_r1 import VideoR1Reader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import MediaInfo
from llava_st_hf.processing.question_wordings_llava_st import ANSWER_REQUESTS

PLACE = "Where is the corresponding subject/object located?"
QUESTION = f"When does a circle moves occur in the video? {PLACE}"
SOLUTION = {"time": [1.0, 3.0], "boxes": {"1": [10, 20, 50, 60], "3": [50, 20, 90, 60]}}


def wrap(solution: object) -> str:
    return f"<answer>{json.dumps(solution)}</answer>"


def open_questions(folder: Path, clip: Path, solution: object, path: str = "./data/a.mp4", **options) -> VideoR1Reader:
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    Image.new("RGB", (200, 100)).save(folder / "a.jpg")
    record = {"problem_id": 40, "path": path, "problem": QUESTION, "solution": solution}
    (folder / "questions.json").write_text(json.dumps([record]))
    return VideoR1Reader(folder / "questions.json", "r1", folder, **options)


@pytest.mark.parametrize("solution", [wrap(SOLUTION), json.dumps(SOLUTION), SOLUTION])
def test_boxes_by_second_become_a_tube(tmp_path, clip, solution):
    (record,) = open_questions(tmp_path, clip, solution)
    assert (record.id, record.task) == ("40", "stvg")
    assert record.messages[0]["content"] == QUESTION + ANSWER_REQUESTS["stvg"]
    result = parse_answer(record.messages[1]["content"], probe_video(str(clip), 100), answer_format="span_and_tube")
    assert result.problems == ()
    assert (result.spans[0].start_seconds, result.spans[0].end_seconds) == pytest.approx((1, 3))
    assert result.tubes[0].box_at(2.0).xyxy == pytest.approx((30, 20, 70, 60))


def test_the_task_follows_from_the_solution(tmp_path, clip):
    (times,) = open_questions(tmp_path, clip, wrap({"time": [1.0, 3.0]}))
    assert (times.task, times.messages[1]["content"]) == ("tvg", f"{{<t={10 / 39!r}><t={30 / 39!r}>}}")
    assert times.messages[0]["content"] == "When does a circle moves occur in the video?"
    (box,) = open_questions(tmp_path, clip, {"boxes": [20, 10, 100, 50]}, path="a.jpg")
    assert (box.task, box.messages[1]["content"]) == ("rec", "[<x=0.1><y=0.1><x=0.5><y=0.5>]")
    assert box.messages[0]["content"] == QUESTION


def test_an_end_behind_the_clip_is_cut(tmp_path, clip):
    (record,) = open_questions(tmp_path, clip, wrap({"time": [1.0, 5.5]}))
    assert record.messages[1]["content"] == f"{{<t={10 / 39!r}><t=1.0>}}"
    assert record.notes[0][0] == "cut_end"


@pytest.mark.parametrize(
    ("solution", "found"),
    [
        ({"time": [1, 3], "boxes": {}}, "solution.boxes is {}: give a box for each second; without any, read it as"),
        ({"time": [1, 3], "boxes": {"x": [1, 2, 3, 4]}}, "solution.boxes is 'x'"),
        ({"time": [1, 3], "boxes": {"1": [1, 2]}}, "solution.boxes[1] is [1, 2]"),
        ({"time": [1]}, "solution.time is [1]"),
        ({"answer": "A"}, "solution is {'answer': 'A'}: give an object with time, or boxes"),
        ("<answer>B</answer>", "solution is '<answer>B</answer>': it holds no JSON"),
        (None, "solution is missing"),
    ],
)
def test_says_what_is_wrong(tmp_path, clip, solution, found):
    assert open_questions(tmp_path, clip, solution)[0].detail.startswith(found)


@pytest.fixture
def real_items(real_annotations_dir):
    path = real_annotations_dir / "st_align_stvg_truth_excerpt.json"
    return path, json.loads(path.read_text())


def test_the_real_file(real_items, tmp_path, monkeypatch):
    path, items = real_items
    for item in items:
        (tmp_path / item["path"]).touch()
    # Longer and larger than any of them: what is written is then read back.
    seconds = tuple(number / 5 for number in range(1501))
    media = MediaInfo("video", 4000, 4000, tuple(range(1501)), seconds)
    monkeypatch.setattr("llava_st_hf.data.sample_writing.probe_video", lambda *arguments: media)
    times = [json.loads(item["solution"][8:-9])["time"] for item in items]
    records = list(VideoR1Reader(path, "r1", tmp_path, task="tvg"))
    for record, item, expected in zip(records, items, times, strict=True):
        (span,) = parse_answer(record.messages[1]["content"], media).spans
        assert (span.start_seconds, span.end_seconds) == pytest.approx(expected, abs=1e-6)
        assert record.id == str(item["problem_id"]) and PLACE not in record.messages[0]["content"]
    records = list(VideoR1Reader(path, "r1", tmp_path))
    skipped = [record for record in records if not isinstance(record, Sample)]
    assert len(records) == 418 and len(skipped) == 20
    assert all(record.detail.startswith("solution.boxes is {}") for record in skipped)


def test_real_clips(real_items, real_media_dir):
    path, items = real_items
    reader = VideoR1Reader(path, "r1", real_media_dir)
    checked = 0
    for index, item in enumerate(items):
        if not (real_media_dir / item["path"]).exists():
            continue
        record, solution = reader[index], json.loads(item["solution"][8:-9])
        info = probe_video(record.media[0].path, 100)
        result = parse_answer(record.messages[1]["content"], info, answer_format="span_and_tube")
        assert result.problems == ()
        for second, box in solution["boxes"].items():
            found = result.tubes[0].box_at(float(second))  # between two sampled frames a corner may be cut
            if found is not None:
                assert found.xyxy == pytest.approx(box, abs=20)
                checked += 1
    assert checked > 100
    # 3843663025, "what is beneath the child": the whole clip.
    first = parse_answer(reader[0].messages[1]["content"], probe_video(str(real_media_dir / "3843663025.mp4"), 100))
    assert first.spans[0].fractions == pytest.approx((0, 1), abs=1e-6)
    assert first.tubes[0].box_at(0.0).xyxy == pytest.approx((255, 158, 440, 338), abs=0.1)
