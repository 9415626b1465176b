"""Makes tiny random checkpoints: as the published ones lie on the disk, and LLaVA-OneVision ones of transformers."""

import json
from pathlib import Path

import small_sizes
import torch
from random_checkpoint import train_tokenizer
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration
from llava_st_hf.processing.tokenization_llava_st import add_media_tokens

MEDIA_TOKENS = [f"{kind}_{end}" for kind in ("im", "vid") for end in ("start", "end", "patch")]
MEDIA_TOKENS += ["slow_vid_start", "slow_vid_end"]
TEMPLATES = [f"{axis}-{way}" for axis in ("TEMP", "HEIGHT", "WIDTH") for way in ("INPUT", "OUTPUT")]
TIMES, PLACES = 10, 16
VISION = {**small_sizes.VISION, "image_size": 54, "patch_size": 6}
TEXT = {**small_sizes.TEXT, "max_position_embeddings": 2048}


def make_published_checkpoint(
    folder: Path,
    model_type: str = "llava_qwen",
    tokenizer_folder: str = "",
    num_shards: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a checkpoint in the published layout, in one of the two forms of its config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    tokenizer.add_tokens([AddedToken(f"<{name}>", special=True) for name in (*MEDIA_TOKENS, *TEMPLATES)])
    vocab_size = len(tokenizer)
    names = [("TEMP", TIMES), ("HEIGHT", PLACES), ("WIDTH", PLACES)]
    coordinates = [f"<{axis}-{index:03d}>" for axis, size in names for index in range(size)]
    tokenizer.add_tokens([AddedToken(name, special=True) for name in coordinates])
    tokenizer.save_pretrained(folder / tokenizer_folder)
    # The published files were written by an older transformers, which also wrote this one.
    (folder / tokenizer_folder / "added_tokens.json").write_text(json.dumps(tokenizer.get_added_vocab()))

    config = LlavaSTConfig(
        vision_config=VISION,
        text_config={**TEXT, "vocab_size": vocab_size},
        image_token_id=tokenizer.convert_tokens_to_ids("<im_patch>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<slow_vid_start>"),
        num_temporal_tokens=TIMES,
        num_spatial_tokens=PLACES,
        packer_hidden_size=16,
    )
    torch.manual_seed(0)
    model = LlavaSTForConditionalGeneration(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # also biases, norms: each tensor differs from the others
    published_tensors = rename_as_published(model.to(dtype).state_dict())
    save_file(published_tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shard_file(folder, num_shards)

    published = {
        **{name: value for name, value in TEXT.items() if name != "model_type"},
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": model_type,
        "vocab_size": vocab_size,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "mm_vision_tower": "siglip-tiny",
        "mm_perceiver_latents": 9,
        "mm_perceiver_latents_fast": 1,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    if model_type == "llava":
        del published["vocab_size"]
        published["text_config"] = {"model_type": "llama", "vocab_size": vocab_size}
        published["vision_config"] = {"model_type": "clip_vision_model"}
    (folder / "config.json").write_text(json.dumps(published, indent=1))
    (folder / "vision_tower_config.json").write_text(json.dumps(VISION))
    (folder / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 0.01, "eos_token_id": [tokenizer.eos_token_id, 7]})
    )
    return folder


def rename_as_published(ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give tensors their published names; written out here, so that the table of the library is checked by it."""
    ours, published = dict(ours), {}
    for way in ("input", "output"):
        parts = ours.pop(f"model.coordinate_embeddings.{way}_table").split((TIMES, PLACES, PLACES))
        for axis, part in zip(("temporal", "spatial_height", "spatial_width"), parts, strict=True):
            published[f"model.{axis}_{way}_embeddings.weight"] = part.clone()
    for suffix, stage in (("", "spatial"), ("_slow", "slow"), ("_fast", "fast")):
        old, new = f"model.vision_resampler.token_packer{suffix}.devide_attention.", f"model.packer.{stage}."
        for kind in ("weight", "bias"):
            parts = [ours.pop(f"{new}{name}_proj.{kind}") for name in ("query", "key", "value")]
            published[f"{old}attn.in_proj_{kind}"] = torch.cat(parts)
        names = {"attention_proj": "attn.out_proj", "output_proj": "to_out"}
        for short, name in (("q", "query"), ("k", "key"), ("v", "value")):
            names.update({f"{name}_norm": f"ln_{short}", f"{name}_mlp": f"to_{short}"})
        for key in [key for key in ours if key.startswith(new)]:
            name, rest = key.removeprefix(new).split(".", 1)
            published[f"{old}{names[name]}.{rest}"] = ours.pop(key)
    prefixes = {
        "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.",
        "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
        "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
        "model.language_model.": "model.",
        "lm_head.": "lm_head.",
    }
    for key, tensor in ours.items():
        new = next(prefix for prefix in prefixes if key.startswith(prefix))
        published[prefixes[new] + key.removeprefix(new)] = tensor
    return published


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file into memory; what `load_file` gives is the file itself, which tests write over."""
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def edit_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors of model.safetensors, add new ones, take out those that are `None`; `__` stands for a dot."""
    tensors = read_tensors(folder / "model.safetensors")
    tensors |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    save_file({n: tensor for n, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")


def shard_file(folder: Path, num_shards: int) -> None:
    """Divide model.safetensors into shards with an index."""
    if num_shards == 1:
        return
    tensors = read_tensors(folder / "model.safetensors")
    names = sorted(tensors)
    weight_map = {}
    for index in range(num_shards):
        file_name = f"model-{index + 1:05d}-of-{num_shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[index::num_shards]}
        save_file(part, folder / file_name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file_name))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def make_onevision_checkpoint(folder: Path, tied: bool, dtype: torch.dtype = torch.float32, **config) -> Path:
    """Write a LLaVA-OneVision of transformers, with a tokenizer that has fewer tokens than the embedding rows."""
    tokenizer = train_tokenizer()
    add_media_tokens(tokenizer)
    tokenizer.save_pretrained(folder)
    settings = {
        "vision_config": VISION,
        "text_config": {**TEXT, "vocab_size": len(tokenizer) + 13, "tie_word_embeddings": tied},
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
        "video_token_index": tokenizer.convert_tokens_to_ids("<video>"),
        "tie_word_embeddings": tied,
    }
    torch.manual_seed(0)
    model = LlavaOnevisionForConditionalGeneration(LlavaOnevisionConfig(**{**settings, **config}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.to(dtype).save_pretrained(folder)
    return folder
