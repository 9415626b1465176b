"""LLaVA-ST for Hugging Face: ask a video or an image when and where something happens."""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM

from .modeling.configuration_llava_st import LlavaQwenConfig, LlavaSTConfig
from .modeling.modeling_llava_st import LlavaSTForConditionalGeneration, LlavaSTModel

AutoConfig.register("llava_st", LlavaSTConfig)
AutoConfig.register("llava_qwen", LlavaQwenConfig)
AutoModel.register(LlavaSTConfig, LlavaSTModel)
AutoModelForImageTextToText.register(LlavaSTConfig, LlavaSTForConditionalGeneration)
AutoModelForMultimodalLM.register(LlavaSTConfig, LlavaSTForConditionalGeneration)

__all__ = ["LlavaSTConfig", "LlavaSTForConditionalGeneration", "LlavaSTModel"]
