"""Writes checkpoints shard by shard, so that memory holds one shard, whatever the size of the model.

What is being written can be killed at any moment: a shard gets its name when all of it is on the disk, a manifest of
finished shards with their digests says what a second run may keep, and config.json, without which nothing loads the
folder, comes last.
"""

import functools
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from huggingface_hub.utils.sha import sha_fileobj
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import GenerationConfig

from ..modeling import LlavaSTForConditionalGeneration
from ..modeling.conversion_llava_st import INDEX_FILE, SourceFiles, open_safetensors
from ..processing import InputError, LlavaSTProcessor
from ..utils.atomic_files import is_leftover, move_whole, remove_leftovers, write_json_whole, writing_whole
from ..utils.checked_settings import input_errors
from ..utils.folder_locks import locking_folder
from ..utils.run_manifest import RunManifest
from ..utils.sizes import check_space
from .reading import LazyTensor

MANIFEST_FILE = "unfinished.json"
_STAGING_FOLDER = ".unfinished_files"


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
class PlannedCheckpoint:
    """A checkpoint to be written, which is made from another."""

    source: Path  # directory of the other one
    options: Mapping[str, Any]  # how it is made; unfinished work goes on only with the same
    model: LlavaSTForConditionalGeneration  # the model, best on the meta device
    tensors: Sequence[LazyTensor]  # its tensors, under their names in the checkpoint; see `check_tensors`
    processor: LlavaSTProcessor
    card: str  # README.md

    def write(self, destination: str | Path, max_shard_bytes: int = 2 * 10**9, quiet: bool = False) -> None:
        """
        Write the checkpoint. Killed at any moment and called again, it goes on and ends with the same files.

        Args:
            destination (`str` or `Path`): Folder to write; it must not exist, be empty, or hold this unfinished work.
            max_shard_bytes (`int`, *optional*, defaults to 2 * 10**9): Size of a shard; a larger tensor gets its own.
            quiet (`bool`, *optional*, defaults to `False`): Whether to show no progress.

        Raises:
            `InputError`: When the folder is taken, the disk is full, or a source cannot be read.
        """
        destination = Path(destination)
        tensors = {tensor.name: tensor for tensor in self.tensors}
        split = split_state_dict_into_shards_factory(
            tensors,
            get_storage_size=lambda tensor: tensor.meta.nbytes,
            filename_pattern="model{suffix}.safetensors",
            max_shard_size=max_shard_bytes,
        )
        shards = {
            file_name: [tensors[name] for name in names] for file_name, names in split.filename_to_tensors.items()
        }
        sizes = {name: sum(tensor.meta.nbytes for tensor in content) for name, content in shards.items()}
        manifest = RunManifest(destination / MANIFEST_FILE, self._describe(max_shard_bytes))
        if destination.exists() and not destination.is_dir():
            raise InputError(f"{destination} is a file: name a folder to write to.")
        goes_on = "fix that and run the same again, it goes on from here."
        with (
            locking_folder(destination, "writes a checkpoint"),
            input_errors(f"{destination} could not be written ({{}}): {goes_on}"),
        ):
            finished = _load_finished(destination, manifest)
            check_space(destination, sum(size for name, size in sizes.items() if name not in finished))
            remove_leftovers(destination)
            manifest.save(finished=finished)
            with tqdm(total=sum(sizes.values()), desc="Writing", unit="B", unit_scale=True, disable=quiet) as bar:
                for name, content in shards.items():
                    if not _is_finished(destination / name, finished.get(name)):
                        finished[name] = _write_shard(destination / name, content)
                        manifest.save(finished=finished)
                    bar.update(sizes[name])
            index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename} if split.is_sharded else None
            self._write_small_files(destination, index)
            manifest.remove()

    def _describe(self, max_shard_bytes: int) -> dict[str, Any]:
        """Return what tells this work from another."""
        paths = sorted({tensor.path for tensor in self.tensors if tensor.path} | set(self.source.glob("*.json")))
        layout = [(tensor.name, str(tensor.meta.dtype), list(tensor.meta.shape)) for tensor in self.tensors]
        return {
            "source": str(self.source.resolve()),
            **self.options,
            "max_shard_bytes": max_shard_bytes,
            "files": {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths},
            "layout": hashlib.sha256(repr(layout).encode()).hexdigest(),
        }

    def _write_small_files(self, destination: Path, index: dict[str, Any] | None) -> None:
        """Write all of a checkpoint but its weights; config.json, with which it is one, comes last."""
        staging = destination / _STAGING_FOLDER
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        self.model.config.architectures = [type(self.model).__name__]
        self.model.config.save_pretrained(staging)  # with the code of the model, which travels with its config
        self._make_generation_config().save_pretrained(staging)
        self.processor.save_pretrained(staging)
        (staging / "README.md").write_text(self.card, encoding="utf-8")
        if index is not None:
            write_json_whole(staging / INDEX_FILE, index)
        for path in sorted(staging.iterdir(), key=lambda path: (path.name == "config.json", path.name)):
            move_whole(path, destination / path.name)
        staging.rmdir()

    def _make_generation_config(self) -> GenerationConfig:
        """Return greedy settings with the end and padding tokens of the source, and none of its sampling settings."""
        stored = SourceFiles(self.source, {}).read_json("generation_config.json") or {}
        config, ids = self.model.config, {}
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            candidates = (stored.get(name), getattr(config, name, None), getattr(config.text_config, name, None))
            known = next((value for value in candidates if value is not None), None)
            ids[name] = getattr(self.processor.tokenizer, name, None) if known is None else known
        return GenerationConfig(do_sample=False, **ids)


def check_tensors(
    tensors: Sequence[LazyTensor], model: LlavaSTForConditionalGeneration, origins: Mapping[str, str]
) -> list[LazyTensor]:
    """
    Compare what is to be written with what the model has, and return it in the model's order.

    Args:
        tensors (`Sequence[LazyTensor]`): What is to be written.
        model (`LlavaSTForConditionalGeneration`): The model, best on the meta device.
        origins (`Mapping[str, str]`): Names that the user knows of tensors of the model, for messages.

    Raises:
        `InputError`: When a tensor is missing, unexpected, there twice, of another shape, or quantised.
    """
    expected = model.state_dict()
    by_name = {tensor.name: tensor for tensor in tensors}
    twice = sorted({tensor.name for tensor in tensors if by_name[tensor.name] is not tensor})
    unexpected = [name for name in by_name if name not in expected]
    optional = set(model._tied_weights_keys) if model.config.tie_word_embeddings else set()
    missing = [name for name in expected if name not in by_name and name not in optional]
    for what, names in (("unexpected", unexpected), ("missing", missing), ("there twice", twice)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(
                f"the tensor {origins.get(names[0], names[0])}{more} is {what}: give the whole checkpoint, unchanged."
            )
    for name, meta in ((name, by_name[name].meta) for name in expected if name in by_name):
        if meta.shape != expected[name].shape:
            raise InputError(
                f"the tensor {origins.get(name, name)} has the shape {list(meta.shape)} where config.json and the "
                f"other tensors ask for {list(expected[name].shape)}: give files of one checkpoint."
            )
        if not meta.dtype.is_floating_point:
            raise InputError(
                f"the tensor {origins.get(name, name)} has the type {meta.dtype}: give weights in floating point, not "
                "quantised."
            )
    return [by_name[name] for name in expected if name in by_name]


def _load_finished(destination: Path, manifest: RunManifest) -> dict[str, dict[str, Any]]:
    """Return the finished shards of the same work, and refuse a folder with anything else in it."""
    if all(is_leftover(path) for path in destination.iterdir()):
        return {}
    if not manifest.load():
        raise InputError(f"{destination} is not empty, and nothing is overwritten: name another folder, or empty it.")
    return manifest.progress.get("finished", {})


def _is_finished(path: Path, entry: Mapping[str, Any] | None) -> bool:
    """Tell whether a shard is on the disk as the manifest says, byte by byte."""
    return path.is_file() and entry == _describe_shard(path)


def _write_shard(path: Path, tensors: Sequence[LazyTensor]) -> dict[str, Any]:
    """Write a safetensors file, whole or not at all, and return its entry of the manifest."""
    with ExitStack() as files, writing_whole(path) as temporary_path:
        open_file = functools.cache(lambda source: files.enter_context(open_safetensors(source)))
        content: dict[str, torch.Tensor] = {tensor.name: tensor.load(open_file).contiguous() for tensor in tensors}
        save_file(content, temporary_path, metadata={"format": "pt"})
    return _describe_shard(path)


def _describe_shard(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": sha_fileobj(file).hex()}
