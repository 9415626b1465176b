"""What the parts of a picture show: the truth that the pretraining of the tiny model is supervised with."""

from dataclasses import dataclass

import numpy as np
import torch

from llava_st_hf.data.shapes.scenes import COLORS, SHAPES, Scene

MIN_COVER = 0.35  # of a cell by the box of an object
NAMES = (tuple(COLORS), tuple(SHAPES))
EVENT_WORDS = ("left", "right", "up", "down", "grows", "shrinks", "bounces", "flashes", "stops", "appears")
START_WORD = "start"  # said by the first token that shows an event
_CYCLES = (1, 2, 4)  # waves over the frame, by which a code says where an edge is beside the number itself


@dataclass(frozen=True)
class Code:
    """Numbers that features say, each along a direction of its own."""

    gains: torch.Tensor  # (numbers,), lengths of the directions; an embedding row has `hidden ** 0.5`
    seed: int  # of the directions

    def make_directions(self, hidden_size: int) -> torch.Tensor:
        """Return the directions, (numbers, hidden), orthogonal, always the same."""
        generator = torch.Generator().manual_seed(self.seed)
        directions = torch.linalg.qr(torch.randn(hidden_size, len(self.gains), generator=generator))[0].T
        return self.gains[:, None] * directions

    def read(self, features: torch.Tensor) -> torch.Tensor:
        """Read the numbers out of features: (..., hidden) -> (..., numbers)."""
        directions = self.make_directions(features.shape[-1])
        return features @ directions.T / directions.square().sum(-1)


OBJECT_CODE = Code(torch.tensor([3.0] * 4 + [2.0] * 8 * len(_CYCLES) + [3.0]), seed=0)  # edges, their waves, light
TIME_CODE = Code(torch.tensor([3.0] + [2.0] * 2 * len(_CYCLES)), seed=1)  # a time and its waves


@dataclass
class SceneLabels:
    """What each cell of a grid over the frames of a scene shows, by the object that owns it."""

    object_names: torch.Tensor  # (objects, 2), colour and shape of each object, as indices into `NAMES`
    owners: torch.Tensor  # (frames, cells), index into `scene.objects`, -1 for background
    names: torch.Tensor  # (frames, cells, 2), colour and shape of the owner, any for background
    codes: torch.Tensor  # (frames, cells, numbers), `OBJECT_CODE` of the owner; the last is 2 where it is lit up
    # (frames, cells, words + 1), 1 for each of `EVENT_WORDS` that says what the owner does, and at last for
    # `START_WORD` where that begins to show.
    events: torch.Tensor
    known: torch.Tensor  # (frames, cells), false at the first frame of an event that does not show yet
    starts: torch.Tensor  # (frames, cells, numbers), `TIME_CODE` of when the event begins, where `START_WORD` is said


def label_scene(scene: Scene, grid_size: int) -> SceneLabels:
    """Label the cells of a scene; of the objects that cover at least `MIN_COVER` of a cell, the front one owns it."""
    edges = np.arange(grid_size + 1) / grid_size
    owners = np.full((scene.num_frames, grid_size, grid_size), -1)
    of_objects = (len(scene.objects), scene.num_frames)
    codes = torch.zeros(*of_objects, len(OBJECT_CODE.gains))
    events = torch.zeros(*of_objects, len(EVENT_WORDS) + 1)
    known = torch.ones(of_objects, dtype=torch.bool)
    starts = torch.zeros(*of_objects, len(TIME_CODE.gains))
    for number, item in enumerate(scene.objects):
        boxes = item.boxes / np.array([scene.width, scene.height] * 2)
        columns, rows = (
            np.clip(np.minimum(edges[1:], high[:, None]) - np.maximum(edges[:-1], low[:, None]), 0, None) * grid_size
            for low, high in ((boxes[:, 0], boxes[:, 2]), (boxes[:, 1], boxes[:, 3]))
        )
        covers = rows[:, :, None] * columns[:, None] * item.visible[:, None, None]
        owners[covers >= MIN_COVER] = number
        codes[number] = torch.from_numpy(np.concatenate([encode(boxes), 2.0 * item.bright[:, None]], axis=1))
        for segment in item.segments:
            words = [EVENT_WORDS.index(word) for word in segment.name.split() if word in EVENT_WORDS]
            events[number, segment.first_frame : segment.last_frame + 1, words] = 1
            shows_at_once = not segment.is_event or segment.name == "flashes"
            known[number, segment.first_frame] = shows_at_once
            if words and segment.name != "stops":
                frame = segment.first_frame + (0 if shows_at_once else 1)
                events[number, frame, -1] = 1
                starts[number, frame] = torch.from_numpy(encode(np.array([scene.get_time(segment.first_frame)])))
    names = torch.tensor([(NAMES[0].index(item.color), NAMES[1].index(item.shape)) for item in scene.objects])
    owners = torch.from_numpy(owners).flatten(1)
    shown, owner, frame = owners >= 0, owners.clamp(min=0), torch.arange(scene.num_frames)[:, None]
    return SceneLabels(
        object_names=names,
        owners=owners,
        names=names[owner],
        codes=codes[owner, frame],
        events=events[owner, frame] * shown[..., None],
        known=known[owner, frame] | ~shown,
        starts=starts[owner, frame],
    )


def encode(fractions: np.ndarray) -> np.ndarray:
    """Turn fractions (..., n) into numbers of variance about 1: themselves, and waves of each (..., 7 n)."""
    angles = [2 * np.pi * cycles * fractions for cycles in _CYCLES]
    waves = [2**0.5 * function(angle) for angle in angles for function in (np.sin, np.cos)]
    return np.concatenate([3**0.5 * (2 * fractions - 1), *waves], axis=-1)


def read_shares(features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Read how much of each word is in features, 1 for its row as it is: (..., hidden) -> (..., words)."""
    return features @ rows.T / rows.shape[1]
