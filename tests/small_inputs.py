"""Inputs for the random checkpoint of the `checkpoint` fixture: a clip, coordinates between bins, labels."""

import torch

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration


def make_inputs(model: LlavaSTForConditionalGeneration, batch_size: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """Make random clips of 6 frames, each with a prompt that holds coordinates of every axis and text."""
    config: LlavaSTConfig = model.config
    generator = torch.Generator().manual_seed(seed)
    size = config.vision_config.image_size
    pixels = torch.randn(batch_size, 6, 3, size, size, generator=generator)
    packed = -(-config.patch_grid_size // config.spatial_stride)
    fast = -(-packed // config.fast_spatial_stride)
    media = torch.full((batch_size, 6 * fast**2 + 2 * packed**2), config.video_token_id)
    words = torch.randint(5, 300, (batch_size, 8), generator=generator)
    bins = torch.randint(0, 99, (batch_size, 3), generator=generator)
    coordinates = config.coordinate_token_offset + bins + torch.tensor([0, 100, 200])
    input_ids = torch.cat([words[:, :4], media, words[:, 4:], coordinates, words[:, :2]], dim=1)
    offsets = torch.rand(input_ids.shape, generator=generator) * (input_ids >= config.coordinate_token_offset)
    return {"input_ids": input_ids, "pixel_values_videos": pixels, "coordinate_offsets": offsets}


def make_labels(inputs: dict[str, torch.Tensor], supervised: int = 7) -> torch.Tensor:
    """Supervise the last positions: text and coordinates."""
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -supervised:] = inputs["input_ids"][:, -supervised:]
    return labels
