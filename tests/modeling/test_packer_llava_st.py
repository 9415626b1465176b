"""The packer against a loop over regions that is written from the paper's words."""

import pytest
import torch
import torch.nn.functional as F

from llava_st_hf.modeling.packer_llava_st import LlavaSTPacker, pack_space, pack_time, split_axis


@pytest.fixture
def packer(make_config):
    torch.manual_seed(1)
    return LlavaSTPacker(make_config())


def attend_one_region(attention, region: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Point-to-region attention of one region (tokens, hidden), by the library's multi-head attention."""
    width = attention.query_proj.out_features
    reference = torch.nn.MultiheadAttention(width, attention.num_heads, batch_first=True)
    projections = (attention.query_proj, attention.key_proj, attention.value_proj)
    reference.in_proj_weight.data = torch.cat([projection.weight.data for projection in projections])
    reference.in_proj_bias.data = torch.cat([projection.bias.data for projection in projections])
    reference.out_proj.load_state_dict(attention.attention_proj.state_dict())
    query = attention.query_norm(attention.query_mlp(point))
    key = attention.key_norm(attention.key_mlp(region))
    value = attention.value_norm(attention.value_mlp(region))
    return point + attention.output_proj(reference(query[None], key, value)[0][0])


@pytest.mark.parametrize(("frames", "stride"), [(1, 5), (4, 5), (5, 5), (7, 5), (10, 5), (11, 3), (6, 2), (3, 1)])
def test_time_equals_a_loop_over_groups(packer, frames, stride):
    features = torch.randn(frames, 2, 3, 32)
    actual = pack_time(packer.slow, features, stride)
    for group, start in enumerate(range(0, frames, stride)):
        run = features[start : start + stride]
        middle = (len(run) - 1) / 2
        point = (run[int(middle)] + run[-(-(len(run) - 1) // 2)]) / 2
        for row in range(2):
            for column in range(3):
                expected = attend_one_region(packer.slow, run[:, row, column], point[row, column])
                torch.testing.assert_close(actual[group, row, column], expected, atol=1e-5, rtol=1e-5)
    assert actual.shape == (-(-frames // stride), 2, 3, 32)


@pytest.mark.parametrize(("size", "stride"), [(9, 3), (8, 3), (7, 3), (4, 2), (5, 2), (1, 3)])
def test_space_equals_a_loop_over_squares(packer, size, stride):
    features = torch.randn(2, size, size, 32)
    actual = pack_space(packer.spatial, features, stride)
    assert actual.shape == (2, -(-size // stride), -(-size // stride), 32)
    for frame in range(2):
        for row in range(actual.shape[1]):
            for column in range(actual.shape[2]):
                square = features[
                    frame, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride
                ]  # (height, width, hidden)
                point = square
                for _ in range(2):
                    low = (point.shape[0] - 1) // 2
                    point = (point[low] + point[point.shape[0] - 1 - low]) / 2
                expected = attend_one_region(packer.spatial, square.flatten(0, 1), point)
                torch.testing.assert_close(actual[frame, row, column], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(100, 5), (27, 3), (9, 3), (20, 4)])
def test_centres_are_what_linear_interpolation_gives(size, stride):
    values = torch.randn(1, 1, size)
    weights, valid = split_axis(size, stride, values.device)
    expected = F.interpolate(values, size=size // stride, mode="linear", align_corners=False)[0, 0]
    torch.testing.assert_close((values.view(-1, stride) * weights).sum(-1), expected)
    assert valid.all()


def test_padding_never_leaks_into_a_short_group(packer):
    features = torch.randn(7, 1, 1, 32)
    alone = pack_time(packer.slow, features[5:], 5)
    torch.testing.assert_close(pack_time(packer.slow, features, 5)[1:], alone, atol=1e-6, rtol=1e-6)
