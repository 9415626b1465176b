"""What the cells of a scene are said to show."""

from dataclasses import replace

import pytest
import torch
from scene_labels import EVENT_WORDS, NAMES, OBJECT_CODE, TIME_CODE, label_scene, read_shares

from llava_st_hf.data.shapes import ShapesDataset


def find_cell(item, frame, grid_size):
    """Return which cell the middle of an object is in."""
    column, row = (int(value * grid_size // 72) for value in item.centers[frame])
    return row * grid_size + column


@pytest.mark.parametrize("grid_size", [4, 8])
def test_cells_are_labelled_with_the_object_they_show_and_what_it_does(grid_size):
    clips = ShapesDataset(["svg"], 30, seed=5, difficulty="easy")  # nothing hides another
    shown = []
    for index in range(30):
        scene = clips.make_scene(index)
        labels = label_scene(scene, grid_size)
        for number, item in enumerate(scene.objects):
            for segment in item.segments:
                words = {word for word in segment.name.split() if word in EVENT_WORDS}
                for frame in range(segment.first_frame, segment.last_frame + 1):
                    if not item.visible[frame]:
                        assert not (labels.owners[frame] == number).any()
                        continue
                    cell = find_cell(item, frame, grid_size)
                    shown.append(labels.owners[frame, cell] == number)
                    if not shown[-1]:  # it is small, and its middle near the edge of a cell
                        continue
                    color, shape = labels.names[frame, cell]
                    assert NAMES[0][color] == item.color
                    assert NAMES[1][shape] == item.shape
                    said = labels.events[frame, cell, :-1].nonzero()[:, 0].tolist()
                    assert {EVENT_WORDS[word] for word in said} == words
                    late = segment.is_event and segment.name != "flashes"  # it shows one frame after it began
                    assert labels.known[frame, cell] == (not late or frame > segment.first_frame)
                    starts = bool(words) and segment.name != "stops" and frame == segment.first_frame + late
                    assert labels.events[frame, cell, -1] == starts
                    if starts:
                        start = labels.starts[frame, cell, 0] / (2 * 3**0.5) + 0.5
                        assert start.item() == pytest.approx(scene.get_time(segment.first_frame), abs=1e-5)
                    left, top, right, bottom = labels.codes[frame, cell, :4] / (2 * 3**0.5) + 0.5
                    assert torch.tensor([left, top, right, bottom]).tolist() == pytest.approx(
                        scene.get_box(item, frame), abs=1e-5
                    )
                    assert labels.codes[frame, cell, -1] == 2 * item.bright[frame]
    assert sum(shown) > 0.95 * len(shown)


def test_what_hides_another_owns_the_cell():
    clips = ShapesDataset(["svg"], 60, seed=5)
    num_hidden = 0
    for index in range(60):
        scene = clips.make_scene(index)
        owners = label_scene(scene, 8).owners
        alone = [
            label_scene(replace(scene, objects=(item,)), 8).owners == 0 for item in scene.objects
        ]  # what each would own without the others
        for number, mine in enumerate(alone):
            in_front = torch.stack([*alone[number + 1 :], torch.zeros_like(mine)]).any(0)
            assert (owners[mine & ~in_front] == number).all()
            assert (owners[mine & in_front] > number).all()
            num_hidden += int((mine & in_front).sum())
    assert num_hidden > 100


def test_features_are_read_as_they_were_written():
    for code in (OBJECT_CODE, TIME_CODE):
        numbers = torch.randn(5, len(code.gains))
        assert torch.allclose(code.read(numbers @ code.make_directions(64)), numbers, atol=1e-5)
    rows = torch.linalg.qr(torch.randn(64, 6))[0].T * 8  # mean square 1
    shares = torch.rand(5, 6)
    assert torch.allclose(read_shares(shares @ rows, rows), shares, atol=1e-5)
