from itertools import combinations, pairwise

import numpy as np
import pytest

from llava_st_hf.data.shapes.random_stream import RandomStream
from llava_st_hf.data.shapes.scenes import (
    COLORS,
    DIFFICULTIES,
    EVENTS,
    SHAPES,
    SceneRequest,
    are_alike,
    compute_min_event_frames,
    sample_scene,
)

NUM_SCENES = 300


def make_scenes(difficulty, num_scenes=NUM_SCENES, num_frames=20, height=72, width=72, **request):
    request = SceneRequest(num_frames, height, width, DIFFICULTIES[difficulty], **request)
    return [sample_scene(RandomStream(0, index), request) for index in range(num_scenes)]


@pytest.fixture(scope="module")
def easy():
    return make_scenes("easy")


@pytest.fixture(scope="module")
def standard():
    return make_scenes("standard")


def compute_overlap(first, second):
    """The area that two boxes share at any frame at which both objects are there."""
    shared = np.minimum(first.boxes[:, 2:], second.boxes[:, 2:]) - np.maximum(first.boxes[:, :2], second.boxes[:, :2])
    return (shared.clip(0).prod(axis=1) * (first.visible & second.visible)).max()


def test_no_two_objects_have_one_name(easy, standard):
    for scene in easy + standard:
        names = [item.name for item in scene.objects]
        assert len(set(names)) == len(names)
        assert all(item.color in COLORS and item.shape in SHAPES for item in scene.objects)


def test_distractors_share_the_colour_or_the_shape(standard):
    pairs = [pair for scene in standard for pair in combinations(scene.objects, 2)]
    assert np.mean([a.color == b.color for a, b in pairs]) > 0.2
    assert np.mean([a.shape == b.shape for a, b in pairs]) > 0.2


def test_timelines_have_no_holes(easy, standard):
    for scene in easy + standard:
        for item in scene.objects:
            assert item.segments[0].first_frame == 0 and item.segments[-1].last_frame == 19
            assert all(b.first_frame == a.last_frame + 1 for a, b in pairwise(item.segments))
            for segment in item.segments:
                frames = slice(segment.first_frame, segment.last_frame + 1)
                assert (item.visible[frames] == (segment.name != "absent")).all()
                if segment.is_event or segment.name in ("appears", "stops"):
                    assert segment.num_frames >= 4  # 15 % of 19 steps


def test_no_object_does_one_thing_twice(standard):
    for scene in standard:
        assert any(item.events for item in scene.objects)
        for item in scene.objects:
            assert not any(are_alike(a.name, b.name) for a, b in combinations(item.events, 2))


@pytest.mark.parametrize(
    "first, second, alike",
    [
        ("moves left", "moves left", True),
        ("moves left", "moves up left", True),
        ("moves left", "moves right", False),
        ("moves left", "moves up", False),
        ("moves up left", "moves up right", True),
        ("bounces", "moves up", True),
        ("bounces", "moves down left", True),
        ("bounces", "moves left", False),
        ("bounces", "bounces", True),
        ("grows", "shrinks", False),
    ],
)
def test_events_that_could_be_taken_for_each_other(first, second, alike):
    assert are_alike(first, second) == are_alike(second, first) == alike


def test_objects_do_what_their_segments_say(easy, standard):
    seen = set()
    for scene in easy + standard:
        for item in scene.objects:
            for segment in item.segments:
                frames = slice(segment.first_frame, segment.last_frame + 1)
                steps = np.diff(item.centers[frames], axis=0)
                sizes, bright = item.half_sides[frames], item.bright[frames]
                seen.add(segment.name)
                if segment.name.startswith("moves"):
                    words = segment.name.split()[1:]
                    signs = [("right" in words) - ("left" in words), ("down" in words) - ("up" in words)]
                    assert (np.sign(steps) == signs).all()
                    assert (np.abs(steps.sum(axis=0)) >= 0.2 * 72 * np.abs(signs)).all()
                elif segment.name == "bounces":
                    assert (steps[:, 0] == 0).all() and np.abs(steps.sum(axis=0)).max() < 1e-9
                    turns = (np.diff(np.sign(steps[steps[:, 1] != 0, 1])) != 0).sum()
                    assert steps[0, 1] < 0 and turns == 3
                else:
                    assert (steps == 0).all()
                if segment.name == "grows":
                    assert (np.diff(sizes) > 0).all() and sizes[-1] >= 1.5 * sizes[0]
                elif segment.name == "shrinks":
                    assert (np.diff(sizes) < 0).all() and sizes[0] >= 1.5 * sizes[-1]
                else:
                    assert (sizes == sizes[0]).all()
                if segment.name == "flashes":
                    assert bright[0] and bright[-1] and not bright.all()
                else:
                    assert not bright.any()
    assert seen == {*EVENTS, "absent", "appears", "still", "stops"}


def test_segments_join_without_a_jump(standard):
    for scene in standard:
        for item in scene.objects:
            for before, after in pairwise(item.segments):
                if "absent" not in (before.name, after.name):
                    frames = [before.last_frame, after.first_frame]
                    assert np.ptp(item.centers[frames], axis=0).max() < 1e-9
                    assert np.ptp(item.half_sides[frames]) < 1e-9


def test_boxes_lie_in_the_frame(easy, standard):
    for scene in easy + standard:
        for item in scene.objects:
            boxes = item.boxes[item.visible]
            assert boxes.min() >= 0 and boxes.max() <= 72
            sides = boxes[:, 2:] - boxes[:, :2]
            least = 0.85 if scene in standard else 1 - 1e-9
            assert (sides >= 2 * least * item.half_sides[item.visible, None] - 1e-9).all()


def test_easy_objects_never_touch(easy):
    assert all(compute_overlap(*pair) == 0 for scene in easy for pair in combinations(scene.objects, 2))
    assert {len(scene.objects) for scene in easy} == {1, 2}


def test_standard_objects_hide_each_other_but_not_those_of_their_colour(standard):
    pairs = [pair for scene in standard for pair in combinations(scene.objects, 2)]
    assert all(compute_overlap(a, b) == 0 for a, b in pairs if a.color == b.color)
    assert np.mean([compute_overlap(a, b) > 0 for a, b in pairs if a.color != b.color]) > 0.1
    assert {len(scene.objects) for scene in standard} == {1, 2, 3, 4}
    assert {len(scene.actors) for scene in standard} == {1, 2, 3}


def test_sizes_suit_a_small_model(easy, standard):
    for scenes in (easy, standard):
        sides = [2 * np.median(item.half_sides) for scene in scenes for item in scene.objects]
        assert 20 <= np.median(sides) <= 28
        assert min(sides) >= 0.17 * 72 and max(sides) <= 0.48 * 72


def test_actors_come_in_the_order_of_their_first_change(standard):
    for scene in standard:
        firsts = []
        for item in scene.actors:
            changed = item.visible[1:] != item.visible[:-1]
            changed |= (np.diff(item.centers, axis=0) != 0).any(axis=1) | (np.diff(item.half_sides) != 0)
            # The first frame of a motion still shows the old place; appearing and lighting up show at once.
            first_events = [segment.first_frame for segment in item.events]
            appeared = [int(np.flatnonzero(changed)[0]) + 1] if item.appears else []
            firsts.append(min(first_events + appeared))
        assert firsts == sorted(firsts)


def test_one_event_is_all_that_happens_if_so_asked():
    for scene in make_scenes("standard", 200, single_event=True):
        assert sum(len(item.events) for item in scene.objects) == 1
        assert all(item.visible.all() for item in scene.objects)


@pytest.mark.parametrize("difficulty", ["easy", "standard"])
@pytest.mark.parametrize("num_frames, height, width", [(8, 72, 72), (100, 48, 73), (1, 33, 90)])
def test_other_lengths_and_sizes(difficulty, num_frames, height, width):
    for scene in make_scenes(difficulty, 60, num_frames, height, width):
        for item in scene.objects:
            assert item.boxes.shape == (num_frames, 4)
            boxes = item.boxes[item.visible]
            assert boxes.min() >= 0 and boxes[:, 2].max() <= width and boxes[:, 3].max() <= height
            least = compute_min_event_frames(num_frames)
            assert all(segment.num_frames >= least for segment in item.events)
            assert num_frames > 1 or not item.is_actor


@pytest.mark.parametrize("num_frames, least", [(8, 3), (20, 4), (21, 4), (22, 5), (100, 16), (101, 16)])
def test_events_last_a_seventh_of_the_clip(num_frames, least):
    assert compute_min_event_frames(num_frames) == least


def test_scenes_say_times_and_boxes_in_fractions():
    (scene,) = make_scenes("easy", 1, height=50, width=100)
    item = scene.objects[0]
    assert [scene.get_time(frame) for frame in (0, 19)] == [0, 1]
    frame = int(np.flatnonzero(item.visible)[0])
    np.testing.assert_allclose(scene.get_box(item, frame), item.boxes[frame] / [100, 50, 100, 50])
