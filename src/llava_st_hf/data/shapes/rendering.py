"""The pixels of a scene: dim backgrounds, strong shapes with smooth edges, all frames of an object at once.

Only additions, products, quotients and square roots of single numbers are used, which give the same bits on every
machine; so the pixels are the same everywhere.
"""

import numpy as np

from .random_stream import RandomStream
from .scenes import COLORS, Difficulty, Scene, SceneObject

_SQRT_2, _SQRT_5 = np.float32(2**0.5), np.float32(5**0.5)
_CROSS_ARM = np.float32(0.36)  # half the width of an arm
_RING_MIDDLE, _RING_HALF_WIDTH = np.float32(0.72), np.float32(0.28)
# A five-pointed star of radius 1: the directions of its points, and how far its edges run from its middle.
_STAR_POINTS = (
    (0.0, -1.0),
    (0.9510565, -0.309017),
    (-0.9510565, -0.309017),
    (0.5877853, 0.809017),
    (-0.5877853, 0.809017),
)
_STAR_EDGE = np.float32(0.309017)
_STAR_HALF_WIDTH, _STAR_HALF_HEIGHT, _STAR_MIDDLE = 0.9510565, 0.9045085, 0.0954915

# Channels stay within 8 to 246, so that noise needs no clipping.
_LIGHT = 246
_NOISE = 8
_COLOR_VARIATION = 6
_PATTERNS = ("plain", "gradient", "blocks", "noise", "stripes")


def render_scene(scene: Scene, rng: RandomStream, difficulty: Difficulty) -> np.ndarray:
    """
    Draw the pixels of a scene, uint8 RGB (frames, height, width, 3), with backgrounds and noise if it is to be hard.
    """
    windows = [_find_windows(item) for item in scene.objects]
    # Objects may reach over the edge of the frame: they are painted onto a larger canvas.
    pad = max(
        max(
            -int(corners.min()),
            int(corners[:, 0].max()) + side - scene.width,
            int(corners[:, 1].max()) + side - scene.height,
            0,
        )
        for corners, side, _ in windows
    )
    canvas = np.empty((scene.num_frames, scene.height + 2 * pad, scene.width + 2 * pad, 3), dtype=np.uint8)
    inside = canvas[:, pad : pad + scene.height, pad : pad + scene.width]
    _paint_background(inside, rng, difficulty.textured)
    for item, (corners, side, frames) in zip(scene.objects, windows, strict=True):
        _paint_object(canvas, item, corners + pad, side, frames, pad, rng, difficulty.textured)
    pixels = np.ascontiguousarray(inside)
    if difficulty.textured and rng.chance(0.5):
        _add_noise(pixels, rng)
    return pixels


def _find_windows(item: SceneObject) -> tuple[np.ndarray, int, np.ndarray]:
    """Return, for the frames that show an object, the corner of a square around it, its side, and the frames."""
    frames = np.flatnonzero(item.visible)
    half = float(item.half_sides.max())
    corners = np.floor(item.centers[frames] - half).astype(np.int64) - 1  # (frames, 2): x, y
    return corners, int(2 * half) + 4, frames


def _paint_object(
    canvas: np.ndarray,
    item: SceneObject,
    corners: np.ndarray,
    side: int,
    frames: np.ndarray,
    pad: int,
    rng: RandomStream,
    varied: bool,
) -> None:
    # Middles of the pixels, from -1 to 1 over the box of the object: (frames, side)
    half_sides = item.half_sides[frames].astype(np.float32)[:, None]
    steps = np.arange(side, dtype=np.float32) + np.float32(0.5)
    from_corner = (item.centers[frames] + pad - corners).astype(np.float32)
    u = (steps - from_corner[:, :1]) / half_sides
    v = (steps - from_corner[:, 1:]) / half_sides
    distances = _measure_distances(item.shape, u[:, None, :], v[:, :, None]) * half_sides[:, :, None]
    coverage = np.clip(np.float32(0.5) - distances, 0, 1)[..., None]
    color = np.array(COLORS[item.color], dtype=np.float32)
    if varied:
        color = color + np.array([rng.integer(2 * _COLOR_VARIATION + 1) - _COLOR_VARIATION for _ in range(3)])
    bright = item.bright[frames][:, None]
    colors = np.where(bright, color + (_LIGHT - color) * np.float32(0.65), color).astype(np.float32)
    places = [
        (frame, slice(y, y + side), slice(x, x + side))
        for frame, (x, y) in zip(frames.tolist(), corners.tolist(), strict=True)
    ]
    behind = np.stack([canvas[place] for place in places]).astype(np.float32)
    painted = behind + (colors[:, None, None, :] - behind) * coverage + np.float32(0.5)
    for place, patch in zip(places, painted.astype(np.uint8), strict=True):
        canvas[place] = patch


def _measure_distances(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """
    Return how far points lie outside a shape, in halves of the side of its box; inside it is negative.

    The points are u, float32 (frames, 1, side), from -1 at the left of the box to 1 at its right, and v, float32
    (frames, side, 1), from its top to its bottom; returned is float32 (frames, side, side).
    """
    across, down = np.abs(u), np.abs(v)
    if shape == "circle":
        return np.sqrt(u * u + v * v) - 1
    if shape == "ring":
        return np.abs(np.sqrt(u * u + v * v) - _RING_MIDDLE) - _RING_HALF_WIDTH
    if shape == "cross":
        return np.minimum(np.maximum(across - 1, down - _CROSS_ARM), np.maximum(across - _CROSS_ARM, down - 1))
    box = np.maximum(across, down) - 1
    if shape == "square":
        return box
    # The box cuts off what smoothing would add beyond sharp corners.
    if shape == "diamond":
        return np.maximum((across + down - 1) / _SQRT_2, box)
    if shape == "triangle":
        return np.maximum((2 * across - v - 1) / _SQRT_5, box)
    return np.maximum(_measure_star(u, v), box)


def _measure_star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # Five lines make the star: inside it a point lies beyond one of them at most. The second largest distance says so.
    x = u * np.float32(_STAR_HALF_WIDTH)
    y = v * np.float32(_STAR_HALF_HEIGHT) - np.float32(_STAR_MIDDLE)
    first = second = None
    for point_x, point_y in _STAR_POINTS:
        distance = x * np.float32(point_x) + y * np.float32(point_y)
        if first is None:
            first, second = distance, np.full_like(distance, -2)
        else:
            second = np.maximum(second, np.minimum(first, distance))
            first = np.maximum(first, distance)
    return (second - _STAR_EDGE) / np.float32(_STAR_HALF_WIDTH)


def _paint_background(frames: np.ndarray, rng: RandomStream, textured: bool) -> None:
    """Fill (frames, height, width, 3): one dim colour, or a pattern that may move."""
    num_frames, height, width = frames.shape[:3]
    grey = 24 + rng.integer(40)
    base = np.array([grey + rng.integer(17) - 8 for _ in range(3)], dtype=np.uint8)
    pattern = rng.choose(_PATTERNS) if textured else "plain"
    if pattern == "plain":
        frames[:] = base
        return
    # Pixels that the pattern moves in the clip, in x and y: at most one and a half at a frame.
    limit = 3 * (num_frames - 1) // 2
    travel = [rng.integer(2 * limit + 1) - limit if limit and rng.chance(0.5) else 0 for _ in range(2)]
    size = (height + abs(travel[1]), width + abs(travel[0]))
    strength = 25 + rng.integer(36)
    values = _make_pattern(pattern, rng, *size).astype(np.uint16) * strength >> 8
    texture = values.astype(np.uint8)[..., None] + base
    for frame in range(num_frames):
        x, y = (
            (abs(way) * frame // max(num_frames - 1, 1))
            if way > 0
            else (abs(way) * (num_frames - 1 - frame) // max(num_frames - 1, 1))
            for way in travel
        )
        frames[frame] = texture[y : y + height, x : x + width]


def _make_pattern(pattern: str, rng: RandomStream, height: int, width: int) -> np.ndarray:
    """Return a pattern of shape (height, width) with values from 0 to 255."""
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    if pattern == "gradient":
        across, down = rng.integer(9) - 4, rng.integer(9) - 4
        slope = across * columns + down * rows
        slope = slope - slope.min()
        return slope * 255 // max(int(slope.max()), 1)
    if pattern == "stripes":
        across, down = rng.choose(((1, 0), (0, 1), (1, 1), (1, -1)))
        return (across * columns + down * rows) // (4 + rng.integer(9)) % 2 * 255
    cell = 1 if pattern == "noise" else 3 + rng.integer(10)
    cells = rng.bytes((height // cell + 1) * (width // cell + 1)).reshape(height // cell + 1, width // cell + 1)
    return cells.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]


def _add_noise(pixels: np.ndarray, rng: RandomStream) -> None:
    """Add noise of a few levels to (frames, height, width, 3), other noise at each frame."""
    num_frames, height, width = pixels.shape[:3]
    reach = 32
    noise = rng.bytes((height + reach) * (width + reach)).reshape(height + reach, width + reach, 1)
    noise = noise % np.uint8(2 * _NOISE + 1) - np.uint8(_NOISE)  # less than 0 wraps around, and so does the sum below
    for frame in range(num_frames):
        y, x = rng.integer(reach + 1), rng.integer(reach + 1)
        pixels[frame] += noise[y : y + height, x : x + width]
