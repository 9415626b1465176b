"""Configuration of LLaVA-ST: every size that the model or the processor needs stands here, none in code."""

import os
from typing import TYPE_CHECKING, Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .conversion_llava_st import convert_published_config, is_published_config

if TYPE_CHECKING:
    # Never run, but read: transformers copies the files whose imports it finds in the text of this one, and so the
    # code of the model travels wherever its config is saved.
    from .modeling_llava_st import LlavaSTForConditionalGeneration  # noqa: F401

# What config.json says to the Auto classes where this package is not installed.
AUTO_MAP = {
    "AutoConfig": "configuration_llava_st.LlavaSTConfig",
    "AutoModel": "modeling_llava_st.LlavaSTModel",
    "AutoModelForImageTextToText": "modeling_llava_st.LlavaSTForConditionalGeneration",
    "AutoModelForMultimodalLM": "modeling_llava_st.LlavaSTForConditionalGeneration",
}
# Largest sizes of a checkpoint, itself and its parts: layers and bins are made one by one before any weight is read,
# and transformers makes a name for each label. The published model has 28 layers and 152,064 words.
MAX_SIZES = {
    "num_hidden_layers": 2**10,
    "num_temporal_tokens": 2**14,
    "num_spatial_tokens": 2**14,
    "num_labels": 2**14,
    "image_size": 2**14,
    "hidden_size": 2**17,
    "packer_hidden_size": 2**17,
    "intermediate_size": 2**20,
    "vocab_size": 2**24,
}


@strict
class LlavaSTConfig(PreTrainedConfig):
    r"""
    Configuration of a [`LlavaSTModel`] or [`LlavaSTForConditionalGeneration`]. The defaults are the sizes of the
    published 7B model (arXiv 2501.08282).

    Args:
        vision_config (`dict` or `SiglipVisionConfig`, *optional*):
            The vision tower. Defaults to SigLIP so400m, patch 14, 384 pixels, without its last layer.
        text_config (`dict` or `Qwen2Config`, *optional*):
            The language model. Its `vocab_size` counts the text rows only, not the coordinates.
        image_token_id (`int`, *optional*, defaults to 151646):
            Id of the placeholder that each image feature replaces.
        video_token_id (`int`, *optional*, defaults to 151647):
            Id of the placeholder that each spliced video feature replaces.
        coordinate_token_offset (`int`, *optional*):
            Id of `<t_0>`; the time, height and width tokens follow each other from there. Defaults to
            `text_config.vocab_size`. Text rows from this id on are never predicted.
        num_temporal_tokens (`int`, *optional*, defaults to 100): Bins of the time axis.
        num_spatial_tokens (`int`, *optional*, defaults to 100): Bins of the height axis, and as many of the width.
        packer_hidden_size (`int`, *optional*, defaults to 1024): Width of the packer's attention.
        packer_num_heads (`int`, *optional*, defaults to 8): Heads of the packer's attention.
        spatial_stride (`int`, *optional*, defaults to 3):
            Side in patches of the region that one token of the packed frame reads (27x27 -> 9x9).
        fast_spatial_stride (`int`, *optional*, defaults to 3):
            Side in packed tokens of the region that one fast token reads (9x9 -> 3x3).
        temporal_stride (`int`, *optional*, defaults to 5): Frames that one slow token reads (100 -> 20).
        projector_hidden_act (`str`, *optional*, defaults to `"gelu"`): Activation of the projector.
        vision_feature_layer (`int`, *optional*, defaults to -1):
            Hidden state of the vision tower to read, before its final norm.
        vision_chunk_size (`int`, *optional*, defaults to 16):
            Images or frames that pass through the vision tower at a time. Bounds memory, never changes the result.
        loss_chunk_size (`int`, *optional*, defaults to 256):
            Supervised positions whose logits exist at a time. Bounds memory, never changes the result.
        splice_fast_tokens (`bool`, *optional*, defaults to `True`):
            Whether the fast stream enters the language model, as in the paper. The published weights were trained
            with `False`: there only the slow stream does, and the processor writes raw tokens for the fast one.
        tie_word_embeddings (`bool`, *optional*, defaults to `False`):
            Whether the text rows of the head are those of the embedding; taken from `text_config` when set there.

    Example:

    ```python
    >>> from llava_st_hf import LlavaSTConfig
    >>> config = LlavaSTConfig(text_config={"model_type": "qwen2", "vocab_size": 152064})
    >>> config.total_vocab_size
    152364
    ```
    """

    model_type = "llava_st"
    _auto_class = "AutoConfig"  # save_pretrained copies the code
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="siglip_vision_model",
            init_kwargs={
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "patch_size": 14,
                "image_size": 384,
                "num_hidden_layers": 26,
                "num_attention_heads": 16,
                "vision_use_head": False,
            },
        ),
        "text_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="qwen2",
            init_kwargs={
                "hidden_size": 3584,
                "intermediate_size": 18944,
                "num_hidden_layers": 28,
                "num_attention_heads": 28,
                "num_key_value_heads": 4,
                "vocab_size": 152064,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            },
        ),
    }

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    image_token_id: int = 151646
    video_token_id: int = 151647
    coordinate_token_offset: int | None = None
    num_temporal_tokens: int = 100
    num_spatial_tokens: int = 100
    packer_hidden_size: int = 1024
    packer_num_heads: int = 8
    spatial_stride: int = 3
    fast_spatial_stride: int = 3
    temporal_stride: int = 5
    projector_hidden_act: str = "gelu"
    vision_feature_layer: int = -1
    vision_chunk_size: int = 16
    loss_chunk_size: int = 256
    splice_fast_tokens: bool = True
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        _check_sizes({**vars(self), **kwargs})
        super().__post_init__(**kwargs)
        if self.coordinate_token_offset is None:
            self.coordinate_token_offset = self.text_config.vocab_size
        if self.text_config.tie_word_embeddings:
            self.tie_word_embeddings = True

    def validate_architecture(self):
        """Refuse sizes that do not fit together; each message names the field, its value and the fix."""
        for name in ("num_temporal_tokens", "num_spatial_tokens"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} is {getattr(self, name)}: an axis needs at least 2 bins, its two ends.")
        positive = (
            "packer_hidden_size",
            "packer_num_heads",
            "spatial_stride",
            "fast_spatial_stride",
            "temporal_stride",
            "vision_chunk_size",
            "loss_chunk_size",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        if self.packer_hidden_size % self.packer_num_heads:
            raise ValueError(
                f"packer_hidden_size is {self.packer_hidden_size}: it must be a multiple of packer_num_heads, "
                f"{self.packer_num_heads}."
            )
        if self.coordinate_token_offset > self.text_config.vocab_size:
            raise ValueError(
                f"coordinate_token_offset is {self.coordinate_token_offset}: it may not lie above "
                f"text_config.vocab_size, {self.text_config.vocab_size}, for ids between them would have no row."
            )
        placeholders = {"image_token_id": self.image_token_id, "video_token_id": self.video_token_id}
        if len(set(placeholders.values())) < len(placeholders):
            raise ValueError(f"image_token_id and video_token_id are both {self.image_token_id}: give each its own.")

    @property
    def axis_sizes(self) -> tuple[int, int, int]:
        """Bins of each axis in the order of the coordinate tables: time, height, width."""
        return self.num_temporal_tokens, self.num_spatial_tokens, self.num_spatial_tokens

    @property
    def num_coordinate_tokens(self) -> int:
        """Rows of the coordinate tables."""
        return sum(self.axis_sizes)

    @property
    def total_vocab_size(self) -> int:
        """Width of the logits: text tokens, then coordinates."""
        return self.coordinate_token_offset + self.num_coordinate_tokens

    @property
    def patch_grid_size(self) -> int:
        """Patches along one side of a frame; what does not fill a patch is dropped (384 // 14 = 27)."""
        return self.vision_config.image_size // self.vision_config.patch_size

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> None:
        """
        Save config.json together with the code of the model; every `save_pretrained` of the model calls this.

        The folder then loads through all Auto classes with `trust_remote_code=True` where this package is not
        installed. Where it is, the classes of the package are taken. No network is needed.
        """
        # transformers itself would name only the class that is saved. Nor can the class of the model be relied upon
        # to say where its code is: FSDP2 replaces it by one of torch's.
        self.auto_map = dict(AUTO_MAP)
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """Read config.json; that of a checkpoint in the published layout is rewritten into this class's fields."""
        config_dict, unused_kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if is_published_config(config_dict):
            config_dict = convert_published_config(config_dict, pretrained_model_name_or_path, **kwargs)
        return config_dict, unused_kwargs


def _check_sizes(fields: Any, name: str = "") -> None:
    """Refuse sizes that would take memory before anything says that no weight is of them."""
    for key, limit in MAX_SIZES.items():
        value = fields.get(key)
        if isinstance(value, (int, float)) and value > limit:
            raise ValueError(f"{name}{key} is {value}: it may be at most {limit:,}.")
    for part in ("vision_config", "text_config"):
        if isinstance(config := fields.get(part), (dict, PreTrainedConfig)):
            _check_sizes(config if isinstance(config, dict) else vars(config), f"{part}.")


class LlavaQwenConfig(LlavaSTConfig):
    """Lets `AutoConfig` read the published checkpoint (`model_type` "llava_qwen"); gives a [`LlavaSTConfig`]."""

    model_type = "llava_qwen"

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """Rewrite a published config.json; `name_or_path` says where its weights and tokenizer lie."""
        if is_published_config(config_dict):
            source = kwargs.get("name_or_path") or config_dict.get("_name_or_path")
            config_dict = convert_published_config(config_dict, source, **kwargs)
        return LlavaSTConfig.from_dict(config_dict, **kwargs)


__all__ = ["LlavaQwenConfig", "LlavaSTConfig"]
