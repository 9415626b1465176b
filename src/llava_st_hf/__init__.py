"""LLaVA-ST for Hugging Face: ask a video or an image when and where something happens."""

from .modeling.configuration_llava_st import LlavaSTConfig
from .modeling.modeling_llava_st import LlavaSTForConditionalGeneration, LlavaSTModel

__all__ = ["LlavaSTConfig", "LlavaSTForConditionalGeneration", "LlavaSTModel"]
