"""The model that the common tests build, and what they feed it."""

import copy
from typing import Any

import torch
from small_sizes import TEXT, VISION

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTModel

IMAGE, VIDEO = 98, 99
VOCAB_SIZE = 100
GRID, PACKED = 4, 2  # patches and packed tokens along one side
FRAMES = 3
VIDEO_TOKENS = FRAMES + 2 * PACKED**2  # a fast token for each frame, two slow frames


class LlavaSTModelTester:
    """Each sample has text, an image, a clip, and coordinates that lie between two bins."""

    is_training = True
    base_model_class = LlavaSTModel
    causal_lm_class = LlavaSTForConditionalGeneration

    def __init__(self, parent: Any):
        self.parent = parent
        self.batch_size = 3
        self.has_coordinates = True
        self.vision_config = {**VISION, "image_size": 16, "patch_size": 4}
        self.text_config = {
            **TEXT,
            "vocab_size": VOCAB_SIZE,
            "max_position_embeddings": 512,
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": 0,
        }
        self.hidden_size = self.text_config["hidden_size"]
        self.num_hidden_layers = self.text_config["num_hidden_layers"]
        self.num_attention_heads = self.text_config["num_attention_heads"]
        self.seq_length = len(self._make_row())

    def get_config(self) -> LlavaSTConfig:
        return LlavaSTConfig(
            vision_config=copy.deepcopy(self.vision_config),
            text_config=copy.deepcopy(self.text_config),
            image_token_id=IMAGE,
            video_token_id=VIDEO,
            num_temporal_tokens=7,
            num_spatial_tokens=5,
            packer_hidden_size=16,
            packer_num_heads=2,
            spatial_stride=2,
            fast_spatial_stride=2,
            temporal_stride=2,
            vision_chunk_size=2,  # a clip is more than one chunk
            eos_token_id=1,
            pad_token_id=0,
        )

    def _make_row(self) -> list[int]:
        text = torch.randint(2, VOCAB_SIZE - 2, (6,)).tolist()
        coordinates = torch.randint(VOCAB_SIZE, VOCAB_SIZE + 17, (3,)).tolist() if self.has_coordinates else []
        return [*text[:2], *[IMAGE] * GRID**2, text[2], *[VIDEO] * VIDEO_TOKENS, *text[3:], *coordinates]

    def prepare_config_and_inputs_for_common(self) -> tuple[LlavaSTConfig, dict[str, torch.Tensor]]:
        input_ids = torch.tensor([self._make_row() for _ in range(self.batch_size)])
        return self.get_config(), {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
            "coordinate_offsets": torch.rand(input_ids.shape) * (input_ids >= VOCAB_SIZE),
            "pixel_values": torch.randn(self.batch_size, 3, 16, 16),
            "pixel_values_videos": torch.randn(self.batch_size, FRAMES, 3, 16, 16),
        }
