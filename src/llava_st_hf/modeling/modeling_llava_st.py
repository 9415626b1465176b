"""LLaVA-ST: SigLIP, a projector, LAPE, the spatial-temporal packer, Qwen2, and a head that also names coordinates."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    BaseModelOutputWithPooling,
    CausalLMOutputWithPast,
)
from transformers.modeling_utils import slice_logits_to_keep
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, torch_compilable_check
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from .configuration_llava_st import LlavaSTConfig
from .conversion_llava_st import register_published_layout
from .coordinates_llava_st import (
    LlavaSTCoordinateEmbeddings,
    interpolate_rows,
    language_aligned_positions,
    measure_coordinate_errors,
    sample_rows,
    soft_label_cross_entropy,
)
from .loss_llava_st import sum_in_chunks
from .packer_llava_st import LlavaSTPacker

# What the library calls keys and values: from 5.24 on `cache`, with the old name still taken.
CACHE_NAME = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"


@dataclass
class LlavaSTModelOutputWithPast(BaseModelOutputWithPast):
    """
    Output of [`LlavaSTModel`].

    Args:
        image_hidden_states (`torch.Tensor` of shape `(image tokens, hidden)`, *optional*):
            What replaced the image placeholders.
        video_hidden_states (`torch.Tensor` of shape `(video tokens, hidden)`, *optional*):
            What replaced the video placeholders.
    """

    image_hidden_states: torch.FloatTensor | None = None
    video_hidden_states: torch.FloatTensor | None = None


@dataclass
class LlavaSTCausalLMOutputWithPast(CausalLMOutputWithPast):
    """
    Output of [`LlavaSTForConditionalGeneration`].

    Args:
        loss (`torch.Tensor` of shape `()`, *optional*): Given with `labels`: mean over the supervised tokens.
        logits (`torch.Tensor` of shape `(batch, positions, total_vocab_size)`, *optional*):
            Scores of text tokens, then of coordinates. `None` with `labels`: there they are never built.
        cache (`Cache`, *optional*): Keys and values of the language model; `past_key_values` before transformers 5.24.
        hidden_states (`tuple[torch.Tensor]`, *optional*): Hidden states of the language model.
        attentions (`tuple[torch.Tensor]`, *optional*): Attention weights of the language model.
        image_hidden_states (`torch.Tensor` of shape `(image tokens, hidden)`, *optional*):
            What replaced the image placeholders.
        video_hidden_states (`torch.Tensor` of shape `(video tokens, hidden)`, *optional*):
            What replaced the video placeholders.
        token_losses (`torch.Tensor` of shape `(supervised tokens,)`, *optional*):
            Given with `output_token_losses`: the loss of each, float32, in the order of the labels, no gradient.
        coordinate_errors (`torch.Tensor` of shape `(supervised tokens,)`, *optional*):
            Given with `output_token_losses`: distance in bins of the likeliest coordinate of the right axis; NaN for
            text.
    """

    image_hidden_states: torch.FloatTensor | None = None
    video_hidden_states: torch.FloatTensor | None = None
    token_losses: torch.FloatTensor | None = None
    coordinate_errors: torch.FloatTensor | None = None


class LlavaSTMultiModalProjector(nn.Module):
    """Linear, activation, Linear from the width of the vision tower to that of the language model."""

    def __init__(self, config: LlavaSTConfig):
        super().__init__()
        self.linear_1 = nn.Linear(config.vision_config.hidden_size, config.text_config.hidden_size)
        self.act = ACT2FN[config.projector_hidden_act]
        self.linear_2 = nn.Linear(config.text_config.hidden_size, config.text_config.hidden_size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Project features: (..., vision width) -> (..., hidden)."""
        return self.linear_2(self.act(self.linear_1(features)))


class LlavaSTPreTrainedModel(PreTrainedModel):
    """What the model with and without a head share: loading, initialisation, capabilities."""

    config: LlavaSTConfig
    base_model_prefix = "model"
    input_modalities = ("image", "video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["LlavaSTCoordinateEmbeddings", "LlavaSTPointToRegionAttention"]
    _skip_keys_device_placement = ["past_key_values", "cache"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    # A release may carry this tensor over from LLaVA-OneVision; nothing here reads it.
    _keys_to_ignore_on_load_unexpected = [r"(^|\.)image_newline$"]

    def __init__(self, config: LlavaSTConfig, *args, **kwargs):
        if config.model_type != LlavaSTConfig.model_type:
            raise ValueError(
                f"config is a {type(config).__name__} (model_type {config.model_type!r}): read it with "
                "LlavaSTConfig.from_pretrained, for the published config.json may bear a name that the Auto classes "
                "take for another model."
            )
        config.validate_architecture()  # what `from_pretrained(..., temporal_stride=...)` was given is set unchecked
        super().__init__(config, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LlavaSTCoordinateEmbeddings):
            # As published: torch's own initialisation of an embedding (input) and of a linear layer (output).
            init.normal_(module.input_table, mean=0.0, std=1.0)
            bound = module.output_table.shape[-1] ** -0.5
            init.uniform_(module.output_table, -bound, bound)

    def resize_token_embeddings(self, *args, **kwargs) -> nn.Embedding:
        """Refuse: the coordinate ids follow the text ids, and would all change their meaning."""
        raise NotImplementedError(
            "the vocabulary of LLaVA-ST cannot be resized: coordinate ids start at "
            f"coordinate_token_offset={self.config.coordinate_token_offset}. Add tokens to the tokenizer of the base "
            "language model before the coordinate tokens are made."
        )

    def save_pretrained(self, *args, **kwargs) -> None:
        """
        Save in this project's layout, never in the published one; see `PreTrainedModel.save_pretrained`.

        The code travels with the weights, see [`LlavaSTConfig.save_pretrained`].
        """
        # transformers would else turn the registered mapping round, to names that it could not read: it does so twice
        # for a model with a head, once for the model and once for the base model in it.
        if kwargs.setdefault("save_original_format", False):
            raise ValueError("save_original_format is True: leave it out, models are saved in this project's layout.")
        super().save_pretrained(*args, **kwargs)


def add_tower_outputs(joined: dict[str, Any], outputs: dict[str, Any], places: torch.Tensor, size: int) -> None:
    """
    Add what the vision tower gave for a few frames to what it gave before.

    Args:
        joined (`dict`): What it gave before, which is changed.
        outputs (`dict`): What it gave now: `last_hidden_state`, and tuples of layers.
        places (`torch.LongTensor` of shape `(frames,)`): Where these frames stand in the joined `last_hidden_state`.
        size (`int`): How many stand there; the others are zeros.
    """
    for name, value in outputs.items():
        if isinstance(value, tuple):
            before = joined.get(name)
            joined[name] = value if before is None else tuple(map(torch.cat, zip(before, value, strict=True)))
            continue
        if name not in joined:  # filled from then on: to join chunks at the end would take twice the memory
            joined[name] = value.new_zeros(size, *value.shape[1:])
        joined[name][places.to(value.device)] = value


class LlavaSTModel(LlavaSTPreTrainedModel):
    """
    LLaVA-ST without its language-model head.

    Example:

    ```python
    >>> from llava_st_hf import LlavaSTModel
    >>> model = LlavaSTModel.from_pretrained("path/to/checkpoint")
    >>> model.get_video_features(pixel_values_videos).pooler_output[0].shape
    torch.Size([2520, 3584])
    ```
    """

    def __init__(self, config: LlavaSTConfig):
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config, trust_remote_code=False)
        self.multi_modal_projector = LlavaSTMultiModalProjector(config)
        self.packer = LlavaSTPacker(config)
        self.coordinate_embeddings = LlavaSTCoordinateEmbeddings(config)
        self.language_model = AutoModel.from_config(config.text_config, trust_remote_code=False)
        self.post_init()
        # Else the first forward pass puts them in place, under a lock, which torch.compile(fullgraph=True) refuses.
        maybe_install_capturing_hooks(self.vision_tower)

    def embed_ids(self, input_ids: torch.LongTensor, coordinate_offsets: torch.Tensor | None) -> torch.Tensor:
        """
        Embed text and coordinate ids.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch, sequence)`): Ids; coordinates may lie between two bins.
            coordinate_offsets (`torch.Tensor` of shape `(batch, sequence)`, *optional*):
                How far each coordinate lies on the way to the next bin, in [0, 1).

        Returns:
            `torch.Tensor` of shape `(batch, sequence, hidden)`.
        """
        input_table, _ = self.coordinate_embeddings()
        is_coordinate = input_ids >= self.config.coordinate_token_offset
        embeds = self.get_input_embeddings()(input_ids.masked_fill(is_coordinate, 0))
        bins = (input_ids - self.config.coordinate_token_offset).clamp(min=0)
        rows = interpolate_rows(input_table.to(embeds.device), bins.to(embeds.device), coordinate_offsets)
        return torch.where(is_coordinate.unsqueeze(-1).to(embeds.device), rows.to(embeds.dtype), embeds)

    def _encode_frames(
        self,
        pixels: torch.Tensor,
        vision_feature_layer: int,
        output_hidden_states: bool | None = None,
        output_last_hidden_state: bool = True,
        **kwargs,
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """
        Encode a few frames, which take their turn because of the memory that they need.

        Returns:
            `tuple[torch.Tensor, dict]`: The projected patches (frames, grid, grid, hidden), and what the vision tower
            gave of what was asked for: `last_hidden_state`, `hidden_states` and `attentions`.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        outputs = self.vision_tower(
            pixels.to(self.vision_tower.dtype),
            return_dict=True,
            # Else only the one that is read here is kept.
            output_hidden_states=True if output_hidden_states else vision_feature_layer,
            **kwargs,
        )
        features = self.multi_modal_projector(outputs.hidden_states[vision_feature_layer])
        asked = {"last_hidden_state": output_last_hidden_state, "hidden_states": output_hidden_states}
        tower = {name: value for name, value in outputs.items() if asked.get(name, name == "attentions")}
        return features.unflatten(1, (self.config.patch_grid_size,) * 2), tower

    def _positions(self) -> tuple[torch.Tensor, torch.Tensor]:
        """LAPE of this model: time (bins, hidden), place (grid, grid, hidden)."""
        embeddings = self.coordinate_embeddings()
        return language_aligned_positions(*embeddings, self.config.axis_sizes, self.config.patch_grid_size)

    @merge_with_config_defaults
    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        vision_feature_layer: int | None = None,
        output_last_hidden_state: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | BaseModelOutputWithPooling:
        """
        Encode images; an image enters the language model unpacked, at time 0 of LAPE.

        Args:
            pixel_values (`torch.Tensor` of shape `(images, channels, height, width)`): Normalised pixels.
            vision_feature_layer (`int`, *optional*): Hidden state to read; the config's by default.
            output_last_hidden_state (`bool`, *optional*, defaults to `True`):
                Whether to return the last state of the vision tower, which is larger than the features.

        Returns:
            `BaseModelOutputWithPooling` whose `pooler_output` holds one tensor (grid * grid, hidden) for each image;
            the rest is what the vision tower gave.
        """
        time, place = self._positions()
        kwargs["output_last_hidden_state"] = output_last_hidden_state
        features, tower = [], {}
        for chunk in pixel_values.split(self.config.vision_chunk_size):
            patches, outputs = self._encode_frames(chunk, vision_feature_layer, **kwargs)
            places = torch.arange(len(features), len(features) + len(chunk))
            add_tower_outputs(tower, outputs, places, len(pixel_values))
            features.extend((patches + (place + time[0]).to(patches)).flatten(1, 2))
        return BaseModelOutputWithPooling(**tower, pooler_output=features)

    @merge_with_config_defaults
    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor,
        video_num_frames: torch.LongTensor | None = None,
        vision_feature_layer: int | None = None,
        output_last_hidden_state: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | BaseModelOutputWithPooling:
        """
        Encode and pack videos of any number of frames.

        Args:
            pixel_values_videos (`torch.Tensor` of shape `(videos, frames, channels, height, width)`):
                Normalised pixels, padded at the end where videos differ in length.
            video_num_frames (`torch.LongTensor` of shape `(videos,)`, *optional*):
                Frames of each video; all of them when left out.
            vision_feature_layer (`int`, *optional*): Hidden state to read; the config's by default.
            output_last_hidden_state (`bool`, *optional*, defaults to `True`):
                Whether to return the last state of the vision tower, which is larger than the features.

        Returns:
            `BaseModelOutputWithPooling` whose `pooler_output` holds one tensor (tokens, hidden) for each video: the
            fast stream (where `config.splice_fast_tokens` is set) followed by the slow one. The rest is what the
            vision tower gave: `last_hidden_state` (videos, frames, patches, vision width), zeros behind a video that
            is shorter; hidden states and attentions of all frames, one video after the other.
        """
        num_videos, max_frames = pixel_values_videos.shape[:2]
        lengths = [max_frames] * num_videos if video_num_frames is None else video_num_frames.tolist()
        # Where each frame stands among all that were given, those of the padding included.
        places = torch.cat([torch.arange(length) + max_frames * video for video, length in enumerate(lengths)])
        frames = pixel_values_videos.flatten(0, 1)
        if len(places) < len(frames):
            frames = frames[places.to(frames.device)]

        time, place = self._positions()
        kwargs["output_last_hidden_state"] = output_last_hidden_state
        frame_times = torch.cat([sample_rows(time, length) for length in lengths])  # (all frames, hidden)
        packed, tower = [], {}
        chunks = (part.split(self.config.vision_chunk_size) for part in (frames, frame_times, places))
        for chunk, chunk_times, chunk_places in zip(*chunks, strict=True):
            patches, outputs = self._encode_frames(chunk, vision_feature_layer, **kwargs)
            add_tower_outputs(tower, outputs, chunk_places, num_videos * max_frames)
            patches = patches + (place + chunk_times[:, None, None]).to(patches)
            packed.append(self.packer.pack_frames(patches))  # (chunk, packed, packed, hidden)
            del patches, outputs  # large, and not needed while the next ones are made
        if "last_hidden_state" in tower:
            tower["last_hidden_state"] = tower["last_hidden_state"].unflatten(0, (num_videos, max_frames))
        return BaseModelOutputWithPooling(
            **tower, pooler_output=[self._pack_streams(video) for video in torch.cat(packed).split(lengths)]
        )

    def _pack_streams(self, frames: torch.Tensor) -> torch.Tensor:
        """Turn the packed frames of a video (frames, packed, packed, hidden) into its tokens (tokens, hidden)."""
        streams = [self.packer.pack_slow(frames).flatten(0, 2)]
        if self.config.splice_fast_tokens:
            # Parity: the reference computes the fast stream and then loses it (it splices the slow one into the
            # embeddings as they were before), so published weights know raw tokens in its place.
            streams.insert(0, self.packer.pack_fast(frames).flatten(0, 2))
        return torch.cat(streams)

    def get_placeholder_mask(
        self,
        token_id: int,
        input_ids: torch.LongTensor | None,
        inputs_embeds: torch.Tensor,
        features: torch.Tensor,
        modality: str,
    ) -> torch.BoolTensor:
        """
        Find the placeholders of a modality, and check that there is one for each feature.

        Returns:
            `torch.BoolTensor` of shape `(batch, sequence, 1)`.
        """
        if input_ids is None:
            placeholder = self.get_input_embeddings()(torch.tensor(token_id, device=inputs_embeds.device))
            mask = (inputs_embeds == placeholder).all(-1)
        else:
            mask = input_ids == token_id
        torch_compilable_check(
            mask.sum() == features.shape[0],
            f"the prompt has {mask.sum()} {modality} placeholders and the {modality} input gives {features.shape[0]} "
            "features: prepare both with the same LlavaSTProcessor, saved with this model.",
        )
        return mask.unsqueeze(-1).to(inputs_embeds.device)

    def _fill_placeholders(
        self, input_ids: torch.LongTensor | None, inputs_embeds: torch.Tensor, features: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Put features (tokens, hidden) of images and videos in the places of their placeholders."""
        for modality in ("image", "video"):
            if modality in features:
                token_id = getattr(self.config, f"{modality}_token_id")
                mask = self.get_placeholder_mask(token_id, input_ids, inputs_embeds, features[modality], modality)
                inputs_embeds = inputs_embeds.masked_scatter(mask, features[modality])
        return inputs_embeds

    @merge_with_config_defaults
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        video_num_frames: torch.LongTensor | None = None,
        coordinate_offsets: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | LlavaSTModelOutputWithPast:
        """
        Run the language model over text, coordinates and media features.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch, sequence)`, *optional*):
                Ids with one placeholder for each feature. Give these or `inputs_embeds`.
            pixel_values (`torch.FloatTensor` of shape `(images, channels, height, width)`, *optional*): Images.
            pixel_values_videos (`torch.FloatTensor` of shape `(videos, frames, channels, height, width)`, *optional*):
                Videos, padded at the end where they differ in length.
            video_num_frames (`torch.LongTensor` of shape `(videos,)`, *optional*): Frames of each video.
            coordinate_offsets (`torch.FloatTensor` of shape `(batch, sequence)`, *optional*):
                How far each coordinate lies on the way to the next bin, in [0, 1); 0 elsewhere.
            attention_mask (`torch.Tensor` of shape `(batch, sequence)`, *optional*): 0 at padding.
            position_ids (`torch.LongTensor` of shape `(batch, sequence)`, *optional*): Positions.
            past_key_values, cache (`Cache`, *optional*): Keys and values computed before, by either name.
            inputs_embeds (`torch.FloatTensor` of shape `(batch, sequence, hidden)`, *optional*): Ready embeddings.
            use_cache (`bool`, *optional*): Whether to return keys and values.
            mm_encoder_outputs (`dict`, *optional*):
                What `get_image_features` ("image") and `get_video_features` ("video") gave, to encode media once.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds.")
        mm_encoder_outputs = mm_encoder_outputs or {}
        if mm_encoder_outputs and (pixel_values is not None or pixel_values_videos is not None):
            raise ValueError("give pixels or mm_encoder_outputs, not both: the media would be encoded twice.")
        if inputs_embeds is None:
            inputs_embeds = self.embed_ids(input_ids, coordinate_offsets)
        encoded = {name: given.pooler_output for name, given in mm_encoder_outputs.items() if given is not None}
        options = {"output_last_hidden_state": False, "return_dict": True}
        if pixel_values is not None:
            encoded["image"] = self.get_image_features(pixel_values, **options).pooler_output
        if pixel_values_videos is not None:
            encoded["video"] = self.get_video_features(pixel_values_videos, video_num_frames, **options).pooler_output
        features = {name: torch.cat(list(tokens)).to(inputs_embeds) for name, tokens in encoded.items()}
        inputs_embeds = self._fill_placeholders(input_ids, inputs_embeds, features)
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            **{CACHE_NAME: past_key_values if cache is None else cache},
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        return LlavaSTModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            **{CACHE_NAME: getattr(outputs, CACHE_NAME)},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=features.get("image"),
            video_hidden_states=features.get("video"),
        )


class LlavaSTForConditionalGeneration(LlavaSTPreTrainedModel, GenerationMixin):
    """
    LLaVA-ST with its head: answers in text, time spans and boxes.

    Example:

    ```python
    >>> import llava_st_hf
    >>> from transformers import AutoModelForImageTextToText, AutoProcessor
    >>> model = AutoModelForImageTextToText.from_pretrained("path/to/checkpoint")
    >>> processor = AutoProcessor.from_pretrained("path/to/checkpoint")
    >>> messages = processor.build_messages("stvg", video="clip.mp4", query="a child in a red hat holds a bat")
    >>> inputs = processor.apply_chat_template(
    ...     messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    ... )
    >>> processor.post_process_grounding(model.generate(**inputs, max_new_tokens=512), inputs)[0].spans
    (Span(start_seconds=3.5, end_seconds=7.25, confidence=None),)
    ```
    """

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: LlavaSTConfig):
        super().__init__(config)
        self.model = LlavaSTModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs) -> tuple | BaseModelOutputWithPooling:
        """Encode images; see [`LlavaSTModel.get_image_features`]."""
        return self.model.get_image_features(pixel_values, **kwargs)

    def get_video_features(self, pixel_values_videos: torch.Tensor, **kwargs) -> tuple | BaseModelOutputWithPooling:
        """Encode and pack videos; see [`LlavaSTModel.get_video_features`]."""
        return self.model.get_video_features(pixel_values_videos, **kwargs)

    def _score(self, hidden: torch.Tensor, output_table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score hidden states (..., hidden): text (..., text tokens) and coordinates (..., coordinates)."""
        text_logits = self.lm_head(hidden)[..., : self.config.coordinate_token_offset]
        coordinate_logits = F.linear(hidden, output_table.to(hidden))
        return text_logits, coordinate_logits.to(text_logits.device)

    @merge_with_config_defaults
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        video_num_frames: torch.LongTensor | None = None,
        coordinate_offsets: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        shift_labels: torch.LongTensor | None = None,
        output_token_losses: bool = False,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | LlavaSTCausalLMOutputWithPast:
        """
        Score the next token, or compute the loss; the other arguments are those of [`LlavaSTModel.forward`].

        Args:
            labels (`torch.LongTensor` of shape `(batch, sequence)`, *optional*):
                Ids to predict, aligned with `input_ids`, -100 where nothing is supervised; a coordinate is its lower
                bin, with its offset in `coordinate_offsets`. With labels no logits are returned.
            logits_to_keep (`int` or `torch.Tensor`, *optional*): The last so many positions (0: all), or these.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*):
                Supervised tokens of the whole optimizer step, by which the sum is divided; of this batch by default.
            shift_labels (`torch.LongTensor` of shape `(batch, sequence)`, *optional*):
                In place of `labels`, for a sequence that is split over devices: the id that follows each position.
            output_token_losses (`bool`, *optional*, defaults to `False`):
                Whether to return the loss and the coordinate error of each supervised token beside their mean.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            pixel_values_videos=pixel_values_videos,
            video_num_frames=video_num_frames,
            coordinate_offsets=coordinate_offsets,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values if cache is None else cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            mm_encoder_outputs=mm_encoder_outputs,
            return_dict=True,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        _, output_table = self.model.coordinate_embeddings()
        if labels is None and shift_labels is None:
            logits = self._score(slice_logits_to_keep(hidden, logits_to_keep), output_table)
            predicted = {"logits": torch.cat(logits, dim=-1)}
        else:
            shift_labels = F.pad(labels[:, 1:], (0, 1), value=-100) if shift_labels is None else shift_labels
            offsets = None if coordinate_offsets is None else F.pad(coordinate_offsets[:, 1:], (0, 1))
            losses = self._compute_loss(hidden, shift_labels, offsets, output_table, num_items_in_batch)
            names = ("loss", "token_losses", "coordinate_errors") if output_token_losses else ("loss",)
            predicted = dict(zip(names, losses, strict=False))
        return LlavaSTCausalLMOutputWithPast(
            **predicted,
            **{CACHE_NAME: getattr(outputs, CACHE_NAME)},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
            video_hidden_states=outputs.video_hidden_states,
        )

    def _compute_loss(
        self,
        hidden: torch.Tensor,
        labels: torch.LongTensor,
        coordinate_offsets: torch.Tensor | None,
        output_table: torch.Tensor,
        num_items_in_batch: int | torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Average the soft-label loss over supervised tokens, a few of them at a time; labels are shifted already.

        The published code adds up the means of the samples instead.

        Returns:
            `tuple[torch.Tensor, torch.Tensor, torch.Tensor]`: The mean; and of each supervised token, without a
            gradient, its loss and its coordinate error.
        """
        labels = labels.to(hidden.device)
        supervised = labels != -100
        hidden, labels = hidden[supervised], labels[supervised]  # (tokens, hidden), (tokens,)
        if coordinate_offsets is not None:
            coordinate_offsets = coordinate_offsets.to(hidden.device)[supervised]

        def compute(hidden, labels, offsets, table):
            text_logits, coordinate_logits = self._score(hidden, table)
            losses = soft_label_cross_entropy(text_logits, coordinate_logits, labels, offsets)
            coordinates = labels - self.config.coordinate_token_offset
            return losses, measure_coordinate_errors(coordinate_logits, coordinates, offsets, self.config.axis_sizes)

        size, parameters = self.config.loss_chunk_size, list(self.lm_head.parameters())
        total, *by_token = sum_in_chunks(compute, size, hidden, labels, coordinate_offsets, output_table, parameters)
        if num_items_in_batch is None:
            num_items_in_batch = hidden.shape[0]
        elif torch.is_tensor(num_items_in_batch):
            num_items_in_batch = num_items_in_batch.to(total.device)
        # Where a whole step supervises nothing, its loss is 0 and not 0 / 0.
        return total / (num_items_in_batch + (num_items_in_batch == 0)), *by_token

    def prepare_inputs_for_generation(
        self, input_ids: torch.LongTensor, coordinate_offsets: torch.Tensor | None = None, **kwargs
    ) -> dict:
        """Prepare the next forward pass; offsets belong to the prompt, generated coordinates have none."""
        model_inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        next_ids = model_inputs.get("input_ids")
        if coordinate_offsets is None or next_ids is None:
            return model_inputs
        start = input_ids.shape[1] - next_ids.shape[1]
        if coordinate_offsets.shape[1] > input_ids.shape[1]:  # a chunk of the prompt, behind those in the cache
            start = kwargs[CACHE_NAME].get_seq_length()
        end = start + next_ids.shape[1]
        offsets = F.pad(coordinate_offsets, (0, max(0, end - coordinate_offsets.shape[1])))
        model_inputs["coordinate_offsets"] = offsets[:, start:end]
        return model_inputs

    def _prepare_multimodal_encoder_kwargs_for_generation(self, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        # What is not read again is not kept for the length of the answer, nor made where it is large.
        options = {"output_last_hidden_state": False, **model_kwargs}
        model_kwargs = super()._prepare_multimodal_encoder_kwargs_for_generation(options)
        model_kwargs["mm_encoder_outputs"] = {
            modality: BaseModelOutputWithPooling(pooler_output=outputs.pooler_output)
            for modality, outputs in model_kwargs["mm_encoder_outputs"].items()
            if outputs is not None
        }
        return model_kwargs

    def _extract_generation_mode_kwargs(self, custom_generate: Any, kwargs: dict[str, Any], *given) -> dict[str, Any]:
        if not callable(custom_generate):
            return super()._extract_generation_mode_kwargs(custom_generate, kwargs, *given)
        # The library keeps streamer, assistant and tokenizers from a loop that is not its own; it gets what it names.
        usual = super()._extract_generation_mode_kwargs(None, dict(kwargs), *given)
        own = super()._extract_generation_mode_kwargs(custom_generate, kwargs, *given)
        names = inspect.signature(custom_generate).parameters
        return {name: value for name, value in (usual | own).items() if name in names}

    def _get_candidate_generator(self, *args, **kwargs):
        generator = super()._get_candidate_generator(*args, **kwargs)
        if getattr(generator, "vocab_size", None) is not None:  # prompt lookup: it may propose coordinates too
            generator.vocab_size = self.config.total_vocab_size
        return generator

    def compute_transition_scores(self, *args, **kwargs) -> torch.Tensor:
        """Score the tokens of generated sequences; see `GenerationMixin.compute_transition_scores`."""
        # The library takes the width of the logits from the text config, which counts no coordinates.
        text_config = self.config.get_text_config()
        vocab_size = text_config.vocab_size
        text_config.vocab_size = self.config.total_vocab_size
        try:
            return super().compute_transition_scores(*args, **kwargs)
        finally:
            text_config.vocab_size = vocab_size


register_published_layout()

__all__ = [
    "LlavaSTCausalLMOutputWithPast",
    "LlavaSTForConditionalGeneration",
    "LlavaSTModel",
    "LlavaSTModelOutputWithPast",
    "LlavaSTPreTrainedModel",
]
