"""Spatial-temporal packer (STP, paper section 3.3): many patches in, two short streams of tokens out.

Every stage is one operation, point-to-region attention: the point in the middle of a region asks that region, and
only that one. A region is a run of frames or a square of patches; the last ones of an axis may be smaller.
"""

import torch
import torch.nn.functional as F
from torch import nn


class LlavaSTPointToRegionAttention(nn.Module):
    """
    Reduce each region of tokens to one: the point in its middle asks the region and adds the answer to itself.

    Points, keys and values each pass Linear, GELU, Linear, LayerNorm to the packer's width before the attention.
    """

    def __init__(self, config):
        super().__init__()
        hidden_size, width = config.text_config.hidden_size, config.packer_hidden_size
        self.num_heads = config.packer_num_heads
        self.query_mlp, self.key_mlp, self.value_mlp = (
            nn.Sequential(nn.Linear(hidden_size, width), nn.GELU(), nn.Linear(width, width)) for _ in range(3)
        )
        self.query_norm, self.key_norm, self.value_norm = (nn.LayerNorm(width) for _ in range(3))
        self.query_proj, self.key_proj, self.value_proj = (nn.Linear(width, width) for _ in range(3))
        self.attention_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, hidden_size, bias=False)

    def forward(
        self, regions: torch.Tensor, centre_weights: torch.Tensor, valid: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Attend from the centre of each region to its tokens.

        Args:
            regions (`torch.Tensor` of shape `(..., region, hidden)`): The tokens of each region.
            centre_weights (`torch.Tensor`, broadcast to `(..., region)`):
                Weights that interpolate the point in the middle of each region from its tokens.
            valid (`torch.Tensor`, broadcast to `(..., region)`, *optional*):
                True where a token exists. Left out when every region is full.

        Returns:
            `torch.Tensor` of shape `(..., hidden)`: one token for each region.
        """
        *batch_shape, size, hidden_size = regions.shape
        points = (centre_weights.to(regions.dtype).unsqueeze(-2) @ regions).squeeze(-2)  # (..., hidden)
        # Linear layers in 8 bits (bitsandbytes) take no more than three axes.
        flat_points, flat_regions = points.reshape(-1, hidden_size), regions.reshape(-1, size, hidden_size)
        query = self.query_proj(self.query_norm(self.query_mlp(flat_points)))  # (regions, width)
        key = self.key_proj(self.key_norm(self.key_mlp(flat_regions)))  # (regions, region, width)
        value = self.value_proj(self.value_norm(self.value_mlp(flat_regions)))

        query = query.reshape(-1, 1, self.num_heads, query.shape[-1] // self.num_heads).transpose(1, 2)
        key, value = (x.reshape(-1, size, *query.shape[1::2]).transpose(1, 2) for x in (key, value))
        mask = None if valid is None else valid.expand(*batch_shape, size).reshape(-1, 1, 1, size)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # (regions, heads, 1, width)
        return points + self.output_proj(self.attention_proj(attended.flatten(1))).view_as(points)


class LlavaSTPacker(nn.Module):
    """
    Pack the patches of a clip into a slow stream (few frames, fine grid) and a fast one (all frames, coarse grid).

    Published sizes: 100 frames of 27x27 patches become 100 frames of 9x9 tokens, and these the 1,620 tokens of the
    slow stream (20 frames of 9x9) and the 900 of the fast stream (100 frames of 3x3).
    """

    def __init__(self, config):
        super().__init__()
        self.spatial_stride = config.spatial_stride
        self.fast_spatial_stride = config.fast_spatial_stride
        self.temporal_stride = config.temporal_stride
        self.spatial = LlavaSTPointToRegionAttention(config)
        self.slow = LlavaSTPointToRegionAttention(config)
        self.fast = LlavaSTPointToRegionAttention(config)

    def pack_frames(self, patches: torch.Tensor) -> torch.Tensor:
        """Pack each frame on its own: (frames, grid, grid, hidden) -> (frames, packed, packed, hidden)."""
        return pack_space(self.spatial, patches, self.spatial_stride)

    def pack_fast(self, frames: torch.Tensor) -> torch.Tensor:
        """Make the fast stream of a clip: (frames, packed, packed, hidden) -> (frames, fast, fast, hidden)."""
        return pack_space(self.fast, frames, self.fast_spatial_stride)

    def pack_slow(self, frames: torch.Tensor) -> torch.Tensor:
        """Make the slow stream of a clip: (frames, packed, packed, hidden) -> (groups, packed, packed, hidden)."""
        return pack_time(self.slow, frames, self.temporal_stride)


def pack_space(attention: LlavaSTPointToRegionAttention, frames: torch.Tensor, stride: int) -> torch.Tensor:
    """Reduce squares of `stride` tokens: (frames, height, width, hidden) -> (frames, rows, columns, hidden)."""
    num_frames, height, width, hidden_size = frames.shape
    (row_weights, row_valid), (column_weights, column_valid) = (
        split_axis(size, stride, frames.device) for size in (height, width)
    )
    rows, columns = row_valid.shape[0], column_valid.shape[0]
    valid = None
    if height % stride or width % stride:  # to pad by nothing would be a copy
        frames = F.pad(frames, (0, 0, 0, columns * stride - width, 0, rows * stride - height))
        valid = (row_valid[:, None, :, None] & column_valid[None, :, None, :]).flatten(2)
    regions = frames.view(num_frames, rows, stride, columns, stride, hidden_size)
    regions = regions.transpose(2, 3).flatten(3, 4)  # (frames, rows, columns, stride * stride, hidden)
    weights = (row_weights[:, None, :, None] * column_weights[None, :, None, :]).flatten(2)
    return attention(regions, weights, valid)


def pack_time(attention: LlavaSTPointToRegionAttention, frames: torch.Tensor, stride: int) -> torch.Tensor:
    """Reduce runs of `stride` frames: (frames, height, width, hidden) -> (groups, height, width, hidden)."""
    num_frames, height, width, hidden_size = frames.shape
    weights, valid = split_axis(num_frames, stride, frames.device)
    groups, is_full = valid.shape[0], num_frames % stride == 0
    if not is_full:  # to pad by nothing would be a copy
        frames = F.pad(frames, (0, 0, 0, 0, 0, 0, 0, groups * stride - num_frames))
    regions = frames.view(groups, stride, height, width, hidden_size).permute(0, 2, 3, 1, 4)
    return attention(regions, weights[:, None, None], None if is_full else valid[:, None, None])


def split_axis(size: int, stride: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Split an axis of `size` tokens into groups of `stride`, the last one smaller where it does not divide.

    The centre of a group is its middle token, or half of each of the two in its middle: the point that linear
    interpolation (half-pixel centres) gives. For the published strides that is frame 5 i + 2 and patch 3 i + 1.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: the weights of the centre (float) and which tokens exist (bool), each
        of shape (groups, stride).
    """
    valid = torch.arange(-(-size // stride) * stride, device=device).view(-1, stride) < size
    centres = (valid.sum(-1, keepdim=True) - 1) / 2  # (groups, 1)
    weights = (1 - (torch.arange(stride, device=device) - centres).abs()).clamp(min=0)
    return weights, valid


__all__ = ["LlavaSTPacker", "LlavaSTPointToRegionAttention"]
