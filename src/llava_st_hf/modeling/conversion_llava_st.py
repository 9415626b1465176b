"""Reads checkpoints in the published layout: its config.json into ours, its tensor names into ours.

Sizes and ids are taken from the tensors and the tokenizer of the checkpoint, never from constants: which of two
vocabularies the published weights have could not be known, and config.json has one of two forms.
"""

import json
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import get_safetensors_metadata
from huggingface_hub.errors import HFValidationError, NotASafetensorsRepoError
from huggingface_hub.utils import httpx
from safetensors import SafetensorError, safe_open
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Chunk, Concatenate, WeightConverter, WeightRenaming
from transformers.utils import cached_file

PUBLISHED_ARCHITECTURE = "LlavaQwenForCausalLM"
# Tensors that a release may carry over from its ancestors and that no part of the model reads.
UNUSED_PUBLISHED_TENSORS = ("model.image_newline",)
INDEX_FILE, SINGLE_FILE = "model.safetensors.index.json", "model.safetensors"
PICKLE_FILES = ("pytorch_model.bin.index.json", "pytorch_model.bin", "pytorch_model.pt", "model.pt", "model.pth")

# What tensors cannot say of a published vision tower: its heads, and pixels that do not fill a patch.
KNOWN_VISION_TOWERS = {
    "google/siglip-so400m-patch14-384": {"num_attention_heads": 16, "image_size": 384},
}

# Sizes that are literals of the published code (token_packer.py:196-229) and stand in no file of a release.
PUBLISHED_LITERALS = {"temporal_stride": 5, "packer_num_heads": 8}

TEXT_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
    "attention_dropout",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


def is_published_config(config_dict: dict[str, Any]) -> bool:
    """Tell whether a config.json is that of the published system, in either of its two forms."""
    return PUBLISHED_ARCHITECTURE in (config_dict.get("architectures") or ()) and config_dict.get("model_type") in (
        "llava_qwen",
        "llava",
    )


def convert_published_config(config_dict: dict[str, Any], source: str | Path, **hub_kwargs) -> dict[str, Any]:
    """
    Rewrite a published config.json into the fields of [`LlavaSTConfig`], published behaviour of each quirk included.

    Args:
        config_dict (`dict`): The published config.json.
        source (`str` or `Path`): Directory or repository that holds the weights and the tokenizer.
        hub_kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, `subfolder` for a repository.

    Raises:
        `ValueError`: a field or a file is missing that the sizes cannot be known without.
    """
    if config_dict.get("use_downsample_image"):
        raise ValueError("use_downsample_image is true: images packed like a clip are not supported by this model.")
    files = SourceFiles(source, hub_kwargs)
    fields = _Named(config_dict, f"config.json of {source} lacks the field {{}}: fetch the published file again.")
    shapes = _Named(files.tensor_shapes(), f"the tensor {{}} is missing from {source}: fetch its shards again.")
    token_ids = _Named(files.token_ids(), f"the tokenizer of {source} lacks {{}}: put the published tokenizer there.")
    vision_config = _vision_config(config_dict, shapes, files)
    vocab_size, hidden_size = shapes["model.embed_tokens.weight"]
    text_config = {name: config_dict[name] for name in TEXT_FIELDS if name in config_dict}
    text_config.update(model_type="qwen2", vocab_size=vocab_size, hidden_size=hidden_size)
    text_config["rope_parameters"] = {"rope_type": "default", "rope_theta": fields["rope_theta"]}

    grid_size = vision_config["image_size"] // vision_config["patch_size"]
    packed_size = _square_root(fields, "mm_perceiver_latents")
    fast_size = _square_root(fields, "mm_perceiver_latents_fast")
    packer = "model.vision_resampler.token_packer.devide_attention."
    return {
        "model_type": "llava_st",
        "architectures": ["LlavaSTForConditionalGeneration"],
        "vision_config": vision_config,
        "text_config": text_config,
        "image_token_id": token_ids["<image>" if "<image>" in token_ids else "<im_patch>"],
        "video_token_id": token_ids["<slow_vid_start>"],
        "coordinate_token_offset": vocab_size,
        "num_temporal_tokens": shapes["model.temporal_input_embeddings.weight"][0],
        "num_spatial_tokens": shapes["model.spatial_height_input_embeddings.weight"][0],
        "packer_hidden_size": shapes[packer + "to_q.0.weight"][0],
        **PUBLISHED_LITERALS,
        "spatial_stride": compute_stride("mm_perceiver_latents", grid_size, packed_size),
        "fast_spatial_stride": compute_stride("mm_perceiver_latents_fast", packed_size, fast_size),
        "vision_feature_layer": -1,  # the reference drops the last layer of the tower, and so do its tensors
        "splice_fast_tokens": False,
        "tie_word_embeddings": config_dict.get("tie_word_embeddings", False),
        "dtype": config_dict.get("dtype", config_dict.get("torch_dtype")),
        "bos_token_id": config_dict.get("bos_token_id"),
        "eos_token_id": config_dict.get("eos_token_id"),
        "pad_token_id": config_dict.get("pad_token_id"),
    }


def compute_stride(name: str, num_cells: int, num_packed: int) -> int:
    """
    Return how many cells a region of the packer has per side, for so many of them to make so many regions.

    Args:
        name (`str`): Field of the published config that asks for it, for messages.
        num_cells (`int`): Cells per side that are packed.
        num_packed (`int`): Regions per side. The last one may have fewer cells than the others.

    Raises:
        `ValueError`: no size of regions gives that number.
    """
    stride = -(-num_cells // num_packed)
    if -(-num_cells // stride) != num_packed:
        raise ValueError(f"{name} asks for {num_packed} cells per side, which regions cannot make of {num_cells}.")
    return stride


def _square_root(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if not isinstance(value, int) or value < 1 or math.isqrt(value) ** 2 != value:
        raise ValueError(f"{name} is {value!r} in config.json: a square number of tokens per frame is expected.")
    return math.isqrt(value)


def _vision_config(config_dict: dict, shapes: dict[str, list[int]], files: "SourceFiles") -> dict[str, Any]:
    prefix = "model.vision_tower.vision_tower.vision_model."
    tower_name = config_dict.get("mm_vision_tower")
    known = files.read_json("vision_tower_config.json") or KNOWN_VISION_TOWERS.get(tower_name)
    if known is None:
        raise ValueError(
            f"mm_vision_tower is {tower_name!r}: its number of heads is unknown. Put its config.json beside the "
            "weights as vision_tower_config.json."
        )
    hidden_size, num_channels, patch_size, _ = shapes[prefix + "embeddings.patch_embedding.weight"]
    layers = {m.group(1) for name in shapes if (m := re.match(re.escape(prefix) + r"encoder\.layers\.(\d+)\.", name))}
    kept = ("hidden_act", "layer_norm_eps", "attention_dropout", "num_attention_heads", "image_size")
    return {
        "model_type": "siglip_vision_model",
        **{name: known[name] for name in kept if name in known},
        "hidden_size": hidden_size,
        "num_channels": num_channels,
        "patch_size": patch_size,
        "intermediate_size": shapes[prefix + "encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": len(layers),
        "vision_use_head": False,
    }


class _Named(dict):
    """A dictionary that says in words what it lacks."""

    def __init__(self, content: dict[str, Any], message: str):
        super().__init__(content)
        self.message = message

    def __missing__(self, key: str) -> Any:
        raise ValueError(self.message.format(key))


class SourceFiles:
    """Files of a local directory or of a Hub repository, read without loading a weight."""

    def __init__(self, source: str | Path, hub_kwargs: dict[str, Any]):
        self.source = str(source)
        known = ("revision", "token", "cache_dir", "local_files_only", "subfolder", "force_download")
        self.hub_kwargs = {name: hub_kwargs[name] for name in known if hub_kwargs.get(name) is not None}

    def find(self, name: str) -> str | None:
        return cached_file(
            self.source,
            name,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            **self.hub_kwargs,
        )

    def read_json(self, name: str) -> dict | None:
        """Read an object; a `ValueError` names the file that is none."""
        path = self.find(name)
        if path is None:
            return None
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name} of {self.source} is no JSON ({error}): fetch this file again.") from error
        if not isinstance(content, dict):
            raise ValueError(f"{name} of {self.source} holds no object: fetch this file again.")
        return content

    def weight_names(self) -> list[str]:
        """Names of the safetensors files, sorted; a `ValueError` says so where one would lie outside of the folder."""
        index = self.read_json(INDEX_FILE)
        if index is None:
            return [SINGLE_FILE]
        if Path(self.source, SINGLE_FILE).is_file():  # libraries disagree about which of them counts
            raise ValueError(f"{self.source} holds {SINGLE_FILE} and {INDEX_FILE}: remove the one that is not meant.")
        names = index.get("weight_map")
        if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
            raise ValueError(f"{INDEX_FILE} of {self.source} has no weight_map: fetch this file again.")
        for name in names.values():
            if name != Path(name).name or "\\" in name or not name.endswith(".safetensors"):
                raise ValueError(f"{INDEX_FILE} of {self.source} names {name!r}: only safetensors files are read.")
        return sorted(set(names.values()))

    def weight_files(self) -> list[str]:
        """Paths of the safetensors files, in the order of their names."""
        paths, names = [], self.weight_names()
        for name in names:
            path = self.find(name)
            if path is None:
                pickles = [pickle for pickle in PICKLE_FILES if names == [SINGLE_FILE] and self.find(pickle)]
                if pickles:
                    raise ValueError(
                        f"{pickles[0]} of {self.source} is a pickle file, which can run code when it is read: give "
                        "the weights as safetensors."
                    )
                raise ValueError(f"{name} is missing from {self.source}: fetch this safetensors file again.")
            paths.append(path)
        return paths

    def tensor_shapes(self) -> dict[str, list[int]]:
        """Shape of every tensor, read from the headers of the safetensors files; a repository's are not fetched."""
        # transformers says `local_files_only=False`, too.
        is_remote = not any(self.hub_kwargs.get(name) for name in ("local_files_only", "subfolder"))
        if is_remote and not Path(self.source).is_dir():
            options = {name: self.hub_kwargs[name] for name in ("revision", "token") if name in self.hub_kwargs}
            # What fails here is said by the files: they may lie in the cache, and if not, the one that lacks is named.
            with suppress(OSError, httpx.HTTPError, HFValidationError, NotASafetensorsRepoError):
                files = get_safetensors_metadata(self.source, **options).files_metadata.values()
                return {key: tensor.shape for file in files for key, tensor in file.tensors.items()}
        shapes = {}
        for path in self.weight_files():
            with open_safetensors(path) as tensors:
                shapes.update({key: tensors.get_slice(key).get_shape() for key in tensors.keys()})  # noqa: SIM118
        return shapes

    def token_ids(self) -> dict[str, int]:
        """Ids of the added tokens."""
        for name in ("tokenizer_config.json", "tokenizer/tokenizer_config.json"):
            added = (self.read_json(name) or {}).get("added_tokens_decoder")
            if added:
                return {token["content"]: int(token_id) for token_id, token in added.items()}
        for name in ("added_tokens.json", "tokenizer/added_tokens.json"):
            added = self.read_json(name)
            if added:
                return added
        for name in ("tokenizer.json", "tokenizer/tokenizer.json"):
            added = (self.read_json(name) or {}).get("added_tokens")
            if added:
                return {token["content"]: token["id"] for token in added}
        raise ValueError(f"no tokenizer with added tokens in {self.source}: put the published tokenizer there.")


def open_safetensors(path: str | Path) -> safe_open:
    """Open a safetensors file; a `ValueError` names the file that is none, or that is damaged."""
    with open(path, "rb") as file:
        start = file.read(48)
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a pointer of git-lfs, not the file itself: run `git lfs pull` there.")
    # Behind the length of its header, 8 bytes that may look like anything, a safetensors file goes on with "{".
    if start[8:9] != b"{" and start.startswith((b"PK\x03\x04", b"\x80")):
        raise ValueError(f"{path} is a pickle file under another name: give the weights as safetensors.")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): fetch this file again.") from error


def published_weight_mapping(prefix: str) -> list[WeightRenaming | WeightConverter]:
    """
    List the renamings from the published tensors to ours.

    Args:
        prefix (`str`): `"model."` for the model with a head, `""` for the base model.
    """
    packer = r"^model\.vision_resampler\.token_packer{}\.devide_attention\."
    renamed = {
        r"^model\.vision_tower\.vision_tower\.vision_model": "vision_tower",
        r"^model\.mm_projector\.0": "multi_modal_projector.linear_1",
        r"^model\.mm_projector\.2": "multi_modal_projector.linear_2",
        r"^model\.embed_tokens": "language_model.embed_tokens",
        r"^model\.layers": "language_model.layers",
        r"^model\.norm": "language_model.norm",
    }
    converters = []
    for suffix, stage in (("", "spatial"), ("_slow", "slow"), ("_fast", "fast")):
        old, new = packer.format(suffix), f"packer.{stage}."
        for short, name in (("q", "query"), ("k", "key"), ("v", "value")):
            renamed[f"{old}to_{short}"] = f"{new}{name}_mlp"
            renamed[f"{old}ln_{short}"] = f"{new}{name}_norm"
        renamed[old + r"attn\.out_proj"] = new + "attention_proj"
        renamed[f"{old}to_out"] = new + "output_proj"
        for kind in ("weight", "bias"):
            converters.append(
                WeightConverter(
                    [f"model.vision_resampler.token_packer{suffix}.devide_attention.attn.in_proj_{kind}"],
                    [f"{prefix}{new}{name}_proj.{kind}" for name in ("query", "key", "value")],
                    [Chunk(dim=0)],
                )
            )
    for direction in ("input", "output"):
        converters.append(
            WeightConverter(
                [
                    f"model.{axis}_{direction}_embeddings.weight"
                    for axis in ("temporal", "spatial_height", "spatial_width")
                ],
                f"{prefix}coordinate_embeddings.{direction}_table",
                [Concatenate(dim=0)],
            )
        )
    return [WeightRenaming(old, prefix + new) for old, new in renamed.items()] + converters


def register_published_layout() -> None:
    """Let `from_pretrained` read the published tensor names into both models."""
    for class_name, prefix in (("LlavaSTForConditionalGeneration", "model."), ("LlavaSTModel", "")):
        register_checkpoint_conversion_mapping(class_name, published_weight_mapping(prefix), overwrite=True)


__all__ = [
    "compute_stride",
    "convert_published_config",
    "is_published_config",
    "open_safetensors",
    "published_weight_mapping",
    "register_published_layout",
]
