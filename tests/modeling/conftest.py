"""A model small enough that every test builds its own."""

from collections.abc import Callable

import pytest
import torch
from small_sizes import TEXT, VISION

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration


@pytest.fixture
def make_config() -> Callable[..., LlavaSTConfig]:
    """Build a tiny config: 8x8 patches, 7 time bins, 5 spatial bins, 40 text tokens."""

    def make(**overrides) -> LlavaSTConfig:
        sizes = {
            # 8 patches of 4 pixels, the rest is dropped.
            "vision_config": {**VISION, "image_size": 34, "patch_size": 4},
            "text_config": {**TEXT, "vocab_size": 40, "max_position_embeddings": 2048},
            "image_token_id": 38,
            "video_token_id": 39,
            "num_temporal_tokens": 7,
            "num_spatial_tokens": 5,
            "packer_hidden_size": 16,
            "packer_num_heads": 2,
            "pad_token_id": 0,
            "eos_token_id": 1,
        }
        return LlavaSTConfig(**{**sizes, **overrides})

    return make


@pytest.fixture
def make_model(make_config) -> Callable[..., LlavaSTForConditionalGeneration]:
    """Build a tiny random model, the same at every call."""

    def make(**overrides) -> LlavaSTForConditionalGeneration:
        torch.manual_seed(0)
        model = LlavaSTForConditionalGeneration(make_config(**overrides)).eval()
        for name, parameter in model.named_parameters():
            if "coordinate" not in name and parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)  # far from the tiny default, so that inputs matter
        torch.nn.init.normal_(model.model.coordinate_embeddings.output_table, std=0.5)  # coordinates get generated
        return model

    return make
