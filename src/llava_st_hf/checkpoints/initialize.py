"""Makes a LLaVA-ST that is not trained yet from a LLaVA-OneVision of transformers, in bounded memory.

Vision tower, projector, language model and head are carried over byte by byte; the packer and the coordinate tables
are new, initialised as published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerBase,
)
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from ..hub.cards import render_model_card
from ..modeling import LlavaSTConfig, LlavaSTForConditionalGeneration
from ..processing import InputError, LlavaSTProcessor, add_coordinate_tokens, add_media_tokens
from ..utils.checked_settings import input_errors
from ..utils.sizes import parse_size
from .reading import LazyTensor, get_local_directory, list_tensors, name_source, read_config
from .writing import PlannedCheckpoint, WrittenCheckpoint, check_tensors

BASE_MODEL_TYPE = "llava_onevision"
# Ends the rows of a tiled image in LLaVA-OneVision; LLaVA-ST tiles nothing.
_UNUSED_BASE_TENSOR = "model.image_newline"


def initialize_checkpoint(
    base: str | Path,
    destination: str | Path,
    seed: int = 0,
    packer_hidden_size: int = 1024,
    num_temporal_tokens: int = 100,
    num_spatial_tokens: int = 100,
    max_shard_size: str = "2GB",
    quiet: bool = False,
) -> WrittenCheckpoint:
    """
    Make a checkpoint of LLaVA-ST from one of LLaVA-OneVision: model, tokenizer, processor, generation config, card.

    Args:
        base (`str` or `Path`): Directory in the layout of transformers, or its repository on the Hub.
        destination (`str` or `Path`):
            Folder to write. It must not exist, be empty, or hold what an interrupted run of the same work left.
        seed (`int`, *optional*, defaults to 0): Seed of the new weights.
        packer_hidden_size (`int`, *optional*, defaults to 1024): Width of the packer's attention.
        num_temporal_tokens (`int`, *optional*, defaults to 100): Time tokens.
        num_spatial_tokens (`int`, *optional*, defaults to 100): Height tokens, and as many width tokens.
        max_shard_size (`str`, *optional*, defaults to `"2GB"`): Size of an output file.
        quiet (`bool`, *optional*, defaults to `False`): Whether to show no progress.

    Returns:
        `WrittenCheckpoint`: The folder, and what was left out of the base.

    Raises:
        `InputError`: When the base is no LLaVA-OneVision that LLaVA-ST can start from, a file of it is missing,
            damaged or a pickle, a tensor does not fit, or the destination is taken. Nothing is written then.

    Example:

    ```python
    >>> initialize_checkpoint("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "llava-st-0.5b-stage0").path
    PosixPath('llava-st-0.5b-stage0')
    ```
    """
    max_shard_bytes = parse_size(max_shard_size)
    directory = get_local_directory(base)
    base_config = _read_base_config(directory)
    stored = list_tensors(directory)
    tokenizer = _load_tokenizer(directory)
    with input_errors():
        config = _make_config(base_config, tokenizer, packer_hidden_size, num_temporal_tokens, num_spatial_tokens)
    with torch.device("meta"):
        model = LlavaSTForConditionalGeneration(config)
    carried, origins, left_out = _plan_carried_tensors(stored, base_config)
    tensors = check_tensors([*carried, *_plan_new_tensors(model, carried, seed)], model, origins)
    options = {
        "command": "init",
        "seed": seed,
        "packer_hidden_size": packer_hidden_size,
        "num_temporal_tokens": num_temporal_tokens,
        "num_spatial_tokens": num_spatial_tokens,
    }
    card = render_model_card("untrained", source=name_source(base), seed=seed)
    processor = LlavaSTProcessor.from_config(config, tokenizer)
    planned = PlannedCheckpoint(directory, options, model, tensors, processor, card)
    planned.write(destination, max_shard_bytes, quiet)
    return WrittenCheckpoint(Path(destination), left_out)


def _read_base_config(directory: Path) -> LlavaOnevisionConfig:
    config_dict = read_config(directory)
    if config_dict.get("model_type") != BASE_MODEL_TYPE:
        raise InputError(
            f"model_type is {config_dict.get('model_type')!r} in config.json of {directory}: give a LLaVA-OneVision "
            f"in the layout of transformers (model_type {BASE_MODEL_TYPE!r}), such as "
            "llava-hf/llava-onevision-qwen2-0.5b-ov-hf."
        )
    with input_errors():
        config = LlavaOnevisionConfig.from_dict(config_dict)
    required = {
        "vision_config.model_type": (config.vision_config.model_type, "siglip_vision_model"),
        "text_config.model_type": (config.text_config.model_type, "qwen2"),
        "vision_feature_select_strategy": (config.vision_feature_select_strategy, "full"),
        "multimodal_projector_bias": (config.multimodal_projector_bias, True),
    }
    for field, (value, only) in required.items():
        if value != only:
            raise InputError(
                f"{field} is {value!r} in config.json of {directory}: LLaVA-ST starts from {only!r} only."
            )
    if not isinstance(config.vision_feature_layer, int):
        raise InputError(
            f"vision_feature_layer is {config.vision_feature_layer} in config.json of {directory}: LLaVA-ST reads one "
            "layer only, give a base that does."
        )
    return config


def _load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    with input_errors(f"the tokenizer of {directory} cannot be read ({{}}): put its files there."):
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=False)


def _make_config(
    base: LlavaOnevisionConfig,
    tokenizer: PreTrainedTokenizerBase,
    packer_hidden_size: int,
    num_temporal_tokens: int,
    num_spatial_tokens: int,
) -> LlavaSTConfig:
    """Add the tokens that LLaVA-ST needs to the tokenizer, and return the config that fits both."""
    add_media_tokens(tokenizer)
    # The embedding has more rows than the tokenizer has tokens (152,000 and more of 151,648). Those rows were never
    # trained and stay as they are: ids from here on are coordinates, which have tables of their own.
    offset = add_coordinate_tokens(tokenizer, num_temporal_tokens, num_spatial_tokens).offset
    if offset > base.text_config.vocab_size:
        raise InputError(
            f"the tokenizer has {offset} tokens, <image> and <video> included, and text_config.vocab_size is "
            f"{base.text_config.vocab_size}: give the tokenizer of this base."
        )
    ids = {name: getattr(base, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return LlavaSTConfig(
        vision_config=base.vision_config.to_dict(),
        text_config=base.text_config.to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        coordinate_token_offset=offset,
        num_temporal_tokens=num_temporal_tokens,
        num_spatial_tokens=num_spatial_tokens,
        packer_hidden_size=packer_hidden_size,
        projector_hidden_act=base.projector_hidden_act,
        vision_feature_layer=base.vision_feature_layer,
        tie_word_embeddings=base.tie_word_embeddings,
        dtype=base.dtype,
        **ids,
    )


def _plan_carried_tensors(
    stored: Mapping[str, LazyTensor], base_config: LlavaOnevisionConfig
) -> tuple[list[LazyTensor], dict[str, str], tuple[str, ...]]:
    """Return what is copied, what it was called, and what is left out. Old and new names of transformers are read."""
    with torch.device("meta"):
        base_model = LlavaOnevisionForConditionalGeneration(base_config)
    mapping = get_model_conversion_mapping(base_model)
    renamings = [rule for rule in mapping if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in mapping if isinstance(rule, WeightConverter)]
    state = base_model.state_dict()
    carried, origins, left_out = [], {}, []
    for name, tensor in stored.items():
        new_name, _ = rename_source_key(name, renamings, converters, base_model.base_model_prefix, state)
        if new_name not in state and name in state:
            new_name = name
        if new_name == _UNUSED_BASE_TENSOR:
            left_out.append(name)
            continue
        carried.append(replace(tensor, name=new_name))
        origins[new_name] = name
    return carried, origins, tuple(left_out)


def _plan_new_tensors(
    model: LlavaSTForConditionalGeneration, carried: Sequence[LazyTensor], seed: int
) -> list[LazyTensor]:
    """Initialise the packer and the coordinate tables, the same at every call, in the precision of the projector."""
    dtypes = {tensor.meta.dtype for tensor in carried if tensor.name.startswith("model.multi_modal_projector.")}
    if len(dtypes) != 1:
        raise InputError(f"the projector of the base has the types {sorted(map(str, dtypes))}: give a base with one.")
    dtype, planned = dtypes.pop(), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in ("packer", "coordinate_embeddings"):
            module = getattr(model.model, part).to_empty(device="cpu")
            module.apply(model._init_weights)
            for name, tensor in module.to(dtype).state_dict().items():
                # Bound as a default: the loop goes on to other tensors.
                planned.append(
                    LazyTensor(f"model.{part}.{name}", tensor.to("meta"), lambda open_file, tensor=tensor: tensor)
                )
    return planned
