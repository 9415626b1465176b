import hashlib
import json
import pickle
from collections import Counter

import numpy as np
import pytest
import torch

from llava_st_hf.data.samples import Sample
from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset, write_shapes
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.processing.tasks_llava_st import TASKS


def checksum(samples):
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample.media[0].frames.tobytes())
        digest.update(json.dumps([sample.id, sample.task, *sample.messages]).encode())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("difficulty, expected", [("easy", "9f83628b7e99a886"), ("standard", "58aeeb4c415596e9")])
def test_samples_are_those_of_every_machine(difficulty, expected):
    """They were recorded when the data set was made: a checkpoint trained on it depends on them."""
    samples = [s for task in SHAPES_TASKS for s in ShapesDataset([task], 5, seed=11, difficulty=difficulty)]
    assert checksum(samples) == expected


def test_a_sample_depends_on_nothing_but_its_number():
    weights = {"tvg": 2.0, "rec": 1.0}
    dataset = ShapesDataset(weights, 30)
    backwards = [dataset[index] for index in reversed(range(30))][::-1]
    np.random.seed(0)
    torch.manual_seed(0)
    again = ShapesDataset(dict(reversed(weights.items())), 1000)
    copied = pickle.loads(pickle.dumps(dataset))
    sums = {checksum(backwards), checksum([again[k] for k in range(30)]), checksum([copied[k] for k in range(30)])}
    assert sums == {checksum(dataset)}


def test_another_seed_gives_other_samples():
    first, second = (ShapesDataset(["tvg"], 20, seed=seed) for seed in (0, 1))
    assert not any(np.array_equal(a.media[0].frames, b.media[0].frames) for a, b in zip(first, second, strict=True))
    assert second[3].id == "st-shapes/1/3"


def test_tasks_come_up_by_their_weight():
    dataset = ShapesDataset({"rec": 3, "rc": 1, "tvg": 0.5, "svg": 0}, 1000)
    counts = Counter(sample.task for sample in dataset)
    assert set(counts) == {"rec", "rc", "tvg"}
    assert counts["rec"] / 1000 == pytest.approx(3 / 4.5, abs=0.05)
    assert counts["tvg"] / 1000 == pytest.approx(0.5 / 4.5, abs=0.035)


@pytest.mark.parametrize("task", SHAPES_TASKS)
def test_every_task_makes_samples(task):
    for sample in ShapesDataset([task], 10, num_frames=12, size=(40, 64), image_size=48):
        assert isinstance(sample, Sample) and sample.source == "st-shapes" and sample.task == task
        (medium,) = sample.media
        if sample.media_type == "video":
            assert medium.frames.shape == (12, 40, 64, 3) and sample.video_fps == 5.0
        else:
            assert medium.frames.shape == (48, 48, 3)
        assert TASKS[task].media_type in ("any", sample.media_type)


@pytest.mark.parametrize("num_frames", [8, 100])
def test_short_and_long_clips(num_frames):
    for sample in ShapesDataset(SHAPES_TASKS, 45, num_frames=num_frames, size=32):
        assert sample.media_type == "image" or len(sample.media[0].frames) == num_frames


def test_the_scene_is_that_of_the_sample():
    dataset = ShapesDataset(["rec"], 20)
    for index in range(20):
        boxes = [dataset.make_scene(index).get_box(item) for item in dataset.make_scene(index).objects]
        told = [coordinate.value for coordinate in dataset[index].find_coordinates()[1]]
        assert any(np.allclose(told, box, atol=1e-6) for box in boxes)


def test_further_questions_are_about_other_objects():
    one = ShapesDataset(["rec", "rc", "tvg", "tr"], 80, seed=3)
    several = ShapesDataset(["rec", "rc", "tvg", "tr"], 80, seed=3, num_questions=3)
    num_turns = Counter()
    for index in range(80):
        sample, scene = several[index], several.make_scene(index)
        assert sample.messages[:2] == one[index].messages
        turns = [
            sample.messages[first]["content"] + sample.messages[first + 1]["content"]
            for first in range(0, len(sample.messages), 2)
        ]
        num_turns[len(turns)] += 1
        for item in scene.objects:
            words = (item.name, f"{item.color} shape", f"the {item.shape}")
            assert len(turns) == 1 or sum(any(word in turn for word in words) for turn in turns) <= 1
        is_clip = sample.media_type == "video"
        assert all((("in the video" in turn) or ("the video?" in turn)) == is_clip for turn in turns)
    assert set(num_turns) == {1, 2, 3}
    assert several[0].task == one[0].task


def test_a_data_loader_takes_it_as_it_is():
    dataset = ShapesDataset(["tvg"], 6)
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=list)
    assert [sample.id for batch in loader for sample in batch] == [f"st-shapes/0/{index}" for index in range(6)]
    with pytest.raises(IndexError):
        dataset[6]


def test_encoded_samples_stream_as_rows():
    dataset = ShapesDataset(["rec", "tvg"], 6, encode=True)
    rows = list(dataset.to_dataset(num_shards=3))
    assert [Sample.from_row(row) for row in rows] == list(dataset)


def test_files_and_records_are_written(tmp_path):
    dataset, seen = ShapesDataset(["rec", "tvg"], 6, seed=2), []
    path = write_shapes(tmp_path / "shapes", dataset, progress=lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "shapes" / "st_shapes.jsonl" and seen == [(done, 6) for done in range(1, 7)]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    encoded = ShapesDataset(["rec", "tvg"], 6, seed=2, encode=True)
    for row, sample in zip(rows, encoded, strict=True):
        read = Sample.from_row(row)
        assert (read.id, read.task, read.messages) == (sample.id, sample.task, sample.messages)
        assert (path.parent / read.media[0].path).read_bytes() == sample.media[0].content
    again = write_shapes(tmp_path / "again", encoded)
    assert again.read_text() == path.read_text()
    assert {file.suffix for file in (tmp_path / "again" / "media").iterdir()} == {".mp4", ".png"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"task_weights": ["tvg", "fly"]}, "task is 'fly'"),
        ({"task_weights": "tvg"}, "task_weights is 'tvg'"),
        ({"task_weights": []}, "task_weights is"),
        ({"task_weights": {"tvg": 0}}, "at least one of them"),
        ({"task_weights": {"tvg": -1}}, r"task_weights\['tvg'\] is -1"),
        ({"task_weights": {"tvg": float("nan")}}, "is nan"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_samples": 2.5}, "num_samples is 2.5"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": True}, "seed is True"),
        ({"num_frames": 7}, "num_frames is 7"),
        ({"size": 20}, "size is 20"),
        ({"size": (72, 72, 3)}, "size is"),
        ({"size": 72.5}, "size is 72.5"),
        ({"image_size": (72, 0)}, "image_size is 0"),
        ({"frame_rate": 0}, "frame_rate is 0"),
        ({"frame_rate": float("inf")}, "frame_rate is inf"),
        ({"difficulty": "hard"}, "difficulty is 'hard'"),
        ({"difficulty": {"hard": 1}}, "difficulty is 'hard'"),
        ({"difficulty": {"easy": -1}}, r"difficulty\['easy'\] is -1"),
        ({"difficulty": {"easy": 0}}, "at least one of them"),
    ],
)
def test_what_cannot_be_made_is_said(arguments, message):
    with pytest.raises(InputError, match=message):
        ShapesDataset(**{"task_weights": ["tvg"], "num_samples": 1, **arguments})


def test_difficulties_are_mixed_by_their_weights():
    mixed = ShapesDataset(["rec"], 200, difficulty={"standard": 3, "easy": 1})
    easy, standard = (ShapesDataset(["rec"], 200, difficulty=name) for name in ("easy", "standard"))
    chosen = []
    for index in range(200):
        pixels = mixed[index].media[0].frames
        same = [np.array_equal(pixels, other[index].media[0].frames) for other in (easy, standard)]
        assert sum(same) == 1
        chosen.append(same[0])
    assert 30 <= sum(chosen) <= 70


@pytest.mark.parametrize(
    ("given", "message"),
    [({"frame_rate": 10**400}, "frame_rate is 1"), ({"task_weights": {"tvg": 10**400}}, "task_weights")],
)
def test_numbers_beyond_all_floats_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        ShapesDataset(**{"task_weights": ["tvg"], "num_samples": 1, **given})
