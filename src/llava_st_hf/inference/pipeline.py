"""The one-liner: a clip or an image and a question in, seconds and pixels out."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import GeneratorType
from typing import Any

import torch
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import AutoModelForImageTextToText, Pipeline, PreTrainedModel
from transformers.utils.chat_template_utils import Chat, is_valid_message

from ..modeling import LlavaSTConfig
from ..processing import GroundingResult, InputError, LlavaSTBatchFeature, LlavaSTProcessor, get_task, guess_media_type
from ..processing.image_loading_llava_st import FILE_TYPES
from .generation import generate_answers, join_inputs, prepare_messages
from .loading import HUB_NAMES, find_model_folder, load_model
from .options import (
    ANSWERING_NAMES,
    QUESTION_NAMES,
    READING_NAMES,
    AnsweringOptions,
    Question,
    ReadingOptions,
    check_order,
    select,
)
from .session import GroundingSession

PIPELINE_TASK = "spatial-temporal-grounding"
_MEDIA_KEYS = ("video", "image", "media")  # of the last the type is guessed


@dataclass(frozen=True)
class _Asked:
    """Questions about one item, ready for the model; closed against the pipeline's copying of dictionaries."""

    first: LlavaSTBatchFeature
    further: list[list[dict[str, Any]]]  # chat messages of more questions about the same media
    is_list: bool


class PipelineModel(AutoModelForImageTextToText):
    """Loads what `load_model` loads, and refuses what it refuses; no code that lies beside a model is run."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> PreTrainedModel:
        """Load the model that a checkpoint holds, see `load_model`."""
        for name in ("config", "trust_remote_code", "code_revision", "_from_pipeline", "_commit_hash"):
            kwargs.pop(name, None)
        model = load_model(pretrained_model_name_or_path, *args, **kwargs)
        model.hub_kwargs = {name: value for name, value in kwargs.items() if name in HUB_NAMES}
        return model


class SpatialTemporalGroundingPipeline(Pipeline):
    """
    Ask videos and images when and where something happens.

    Example:

    ```python
    >>> import llava_st_hf
    >>> from transformers import pipeline
    >>> ground = pipeline("spatial-temporal-grounding", model="path/to/checkpoint")
    >>> result = ground("clip.mp4", "a child in a red hat holds a bat")
    >>> first, second = ground("clip.mp4", ["a child holds a bat", "a dog runs"])  # the clip is read once
    >>> for result in ground(({"video": path, "text": "a dog runs"} for path in paths), batch_size=8):
    ...     print(result)
    ```
    """

    _load_processor = False  # __init__ does: AutoProcessor may ask on standard input whether to run code
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
            options = {"revision": getattr(model.config, "_commit_hash", None), **getattr(model, "hub_kwargs", {})}
            processor = LlavaSTProcessor.from_pretrained(model.name_or_path, trust_remote_code=False, **options)
        super().__init__(model=model, processor=processor, **kwargs)

    def __call__(self, media: Any, query: str | Sequence[str] | None = None, **kwargs: Any) -> Any:
        """
        Answer questions about clips and images.

        Args:
            media (`Any`):
                One clip or image (`str`, `Path`, `bytes`, `PIL.Image.Image`, array, frames); a question, `{"video":
                ..., "text": ...}` or `{"image": ..., "text": ...}`, beside which it may have any option of below;
                chat messages; or many of these: a list, a generator, a `Dataset` or a table of `datasets`. What a
                generator or a data set gives is answered when the next result is asked for.
            query (`str` or `Sequence[str]`, *optional*):
                The event, the object or the question, where `media` has none. Several queries about one medium share
                its reading and encoding; several about a list of paths are one for each.
            kwargs: `media_type` ("video" or "image", where `media` does not tell), what to ask (see [`Question`]:
                `task`, `span`, `box`, `start_seconds`, ...), how to read clips (see [`ReadingOptions`]: `num_frames`,
                `fps`, `time_range`, ...), how to answer (see [`AnsweringOptions`]: `max_new_tokens`, `constrained`,
                `every_frame`), options of `generate` (`num_beams`, `streamer`, ...), `batch_size` (questions that are
                answered together, 1), `num_workers` (processes that read media meanwhile, 0) and `show_progress`
                (whether a bar shows how many of a list or a data set are answered; where there is a terminal).

        Returns:
            `GroundingResult`: for one medium and one query; a list of them for several queries or a list; an iterator
            over them for a generator or a data set. In a chat whose task is not known the model writes freely.

        Raises:
            `InputError`: For media that cannot be read and questions that cannot be written; the message says what
                to fix. What the model answered never raises: see `GroundingResult.problems`.
        """
        if hasattr(media, "column_names"):  # a table of `datasets`, which is none of torch's data sets
            media = (row for row in media)
        if _is_list_of_items(media):
            media = list(media)
            if query is not None and not isinstance(query, (str, Path)):
                media, query = _pair(media, list(query)), None
        elif not isinstance(media, (GeneratorType, Dataset, Mapping, Chat)):
            media = {"media": media}
        return super().__call__(media, query=query, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        given = {name: value for name, value in kwargs.items() if value is not None}
        preprocess = {
            name: given.pop(name) for name in ("media_type", *QUESTION_NAMES, *READING_NAMES) if name in given
        }
        shown = {"show_progress": given.pop("show_progress")} if "show_progress" in given else {}
        return preprocess, given, shown

    def get_iterator(self, inputs: Any, *settings: Any) -> Iterator[Any]:
        """Answer many inputs one after another, with a bar where it is known how many there are."""
        results = super().get_iterator(inputs, *settings)
        total = len(inputs) if hasattr(inputs, "__len__") else 0
        is_shown = settings[-1].get("show_progress", sys.stderr.isatty())
        return iter(tqdm(results, "Answering", total, unit="input")) if is_shown and total > 1 else results

    def preprocess(self, item: Any, **options: Any) -> dict[str, _Asked]:
        """Read the media of an item, and write the prompts about them."""
        if isinstance(item, Chat):
            item = item.messages
        if isinstance(item, (list, tuple)) and item and is_valid_message(item[0]):
            return {"asked": self._prepare_chat(item, options)}
        values = {**options, **(_read_item(item) if _is_question(item) else {"media": item})}
        media_type = next(name for name in _MEDIA_KEYS if name in values)
        medium, query = values[media_type], values.pop("query", None)
        queries = [query] if query is None or isinstance(query, (str, Path)) else list(query)
        check_order(medium, queries)
        if media_type == "media":
            media_type = values.get("media_type") or guess_media_type(medium)
        if not queries:
            raise InputError("query is an empty list: give at least one.")
        asked = select(values, QUESTION_NAMES)
        first, *further = (
            Question(query=text, **asked).to_messages(self.processor, **{media_type: medium}) for text in queries
        )
        inputs = prepare_messages(self.processor, first, ReadingOptions(**select(values, READING_NAMES)))
        return {"asked": _Asked(inputs, further, is_list=queries != [query])}

    def _prepare_chat(self, messages: list[dict[str, Any]], options: dict[str, Any]) -> _Asked:
        for name in QUESTION_NAMES:
            if name != "task" and name in options:
                raise InputError(f"{name} is given beside chat messages: write it into them.")
        inputs = prepare_messages(self.processor, messages, ReadingOptions(**select(options, READING_NAMES)))
        if "task" in options:
            context = replace(inputs.contexts[0], task=get_task(options["task"]).name)
            inputs.set_questions(inputs.media, [context])
        return _Asked(inputs, [], is_list=False)

    def _forward(self, prepared: dict[str, Any], **options: Any) -> dict[str, Any]:
        given = select(options, ANSWERING_NAMES)
        further = {name: value for name, value in options.items() if name not in ANSWERING_NAMES}
        answering = AnsweringOptions(**{**given, "generate": {**given.get("generate", {}), **further}})
        asked = prepared["asked"]
        if isinstance(asked, list):
            return {"results": self._answer_batch(asked, answering)}
        return {"results": self._answer_batch([asked], answering)[0]}

    def _answer_batch(self, batch: list[_Asked], options: AnsweringOptions) -> list[Any]:
        """Answer items: those with one question together, those with several each in a session of its own."""
        if len(batch) > 1 and options.generate.get("streamer") is not None:
            raise InputError("streamer is given with batch_size: it follows one answer at a time, leave one out.")
        results: list[Any] = [None] * len(batch)
        together: dict[bool, list[int]] = {True: [], False: []}  # by whether there is a grammar to keep to
        for index, asked in enumerate(batch):
            if not asked.is_list and (len(batch) > 1 or not asked.first.media[0]):
                together[asked.first.contexts[0].task is not None].append(index)
                continue
            session = GroundingSession.from_inputs(self.model, self.processor, asked.first)
            further = [self.processor.prepare_further_question(messages, asked.first) for messages in asked.further]
            answers = [session.answer(inputs, options) for inputs in (asked.first, *further)]
            results[index] = answers if asked.is_list else answers[0]
        for members in filter(None, together.values()):
            inputs = join_inputs([batch[index].first for index in members], self.processor.tokenizer.pad_token_id)
            inputs = inputs.to(self.model.device)
            answers = generate_answers(self.model, self.processor, inputs, options, inputs)
            for index, answer in zip(members, answers, strict=True):
                results[index] = answer
        return results

    def postprocess(
        self, answered: dict[str, Any], show_progress: bool = False
    ) -> GroundingResult | list[GroundingResult]:
        """Hand out the results; of one input there is no progress to show."""
        return answered["results"]


def _is_question(item: Any) -> bool:
    return isinstance(item, Mapping) and any(item.get(name) is not None for name in _MEDIA_KEYS)


def _is_list_of_items(media: Any) -> bool:
    """Tell a list of media, questions or chats from messages of one chat, and from the frames of one clip."""
    if not isinstance(media, (list, tuple)) or not media:
        return False
    return all(isinstance(item, (*FILE_TYPES, Mapping, Chat, list, tuple)) for item in media)


def _pair(items: list[Any], queries: list[Any]) -> list[dict[str, Any]]:
    """Give each item its query."""
    if len(queries) != len(items):
        raise InputError(f"query has {len(queries)} entries for {len(items)} media: give one, or one for each.")
    return [
        {**(item if _is_question(item) else {"media": item}), "query": query}
        for item, query in zip(items, queries, strict=True)
    ]


def _read_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a question in the form of a dictionary holds, its words as `query`."""
    known = (*_MEDIA_KEYS, "text", "media_type", *QUESTION_NAMES, *READING_NAMES)
    values = {name: value for name, value in item.items() if value is not None}
    if unknown := [name for name in values if name not in known]:
        raise InputError(f"a question has the key {unknown[0]!r}: give {', '.join(known)}.")
    media = [name for name in _MEDIA_KEYS if name in values]
    if len(media) > 1:
        raise InputError(f"a question has {' and '.join(media)}: give one of them; chat messages may have several.")
    if "text" in values:
        if "query" in values:
            raise InputError("a question has text and query, which are the same: give one of them.")
        values["query"] = values.pop("text")
    return values


def load_pipeline(
    model: str | Path, device: str | torch.device | None = None, dtype: str | torch.dtype = "auto"
) -> SpatialTemporalGroundingPipeline:
    """
    Load a checkpoint of any layout that this library reads: its own, the published one in both its forms, or an
    adapter, which is merged into the model that it was trained on. Of the folder of a run without a final model its
    newest checkpoint is loaded, and logged.

    Args:
        model (`str` or `Path`): Directory, or repository on the Hub.
        device (`str` or `torch.device`, *optional*): Where to run; an accelerator where there is one.
        dtype (`str` or `torch.dtype`, *optional*, defaults to `"auto"`): Type of the weights.

    Raises:
        `InputError`: For a model of another kind or with weights missing, or a device that there is not.
    """
    device, model = _find_device(device), find_model_folder(model)
    return SpatialTemporalGroundingPipeline(
        model=load_model(model, dtype),
        processor=LlavaSTProcessor.from_pretrained(model, trust_remote_code=False),
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
