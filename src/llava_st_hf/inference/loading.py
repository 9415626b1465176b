"""Loads what a stage starts from: a checkpoint, or the adapter of the stage before, merged into its base."""

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from ..modeling.configuration_llava_st import LlavaSTConfig
from ..modeling.modeling_llava_st import LlavaSTForConditionalGeneration
from ..processing.media_llava_st import InputError
from ..processing.processing_llava_st import LlavaSTProcessor

_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_MAX_NAMES = 5


def load_model(
    name_or_path: str | Path,
    dtype: str | torch.dtype = "auto",
    attn_implementation: str | None = None,
    revision: str | None = None,
) -> LlavaSTForConditionalGeneration:
    """
    Load a checkpoint, and check that every weight of the model was in it.

    Args:
        name_or_path (`str` or `Path`): A directory, or a repository on the Hub. An adapter is merged into its base.
        dtype (`str` or `torch.dtype`, *optional*, defaults to `"auto"`): Precision of the weights.
        attn_implementation (`str`, *optional*): Attention, see `from_pretrained`.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Returns:
        `LlavaSTForConditionalGeneration`: An ordinary model.

    Raises:
        `InputError`: If weights are missing, or there are some that the model has no place for.
    """
    adapter = get_adapter_folder(name_or_path)
    options = {"dtype": dtype, "attn_implementation": attn_implementation}
    if adapter is None:
        return _load_base(name_or_path, revision=revision, **options)
    base = json.loads((adapter / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
    if not (name := base.get("base_model_name_or_path")):
        raise InputError(f"base_model_name_or_path is missing in {adapter / _ADAPTER_CONFIG}: name the base model.")
    try:
        model = _load_base(name, revision=base.get("revision"), **options)
    except OSError as error:
        raise InputError(
            f"base_model_name_or_path is {name!r} in {adapter / _ADAPTER_CONFIG}, which cannot be loaded: give the "
            "path of the base model there."
        ) from error
    return merge_adapter(model, adapter)


def _load_base(name_or_path: str | Path, **options) -> LlavaSTForConditionalGeneration:
    model, info = LlavaSTForConditionalGeneration.from_pretrained(name_or_path, output_loading_info=True, **options)
    _check_names(f"checkpoint {str(name_or_path)!r}", info["missing_keys"], info["unexpected_keys"])
    return model


def merge_adapter(model: LlavaSTForConditionalGeneration, folder: str | Path) -> LlavaSTForConditionalGeneration:
    """
    Merge an adapter into its base, and check that each of its weights was used.

    Args:
        model (`LlavaSTForConditionalGeneration`): The base; it is changed.
        folder (`str` or `Path`): Folder of the adapter.

    Returns:
        `LlavaSTForConditionalGeneration`: The merged model, all weights in the precision of the base.

    Raises:
        `InputError`: If the weights of the adapter are not those that its config describes, or not finite.
    """
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    weights = Path(folder) / _ADAPTER_WEIGHTS
    if not weights.is_file():
        raise InputError(f"{weights} does not exist: give the folder of a whole adapter.")
    dtype = model.dtype
    adapted = PeftModel(model, PeftConfig.from_pretrained(folder))
    stored = load_file(weights)
    wanted = get_peft_model_state_dict(adapted).keys()
    _check_names(f"adapter {str(folder)!r}", wanted - stored.keys(), stored.keys() - wanted)
    set_peft_model_state_dict(adapted, stored)
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise InputError(f"the adapter {str(folder)!r} cannot be merged: {error}") from error
    return merged.to(dtype)


def _check_names(what: str, missing: set[str], unexpected: set[str]) -> None:
    problems = []
    for kind, names in (("lacks", missing), ("has no place in the model for", unexpected)):
        if names:
            more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
            problems.append(f"{kind} {', '.join(sorted(names)[:_MAX_NAMES])}{more}")
    if problems:
        raise InputError(f"{what} {'; it '.join(problems)}: give one that was saved by this package.")


def get_adapter_folder(name_or_path: str | Path) -> Path | None:
    """Return the folder, if it holds an adapter and no whole model."""
    folder = Path(name_or_path)
    return folder if (folder / _ADAPTER_CONFIG).is_file() else None


def prepare_base(name_or_path: str | Path, output_dir: str | Path, is_main_process: bool = True) -> str:
    """
    Return a checkpoint of a whole model to train from; an adapter is merged into its base and saved first.

    The adapter that is trained next names its base in its config, so the merged model must be a folder. One that an
    earlier start of the same run saved is taken as it is; it is written under another name and then renamed.

    Args:
        name_or_path (`str` or `Path`): What to start from.
        output_dir (`str` or `Path`): Folder of the run; the merged model is saved as `merged_base` in it.
        is_main_process (`bool`, *optional*, defaults to `True`): Whether this process writes. Others must wait for it.

    Returns:
        `str`: The checkpoint.
    """
    adapter = get_adapter_folder(name_or_path)
    if adapter is None:
        return str(name_or_path)
    merged = Path(output_dir).resolve() / "merged_base"
    origin = merged / "merged_from.json"
    what = {"adapter": str(adapter.resolve()), "modified_ns": os.stat(adapter / _ADAPTER_WEIGHTS).st_mtime_ns}
    if is_main_process and not (origin.is_file() and json.loads(origin.read_text(encoding="utf-8")) == what):
        unfinished = merged.with_name("merged_base.partial")
        for folder in (unfinished, merged):
            shutil.rmtree(folder, ignore_errors=True)
        load_model(adapter).save_pretrained(unfinished)
        LlavaSTProcessor.from_pretrained(adapter).save_pretrained(unfinished)
        (unfinished / origin.name).write_text(json.dumps(what), encoding="utf-8")
        unfinished.rename(merged)
    return str(merged)


def make_meta_model(name_or_path: str | Path, revision: str | None = None) -> LlavaSTForConditionalGeneration:
    """
    Make the model of a checkpoint on the meta device: its modules and shapes, without weights.

    Args:
        name_or_path (`str` or `Path`):
            A directory or repository of which only config.json is read; of an adapter, that of its base.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Raises:
        `InputError`: If it is another kind of model.
    """
    if (adapter := get_adapter_folder(name_or_path)) is not None:
        content = json.loads((adapter / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
        name_or_path, revision = content["base_model_name_or_path"], content.get("revision")
    config = AutoConfig.from_pretrained(name_or_path, revision=revision)
    if not isinstance(config, LlavaSTConfig):
        raise InputError(
            f"model_type is {config.model_type!r} in config.json of {str(name_or_path)!r}: give a LLaVA-ST, which "
            "`llava-st init` makes of a LLaVA-OneVision."
        )
    with torch.device("meta"):
        return LlavaSTForConditionalGeneration(config)


__all__ = ["get_adapter_folder", "load_model", "make_meta_model", "merge_adapter", "prepare_base"]
