"""One script for a machine with a GPU: tests marked `gpu`, the recipe for own clips, answers and training at 7B shape.

    python benchmarks/gpu.py [--size 7b] [--output gpu.json] [--skip-tests]

Weights are random, in bfloat16; the clip is random frames in memory. Printed, each line with its unit, and written as
JSON:

- `recipes/custom_grounding_lora` as it is written, with the small model that ships, in bfloat16: ten clips become an
  adapter and a merged model, and both answer; seconds, the precision that it chose, and the loss held out;
- an STVG answer with a box at each of 100 frames: seconds, tokens, forward passes, tokens a second, peak memory, and
  the share of the memory-bandwidth limit: the time in which the weights that a pass reads can be read, by a copy
  measured in this run, over the time that a pass took;
- eight questions about one clip, over the time of one;
- a training step of LoRA with gradient checkpointing on 2,520 video tokens: samples a second, peak memory, and model
  FLOP utilisation: 4 FLOPs for each weight of the language model and token (forward, and backward to the inputs; what
  is computed again does not count), over those of a large product of matrices in the same time.

It takes less than eight minutes on one GPU of 24 GB or more. `--size tiny` runs the same on a CPU in seconds, to try
the script.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from convert_7b import make_tokenizer as make_published_tokenizer
from peft import get_peft_model
from torch import nn
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from llava_st_cli import main as run_command
from llava_st_hf import (
    GroundingSession,
    LlavaSTConfig,
    LlavaSTForConditionalGeneration,
    LlavaSTProcessor,
    load_pipeline,
)
from llava_st_hf.data.shapes import ShapesDataset, write_shapes
from llava_st_hf.demo import SHIPPED_CHECKPOINT
from llava_st_hf.processing import add_coordinate_tokens, add_media_tokens
from llava_st_hf.training import make_lora_config

RECIPE = Path(__file__).parents[1] / "recipes" / "custom_grounding_lora"
NUM_QUESTIONS = 8
NUM_STEPS = 4  # of training; the first is left out of the time
TEXT_TOKENS = 720  # beside 2,520 of the clip: 3,240, a tube of 70 boxes
TINY_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
TINY_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


class WholeClip(LogitsProcessor):
    """
    Prefer the first and the last time, so that the span of an answer is the whole clip.

    Args:
        first_time_id (`int`): Id of the first time token.
        num_times (`int`): How many there are.
    """

    def __init__(self, first_time_id: int, num_times: int):
        self.ids = [first_time_id, first_time_id + num_times - 1]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Add to the scores of both; behind the first time the grammar leaves the last one only."""
        scores[:, self.ids] += 1e4
        return scores


def make_parts(size: str, device: torch.device) -> tuple[LlavaSTForConditionalGeneration, LlavaSTProcessor]:
    """Make a model of random weights in bfloat16, and its processor."""
    tokenizer = make_tokenizer(size)
    offset = tokenizer.convert_tokens_to_ids("<t_0>")
    sizes: dict[str, Any] = {}
    if size == "tiny":
        vision = {"model_type": "siglip_vision_model", "image_size": 126, "patch_size": 14, "vision_use_head": False}
        sizes = {"vision_config": vision | TINY_VISION, "packer_hidden_size": 32}
        sizes["text_config"] = {"model_type": "qwen2", "vocab_size": offset} | TINY_TEXT
    config = LlavaSTConfig(
        **sizes,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        coordinate_token_offset=offset,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlavaSTForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(before)
    return model, LlavaSTProcessor.from_config(config, tokenizer)


def make_tokenizer(size: str) -> PreTrainedTokenizerBase:
    """Make a tokenizer with the media and coordinate tokens: of the published size, or the one that ships."""
    if size == "tiny":
        return LlavaSTProcessor.from_pretrained(SHIPPED_CHECKPOINT).tokenizer
    tokenizer = make_published_tokenizer()
    add_media_tokens(tokenizer)
    add_coordinate_tokens(tokenizer)
    return tokenizer


class Meter:
    """
    Takes time, peak memory and forward passes of the language model.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model.
    """

    def __init__(self, model: nn.Module):
        self.device = next(model.parameters()).device
        self.passes = 0
        language_model = next(part for name, part in model.named_modules() if name.endswith("language_model"))
        language_model.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.passes += 1

    def measure(self, run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
        """Run something once; return what it returned, and `seconds`, `passes` and `peak_gib`."""
        is_gpu = self.device.type == "cuda"
        if is_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
            torch.cuda.synchronize(self.device)
        passes, start = self.passes, time.perf_counter()
        result = run()
        if is_gpu:
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated(self.device) if is_gpu else 1024 * get_resident_kib()
        return result, {"seconds": seconds, "passes": self.passes - passes, "peak_gib": peak / 2**30}


def get_resident_kib() -> int:
    """Return the peak of resident memory of this process in KiB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def time_repeated(run: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Return the seconds of one of several runs in a row, behind one that does not count."""
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / repeats


def measure_bandwidth(device: torch.device) -> float:
    """Return the bytes a second that a copy reads and writes."""
    source = torch.empty(2**28 if device.type == "cuda" else 2**22, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / time_repeated(lambda: target.copy_(source), device, 20)


def measure_flops(device: torch.device) -> float:
    """Return the FLOPs a second of a product of large matrices in bfloat16."""
    side = 8192 if device.type == "cuda" else 256
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / time_repeated(lambda: left @ right, device, 20)


def measure_recipe(options: list[str]) -> dict[str, Any]:
    """Go from ten clips to the answers of an adapter and of a merged model, by the commands of the recipe's README."""
    with tempfile.TemporaryDirectory() as folder:
        base, run = Path(folder, "base"), Path(folder, "my_run")
        LlavaSTForConditionalGeneration.from_pretrained(SHIPPED_CHECKPOINT, dtype=torch.bfloat16).save_pretrained(base)
        LlavaSTProcessor.from_pretrained(SHIPPED_CHECKPOINT).save_pretrained(base)
        shutil.copytree(RECIPE, run)
        write_shapes(run / "my_videos", ShapesDataset(["stvg"], 10, seed=5)).rename(run / "my_data.jsonl")
        start = time.perf_counter()
        train = ["train", str(run / "sft.yaml"), "--model_name_or_path", str(base), *options]
        for command in (train, ["merge", str(run / "output"), "--to", str(run / "merged")]):
            if run_command(command) != 0:
                raise RuntimeError(f"llava-st {' '.join(command)} failed")
        clip = next(path for path in (run / "my_videos" / "media").iterdir() if path.stem == "9")
        results = [load_pipeline(run / name)(clip, "a circle moves") for name in ("output", "merged")]
        state = json.loads((run / "output" / "trainer_state.json").read_text(encoding="utf-8"))
        losses = [entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry]
        card = json.loads((run / "output" / "training.json").read_text(encoding="utf-8"))
        return {
            "recipe_seconds": time.perf_counter() - start,
            "recipe_hardware": card["hardware"],
            "recipe_precision": next((name for name in ("bf16", "fp16") if card["hyper_parameters"][name]), "float32"),
            "recipe_first_loss": losses[0],
            "recipe_last_loss": losses[-1],
            "recipe_same_answers": int(results[0].spans == results[1].spans),
        }


def measure_answers(model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor) -> dict[str, float]:
    """Answer STVG with a box at each frame, then one and eight questions about the clip."""
    num_frames = processor.video_processor.num_frames
    shape = (num_frames, 180, 320, 3)
    clip = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    meter = Meter(model)
    bandwidth = measure_bandwidth(model.device)
    text_model = model.model.language_model
    bytes_of_a_pass = sum(weight.nbytes for part in (text_model.layers, model.lm_head) for weight in part.parameters())

    def ask(num_questions: int, task: str, **options: Any) -> list[Any]:
        session = GroundingSession(model, processor, video=clip, video_fps=25.0)
        return [session.ask(task, query=f"event {index} happens", **options) for index in range(num_questions)]

    whole = [WholeClip(processor.coordinate_token_offset, processor.num_temporal_tokens)]
    stvg = {"every_frame": True, "max_new_tokens": 64 + 12 * num_frames, "generate": {"logits_processor": whole}}
    ask(1, "tvg", max_new_tokens=16)
    (result,), measured = meter.measure(lambda: ask(1, "stvg", **stvg))
    _, first = meter.measure(lambda: ask(1, "tvg", max_new_tokens=16))
    _, eight = meter.measure(lambda: ask(NUM_QUESTIONS, "tvg", max_new_tokens=16))
    num_tokens = len(processor.tokenizer(result.text).input_ids)
    decoding = max(measured["seconds"] - first["seconds"], 1e-9)
    bytes_read = (measured["passes"] - first["passes"]) * bytes_of_a_pass
    return {
        "stvg_boxes": len(result.tubes[0].boxes),
        "stvg_seconds": measured["seconds"],
        "stvg_tokens": num_tokens,
        "stvg_passes": measured["passes"],
        "stvg_tokens_per_second": num_tokens / measured["seconds"],
        "stvg_share_of_bandwidth_limit": bytes_read / bandwidth / decoding,
        "stvg_peak_gib": measured["peak_gib"],
        "copy_gb_per_second": bandwidth / 1e9,
        "eight_questions_over_one": eight["seconds"] / first["seconds"],
    }


def measure_training(model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor) -> dict[str, float]:
    """Train LoRA for some steps of one sample."""
    config, device = model.config, model.device
    num_video_tokens = count_video_tokens(processor)
    adapted = get_peft_model(model, make_lora_config(rank=128))
    adapted.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    adapted.train()
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-5)
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(0, 256, (1, TEXT_TOKENS), generator=generator)
    ids = torch.cat([torch.full((1, num_video_tokens), config.video_token_id), text], 1).to(device)
    labels = ids.clone()
    labels[:, : num_video_tokens + TEXT_TOKENS // 4] = -100
    size, num_frames = processor.video_processor.size, processor.video_processor.num_frames
    pixels = torch.randn(1, num_frames, 3, size["height"], size["width"], generator=generator)
    pixels = pixels.to(device, torch.bfloat16)

    def step() -> None:
        adapted(input_ids=ids, labels=labels, pixel_values_videos=pixels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    _, measured = Meter(adapted).measure(lambda: [step() for _ in range(NUM_STEPS - 1)])
    seconds = measured["seconds"] / (NUM_STEPS - 1)
    named = model.model.language_model.layers.named_parameters()
    num_weights = sum(weight.numel() for name, weight in named if "lora" not in name)
    return {
        "lora_tokens": ids.shape[1],
        "lora_video_tokens": num_video_tokens,
        "lora_trained_weights": sum(weight.numel() for weight in trained),
        "lora_step_seconds": seconds,
        "lora_samples_per_second": 1 / seconds,
        "lora_flop_utilisation": 4 * num_weights * ids.shape[1] / seconds / measure_flops(device),
        "lora_peak_gib": measured["peak_gib"],
    }


def count_video_tokens(processor: LlavaSTProcessor) -> int:
    """Return how many placeholders a clip of the usual number of frames has."""
    size, num_frames = processor.video_processor.size, processor.video_processor.num_frames
    sizes = [(num_frames, size["height"], size["width"])]
    return processor._get_num_multimodal_tokens(video_sizes=sizes)["num_video_tokens"][0]


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Run the tests and measure; print and return the metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("7b", "tiny"), default="7b")
    parser.add_argument("--output", type=Path, help="JSON file for the metrics")
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.size == "7b" and device.type == "cpu":
        parser.error("--size 7b needs a GPU: give --size tiny to try the script without one.")
    if not options.skip_tests:
        tests = subprocess.run([sys.executable, "-m", "pytest", "-m", "gpu"], check=False)
        print(f"tests marked gpu: exit code {tests.returncode}", flush=True)
    metrics = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    metrics |= measure_recipe(["--max_steps", "4", "--num_frames", "8"] if options.size == "tiny" else [])
    torch.manual_seed(0)
    model, processor = make_parts(options.size, device)
    for measure in (measure_answers, measure_training):
        metrics |= measure(model, processor)
        for name, value in metrics.items():
            print(f"  {name:32}{value if isinstance(value, (str, int)) else f'{value:.4g}'}", flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    return metrics


if __name__ == "__main__":
    main()
