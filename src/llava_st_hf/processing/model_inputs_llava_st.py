"""The first half of the processor: texts with placeholders, media and coordinates in, tensors for the model out."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.processing_utils import MultiModalData, ProcessorMixin
from transformers.video_processing_utils import VideoProcessorMixin

from .batch_feature_llava_st import GroundingContext, LlavaSTBatchFeature
from .image_loading_llava_st import flatten_images, flatten_videos, load_images, refuse_picture, refuse_url
from .media_llava_st import InputError, MediaInfo
from .prompt_expansion_llava_st import (
    RAW_FAST_TOKENS,
    RAW_WIDTH_TOKEN,
    MediaTokenCounter,
    PromptWriter,
    WrittenSample,
    choose_padding,
)
from .tokenization_llava_st import read_coordinate_vocabulary, require_token
from .video_requests_llava_st import refuse_unknown_arguments, refuse_video_options

CHAT_TEMPLATE_FILE = "chat_template_llava_st.jinja"


class ModelInputsProcessor(ProcessorMixin):
    """
    A processor that makes the model's inputs; its arguments are those of `LlavaSTProcessor`.

    That class says what a placeholder becomes, and adds chat, tasks and answers.
    """

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
        self.coordinates = read_coordinate_vocabulary(tokenizer, num_temporal_tokens, num_spatial_tokens)
        self.coordinate_token_offset = self.coordinates.offset
        self.image_token_id = require_token(tokenizer, image_token, "image_token")
        self.video_token_id = require_token(tokenizer, video_token, "video_token")
        for token in () if splice_fast_tokens else RAW_FAST_TOKENS:
            require_token(tokenizer, token, "splice_fast_tokens=False")
        if not embed_width_inputs:
            require_token(tokenizer, RAW_WIDTH_TOKEN, "embed_width_inputs=False")
        super().__init__(
            image_processor, tokenizer, video_processor, chat_template=chat_template or _read_default_chat_template()
        )

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        """Check the class of a sub-processor."""
        # Without torchvision transformers cannot name the class of a video processor (5.23: AttributeError).
        if argument_name != "video_processor":
            return super().check_argument_for_proper_class(argument_name, argument)
        if not isinstance(argument, VideoProcessorMixin):
            raise TypeError(f"video_processor is a {type(argument).__name__}: give a LlavaSTVideoProcessor.")
        return VideoProcessorMixin

    def check_chat_template(self, source: str) -> None:
        """Raise `InputError` for a chat template of a checkpoint that is not the one of this class."""
        if self.chat_template != _read_default_chat_template():
            raise InputError(
                f"the chat template of {source} is not that of LLaVA-ST, and a template is a program: remove it, "
                "or read it and pass it as chat_template=... (or trust_remote_code=True).",
                field="chat_template",
            )

    @property
    def model_input_names(self) -> list[str]:
        """Names of what the model may be given."""
        names = [*super().model_input_names, "coordinate_offsets", "video_num_frames"]
        return list(dict.fromkeys(names))

    @property
    def media_token_counter(self) -> MediaTokenCounter:
        """Counts the tokens that images and clips take, once they are resized as this processor does."""
        return self._get_counter({}, {})

    def _get_counter(self, images_kwargs: Mapping[str, Any], videos_kwargs: Mapping[str, Any]) -> MediaTokenCounter:
        return MediaTokenCounter(
            self.patch_size,
            self.spatial_stride,
            self.fast_spatial_stride,
            self.temporal_stride,
            _get_fixed_size(self.image_processor, images_kwargs),
            _get_fixed_size(self.video_processor, videos_kwargs),
        )

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
        counter, data = self.media_token_counter, {}
        if image_sizes is not None:
            data["num_image_tokens"] = [counter.count_image()] * len(image_sizes)
            data["num_image_patches"] = [1] * len(image_sizes)
        if video_sizes is not None:
            counts = [counter.count_video(num_frames) for num_frames, *_ in video_sizes]
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
                images too, may be fetched from the network; `file://` addresses may lie in the folders `file_roots`.

        Returns:
            `LlavaSTBatchFeature`: `input_ids`, `attention_mask` and `coordinate_offsets` (float32) of shape (batch,
            length), `pixel_values` (images, 3, height, width), `pixel_values_videos` (videos, frames, 3, height,
            width), `video_num_frames` (videos,) where videos differ in length; `.media` beside them.

        Raises:
            `InputError`: For an argument that is none of these.
            `PromptError`: For a bad coordinate, a placeholder without medium or the reverse, or too many tokens.
            `MediaError`: For media that cannot be read, or lie on the network without `allow_url`; for a rate (`fps`)
                that means more frames than the context holds; for an option of videos where there is no video.
        """
        self._check_arguments(kwargs)
        texts = [text] if isinstance(text, str) else list(text) if text is not None else None
        self.validate_inputs(images=images, text=texts, videos=videos)
        merged_kwargs = self._merge_kwargs(tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        text_kwargs, videos_kwargs = merged_kwargs["text_kwargs"], merged_kwargs["videos_kwargs"]
        return_tensors = text_kwargs.get("return_tensors")
        # Only the caller may open these: the merged arguments also hold what was saved with the tokenizer.
        asked = {**kwargs, **kwargs.get("videos_kwargs", {})}
        allow_url = videos_kwargs["allow_url"] = asked.get("allow_url") or False
        file_roots = videos_kwargs["file_roots"] = asked.get("file_roots")
        if texts is not None:
            videos_kwargs["max_frames"] = self._check_media_tokens(texts, merged_kwargs)
        images, videos = flatten_images(images, file_roots), flatten_videos(videos, file_roots)
        if not videos:
            refuse_video_options(kwargs)
        image_inputs, image_items = self._prepare_images(images, allow_url, merged_kwargs["images_kwargs"])
        video_inputs, video_items = self._prepare_videos(videos, videos_kwargs) if videos else ({}, [])

        text_inputs, media = {}, [tuple(info for _, info in (*image_items, *video_items))]
        if texts is not None:
            writer, image_iterator, video_iterator = self._get_writer(), iter(image_items), iter(video_items)
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

    def _check_arguments(self, kwargs: dict[str, Any]) -> None:
        """Raise `InputError` for an argument beside texts and media that nothing would come of."""
        if kwargs.pop("audio", None) is not None:  # transformers' chat templates always pass it
            raise InputError("audio is given, which this model does not hear: leave it out.")
        kinds = self.valid_processor_kwargs.__annotations__
        known = {name: list(getattr(kind, "__annotations__", ())) for name, kind in kinds.items()}
        refuse_unknown_arguments(kwargs, [*known, "common_kwargs", *itertools.chain(*known.values())])
        for name, names in known.items():
            if isinstance(kwargs.get(name), Mapping):
                refuse_unknown_arguments(kwargs[name], names)

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
            self.tokenizer,
            self.image_token,
            self.video_token,
            self.coordinates,
            self.splice_fast_tokens,
            self.embed_width_inputs,
        )

    def _check_media_tokens(self, texts: list[str], merged_kwargs: dict[str, Any]) -> int | None:
        """Refuse media that cannot fit, before any is read; return how many frames fit where a rate is to tell."""
        options = merged_kwargs["videos_kwargs"]
        counter = self._get_counter(merged_kwargs["images_kwargs"], options)
        num_frames = options.get("num_frames", self.video_processor.num_frames if options.get("fps") is None else None)
        if not options.get("do_sample_frames", self.video_processor.do_sample_frames):
            num_frames = None
        limit = self._get_writer().check_media_tokens(texts, counter, num_frames, merged_kwargs["text_kwargs"])
        given = [] if options.get("max_frames") is None else [options["max_frames"]]
        fitting = [] if counter.video_size is None else [counter.find_most_frames(limit)]
        return min(given + fitting, default=None)

    def _prepare_images(
        self, images: list[Any], allow_url: bool | Mapping, kwargs: dict[str, Any]
    ) -> tuple[Mapping[str, Any], list[tuple[str, MediaInfo]]]:
        """Return the inputs, and for each image what its placeholder becomes and what is known of it."""
        pictures, infos = load_images(images, allow_url)
        if not pictures:
            return {}, []
        inputs, replacements = self._process_images(pictures, **kwargs)
        return inputs, list(zip(replacements, infos, strict=True))

    def _prepare_videos(
        self, videos: list[Any], kwargs: dict[str, Any]
    ) -> tuple[Mapping[str, Any], list[tuple[str, MediaInfo]]]:
        """Return the same for clips; unlike the base class this takes paths as `Path` and files as bytes."""
        for video in videos:
            refuse_url(video, kwargs["allow_url"])
            refuse_picture(video)
        inputs = self.video_processor(videos, **{**kwargs, "return_metadata": True})
        infos = [metadata.to_media_info() for metadata in inputs["video_metadata"]]
        if not kwargs.get("return_metadata"):
            inputs.pop("video_metadata")
        return inputs, [(self.replace_video_token(inputs, index), info) for index, info in enumerate(infos)]

    def _tokenize(
        self,
        samples: list[WrittenSample],
        return_mm_token_type_ids: bool | None = None,
        return_text_replacement_offsets: bool | None = None,
        **text_kwargs,
    ) -> dict[str, Any]:
        inputs = self._get_writer().tokenize(samples, **text_kwargs)
        if return_text_replacement_offsets:
            inputs["text_replacement_offsets"] = [sample.replacements for sample in samples]
        if return_mm_token_type_ids:
            inputs["mm_token_type_ids"] = self.create_mm_token_type_ids(inputs["input_ids"])
        return inputs


def _get_fixed_size(processor: Any, kwargs: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return height and width that a processor resizes everything to, `None` where a call has its own way."""
    if processor is None or kwargs.get("size") is not None or not kwargs.get("do_resize", processor.do_resize):
        return None
    size = dict(processor.size)
    return (size["height"], size["width"]) if "height" in size and "width" in size else None


def _read_default_chat_template() -> str | None:
    """Return the chat template that lies beside this file, `None` where only the code travelled."""
    path = Path(__file__).with_name(CHAT_TEMPLATE_FILE)
    return path.read_text(encoding="utf-8") if path.is_file() else None


__all__ = ["ModelInputsProcessor"]
