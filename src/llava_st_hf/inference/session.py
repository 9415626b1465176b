"""Many questions about one clip: it is read, encoded and prefilled once, each question pays for its own words."""

import copy
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from ..processing import GroundingResult, InputError, LlavaSTBatchFeature, LlavaSTProcessor
from ..processing.constrained_generation_llava_st import CACHE_NAME, fill_cache
from .generation import PROMPT_NAMES, count_beams, find_option, generate_answers, prepare_messages
from .options import ANSWERING_NAMES, AnsweringOptions, Question, ReadingOptions, make_options, select


class GroundingSession:
    """
    Ask one clip or image any number of questions.

    The first question reads the media, encodes them and fills the cache of the language model up to their end. The
    prompts of all further questions begin with the same tokens, so they start from a copy of that cache.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model.
        processor (`LlavaSTProcessor`): The processor saved with it.
        video (`str`, `Path`, `bytes`, array or frames, *optional*): The clip.
        image (`str`, `Path`, `bytes`, `PIL.Image.Image` or array, *optional*): The image, instead of a clip.
        reading: How to read the clip, see [`ReadingOptions`]: `num_frames`, `fps`, `time_range`, ...

    Example:

    ```python
    >>> session = GroundingSession(model, processor, video="clip.mp4", num_frames=100)
    >>> session.ask("stvg", query="a child holds a bat").spans
    >>> session.ask("tvg", query="she opens the door", max_new_tokens=32).spans
    ```
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: LlavaSTProcessor,
        *,
        video: Any = None,
        image: Any = None,
        **reading: Any,
    ):
        self.model = model
        self.processor = processor
        self.media = {"video": video, "image": image}
        self.reading = make_options(ReadingOptions, reading)
        self._first: LlavaSTBatchFeature | None = None
        self._prefix_ids: torch.LongTensor | None = None
        self._prefix_cache: DynamicCache | None = None
        self._place: tuple[torch.device, torch.dtype] | None = None

    @classmethod
    def from_inputs(
        cls, model: PreTrainedModel, processor: LlavaSTProcessor, inputs: LlavaSTBatchFeature
    ) -> "GroundingSession":
        """Begin a session about media that the processor has read, with the inputs of the first question."""
        session = cls(model, processor)
        session._keep_first(inputs)
        return session

    @property
    def prefix_length(self) -> int:
        """Tokens that all prompts share: up to the end of the media. 0 before the first question."""
        return 0 if self._prefix_ids is None else self._prefix_ids.shape[1]

    def prepare(self, task: str, **question: Any) -> LlavaSTBatchFeature:
        """
        Write the prompt of a question, see [`Question`].

        The media are read at the first one, whose inputs hold their pixels; further ones are ids and offsets only.
        """
        messages = make_options(Question, {"task": task, **question}).to_messages(self.processor, **self.media)
        if self._first is not None:
            return self.processor.prepare_further_question(messages, self._first)
        inputs = prepare_messages(self.processor, messages, self.reading)
        self._keep_first(inputs)
        return inputs

    def ask(self, task: str, query: str | None = None, **options: Any) -> GroundingResult:
        """
        Answer a question.

        Args:
            task (`str`): One of `TASKS`.
            query (`str`, *optional*): The event, the object or the question.
            options: What else the task needs, see [`Question`] (`span`, `box`, `start_seconds`, ...), and how to
                answer, see [`AnsweringOptions`] (`constrained`, `every_frame`, `max_new_tokens`, `generate`).

        Returns:
            `GroundingResult`: The answer in seconds and pixels.

        Raises:
            `InputError`: For media that cannot be read and questions that cannot be written.
        """
        answering = AnsweringOptions(**select(options, ANSWERING_NAMES))
        question = {name: value for name, value in options.items() if name not in ANSWERING_NAMES}
        self._check(answering)
        return self.answer(self.prepare(task, query=query, **question), answering)

    def answer(self, inputs: LlavaSTBatchFeature, options: AnsweringOptions) -> GroundingResult:
        """Answer the question of inputs that `prepare` returned, or that the session was begun with."""
        num_beams = self._check(options)
        model_inputs = self._encode(inputs, num_beams)
        (result,) = generate_answers(self.model, self.processor, inputs, options, model_inputs)
        return result

    def _check(self, options: AnsweringOptions) -> int:
        """Return the number of beams that options mean; what a session cannot do is refused."""
        num_beams = count_beams(options, self.model)
        if (
            find_option("use_cache", options, self.model) is False
            or find_option("cache_implementation", options, self.model) is not None
        ):
            raise InputError(
                "use_cache or cache_implementation is set: a session brings its own cache, leave them out."
            )
        for name in ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit"):
            if find_option(name, options, self.model) is not None:
                # It would feed the prompt again, behind the cache that holds it already.
                raise InputError(
                    f"{name} is set: assisted decoding cannot start from the cache of a session, call model.generate."
                )
        return num_beams

    def _keep_first(self, inputs: LlavaSTBatchFeature) -> None:
        # Its own copy: the pixels are given up once the cache is filled.
        self._first = LlavaSTBatchFeature(dict(inputs), media=inputs.media, contexts=inputs.contexts)

    def _encode(self, inputs: LlavaSTBatchFeature, num_beams: int) -> dict[str, Any]:
        """Give the arguments of `generate`: the prompt, and a cache that holds it up to the end of the media."""
        place = (self.model.device, self.model.dtype)
        if self._prefix_cache is None:
            self._fill_cache(self._first.to(self.model.device))
            self._place = place
        if place != self._place:
            raise InputError(f"the model was moved from {self._place} to {place}: begin a new GroundingSession.")
        prompt = {name: inputs[name].to(self.model.device) for name in PROMPT_NAMES}
        if not torch.equal(prompt["input_ids"][:, : self.prefix_length], self._prefix_ids):
            raise InputError("the prompt does not begin like the first one: the processor was changed in between.")
        cache = copy.deepcopy(self._prefix_cache)
        if num_beams > 1:
            cache.batch_repeat_interleave(num_beams)
        return {**prompt, CACHE_NAME: cache}

    @torch.no_grad()
    def _fill_cache(self, first: LlavaSTBatchFeature) -> None:
        """Run the model over the prompt up to the end of the media."""
        pixels = {name: first[name] for name in first if name.startswith(("pixel_values", "video_num_frames"))}
        cache = DynamicCache(config=self.model.config.get_text_config())
        length = fill_cache(self.model, first["input_ids"], cache, first["coordinate_offsets"], **pixels)
        self._prefix_ids = first["input_ids"][:, :length]
        self._prefix_cache = cache
        # The cache holds what the pixels said; later prompts need their shapes only.
        for name, values in pixels.items():
            if name != "video_num_frames":
                self._first.data[name] = values.new_zeros(()).expand(values.shape)
