"""Many questions about one clip: it is read, encoded and prefilled once, each question pays for its own words."""

import copy
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from .processing.batch_feature_llava_st import LlavaSTBatchFeature
from .processing.grounding_llava_st import GroundingResult
from .processing.processing_llava_st import LlavaSTProcessor


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
        self.model = model
        self.processor = processor
        self.media = {"video": video, "image": image}
        self.reading = reading
        self._first: LlavaSTBatchFeature | None = None
        self._prefix_ids: torch.LongTensor | None = None
        self._prefix_cache: DynamicCache | None = None

    @property
    def prefix_length(self) -> int:
        """Tokens that all prompts share: up to the end of the media. 0 before the first question."""
        return 0 if self._prefix_ids is None else self._prefix_ids.shape[1]

    def prepare(self, task: str, **asking: Any) -> LlavaSTBatchFeature:
        """Write the prompt of a question; the media are read at the first one only. See `build_messages`."""
        messages = self.processor.build_messages(task, **self.media, **asking)
        if self._first is not None:
            return self.processor.prepare_further_question(messages, self._first)
        self._first = self.processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=self.reading,
        )
        return self._first

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
            task (`str`): One of the 15 tasks.
            constrained (`bool`, *optional*, defaults to `True`):
                Whether the answer must keep to its grammar. Without beams it is then also refined below the bins of
                the coordinates, with a confidence for each.
            every_frame (`bool`, *optional*, defaults to `False`):
                Whether a tube has a box for every sampled frame of its span (constrained answers only).
            max_new_tokens (`int`, *optional*, defaults to 1024): Longest answer in tokens.
            generate (`dict`, *optional*): Further options of `generate`, such as `num_beams` or `streamer`.
            asking: What the task needs, see `build_messages`: `query`, `span`, `box`, `start_seconds`, ...

        Returns:
            `GroundingResult`: The answer in seconds and pixels.

        Raises:
            `InputError`: For media that cannot be read and questions that cannot be written.
        """
        inputs = self.prepare(task, **asking)
        options = {"do_sample": False, "max_new_tokens": max_new_tokens, **(generate or {})}
        if constrained:
            # With its scores an answer is read finer than a bin, and gets confidences.
            options["return_dict_in_generate"] = options.get("num_beams", 1) == 1
            constraints = self.processor.build_constraints(
                inputs,
                max_new_tokens=max_new_tokens,
                every_frame=every_frame,
                num_beams=options.get("num_beams", 1),
                streamer=options.get("streamer"),
            )
            options = {**options, **constraints}
        outputs = self.model.generate(**self._encode(inputs), **options)
        return self.processor.post_process_grounding(outputs, inputs)[0]

    def _encode(self, inputs: LlavaSTBatchFeature) -> dict[str, Any]:
        """Give the arguments of `generate`: the prompt, and a cache that holds it up to the end of the media."""
        device = self.model.device
        if self._prefix_cache is None:
            self._fill_cache(self._first.to(device))
        prompt = {name: inputs[name].to(device) for name in ("input_ids", "attention_mask", "coordinate_offsets")}
        if not torch.equal(prompt["input_ids"][:, : self.prefix_length], self._prefix_ids):
            raise RuntimeError("the prompt does not begin like the first one: the processor was changed in between.")
        return {**prompt, "past_key_values": copy.deepcopy(self._prefix_cache)}

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
