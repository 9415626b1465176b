"""Writes safetensors checkpoints piece by piece, so that memory stays small whatever the size of the model.

What is being written can be killed at any moment: a shard gets its name when all of it is on the disk, a record of
finished shards with their digests says what a second run may keep, and config.json, without which nothing loads the
folder, comes last.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ..modeling.configuration_llava_st import LlavaSTConfig
from ..modeling.conversion_llava_st import INDEX_FILE, SINGLE_FILE, SourceFiles
from ..modeling.modeling_llava_st import LlavaSTForConditionalGeneration
from ..processing.media_llava_st import InputError
from ..processing.processing_llava_st import LlavaSTProcessor
from .reading import PIECE_BYTES, TORCH_DTYPES, StoredTensor

RECORD_FILE = "unfinished.json"
STAGING_FOLDER = ".unfinished_files"
PART_ENDING = ".part"
_SIZE_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


@dataclass(frozen=True)
class WrittenCheckpoint:
    """
    What was written.

    Args:
        path (`Path`): The folder.
        left_out (`tuple[str, ...]`): Tensors of the source that the model has no place for.
    """

    path: Path
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class PlannedTensor:
    """
    A tensor to be written.

    Args:
        name (`str`): Name in the checkpoint.
        dtype (`str`): Type as safetensors calls it.
        shape (`tuple[int, ...]`): Shape.
        num_bytes (`int`): Length of its data.
        read_pieces (`Callable`): Gives the data, piece by piece; the same at every call.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int
    read_pieces: Callable[[], Iterable[bytes]]

    @classmethod
    def renamed(cls, stored: StoredTensor, name: str) -> "PlannedTensor":
        """Plan to copy a stored tensor, byte by byte."""
        return cls(name, stored.dtype, stored.shape, stored.num_bytes, stored.read_pieces)

    @classmethod
    def computed(
        cls, name: str, dtype: str, shape: Sequence[int], compute: Callable[[], torch.Tensor]
    ) -> "PlannedTensor":
        """Plan to write what `compute` returns, which is computed when it is written."""

        def read_pieces() -> list[bytes]:
            tensor = compute().to(TORCH_DTYPES[dtype])
            return [tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()]

        num_bytes = torch.Size(shape).numel() * TORCH_DTYPES[dtype].itemsize
        return cls(name, dtype, tuple(shape), num_bytes, read_pieces)


def check_planned(
    planned: Sequence[PlannedTensor], model: LlavaSTForConditionalGeneration, origins: Mapping[str, str]
) -> list[PlannedTensor]:
    """
    Compare what is to be written with what the model has, and return it in the model's order.

    Args:
        planned (`Sequence[PlannedTensor]`): What is to be written.
        model (`LlavaSTForConditionalGeneration`): The model, best on the meta device.
        origins (`Mapping[str, str]`): Names that the user knows of tensors of the model, for messages.

    Raises:
        `InputError`: When a tensor is missing, unexpected, there twice, or has another shape.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    by_name = {tensor.name: tensor for tensor in planned}
    twice = sorted({tensor.name for tensor in planned if by_name[tensor.name] is not tensor})
    unexpected = [name for name in by_name if name not in expected]
    optional = set(model._tied_weights_keys) if model.config.tie_word_embeddings else set()
    missing = [name for name in expected if name not in by_name and name not in optional]
    for what, names in (("unexpected", unexpected), ("missing", missing), ("there twice", twice)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(
                f"the tensor {origins.get(names[0], names[0])}{more} is {what}: give the whole checkpoint, unchanged."
            )
    for name, shape in expected.items():
        if name in by_name and by_name[name].shape != shape:
            raise InputError(
                f"the tensor {origins.get(name, name)} has the shape {list(by_name[name].shape)} where config.json "
                f"and the other tensors ask for {list(shape)}: give files of one checkpoint."
            )
    return [by_name[name] for name in expected if name in by_name]


def parse_size(text: str) -> int:
    """Read a size in bytes such as `"2GB"`, `"500MB"` or `"1GiB"`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?|)B?", text.strip().upper())
    if match is None or float(match[1]) <= 0:
        raise InputError(
            f"the size is {text!r}: give a number with KB, MB or GB, such as 2GB.", field="max_shard_size"
        )
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


def write_checkpoint(
    destination: str | Path,
    tensors: Sequence[PlannedTensor],
    write_small_files: Callable[[Path], None],
    origin: Mapping[str, Any],
    max_shard_bytes: int = 2 * 10**9,
    quiet: bool = False,
) -> None:
    """
    Write a checkpoint in shards. Killed at any moment and called again, it goes on and ends with the same files.

    Args:
        destination (`str` or `Path`): Folder to write; it must not exist, be empty, or hold this unfinished work.
        tensors (`Sequence[PlannedTensor]`): What to write, in this order.
        write_small_files (`Callable`): Writes configuration, tokenizer and the like into the folder it is given.
        origin (`Mapping`): What the work is made from, comparable as JSON; see `describe_source`.
        max_shard_bytes (`int`, *optional*, defaults to 2 * 10**9): Size of a shard; a larger tensor gets its own.
        quiet (`bool`, *optional*, defaults to `False`): Whether to show no progress.

    Raises:
        `InputError`: When the folder is taken, the disk is full, or a source cannot be read.
    """
    destination = Path(destination)
    shards = _plan_shards(tensors, max_shard_bytes)
    layout = [[name, [(tensor.name, tensor.dtype, tensor.shape) for tensor in content]] for name, content in shards]
    digest = hashlib.sha256(json.dumps(layout).encode()).hexdigest()
    origin = json.loads(json.dumps({**origin, "layout": digest}))
    total = sum(tensor.num_bytes for tensor in tensors)
    try:
        finished = _read_record(destination, origin)
        _check_space(destination, total - sum(entry["bytes"] for entry in finished.values()))
        destination.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(destination)
        _save_json(destination / RECORD_FILE, {"origin": origin, "finished": finished})
        with tqdm(total=total, desc="Writing", unit="B", unit_scale=True, disable=quiet) as bar:
            for name, content in shards:
                if _is_finished(destination / name, finished.get(name), bar):
                    continue
                finished[name] = _write_shard(destination / name, content, bar)
                _save_json(destination / RECORD_FILE, {"origin": origin, "finished": finished})
        staging = destination / STAGING_FOLDER
        staging.mkdir()
        write_small_files(staging)
        if len(shards) > 1:
            weight_map = {tensor.name: name for name, content in shards for tensor in content}
            metadata = {"total_size": total}
            _save_json(staging / INDEX_FILE, {"metadata": metadata, "weight_map": weight_map})
        # Without config.json nothing takes the folder for a checkpoint, so it comes last.
        for path in sorted(staging.iterdir(), key=lambda path: (path.name == "config.json", path.name)):
            _move(path, destination / path.name)
        staging.rmdir()
        (destination / RECORD_FILE).unlink()
        _sync_folder(destination)
    except OSError as error:
        raise InputError(
            f"{destination} could not be written ({error}): fix that and run the same again, it goes on from here."
        ) from error


def _plan_shards(tensors: Sequence[PlannedTensor], max_bytes: int) -> list[tuple[str, list[PlannedTensor]]]:
    """Divide tensors into files, in their order; a file holds `max_bytes` or a single tensor."""
    groups: list[list[PlannedTensor]] = [[]]
    size = 0
    for tensor in tensors:
        if groups[-1] and size + tensor.num_bytes > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.num_bytes
    if len(groups) == 1:
        return [(SINGLE_FILE, groups[0])]
    return [(f"model-{i:05d}-of-{len(groups):05d}.safetensors", group) for i, group in enumerate(groups, start=1)]


def _is_leftover(path: Path) -> bool:
    return path.name == STAGING_FOLDER or (path.name.startswith(".") and path.name.endswith(PART_ENDING))


def _read_record(destination: Path, origin: dict) -> dict[str, dict]:
    """Return the finished shards of the same work, and refuse a folder with anything else in it."""
    if destination.exists() and not destination.is_dir():
        raise InputError(f"{destination} is a file: name a folder to write to.")
    if not destination.exists() or all(_is_leftover(path) for path in destination.iterdir()):
        return {}
    record_path = destination / RECORD_FILE
    if not record_path.is_file():
        raise InputError(f"{destination} is not empty, and nothing is overwritten: name another folder, or empty it.")
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
        same, finished = record["origin"] == origin, dict(record["finished"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{record_path} cannot be read ({error}): remove {destination}, or name another.") from error
    if not same:
        raise InputError(
            f"{destination} holds the unfinished work of another source or other options: remove it, or name another."
        )
    return finished


def _check_space(destination: Path, num_bytes: int) -> None:
    existing = next(path for path in (destination, *destination.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        raise InputError(
            f"{destination} needs {num_bytes / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB free: make room, or "
            "name a folder on another disk."
        )


def _remove_leftovers(destination: Path) -> None:
    for path in destination.iterdir():
        if path.name == STAGING_FOLDER:
            shutil.rmtree(path)
        elif _is_leftover(path):
            path.unlink()


def _is_finished(path: Path, entry: Mapping[str, Any] | None, bar: tqdm) -> bool:
    """Tell whether a shard is on the disk as the record says, byte by byte."""
    if entry is None or not path.is_file() or path.stat().st_size != entry["bytes"]:
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    if digest.hexdigest() != entry["sha256"]:
        return False
    bar.update(entry["data_bytes"])
    return True


def _write_shard(path: Path, tensors: Sequence[PlannedTensor], bar: tqdm) -> dict[str, Any]:
    """Write a safetensors file under a temporary name, and rename it when all of it is on the disk."""
    # The order of safetensors: wide types first, which keeps every tensor aligned.
    ordered = sorted(tensors, key=lambda tensor: -_item_bytes(tensor))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in ordered:
        start, end = end, end + tensor.num_bytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    part = path.with_name(f".{path.name}{PART_ENDING}")
    digest = hashlib.sha256()
    try:
        with open(part, "wb") as file:
            for piece in (len(encoded).to_bytes(8, "little"), encoded):
                digest.update(piece)
                file.write(piece)
            for tensor in ordered:
                written = 0
                for piece in tensor.read_pieces():
                    digest.update(piece)
                    written += file.write(piece)
                    bar.update(len(piece))
                if written != tensor.num_bytes:
                    raise InputError(f"{tensor.name} gave {written} bytes of {tensor.num_bytes}: fetch it again.")
        _move(part, path)
    finally:
        part.unlink(missing_ok=True)
    return {"bytes": 8 + len(encoded) + end, "data_bytes": end, "sha256": digest.hexdigest()}


def _item_bytes(tensor: PlannedTensor) -> int:
    return tensor.num_bytes // max(torch.Size(tensor.shape).numel(), 1)


def _save_json(path: Path, content: Any) -> None:
    part = path.with_name(f".{path.name}{PART_ENDING}")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _move(part, path)


def _move(source: Path, target: Path) -> None:
    """Rename a file when its content is on the disk; the name appears with all of it or not at all."""
    with open(source, "rb") as file:
        os.fsync(file.fileno())
    os.replace(source, target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def save_small_files(
    folder: Path,
    model: LlavaSTForConditionalGeneration,
    processor: LlavaSTProcessor,
    generation_config: GenerationConfig,
    card: str,
) -> None:
    """Write all of a checkpoint but its weights: configuration, tokenizer, processor, generation config, card."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)  # with the code of the model, which travels with its config
    generation_config.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def make_generation_config(
    directory: Path, config: LlavaSTConfig, tokenizer: PreTrainedTokenizerBase
) -> GenerationConfig:
    """Return greedy settings with the end and padding tokens of a checkpoint, and none of its sampling settings."""
    stored = SourceFiles(directory, {}).read_json("generation_config.json") or {}
    ids = {}
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        candidates = (stored.get(name), getattr(config, name, None), getattr(config.text_config, name, None))
        ids[name] = next((value for value in candidates if value is not None), getattr(tokenizer, name, None))
    return GenerationConfig(do_sample=False, **ids)


__all__ = [
    "PlannedTensor",
    "WrittenCheckpoint",
    "check_planned",
    "make_generation_config",
    "parse_size",
    "save_small_files",
    "write_checkpoint",
]
