"""Configuration, coordinates, packer and model: the files that travel to the Hub as code."""

from .configuration_llava_st import LlavaSTConfig
from .modeling_llava_st import LlavaSTForConditionalGeneration, LlavaSTModel

__all__ = ["LlavaSTConfig", "LlavaSTForConditionalGeneration", "LlavaSTModel"]
