"""LLaVA-ST for Hugging Face: ask a video or an image when and where something happens.

Importing the package makes its classes known to the Auto classes and to `pipeline`.
"""

from .data import Mixture, open_reader
from .evaluation import evaluate
from .inference import GroundingSession, SpatialTemporalGroundingPipeline, load_pipeline
from .inference.registration import register_classes
from .modeling import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTModel
from .processing import (
    TASKS,
    Box,
    Caption,
    GroundingResult,
    InputError,
    LlavaSTProcessor,
    LlavaSTVideoProcessor,
    MediaInfo,
    Problem,
    Span,
    Tube,
    parse_answer,
)
from .processing.grounding_streamer_llava_st import GroundingStreamer

register_classes()

__all__ = [
    "TASKS",
    "Box",
    "Caption",
    "GroundingResult",
    "GroundingSession",
    "GroundingStreamer",
    "InputError",
    "LlavaSTConfig",
    "LlavaSTForConditionalGeneration",
    "LlavaSTModel",
    "LlavaSTProcessor",
    "LlavaSTVideoProcessor",
    "MediaInfo",
    "Mixture",
    "Problem",
    "Span",
    "SpatialTemporalGroundingPipeline",
    "Tube",
    "evaluate",
    "load_pipeline",
    "open_reader",
    "parse_answer",
]
