from dataclasses import replace

import numpy as np
import pytest

from llava_st_hf.data.shapes.random_stream import RandomStream
from llava_st_hf.data.shapes.rendering import render_scene
from llava_st_hf.data.shapes.scenes import (
    COLORS,
    DIFFICULTIES,
    SHAPES,
    Scene,
    SceneObject,
    SceneRequest,
    Segment,
    sample_scene,
)

EASY, STANDARD = DIFFICULTIES["easy"], DIFFICULTIES["standard"]
LIGHT = 246


def make_scene(level, index, num_frames=20, height=72, width=72):
    return sample_scene(RandomStream(3, index), SceneRequest(num_frames, height, width, level))


def make_object(color, shape, center, side, size=72, num_frames=1):
    """An object that does nothing."""
    box = np.clip([*(np.array(center) - side / 2), *(np.array(center) + side / 2)], 0, size)
    return SceneObject(
        color=color,
        shape=shape,
        segments=(Segment("still", 0, num_frames - 1),),
        centers=np.tile(np.array(center, dtype=float), (num_frames, 1)),
        half_sides=np.full(num_frames, side / 2),
        visible=np.ones(num_frames, dtype=bool),
        bright=np.zeros(num_frames, dtype=bool),
        boxes=np.tile(box, (num_frames, 1)),
    )


def find_color(pixels, color, background, least=0.3):
    """Where pixels hold a good part of a colour and nothing else but the plain background."""
    way = np.array(color, dtype=float) - background
    share = ((pixels - background) @ way) / (way @ way)
    rest = np.abs(pixels - background - share[..., None] * way).max(axis=-1)
    return (share >= least) & (rest < 4)


@pytest.mark.parametrize("first", [0, 100])
def test_truth_is_where_the_pixels_are(first):
    num_checked, worst = 0, 0.0
    for index in range(first, first + 100):
        scene = make_scene(EASY, index)
        pixels = render_scene(scene, RandomStream(4, index), EASY).astype(float)
        background = np.median(pixels.reshape(-1, 3), axis=0)
        for frame in range(scene.num_frames):
            rest = np.ones((72, 72), dtype=bool)
            for item in scene.objects:
                if not item.visible[frame]:
                    continue
                x1, y1 = np.floor(item.boxes[frame, :2]).astype(int)
                x2, y2 = np.ceil(item.boxes[frame, 2:]).astype(int)
                rest[y1:y2, x1:x2] = False
                color = np.array(COLORS[item.color], dtype=float)
                color = color + (LIGHT - color) * 0.65 if item.bright[frame] else color
                rows, columns = np.nonzero(find_color(pixels[frame, y1:y2, x1:x2], color, background))
                edges = [x1 + columns.min(), y1 + rows.min(), x1 + columns.max() + 1, y1 + rows.max() + 1]
                worst = max(worst, np.abs(edges - item.boxes[frame]).max())
                num_checked += 1
            # An object that is absent leaves no trace, nor does any outside of its box.
            assert (pixels[frame][rest] == background).all()
    assert num_checked > 1500
    assert worst <= 1.5  # pixels


def test_pixels_move_as_the_words_say():
    num_checked = 0
    for index in range(150):
        scene = make_scene(EASY, index)
        if len(scene.objects) > 1:
            continue
        (item,) = scene.objects
        pixels = render_scene(scene, RandomStream(4, index), EASY).astype(float)
        difference = np.abs(pixels - np.median(pixels.reshape(-1, 3), axis=0)).sum(axis=-1)
        for segment in item.events:
            middles = []
            for frame in (segment.first_frame, segment.last_frame):
                rows, columns = np.nonzero(difference[frame] > 60)
                middles.append((columns.mean(), rows.mean(), len(rows) ** 0.5))
            across, down, growth = np.array(middles[1]) - middles[0]
            words = segment.name.split()
            wanted = {"left": -across, "right": across, "up": -down, "down": down}
            if words[0] == "moves":
                assert wanted[words[1]] > 0.19 * 72
            elif words[0] in ("grows", "shrinks"):
                assert (growth if words[0] == "grows" else -growth) > 4
            else:
                assert abs(across) < 1 and abs(down) < 1
            num_checked += 1
    assert num_checked > 100


AREAS = {  # of the square around them
    "circle": np.pi / 4,
    "square": 1.0,
    "triangle": 0.5,
    "diamond": 0.5,
    "star": 1.12257 / (4 * 0.9510565 * 0.9045085),
    "cross": 2 * 0.36 - 0.36**2,
    "ring": np.pi / 4 * (1 - 0.44**2),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_their_area(shape):
    scene = Scene(1, 300, 300, (make_object("red", shape, (150.3, 149.6), 200, 300),))
    pixels = render_scene(scene, RandomStream(0, 0), EASY)[0].astype(float)
    background = pixels[0, 0]
    shares = (pixels[..., 0] - background[0]) / (COLORS["red"][0] - background[0])
    assert shares.sum() / 200**2 == pytest.approx(AREAS[shape], rel=0.01)


def test_edges_are_smooth_below_a_pixel():
    columns = []
    for center in (36.0, 36.25, 36.5):
        scene = Scene(1, 72, 72, (make_object("yellow", "square", (center, 36), 20),))
        pixels = render_scene(scene, RandomStream(0, 0), EASY)[0].astype(float)
        columns.append((pixels[36, 26, 0] - pixels[0, 0, 0]) / (COLORS["yellow"][0] - pixels[0, 0, 0]))
    np.testing.assert_allclose(columns, [1, 0.75, 0.5], atol=0.01)


def test_later_objects_hide_earlier_ones():
    front, back = make_object("red", "square", (40, 40), 20), make_object("blue", "square", (30, 30), 20)
    for objects, color in (((back, front), "red"), ((front, back), "blue")):
        pixels = render_scene(Scene(1, 72, 72, objects), RandomStream(0, 0), EASY)
        assert tuple(pixels[0, 35, 35]) == COLORS[color]


def test_no_object_is_mostly_hidden():
    hidden, num_partly = 0.0, 0
    for index in range(150):
        scene = make_scene(STANDARD, index)
        together = render_scene(scene, RandomStream(4, index), EASY)
        for item in scene.objects:
            alone = render_scene(replace(scene, objects=(item,)), RandomStream(4, index), EASY)
            own = (alone == np.array(COLORS[item.color])).all(axis=-1)
            seen = own & (together == alone).all(axis=-1)
            frames = item.visible & ~item.bright & own.any(axis=(1, 2))
            shares = 1 - seen[frames].sum(axis=(1, 2)) / own[frames].sum(axis=(1, 2))
            hidden = max(hidden, shares.max(initial=0))
            num_partly += shares.max(initial=0) > 0.1
    assert hidden <= 0.6
    assert num_partly > 15


def test_pixels_stay_within_their_range():
    """Noise is added without clipping: a value that wraps around would be outside."""
    lowest, highest = 255, 0
    for index in range(150):
        pixels = render_scene(make_scene(STANDARD, index), RandomStream(4, index), STANDARD)
        lowest, highest = min(lowest, pixels.min()), max(highest, pixels.max())
    assert 8 <= lowest < 30 and 240 < highest <= 254


def test_backgrounds_are_of_many_kinds_and_dimmer_than_objects():
    moving, noisy, brightness = 0, 0, []
    for index in range(120):
        scene = replace(
            make_scene(STANDARD, index), objects=(make_object("red", "square", (60, 60), 14, num_frames=20),)
        )
        corner = render_scene(scene, RandomStream(5, index), STANDARD)[:, :50, :50].astype(int)
        changes = np.abs(np.diff(corner, axis=0)).max(axis=(1, 2, 3))
        moving += bool((changes > 2 * 8).any())
        noisy += bool((changes > 0).all())
        brightness.append(corner.max())
    assert 15 < moving < 80
    assert 40 < noisy < 90
    assert max(brightness) <= min(max(color) for color in COLORS.values()) - 40


def test_easy_backgrounds_are_plain():
    pixels = render_scene(make_scene(EASY, 0, 1), RandomStream(0, 0), EASY)
    assert len(np.unique(pixels[0, 0], axis=0)) == 1


@pytest.mark.parametrize("level", [EASY, STANDARD])
@pytest.mark.parametrize("num_frames, height, width", [(1, 33, 90), (9, 75, 41)])
def test_frames_have_the_size_that_was_asked_for(level, num_frames, height, width):
    for index in range(20):
        pixels = render_scene(make_scene(level, index, num_frames, height, width), RandomStream(0, index), level)
        assert pixels.shape == (num_frames, height, width, 3) and pixels.dtype == np.uint8
        assert pixels.flags["C_CONTIGUOUS"]
