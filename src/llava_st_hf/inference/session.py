"""Many questions about one clip: it is read, encoded and prefilled once, each question pays for its own words."""

import copy
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from ..processing.batch_feature_llava_st import LlavaSTBatchFeature
from ..processing.grounding_results_llava_st import GroundingResult
from ..processing.media_llava_st import InputError
from ..processing.processing_llava_st import LlavaSTProcessor

READING_OPTIONS = ("num_frames", "fps", "time_range", "frame_range", "allow_url")


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
        reading: How to read the clip: `num_frames`, `fps`, `time_range`, `frame_range`, `allow_url`.

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
        if unknown := sorted(set(reading) - set(READING_OPTIONS)):
            raise InputError(f"{unknown[0]} is no option of reading: give {', '.join(READING_OPTIONS)}.")
        self.model = model
        self.processor = processor
        self.media = {"video": video, "image": image}
        self.reading = reading
        self._first: LlavaSTBatchFeature | None = None
        self._prefix_ids: torch.LongTensor | None = None
        self._prefix_cache: DynamicCache | None = None
        self._place: tuple[torch.device, torch.dtype] | None = None

    @property
    def prefix_length(self) -> int:
        """Tokens that all prompts share: up to the end of the media. 0 before the first question."""
        return 0 if self._prefix_ids is None else self._prefix_ids.shape[1]

    def prepare(self, task: str, **asking: Any) -> LlavaSTBatchFeature:
        """
        Write the prompt of a question, see `build_messages`.

        The media are read at the first one, whose inputs hold their pixels; further ones are ids and offsets only.
        """
        messages = self.processor.build_messages(task, **self.media, **asking)
        if self._first is not None:
            return self.processor.prepare_further_question(messages, self._first)
        inputs = self.processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=self.reading,
        )
        # Its own copy: the pixels are given up once the cache is filled.
        self._first = LlavaSTBatchFeature(dict(inputs), media=inputs.media, contexts=inputs.contexts)
        return inputs

    def ask(
        self,
        task: str,
        *,
        constrained: bool = True,
        every_frame: bool = False,
        max_new_tokens: int = 1024,
        generate: dict[str, Any] | None = None,
        **asking: Any,
    ) -> GroundingResult:
        """
        Answer a question.

        Args:
            task (`str`): Name of the task, one of `TASKS`.
            constrained (`bool`, *optional*, defaults to `True`):
                Whether the answer must keep to its grammar. Without beams it is then also refined below the bins of
                the coordinates, with a confidence for each.
            every_frame (`bool`, *optional*, defaults to `False`):
                Whether a tube has a box for every sampled frame of its span (constrained answers only).
            max_new_tokens (`int`, *optional*, defaults to 1024): Longest answer in tokens.
            generate (`dict`, *optional*):
                Further options of `generate`, such as `num_beams` or `streamer`; the cache is the session's own.
            asking: What the task needs, see `build_messages`: `query`, `span`, `box`, `start_seconds`, ...

        Returns:
            `GroundingResult`: The answer in seconds and pixels.

        Raises:
            `InputError`: For media that cannot be read and questions that cannot be written.
        """
        options = {"do_sample": False, "max_new_tokens": max_new_tokens, **(generate or {})}
        num_beams = self._check_options(options)
        inputs = self.prepare(task, **asking)
        if constrained:
            # With its scores an answer is read finer than a bin, and gets confidences.
            options["return_dict_in_generate"] = num_beams == 1
            constraints = self.processor.build_constraints(
                inputs,
                max_new_tokens=max_new_tokens,
                every_frame=every_frame,
                num_beams=num_beams,
                streamer=options.get("streamer"),
            )
            constraints["logits_processor"][:0] = options.pop("logits_processor", None) or []
            options = {**options, **constraints}
        outputs = self.model.generate(**self._encode(inputs, num_beams), **options)
        return self.processor.post_process_grounding(outputs, inputs)[0]

    def _check_options(self, options: dict[str, Any]) -> int:
        """Return the number of beams that options of `generate` mean; what a session cannot do is refused."""
        config = options.get("generation_config") or self.model.generation_config

        def find(name: str) -> Any:
            return options[name] if options.get(name) is not None else getattr(config, name, None)

        if (find("num_return_sequences") or 1) > 1:
            raise InputError(
                f"num_return_sequences is {find('num_return_sequences')}: a session gives one answer to a question; "
                "for more, call model.generate."
            )
        if find("use_cache") is False or find("cache_implementation") is not None:
            raise InputError(
                "use_cache or cache_implementation is set: a session brings its own cache, leave them out."
            )
        num_beams = find("num_beams") or 1
        options["num_beams"] = num_beams
        return num_beams

    def _encode(self, inputs: LlavaSTBatchFeature, num_beams: int) -> dict[str, Any]:
        """Give the arguments of `generate`: the prompt, and a cache that holds it up to the end of the media."""
        place = (self.model.device, self.model.dtype)
        if self._prefix_cache is None:
            self._fill_cache(self._first.to(self.model.device))
            self._place = place
        if place != self._place:
            raise InputError(f"the model was moved from {self._place} to {place}: begin a new GroundingSession.")
        names = ("input_ids", "attention_mask", "coordinate_offsets")
        prompt = {name: inputs[name].to(self.model.device) for name in names}
        if not torch.equal(prompt["input_ids"][:, : self.prefix_length], self._prefix_ids):
            raise InputError("the prompt does not begin like the first one: the processor was changed in between.")
        cache = copy.deepcopy(self._prefix_cache)
        if num_beams > 1:
            cache.batch_repeat_interleave(num_beams)
        return {**prompt, "past_key_values": cache}

    @torch.no_grad()
    def _fill_cache(self, first: LlavaSTBatchFeature) -> None:
        """Run the model over the prompt up to the end of the media."""
        media_ids = torch.tensor([self.processor.image_token_id, self.processor.video_token_id])
        is_media = torch.isin(first["input_ids"][0].cpu(), media_ids)
        length = int(is_media.nonzero()[-1]) + 1
        self._prefix_ids = first["input_ids"][:, :length]
        pixels = {name: first[name] for name in first if name.startswith(("pixel_values", "video_num_frames"))}
        cache = DynamicCache(config=self.model.config.get_text_config())
        self.model(input_ids=self._prefix_ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **pixels)
        self._prefix_cache = cache
        # The cache holds what the pixels said; later prompts need their shapes only.
        for name, values in pixels.items():
            if name != "video_num_frames":
                self._first.data[name] = values.new_zeros(()).expand(values.shape)


__all__ = ["GroundingSession"]
