import json
import pickle
from pathlib import Path

import pytest

from llava_st_hf.data.readers.registry import FORMATS, guess_format, open_reader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.media_llava_st import InputError

TURNS = [{"from": "human", "value": "<video>\nWhat is it?"}, {"from": "gpt", "value": "A dog."}]
BENCHMARK = {
    "video_path": "a.mp4",
    "conversations": [
        {"from": "human", "value": "<video>\nWhen is the dog there?"},
        {"from": "gpt", "value": "<s> <e> Object bounding box: <bboxes>"},
    ],
    "meta": {
        "width": 320,
        "height": 240,
        "split": [0, 39],
        "time_token": {"<s>": 0, "<e>": 39},
        "spatial_token": {"<bboxes>": {"0": [0, 0, 10, 10]}},
    },
}
VIDSTG = {
    "vid": "a",
    "frame_count": 40,
    "width": 320,
    "height": 240,
    "used_segment": {"begin_fid": 0, "end_fid": 39},
    "temporal_gt": {"begin_fid": 0, "end_fid": 40},
    "captions": [{"description": "a dog", "target_id": 0}],
    "questions": [],
    "trajectories": [[{"tid": 0, "bbox": {"xmin": 0, "ymin": 0, "xmax": 9, "ymax": 9}}]],
}
CANONICAL = {
    "id": "1",
    "source": "s",
    "task": "conversation",
    "media_type": "video",
    "media": [{"path": "a.mp4"}],
    "messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A dog."}],
}
IMAGE = {"id": 1, "file_name": "a.jpg", "width": 320, "height": 240}
ANNOTATION = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
FILES = {
    "st_align": ("a.json", [{"id": 1, "video": "a.mp4", "conversations": TURNS}]),
    "canonical": ("a.jsonl", CANONICAL),
    "st_align_benchmark": ("a.json", [BENCHMARK]),
    "charades_sta": ("a.json", [{"image_id": "a.mp4", "caption": "a dog", "timestamp": [0.1, 0.5]}]),
    "refcoco": ("a.json", {"images": [{**IMAGE, "caption": "dog"}], "annotations": [ANNOTATION], "categories": []}),
    "vidstg": ("a.json", [VIDSTG]),
    "hc_stvg": (
        "a.json",
        {"a.mp4": {"bbox": [[0, 0, 9, 9]], "st_frame": 1, "img_num": 40, "img_size": [240, 320], "English": "A dog."}},
    ),
    "user_jsonl": ("a.jsonl", {"video": "a.mp4", "query": "a dog", "span_seconds": [0, 1]}),
    "coco": (
        "a.json",
        {"images": [IMAGE], "annotations": [ANNOTATION], "categories": [{"id": 1, "name": "dog"}]},
    ),
}


@pytest.fixture
def folder(clip, tmp_path):
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "a.jpg").touch()
    return tmp_path


def write_file(folder: Path, format: str) -> Path:
    name, content = FILES[format]
    (folder / name).write_text(json.dumps(content))
    return folder / name


@pytest.mark.parametrize("format", FILES)
def test_every_format_is_told_and_read(folder, format):
    path = write_file(folder, format)
    assert guess_format(path) == format
    reader = open_reader(format, path, "mine", data_folder=folder)
    (sample,) = reader
    assert isinstance(sample, Sample), sample
    assert (sample.source, len(reader)) == ("mine", 1)
    assert pickle.loads(pickle.dumps(reader))[0] == sample


def test_the_table_is_complete():
    assert set(FORMATS) == set(FILES)
    assert all(entry.description and "\n" not in entry.description for entry in FORMATS.values())


def test_lines_of_charades_are_told(tmp_path):
    (tmp_path / "a.txt").write_text("a 0.0 1.0##a dog.")
    assert guess_format(tmp_path / "a.txt") == "charades_sta"


def test_folders_and_parquet_are_canonical(tmp_path):
    assert guess_format(tmp_path) == guess_format("a.parquet") == guess_format("hf://datasets/a/b") == "canonical"


def test_options_reach_the_reader(folder):
    path = write_file(folder, "vidstg")
    (sample,) = open_reader("vidstg", path, "mine", data_folder=folder, task="tvg", num_frames=7)
    assert sample.task == "tvg"


@pytest.mark.parametrize(
    ("arguments", "options", "found"),
    [
        (("vid", "a.json", "mine"), {}, "format is 'vid': choose one of st_align, canonical"),
        (([], "a.json", "mine"), {}, r"format is \[\]"),
        (("refcoco", "a.json", "mine"), {"frames": 3}, "frames is no option of the format refcoco: it takes prompt_v"),
        (("st_align", "a.json", "mine"), {"frames": 3}, "it takes no options"),
        (("coco", "lost.json", "mine"), {}, "lost.json"),
    ],
)
def test_says_what_can_be_opened(arguments, options, found):
    with pytest.raises(InputError, match=found):
        open_reader(*arguments, **options)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('[{"a": 1, "b": 2}]', "the keys of its first record are a, b. Give format=..., one of st_align, can"),
        ("[]", "a.json holds no record"),
        ("[3]", "the keys of its first record are none"),
        ('{"video": {"a": 1}, "x": []}', "are video, x"),
        ('[{"a": NaN}]', "cannot be read"),
        ("{", "cannot be read"),
        ('{"a": 1}\n{"a": 2}\n', "Name a file with one record per line .jsonl"),
        ("", "a.json"),
    ],
)
def test_says_what_was_seen(tmp_path, content, found):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=found):
        guess_format(tmp_path / "a.json")


def test_says_that_lines_are_empty_or_broken(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no record"):
        guess_format(path)
    path.write_text('{"video":\n {"video": "a.mp4"}\n')
    with pytest.raises(InputError, match=r"first record cannot be read: a\.jsonl, line 1 .* Or give format="):
        guess_format(path)


def test_says_that_there_is_no_file(tmp_path):
    with pytest.raises(InputError, match=r"lost\.json"):
        guess_format(tmp_path / "lost.json")
