"""Asking a model: the pipeline, a session of many questions, loading."""

from .loading import load_model
from .options import AnsweringOptions, Question, ReadingOptions
from .pipeline import SpatialTemporalGroundingPipeline, load_pipeline
from .session import GroundingSession

__all__ = [
    "AnsweringOptions",
    "GroundingSession",
    "Question",
    "ReadingOptions",
    "SpatialTemporalGroundingPipeline",
    "load_model",
    "load_pipeline",
]
