"""Converts a full-size checkpoint in the published layout, and prints the peak of resident memory against 6 GiB.

Writes a 7B release of random bf16 numbers (16 GB, 4 shards) into `--work-dir`, runs `llava-st convert` on it in a
child process, compares what that wrote with the source tensor by tensor, and removes both. Needs 34 GB of disk;
`--load-back` also loads the result with `from_pretrained`, which takes 17 GB of memory. `--num-layers 2` takes 4 GB,
and less of all.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForImageTextToText, Qwen2Tokenizer

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration
from llava_st_hf.checkpoints.reading import LazyTensor, list_tensors
from llava_st_hf.modeling.conversion_llava_st import open_safetensors

LIMIT_GIB = 6
AXES = ("temporal", "spatial_height", "spatial_width")
PACKERS = {"spatial": "", "slow": "_slow", "fast": "_fast"}
MEDIA_TOKENS = [f"{kind}_{end}" for kind in ("im", "vid") for end in ("start", "end", "patch")]
MEDIA_TOKENS += ["slow_vid_start", "slow_vid_end"]
BASE_TOKENS = 151643
BLOCK = 2**25  # random numbers that all tensors are cut from, each at a place of its own


def published_sources(name: str) -> tuple[list[str], int | None]:
    """Name what a tensor is made of: one tensor, several that are joined, or a third of one (and which)."""
    if match := re.fullmatch(r"model\.coordinate_embeddings\.(input|output)_table", name):
        return [f"model.{axis}_{match[1]}_embeddings.weight" for axis in AXES], None
    if match := re.fullmatch(r"model\.packer\.(\w+)\.(\w+?)(\.\d)?\.(weight|bias)", name):
        stage, part, layer, kind = match.groups()
        prefix = f"model.vision_resampler.token_packer{PACKERS[stage]}.devide_attention."
        if part in ("query_proj", "key_proj", "value_proj"):
            return [f"{prefix}attn.in_proj_{kind}"], ("query_proj", "key_proj", "value_proj").index(part)
        known = {"attention_proj": "attn.out_proj", "output_proj": "to_out"}
        for short, long in (("q", "query"), ("k", "key"), ("v", "value")):
            known.update({f"{long}_mlp": f"to_{short}", f"{long}_norm": f"ln_{short}"})
        return [f"{prefix}{known[part]}{layer or ''}.{kind}"], None
    for ours, theirs in (
        ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
        ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
        ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
        ("model.language_model.", "model."),
    ):
        if name.startswith(ours):
            return [theirs + name.removeprefix(ours)], None
    return [name], None


def published_shapes(model: LlavaSTForConditionalGeneration) -> dict[str, list[int]]:
    """Shape of each tensor of the release."""
    shapes = {}
    for name, tensor in model.state_dict().items():
        sources, third = published_sources(name)
        shape = list(tensor.shape)
        shape[0] = shape[0] * 3 if third is not None else shape[0] // len(sources)
        shapes.update(dict.fromkeys(sources, shape))
    return shapes


def write_release(folder: Path, num_layers: int, num_shards: int = 4) -> int:
    """Write the random release and return its bytes of weights."""
    tokenizer = make_tokenizer()
    vocab_size = BASE_TOKENS + 4 + len(MEDIA_TOKENS) + 6
    text_config = {**LlavaSTConfig().text_config.to_dict(), "vocab_size": vocab_size, "num_hidden_layers": num_layers}
    text_config["layer_types"] = text_config["layer_types"][:num_layers]
    with torch.device("meta"):
        shapes = published_shapes(LlavaSTForConditionalGeneration(LlavaSTConfig(text_config=text_config)))
    random = np.random.default_rng(0).integers(0, 2**16, BLOCK, dtype=np.uint16)
    random &= 0xBFFF  # without the highest bit of the exponent every bf16 is finite, and below 2
    random = np.concatenate([random, random])
    total = 2 * sum(int(np.prod(shape)) for shape in shapes.values())
    shards, size = [[]], 0
    for name in sorted(shapes):
        if size > total / num_shards * len(shards) and len(shards) < num_shards:
            shards.append([])
        shards[-1].append(name)
        size += 2 * int(np.prod(shapes[name]))
    folder.mkdir(parents=True)
    weight_map = {}
    for number, names in enumerate(shards, start=1):
        file_name, header, end = f"model-{number:05d}-of-{len(shards):05d}.safetensors", {}, 0
        for name in names:
            start, end = end, end + 2 * int(np.prod(shapes[name]))
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [start, end]}
            weight_map[name] = file_name
        encoded = json.dumps(header).encode()
        encoded += b" " * (-len(encoded) % 8)
        with open(folder / file_name, "wb") as file:
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            for name in names:
                left, start = int(np.prod(shapes[name])), zlib.crc32(name.encode()) % BLOCK
                while left:
                    piece = random[start : start + min(left, BLOCK)]
                    file.write(piece.data)
                    left -= len(piece)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    fields = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    config = {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        **{name: text_config[name] for name in fields},
        "rope_theta": 1000000.0,
        "max_position_embeddings": 32768,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "mm_perceiver_latents": 81,
        "mm_perceiver_latents_fast": 9,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)
    (folder / "added_tokens.json").write_text(json.dumps(tokenizer.get_added_vocab()))
    return total


def make_tokenizer() -> Qwen2Tokenizer:
    """Make a tokenizer whose ids are those of the release; its words are letters and fillers."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"filler{index}" for index in range(BASE_TOKENS - len(alphabet)))]
    backend = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=[]))
    tokenizer = Qwen2Tokenizer(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", *(f"<{name}>" for name in MEDIA_TOKENS)]
    names += [f"<{axis}-{way}>" for axis in ("TEMP", "HEIGHT", "WIDTH") for way in ("INPUT", "OUTPUT")]
    names += [f"<{axis}-{index:03d}>" for axis in ("TEMP", "HEIGHT", "WIDTH") for index in range(100)]
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer


def read_bytes(tensor: LazyTensor) -> np.ndarray:
    """Read the bytes of a tensor."""
    return tensor.load(open_safetensors).flatten().view(torch.uint8).numpy()


def expected_bytes(name: str, source: dict[str, LazyTensor]) -> np.ndarray:
    """Bytes that a tensor must have."""
    sources, third = published_sources(name)
    data = np.concatenate([read_bytes(source[part]) for part in sources])
    return data if third is None else np.split(data, 3)[third]


def check_written(source_folder: Path, folder: Path) -> int:
    """Compare every tensor with the source, one at a time, and return how many there are."""
    source, written = list_tensors(source_folder), list_tensors(folder)
    used = set()
    for name, tensor in written.items():
        used.update(published_sources(name)[0])
        assert tensor.meta.dtype == torch.bfloat16, name
        assert np.array_equal(read_bytes(tensor), expected_bytes(name, source)), name
    assert used == set(source), "a tensor of the source is nowhere"
    return len(written)


def check_loaded(source_folder: Path, folder: Path) -> None:
    """Load the result as a user does, and compare."""
    source = list_tensors(source_folder)
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    for name, tensor in model.state_dict().items():
        actual = tensor.contiguous().flatten().view(torch.uint8).numpy()
        assert np.array_equal(actual, expected_bytes(name, source)), name


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work-dir", type=Path, required=True, help="folder on a disk with 34 GB free; made, removed")
    parser.add_argument("--num-layers", type=int, default=28, help="layers of the language model (28)")
    parser.add_argument("--load-back", action="store_true", help="also load the result (17 GB of memory)")
    options = parser.parse_args()
    options.work_dir.mkdir(parents=True)
    try:
        run(options.work_dir, options.num_layers, options.load_back)
    finally:
        shutil.rmtree(options.work_dir)


def run(work_dir: Path, num_layers: int, load_back: bool) -> None:
    """Write, convert, compare and print."""
    source, out = work_dir / "published", work_dir / "converted"
    start = time.perf_counter()
    total = write_release(source, num_layers)
    print(f"wrote a release of {total / 1e9:.2f} GB in {time.perf_counter() - start:.0f} s", flush=True)
    start = time.perf_counter()
    command = [sys.executable, "-m", "llava_st_cli", "convert", str(source), str(out), "--quiet"]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    assert os.waitstatus_to_exitcode(status) == 0, "llava-st convert failed"
    peak = usage.ru_maxrss / (2**20 if sys.platform == "linux" else 2**30)  # kilobytes, elsewhere bytes
    print(f"converted in {seconds:.0f} s, {total / 1e6 / seconds:.0f} MB/s", flush=True)
    print(f"peak of resident memory {peak:.2f} GiB, {peak / LIMIT_GIB:.2f} of {LIMIT_GIB} GiB", flush=True)
    print(f"{check_written(source, out)} tensors equal those of the source", flush=True)
    if load_back:
        check_loaded(source, out)
        print("loads back equal", flush=True)
    assert peak < LIMIT_GIB, f"{peak:.2f} GiB is above {LIMIT_GIB} GiB"


if __name__ == "__main__":
    main()
