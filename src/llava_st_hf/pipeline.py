"""The one-liner: a clip or an image and a question in, seconds and pixels out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoModelForImageTextToText, GenerationConfig, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .processing.batch_feature_llava_st import LlavaSTBatchFeature
from .processing.grounding_llava_st import GroundingResult
from .processing.media_llava_st import InputError

PIPELINE_TASK = "spatial-temporal-grounding"
DEFAULT_TASKS = {"video": "stvg", "image": "rec"}
READING_OPTIONS = ("num_frames", "fps", "time_range", "frame_range", "allow_url")
ASKING_OPTIONS = ("task", "span", "box", "start_seconds", "span_fractions", "box_fractions", "start_fraction")


@dataclass(frozen=True)
class _Question:
    """Inputs on their way through the pipeline, closed against its copying of dictionaries, which loses the media."""

    inputs: LlavaSTBatchFeature


class SpatialTemporalGroundingPipeline(Pipeline):
    """
    Ask a video or an image when and where something happens.

    Example:

    ```python
    >>> import llava_st_hf
    >>> from transformers import pipeline
    >>> ground = pipeline("spatial-temporal-grounding", model="path/to/checkpoint")
    >>> result = ground("clip.mp4", "a child in a red hat holds a bat")
    >>> result.spans, result.tubes
    ```
    """

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False
    _pipeline_calls_generate = True
    # A tube of 100 boxes is about 900 tokens long.
    _default_generation_config = GenerationConfig(max_new_tokens=1024, do_sample=False)

    def __call__(
        self, media: Any, query: str | Sequence[str] | None = None, **kwargs: Any
    ) -> GroundingResult | list[GroundingResult]:
        """
        Answer a question about a clip or an image.

        Args:
            media (`str`, `Path`, `bytes`, `PIL.Image.Image`, array, frames, or a list of paths):
                The clip or the image. A list of paths is a list of questions.
            query (`str` or `Sequence[str]`, *optional*):
                The event, the object or the question; one for all media, or one for each.
            kwargs: `media_type` ("video" or "image", where `media` does not tell), `task` (one of the 15; default
                `stvg` for a video and `rec` for an image), what the task needs (`span`, `box`, `start_seconds`, or
                the same as fractions), how to read the clip (`num_frames`, `fps`, `time_range` in seconds,
                `frame_range`), and options of `generate` (`max_new_tokens`, `num_beams`, `streamer`, ...).

        Returns:
            `GroundingResult`, or a list of them for a list of media.

        Raises:
            `InputError`: For media that cannot be read and questions that cannot be written; the message says what
                to mend. What the model answered never raises: see `GroundingResult.problems`.
        """
        if isinstance(media, (list, tuple)) and media and all(isinstance(item, (str, Path)) for item in media):
            queries = [query] * len(media) if query is None or isinstance(query, str) else list(query)
            if len(queries) != len(media):
                raise InputError(
                    f"query has {len(queries)} entries for {len(media)} media: give one, or one for each."
                )
            questions = [{"media": item, "query": text} for item, text in zip(media, queries, strict=True)]
            return super().__call__(questions, **kwargs)
        return super().__call__({"media": media, "query": query}, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        preprocess = {
            "media_type": kwargs.pop("media_type", None),
            "reading": {name: kwargs.pop(name) for name in READING_OPTIONS if kwargs.get(name) is not None},
            "asking": {name: kwargs.pop(name) for name in ASKING_OPTIONS if kwargs.get(name) is not None},
        }
        unset = {*READING_OPTIONS, *ASKING_OPTIONS}
        generate = {name: value for name, value in kwargs.items() if name not in unset and value is not None}
        return {key: value for key, value in preprocess.items() if value}, generate, {}

    def preprocess(
        self,
        question: dict[str, Any],
        media_type: str | None = None,
        reading: dict[str, Any] | None = None,
        asking: dict[str, Any] | None = None,
    ) -> dict[str, _Question]:
        """Read the media and write the prompt."""
        media_type = media_type or guess_media_type(question["media"])
        asking = dict(asking or {})
        task = asking.pop("task", None) or DEFAULT_TASKS[media_type]
        messages = self.processor.build_messages(
            task, query=question["query"], **{media_type: question["media"]}, **asking
        )
        inputs = self.processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=dict(reading or {}),
        )
        return {"question": _Question(inputs)}

    def _forward(self, prepared: dict[str, _Question], **generate_kwargs: Any) -> dict[str, Any]:
        inputs = prepared["question"].inputs
        if "generation_config" not in generate_kwargs:
            generate_kwargs.setdefault("do_sample", False)  # also where the checkpoint's own settings say otherwise
        generate_kwargs = self._prepare_generate_kwargs(generate_kwargs)
        return {"outputs": self.model.generate(**inputs.to(self.device), **generate_kwargs), **prepared}

    def postprocess(self, answered: dict[str, Any]) -> GroundingResult:
        """Read the answer in seconds and pixels."""
        return self.processor.post_process_grounding(answered["outputs"], answered["question"].inputs)[0]


def guess_media_type(media: Any) -> str:
    """Tell "image" from "video" by the class, the number of dimensions or the file's ending."""
    if isinstance(media, Image.Image):
        return "image"
    if isinstance(media, (str, Path)):
        return "image" if Path(media).suffix.lower() in Image.registered_extensions() else "video"
    return "image" if getattr(media, "ndim", 4) == 3 else "video"


def register_pipeline() -> None:
    """Make `pipeline("spatial-temporal-grounding")` known to transformers."""
    PIPELINE_REGISTRY.register_pipeline(
        PIPELINE_TASK,
        pipeline_class=SpatialTemporalGroundingPipeline,
        pt_model=AutoModelForImageTextToText,
        type="multimodal",
    )


__all__ = ["SpatialTemporalGroundingPipeline", "register_pipeline"]
