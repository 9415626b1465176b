"""Media, prompts, answers and the processor: the files that travel to the Hub as code."""

from .answer_formats_llava_st import AnswerFormat
from .answer_parsing_llava_st import parse_answer
from .answer_problems_llava_st import PROBLEM_KINDS, Problem
from .batch_feature_llava_st import GroundingContext, LlavaSTBatchFeature
from .constrained_generation_llava_st import GrammarLogitsProcessor
from .grounding_results_llava_st import Box, Caption, GroundingResult, Span, Tube, TubeBox
from .grounding_streamer_llava_st import GroundingStreamer
from .image_loading_llava_st import guess_media_type, open_image
from .media_llava_st import (
    EmptyMediaError,
    InputError,
    MediaError,
    MediaInfo,
    OversizedMediaError,
    PromptError,
    PromptLengthError,
)
from .processing_llava_st import LlavaSTProcessor
from .tasks_llava_st import TASKS, Task, get_task
from .tokenization_llava_st import add_coordinate_tokens, add_media_tokens
from .tube_masks_llava_st import TubeMasks
from .video_decoding_llava_st import iterate_frames, probe_video, read_video
from .video_processing_llava_st import LlavaSTVideoMetadata, LlavaSTVideoProcessor

__all__ = [
    "PROBLEM_KINDS",
    "TASKS",
    "AnswerFormat",
    "Box",
    "Caption",
    "EmptyMediaError",
    "GrammarLogitsProcessor",
    "GroundingContext",
    "GroundingResult",
    "GroundingStreamer",
    "InputError",
    "LlavaSTBatchFeature",
    "LlavaSTProcessor",
    "LlavaSTVideoMetadata",
    "LlavaSTVideoProcessor",
    "MediaError",
    "MediaInfo",
    "OversizedMediaError",
    "Problem",
    "PromptError",
    "PromptLengthError",
    "Span",
    "Task",
    "Tube",
    "TubeBox",
    "TubeMasks",
    "add_coordinate_tokens",
    "add_media_tokens",
    "get_task",
    "guess_media_type",
    "iterate_frames",
    "open_image",
    "parse_answer",
    "probe_video",
    "read_video",
]
