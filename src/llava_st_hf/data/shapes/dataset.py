"""ST-Shapes as a data set: samples made when they are asked for, and written to files."""

import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from numbers import Real
from pathlib import Path
from typing import Any

from ...processing import InputError, get_task
from ...processing.media_llava_st import is_finite
from ...utils.atomic_files import write_bytes_whole, write_text_whole
from ..annotation_checks import check_count
from ..readers.base import Reader
from ..samples import Media, Sample
from .encoding import encode_sample
from .questions import SHAPES_TASKS, add_questions, write_messages
from .random_stream import RandomStream
from .rendering import render_scene
from .scenes import DIFFICULTIES, Difficulty, Scene, SceneRequest, sample_scene

_SOURCE = "st-shapes"
_MIN_FRAMES, _MIN_SIZE = 8, 32
_ANNOTATIONS = "st_shapes.jsonl"
_SINGLE_EVENT_TASK = "classification"  # its scenes are made for one question


class ShapesDataset(Reader):
    """
    Clips and images of moving coloured shapes with true answers for `SHAPES_TASKS`, made when they are asked for.

    Sample i is a pure function of the arguments and of i: the same pixels and texts on every machine and in every
    order. Another seed gives other clips; with the same seed, data sets of other tasks often show the same ones, so
    give those for testing a seed of their own. `len(dataset)` and `dataset[i]` are all that a
    PyTorch `DataLoader` needs.

    Args:
        task_weights (`Mapping[str, float]` or `Sequence[str]`):
            How often each task comes up; a list of names gives each the same weight.
        num_samples (`int`): Number of samples.
        seed (`int`, *optional*, defaults to 0): From 0 to 2**63 - 1.
        num_frames (`int`, *optional*, defaults to 20): Frames of a clip, at least 8.
        size (`int` or `tuple[int, int]`, *optional*, defaults to 72):
            Side of the frames in pixels, or their height and width; at least 32.
        image_size (`int` or `tuple[int, int]`, *optional*): The same of images, `size` by default.
        frame_rate (`float`, *optional*, defaults to 5.0): Frames per second of a clip.
        difficulty (`str` or `Mapping[str, float]`, *optional*, defaults to `"standard"`):
            `"easy"` for one or two shapes on a plain background that never hide each other, `"standard"` for up
            to four on textured, noisy or moving backgrounds, or how often each of them.
        num_questions (`int`, *optional*, defaults to 1):
            Most questions about one clip or image, as turns of a conversation, each about objects that were not spoken
            of before. The first is of the drawn task, whose name the sample bears, the others of any task.
        encode (`bool`, *optional*, defaults to `False`):
            Whether media are the bytes of MP4 and PNG files instead of arrays.

    Raises:
        `InputError`: For an argument that cannot be used.

    Example:

    ```python
    >>> dataset = ShapesDataset(["tvg", "rec"], num_samples=1000)
    >>> dataset[0].id
    'st-shapes/0/0'
    ```
    """

    source = _SOURCE

    def __init__(
        self,
        task_weights: Mapping[str, float] | Sequence[str],
        num_samples: int,
        seed: int = 0,
        num_frames: int = 20,
        size: int | tuple[int, int] = 72,
        image_size: int | tuple[int, int] | None = None,
        frame_rate: float = 5.0,
        difficulty: str | Mapping[str, float] = "standard",
        num_questions: int = 1,
        encode: bool = False,
    ):
        if isinstance(task_weights, str):
            raise InputError(f"task_weights is {task_weights!r}: give a list of tasks, or a weight for each.")
        self.task_weights = _check_weights("task_weights", "task", task_weights, SHAPES_TASKS)
        self.num_samples = check_count("num_samples", num_samples, 1, 2**63 - 1)
        self.seed = check_count("seed", seed, 0, 2**63 - 1)
        self.num_frames = check_count("num_frames", num_frames, _MIN_FRAMES, 10_000)
        self.size = _check_size("size", size)
        self.image_size = self.size if image_size is None else _check_size("image_size", image_size)
        if not is_finite(frame_rate) or frame_rate <= 0:
            raise InputError(f"frame_rate is {frame_rate}: give frames per second above 0.")
        self.frame_rate = float(frame_rate)
        self.difficulty = difficulty
        difficulties = [difficulty] if isinstance(difficulty, str) else difficulty
        self._difficulty_weights = _check_weights("difficulty", "difficulty", difficulties, DIFFICULTIES)
        self.num_questions = check_count("num_questions", num_questions, 1, 100)
        self.encode = encode

    def __len__(self) -> int:
        return self.num_samples

    def get_id(self, index: int) -> str:
        """Return the name of a sample, `st-shapes/<seed>/<index>`."""
        return f"{_SOURCE}/{self.seed}/{index}"

    def read(self, index: int) -> Sample:
        """Make one sample."""
        task, scene, messages, rng = self._compose(index)
        frames = render_scene(scene, rng, self._choose_difficulty(index))
        is_clip = scene.num_frames > 1
        sample = Sample(
            id=self.get_id(index),
            source=_SOURCE,
            task=task,
            media_type="video" if is_clip else "image",
            media=(Media(frames=frames if is_clip else frames[0]),),
            messages=messages,
            video_fps=self.frame_rate if is_clip else None,
        )
        return encode_sample(sample) if self.encode else sample

    def make_scene(self, index: int) -> Scene:
        """Return all that is true of a sample: its objects, where they are at each frame and what they do."""
        return self._compose(index)[1]

    def _compose(self, index: int) -> tuple[str, Scene, tuple[dict[str, str], ...], RandomStream]:
        """Choose task, scene and texts of a sample; the random numbers go on with the pixels."""
        rng = RandomStream(self.seed, index)
        task = _choose(self.task_weights, rng)
        media_type = get_task(task).media_type
        is_clip = rng.chance(0.5) if media_type == "any" else media_type == "video"
        height, width = self.size if is_clip else self.image_size
        request = SceneRequest(
            num_frames=self.num_frames if is_clip else 1,
            height=height,
            width=width,
            difficulty=self._choose_difficulty(index),
            single_event=task == _SINGLE_EVENT_TASK,
        )
        while True:
            scene = sample_scene(rng, request)
            # The same choices for each scene: what is asked does not depend on how many scenes allow it.
            messages = write_messages(task, scene, RandomStream(self.seed, index, stream=1))
            if messages is not None:
                break
        if self.num_questions > 1 and task != _SINGLE_EVENT_TASK:
            kinds = ("any", "video" if is_clip else "image")
            tasks = [name for name in self.task_weights if get_task(name).media_type in kinds]
            tasks = [name for name in tasks if name != _SINGLE_EVENT_TASK]
            stream = RandomStream(self.seed, index, stream=2)
            messages = add_questions(messages, scene, tasks, self.num_questions, stream)
        return task, scene, messages, rng

    def _choose_difficulty(self, index: int) -> Difficulty:
        return DIFFICULTIES[_choose(self._difficulty_weights, RandomStream(self.seed, index, stream=3))]


def write_shapes(
    folder: str | os.PathLike, dataset: ShapesDataset, progress: Callable[[int, int], None] | None = None
) -> Path:
    """
    Write a data set as files: clips and images in `folder/media`, and their records in `folder/st_shapes.jsonl`.

    The records are in the canonical form, with paths relative to the folder; they are written last.

    Args:
        folder (`str` or `os.PathLike`): Where to write; made where it does not exist.
        dataset (`ShapesDataset`): What to write.
        progress (`Callable[[int, int], None]`, *optional*):
            Called after each sample with the number of samples done and of all.

    Returns:
        `Path`: The file with the records.
    """
    folder = Path(folder)
    (folder / "media").mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(len(dataset)):
        sample = dataset.read(index)
        row = (sample if dataset.encode else encode_sample(sample)).to_row()
        for item in row["media"]:
            content = item.pop("bytes")
            item["path"] = f"media/{index}{Path(item['path']).suffix}"
            write_bytes_whole(folder / item["path"], content)
        lines.append(json.dumps(row) + "\n")
        if progress is not None:
            progress(index + 1, len(dataset))
    path = folder / _ANNOTATIONS
    write_text_whole(path, "".join(lines))
    return path


def _choose(weights: Mapping[str, float], rng: RandomStream) -> str:
    """Draw one of the names by their weights."""
    names, reached = list(weights), list(accumulate(weights.values()))
    return names[bisect_right(reached, rng.uniform(0, reached[-1]), hi=len(names) - 1)]


def _check_weights(field: str, kind: str, given: Any, known: Iterable[str]) -> dict[str, float]:
    """Return the weights above 0 of what is known, in its order: that of the argument does not matter."""
    weights = given if isinstance(given, Mapping) else dict.fromkeys(given, 1.0)
    for name, weight in weights.items():
        if name not in known:
            raise InputError(f"{kind} is {name!r}: choose from {', '.join(known)}.")
        if not isinstance(weight, Real) or not is_finite(weight) or weight < 0:
            raise InputError(f"{field}[{name!r}] is {weight!r}: give a finite weight of 0 or more.")
    chosen = {name: float(weights[name]) for name in known if weights.get(name, 0) > 0}
    if not chosen:
        raise InputError(f"{field} is {dict(weights)!r}: give at least one of them a weight above 0.")
    return chosen


def _check_size(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width."""
    sides = value if isinstance(value, Sequence) else (value, value)
    if len(sides) != 2:
        raise InputError(f"{name} is {value!r}: give one side in pixels, or height and width.")
    height, width = (check_count(name, side, _MIN_SIZE, 4096) for side in sides)
    return height, width
