"""Makes the classes known to transformers: to its Auto classes, and to `pipeline`."""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoProcessor
from transformers.models.auto.video_processing_auto import AutoVideoProcessor  # the top-level name needs torchvision
from transformers.pipelines import PIPELINE_REGISTRY

from ..modeling import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTModel
from ..modeling.configuration_llava_st import LlavaQwenConfig
from ..processing import LlavaSTProcessor, LlavaSTVideoProcessor
from .pipeline import PIPELINE_TASK, PipelineModel, SpatialTemporalGroundingPipeline


def register_classes() -> None:
    """Register the config, the models, the processors and the pipeline; a second time changes nothing."""
    AutoConfig.register("llava_st", LlavaSTConfig, exist_ok=True)
    AutoConfig.register("llava_qwen", LlavaQwenConfig, exist_ok=True)
    AutoModel.register(LlavaSTConfig, LlavaSTModel, exist_ok=True)
    for auto_class in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        auto_class.register(LlavaSTConfig, LlavaSTForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(LlavaSTConfig, LlavaSTProcessor, exist_ok=True)
    backends = {"torchvision": LlavaSTVideoProcessor, "pil": LlavaSTVideoProcessor}
    AutoVideoProcessor.register(LlavaSTConfig, video_processor_classes=backends, exist_ok=True)
    PIPELINE_REGISTRY.register_pipeline(
        PIPELINE_TASK, pipeline_class=SpatialTemporalGroundingPipeline, pt_model=PipelineModel, type="multimodal"
    )
