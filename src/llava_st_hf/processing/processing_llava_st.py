"""The processor: media, chat and coordinates in; tensors for the model, and answers in seconds and pixels, out.

Three things go beyond an ordinary processor of transformers:

- a coordinate inside a text (see `coordinate_text_llava_st`) becomes a token and an offset below the token's bin, in
  `coordinate_offsets`, as long as `input_ids`;
- what is known of each image and clip stays with the inputs as `inputs.media`, so that `post_process_grounding` can
  put an answer back onto it;
- two quirks that the published weights were trained with are switches, `splice_fast_tokens` and `embed_width_inputs`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, SiglipImageProcessorPil
from transformers.processing_utils import ProcessingKwargs
from transformers.video_processing_utils import VideoProcessorMixin

from .answer_grammar_llava_st import AnswerGrammar
from .answer_media_llava_st import list_questions
from .answer_scores_llava_st import read_answers, read_generated
from .batch_feature_llava_st import GroundingContext, LlavaSTBatchFeature, find_questions
from .constrained_generation_llava_st import GrammarLogitsProcessor, make_generate_arguments
from .grammar_vocabulary_llava_st import GrammarVocabulary, find_time_limits
from .grounding_results_llava_st import Box, GroundingResult, Span
from .media_llava_st import InputError, PromptError
from .model_inputs_llava_st import ModelInputsProcessor
from .prompt_coordinates_llava_st import check_prompt_coordinates
from .prompt_expansion_llava_st import check_messages, check_query
from .published_layout_llava_st import (
    check_settings_files,
    convert_published_tokenizer,
    find_published_tokenizer,
    load_published_config,
)
from .tasks_llava_st import Task, choose_medium, get_task, unpack_units, write_values
from .video_processing_llava_st import LlavaSTVideoProcessor, LlavaSTVideoProcessorKwargs
from .video_requests_llava_st import list_block_requests

_HUB_KEYS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


class LlavaSTProcessorKwargs(ProcessingKwargs, total=False):
    """Keyword arguments of the processor; those that choose frames may be listed, one for each video."""

    videos_kwargs: LlavaSTVideoProcessorKwargs


class LlavaSTProcessor(ModelInputsProcessor):
    """
    Turn chat messages with images, videos and coordinates into inputs of the model, and its answers into results.

    Args:
        image_processor (`SiglipImageProcessor`): Resizes images to the vision tower's square.
        tokenizer (`Qwen2Tokenizer`): With the placeholders and the coordinate tokens, see `add_coordinate_tokens`.
        video_processor (`LlavaSTVideoProcessor`): Decodes, samples and resizes clips.
        chat_template (`str`, *optional*): Jinja chat template, defaults to the one that comes with this class.
        image_token (`str`, *optional*, defaults to `"<image>"`): Placeholder of an image.
        video_token (`str`, *optional*, defaults to `"<video>"`): Placeholder of a video.
        patch_size (`int`, *optional*, defaults to 14): Patch size in pixels of the vision tower.
        spatial_stride (`int`, *optional*, defaults to 3): Patches per side that the packer makes one slow token of.
        fast_spatial_stride (`int`, *optional*, defaults to 3): Slow cells per side that become one fast token.
        temporal_stride (`int`, *optional*, defaults to 5): Frames that the packer makes one slow frame of.
        num_temporal_tokens (`int`, *optional*, defaults to 100): Number of time tokens.
        num_spatial_tokens (`int`, *optional*, defaults to 100): Number of tokens of each of height and width.
        splice_fast_tokens (`bool`, *optional*, defaults to `True`):
            Whether fast features are put into the sequence, as in the paper. The published weights require `False`:
            the fast positions are then the raw tokens `<vid_start> <vid_patch>... <vid_end>`.
        embed_width_inputs (`bool`, *optional*, defaults to `True`):
            Whether `<x=..>` in a prompt is embedded like the other axes. The published weights require `False`: it is
            then the raw token `<WIDTH-INPUT>`.

    Example:

    ```python
    >>> processor = LlavaSTProcessor.from_pretrained("LLaVA-ST-Qwen2-7B")
    >>> messages = processor.build_messages("tvg", video="kitchen.mp4", query="she cuts the carrots")
    >>> inputs = processor.apply_chat_template(
    ...     messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    ... )
    >>> outputs = model.generate(**inputs, max_new_tokens=64)
    >>> processor.post_process_grounding(outputs, inputs)[0].spans
    (Span(start_seconds=12.4, end_seconds=31.0, confidence=None),)
    ```
    """

    valid_processor_kwargs = LlavaSTProcessorKwargs
    _auto_class = "AutoProcessor"  # save_pretrained copies the code, it loads where this package is not installed

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs) -> "LlavaSTProcessor":
        """
        Load a processor from a directory or the Hub; that of the published checkpoint is made on the spot.

        Args:
            pretrained_model_name_or_path (`str` or `Path`):
                What `save_pretrained` wrote, or a repository laid out as the published one, whose tokenizer is then
                converted and whose quirks are switched on (`splice_fast_tokens` and `embed_width_inputs` `False`).
            kwargs (`dict`, *optional*):
                Arguments of `from_pretrained` and of this class, which override the files. Code that lies there is
                run with `trust_remote_code=True` only.

        Returns:
            `LlavaSTProcessor`: The processor.

        Raises:
            `InputError`: When a published checkpoint lacks a size or has sizes that do not fit together, or another
                chat template lies there than that of this class.
        """
        # Without a word of the caller transformers would ask on standard input, where anybody may answer.
        kwargs["trust_remote_code"] = bool(kwargs.get("trust_remote_code"))
        hub_kwargs = {key: value for key, value in kwargs.items() if key in _HUB_KEYS and value is not None}
        check_settings_files(pretrained_model_name_or_path, **hub_kwargs)
        folder = find_published_tokenizer(pretrained_model_name_or_path, **hub_kwargs)
        if folder is None:
            processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
            # A template is a program, which may run without end or fill the memory.
            if not kwargs["trust_remote_code"] and kwargs.get("chat_template") is None:
                processor.check_chat_template(str(pretrained_model_name_or_path))
            return processor
        config = load_published_config(pretrained_model_name_or_path, **hub_kwargs)
        tokenizer = convert_published_tokenizer(pretrained_model_name_or_path, folder, **hub_kwargs)
        settings = {key: value for key, value in kwargs.items() if key in signature(cls).parameters}
        return cls.from_config(config, tokenizer, **{"embed_width_inputs": False, **settings})

    @classmethod
    def from_config(
        cls,
        config: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        image_processor: Any = None,
        video_processor: VideoProcessorMixin | None = None,
        **settings,
    ) -> "LlavaSTProcessor":
        """
        Make the processor of a model: its sizes and ids are those of the model's config.

        Args:
            config (`LlavaSTConfig`): The config of the model.
            tokenizer (`PreTrainedTokenizerBase`): With the placeholders and the coordinate tokens.
            image_processor (`SiglipImageProcessor`, *optional*): For images of the config's size; SigLIP's by default.
            video_processor (`LlavaSTVideoProcessor`, *optional*):
                Likewise; by default it samples as many frames as there are time tokens.
            settings (`dict`, *optional*): Further arguments of this class, which override what the config says.

        Returns:
            `LlavaSTProcessor`: The processor.

        Raises:
            `InputError`: When the tokenizer has other ids than the config, or a sub-processor another size.

        Example:

        ```python
        >>> processor = LlavaSTProcessor.from_config(model.config, tokenizer)
        ```
        """
        size = {"height": config.vision_config.image_size, "width": config.vision_config.image_size}
        pixels = {"size": size, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # as SigLIP was trained
        image_processor = image_processor or SiglipImageProcessorPil(**pixels)
        # Parity: the reference can only place as many frames as there are time tokens (llava_arch.py:343).
        video_processor = video_processor or LlavaSTVideoProcessor(**pixels, num_frames=config.num_temporal_tokens)
        names = ("spatial_stride", "fast_spatial_stride", "temporal_stride", "num_temporal_tokens")
        sizes = {name: getattr(config, name) for name in (*names, "num_spatial_tokens", "splice_fast_tokens")}
        sizes["patch_size"] = config.vision_config.patch_size
        processor = cls(image_processor, tokenizer, video_processor, **{**sizes, **settings})
        for part in (image_processor, video_processor):
            if dict(part.size) != size:
                raise InputError(f"{type(part).__name__} has the size {dict(part.size)}: the model needs {size}.")
        for name in ("coordinate_token_offset", "image_token_id", "video_token_id"):
            if getattr(processor, name) != getattr(config, name):
                raise InputError(
                    f"{name} is {getattr(config, name)} in the config and {getattr(processor, name)} in the "
                    "tokenizer: give config and tokenizer of one model, or make a new model's config with "
                    f"{name}={getattr(processor, name)}."
                )
        tokenizer.chat_template = processor.chat_template
        return processor

    def replace_image_token(self, image_inputs: Mapping[str, Any], image_idx: int, **kwargs) -> str:
        """Return what the placeholder of one image becomes: a token per patch."""
        size = image_inputs["pixel_values"][image_idx].shape[-2:]
        return self.image_token * self.media_token_counter.count_image(size)

    def replace_video_token(self, video_inputs: Mapping[str, Any], video_idx: int, **kwargs) -> str:
        """Return what the placeholder of one video becomes: its fast tokens, then its slow ones."""
        frames = video_inputs["pixel_values_videos"][video_idx]  # (frames, 3, height, width)
        num_frames = video_inputs.get("video_num_frames")
        num_frames = len(frames) if num_frames is None else int(num_frames[video_idx])
        num_fast, num_slow = self.media_token_counter.count_video(num_frames, frames.shape[-2:])
        return self._get_writer().write_video(num_fast, num_slow)

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        **kwargs,
    ) -> "str | list[str] | LlavaSTBatchFeature | Any":
        """
        Render chat messages, and with `tokenize=True, return_dict=True` process them with their media.

        Args:
            conversation (`Sequence`):
                Chat messages, or a list of several conversations. A block of content is `{"type": "text", "text":
                ...}`, `{"type": "video", "video": ...}` or `{"type": "image", "image": ...}`, media as in `__call__`.
                A video's block may have `num_frames`, `fps`, `frame_range` or `time_range` of its own; and one that
                is given as frames says when they are, by `video_fps` or `frame_seconds`.
            chat_template (`str`, *optional*): Another template.
            processor_kwargs (`dict`, *optional*): Arguments of `__call__`, such as `num_frames` or `allow_url`.
            kwargs (`dict`, *optional*): As in `ProcessorMixin.apply_chat_template`: `add_generation_prompt`,
                `return_tensors`, `return_assistant_tokens_mask`, ...

        Returns:
            `str`, `list[str]` or `LlavaSTBatchFeature`: The last carries what `build_messages` noted of each question
            as `.contexts`.

        Raises:
            `PromptError`, `MediaError`: As `__call__`.
        """
        if not conversation:
            raise PromptError("the conversation is empty: give at least one message.")
        conversations, _ = self._normalize_conversations(conversation)
        if not kwargs.get("sanitize_control_tokens"):  # with which they are text
            check_messages(conversations, self.tokenizer, (self.image_token, self.video_token))
        processor_kwargs = dict(processor_kwargs or {})  # the base class writes into it
        # A rate of the call takes the place of the processor's own.
        default = {"num_frames": self.video_processor.num_frames, "fps": self.video_processor.fps}
        defaults = {**({} if set(default) & set(processor_kwargs) else default), **processor_kwargs}
        processor_kwargs.update(list_block_requests(conversations, defaults))
        output = super().apply_chat_template(
            conversation, chat_template=chat_template, processor_kwargs=processor_kwargs, **kwargs
        )
        if isinstance(output, LlavaSTBatchFeature):
            output.set_questions(output.media, [*map(GroundingContext.from_messages, conversations)])
        return output

    def _multimodal_inputs_from_conversations(
        self, conversations: Sequence[Any], audio_loading_params: Any = None, load_audio_from_video: bool = False
    ) -> Any:
        """Collect the media of chat messages; sound is refused before transformers opens what names it."""
        contents = [message.get("content") for messages in conversations for message in messages]
        blocks = [block for content in contents if isinstance(content, (list, tuple)) for block in content]
        if load_audio_from_video or any(isinstance(b, Mapping) and b.get("type") == "audio" for b in blocks):
            raise InputError("audio is given, which this model does not hear: leave it out.")
        return super()._multimodal_inputs_from_conversations(conversations, audio_loading_params)

    def build_messages(
        self,
        task: str,
        *,
        video: Any = None,
        image: Any = None,
        query: str | None = None,
        span: "Span | Sequence[float] | None" = None,
        box: "Box | Sequence[float] | None" = None,
        start_seconds: float | None = None,
        span_fractions: Sequence[float] | None = None,
        box_fractions: Sequence[float] | None = None,
        start_fraction: float | None = None,
        variant: int = 0,
    ) -> list[dict[str, Any]]:
        """
        Write the chat messages of a task in the wording that the model was trained with.

        Args:
            task (`str`): Name of the task, see `TASKS`.
            video (`VideoInput`, *optional*): The clip, for tasks about a video.
            image (`ImageInput`, *optional*): The image, for tasks about an image.
            query (`str`, *optional*):
                The event, the object or the question. It may hold coordinates of its own (`<t=3.5s>`). In `stvg` and
                `svg` a query with a question mark is taken as the whole question. What is named inside the published
                sentence is written as there: in lower case, without a full stop.
            span (`Span` or `Sequence[float]`, *optional*): Start and end in seconds of the file.
            box (`Box` or `Sequence[float]`, *optional*): Left, top, right, bottom in pixels of the original frame.
            start_seconds (`float`, *optional*): Start time in seconds of the file.
            span_fractions (`Sequence[float]`, *optional*): `span` as fractions of the clip.
            box_fractions (`Sequence[float]`, *optional*): `box` as fractions of the frame.
            start_fraction (`float`, *optional*): `start_seconds` as fraction of the clip.
            variant (`int`, *optional*, defaults to 0): Which published wording, see `Task.prompts`.

        Returns:
            `list[dict]`: One user message, for `apply_chat_template`. Its key `"grounding"`, which is not rendered,
            carries task, query and start time to `post_process_grounding`.

        Raises:
            `PromptError`: For an unknown task, something missing or superfluous, or a value out of range.
        """
        chosen = get_task(task)
        media_type, medium = choose_medium(chosen, video, image)
        start_units = None if start_seconds is None else [start_seconds]
        start_parts = None if start_fraction is None else [start_fraction]
        prompt = chosen.write_prompt(
            variant,
            query=None if query is None else self._name_query(chosen, query),
            span=write_values("span", "tt", span, span_fractions),
            box=write_values("box", "xyxy", box, box_fractions),
            start=write_values("start", "t", start_units, start_parts),
        )
        check_prompt_coordinates(prompt)
        context = GroundingContext(
            chosen.name,
            query,
            start_seconds,
            start_fraction,
            span_seconds=None if span is None else tuple(map(float, unpack_units(span))),
            span_fractions=None if span_fractions is None else tuple(map(float, span_fractions)),
        )
        return [
            {
                "role": "user",
                "content": [{"type": media_type, media_type: medium}, {"type": "text", "text": prompt}],
                **context.to_entry(),
            }
        ]

    def _name_query(self, task: Task, query: str) -> str:
        """Return a query as it is asked; checked before and after, as lower case may make a control token of it."""
        media_tokens = (self.image_token, self.video_token)
        check_query(query, self.tokenizer, media_tokens)
        named = task.name_query(query)
        check_query(named, self.tokenizer, media_tokens)
        return named

    def prepare_further_question(
        self, messages: Sequence[dict[str, Any]], inputs: LlavaSTBatchFeature
    ) -> LlavaSTBatchFeature:
        """
        Process a question about media that were processed already, without reading them again.

        Args:
            messages (`Sequence[dict]`): Chat messages about the same media, as `build_messages` wrote them.
            inputs (`LlavaSTBatchFeature`): What the processor returned for one sample with these media.

        Returns:
            `LlavaSTBatchFeature`: `input_ids`, `attention_mask` and `coordinate_offsets` of one sample, no pixels.

        Raises:
            `PromptError`: For a bad coordinate, other media than in `inputs`, or too many tokens.
        """
        (media,) = inputs.media
        check_messages([messages], self.tokenizer, (self.image_token, self.video_token))
        text = super().apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        images = [info for info in media if info.media_type == "image"]
        videos = [info for info in media if info.media_type == "video"]
        asked, known = self._get_writer().count_placeholders(text), (len(images), len(videos))
        if asked != known:
            raise PromptError(
                f"the messages have placeholders for {asked[0]} images and {asked[1]} videos, the inputs {known[0]} "
                f"and {known[1]}: ask about the same media, and do not type a placeholder inside a question."
            )
        sample = self._get_writer().write(
            text,
            iter([(self.replace_image_token(inputs, index), info) for index, info in enumerate(images)]),
            iter([(self.replace_video_token(inputs, index), info) for index, info in enumerate(videos)]),
        )
        return LlavaSTBatchFeature(
            self._tokenize([sample], return_tensors="pt"),
            tensor_type="pt",
            media=[sample.media],
            contexts=[GroundingContext.from_messages(messages)],
        )

    @cached_property
    def grammar_vocabulary(self) -> GrammarVocabulary:
        """Token ids that the grammars of answers speak of."""
        return GrammarVocabulary(self.tokenizer, self.coordinates)

    def build_constraints(
        self,
        inputs: LlavaSTBatchFeature,
        max_new_tokens: int = 1024,
        task: str | None = None,
        **answer: Any,
    ) -> dict[str, Any]:
        """
        Make the arguments with which `generate` gives answers that parse without a problem, in few forward passes.

        It then returns a dictionary, with what it takes to refine the coordinates and to tell how sure they are.
        Other options of `generate` go beside them: `num_beams`, `do_sample`, `assistant_model`, `streamer`, ...

        Args:
            inputs (`LlavaSTBatchFeature`): What the processor returned for the questions.
            max_new_tokens (`int`, *optional*, defaults to 1024): The answers are complete within so many tokens.
            task (`str`, *optional*): Name of the task, for messages that were not made by `build_messages`.
            answer: What else is known of the answers, see `build_logits_processor`: `every_frame`, ...

        Returns:
            `dict`: Arguments for `model.generate(**inputs, **constraints)`.

        Raises:
            `PromptError`, `InputError`: As `build_logits_processor`.

        Example:

        ```python
        >>> constraints = processor.build_constraints(inputs, max_new_tokens=256)
        >>> outputs = model.generate(**inputs, **constraints)
        >>> processor.post_process_grounding(outputs, inputs)[0].spans
        (Span(start_seconds=12.4, end_seconds=31.0, confidence=0.91),)
        ```
        """
        constrained = self.build_logits_processor(inputs, max_new_tokens, task, **answer)
        return make_generate_arguments(constrained, max_new_tokens)

    def build_logits_processor(
        self,
        inputs: LlavaSTBatchFeature,
        max_new_tokens: int = 1024,
        task: str | None = None,
        every_frame: bool = False,
        start_seconds: float | None = None,
        media_index: int = -1,
        prompt_length: int | None = None,
    ) -> GrammarLogitsProcessor:
        """
        Make a logits processor that leaves only answers that parse without a problem, for any engine or trainer.

        Args:
            inputs (`LlavaSTBatchFeature`):
                What the processor returned for the questions. An engine may decode several rows for each sample
                (beams, return sequences), beside each other.
            max_new_tokens (`int`, *optional*, defaults to 1024):
                The answers are complete within so many tokens; the engine must not stop before.
            task (`str`, *optional*): Name of the task, for messages that were not made by `build_messages`.
            every_frame (`bool`, *optional*, defaults to `False`):
                Whether a tube has one box for every sampled frame of its span.
            start_seconds (`float`, *optional*): The start time of the prompt, as for `post_process_grounding`.
            media_index (`int`, *optional*, defaults to -1): Which medium the answer is about, likewise.
            prompt_length (`int`, *optional*):
                Tokens in front of the answers in the ids that the engine hands over: 0 where it hands over new tokens
                only. Defaults to the length of the prompts in `inputs`, padding included.

        Returns:
            `GrammarLogitsProcessor`: Called with ids (rows, tokens) and scores (rows, vocabulary).

        Raises:
            `PromptError`: For a sample whose task is not known, or when `max_new_tokens` is too small for an answer.
            `InputError`: For inputs that are not the processor's, with tensors.

        Example:

        ```python
        >>> constrained = processor.build_logits_processor(inputs, max_new_tokens=256)
        >>> outputs = model.generate(**inputs, logits_processor=[constrained], max_new_tokens=256)
        ```
        """
        known = find_questions(inputs)
        if known is None or not hasattr(inputs.get("input_ids"), "shape"):
            raise InputError(
                f"inputs is a {type(inputs).__name__} without media or tensors: pass what the processor returned "
                "itself, made with return_tensors='pt'."
            )
        if not isinstance(max_new_tokens, int):
            raise PromptError(f"max_new_tokens is {max_new_tokens!r}: give a whole number.", field="max_new_tokens")
        grammars = []
        for sample, (media, context) in enumerate(zip(*known, strict=True)):
            if start_seconds is not None:
                context = replace(context, start_seconds=start_seconds)
            name = task if task is not None else context.task
            if name is None:
                raise PromptError(
                    f"the task of sample {sample} is not known, and free chat has no grammar: leave the constraints "
                    "out, or name the task (task=..., or messages of build_messages)."
                )
            medium = media[media_index] if media else None
            limits = find_time_limits(context, medium, self.coordinates, every_frame)
            answer_format = get_task(name).answer_format
            grammars.append(AnswerGrammar(self.grammar_vocabulary, answer_format, max_new_tokens, limits))
        length = inputs["input_ids"].shape[1] if prompt_length is None else prompt_length
        return GrammarLogitsProcessor(grammars, length)

    def post_process_grounding(
        self,
        outputs: Any,
        inputs: Mapping[str, Any] | None = None,
        task: str | None = None,
        query: str | None = None,
        start_seconds: float | None = None,
        media_index: int = -1,
        *,
        media: Any = None,
        target_sizes: Any = None,
        video_metadata: Any = None,
    ) -> list[GroundingResult]:
        """
        Read the answers of the model in seconds and pixels.

        Args:
            outputs (`torch.Tensor`, `np.ndarray`, `Sequence` or `GenerateOutput`):
                What `generate` returned, with or without the prompt in front, what vLLM returned, token ids, or the
                answers as text. With the arguments of `build_constraints`, or with `return_dict_in_generate=True` and
                `output_scores=True`, coordinates are refined below their bins, by the probabilities of the winning
                bin and its better neighbour, and get a confidence; where they are not, `notes` of the result says so.
            inputs (`LlavaSTBatchFeature` or `dict`, *optional*):
                What the processor returned for these prompts: it knows the media and what was asked.
            task (`str`, *optional*): Name of the task, for messages that were not made by `build_messages`.
            query (`str`, *optional*): The query, likewise.
            start_seconds (`float`, *optional*): The start time that the prompt gave, likewise.
            media_index (`int`, *optional*, defaults to -1):
                Which medium of a sample the answer is about: the last one, which is nearest to the answer.
            media (`MediaInfo`, `str`, `Path`, `bytes`, `PIL.Image.Image` or a list):
                The medium, or a list with the medium or the media of each sample, where `inputs` does not know. Of a
                clip's file it is taken that it was sampled as this processor does.
            target_sizes (`Sequence` or `torch.Tensor`, *optional*): Height and width of each sample's medium instead.
            video_metadata (`Sequence`, *optional*): `VideoMetadata` of each sample's clip, or `None` for an image.

        Returns:
            `list[GroundingResult]`: One for each row of `outputs`. Several rows per sample
            (`num_return_sequences`) stand beside each other.

        Raises:
            `InputError`: When inputs and outputs do not belong together, or nothing says what they are about.
            `PromptError`: For an unknown task.
        """
        known, contexts = list_questions(inputs, media, target_sizes, video_metadata, self.video_processor)
        prompts = None if inputs is None else inputs.get("input_ids")
        texts, refinements = read_generated(outputs, prompts, self.tokenizer, self.coordinates)
        if not known or len(texts) % len(known):
            raise InputError(
                f"outputs has {len(texts)} rows and inputs {len(known)} samples: pass the inputs that these "
                "outputs were generated from."
            )
        given = {"task": task, "query": query, "start_seconds": start_seconds}
        given = {name: value for name, value in given.items() if value is not None}
        contexts = [replace(context, **given) for context in contexts]
        return read_answers(texts, refinements, known, contexts, media_index, self.coordinates)


__all__ = ["LlavaSTProcessor"]
