"""The processor of a published checkpoint: its sizes, read from the files that lie beside it, and its parts.

The published repository has no processor: its numbers are spread over `config.json`, the tokenizer and literals of the
code. What is a literal there is a named constant here.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from transformers import SiglipImageProcessorPil
from transformers.utils import cached_file

from .media_llava_st import InputError
from .tokenization_llava_st import convert_published_tokenizer, count_coordinate_tokens, is_published_vocabulary
from .video_processing_llava_st import LlavaSTVideoProcessor

# Parity: the reference packs frames by this literal (token_packer.py:196-229); no file of a release names it. A
# recording of the published code at other sizes has it in a file.
PUBLISHED_TEMPORAL_STRIDE = 5
LITERALS_FILE = "tiny_overrides.json"
# Where the tokenizer may lie: beside the weights, or in a folder of its own.
_TOKENIZER_FOLDERS = ("", "tokenizer")


@dataclass(frozen=True)
class PublishedSizes:
    """
    What the processor of a published checkpoint has to know.

    Args:
        tokenizer_folder (`str`): Folder of the tokenizer's files inside the repository, "" for the repository itself.
        image_size (`int`): Height and width in pixels of the vision tower's input.
        patch_size (`int`): Height and width in pixels of a patch.
        spatial_stride (`int`): Patches per side of a region of the first packing.
        fast_spatial_stride (`int`): Cells per side of a region of the fast packing.
        temporal_stride (`int`, *optional*, defaults to 5): Frames of a region of the slow packing.

    Example:

    ```python
    >>> PublishedSizes("", 384, 14, 3, 3).temporal_stride
    5
    ```
    """

    tokenizer_folder: str
    image_size: int
    patch_size: int
    spatial_stride: int
    fast_spatial_stride: int
    temporal_stride: int = PUBLISHED_TEMPORAL_STRIDE


def read_published_sizes(repository: str | Path, **hub_kwargs) -> PublishedSizes | None:
    """
    Read the sizes of a published checkpoint.

    Args:
        repository (`str` or `Path`): Local directory or name of a repository on the Hub.
        hub_kwargs (`dict`, *optional*): `revision`, `cache_dir`, `token`, ... as for `cached_file`.

    Returns:
        `PublishedSizes` or `None`: `None` when the repository is not laid out like the published one.

    Raises:
        `InputError`: When it is, but a size is missing or does not fit the others.
    """

    def read_json(name: str) -> dict | None:
        path = cached_file(str(repository), name, _raise_exceptions_for_missing_entries=False, **hub_kwargs)
        return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))

    if read_json("processor_config.json") is not None:
        return None
    folder = None
    for candidate in _TOKENIZER_FOLDERS:
        added_tokens = read_json(str(PurePosixPath(candidate, "added_tokens.json"))) or {}
        tokenizer_config = read_json(str(PurePosixPath(candidate, "tokenizer_config.json"))) or {}
        listed = {token["content"]: 0 for token in tokenizer_config.get("added_tokens_decoder", {}).values()}
        if not added_tokens and not listed:  # written by transformers 5, which keeps them here only
            tokenizer_file = read_json(str(PurePosixPath(candidate, "tokenizer.json"))) or {}
            listed = {token["content"]: 0 for token in tokenizer_file.get("added_tokens", ())}
        if folder is None and is_published_vocabulary({**added_tokens, **listed}):
            folder = candidate
    config = read_json("config.json")
    if folder is None or config is None:
        return None
    image_size, patch_size = _read_vision_sizes(config, read_json("vision_tower_config.json"))
    side = _square_root(config, "mm_perceiver_latents")
    fast_side = _square_root(config, "mm_perceiver_latents_fast")
    spatial_stride = _get_stride("mm_perceiver_latents", image_size // patch_size, side)
    fast_spatial_stride = _get_stride("mm_perceiver_latents_fast", side, fast_side)
    literals = read_json(LITERALS_FILE) or {}
    temporal_stride = literals.get("temporal_scale_factor", PUBLISHED_TEMPORAL_STRIDE)
    return PublishedSizes(folder, image_size, patch_size, spatial_stride, fast_spatial_stride, temporal_stride)


def load_published_arguments(repository: str | Path, sizes: PublishedSizes, **hub_kwargs) -> dict[str, Any]:
    """
    Make the arguments of the processor of a published checkpoint.

    Args:
        repository (`str` or `Path`): Local directory or name of a repository on the Hub.
        sizes (`PublishedSizes`): What `read_published_sizes` returned for it.
        hub_kwargs (`dict`, *optional*): `revision`, `cache_dir`, `token`, ... as for `cached_file`.

    Returns:
        `dict`: Arguments of `LlavaSTProcessor`, the quirks of the published weights switched on.
    """
    tokenizer_folder = str(PurePosixPath(hub_kwargs.get("subfolder", ""), sizes.tokenizer_folder))
    tokenizer = convert_published_tokenizer(
        repository, **{**hub_kwargs, "subfolder": tokenizer_folder.removeprefix(".")}
    )
    num_temporal_tokens, num_spatial_tokens = count_coordinate_tokens(tokenizer)
    size = {"height": sizes.image_size, "width": sizes.image_size}
    return {
        "image_processor": SiglipImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        "tokenizer": tokenizer,
        # Parity: the reference can only place as many frames as there are time tokens (llava_arch.py:343).
        "video_processor": LlavaSTVideoProcessor(size=size, num_frames=num_temporal_tokens),
        "patch_size": sizes.patch_size,
        "spatial_stride": sizes.spatial_stride,
        "fast_spatial_stride": sizes.fast_spatial_stride,
        "temporal_stride": sizes.temporal_stride,
        "num_temporal_tokens": num_temporal_tokens,
        "num_spatial_tokens": num_spatial_tokens,
        "splice_fast_tokens": False,
        "embed_width_inputs": False,
    }


def _read_vision_sizes(config: dict, vision_config: dict | None) -> tuple[int, int]:
    """Return image size and patch size of the vision tower, which the published config knows by its name only."""
    if vision_config is not None:
        return vision_config["image_size"], vision_config["patch_size"]
    name = str(config.get("mm_vision_tower"))
    match = re.search(r"patch(\d+)-(\d+)", name)
    if match is None:
        raise InputError(
            f"mm_vision_tower is {name!r}, whose sizes are not known: add a vision_tower_config.json with image_size "
            "and patch_size."
        )
    return int(match[2]), int(match[1])


def _square_root(config: dict, key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1 or math.isqrt(value) ** 2 != value:
        raise InputError(f"{key} is {value!r} in config.json: a square number of tokens per frame is expected.")
    return math.isqrt(value)


def _get_stride(key: str, cells: int, side: int) -> int:
    """Return the side of the regions that pack `cells` per side to `side` per side."""
    stride = math.ceil(cells / side)
    if math.ceil(cells / stride) != side:
        raise InputError(f"{key} asks for {side} cells per side, which regions cannot make of {cells}.")
    return stride


__all__ = ["PUBLISHED_TEMPORAL_STRIDE", "PublishedSizes", "load_published_arguments", "read_published_sizes"]
