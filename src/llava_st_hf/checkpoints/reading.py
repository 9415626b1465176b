"""Reads what lies in the directory of a checkpoint, headers first and tensors when they are needed."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError

from ..modeling.conversion_llava_st import INDEX_FILE, SourceFiles, open_safetensors
from ..processing.media_llava_st import InputError

PIECE_BYTES = 2**24
TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


@dataclass(frozen=True)
class StoredTensor:
    """
    A tensor in a safetensors file, not read yet.

    Args:
        path (`Path`): The file.
        name (`str`): Name in the file.
        dtype (`str`): Type as safetensors calls it, such as `"BF16"`.
        shape (`tuple[int, ...]`): Shape.
        start (`int`): Where its bytes start in the file.
        num_bytes (`int`): How many there are.
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int

    def read_pieces(self) -> Iterator[bytes]:
        """Yield the bytes, a few megabytes at a time."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            left = self.num_bytes
            while left:
                piece = file.read(min(left, PIECE_BYTES))
                if not piece:
                    raise InputError(f"{self.path} ends inside {self.name}: it was changed meanwhile, fetch it again.")
                left -= len(piece)
                yield piece

    def load(self) -> torch.Tensor:
        """Read the tensor."""
        return torch.frombuffer(bytearray(b"".join(self.read_pieces())), dtype=self.torch_dtype).reshape(self.shape)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Its type in torch."""
        if self.dtype not in TORCH_DTYPES:
            raise InputError(
                f"{self.name} in {self.path} has the type {self.dtype}: give weights in floating point, not quantised."
            )
        return TORCH_DTYPES[self.dtype]


def get_local_directory(source: str | Path) -> Path:
    """
    Return a directory with a checkpoint: `source` itself, or where the repository of that name was downloaded to.

    Raises:
        `InputError`: When it is neither.
    """
    if Path(source).is_dir():
        return Path(source)
    if Path(source).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise InputError(f"{source} is not a directory: give one, or the name of a repository on the Hub.")
    try:
        return Path(snapshot_download(str(source), allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"]))
    except (OSError, ValueError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{source} is not a directory here, and not to be had from the Hub ({first_line}): check the name."
        ) from error


def read_config(directory: Path) -> dict[str, Any]:
    """Read config.json of a checkpoint; an `InputError` says what is wrong with it."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{directory} has no config.json: give the directory of a checkpoint.") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): fetch it again.") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no object: fetch it again.")
    return config


@contextmanager
def input_errors() -> Iterator[None]:
    """Turn what reading a configuration may raise into an `InputError` of one line."""
    try:
        yield
    except StrictDataclassError as error:  # wraps the message of a check in lines of its own
        raise InputError(str(error.__cause__ or error).replace("\n", " ")) from error
    except (OSError, ValueError) as error:
        raise InputError((str(error).strip().splitlines() or [type(error).__name__])[0]) from error


def list_tensors(directory: Path) -> dict[str, StoredTensor]:
    """
    List the tensors of a checkpoint by their names, reading headers only.

    Raises:
        `InputError`: When a file is missing, damaged, a pickle, or not what the index says; the message names it.
    """
    files = SourceFiles(directory, {})
    with input_errors():
        paths = [Path(path) for path in files.weight_files()]
        for path in paths:
            open_safetensors(path)  # checks the header against the length of the file
        index = files.read_json(INDEX_FILE)
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        with open(path, "rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(header_bytes))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if name in tensors:
                raise InputError(f"{name} is in {tensors[name].path.name} and in {path.name}: remove one of them.")
            start, end = entry["data_offsets"]
            tensors[name] = StoredTensor(
                path, name, entry["dtype"], tuple(entry["shape"]), 8 + header_bytes + start, end - start
            )
    for name, file_name in (index or {"weight_map": {}})["weight_map"].items():
        if name not in tensors or tensors[name].path.name != file_name:
            raise InputError(f"{file_name} of {directory} lacks {name}, which the index promises: fetch it again.")
    return tensors


def describe_source(directory: Path, tensors: Mapping[str, StoredTensor], options: Mapping[str, Any]) -> dict:
    """Return what tells one piece of work from another: a second run goes on only with the same source and options."""
    paths = sorted({tensor.path for tensor in tensors.values()} | set(directory.glob("*.json")))
    files = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}
    return {"source": str(directory.resolve()), "files": files, "options": dict(options)}


__all__ = ["StoredTensor", "describe_source", "get_local_directory", "input_errors", "list_tensors", "read_config"]
