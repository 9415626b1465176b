"""LLaVA-ST for Hugging Face: ask a video or an image when and where something happens.

Importing the package makes its classes known to the Auto classes and to `pipeline`.
"""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoProcessor
from transformers.models.auto.video_processing_auto import AutoVideoProcessor  # the top-level name needs torchvision

from .inference.pipeline import SpatialTemporalGroundingPipeline, register_pipeline
from .inference.session import GroundingSession
from .modeling.configuration_llava_st import LlavaQwenConfig, LlavaSTConfig
from .modeling.modeling_llava_st import LlavaSTForConditionalGeneration, LlavaSTModel
from .processing.answer_problems_llava_st import Problem
from .processing.grounding_results_llava_st import Box, Caption, GroundingResult, Span, Tube
from .processing.media_llava_st import InputError, MediaInfo
from .processing.processing_llava_st import LlavaSTProcessor
from .processing.video_processing_llava_st import LlavaSTVideoProcessor

AutoConfig.register("llava_st", LlavaSTConfig)
AutoConfig.register("llava_qwen", LlavaQwenConfig)
AutoModel.register(LlavaSTConfig, LlavaSTModel)
AutoModelForImageTextToText.register(LlavaSTConfig, LlavaSTForConditionalGeneration)
AutoModelForMultimodalLM.register(LlavaSTConfig, LlavaSTForConditionalGeneration)
AutoProcessor.register(LlavaSTConfig, LlavaSTProcessor)
AutoVideoProcessor.register(
    LlavaSTConfig, video_processor_classes={"torchvision": LlavaSTVideoProcessor, "pil": LlavaSTVideoProcessor}
)
register_pipeline()

__all__ = [
    "Box",
    "Caption",
    "GroundingResult",
    "GroundingSession",
    "InputError",
    "LlavaSTConfig",
    "LlavaSTForConditionalGeneration",
    "LlavaSTModel",
    "LlavaSTProcessor",
    "LlavaSTVideoProcessor",
    "MediaInfo",
    "Problem",
    "Span",
    "SpatialTemporalGroundingPipeline",
    "Tube",
]
