"""Asks a model the questions of records, many at a time: greedy, left-padded, each answer in seconds and pixels."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from ..data.media_loading import LoadedMedia, load_media
from ..data.samples import Sample
from ..data.skips import RecordError, as_record_error
from ..inference.batch_decoding import decode_batch
from ..inference.generation import generate_answers
from ..inference.options import AnsweringOptions
from ..processing import GroundingResult, InputError, LlavaSTBatchFeature, LlavaSTProcessor, MediaInfo, get_task
from .questions import write_messages
from .shared_media import SharedMedium, encode, find_key, find_shared, join

# An answer that goes on for longer has lost its way, and nothing behind its first span or box is scored.
_MAX_TOKENS: Mapping[str, int] = {"span": 64, "box": 64, "text": 128}
# Whatever a checkpoint's generation config says.
_GREEDY = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "temperature": None,
    "top_k": None,
    "top_p": None,
    "repetition_penalty": 1.0,
}


@dataclass(frozen=True)
class Answered:
    """
    An answer to the question of a record.

    Args:
        result (`GroundingResult`): The answer in seconds and pixels; its `text` is what the model wrote.
        media (`tuple[MediaInfo, ...]`): The media as the model saw them.

    Example:

    ```python
    >>> answered = Answerer(model, processor).answer([sample])[0]
    >>> answered.result.spans
    (Span(start_seconds=1.2, end_seconds=4.7, confidence=None),)
    ```
    """

    result: GroundingResult
    media: tuple[MediaInfo, ...]


class Answerer:
    """
    A model with its processor, ready to be asked.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model.
        processor (`LlavaSTProcessor`): The processor saved with it.
        constrained (`bool`, *optional*, defaults to `False`):
            Whether answers must keep to the grammar of their task; coordinates are then also read below their bins.
        max_new_tokens (`int`, *optional*, defaults to 1024):
            Longest answer in tokens. One that is a span, a box or plain words is cut at 64 or 128 at the latest.
        num_frames (`int`, *optional*): Frames to sample of a clip; what the processor samples when left out.

    Example:

    ```python
    >>> answerer = Answerer(model, processor, constrained=True)
    >>> for answered in answerer.answer(samples):
    ...     print(answered.result.spans)
    ```
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: LlavaSTProcessor,
        constrained: bool = False,
        max_new_tokens: int = 1024,
        num_frames: int | None = None,
    ):
        self.model = model
        self.processor = processor
        self.options = AnsweringOptions(constrained, max_new_tokens=max_new_tokens, generate=_GREEDY)
        self.num_frames = num_frames
        self._shared: dict[Hashable, SharedMedium | None] = {}

    def begin(self, samples: Iterable[Sample | RecordError]) -> None:
        """
        Say what is asked next, in any number of batches: media that several of the records are about are read once.

        What was kept of earlier ones is given up. Without it each batch reads what its records are about.
        """
        self._shared = dict.fromkeys(find_shared(samples))

    def forget(self) -> None:
        """Give up what was kept of media that several records are about: it is made again where it is needed."""
        self._shared = dict.fromkeys(self._shared)

    def answer(self, samples: Sequence[Sample | RecordError]) -> list[Answered | RecordError]:
        """
        Answer the last question of records of one task.

        Args:
            samples (`Sequence[Sample | RecordError]`): The records, all of one task, or why one could not be read.

        Returns:
            `list[Answered | RecordError]`: For each record its answer, or why it could not be asked: media that
            cannot be read, a question that is too long.

        Raises:
            `InputError`: With `constrained`, for a `max_new_tokens` that is too small for an answer of the task.
            `MemoryError`: Where the media of several records do not fit into memory.
        """
        media = [self._load(sample, len(samples) == 1) for sample in samples]
        usable = [
            (sample, medium)
            for sample, medium in zip(samples, media, strict=True)
            if isinstance(medium.loaded, LoadedMedia)
        ]
        answers = iter(self._ask(usable))
        return [next(answers) if isinstance(medium.loaded, LoadedMedia) else medium.loaded for medium in media]

    def _load(self, sample: Sample | RecordError, is_alone: bool) -> SharedMedium:
        if isinstance(sample, RecordError):
            return SharedMedium(sample)
        key = find_key(sample)
        if self._shared.get(key) is not None:
            return self._shared[key]
        try:
            medium = SharedMedium(load_media(sample, self.processor.video_processor, self.num_frames))
        except RecordError as error:
            if isinstance(error.__cause__, MemoryError) and not is_alone:
                raise error.__cause__ from error  # it may be read when there are fewer
            medium = SharedMedium(error)
        if key in self._shared:
            medium.is_shared = True
            self._shared[key] = medium
        return medium

    def _ask(self, questions: Sequence[tuple[Sample, SharedMedium]]) -> list[Answered | RecordError]:
        if not questions:
            return []
        try:
            inputs, model_inputs = self._prepare(questions)
        except InputError as error:
            if len(questions) > 1:  # one of them is at fault, the others are not
                return [answer for question in questions for answer in self._ask([question])]
            return [as_record_error(error, "messages")]
        task, longest = get_task(questions[0][0].task), self.options.max_new_tokens
        if "common_words" not in task.measures:  # an open answer is judged as a whole
            longest = min(_MAX_TOKENS.get(task.answer_format.name, longest), longest)
        options = replace(self.options, max_new_tokens=longest)
        if not options.constrained:
            model_inputs["custom_generate"] = decode_batch
        results = generate_answers(self.model, self.processor, inputs, options, model_inputs)
        return [Answered(result, tuple(media)) for result, media in zip(results, inputs.media, strict=True)]

    def _prepare(self, questions: Sequence[tuple[Sample, SharedMedium]]) -> tuple[LlavaSTBatchFeature, dict[str, Any]]:
        """Return the inputs of some questions, and the arguments of `generate`."""
        device = self.model.device
        if not any(medium.is_shared for _, medium in questions):
            inputs = self._write([(sample, medium.loaded) for sample, medium in questions])
            # A copy, since `.to` moves what it is called on, and the answers are read with the inputs.
            return inputs, {name: inputs[name].to(device) for name in inputs}
        prompts = []
        for sample, medium in questions:
            messages = write_messages(sample, medium.loaded, self.processor.coordinates)
            write = partial(self._write, [(sample, medium.loaded)])
            prompts.append(encode(self.model, self.processor, medium, messages, write, not self.options.constrained))
        return join(prompts, [medium for _, medium in questions], self.processor.tokenizer.pad_token_id, device)

    def _write(self, questions: Sequence[tuple[Sample, LoadedMedia]]) -> LlavaSTBatchFeature:
        metadata = [item for _, media in questions for item in media.video_metadata]
        sampled = {"video_metadata": metadata, "do_sample_frames": False} if metadata else {}
        return self.processor.apply_chat_template(
            [write_messages(sample, media, self.processor.coordinates) for sample, media in questions],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=sampled,
        )
