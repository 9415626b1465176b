"""Questions with choices: how they are asked, and about which part of a video."""

import json

import numpy as np
import pytest
from PIL import Image

from llava_st_hf.data.media_probe import probe_media
from llava_st_hf.data.readers.mvbench import MvBenchReader
from llava_st_hf.data.readers.registry import guess_format
from llava_st_hf.processing.media_llava_st import InputError

ELEMENT = {"video": "a.mp4", "question": "What turns?", "candidates": ["a bar", "a circle"], "answer": "a circle"}


@pytest.fixture
def open_file(tmp_path, clip):
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())

    def write(*elements, name="object_existence.json"):
        path = tmp_path / "json" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(elements))
        return MvBenchReader(path, "mvbench", tmp_path, num_frames=8)

    return write


def test_question_and_letter(open_file):
    reader = open_file(ELEMENT)
    assert guess_format(reader.path) == "mvbench"
    (record,) = reader
    assert (record.id, record.task) == ("object_existence 0", "multiple_choice")
    assert record.messages[0]["content"] == (
        "What turns?\nOptions:\n(A) a bar\n(B) a circle\nOnly give the best option."
    )
    assert record.messages[1]["content"] == "(B) a circle"


def test_a_folder_has_a_sub_task_for_each_file(open_file, tmp_path):
    open_file(ELEMENT, ELEMENT)
    open_file(ELEMENT, {**ELEMENT, "task_type": "Counting"}, name="action_count.json")
    reader = MvBenchReader(tmp_path / "json", "mvbench", tmp_path)
    assert [reader.get_groups(index)["sub-task"] for index in range(4)] == [
        "action_count",
        "Counting",
        "object_existence",
        "object_existence",
    ]


def test_published_files_have_a_folder_each(open_file, tmp_path):
    folder = tmp_path / "video" / "clevrer" / "video_validation"
    folder.mkdir(parents=True)
    (tmp_path / "a.mp4").rename(folder / "b.mp4")
    assert open_file({**ELEMENT, "video": "b.mp4"})[0].media[0].path == str(folder / "b.mp4")


def test_a_part_of_a_video(open_file):
    record = open_file({**ELEMENT, "start": 1.0, "end": 2.5})[0]  # ten frames a second
    assert record.frame_range == (10, 25)
    assert probe_media(record, 4)[0].frame_indices == (10, 15, 20, 25)


def test_a_folder_of_pictures_has_three_a_second(open_file, tmp_path):
    (tmp_path / "frames").mkdir()
    for number in range(12):
        Image.fromarray(np.zeros((54, 72, 3), dtype=np.uint8)).save(tmp_path / "frames" / f"{number:05d}.png")
    record = open_file({**ELEMENT, "video": "frames", "start": 1.0, "end": 3.0})[0]
    assert (record.frame_range, record.video_fps) == ((3, 9), 3.0)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"candidates": ["a circle"]}, "give 2 to 26 texts"),
        ({"candidates": "abc"}, "candidates is 'abc'"),
        ({"answer": "a dog"}, "answer is 'a dog': give one of the candidates"),
        ({"start": 2.0, "end": 1.0}, "start, end is [2.0, 1.0]: give a part of a video of 3.90 s"),
        ({"start": 2.0}, "end is missing"),
        ({"video": "b.mp4"}, "does not exist"),
    ],
)
def test_what_is_wrong_is_named(open_file, change, detail):
    assert detail in open_file(ELEMENT | change)[0].detail


def test_another_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no list"):
        (tmp_path / "b.json").write_text("{}")
        MvBenchReader(tmp_path / "b.json", "mvbench", tmp_path)
