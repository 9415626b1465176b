"""Reads what lies in the directory of a checkpoint, headers first and tensors when they are needed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from ..modeling.conversion_llava_st import INDEX_FILE, SourceFiles, open_safetensors
from ..processing import InputError
from ..processing.published_layout_llava_st import check_settings_files
from ..utils.checked_settings import input_errors
from ..utils.public_names import looks_like_id
from ..utils.regular_files import check_regular_file

OpenFile = Callable[[Path], safe_open]


@dataclass(frozen=True)
class LazyTensor:
    """A tensor of known type and shape, which is read or computed when it is needed."""

    name: str  # its name in the checkpoint
    meta: torch.Tensor  # its type and shape, on the meta device
    # Reads or computes it; is given what opens a safetensors file by its path.
    load: Callable[[OpenFile], torch.Tensor]
    path: Path | None = None  # the file that it is in


def get_local_directory(source: str | Path) -> Path:
    """
    Return a directory with a checkpoint: `source` itself, or where the repository of that name was downloaded to.

    Raises:
        `InputError`: When it is neither.
    """
    if Path(source).is_dir():
        return Path(source)
    if not looks_like_id(str(source)):
        raise InputError(f"{source} is not a directory: give one, or the name of a repository on the Hub.")
    with input_errors(f"{source} is not a directory here, and not to be had from the Hub ({{}}): check the name."):
        return Path(snapshot_download(str(source), allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"]))


def name_source(source: str | Path) -> str:
    """Return what a card calls a source: its folder, without those above it, or its repository."""
    return Path(source).resolve().name if Path(source).is_dir() else str(source)


def read_config(directory: Path) -> dict[str, Any]:
    """Read config.json of a checkpoint; an `InputError` says what is wrong with it."""
    path = directory / "config.json"
    check_regular_file(path, "file")
    check_settings_files(directory)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{directory} has no config.json: give the directory of a checkpoint.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): fetch it again.") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no object: fetch it again.")
    return config


def list_tensors(directory: Path) -> dict[str, LazyTensor]:
    """
    List the tensors of a checkpoint by their names; no data is read.

    Raises:
        `InputError`: When a file is missing, damaged, a pickle, or not what the index says; the message names it.
    """
    files = SourceFiles(directory, {})
    tensors: dict[str, LazyTensor] = {}
    with input_errors():
        for path in map(Path, files.weight_files()):
            with open_safetensors(path) as file:
                for name in file.keys():  # noqa: SIM118 (the file is no dictionary)
                    if name in tensors:
                        raise InputError(
                            f"{name} is in {tensors[name].path.name} and in {path.name}: remove one of them."
                        )
                    tensors[name] = _describe_stored(file, path, name)
        index = files.read_json(INDEX_FILE)
    for name, file_name in (index or {"weight_map": {}})["weight_map"].items():
        if name not in tensors or tensors[name].path.name != file_name:
            raise InputError(f"{file_name} of {directory} lacks {name}, which the index promises: fetch it again.")
    return tensors


def _describe_stored(file: safe_open, path: Path, name: str) -> LazyTensor:
    try:
        mapped = file.get_tensor(name)  # data are read when they are used
    except SafetensorError as error:
        raise InputError(f"{name} in {path} has a type that torch does not know ({error}): fetch it again.") from error
    meta = torch.empty(mapped.shape, dtype=mapped.dtype, device="meta")
    return LazyTensor(name, meta, lambda open_file: open_file(path).get_tensor(name), path)
