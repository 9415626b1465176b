"""What the parts of a picture show: the truth that the pretraining of the tiny model is supervised with."""

from dataclasses import dataclass

import numpy as np
import torch

from llava_st_hf.data.shapes.scenes import COLORS, SHAPES, Scene

DIFFICULTY = {"easy": 1, "standard": 2}  # of the scenes before the stages
MIN_COVER = 0.35  # of a cell by the box of an object
NAMES = (tuple(COLORS), tuple(SHAPES))
EVENT_WORDS = ("left", "right", "up", "down", "grows", "shrinks", "bounces", "flashes", "stops", "appears")
START_WORD = "start"  # said by the first token that shows an event
_CYCLES = (1, 2, 4)  # waves over the frame, by which the code says where an edge is beside the number itself
CODE_SIZE = 4 * (1 + 2 * len(_CYCLES)) + 1
TIME_CODE_SIZE = 1 + 2 * len(_CYCLES)
# Lengths of the directions of the numbers of the code: edges, their waves, light. An embedding row has sqrt(hidden).
_CODE_GAINS = torch.tensor([3.0] * 4 + [2.0] * 8 * len(_CYCLES) + [3.0])
_TIME_CODE_GAINS = torch.tensor([3.0] + [2.0] * 2 * len(_CYCLES))


@dataclass
class SceneLabels:
    """
    What each cell of a grid over the frames of a scene shows.

    Args:
        owners (`torch.Tensor`): Index into `scene.objects` of what a cell shows, -1 for background: (frames, cells).
        names (`torch.Tensor`): Colour and shape of each object, as indices into `NAMES`: (objects, 2).
        codes (`torch.Tensor`): Of each object in each frame, see `encode`; the last number is 2 where it is lit
            up: (objects, frames, CODE_SIZE).
        events (`torch.Tensor`): 1 for each of `EVENT_WORDS` that says what an object does, and at last for
            `START_WORD` where that begins to show, else 0: (objects, frames, words + 1).
        known (`torch.Tensor`): False at the first frame of an event that does not show yet: (objects, frames).
        starts (`torch.Tensor`): Code of the time at which the event begins, where `START_WORD` is said:
            (objects, frames, TIME_CODE_SIZE).
    """

    owners: torch.Tensor
    names: torch.Tensor
    codes: torch.Tensor
    events: torch.Tensor
    known: torch.Tensor
    starts: torch.Tensor

    @property
    def cell_names(self) -> torch.Tensor:
        """Names of the owner of each cell, any for background: (frames, cells, 2)."""
        return self.names[self.owners.clamp(min=0)]

    @property
    def cell_codes(self) -> torch.Tensor:
        """Code of the owner of each cell, any for background: (frames, cells, CODE_SIZE)."""
        return self._read_owners(self.codes)

    @property
    def cell_events(self) -> torch.Tensor:
        """Events of the owner of each cell, none for background: (frames, cells, words + 1)."""
        return self._read_owners(self.events) * (self.owners >= 0)[..., None]

    @property
    def cell_known(self) -> torch.Tensor:
        """Whether what the owner of each cell does can be seen, true for background: (frames, cells)."""
        return self._read_owners(self.known) | (self.owners < 0)

    @property
    def cell_starts(self) -> torch.Tensor:
        """Start of what the owner of each cell begins to do, any elsewhere: (frames, cells, TIME_CODE_SIZE)."""
        return self._read_owners(self.starts)

    def _read_owners(self, values: torch.Tensor) -> torch.Tensor:
        """Read what is known of the owner of each cell: (objects, frames, ...) -> (frames, cells, ...)."""
        return values[self.owners.clamp(min=0), torch.arange(len(self.owners))[:, None]]


def label_scene(scene: Scene, grid_size: int) -> SceneLabels:
    """Label the cells of a scene; of the objects that cover at least `MIN_COVER` of a cell, the front one owns it."""
    edges = np.arange(grid_size + 1) / grid_size
    owners = np.full((scene.num_frames, grid_size, grid_size), -1)
    codes, names = [], []
    events = torch.zeros(len(scene.objects), scene.num_frames, len(EVENT_WORDS) + 1)
    known = torch.ones(events.shape[:2], dtype=torch.bool)
    starts = torch.zeros(*events.shape[:2], TIME_CODE_SIZE)
    for number, item in enumerate(scene.objects):
        boxes = item.boxes / np.array([scene.width, scene.height] * 2)
        columns, rows = (
            np.clip(np.minimum(edges[1:], high[:, None]) - np.maximum(edges[:-1], low[:, None]), 0, None) * grid_size
            for low, high in ((boxes[:, 0], boxes[:, 2]), (boxes[:, 1], boxes[:, 3]))
        )
        covers = rows[:, :, None] * columns[:, None] * item.visible[:, None, None]
        owners[covers >= MIN_COVER] = number
        codes.append(np.concatenate([encode(boxes), 2.0 * item.bright[:, None]], axis=1))
        names.append([NAMES[0].index(item.color), NAMES[1].index(item.shape)])
        for segment in item.segments:
            words = [EVENT_WORDS.index(word) for word in segment.name.split() if word in EVENT_WORDS]
            events[number, segment.first_frame : segment.last_frame + 1, words] = 1
            shows_at_once = not segment.is_event or segment.name == "flashes"
            known[number, segment.first_frame] = shows_at_once
            if words and segment.name != "stops":
                frame = segment.first_frame + (0 if shows_at_once else 1)
                events[number, frame, -1] = 1
                starts[number, frame] = torch.from_numpy(encode(np.array([scene.get_time(segment.first_frame)])))
    codes = torch.from_numpy(np.stack(codes)).float()
    return SceneLabels(torch.from_numpy(owners).flatten(1), torch.tensor(names), codes, events, known, starts)


def encode(fractions: np.ndarray) -> np.ndarray:
    """Turn fractions (..., n) into numbers of variance about 1: themselves, and waves of each (..., 7 n)."""
    angles = [2 * np.pi * cycles * fractions for cycles in _CYCLES]
    waves = [2**0.5 * function(angle) for angle in angles for function in (np.sin, np.cos)]
    return np.concatenate([3**0.5 * (2 * fractions - 1), *waves], axis=-1)


def make_code_directions(hidden_size: int) -> torch.Tensor:
    """Return the directions in which features say the code: (CODE_SIZE, hidden), orthogonal, always the same."""
    generator = torch.Generator().manual_seed(0)
    return _CODE_GAINS[:, None] * torch.linalg.qr(torch.randn(hidden_size, CODE_SIZE, generator=generator))[0].T


def make_time_code_directions(hidden_size: int) -> torch.Tensor:
    """Return the directions in which tokens say a time: (TIME_CODE_SIZE, hidden), orthogonal, always the same."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.linalg.qr(torch.randn(hidden_size, TIME_CODE_SIZE, generator=generator))[0].T
    return _TIME_CODE_GAINS[:, None] * directions


def read_codes(features: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Read the code of an object, or of a time, out of features: (..., hidden) -> (..., numbers)."""
    return features @ directions.T / directions.square().sum(-1)


def read_shares(features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Read how much of each word is in features, 1 for its row as it is: (..., hidden) -> (..., words)."""
    return features @ rows.T / rows.shape[1]
