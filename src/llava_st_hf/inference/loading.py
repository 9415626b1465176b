"""Loads a model, from whatever layout it lies in: ours, the published one, or an adapter, merged into its base."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils.sha import sha_fileobj
from safetensors.torch import load_file
from transformers import PreTrainedConfig

from ..modeling import LlavaSTConfig, LlavaSTForConditionalGeneration
from ..modeling.conversion_llava_st import SourceFiles, is_published_config, open_safetensors
from ..processing import InputError, LlavaSTProcessor
from ..processing.published_layout_llava_st import check_settings_files
from ..utils.atomic_files import remove_leftovers, writing_whole
from ..utils.checked_settings import input_errors
from ..utils.public_names import get_public_name
from ..utils.run_manifest import RunManifest

logger = logging.getLogger(__name__)

_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PICKLED_ADAPTER = "adapter_model.bin"
MERGED_FROM_FILE = "merged_from.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_MAX_NAMES = 5
# A group that is repeated: comparing it may take time that doubles with each letter.
_SLOW_PATTERN = re.compile(r"\)\s*[*+{]")
HUB_NAMES = ("token", "cache_dir", "local_files_only", "subfolder", "force_download")


@dataclass(frozen=True)
class ModelSource:
    """Where the parts of a model lie."""

    base: str  # directory or repository of the whole model; of an adapter, of what it was trained on
    revision: str | None  # branch, tag or commit of it on the Hub
    adapter: SourceFiles | None = None  # the files of the adapter, where it is one


def find_model_folder(name_or_path: str | Path) -> str:
    """
    Return what to load of a run: of a folder without a final model or adapter its newest checkpoint, which is logged.

    Args:
        name_or_path (`str` or `Path`): A directory, or a repository on the Hub.
    """
    folder = Path(name_or_path)
    if not folder.is_dir() or any((folder / name).exists() for name in ("config.json", _ADAPTER_CONFIG)):
        return str(name_or_path)
    numbers = [int(match[1]) for path in folder.iterdir() if (match := _CHECKPOINT.fullmatch(path.name))]
    if not numbers:
        return str(name_or_path)
    newest = folder / f"checkpoint-{max(numbers)}"
    logger.warning("%s holds no finished model: its newest checkpoint, %s, is taken.", folder, newest.name)
    return str(newest)


def find_source(name_or_path: str | Path, revision: str | None = None, **hub_kwargs: Any) -> ModelSource:
    """
    Tell an adapter from a whole model by the files of a directory or repository, see `find_model_folder` too.

    An adapter that is not one of LoRA, or does not name its base, is an `InputError`.
    """
    name_or_path = find_model_folder(name_or_path)
    files = SourceFiles(name_or_path, {"revision": revision, **hub_kwargs})
    check_settings_files(name_or_path, **files.hub_kwargs)  # before one of them is fetched
    if files.find("config.json") is not None or files.find(_ADAPTER_CONFIG) is None:
        return ModelSource(str(name_or_path), revision)
    with input_errors(f"{_ADAPTER_CONFIG} of {name_or_path} cannot be read ({{}}): fetch it again."):
        content: dict[str, Any] = files.read_json(_ADAPTER_CONFIG)
    if (kind := content.get("peft_type")) != "LORA":
        raise InputError(f"peft_type is {kind!r} in {_ADAPTER_CONFIG} of {name_or_path}: give an adapter of LoRA.")
    base = content.get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise InputError(f"base_model_name_or_path is missing in {_ADAPTER_CONFIG} of {name_or_path}: name the base.")
    return ModelSource(base, content.get("revision"), files)


def load_config(name_or_path: str | Path, revision: str | None = None) -> LlavaSTConfig:
    """
    Read the config of a checkpoint, or of an adapter's base; no weight is read. Another model is an `InputError`.
    """
    return _load_config(find_source(name_or_path, revision))


def _load_config(source: ModelSource, **hub_kwargs: Any) -> LlavaSTConfig:
    hub_kwargs["revision"] = source.revision
    check_settings_files(source.base, **hub_kwargs)
    with input_errors(f"config.json of {source.base} cannot be used ({{}}): fetch or write it again."):
        try:
            config_dict, _ = PreTrainedConfig.get_config_dict(source.base, **hub_kwargs)
        except OSError as error:
            if source.adapter is None:
                raise
            raise InputError(
                f"base_model_name_or_path is {source.base!r} in {_ADAPTER_CONFIG} of {source.adapter.source}, which "
                "cannot be loaded: give the path of the base model there."
            ) from error
        if not isinstance(config_dict, dict):
            raise InputError(f"config.json of {source.base} holds no object: fetch or write it again.")
        if not config_dict and Path(source.base).is_dir():
            raise InputError(
                f"{source.base} holds neither config.json nor {_ADAPTER_CONFIG}: give the folder of a model, an "
                "adapter or a run."
            )
        if config_dict.get("model_type") not in ("llava_st", "llava_qwen") and not is_published_config(config_dict):
            raise InputError(
                f"model_type is {config_dict.get('model_type')!r} in config.json of {source.base}: give a LLaVA-ST "
                "(llava_st, or the published llava_qwen), which `llava-st init` makes of a LLaVA-OneVision."
            )
        if config_dict.get("transformers_weights"):  # may be a pickle, or miss what the folder holds
            raise InputError(f"transformers_weights is set in config.json of {source.base}: leave it out.")
        return LlavaSTConfig.from_pretrained(source.base, trust_remote_code=False, **hub_kwargs)


def load_model(
    name_or_path: str | Path,
    dtype: str | torch.dtype = "auto",
    attn_implementation: str | None = None,
    revision: str | None = None,
    **kwargs: Any,
) -> LlavaSTForConditionalGeneration:
    """
    Load a model, and check that every weight of it was there. No code is run that lies beside it.

    Args:
        name_or_path (`str` or `Path`): A directory, or a repository on the Hub. An adapter is merged into its base.
        dtype (`str` or `torch.dtype`, *optional*, defaults to `"auto"`): Precision of the weights.
        attn_implementation (`str`, *optional*): Attention, see `from_pretrained`.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub; of an adapter, whose config says that of its base.
        kwargs: Further arguments of `from_pretrained`: `device_map`, `token`, `cache_dir`, ...

    Returns:
        `LlavaSTForConditionalGeneration`: An ordinary model.

    Raises:
        `InputError`: If it is another kind of model, weights are missing, damaged, of another shape, pickled or
            outside of the folder, or there are some that the model has no place for.
    """
    hub_kwargs = {name: kwargs[name] for name in HUB_NAMES if kwargs.get(name) is not None}
    source = find_source(name_or_path, revision, **hub_kwargs)
    config = _load_config(source, **hub_kwargs)
    with input_errors(f"the weights of {source.base} cannot be read: {{}}"):
        _check_files(SourceFiles(source.base, {**hub_kwargs, "revision": source.revision}), config)
        model, info = LlavaSTForConditionalGeneration.from_pretrained(
            source.base,
            config=config,
            revision=source.revision,
            dtype=dtype,
            attn_implementation=attn_implementation,
            **kwargs,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are refused below, by their names
            output_loading_info=True,
        )
    what = f"checkpoint {source.base!r}"
    _check_names(what, info["missing_keys"], info["unexpected_keys"])
    for name, stored, required in sorted(info["mismatched_keys"]):
        raise InputError(
            f"{what} has {name} of the shape {list(stored)} where config.json asks for {list(required)}: give files "
            "of one checkpoint."
        )
    for problem in [*info["error_msgs"], *info.get("conversion_errors", {}).values()]:
        raise InputError(f"{what} cannot be loaded ({' '.join(problem.split())[:200]}): give files of one checkpoint.")
    return model if source.adapter is None else _merge_adapter(model, source.adapter)


def _check_files(files: SourceFiles, config: LlavaSTConfig) -> None:
    """Find files of weights that are missing, damaged, pickled or elsewhere; those of a repository are not fetched."""
    if files.find(_ADAPTER_CONFIG) is not None:  # which transformers would put onto the model, whatever is in it
        raise InputError(f"{files.source} holds config.json and {_ADAPTER_CONFIG}: give each a folder of its own.")
    if not Path(files.source).is_dir():
        files.weight_names()
        return
    is_quantized = getattr(config, "quantization_config", None) is not None
    for path in files.weight_files():
        with open_safetensors(path) as tensors:
            for name in tensors.keys():  # noqa: SIM118 (the file is no dictionary)
                kind = tensors.get_slice(name).get_dtype()
                if not is_quantized and not kind.startswith(("F", "BF")):
                    raise InputError(f"{name} in {path} has the type {kind}: give weights in floating point.")


def _merge_adapter(model: LlavaSTForConditionalGeneration, adapter: SourceFiles) -> LlavaSTForConditionalGeneration:
    """Merge an adapter into its base, which is changed, and check that each of its weights was used."""
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    dtype = model.dtype
    with input_errors(f"the adapter {adapter.source!r} cannot be merged: {{}}"):
        weights = _find_weights(adapter)
        adapter_config = PeftConfig.from_pretrained(Path(adapter.find(_ADAPTER_CONFIG)).parent)
        stored = load_file(weights)
        _check_adapter_config(adapter_config, stored)
        adapted = PeftModel(model, adapter_config)
        required = get_peft_model_state_dict(adapted)
        _check_names(f"adapter {adapter.source!r}", required.keys() - stored.keys(), stored.keys() - required.keys())
        for name, tensor in stored.items():
            if tensor.shape != required[name].shape:
                raise InputError(
                    f"the adapter {adapter.source!r} has {name} of the shape {list(tensor.shape)} where its base asks "
                    f"for {list(required[name].shape)}: name the base that it was trained on."
                )
        set_peft_model_state_dict(adapted, stored)
        merged = adapted.merge_and_unload(safe_merge=True)
        for parameter in merged.parameters():  # and no buffer: rotary frequencies stay float32, as where all is loaded
            parameter.data = parameter.data.to(dtype)
        return merged


def _check_adapter_config(config: Any, stored: Mapping[str, torch.Tensor]) -> None:
    """Check what would take memory or time before the weights are looked at: ranks, and patterns of names."""
    largest = max((max(tensor.shape, default=0) for tensor in stored.values()), default=0)
    for rank in (config.r, *config.rank_pattern.values()):
        if rank > largest:
            raise InputError(f"a rank is {rank} in {_ADAPTER_CONFIG}, more than its weights have: fetch it again.")
    named = [config.target_modules, config.exclude_modules, config.layers_pattern, config.modules_to_save]
    patterns = [*config.rank_pattern, *config.alpha_pattern]
    for value in named:
        patterns += [value] if isinstance(value, str) else value or []
    for pattern in patterns:
        if _SLOW_PATTERN.search(pattern):
            raise InputError(f"{pattern!r:.80} in {_ADAPTER_CONFIG} may be compared without end: list the names.")


def _check_names(what: str, missing: set[str], unexpected: set[str]) -> None:
    problems = []
    for kind, names in (("lacks", missing), ("has no place in the model for", unexpected)):
        if names:
            more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
            problems.append(f"{kind} {', '.join(sorted(names)[:_MAX_NAMES])}{more}")
    if problems:
        raise InputError(f"{what} {'; it '.join(problems)}: give one that was saved by this package.")


def _find_weights(adapter: SourceFiles) -> str:
    if (weights := adapter.find(_ADAPTER_WEIGHTS)) is None:
        if adapter.find(_PICKLED_ADAPTER) is not None:
            raise InputError(
                f"{_PICKLED_ADAPTER} of {adapter.source} is a pickle file, which can run code when it is read: give "
                "the weights as safetensors."
            )
        raise InputError(f"{_ADAPTER_WEIGHTS} of {adapter.source} does not exist: give the folder of a whole adapter.")
    with input_errors(), open_safetensors(weights):
        return weights


def prepare_base(
    name_or_path: str | Path, output_dir: str | Path, is_main_process: bool = True, revision: str | None = None
) -> str:
    """
    Return a checkpoint of a whole model to train from; an adapter is merged into its base and saved first.

    The adapter that is trained next names its base in its config, so the merged model must be a folder, `merged_base`
    in that of the run; one that an earlier start of the same run saved is taken as it is. Only the main process
    writes, and the others must wait for it.
    """
    adapter = find_source(name_or_path, revision).adapter
    if adapter is None:
        # An adapter names its base, and may be asked from another folder.
        folder = find_model_folder(name_or_path)
        return str(Path(folder).resolve()) if Path(folder).is_dir() else folder
    merged = Path(output_dir).resolve() / "merged_base"
    weights = Path(_find_weights(adapter)).resolve()
    with open(weights, "rb") as file:  # by their content: the folder may be shared, and says nothing of this machine
        origin = {"adapter": get_public_name(adapter.source), "sha256": sha_fileobj(file).hex()}
    if is_main_process and not _is_merged_from(merged, origin):
        merged.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(merged.parent)
        with writing_whole(merged) as temporary_path:
            load_model(name_or_path, revision=revision).save_pretrained(temporary_path)
            folder = find_model_folder(name_or_path)
            processor = LlavaSTProcessor.from_pretrained(folder, revision=revision, trust_remote_code=False)
            processor.save_pretrained(temporary_path)
            RunManifest(temporary_path / MERGED_FROM_FILE, origin).save()
    return str(merged)


def _is_merged_from(merged: Path, origin: dict[str, Any]) -> bool:
    try:
        return RunManifest(merged / MERGED_FROM_FILE, origin).load()
    except InputError:  # of an adapter that was there before, and is made anew
        return False


def make_meta_model(
    name_or_path: str | Path,
    revision: str | None = None,
    dtype: str = "float32",
    attn_implementation: str | None = None,
) -> LlavaSTForConditionalGeneration:
    """
    Make the model of a checkpoint on the meta device: its modules and shapes, without weights.

    Another kind of model, files that a directory lacks, or an attention that there is not are an `InputError`; the
    type `"auto"` is that of the config.
    """
    source = find_source(name_or_path, revision)
    config = _load_config(source)
    if source.adapter is not None:
        _find_weights(source.adapter)
    if Path(source.base).is_dir():
        with input_errors():
            SourceFiles(source.base, {}).weight_files()
    kind = getattr(torch, dtype) if dtype != "auto" else getattr(config, "dtype", None) or torch.float32
    try:
        with torch.device("meta"):
            return LlavaSTForConditionalGeneration._from_config(
                config, dtype=kind, attn_implementation=attn_implementation
            )
    except (ImportError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(f"attn_implementation is {attn_implementation!r}: {reason}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"config.json of {name_or_path} fits no model ({reason:.200}): fetch or write it again."
        ) from error
