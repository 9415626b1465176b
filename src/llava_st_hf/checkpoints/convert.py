"""Rewrites a checkpoint in the published layout into this project's, in bounded memory.

The names are those of `published_weight_mapping`, the table that `from_pretrained` reads a published checkpoint with:
what is written here loads to the same weights.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from ..hub.cards import render_model_card
from ..modeling import LlavaSTConfig, LlavaSTForConditionalGeneration
from ..modeling.conversion_llava_st import UNUSED_PUBLISHED_TENSORS, is_published_config, published_weight_mapping
from ..processing import InputError, LlavaSTProcessor
from ..utils.checked_settings import input_errors
from ..utils.sizes import parse_size
from .reading import LazyTensor, OpenFile, get_local_directory, list_tensors, name_source, read_config
from .writing import PlannedCheckpoint, WrittenCheckpoint, check_tensors


def convert_checkpoint(
    source: str | Path, destination: str | Path, max_shard_size: str = "2GB", quiet: bool = False
) -> WrittenCheckpoint:
    """
    Rewrite a checkpoint in the published layout: model, tokenizer, processor, generation config and card.

    Args:
        source (`str` or `Path`): Directory of the published layout, or its repository on the Hub.
        destination (`str` or `Path`):
            Folder to write. It must not exist, be empty, or hold what an interrupted run of the same conversion left.
        max_shard_size (`str`, *optional*, defaults to `"2GB"`): Size of an output file.
        quiet (`bool`, *optional*, defaults to `False`): Whether to show no progress.

    Returns:
        `WrittenCheckpoint`: The folder, and what was left out.

    Raises:
        `InputError`: When the source is not in the published layout, a file of it is missing, damaged or a pickle, a
            tensor is missing, unexpected or of another shape, or the destination is taken. Nothing is written then.

    Example:

    ```python
    >>> convert_checkpoint("LLaVA-ST-Qwen2-7B", "llava-st-7b-hf").path
    PosixPath('llava-st-7b-hf')
    ```
    """
    max_shard_bytes = parse_size(max_shard_size)
    directory = get_local_directory(source)
    _check_layout(directory)
    stored = list_tensors(directory)
    with input_errors():
        config = LlavaSTConfig.from_pretrained(directory, trust_remote_code=False)
    with torch.device("meta"):
        model = LlavaSTForConditionalGeneration(config)
    tensors = plan_published_tensors(stored, model)
    with input_errors():
        processor = LlavaSTProcessor.from_pretrained(directory, trust_remote_code=False)
    card = render_model_card("converted", source=name_source(source))
    planned = PlannedCheckpoint(directory, {"command": "convert"}, model, tensors, processor, card)
    planned.write(destination, max_shard_bytes, quiet)
    left_out = tuple(name for name in UNUSED_PUBLISHED_TENSORS if name in stored)
    return WrittenCheckpoint(Path(destination), left_out)


def _check_layout(directory: Path) -> None:
    config_dict = read_config(directory)
    if is_published_config(config_dict):
        return
    model_type = config_dict.get("model_type")
    fix = {
        LlavaSTConfig.model_type: "it is in this project's layout already, from_pretrained reads it",
        "llava_onevision": "make a LLaVA-ST of it with llava-st init --base",
    }.get(model_type, "give the directory of a published LLaVA-ST")
    raise InputError(
        f"model_type is {model_type!r} and architectures {config_dict.get('architectures')} in config.json of "
        f"{directory}: {fix}."
    )


def plan_published_tensors(
    stored: Mapping[str, LazyTensor], model: LlavaSTForConditionalGeneration
) -> list[LazyTensor]:
    """
    Find for each tensor of a model, best on the meta device, what it is made of in a published checkpoint.

    A tensor that is missing, unexpected or of another shape is an `InputError`.
    """
    mapping = published_weight_mapping("model.")
    renamings = [rule for rule in mapping if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in mapping if isinstance(rule, WeightConverter)]
    planned, origins = [], _published_names(model, mapping)
    collected: dict[int, dict[str, LazyTensor]] = {index: {} for index in range(len(converters))}
    for name, tensor in stored.items():
        new_name, pattern = rename_source_key(name, renamings, converters)
        if name in UNUSED_PUBLISHED_TENSORS:
            continue
        if pattern is None:
            planned.append(replace(tensor, name=new_name))
            origins[new_name] = name
        else:
            index = next(i for i, rule in enumerate(converters) if pattern in rule.source_patterns)
            collected[index][pattern] = tensor
    for index, sources in collected.items():
        converted = _plan_converted(converters[index], sources)
        planned += converted
        described = " + ".join(f"{tensor.name} {list(tensor.meta.shape)}" for tensor in sources.values())
        origins.update({tensor.name: described for tensor in converted})
    return check_tensors(planned, model, origins)


def _published_names(model: LlavaSTForConditionalGeneration, mapping: list) -> dict[str, str]:
    """Return how the tensors of the model are called in a published checkpoint, for messages."""
    reverse = [rule.reverse_transform() for rule in reversed(mapping)]
    renamings = [rule for rule in reverse if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in reverse if isinstance(rule, WeightConverter)]
    return {name: rename_source_key(name, renamings, converters, reverse=True)[0] for name in model.state_dict()}


def _plan_converted(rule: WeightConverter, sources: Mapping[str, LazyTensor]) -> list[LazyTensor]:
    """Plan the tensors that a rule of the table computes from those of the checkpoint."""
    lacking = [pattern for pattern in rule.source_patterns if pattern not in sources]
    if lacking:
        raise InputError(f"the tensor {lacking[0]} is missing: give the whole checkpoint, unchanged.")
    if len({tensor.meta.dtype for tensor in sources.values()}) > 1:
        kinds = ", ".join(f"{tensor.name} {tensor.meta.dtype}" for tensor in sources.values())
        raise InputError(f"tensors that become one have several types ({kinds}): give them one.")
    try:
        metas = _apply(rule, {pattern: tensor.meta for pattern, tensor in sources.items()})
    except RuntimeError as error:  # torch.cat of rows of different widths
        described = ", ".join(f"{tensor.name} {list(tensor.meta.shape)}" for tensor in sources.values())
        raise InputError(
            f"these tensors have shapes that do not fit: {described}; give files of one checkpoint."
        ) from error

    def compute(name: str, open_file: OpenFile) -> torch.Tensor:
        return _apply(rule, {pattern: tensor.load(open_file) for pattern, tensor in sources.items()})[name]

    path = next(iter(sources.values())).path
    return [LazyTensor(name, meta, partial(compute, name), path) for name, meta in metas.items()]


def _apply(rule: WeightConverter, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Run the operations of a rule, as loading does."""
    result = dict(tensors)
    for operation in rule.operations:
        result = operation.convert(result, source_patterns=rule.source_patterns, target_patterns=rule.target_patterns)
    return result
