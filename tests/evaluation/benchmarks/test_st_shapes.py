"""ST-Shapes as a benchmark."""

import numpy as np
import pytest

from llava_st_hf.evaluation.benchmarks.st_shapes import FIRST_EVALUATION_SEED, StShapes
from llava_st_hf.evaluation.benchmarks.st_shapes_baselines import FITTED_BASELINES
from llava_st_hf.evaluation.blind_baseline import fit_blind_baseline
from llava_st_hf.evaluation.protocols import PROTOCOLS
from llava_st_hf.processing.media_llava_st import InputError


def test_items_are_of_their_task_and_always_the_same():
    benchmark = StShapes(2)
    assert len(benchmark) == 2 * 7
    ids = [benchmark.get_id(index) for index in range(len(benchmark))]
    assert len(set(ids)) == len(ids)
    again = StShapes(2, tasks=("rec", "tvg"))
    for index in range(len(benchmark)):
        sample = benchmark.read(index)
        assert sample.task == benchmark.get_task(index)
        assert sample.media[0].frames.shape[-3:] == (72, 72, 3)
        if sample.task in again.tasks:
            same = again.read(next(i for i in range(len(again)) if again.get_id(i) == ids[index]))
            assert same.messages == sample.messages
            assert np.array_equal(same.media[0].frames, sample.media[0].frames)


def test_items_are_none_of_training(few_training_samples):
    benchmark = StShapes(20, tasks=("tvg",))
    asked = {benchmark.read(index).media[0].frames.tobytes() for index in range(20)}
    trained = {sample.media[0].frames.tobytes() for sample in benchmark.get_training_samples("tvg")}
    assert len(trained) == len(asked) == 20
    assert not asked & trained


def test_most_items_of_a_number_are_about_one_clip():
    benchmark = StShapes(10, ("stvg", "tvg", "tr", "rc"))
    clips: dict[str, set[bytes]] = {}
    for index in range(len(benchmark)):
        clips.setdefault(benchmark.get_medium(index), set()).add(benchmark.read(index).media[0].frames.tobytes())
    assert len(clips) == 20  # clips and images
    assert sum(map(len, clips.values())) < 30


@pytest.mark.parametrize("task", ["rc", *(pytest.param(task, marks=pytest.mark.slow) for task in StShapes(1).tasks)])
def test_fitted_baselines_are_what_is_fitted(task):
    benchmark = StShapes(1)
    found = benchmark.make_baseline(task)
    fitted = fit_blind_baseline(task, benchmark.get_training_samples(task))
    assert found is FITTED_BASELINES[task]
    assert (found.text, found.span is None) == (fitted.text, fitted.span is None)
    for name in ("span", "box", "duration"):
        assert getattr(found, name) == pytest.approx(getattr(fitted, name), abs=1e-12)


def test_other_clips_have_baselines_of_their_own(few_training_samples):
    assert StShapes(1, difficulty="easy").make_baseline("rec") != FITTED_BASELINES["rec"]


def test_resolution_and_difficulty():
    benchmark = StShapes(1, tasks=("tvg",), num_frames=10, size=54, difficulty="easy")
    assert benchmark.read(0).media[0].frames.shape == (10, 54, 54, 3)
    assert benchmark.get_settings() == {
        "benchmark": "st-shapes",
        "tasks": ["tvg"],
        "num_clips": 1,
        "seed": FIRST_EVALUATION_SEED,
        "num_frames": 10,
        "size": 54,
        "difficulty": "easy",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 5}, "seed is 5: smaller ones than 1,000,000 are for training"),
        ({"num_clips": 0}, "num_clips is 0"),
        ({"tasks": ("dvc",)}, r"tasks is \['dvc'\]: choose from stvg, tvg"),
        ({"tasks": ("tvg", "tvg")}, "each once"),
        ({"tasks": ()}, "choose from"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        StShapes(**arguments)


def test_tasks_without_a_published_scorer():
    StShapes(1, tasks=("tvg",)).check_protocol(PROTOCOLS["reference"])
    with pytest.raises(InputError, match="tasks has tr, which protocol 'reference' does not score"):
        StShapes(1, tasks=("tvg", "tr")).check_protocol(PROTOCOLS["reference"])


def test_the_tasks_are_those_that_are_scored():
    assert set(StShapes.list_tasks("default")) == set(StShapes.scored_tasks) <= set(PROTOCOLS["default"].list_tasks())
    assert StShapes.list_tasks("reference") == ["stvg", "tvg", "svg", "rec", "elc"]
