"""The coordinate tables, LAPE, NTP and the two-bin interpolation: the idea of LLaVA-ST, in one place.

A coordinate p in [0, 1] on an axis of N bins is p (N - 1) = k + r: token k, offset r in [0, 1). It is embedded as
(1 - r) E[k] + r E[k + 1], and as a target it is the soft label (1 - r) on k and r on k + 1.
"""

import torch
import torch.nn.functional as F
from torch import nn


class LlavaSTCoordinateEmbeddings(nn.Module):
    """
    Input and output rows of the coordinate tokens, in the order time, height, width.

    Read the tables by calling the module, never by attribute: offloading, PEFT and FSDP hook the call.
    """

    def __init__(self, config):
        super().__init__()
        self.axis_sizes = config.axis_sizes
        hidden_size = config.text_config.hidden_size
        self.input_table = nn.Parameter(torch.empty(sum(self.axis_sizes), hidden_size))
        self.output_table = nn.Parameter(torch.empty(sum(self.axis_sizes), hidden_size))

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the input and the output table, each (coordinates, hidden), their gradients smoothed by NTP."""
        return tuple(
            propagate_to_neighbours(table, self.axis_sizes) for table in (self.input_table, self.output_table)
        )


def propagate_to_neighbours(table: torch.Tensor, axis_sizes: tuple[int, ...]) -> torch.Tensor:
    """
    Apply neighbouring-token propagation (NTP, paper section 3.2).

    The value is the table itself; its gradient g becomes (I + R)^T g with R[i, j] = 2^-|i-j| within an axis, so that
    a bin learns from its neighbours.

    Args:
        table (`torch.Tensor` of shape `(sum(axis_sizes), hidden)`): Rows of all axes, one axis after the other.
        axis_sizes (`tuple[int, ...]`): Bins of each axis.

    Returns:
        `torch.Tensor` of the shape of `table`, equal to it to the last bit.
    """
    if not (torch.is_grad_enabled() and table.requires_grad):
        return table
    propagated = torch.cat([_neighbour_weights(axis_table) @ axis_table for axis_table in table.split(axis_sizes)])
    # Parity: the reference adds R W - stopgrad(R W) the other way round, W + R W - R W, which is W only up to
    # rounding in half precision. The difference of a tensor with itself is exactly zero, so this form is exact.
    return table + (propagated - propagated.detach())


def _neighbour_weights(axis_table: torch.Tensor) -> torch.Tensor:
    bins = torch.arange(axis_table.shape[0], device=axis_table.device)
    return torch.exp2(-(bins[:, None] - bins[None, :]).abs().to(axis_table.dtype))  # (bins, bins)


def interpolate_rows(table: torch.Tensor, bins: torch.Tensor, offsets: torch.Tensor | None) -> torch.Tensor:
    """
    Embed continuous coordinates: (1 - r) E[k] + r E[k + 1].

    Args:
        table (`torch.Tensor` of shape `(coordinates, hidden)`): Rows of all axes.
        bins (`torch.Tensor` of shape `(...)`): Row k of each coordinate.
        offsets (`torch.Tensor` of shape `(...)`, *optional*): r of each coordinate, in [0, 1); 0 when left out.

    Returns:
        `torch.Tensor` of shape `(..., hidden)`.
    """
    rows = F.embedding(bins, table)
    if offsets is None:
        return rows
    next_rows = F.embedding((bins + 1).clamp(max=table.shape[0] - 1), table)
    return torch.lerp(rows, next_rows, offsets.to(rows).unsqueeze(-1))


def language_aligned_positions(
    input_table: torch.Tensor, output_table: torch.Tensor, axis_sizes: tuple[int, ...], grid_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Build the language-aligned positional embedding (LAPE, paper section 3.1).

    On each axis the embedding is the mean of the input and the output table, so that a place in the frame is marked
    with the very rows that name it in text.

    Args:
        input_table (`torch.Tensor` of shape `(coordinates, hidden)`): Input rows, time then height then width.
        output_table (`torch.Tensor` of shape `(coordinates, hidden)`): Output rows in the same order.
        axis_sizes (`tuple[int, ...]`): Bins of time, height and width.
        grid_size (`int`): Patches along one side of a frame.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: the rows of the time axis (time bins, hidden), and the sum of height
        and width for each patch (grid_size, grid_size, hidden).
    """
    time, height, width = ((input_table + output_table) / 2).split(axis_sizes)
    height, width = resize_rows(height, grid_size), resize_rows(width, grid_size)
    return time, height[:, None] + width[None, :]


def resize_rows(table: torch.Tensor, size: int) -> torch.Tensor:
    """Resize an axis (bins, hidden) linearly to (size, hidden), half-pixel centres, as published (100 -> 27)."""
    if table.shape[0] == size:
        return table
    return F.interpolate(table.T[None], size=size, mode="linear", align_corners=False)[0].T


def sample_rows(table: torch.Tensor, num_frames: int) -> torch.Tensor:
    """
    Read the time axis (bins, hidden) at each frame: (num_frames, hidden).

    Frame i of n stands for the fraction i / (n - 1) of the clip, in text as in LAPE, so that the first and the last
    frame are marked with the first and the last row. One frame alone is the first row, like an image. With as many
    frames as bins, as published, it is the table.
    """
    if table.shape[0] == num_frames:
        return table
    exact = torch.linspace(0, table.shape[0] - 1, num_frames, device=table.device, dtype=torch.float64)
    bins = exact.long()
    return interpolate_rows(table, bins, exact - bins)


def soft_label_cross_entropy(
    text_logits: torch.Tensor,
    coordinate_logits: torch.Tensor,
    labels: torch.Tensor,
    offsets: torch.Tensor | None,
) -> torch.Tensor:
    """
    Compute the cross entropy against labels that may lie between two coordinate bins.

    Args:
        text_logits (`torch.Tensor` of shape `(positions, text tokens)`): Scores of the text tokens.
        coordinate_logits (`torch.Tensor` of shape `(positions, coordinates)`): Scores of the coordinate tokens.
        labels (`torch.Tensor` of shape `(positions,)`): Target ids; those from `text tokens` on are coordinates.
        offsets (`torch.Tensor` of shape `(positions,)`, *optional*):
            r of each target: its mass is 1 - r on the label and r on the next bin. 0 when left out.

    Returns:
        `torch.Tensor` of shape `(positions,)`: The loss of each, float32.
    """
    # The two blocks stay apart: joined, they would be copied once more, and they are the largest tensor of a step.
    text_logits, coordinate_logits = text_logits.float(), coordinate_logits.float()
    normalizer = torch.logaddexp(text_logits.logsumexp(-1), coordinate_logits.logsumexp(-1))
    num_text, num_coordinates = text_logits.shape[-1], coordinate_logits.shape[-1]
    bins = (labels - num_text).clamp(min=0)

    def pick(logits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return logits.gather(-1, index.unsqueeze(-1)).squeeze(-1)

    target = pick(coordinate_logits, bins)
    if offsets is not None:
        target = torch.lerp(
            target, pick(coordinate_logits, (bins + 1).clamp(max=num_coordinates - 1)), offsets.float()
        )
    text_target = pick(text_logits, labels.clamp(max=num_text - 1))
    return normalizer - torch.where(labels >= num_text, target, text_target)


@torch.no_grad()
def measure_coordinate_errors(
    coordinate_logits: torch.Tensor,
    coordinates: torch.Tensor,
    offsets: torch.Tensor | None,
    axis_sizes: tuple[int, ...],
) -> torch.Tensor:
    """
    Measure how far the likeliest bin of the right axis lies from the target.

    Args:
        coordinate_logits (`torch.Tensor` of shape `(positions, coordinates)`): Scores of the coordinate tokens.
        coordinates (`torch.Tensor` of shape `(positions,)`): Target rows; a negative one is a text token.
        offsets (`torch.Tensor` of shape `(positions,)`, *optional*): How far each target lies above its row.
        axis_sizes (`tuple[int, ...]`): Bins of each axis.

    Returns:
        `torch.Tensor` of shape `(positions,)`: Distance in bins, float32; NaN for text tokens.
    """
    sizes = torch.tensor(axis_sizes, device=coordinates.device)
    ends = sizes.cumsum(0)
    axes = torch.bucketize(coordinates.clamp(min=0), ends, right=True)
    blocks = coordinate_logits.split(axis_sizes, dim=-1)
    rows = torch.stack([block.argmax(-1) for block in blocks], dim=-1) + ends - sizes  # (positions, axes)
    likeliest = rows.gather(-1, axes.unsqueeze(-1)).squeeze(-1)
    targets = coordinates if offsets is None else coordinates + offsets.float()
    return torch.where(coordinates >= 0, (likeliest - targets).abs().float(), torch.nan)


__all__ = ["LlavaSTCoordinateEmbeddings"]
