"""Clips to choose from on the page."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image

from ..data.shapes import ShapesDataset
from ..data.shapes.questions import list_descriptions
from ..processing import iterate_frames, probe_video
from ..utils.atomic_files import write_bytes_whole

_SEED, _SIDE = 2_000_000, 288  # as the clip of the demo: not trained on


@dataclass(frozen=True)
class ExampleClip:
    """
    A clip of the gallery.

    Args:
        path (`Path`): The clip.
        queries (`tuple[str, ...]`): Questions that it has an answer to.

    Example:

    ```python
    >>> ExampleClip(Path("clip.mp4"), ("a dog runs",))
    ```
    """

    path: Path
    queries: tuple[str, ...]


def write_example_clips(folder: Path, number: int = 4) -> list[ExampleClip]:
    """Render clips of ST-Shapes that were not trained on, with two questions about each."""
    clips = ShapesDataset(["stvg"], number, seed=_SEED, size=_SIDE, encode=True)
    examples = []
    for index in range(number):
        path = folder / f"clip_{index + 1}.mp4"
        write_bytes_whole(path, clips[index].media[0].content)
        objects = clips.make_scene(index).objects
        queries = [each.sentence for item in objects for each in list_descriptions(item)]
        examples.append(ExampleClip(path, tuple(dict.fromkeys(queries))[:2]))
    return examples


def make_thumbnail(example: ExampleClip) -> Image.Image:
    """Return the frame in the middle of a clip."""
    timeline = probe_video(example.path).timeline
    frame = next(islice(iterate_frames(example.path, timeline), len(timeline) // 2, None))
    return Image.fromarray(frame.image)
