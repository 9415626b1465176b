"""LLaVA-ST for Hugging Face: ask a video or an image when and where something happens."""

from importlib import import_module
from typing import TYPE_CHECKING

from .inference import GroundingSession, SpatialTemporalGroundingPipeline, load_pipeline
from .inference.registration import register_classes
from .modeling import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTModel
from .processing import (
    TASKS,
    Box,
    Caption,
    GroundingResult,
    GroundingStreamer,
    InputError,
    LlavaSTProcessor,
    LlavaSTVideoProcessor,
    MediaInfo,
    Problem,
    Span,
    Tube,
    TubeMasks,
    parse_answer,
)
from .push_methods import register_push_methods

if TYPE_CHECKING:
    from .data import Mixture, open_reader
    from .evaluation import evaluate
    from .inference.masks import segment_tubes

register_classes()  # with the Auto classes and `pipeline`
register_push_methods()

# Imported when they are asked for: answering questions does without.
_MODULES = {"Mixture": "data", "evaluate": "evaluation", "open_reader": "data", "segment_tubes": "inference.masks"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


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
    "TubeMasks",
    "evaluate",
    "load_pipeline",
    "open_reader",
    "parse_answer",
    "segment_tubes",
]
