"""The processor: media, chat and coordinates in; tensors for the model, and answers in seconds and pixels, out.

Three things go beyond an ordinary processor of transformers:

- a coordinate inside a text (see `coordinate_text_llava_st`) becomes a token and an offset below the token's bin, in
  `coordinate_offsets`, as long as `input_ids`;
- what is known of each image and clip stays with the inputs as `inputs.media`, so that `post_process_grounding` can
  put an answer back onto it;
- two quirks that the published weights were trained with are switches, `splice_fast_tokens` and `embed_width_inputs`.
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers.processing_utils import MultiModalData, ProcessingKwargs, ProcessorMixin
from transformers.video_processing_utils import VideoProcessorMixin

from .answer_grammar_llava_st import AnswerGrammar, GrammarVocabulary, find_time_limits
from .answer_scores_llava_st import read_answers, read_generated
from .batch_feature_llava_st import GroundingContext, LlavaSTBatchFeature
from .chat_messages_llava_st import check_query, read_context, read_requests, write_context
from .constrained_generation_llava_st import make_generate_arguments
from .frame_sampling_llava_st import MAX_SAMPLED_FRAMES
from .grounding_results_llava_st import Box, GroundingResult, Span
from .image_loading_llava_st import flatten_images, flatten_videos, load_images, refuse_url
from .media_llava_st import InputError, MediaError, PromptError
from .notation_llava_st import check_prompt_coordinates
from .prompt_expansion_llava_st import (
    RAW_FAST_TOKENS,
    RAW_WIDTH_TOKEN,
    PromptWriter,
    WrittenSample,
    check_lengths,
    check_media_tokens,
    choose_padding,
    place_offsets,
)
from .published_layout_llava_st import load_published_arguments, read_published_sizes
from .tasks_llava_st import choose_medium, get_task, unpack_units, write_values
from .tokenization_llava_st import get_coordinate_token_offset, require_token
from .video_processing_llava_st import REQUEST_FIELDS, LlavaSTVideoProcessorKwargs

CHAT_TEMPLATE_FILE = "chat_template_llava_st.jinja"
_HUB_KEYS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


class LlavaSTProcessorKwargs(ProcessingKwargs, total=False):
    """Keyword arguments of the processor; those that choose frames may be listed, one for each video."""

    videos_kwargs: LlavaSTVideoProcessorKwargs


class LlavaSTProcessor(ProcessorMixin):
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
            Whether fast features are put into the sequence, as in the paper. The published weights want `False`: the
            fast positions are then the raw tokens `<vid_start> <vid_patch>... <vid_end>`.
        embed_width_inputs (`bool`, *optional*, defaults to `True`):
            Whether `<x=..>` in a prompt is embedded like the other axes. The published weights want `False`: it is
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

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        video_processor=None,
        chat_template: str | None = None,
        image_token: str = "<image>",
        video_token: str = "<video>",
        patch_size: int = 14,
        spatial_stride: int = 3,
        fast_spatial_stride: int = 3,
        temporal_stride: int = 5,
        num_temporal_tokens: int = 100,
        num_spatial_tokens: int = 100,
        splice_fast_tokens: bool = True,
        embed_width_inputs: bool = True,
    ):
        self.image_token = image_token
        self.video_token = video_token
        self.patch_size = patch_size
        self.spatial_stride = spatial_stride
        self.fast_spatial_stride = fast_spatial_stride
        self.temporal_stride = temporal_stride
        self.num_temporal_tokens = num_temporal_tokens
        self.num_spatial_tokens = num_spatial_tokens
        self.splice_fast_tokens = splice_fast_tokens
        self.embed_width_inputs = embed_width_inputs
        self.coordinate_token_offset = get_coordinate_token_offset(tokenizer, num_temporal_tokens, num_spatial_tokens)
        self.image_token_id = require_token(tokenizer, image_token, "image_token")
        self.video_token_id = require_token(tokenizer, video_token, "video_token")
        for token in () if splice_fast_tokens else RAW_FAST_TOKENS:
            require_token(tokenizer, token, "splice_fast_tokens=False")
        if not embed_width_inputs:
            require_token(tokenizer, RAW_WIDTH_TOKEN, "embed_width_inputs=False")
        super().__init__(
            image_processor, tokenizer, video_processor, chat_template=chat_template or _read_default_chat_template()
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs) -> "LlavaSTProcessor":
        """
        Load a processor from a directory or the Hub; that of the published checkpoint is made on the spot.

        Args:
            pretrained_model_name_or_path (`str` or `Path`):
                What `save_pretrained` wrote, or a repository laid out as the published one, whose tokenizer is then
                converted and whose quirks are switched on (`splice_fast_tokens` and `embed_width_inputs` `False`).
            kwargs (`dict`, *optional*): Arguments of `from_pretrained` and of this class, which override the files.

        Returns:
            `LlavaSTProcessor`: The processor.

        Raises:
            `InputError`: When a published checkpoint lacks a size or has sizes that do not fit together.
        """
        hub_kwargs = {key: value for key, value in kwargs.items() if key in _HUB_KEYS and value is not None}
        sizes = read_published_sizes(pretrained_model_name_or_path, **hub_kwargs)
        if sizes is None:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        arguments = load_published_arguments(pretrained_model_name_or_path, sizes, **hub_kwargs)
        given = {key: value for key, value in kwargs.items() if key in cls._get_size_arguments()}
        processor = cls(**{**arguments, **given})
        processor.tokenizer.chat_template = processor.chat_template
        return processor

    @classmethod
    def _get_size_arguments(cls) -> list[str]:
        """Return the names of the arguments of `__init__` that are no sub-processors."""
        code = cls.__init__.__code__
        return [name for name in code.co_varnames[1 : code.co_argcount] if name not in cls.get_attributes()]

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        """Check the class of a sub-processor."""
        # Without torchvision transformers cannot name the class of a video processor (5.23: AttributeError).
        if argument_name != "video_processor":
            return super().check_argument_for_proper_class(argument_name, argument)
        if not isinstance(argument, VideoProcessorMixin):
            raise TypeError(f"video_processor is a {type(argument).__name__}: give a LlavaSTVideoProcessor.")
        return VideoProcessorMixin

    @property
    def model_input_names(self) -> list[str]:
        """Names of what the model may be given."""
        names = [*super().model_input_names, "coordinate_offsets", "video_num_frames"]
        return list(dict.fromkeys(names))

    def _count_image_tokens(self, height: int, width: int) -> int:
        return (height // self.patch_size) * (width // self.patch_size)

    def _count_video_tokens(self, num_frames: int, height: int, width: int) -> tuple[int, int]:
        """Return the numbers of fast and of slow tokens of a clip whose frames were resized to `height` x `width`."""
        slow_cells = fast_cells = 1
        for side in (height // self.patch_size, width // self.patch_size):
            slow_side = math.ceil(side / self.spatial_stride)
            slow_cells *= slow_side
            fast_cells *= math.ceil(slow_side / self.fast_spatial_stride)
        return num_frames * fast_cells, math.ceil(num_frames / self.temporal_stride) * slow_cells

    def replace_image_token(self, image_inputs: Mapping[str, Any], image_idx: int, **kwargs) -> str:
        """Return what the placeholder of one image becomes: a token per patch."""
        return self.image_token * self._count_image_tokens(*image_inputs["pixel_values"][image_idx].shape[-2:])

    def replace_video_token(self, video_inputs: Mapping[str, Any], video_idx: int, **kwargs) -> str:
        """Return what the placeholder of one video becomes: its fast tokens, then its slow ones."""
        frames = video_inputs["pixel_values_videos"][video_idx]  # (frames, 3, height, width)
        num_frames = video_inputs.get("video_num_frames")
        num_frames = len(frames) if num_frames is None else int(num_frames[video_idx])
        num_fast, num_slow = self._count_video_tokens(num_frames, *frames.shape[-2:])
        if self.splice_fast_tokens:
            return self.video_token * (num_fast + num_slow)
        # Parity: the reference overwrites its fast block when it splices the slow one (llava_arch.py:491-501), so
        # these positions keep the embeddings of the raw tokens; published weights expect it.
        start, patch, end = RAW_FAST_TOKENS
        fast = start + patch * (num_fast - 2) + end if num_fast > 1 else start
        return fast + self.video_token * num_slow

    def _get_num_multimodal_tokens(
        self,
        image_sizes: Sequence[Sequence[int]] | None = None,
        video_sizes: Sequence[Sequence[int]] | None = None,
        **kwargs,
    ) -> MultiModalData:
        """
        Compute how many placeholders media need, without processing them.

        Args:
            image_sizes (`Sequence[Sequence[int]]`, *optional*): (height, width) of each image.
            video_sizes (`Sequence[Sequence[int]]`, *optional*): (frames, height, width) of each sampled video.

        Returns:
            `MultiModalData`: Positions that get features. With `splice_fast_tokens=False` a video takes its fast
            tokens in addition.
        """
        data = {}
        if image_sizes is not None:
            size = self.image_processor.size
            num_tokens = self._count_image_tokens(size["height"], size["width"])
            data["num_image_tokens"] = [num_tokens] * len(image_sizes)
            data["num_image_patches"] = [1] * len(image_sizes)
        if video_sizes is not None:
            size = self.video_processor.size
            counts = [self._count_video_tokens(frames, size["height"], size["width"]) for frames, *_ in video_sizes]
            data["num_video_tokens"] = [fast * self.splice_fast_tokens + slow for fast, slow in counts]
        return MultiModalData(**data)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        **kwargs,
    ) -> LlavaSTBatchFeature:
        """
        Process texts with their media.

        Args:
            images (`ImageInput`, *optional*):
                Paths, bytes, PIL images or arrays, as one list or one list per text. The turn a camera noted in the
                file is applied: boxes are in pixels of the image as it is displayed.
            text (`str` or `Sequence[str]`, *optional*): Texts with a placeholder for each medium.
            videos (`VideoInput`, *optional*): Paths, bytes, arrays (frames, height, width, 3) or lists of frames.
            kwargs (`dict`, *optional*):
                Arguments of the tokenizer, the image processor and the video processor (`num_frames`, `fps`,
                `frame_range`, `time_range`, ...). Tensors are padded to the longest text; a text that ends in an
                open turn of the assistant is padded on the left, as generation needs. With `allow_url=True` media,
                images too, may be fetched from the network.

        Returns:
            `LlavaSTBatchFeature`: `input_ids`, `attention_mask` and `coordinate_offsets` (float32) of shape (batch,
            length), `pixel_values` (images, 3, height, width), `pixel_values_videos` (videos, frames, 3, height,
            width), `video_num_frames` (videos,) where videos differ in length; `.media` beside them.

        Raises:
            `PromptError`: For a bad coordinate, a placeholder without medium or the reverse, or too many tokens.
            `MediaError`: For media that cannot be read, or lie on the network without `allow_url`; for a rate (`fps`)
                that means more frames than the context holds; for an option of videos where there is no video.
        """
        if kwargs.pop("audio", None) is not None:  # transformers' chat templates always pass it
            raise InputError("audio is given, which this model does not hear: leave it out.")
        texts = [text] if isinstance(text, str) else list(text) if text is not None else None
        self.validate_inputs(images=images, text=texts, videos=videos)
        merged_kwargs = self._merge_kwargs(tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        text_kwargs = merged_kwargs["text_kwargs"]
        return_tensors = text_kwargs.get("return_tensors")
        # Only the caller may open the network: the merged arguments also hold what was saved with the tokenizer.
        allow_url = bool({**kwargs, **kwargs.get("videos_kwargs", {})}.get("allow_url"))

        if texts is not None:
            merged_kwargs["videos_kwargs"]["max_frames"] = self._check_media_tokens(texts, merged_kwargs)
        video_list = flatten_videos(videos)
        if not video_list:
            _refuse_video_options(kwargs)

        image_list, image_media = load_images(flatten_images(images), allow_url)
        image_inputs, image_replacements = {}, []
        if image_list:
            image_inputs, image_replacements = self._process_images(image_list, **merged_kwargs["images_kwargs"])
        video_inputs, video_replacements, video_media = {}, [], []
        if video_list:
            video_inputs, video_replacements = self._process_videos(
                video_list, **{**merged_kwargs["videos_kwargs"], "allow_url": allow_url}
            )
            video_media = [metadata.to_media_info() for metadata in video_inputs["video_metadata"]]
            if not merged_kwargs["videos_kwargs"].get("return_metadata"):
                video_inputs.pop("video_metadata")

        text_inputs, media = {}, [(*image_media, *video_media)]
        if texts is not None:
            image_iterator = zip(image_replacements, image_media, strict=True)
            video_iterator = zip(video_replacements, video_media, strict=True)
            writer = self._get_writer()
            samples = [writer.write(sample, image_iterator, video_iterator) for sample in texts]
            media = [sample.media for sample in samples]
            for name in ("return_mm_token_type_ids", "return_text_replacement_offsets"):
                text_kwargs.setdefault(name, merged_kwargs.get(name))
            # A way to pad that was saved with the tokenizer is not overruled either.
            saved = {"padding": text_kwargs["padding"]} if "padding" in text_kwargs else {}
            text_kwargs.update(choose_padding(texts, {**saved, **kwargs}, return_tensors))
            text_inputs = self._tokenize(samples, **text_kwargs)
        return LlavaSTBatchFeature(
            {**text_inputs, **image_inputs, **video_inputs},
            tensor_type=return_tensors,
            skip_tensor_conversion=self.skip_tensor_conversion,
            media=media,
            contexts=[GroundingContext()] * len(media),
        )

    def validate_inputs(
        self, images: Any = None, text: str | Sequence[str] | None = None, videos: Any = None, **kwargs
    ) -> None:
        """
        Check that texts and media belong together.

        Raises:
            `PromptError`: When a text has more or fewer placeholders than media are given.
        """
        if text is None and images is None and videos is None:
            raise InputError("text, images and videos are all missing: give at least one of them.")
        if text is None:
            return
        self._get_writer().check_placeholders([text] if isinstance(text, str) else text, images, videos)

    def _get_writer(self) -> PromptWriter:
        return PromptWriter(
            self.image_token,
            self.video_token,
            self.num_temporal_tokens,
            self.num_spatial_tokens,
            self.embed_width_inputs,
        )

    def _check_media_tokens(self, texts: list[str], merged_kwargs: dict[str, Any]) -> int | None:
        """Refuse media that cannot fit, before any is read; return how many frames fit where a rate is to tell."""
        options = merged_kwargs["videos_kwargs"]
        image_size = _get_fixed_size(self.image_processor, merged_kwargs["images_kwargs"])
        video_size = _get_fixed_size(self.video_processor, options)
        num_image_tokens = 0 if image_size is None else self._count_image_tokens(*image_size)
        num_frames = options.get("num_frames", self.video_processor.num_frames if options.get("fps") is None else None)
        if video_size is None or not options.get("do_sample_frames", self.video_processor.do_sample_frames):
            num_frames = None
        listed = isinstance(num_frames, (list, tuple))
        writer, counts, num_videos_before = self._get_writer(), [], 0
        for sample in texts:
            num_images, num_videos = writer.count_placeholders(sample)
            asked = [num_frames] * num_videos
            if listed:
                asked = num_frames[num_videos_before : num_videos_before + num_videos]
            num_videos_before += num_videos
            # What is not known yet, or no number of frames, counts as nothing here: the reader has its say on it.
            known = [int(count) for count in asked if isinstance(count, (int, float)) and 0 < count < 2**31]
            num_video_tokens = sum(sum(self._count_video_tokens(count, *video_size)) for count in known)
            counts.append(num_images * num_image_tokens + num_video_tokens)
        limit = check_media_tokens(counts, self.tokenizer.model_max_length, merged_kwargs["text_kwargs"])
        most = options.get("max_frames")
        if video_size is None:
            return most
        sizes = range(1, min(MAX_SAMPLED_FRAMES, MAX_SAMPLED_FRAMES if most is None else most) + 1)
        return bisect.bisect_right(sizes, limit, key=lambda count: sum(self._count_video_tokens(count, *video_size)))

    def _process_videos(self, videos: list[Any], **kwargs) -> tuple[dict[str, Any], list[str]]:
        """Process clips; unlike the base class this takes paths as `Path` and files as bytes."""
        for video in videos:
            refuse_url(video, kwargs["allow_url"])
        inputs = self.video_processor(videos, **{**kwargs, "return_metadata": True})
        return inputs, [self.replace_video_token(inputs, index) for index in range(len(videos))]

    def _tokenize(
        self,
        samples: list[WrittenSample],
        return_mm_token_type_ids: bool | None = None,
        return_text_replacement_offsets: bool | None = None,
        **text_kwargs,
    ) -> dict[str, Any]:
        """Tokenize written samples and lay their coordinate offsets beside the ids."""
        # Not verbose: `check_lengths` says that a text is too long, better than the tokenizer's warning would.
        text_kwargs = {"verbose": False, **text_kwargs}
        inputs = dict(self.tokenizer([sample.text for sample in samples], **text_kwargs))
        rows = [np.asarray(row) for row in inputs["input_ids"]]
        masks = inputs.get("attention_mask", [np.ones(len(row)) for row in rows])
        media_tokens = [self.image_token, self.video_token, *(() if self.splice_fast_tokens else RAW_FAST_TOKENS)]
        media_token_ids = self.tokenizer.convert_tokens_to_ids(media_tokens)
        check_lengths(rows, masks, samples, media_token_ids, self.tokenizer.model_max_length, text_kwargs)
        num_tokens = self.num_temporal_tokens + 2 * self.num_spatial_tokens
        offsets = place_offsets(
            rows, samples, self.coordinate_token_offset, num_tokens, self.tokenizer.truncation_side
        )
        if text_kwargs.get("return_tensors") is None:
            offsets = [values.tolist() for values in offsets]
        inputs["coordinate_offsets"] = offsets
        if return_text_replacement_offsets:
            inputs["text_replacement_offsets"] = [sample.replacements for sample in samples]
        if return_mm_token_type_ids:
            inputs["mm_token_type_ids"] = self.create_mm_token_type_ids(inputs["input_ids"])
        return inputs

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
                A video's block may have `num_frames`, `fps`, `frame_range` or `time_range` of its own.
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
        processor_kwargs = dict(processor_kwargs or {})  # the base class writes into it
        # A rate of the call takes the place of the processor's own.
        default = {"num_frames": self.video_processor.num_frames, "fps": self.video_processor.fps}
        defaults = {**({} if set(default) & set(processor_kwargs) else default), **processor_kwargs}
        processor_kwargs.update(read_requests(conversations, defaults))
        output = super().apply_chat_template(
            conversation, chat_template=chat_template, processor_kwargs=processor_kwargs, **kwargs
        )
        if isinstance(output, LlavaSTBatchFeature):
            output.contexts = [read_context(messages) for messages in conversations]
        return output

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
        Write the chat messages of one of the 15 tasks in the wording that the model was trained with.

        Args:
            task (`str`): Name of the task, see `TASKS`.
            video (`VideoInput`, *optional*): The clip, for tasks about a video.
            image (`ImageInput`, *optional*): The image, for tasks about an image.
            query (`str`, *optional*):
                The event, the object or the question. It may hold coordinates of its own (`<t=3.5s>`). In `stvg` and
                `svg` a query with a question mark is taken as the whole question.
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
        if query is not None:
            check_query(query, self.tokenizer, (self.image_token, self.video_token))
        start_units = None if start_seconds is None else [start_seconds]
        start_parts = None if start_fraction is None else [start_fraction]
        prompt = chosen.write_prompt(
            variant,
            query=query,
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
                **write_context(context),
            }
        ]

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
        text = super().apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        images = [info for info in media if info.media_type == "image"]
        videos = [info for info in media if info.media_type == "video"]
        for token, known in ((self.image_token, images), (self.video_token, videos)):
            if text.count(token) != len(known):
                raise PromptError(
                    f"the messages have {text.count(token)} {token} placeholders, the inputs {len(known)}: ask "
                    "about the same media, and do not type a placeholder inside a question."
                )
        writer = self._get_writer()
        sample = writer.write(
            text,
            iter([(self.replace_image_token(inputs, index), info) for index, info in enumerate(images)]),
            iter([(self.replace_video_token(inputs, index), info) for index, info in enumerate(videos)]),
        )
        return LlavaSTBatchFeature(
            self._tokenize([sample], return_tensors="pt"),
            tensor_type="pt",
            media=[sample.media],
            contexts=[read_context(messages)],
        )

    @cached_property
    def grammar_vocabulary(self) -> GrammarVocabulary:
        """Token ids that the grammars of answers speak of; reading them from a large tokenizer takes a second."""
        return GrammarVocabulary(
            self.tokenizer, self.coordinate_token_offset, self.num_temporal_tokens, self.num_spatial_tokens
        )

    def build_constraints(
        self,
        inputs: LlavaSTBatchFeature,
        max_new_tokens: int = 1024,
        task: str | None = None,
        every_frame: bool = False,
        num_beams: int = 1,
        streamer: Any = None,
        start_seconds: float | None = None,
        media_index: int = -1,
    ) -> dict[str, Any]:
        """
        Make the arguments with which `generate` gives answers that parse without a problem.

        Args:
            inputs (`LlavaSTBatchFeature`): What the processor returned for the questions.
            max_new_tokens (`int`, *optional*, defaults to 1024): The answers are complete within so many tokens.
            task (`str`, *optional*): Name of the task, for messages that were not made by `build_messages`.
            every_frame (`bool`, *optional*, defaults to `False`):
                Whether a tube has one box for every sampled frame of its span.
            num_beams (`int`, *optional*, defaults to 1): Beams, which `generate` must then be told here.
            streamer (`BaseStreamer`, *optional*): A streamer, which `generate` must then be told here.
            start_seconds (`float`, *optional*): The start time of the prompt, as for `post_process_grounding`.
            media_index (`int`, *optional*, defaults to -1): Which medium the answer is about, likewise.

        Returns:
            `dict`: Arguments for `model.generate(**inputs, **constraints)`.

        Raises:
            `PromptError`: For a sample whose task is not known, or when `max_new_tokens` is too small for an answer.
            `InputError`: For inputs that are not the processor's, with tensors.

        Example:

        ```python
        >>> constraints = processor.build_constraints(inputs, max_new_tokens=256)
        >>> outputs = model.generate(**inputs, **constraints)
        ```
        """
        if not hasattr(inputs, "contexts") or not hasattr(inputs.get("input_ids"), "shape"):
            raise InputError(
                f"inputs is a {type(inputs).__name__} without media or tensors: pass what the processor returned "
                "itself, made with return_tensors='pt'."
            )
        if not isinstance(max_new_tokens, int):
            raise PromptError(f"max_new_tokens is {max_new_tokens!r}: give a whole number.", field="max_new_tokens")
        grammars = []
        for sample, context in enumerate(inputs.contexts):
            if start_seconds is not None:
                context = replace(context, start_seconds=start_seconds)
            name = task if task is not None else context.task
            if name is None:
                raise PromptError(f"the task of sample {sample} is not known: give task, or use build_messages.")
            medium = inputs.media[sample][media_index] if inputs.media[sample] else None
            limits = find_time_limits(context, medium, self.num_temporal_tokens, every_frame)
            answer_format = get_task(name).answer_format
            grammars.append(AnswerGrammar(self.grammar_vocabulary, answer_format, max_new_tokens, limits))
        return make_generate_arguments(grammars, inputs["input_ids"].shape[1], max_new_tokens, num_beams, streamer)

    def post_process_grounding(
        self,
        outputs: Any,
        inputs: LlavaSTBatchFeature,
        task: str | None = None,
        query: str | None = None,
        start_seconds: float | None = None,
        media_index: int = -1,
    ) -> list[GroundingResult]:
        """
        Read the answers of the model in seconds and pixels.

        Args:
            outputs (`torch.Tensor`, `np.ndarray`, `Sequence` or `GenerateOutput`):
                What `generate` returned, with or without the prompt in front, or the answers as text. With
                `return_dict_in_generate=True` (and without `build_constraints`, `output_scores=True`) coordinates are
                refined below their bins, by the probabilities of the winning bin and its better neighbour, and get a
                confidence.
            inputs (`LlavaSTBatchFeature`): What the processor returned for these prompts.
            task (`str`, *optional*): Name of the task, for messages that were not made by `build_messages`.
            query (`str`, *optional*): The query, likewise.
            start_seconds (`float`, *optional*): The start time that the prompt gave, likewise.
            media_index (`int`, *optional*, defaults to -1):
                Which medium of a sample the answer is about: the last one, which is nearest to the answer.

        Returns:
            `list[GroundingResult]`: One for each row of `outputs`. Several rows per sample
            (`num_return_sequences`) stand beside each other.

        Raises:
            `InputError`: When inputs and outputs do not belong together.
            `PromptError`: For an unknown task.
        """
        if not hasattr(inputs, "media"):
            raise InputError(
                f"inputs is a {type(inputs).__name__} without media: pass what the processor returned itself."
            )
        texts, refinements = read_generated(
            outputs,
            inputs.get("input_ids"),
            self.tokenizer,
            self.coordinate_token_offset,
            self.num_temporal_tokens,
            self.num_spatial_tokens,
        )
        if not inputs.media or len(texts) % len(inputs.media):
            raise InputError(
                f"outputs has {len(texts)} rows and inputs {len(inputs.media)} samples: pass the inputs that these "
                "outputs were generated from."
            )
        given = {"task": task, "query": query, "start_seconds": start_seconds}
        given = {name: value for name, value in given.items() if value is not None}
        contexts = inputs.contexts or [GroundingContext()] * len(inputs.media)
        return read_answers(
            texts,
            refinements,
            inputs.media,
            [replace(context, **given) for context in contexts],
            media_index,
            self.num_temporal_tokens,
            self.num_spatial_tokens,
        )


def _refuse_video_options(kwargs: Mapping[str, Any]) -> None:
    """Raise `MediaError` for an option that chooses frames, where a call has no video to choose them from."""
    given = {**(kwargs.get("videos_kwargs") or {}), **kwargs}
    for name in REQUEST_FIELDS:
        if given.get(name) is not None:
            raise MediaError(
                f"{name} is {given[name]!r}, but there is no video: leave it out or give a video.", field=name
            )


def _get_fixed_size(processor: Any, kwargs: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return height and width that a processor resizes everything to, `None` where a call has its own way."""
    if kwargs.get("size") is not None or not kwargs.get("do_resize", processor.do_resize):
        return None
    size = dict(processor.size)
    return (size["height"], size["width"]) if "height" in size and "width" in size else None


def _read_default_chat_template() -> str | None:
    """Return the chat template that lies beside this file, `None` where only the code travelled."""
    path = Path(__file__).with_name(CHAT_TEMPLATE_FILE)
    return path.read_text(encoding="utf-8") if path.is_file() else None


__all__ = ["LlavaSTProcessor"]
