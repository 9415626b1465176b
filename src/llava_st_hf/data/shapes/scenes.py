"""What is in a clip: coloured shapes, the events that each goes through, and where each is at every frame.

An object has a timeline of segments without holes between them. The names of the segments are the closed set of events
(`EVENTS`), and four that are none: `absent`, `appears` (there, and not moving yet, after it was absent), `still` (the
same from the first frame on) and `stops` (there and not moving, after an event). A segment lasts until the object does
something else, so "the red circle moves left, then stops" is two segments of one object.

No two objects of a clip have both colour and shape in common, and no object goes through one event twice: "the red
circle moves left" names one segment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .random_stream import RandomStream

# Strong colours, far from each other and from the dim backgrounds. RGB.
COLORS = {
    "red": (225, 40, 40),
    "green": (45, 190, 60),
    "blue": (60, 90, 240),
    "yellow": (240, 220, 40),
    "purple": (190, 60, 220),
    "cyan": (60, 215, 225),
}
# With their plural.
SHAPES = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "diamond": "diamonds",
    "star": "stars",
    "cross": "crosses",
    "ring": "rings",
}


class Event(NamedTuple):
    """The words for one event: "moves left", "move left", "moving left"; for a motion its direction in (x, y)."""

    third_person: str
    infinitive: str
    gerund: str
    direction: tuple[int, int] | None = None


def _make_motion(words: str, direction: tuple[int, int]) -> Event:
    return Event(f"moves {words}", f"move {words}", f"moving {words}", direction)


_STRAIGHT = (
    _make_motion("left", (-1, 0)),
    _make_motion("right", (1, 0)),
    _make_motion("up", (0, -1)),
    _make_motion("down", (0, 1)),
)
_DIAGONAL = (
    _make_motion("up left", (-1, -1)),
    _make_motion("up right", (1, -1)),
    _make_motion("down left", (-1, 1)),
    _make_motion("down right", (1, 1)),
)
_OTHER = (
    Event("grows", "grow", "growing"),
    Event("shrinks", "shrink", "shrinking"),
    Event("bounces", "bounce", "bouncing"),
    Event("flashes", "flash", "flashing"),
)
EVENTS = {event.third_person: event for event in (*_STRAIGHT, *_DIAGONAL, *_OTHER)}

_BOUNCES = 2  # up and down in one event
_FRAMES_PER_BOUNCE = 4
_FLASHES_PER_CLIP = 20  # as many changes at most, so that 20 frames of a longer clip still show them
_REST_SHARE = 2.5  # how much longer rests are than events; it spreads the events over the clip
_MAX_HIDDEN = 0.35  # share of an object's box under the boxes of others; of its pixels it is more, up to 0.6
_TRIES = 12


@dataclass(frozen=True)
class Difficulty:
    """What makes clips easy or hard."""

    max_objects: int  # objects in a clip or an image
    max_actors: int  # objects with events
    max_events: int  # events of one object
    events: tuple[str, ...]  # names out of `EVENTS`
    overlap: bool  # whether objects may hide parts of each other
    overhang: float  # share of its side by which an object may leave the frame
    textured: bool  # whether there are textures, gradients, noise and moving backgrounds, and colours vary


DIFFICULTIES = {
    "easy": Difficulty(
        max_objects=2,
        max_actors=2,
        max_events=2,
        events=tuple(event.third_person for event in (*_STRAIGHT, *_OTHER)),
        overlap=False,
        overhang=0.0,
        textured=False,
    ),
    "standard": Difficulty(
        max_objects=4,
        max_actors=3,
        max_events=3,
        events=tuple(EVENTS),
        overlap=True,
        overhang=0.15,
        textured=True,
    ),
}


class Segment(NamedTuple):
    """A stretch of frames in which an object does one thing; both frames belong to it."""

    name: str
    first_frame: int
    last_frame: int

    @property
    def is_event(self) -> bool:
        """Whether something happens, other than appearing or stopping."""
        return self.name in EVENTS

    @property
    def is_named(self) -> bool:
        """Whether there is something to say of it: an event, or that the object appears."""
        return self.is_event or self.name == "appears"

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.last_frame - self.first_frame + 1


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One shape of a clip."""

    color: str  # one of `COLORS`
    shape: str  # one of `SHAPES`
    segments: tuple[Segment, ...]  # what it does, without holes, from the first frame to the last
    centers: np.ndarray  # float64 (frames, 2), x and y of the middle of its box in pixels
    half_sides: np.ndarray  # float64 (frames,), half the side of its square box in pixels
    visible: np.ndarray  # bool (frames,), where it is there
    bright: np.ndarray  # bool (frames,), where it is lit up in an event "flashes"
    boxes: np.ndarray  # float64 (frames, 4), the box in pixels, clipped to the frame

    @property
    def name(self) -> str:
        """Colour and shape, "red circle"."""
        return f"{self.color} {self.shape}"

    @property
    def events(self) -> list[Segment]:
        """The segments in which something happens."""
        return [segment for segment in self.segments if segment.is_event]

    @property
    def named_segments(self) -> list[Segment]:
        """The segments that there is something to say of."""
        return [segment for segment in self.segments if segment.is_named]

    @property
    def appears(self) -> bool:
        """Whether it is absent at the first frame."""
        return not self.visible[0]

    @property
    def vanishes(self) -> bool:
        """Whether it is absent at the last frame."""
        return not self.visible[-1]

    @property
    def is_actor(self) -> bool:
        """Whether anything about it changes."""
        return bool(self.events) or self.appears or self.vanishes


@dataclass(frozen=True, eq=False)
class Scene:
    """The objects of a clip, or of an image, which is a scene of one frame."""

    num_frames: int
    height: int  # height in pixels
    width: int  # width in pixels
    objects: tuple[SceneObject, ...]  # from back to front: a later one hides an earlier one

    @property
    def actors(self) -> list[SceneObject]:
        """The objects about which something changes, by the first frame at which it does."""
        return sorted((item for item in self.objects if item.is_actor), key=find_first_change)

    @property
    def min_event_frames(self) -> int:
        """Frames that an event lasts at least: 15 % of the clip, and two steps."""
        return compute_min_event_frames(self.num_frames)

    def get_time(self, frame: int) -> float:
        """Return the time of a frame as a fraction of the clip."""
        return frame / (self.num_frames - 1)

    def get_box(self, item: SceneObject, frame: int = 0) -> tuple[float, float, float, float]:
        """Return the box of an object as fractions x1, y1, x2, y2 of width and height."""
        x1, y1, x2, y2 = item.boxes[frame].tolist()
        return x1 / self.width, y1 / self.height, x2 / self.width, y2 / self.height


@dataclass(frozen=True)
class SceneRequest:
    """What a scene is to be like."""

    num_frames: int  # frames; 1 for an image
    height: int  # height in pixels
    width: int  # width in pixels
    difficulty: Difficulty  # see `DIFFICULTIES`
    single_event: bool = False  # whether one event is all that happens in the clip; nothing appears or vanishes


def compute_min_event_frames(num_frames: int) -> int:
    """Return how many frames an event lasts at least."""
    return max(3, -(-15 * (num_frames - 1) // 100) + 1)


def find_first_change(item: SceneObject) -> int:
    """Return the frame at which an object appears or its first event begins, whichever is first."""
    return item.segments[1].first_frame if item.segments[0].name in ("absent", "still") else 0


def sample_scene(rng: RandomStream, request: SceneRequest) -> Scene:
    """Draw a scene with at least one object; of a clip the first that is drawn has an event."""
    while True:
        placed = _place_objects(rng, request)
        if placed and (request.num_frames == 1 or any(item.is_actor for _, item in placed)):
            objects = tuple(item for _, item in sorted(placed, key=lambda entry: entry[0]))
            return Scene(request.num_frames, request.height, request.width, objects)


def _place_objects(rng: RandomStream, request: SceneRequest) -> list[tuple[int, SceneObject]]:
    """Draw objects, each with its depth; one for which no place is found is left out."""
    level = request.difficulty
    num_objects = 1 + rng.integer(level.max_objects)
    num_actors = 0 if request.num_frames == 1 else 1 + rng.integer(min(level.max_actors, num_objects))
    num_actors = min(num_actors, 1) if request.single_event else num_actors
    depths = rng.shuffle(range(num_objects))
    placed: list[tuple[int, SceneObject]] = []
    hidden: dict[int, np.ndarray] = {}
    for number in range(num_objects):
        color, shape = _choose_identity(rng, [item for _, item in placed])
        still = (Segment("still", 0, request.num_frames - 1),)
        segments = _plan_segments(rng, request) if number < num_actors else still
        side_range = (0.26, 0.46) if number < 2 else (0.2, 0.32)
        for _ in range(_TRIES):
            item = _place(rng, request, color, shape, segments, side_range)
            if item is not None and (shares := _share_frame(item, depths[number], placed, hidden, level)) is not None:
                hidden.update(shares)
                placed.append((depths[number], item))
                break
    return placed


def _choose_identity(rng: RandomStream, others: Sequence[SceneObject]) -> tuple[str, str]:
    """Choose colour and shape, often one of the two that another object has too, never both."""
    colors, shapes = list(COLORS), list(SHAPES)
    taken = {(item.color, item.shape) for item in others}
    while True:
        color, shape = rng.choose(colors), rng.choose(shapes)
        if others and (likeness := rng.uniform()) < 0.7:
            other = rng.choose(others)
            color, shape = (other.color, shape) if likeness < 0.35 else (color, other.shape)
        if (color, shape) not in taken:
            return color, shape


def _plan_segments(rng: RandomStream, request: SceneRequest) -> tuple[Segment, ...]:
    """Draw the timeline of an object with at least one event."""
    num_frames = request.num_frames
    event_frames, rest_frames = compute_min_event_frames(num_frames), max(2, num_frames // 10)
    while True:
        pieces: list[tuple[str, int]] = []
        start = rng.choose(("none", "still", "still", "still", "absent", "absent"))
        if start == "absent" and not request.single_event:
            pieces += [("absent", rest_frames), ("appears", event_frames)]
        elif start != "none":
            pieces += [("still", rest_frames)]
        events = _choose_events(rng, request)
        for name in events:
            if pieces and pieces[-1][0] in EVENTS and rng.chance(0.5):
                pieces.append(("stops", event_frames))
            bounce_frames = _BOUNCES * _FRAMES_PER_BOUNCE + 1
            pieces.append((name, max(event_frames, bounce_frames) if name == "bounces" else event_frames))
        end = rng.choose(("none", "stops", "stops", "stops", "absent", "stops and absent"))
        if "stops" in end:
            pieces.append(("stops", event_frames))
        if "absent" in end and not request.single_event:
            pieces.append(("absent", rest_frames))
        # What goes on for the whole clip has no when.
        if len(pieces) > 1 and sum(minimum for _, minimum in pieces) <= num_frames:
            break
    shares = [1.0 if name in EVENTS else _REST_SHARE for name, _ in pieces]
    lengths = rng.split(num_frames, [minimum for _, minimum in pieces], shares)
    segments, first = [], 0
    for (name, _), length in zip(pieces, lengths, strict=True):
        segments.append(Segment(name, first, first + length - 1))
        first += length
    return tuple(segments)


def _choose_events(rng: RandomStream, request: SceneRequest) -> list[str]:
    """Choose events of one object that nobody would take for each other."""
    level = request.difficulty
    chosen: list[str] = []
    for _ in range(1 if request.single_event else 1 + rng.integer(level.max_events)):
        name = rng.choose(level.events)
        if not any(are_alike(name, other) for other in chosen):
            chosen.append(name)
    return chosen


def are_alike(name: str, other: str) -> bool:
    """Return whether two events have a part in common, as "moves left" and "moves up left" have."""
    directions = []
    for event in (name, other):
        x, y = EVENTS[event].direction or (0, 0)
        parts = {("x", x), ("y", y)} - {("x", 0), ("y", 0)}
        directions.append({("y", -1), ("y", 1)} if event == "bounces" else parts)
    return name == other or bool(directions[0] & directions[1])


def _place(
    rng: RandomStream,
    request: SceneRequest,
    color: str,
    shape: str,
    segments: tuple[Segment, ...],
    side_range: tuple[float, float],
) -> SceneObject | None:
    """Draw the size, the path and the place of an object; `None` if the path does not fit into the frame."""
    num_frames = request.num_frames
    extent = (request.width, request.height)
    offsets = np.zeros((num_frames, 2))
    scales = np.ones(num_frames)
    visible = np.ones(num_frames, dtype=bool)
    bright = np.zeros(num_frames, dtype=bool)
    at, scale = np.zeros(2), 1.0
    for segment in segments:
        frames = slice(segment.first_frame, segment.last_frame + 1)
        offsets[frames], scales[frames] = at, scale
        visible[frames] = segment.name != "absent"
        if not segment.is_event:
            continue
        progress = np.arange(segment.num_frames) / (segment.num_frames - 1)
        share = (segment.num_frames - 1) / (num_frames - 1)  # a long event goes far, so that it never crawls
        if (direction := EVENTS[segment.name].direction) is not None:
            for axis in (0, 1):
                way = direction[axis] * extent[axis] * rng.uniform(0.2 + 0.2 * share, 0.5)
                offsets[frames, axis] += way * progress
        elif segment.name == "bounces":
            phase = progress * _BOUNCES % 1
            offsets[frames, 1] -= request.height * rng.uniform(0.2, 0.4) * (1 - np.abs(2 * phase - 1))
        elif segment.name == "flashes":
            changes = min(segment.num_frames, max(3, _FLASHES_PER_CLIP * segment.num_frames // num_frames))
            changes -= 1 - changes % 2  # lit up at the first frame and at the last
            bright[frames] = np.arange(segment.num_frames) * changes // segment.num_frames % 2 == 0
        else:
            ratio = rng.uniform(1.6, 2.0)
            scales[frames] *= 1 + progress * ((ratio if segment.name == "grows" else 1 / ratio) - 1)
        at, scale = offsets[segment.last_frame].copy(), float(scales[segment.last_frame])
    largest = float(scales.max())
    low, high = (0.36, 0.48) if scales.min() < largest else side_range
    half_sides = scales / largest * (min(extent) * rng.uniform(low, high) / 2)
    centers = offsets
    overhang = request.difficulty.overhang * 2 * float(half_sides.min())
    for axis in (0, 1):
        lowest = float((offsets[:, axis] - half_sides)[visible].min())
        highest = float((offsets[:, axis] + half_sides)[visible].max())
        room = extent[axis] + 2 * overhang - (highest - lowest)
        if room < 0:
            return None
        centers[:, axis] += rng.uniform(0, room) - overhang - lowest
    boxes = np.concatenate([centers - half_sides[:, None], centers + half_sides[:, None]], axis=1)
    boxes = np.clip(boxes, 0, np.array([*extent, *extent]))
    return SceneObject(color, shape, segments, centers, half_sides, visible, bright, boxes)


def _share_frame(
    item: SceneObject,
    depth: int,
    placed: Sequence[tuple[int, SceneObject]],
    hidden: dict[int, np.ndarray],
    level: Difficulty,
) -> dict[int, np.ndarray] | None:
    """Return the hidden share (frames,) of each object by its depth, or `None` if too much of one is hidden."""
    shares = {depth: np.zeros(len(item.visible))}
    for other_depth, other in placed:
        overlaps = _intersect(item.boxes, other.boxes) * (item.visible & other.visible)
        if not overlaps.any():
            continue
        # Two of one colour that touch would look like one shape.
        if not level.overlap or item.color == other.color:
            return None
        behind, box = (depth, item.boxes) if depth < other_depth else (other_depth, other.boxes)
        before = shares.get(behind, hidden.get(behind, 0.0))
        shares[behind] = before + overlaps / ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))
        if shares[behind].max() > _MAX_HIDDEN:
            return None
    return shares


def _intersect(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the area (frames,) that two boxes (frames, 4) share."""
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    return np.maximum(sides, 0).prod(axis=1)
