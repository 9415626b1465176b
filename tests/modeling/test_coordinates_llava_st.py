"""Coordinates between bins, NTP and the soft-label loss, against their definitions and the recorded figures."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from llava_st_hf.modeling.coordinates_llava_st import (
    interpolate_rows,
    language_aligned_positions,
    propagate_to_neighbours,
    resize_rows,
    sample_rows,
    soft_label_cross_entropy,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ntp_changes_the_gradient_and_not_one_bit_of_the_value(dtype):
    torch.manual_seed(0)
    table = torch.randn(6, 3, dtype=dtype, requires_grad=True)
    propagated = propagate_to_neighbours(table, (2, 4))
    assert torch.equal(propagated, table)
    upstream = torch.randn(6, 3, dtype=dtype)
    propagated.backward(upstream)
    expected = upstream.double().clone()
    for start, size in ((0, 2), (2, 4)):
        for row in range(start, start + size):
            for other in range(start, start + size):
                expected[row] += 2.0 ** -abs(row - other) * upstream[other].double()
    tolerance = 1e-6 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(table.grad.double(), expected, atol=tolerance, rtol=tolerance)


def test_ntp_reproduces_the_recorded_gradient(parity_dir):
    for path in parity_dir.glob("*/unit/ntp_reparam.safetensors"):
        recorded = load_file(path)
        table = recorded["weight"].clone().requires_grad_()
        propagated = propagate_to_neighbours(table, (table.shape[0],))
        propagated.backward(recorded["upstream_grad"])
        torch.testing.assert_close(propagated, recorded["forward_fp32"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(table.grad, recorded["weight_grad"], atol=1e-4, rtol=1e-5)


def test_ntp_is_free_without_gradients():
    table = torch.randn(4, 2, requires_grad=True)
    with torch.no_grad():
        assert propagate_to_neighbours(table, (4,)) is table


def test_interpolated_rows_equal_the_recorded_ones(parity_dir):
    for path in parity_dir.glob("*/unit/token_transfer.safetensors"):
        recorded = load_file(path)
        table, positions = recorded["table"], recorded["positions"].double()
        exact = positions.clamp(0, 1) * (table.shape[0] - 1)
        bins = exact.floor().long()
        actual = interpolate_rows(table, bins, exact - bins)
        expected = next(value for key, value in recorded.items() if key not in ("table", "positions"))
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_resize_keeps_the_table_where_the_size_fits():
    table = torch.randn(5, 2)
    assert resize_rows(table, 5) is table
    expected = F.interpolate(table.T[None], size=3, mode="linear", align_corners=False)[0].T
    torch.testing.assert_close(resize_rows(table, 3), expected)


@pytest.mark.parametrize(("frames", "expected"), [(1, [0.0]), (2, [0, 4]), (3, [0, 2, 4]), (5, [0, 1, 2, 3, 4])])
def test_a_frame_is_marked_with_the_row_that_names_its_time(frames, expected):
    table = torch.arange(5.0)[:, None].expand(5, 2)
    torch.testing.assert_close(sample_rows(table, frames)[:, 0], torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(sample_rows(table, 9)[:, 0], torch.arange(9.0) / 2)


def test_lape_marks_rows_with_height_and_columns_with_width():
    input_table, output_table = torch.randn(9, 4), torch.randn(9, 4)
    time, place = language_aligned_positions(input_table, output_table, (3, 3, 3), 3)
    mean = (input_table + output_table) / 2
    torch.testing.assert_close(time, mean[:3])
    torch.testing.assert_close(place[2, 0], mean[3 + 2] + mean[6 + 0])


def test_soft_label_loss_equals_its_definition():
    torch.manual_seed(0)
    text, coordinates = torch.randn(5, 7), torch.randn(5, 4)
    labels, offsets = torch.tensor([0, 6, 7, 9, 10]), torch.tensor([0.0, 0.0, 0.25, 0.75, 0.0])
    targets = torch.zeros(5, 11)
    for row, (label, offset) in enumerate(zip(labels.tolist(), offsets.tolist(), strict=True)):
        targets[row, label] += 1 - offset
        if offset:
            targets[row, label + 1] += offset
    expected = -(targets * torch.cat([text, coordinates], -1).log_softmax(-1)).sum()
    torch.testing.assert_close(soft_label_cross_entropy(text, coordinates, labels, offsets).sum(), expected)
    hard = F.cross_entropy(torch.cat([text, coordinates], -1), labels, reduction="sum")
    torch.testing.assert_close(soft_label_cross_entropy(text, coordinates, labels, None).sum(), hard)
