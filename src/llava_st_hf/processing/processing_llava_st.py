"""The processor: media, chat and coordinates in; tensors for the model, and answers in seconds and pixels, out.

Three things go beyond an ordinary processor of transformers:

- a coordinate inside a text (see `coordinate_text_llava_st`) becomes a token and an offset below the token's bin, in
  `coordinate_offsets`, as long as `input_ids`;
- what is known of each image and clip stays with the inputs as `inputs.media`, so that `post_process_grounding` can
  put an answer back onto it;
- two quirks that the released weights were trained with are switches, `splice_fast_tokens` and `embed_width_inputs`.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from transformers import BatchFeature, SiglipImageProcessorPil
from transformers.processing_utils import MultiModalData, ProcessingKwargs, ProcessorMixin
from transformers.video_processing_utils import VideoProcessorMixin

from .coordinate_text_llava_st import (
    COORDINATE_PATTERN,
    InlineCoordinate,
    check_groups,
    check_prompt_coordinates,
    compute_bins,
    compute_fraction,
    format_coordinate_token,
    read_coordinate,
)
from .generated_llava_st import read_generated
from .grounding_llava_st import Box, GroundingResult, Span
from .grounding_parsing_llava_st import parse_answer
from .media_inputs_llava_st import count_per_sample, flatten_images, flatten_videos, load_images, refuse_url
from .media_llava_st import InputError, MediaInfo, PromptError
from .released_llava_st import RELEASED_TEMPORAL_STRIDE, read_released_sizes
from .tasks_llava_st import choose_medium, get_task, write_values
from .tokenization_llava_st import convert_released_tokenizer, count_coordinate_tokens, get_coordinate_token_offset
from .video_processing_llava_st import REQUEST_FIELDS, LlavaSTVideoProcessor, LlavaSTVideoProcessorKwargs

CHAT_TEMPLATE_FILE = "chat_template_llava_st.jinja"
# Key of a chat message under which the question travels to `post_process_grounding`; no template renders it.
GROUNDING_KEY = "grounding"
# Parity: tokens of the published vocabulary that take the place of what the released weights never saw embedded.
RAW_FAST_TOKENS = ("<vid_start>", "<vid_patch>", "<vid_end>")
RAW_WIDTH_TOKEN = "<WIDTH-INPUT>"

# transformers puts this mark before a control token that a user typed (`sanitize_control_tokens=True`).
_UNMARKED = "(?<!\U000f0000)"
_ASSISTANT_TURN = re.compile(
    rf"{_UNMARKED}<\|im_start\|>assistant\n(?P<answer>.*?)(?P<end>{_UNMARKED}<\|im_end\|>|\Z)", re.DOTALL
)
_HUB_KEYS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


class LlavaSTProcessorKwargs(ProcessingKwargs, total=False):
    """Keyword arguments of the processor; those that choose frames may be listed, one for each video."""

    videos_kwargs: LlavaSTVideoProcessorKwargs


@dataclass(frozen=True)
class GroundingContext:
    """
    What was asked, kept beside the inputs until the answer is read.

    Args:
        task (`str`, *optional*): Name of the task.
        query (`str`, *optional*): The event, object or question of the prompt.
        start_seconds (`float`, *optional*): Start of the event where the prompt gave it in seconds.
        start_fraction (`float`, *optional*): The same where the prompt gave it as a fraction of the clip.

    Example:

    ```python
    >>> GroundingContext(task="tvg", query="the dog barks").query
    'the dog barks'
    ```
    """

    task: str | None = None
    query: str | None = None
    start_seconds: float | None = None
    start_fraction: float | None = None


class LlavaSTBatchFeature(BatchFeature):
    """
    The processor's output: a dictionary of tensors for the model, and beside it what is known of the media.

    Only the dictionary reaches `model.generate(**inputs)`; `media` and `contexts` survive `.to(device)`, copying and
    pickling.

    Args:
        data (`dict`, *optional*): The tensors.
        tensor_type (`str`, *optional*): `"pt"` or `"np"`.
        skip_tensor_conversion (`list[str]`, *optional*): Keys to leave as they are.
        media (`Sequence[tuple[MediaInfo, ...]]`, *optional*, defaults to `()`):
            The media of each sample, in the order of their placeholders.
        contexts (`Sequence[GroundingContext]`, *optional*, defaults to `()`): What each sample asks.

    Example:

    ```python
    >>> inputs = LlavaSTBatchFeature({"input_ids": [[1]]}, "pt", media=[(MediaInfo("image", 640, 480),)])
    >>> inputs.media[0][0].width, list(inputs)
    (640, ['input_ids'])
    ```
    """

    def __init__(
        self,
        data: dict[str, Any] | None = None,
        tensor_type: str | None = None,
        skip_tensor_conversion: list[str] | None = None,
        media: Sequence[tuple[MediaInfo, ...]] = (),
        contexts: Sequence[GroundingContext] = (),
    ):
        self.media = list(media)
        self.contexts = list(contexts)
        super().__init__(data, tensor_type, skip_tensor_conversion)

    def to(self, *args, **kwargs) -> "LlavaSTBatchFeature":
        """Move the tensors to a device and floating-point ones to a type; `coordinate_offsets` stays float32."""
        offsets = self.data.get("coordinate_offsets")
        super().to(*args, **kwargs)
        if hasattr(offsets, "device"):  # lists, without return_tensors, stay where they are
            self.data["coordinate_offsets"] = offsets.to(self.data["coordinate_offsets"].device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "media": self.media, "contexts": self.contexts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _WrittenSample(NamedTuple):
    """One text as the tokenizer gets it, with what the text alone no longer says."""

    text: str
    offsets: np.ndarray  # (coordinate tokens,) float32
    media: tuple[MediaInfo, ...]
    num_media_tokens: int
    replacements: list[dict[str, Any]]  # as `text_replacement_offsets` of transformers


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
            Whether fast features are put into the sequence, as in the paper. The released weights want `False`: the
            fast positions are then the raw tokens `<vid_start> <vid_patch>... <vid_end>`.
        embed_width_inputs (`bool`, *optional*, defaults to `True`):
            Whether `<x=..>` in a prompt is embedded like the other axes. The released weights want `False`: it is
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
        self.image_token_id = _require_token(tokenizer, image_token, "image_token")
        self.video_token_id = _require_token(tokenizer, video_token, "video_token")
        for token in () if splice_fast_tokens else RAW_FAST_TOKENS:
            _require_token(tokenizer, token, "splice_fast_tokens=False")
        if not embed_width_inputs:
            _require_token(tokenizer, RAW_WIDTH_TOKEN, "embed_width_inputs=False")
        self._special_pattern = re.compile(
            f"{_UNMARKED}(?:(?P<image>{re.escape(image_token)})|(?P<video>{re.escape(video_token)}))|"
            f"{COORDINATE_PATTERN}"
        )
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
        sizes = read_released_sizes(pretrained_model_name_or_path, **hub_kwargs)
        if sizes is None:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        tokenizer_folder = str(PurePosixPath(hub_kwargs.get("subfolder", ""), sizes.tokenizer_folder))
        tokenizer_kwargs = {**hub_kwargs, "subfolder": tokenizer_folder.removeprefix(".")}
        tokenizer = convert_released_tokenizer(pretrained_model_name_or_path, **tokenizer_kwargs)
        num_temporal_tokens, num_spatial_tokens = count_coordinate_tokens(tokenizer)
        size = {"height": sizes.image_size, "width": sizes.image_size}
        # Parity: the reference can only place as many frames as there are time tokens (llava_arch.py:343).
        processor = cls(
            image_processor=SiglipImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3),
            tokenizer=tokenizer,
            video_processor=LlavaSTVideoProcessor(size=size, num_frames=num_temporal_tokens),
            **{
                "patch_size": sizes.patch_size,
                "spatial_stride": sizes.spatial_stride,
                "fast_spatial_stride": sizes.fast_spatial_stride,
                "temporal_stride": RELEASED_TEMPORAL_STRIDE,
                "num_temporal_tokens": num_temporal_tokens,
                "num_spatial_tokens": num_spatial_tokens,
                "splice_fast_tokens": False,
                "embed_width_inputs": False,
                **{key: value for key, value in kwargs.items() if key in cls._get_size_arguments()},
            },
        )
        tokenizer.chat_template = processor.chat_template
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
        # these positions keep the embeddings of the raw tokens; released weights expect it.
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
        audio: None = None,
        *,
        allow_url: bool = False,
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
            audio (`None`, *optional*): Not supported; for the signature of transformers only.
            allow_url (`bool`, *optional*, defaults to `False`): Whether media may be fetched from the network.
            kwargs (`dict`, *optional*):
                Arguments of the tokenizer, the image processor and the video processor (`num_frames`, `fps`,
                `frame_range`, `time_range`, ...). Tensors are padded to the longest text; a text that ends in an
                open turn of the assistant is padded on the left, as generation needs.

        Returns:
            `LlavaSTBatchFeature`: `input_ids`, `attention_mask` and `coordinate_offsets` (float32) of shape (batch,
            length), `pixel_values` (images, 3, height, width), `pixel_values_videos` (videos, frames, 3, height,
            width), `video_num_frames` (videos,) where videos differ in length; `.media` beside them.

        Raises:
            `PromptError`: For a bad coordinate, a placeholder without medium or the reverse, or too many tokens.
            `MediaError`: For media that cannot be read, or lie on the network without `allow_url`.
        """
        if audio is not None:
            raise InputError("audio is given, which this model does not hear: leave it out.")
        texts = [text] if isinstance(text, str) else list(text) if text is not None else None
        self.validate_inputs(images=images, text=texts, videos=videos)
        merged_kwargs = self._merge_kwargs(tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        text_kwargs = merged_kwargs["text_kwargs"]
        return_tensors = text_kwargs.get("return_tensors")

        image_list, image_media = load_images(flatten_images(images), allow_url)
        image_inputs, image_replacements = {}, []
        if image_list:
            image_inputs, image_replacements = self._process_images(image_list, **merged_kwargs["images_kwargs"])
        video_inputs, video_replacements, video_media = {}, [], []
        if video_list := flatten_videos(videos):
            video_inputs, video_replacements = self._process_videos(
                video_list, allow_url=allow_url, **merged_kwargs["videos_kwargs"]
            )
            video_media = [metadata.to_media_info() for metadata in video_inputs["video_metadata"]]
            if not merged_kwargs["videos_kwargs"].get("return_metadata"):
                video_inputs.pop("video_metadata")

        text_inputs, media = {}, [(*image_media, *video_media)]
        if texts is not None:
            image_iterator = zip(image_replacements, image_media, strict=True)
            video_iterator = zip(video_replacements, video_media, strict=True)
            samples = [self._write_sample(sample, image_iterator, video_iterator) for sample in texts]
            media = [sample.media for sample in samples]
            for name in ("return_mm_token_type_ids", "return_text_replacement_offsets"):
                text_kwargs.setdefault(name, merged_kwargs.get(name))
            text_kwargs.update(self._choose_padding(texts, kwargs, return_tensors))
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
        text = [text] if isinstance(text, str) else text
        if not all(isinstance(sample, str) for sample in text):
            raise PromptError("text holds something that is not a string: give a string or a list of strings.")
        for token, name, media, flatten in (
            (self.image_token, "image", images, flatten_images),
            (self.video_token, "video", videos, flatten_videos),
        ):
            wanted = [len(re.findall(_UNMARKED + re.escape(token), sample)) for sample in text]
            given = count_per_sample(media, len(text), flatten)
            where = "the prompt" if len(text) == 1 else "all prompts together"
            if given is None:
                wanted, given = [sum(wanted)], [len(flatten(media))]
            for index, (num_wanted, num_given) in enumerate(zip(wanted, given, strict=True)):
                if num_wanted != num_given:
                    where = f"prompt {index}" if len(wanted) > 1 else where
                    raise PromptError(
                        f"{where} has {num_wanted} {token} placeholder{'s' * (num_wanted != 1)} but {num_given} "
                        f"{name}{'s' * (num_given != 1)} given: give one {name} for each, and do not type {token} "
                        "inside a question."
                    )

    def _process_videos(self, videos: list[Any], **kwargs) -> tuple[dict[str, Any], list[str]]:
        """Process clips; unlike the base class this takes paths as `Path` and files as bytes."""
        for video in videos:
            refuse_url(video, kwargs["allow_url"])
        inputs = self.video_processor(videos, **{**kwargs, "return_metadata": True})
        return inputs, [self.replace_video_token(inputs, index) for index in range(len(videos))]

    def _choose_padding(self, texts: Sequence[str], kwargs: dict[str, Any], return_tensors: Any) -> dict[str, Any]:
        """Return how to pad where the caller does not say: tensors to the longest, open turns on the left."""
        asked = {**kwargs, **kwargs.get("text_kwargs", {})}
        chosen = {}
        if "padding" not in asked and return_tensors is not None:
            chosen["padding"] = True
        if "padding_side" not in asked and any(_ends_in_open_turn(sample) for sample in texts):
            chosen["padding_side"] = "left"
        return chosen

    def _write_sample(
        self,
        text: str,
        images: Iterator[tuple[str, MediaInfo]],
        videos: Iterator[tuple[str, MediaInfo]],
    ) -> _WrittenSample:
        """Replace placeholders and coordinates of one text; takes its media from the front of the two iterators."""
        matches = list(self._special_pattern.finditer(text))
        media, num_media_tokens, written = [], 0, [""] * len(matches)
        coordinates: list[InlineCoordinate] = []
        preceding, places = [], []
        for place, match in enumerate(matches):
            if match.lastgroup in ("image", "video"):
                written[place], medium = next(images if match.lastgroup == "image" else videos)
                media.append(medium)
                num_media_tokens += written[place].count("<")
            else:
                coordinates.append(read_coordinate(match))
                preceding.append(len(media))
                places.append(place)
        tokens, offsets = self._write_coordinates(text, coordinates, media, preceding)
        for place, token in zip(places, tokens, strict=True):
            written[place] = token
        pieces, replacements, end, length = [], [], 0, 0
        for match, replacement in zip(matches, written, strict=True):
            pieces += [text[end : match.start()], replacement]
            length += match.start() - end
            replacements.append(
                {
                    "type": match.lastgroup if match["axis"] is None else "coordinate",
                    "span": match.span(),
                    "new_span": (length, length + len(replacement)),
                    "text": match.group(),
                    "replacement": replacement,
                }
            )
            length += len(replacement)
            end = match.end()
        pieces.append(text[end:])
        return _WrittenSample("".join(pieces), offsets, tuple(media), num_media_tokens, replacements)

    def _write_coordinates(
        self, text: str, coordinates: list[InlineCoordinate], media: list[MediaInfo], preceding: list[int]
    ) -> tuple[list[str], np.ndarray]:
        """Return the token for each coordinate of a text, and the offsets of those that became coordinate tokens."""
        sizes = {"t": self.num_temporal_tokens, "y": self.num_spatial_tokens, "x": self.num_spatial_tokens}
        fractions = [
            compute_fraction(coordinate, media, sizes[coordinate.axis], count)
            for coordinate, count in zip(coordinates, preceding, strict=True)
        ]
        answers = [match.span("answer") for match in _ASSISTANT_TURN.finditer(text)]
        in_answer = [any(start <= c.start < end for start, end in answers) for c in coordinates]
        # What the assistant says is not the user's to mend: a reversed box of an earlier answer stays as it is.
        asked = [index for index, answered in enumerate(in_answer) if not answered]
        check_groups(text, [coordinates[index] for index in asked], [fractions[index] for index in asked])

        tokens = [""] * len(coordinates)
        offsets = np.zeros(len(coordinates), dtype=np.float32)
        is_token = np.ones(len(coordinates), dtype=bool)
        for axis, size in sizes.items():
            places = [index for index, coordinate in enumerate(coordinates) if coordinate.axis == axis]
            bins, offsets[places] = compute_bins([fractions[index] for index in places], size)
            for index, bin_index in zip(places, bins.tolist(), strict=True):
                tokens[index] = format_coordinate_token(axis, bin_index)
        for index, coordinate in enumerate(coordinates):
            if coordinate.unit == "bin":
                # k / (N - 1) times (N - 1) can miss k by a rounding error.
                tokens[index], offsets[index] = format_coordinate_token(coordinate.axis, int(coordinate.value)), 0
            elif coordinate.axis == "x" and not self.embed_width_inputs and not in_answer[index]:
                # Parity: the reference leaves width inputs raw (llava_arch.py:563); released weights expect it.
                tokens[index], is_token[index] = RAW_WIDTH_TOKEN, False
        return tokens, offsets[is_token]

    def _tokenize(
        self,
        samples: list[_WrittenSample],
        return_mm_token_type_ids: bool | None = None,
        return_text_replacement_offsets: bool | None = None,
        **text_kwargs,
    ) -> dict[str, Any]:
        """Tokenize written samples and lay their coordinate offsets beside the ids."""
        inputs = dict(self.tokenizer([sample.text for sample in samples], **text_kwargs))
        rows = [np.asarray(row) for row in inputs["input_ids"]]
        masks = inputs.get("attention_mask", [np.ones(len(row)) for row in rows])
        media_token_ids = self.tokenizer.convert_tokens_to_ids([self.image_token, self.video_token])
        if not self.splice_fast_tokens:
            media_token_ids += self.tokenizer.convert_tokens_to_ids(list(RAW_FAST_TOKENS))
        truncation = text_kwargs.get("truncation") not in (None, False, "do_not_truncate")
        for index, (row, mask, sample) in enumerate(zip(rows, masks, samples, strict=True)):
            where = f"prompt {index}" if len(samples) > 1 else "the prompt"
            length, limit = int(np.asarray(mask).sum()), self.tokenizer.model_max_length
            if not truncation and length > limit:
                raise PromptError(
                    f"{where} has {length} tokens, {sample.num_media_tokens} of them for media, but the context "
                    f"(model_max_length) holds {limit}: give fewer frames (num_frames), fewer media or a shorter text."
                )
            if truncation and np.isin(row, media_token_ids).sum() < sample.num_media_tokens:
                raise PromptError(
                    f"max_length is {text_kwargs.get('max_length') or limit}, which cuts into the "
                    f"{sample.num_media_tokens} tokens for media of {where}: raise max_length, give fewer frames "
                    "(num_frames) or turn truncation off."
                )
        inputs["coordinate_offsets"] = self._place_offsets(rows, samples, text_kwargs.get("return_tensors"))
        if return_text_replacement_offsets:
            inputs["text_replacement_offsets"] = [sample.replacements for sample in samples]
        if return_mm_token_type_ids:
            inputs["mm_token_type_ids"] = self.create_mm_token_type_ids(inputs["input_ids"])
        return inputs

    def _place_offsets(self, rows: list[np.ndarray], samples: list[_WrittenSample], return_tensors: Any) -> list:
        """Return an offset for each id of each row: that of a coordinate token, 0 for any other."""
        num_tokens = self.num_temporal_tokens + 2 * self.num_spatial_tokens
        placed = []
        for row, sample in zip(rows, samples, strict=True):
            first = self.coordinate_token_offset
            is_coordinate = (row >= first) & (row < first + num_tokens)
            # Coordinate tokens stand in the ids in the order of the text; truncation drops the last, or the first.
            count = int(is_coordinate.sum())
            kept = sample.offsets[-count:] if self.tokenizer.truncation_side == "left" else sample.offsets[:count]
            values = np.zeros(len(row), dtype=np.float32)
            values[is_coordinate] = kept if count else 0
            placed.append(values)
        return placed if return_tensors is not None else [values.tolist() for values in placed]

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
        processor_kwargs.update(_read_requests(conversations, defaults))
        output = super().apply_chat_template(
            conversation, chat_template=chat_template, processor_kwargs=processor_kwargs, **kwargs
        )
        if isinstance(output, LlavaSTBatchFeature):
            output.contexts = [_read_context(messages) for messages in conversations]
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
            self._check_query(query)
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
        context = GroundingContext(chosen.name, query, start_seconds, start_fraction)
        return [
            {
                "role": "user",
                "content": [{"type": media_type, media_type: medium}, {"type": "text", "text": prompt}],
                GROUNDING_KEY: {key: value for key, value in asdict(context).items() if value is not None},
            }
        ]

    def _check_query(self, query: str) -> None:
        """Raise `PromptError` where a query holds a token that steers the model."""
        special = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        for token in sorted(special | {"<|im_start|>", "<|im_end|>", self.image_token, self.video_token}):
            if token in query:
                raise PromptError(f"query holds the control token {token}: leave it out, media have arguments.")

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
                `return_dict_in_generate=True, output_scores=True` coordinates are refined below their bins, by the
                probabilities of the winning bin and its better neighbour, and get a confidence.
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
        rows_per_sample = len(texts) // len(inputs.media)
        contexts = inputs.contexts or [GroundingContext()] * len(inputs.media)
        results = []
        for row, (text, refinement) in enumerate(zip(texts, refinements, strict=True)):
            sample = row // rows_per_sample
            context = contexts[sample]
            name = task if task is not None else context.task
            answer_format = None if name is None else get_task(name).answer_format
            asked = query if query is not None else context.query
            if not inputs.media[sample]:
                results.append(GroundingResult(text=text, task=name, query=asked))
                continue
            medium = inputs.media[sample][media_index]
            start = start_seconds if start_seconds is not None else context.start_seconds
            if start is None and context.start_fraction is not None:
                start = medium.seconds_at(context.start_fraction)
            results.append(
                parse_answer(
                    text,
                    medium,
                    answer_format=answer_format,
                    num_temporal_tokens=self.num_temporal_tokens,
                    num_spatial_tokens=self.num_spatial_tokens,
                    start_seconds=start,
                    task=name,
                    query=asked,
                    refinements=refinement,
                )
            )
        return results


def _require_token(tokenizer: Any, token: str, argument: str) -> int:
    """Return the id of a token that an argument of the processor relies on."""
    token_id = tokenizer.convert_tokens_to_ids(token)
    if token_id is None or token_id == tokenizer.unk_token_id:
        raise InputError(f"{argument} needs the token {token}, which the tokenizer lacks: add it to the tokenizer.")
    return token_id


def _read_default_chat_template() -> str | None:
    """Return the chat template that lies beside this file, `None` where only the code travelled."""
    path = Path(__file__).with_name(CHAT_TEMPLATE_FILE)
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _ends_in_open_turn(text: str) -> bool:
    """Return whether a text ends inside a turn of the assistant, for the model to go on."""
    turns = list(_ASSISTANT_TURN.finditer(text))
    return bool(turns) and not turns[-1]["end"]


def _read_requests(conversations: Sequence[Any], defaults: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return which frames the blocks of videos ask for, listed for each video, where any of them does."""
    blocks = [
        block
        for messages in conversations
        for message in messages
        if not isinstance(message.get("content"), (str, type(None)))
        for block in message["content"]
        if block.get("type") == "video"
    ]
    listed = {
        name: [defaults.get(name) if block.get(name) is None else block[name] for block in blocks]
        for name in REQUEST_FIELDS
        if any(block.get(name) is not None for block in blocks)
    }
    # One video's number of frames must not take the other videos' default from them, nor meet its own rate.
    if "num_frames" in listed or "fps" in listed:
        for name, other in (("num_frames", "fps"), ("fps", "num_frames")):
            listed[name] = [
                block.get(name) if block.get(name) is not None or block.get(other) is not None else defaults.get(name)
                for block in blocks
            ]
    return listed


def _read_context(messages: Sequence[Mapping[str, Any]]) -> GroundingContext:
    """Return what `build_messages` noted in the last message that has a note."""
    notes = [message[GROUNDING_KEY] for message in messages if message.get(GROUNDING_KEY)]
    known = {field.name for field in fields(GroundingContext)}
    return GroundingContext(**{key: value for key, value in notes[-1].items() if key in known} if notes else {})


__all__ = ["GroundingContext", "LlavaSTBatchFeature", "LlavaSTProcessor"]
