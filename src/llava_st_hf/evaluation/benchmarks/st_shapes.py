"""ST-Shapes as a benchmark: clips and images that are generated, so that none of them was ever trained on."""

from collections.abc import Iterable, Sequence
from typing import Any

from ...data.samples import Sample
from ...data.shapes import ShapesDataset
from ...processing import InputError, get_task
from ..blind_baseline import BlindBaseline
from ..protocols import get_protocol
from .base import Benchmark
from .st_shapes_baselines import FITTED_BASELINES

# Seeds from here on are for evaluation, those below for training.
FIRST_EVALUATION_SEED = 1_000_000
DEFAULT_NUM_FRAMES = 20
NUM_TRAINING_SAMPLES = 500  # of each task, on which the blind baseline is fitted
_TRAINING_SEED = 0
_FITTED_SAMPLES = 500
_DEFAULT_OPTIONS = {"num_frames": DEFAULT_NUM_FRAMES, "size": 72, "difficulty": "standard"}


class StShapes(Benchmark):
    """
    Generated clips and images of moving coloured shapes, the same number for each task.

    Item i of a task is sample i of `ShapesDataset` with this task alone and the seed of the benchmark. Seeds of
    1,000,000 and more are kept for evaluation; training takes smaller ones.

    Args:
        num_clips (`int`, *optional*, defaults to 500): Items of each task.
        tasks (`Sequence[str]`, *optional*): Tasks to ask, out of `scored_tasks`; by default all of them.
        seed (`int`, *optional*, defaults to 1000000): Seed of the clips.
        num_frames (`int`, *optional*, defaults to 20): Frames of a clip.
        size (`int`, *optional*, defaults to 72): Height and width in pixels.
        difficulty (`str`, *optional*, defaults to `"standard"`): See `ShapesDataset`.

    Raises:
        `InputError`: For an unknown or repeated task, no items, or a seed of training.

    Example:

    ```python
    >>> benchmark = StShapes(num_clips=100, tasks=("tvg", "rec"))
    >>> len(benchmark), benchmark.get_id(0), benchmark.get_task(150)
    (200, 'tvg-1000000-0', 'rec')
    ```
    """

    name = "st-shapes"
    protocols = ("default", "reference")
    scored_tasks = ("stvg", "tvg", "svg", "rec", "elc", "tr", "rc")

    def __init__(
        self,
        num_clips: int = 500,
        tasks: Sequence[str] | None = None,
        seed: int = FIRST_EVALUATION_SEED,
        num_frames: int = DEFAULT_NUM_FRAMES,
        size: int = 72,
        difficulty: str = "standard",
    ):
        self.tasks = self.scored_tasks if tasks is None else tuple(tasks)
        if not self.tasks or not set(self.tasks) <= set(self.scored_tasks) or len(set(self.tasks)) < len(self.tasks):
            raise InputError(
                f"tasks is {list(self.tasks)}: choose from {', '.join(self.scored_tasks)}, each once.", field="tasks"
            )
        if num_clips < 1:
            raise InputError(f"num_clips is {num_clips}: give at least 1.", field="num_clips")
        if seed < FIRST_EVALUATION_SEED:
            raise InputError(
                f"seed is {seed}: smaller ones than {FIRST_EVALUATION_SEED:,} are for training, give that or a larger "
                "one.",
                field="seed",
            )
        self.num_clips = num_clips
        self.seed = seed
        self.num_frames = num_frames
        self._options: dict[str, Any] = {"num_frames": num_frames, "size": size, "difficulty": difficulty}
        self._datasets = {
            task: ShapesDataset({task: 1.0}, num_clips, seed=seed, **self._options) for task in self.tasks
        }

    def fit(self, num_frames: int | None, size: int) -> "StShapes":
        """Return the same benchmark for a model that sees so many frames of a clip, and of this size."""
        return StShapes(
            self.num_clips, self.tasks, self.seed, num_frames or DEFAULT_NUM_FRAMES, size, self._options["difficulty"]
        )

    @classmethod
    def list_tasks(cls, protocol: str) -> list[str]:
        """Return the tasks that a protocol scores, by its name."""
        return [task for task in cls.scored_tasks if task in get_protocol(protocol).list_tasks()]

    def __len__(self) -> int:
        return len(self.tasks) * self.num_clips

    def get_id(self, index: int) -> str:
        """Return the name of an item: task, seed and number."""
        return f"{self.get_task(index)}-{self.seed}-{index % self.num_clips}"

    def get_task(self, index: int) -> str:
        """Return the task of an item; those of one task stand together."""
        return self.tasks[index // self.num_clips]

    def get_medium(self, index: int) -> str:
        """Return the number of an item: with it most tasks that ask about clips have the same one."""
        return f"{get_task(self.get_task(index)).media_type} {index % self.num_clips}"

    def read(self, index: int) -> Sample:
        """Generate one item."""
        return self._datasets[self.get_task(index)][index % self.num_clips]

    def get_training_samples(self, task: str) -> Iterable[Sample]:
        """Generate records of a task with a seed of training."""
        dataset = ShapesDataset({task: 1.0}, NUM_TRAINING_SAMPLES, seed=_TRAINING_SEED, **self._options)
        return (dataset[index] for index in range(NUM_TRAINING_SAMPLES))

    def make_baseline(self, task: str) -> BlindBaseline | None:
        """Return the blind baseline of a task, fitted before where clips are drawn as by default."""
        is_default = (NUM_TRAINING_SAMPLES, self._options) == (_FITTED_SAMPLES, _DEFAULT_OPTIONS)
        return FITTED_BASELINES[task] if is_default else super().make_baseline(task)

    def get_settings(self) -> dict[str, Any]:
        """Return what decides which items these are."""
        return {
            **super().get_settings(),
            "tasks": list(self.tasks),
            "num_clips": self.num_clips,
            "seed": self.seed,
            **self._options,
        }
