"""The one-liner: a clip or an image and a question in, seconds and pixels out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, Pipeline, PreTrainedModel
from transformers.pipelines import PIPELINE_REGISTRY

from ..modeling.configuration_llava_st import LlavaSTConfig
from ..modeling.conversion_llava_st import SourceFiles, is_published_config
from ..modeling.modeling_llava_st import LlavaSTForConditionalGeneration
from ..processing.frame_sampling_llava_st import check_sampling
from ..processing.grounding_results_llava_st import Box, GroundingResult, Span
from ..processing.image_loading_llava_st import guess_media_type
from ..processing.media_llava_st import InputError
from ..processing.processing_llava_st import LlavaSTProcessor
from ..processing.tasks_llava_st import choose_medium, get_task, write_values
from .loading import load_model
from .session import READING_OPTIONS, GroundingSession

PIPELINE_TASK = "spatial-temporal-grounding"
DEFAULT_TASKS = {"video": "stvg", "image": "rec"}
ASKING_OPTIONS = ("task", "span", "box", "start_seconds", "span_fractions", "box_fractions", "start_fraction")
ANSWERING_OPTIONS = ("constrained", "every_frame", "max_new_tokens")


@dataclass(frozen=True)
class _Questions:
    """Questions about one medium, closed against the pipeline's copying of dictionaries."""

    session: GroundingSession
    queries: list[str | None]
    is_list: bool
    asking: dict[str, Any]


class _GroundingModel(AutoModelForImageTextToText):
    """Also knows a published checkpoint whose config.json says `llava`, where the Auto classes see another model."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> PreTrainedModel:
        config = SourceFiles(pretrained_model_name_or_path, kwargs).read_json("config.json")
        if config is None or not is_published_config(config):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        for name in ("trust_remote_code", "code_revision"):  # for the Auto classes only
            kwargs.pop(name, None)
        return LlavaSTForConditionalGeneration.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)


class SpatialTemporalGroundingPipeline(Pipeline):
    """
    Ask a video or an image when and where something happens.

    Example:

    ```python
    >>> import llava_st_hf
    >>> from transformers import pipeline
    >>> ground = pipeline("spatial-temporal-grounding", model="path/to/checkpoint")
    >>> result = ground("clip.mp4", "a child in a red hat holds a bat")
    >>> first, second = ground("clip.mp4", ["a child holds a bat", "a dog runs"])  # the clip is read once
    ```
    """

    _load_processor = None  # AutoProcessor is asked; what it cannot tell, __init__ does
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, model: PreTrainedModel, processor: LlavaSTProcessor | None = None, **kwargs: Any):
        if model.config.model_type != LlavaSTConfig.model_type:
            raise InputError(
                f"model is a {type(model).__name__} (model_type {model.config.model_type!r}): give a LLaVA-ST. One of "
                "LLaVA-OneVision is made with llava-st init; a published one is loaded with "
                "LlavaSTForConditionalGeneration.from_pretrained, not with the Auto classes."
            )
        if not hasattr(processor, "post_process_grounding"):
            # A published checkpoint has no processor's file, by which AutoProcessor could know the class.
            revision = getattr(model.config, "_commit_hash", None)
            processor = LlavaSTProcessor.from_pretrained(model.name_or_path, revision=revision)
        super().__init__(model=model, processor=processor, **kwargs)

    def __call__(
        self, media: Any, query: str | Sequence[str] | None = None, **kwargs: Any
    ) -> GroundingResult | list[GroundingResult] | list[list[GroundingResult]]:
        """
        Answer questions about clips and images.

        Args:
            media (`str`, `Path`, `bytes`, `PIL.Image.Image`, array, frames, or a list of paths):
                The clip or the image. A list of paths is a list of media, each asked.
            query (`str` or `Sequence[str]`, *optional*):
                The event, the object or the question. Several queries about one medium share its reading and
                encoding; several about a list of media are one for each.
            kwargs: `media_type` ("video" or "image", where `media` does not tell), `task` (one of `TASKS`; default
                `stvg` for a video and `rec` for an image), what the task needs (`span`, `box`, `start_seconds`, or
                the same as fractions), how to read the clip (`num_frames`, `fps`, `time_range` in seconds,
                `frame_range`), how to answer (`max_new_tokens`, 1024; `constrained`, `True`: the answer keeps to the
                grammar of its task; `every_frame`, `False`: a tube has a box for each sampled frame of its span),
                and options of `generate` (`num_beams`, `streamer`, ...).

        Returns:
            `GroundingResult`: for one medium and one query; a list of them for several queries or media.

        Raises:
            `InputError`: For media that cannot be read and questions that cannot be written; the message says what
                to fix. What the model answered never raises: see `GroundingResult.problems`.
        """
        for name in ("batch_size", "num_return_sequences"):
            if (kwargs.get(name) or 1) != 1:
                raise InputError(
                    f"{name} is {kwargs[name]}: the pipeline answers one question at a time; for more, call the "
                    "processor and model.generate."
                )
        if not (isinstance(media, (list, tuple)) and media and all(isinstance(item, (str, Path)) for item in media)):
            return super().__call__({"media": media, "query": query}, **kwargs)
        queries = [query] * len(media) if query is None or isinstance(query, str) else list(query)
        if len(queries) != len(media):
            raise InputError(f"query has {len(queries)} entries for {len(media)} media: give one, or one for each.")
        questions = [{"media": item, "query": text} for item, text in zip(media, queries, strict=True)]
        return super().__call__(questions, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        given = {name: value for name, value in kwargs.items() if value is not None}
        preprocess = {
            "media_type": given.pop("media_type", None),
            "reading": {name: given.pop(name) for name in READING_OPTIONS if name in given},
            "asking": {name: given.pop(name) for name in ASKING_OPTIONS if name in given},
        }
        forward = {name: given.pop(name) for name in ANSWERING_OPTIONS if name in given}
        if given:
            forward["generate"] = given
        return {name: value for name, value in preprocess.items() if value}, forward, {}

    def preprocess(
        self,
        question: dict[str, Any],
        media_type: str | None = None,
        reading: dict[str, Any] | None = None,
        asking: dict[str, Any] | None = None,
    ) -> dict[str, _Questions]:
        """Read the media and write the first prompt."""
        media, query = question["media"], question["query"]
        media_type = media_type or guess_media_type(media)
        queries = [query] if query is None or isinstance(query, str) else list(query)
        if not queries:
            raise InputError("query is an empty list: give at least one.")
        asking = {"task": DEFAULT_TASKS[media_type], **(asking or {})}
        session = GroundingSession(self.model, self.processor, **{media_type: media}, **(reading or {}))
        session.prepare(query=queries[0], **asking)
        return {"questions": _Questions(session, queries, is_list=queries != [query], asking=asking)}

    def _forward(self, prepared: dict[str, _Questions], **answering: Any) -> dict[str, Any]:
        questions = prepared["questions"]
        results = [questions.session.ask(query=query, **questions.asking, **answering) for query in questions.queries]
        return {"results": results if questions.is_list else results[0]}

    def postprocess(self, answered: dict[str, Any]) -> GroundingResult | list[GroundingResult]:
        """Hand out the results."""
        return answered["results"]


def check_questions(
    media: str | Path,
    queries: Sequence[str | None],
    media_type: str,
    *,
    task: str | None = None,
    span: Span | Sequence[float] | None = None,
    box: Box | Sequence[float] | None = None,
    start_seconds: float | None = None,
    num_frames: int | None = None,
    fps: float | None = None,
    time_range: tuple[float, float] | None = None,
    max_new_tokens: int = 1024,
) -> None:
    """
    Find what is wrong with questions before minutes go into loading a model; the medium is not read.

    Args:
        media (`str` or `Path`): The clip or the image.
        queries (`Sequence[str | None]`): What is asked about it, `None` for a task without a query.
        media_type (`str`): `"video"` or `"image"`, see `guess_media_type`.
        task, span, box, start_seconds, num_frames, fps, time_range, max_new_tokens: As for the pipeline.

    Raises:
        `InputError`: For a question that could not be asked.
    """
    asked = get_task(task or DEFAULT_TASKS[media_type])
    choose_medium(asked, **{"video": None, "image": None, media_type: media})
    fields = {
        "span": write_values("span", "tt", span, None),
        "box": write_values("box", "xyxy", box, None),
        "start": write_values("start", "t", None if start_seconds is None else [start_seconds], None),
    }
    for query in queries:
        asked.write_prompt(query=query, **fields)
    if media_type == "video":
        check_sampling(str(media), num_frames, fps, time_range=time_range)
    else:
        for name, value in (("num_frames", num_frames), ("fps", fps), ("time_range", time_range)):
            if value is not None:
                raise InputError(f"{name} is {value}: {media} is an image, leave it out.", field=name)
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens is {max_new_tokens}: give at least 1.", field="max_new_tokens")


def load_pipeline(
    model: str | Path, device: str | torch.device | None = None, dtype: str | torch.dtype = "auto"
) -> SpatialTemporalGroundingPipeline:
    """
    Load a checkpoint of any layout that this library reads: its own, the published one in both its forms, or an
    adapter, which is merged into the model that it was trained on.

    Args:
        model (`str` or `Path`): Directory, or repository on the Hub.
        device (`str` or `torch.device`, *optional*): Where to run; an accelerator where there is one.
        dtype (`str` or `torch.dtype`, *optional*, defaults to `"auto"`): Type of the weights.

    Raises:
        `InputError`: For a model of another kind or with weights missing, or a device that there is not.
    """
    device = _find_device(device)
    return SpatialTemporalGroundingPipeline(
        model=load_model(model, dtype),
        processor=LlavaSTProcessor.from_pretrained(model),
        task=PIPELINE_TASK,
        device=device,
    )


def _find_device(device: str | torch.device | None) -> torch.device | None:
    try:
        found = None if device is None else torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device is {device!r}: give cpu, cuda, cuda:1, mps, ...", field="device") from error
    if found is not None and found.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device is {device}: this machine has no CUDA device, leave it out or give cpu.", field="device"
        )
    return found


def register_pipeline() -> None:
    """Make `pipeline("spatial-temporal-grounding")` known to transformers."""
    PIPELINE_REGISTRY.register_pipeline(
        PIPELINE_TASK,
        pipeline_class=SpatialTemporalGroundingPipeline,
        pt_model=_GroundingModel,
        type="multimodal",
    )


__all__ = [
    "SpatialTemporalGroundingPipeline",
    "check_questions",
    "load_pipeline",
    "register_pipeline",
]
