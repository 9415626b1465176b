"""Forward of LAPE and the packer against a plain loop over regions, the same weights and clip, one run.

python benchmarks/packer_and_lape.py [--frames 20] [--grid 27] [--hidden 896] [--packer 512] [--repeats 3]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from llava_st_hf import LlavaSTConfig
from llava_st_hf.modeling.coordinates_llava_st import (
    LlavaSTCoordinateEmbeddings,
    language_aligned_positions,
    sample_rows,
)
from llava_st_hf.modeling.packer_llava_st import LlavaSTPacker, LlavaSTPointToRegionAttention


def pack_vectorised(patches: torch.Tensor, packer: LlavaSTPacker, time_rows: torch.Tensor, place: torch.Tensor):
    """As the model does it: LAPE by broadcasting, every stage one batch of regions."""
    frames = packer.pack_frames(patches + place + time_rows[:, None, None])
    return packer.pack_fast(frames).flatten(0, 2), packer.pack_slow(frames).flatten(0, 2)


def pack_in_a_loop(patches: torch.Tensor, packer: LlavaSTPacker, time_rows: torch.Tensor, place: torch.Tensor):
    """One region at a time, LAPE added to its tokens; strides that divide, as in the published model."""
    marked = torch.empty_like(patches)
    for frame in range(patches.shape[0]):
        for row in range(patches.shape[1]):
            marked[frame, row] = patches[frame, row] + place[row] + time_rows[frame]
    frames = squares_in_a_loop(packer.spatial, marked, packer.spatial_stride)
    fast = squares_in_a_loop(packer.fast, frames, packer.fast_spatial_stride)
    stride, size = packer.temporal_stride, frames.shape[1]
    slow = [
        attend_one(packer.slow, frames[start : start + stride, row, column])
        for start in range(0, frames.shape[0], stride)
        for row in range(size)
        for column in range(size)
    ]
    return fast.flatten(0, 2), torch.stack(slow)


def squares_in_a_loop(attention: LlavaSTPointToRegionAttention, frames: torch.Tensor, stride: int) -> torch.Tensor:
    """Reduce every square of every frame, one after the other."""
    size = frames.shape[1] // stride
    tokens = [
        attend_one(attention, frame[row : row + stride, column : column + stride].flatten(0, 1))
        for frame in frames
        for row in range(0, size * stride, stride)
        for column in range(0, size * stride, stride)
    ]
    return torch.stack(tokens).view(frames.shape[0], size, size, -1)


def attend_one(attention: LlavaSTPointToRegionAttention, region: torch.Tensor) -> torch.Tensor:
    """Attend from the centre of one region (tokens, hidden)."""
    weights = torch.zeros(region.shape[0])
    weights[region.shape[0] // 2] = 1
    return attention(region, weights)


def seconds(run: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Compare both forms in turn and print the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("frames", 20), ("grid", 27), ("hidden", 896), ("packer", 512), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.manual_seed(0)
    config = LlavaSTConfig(
        vision_config={"model_type": "siglip_vision_model", "patch_size": 14, "image_size": options.grid * 14},
        text_config={"model_type": "qwen2", "hidden_size": options.hidden, "vocab_size": 151700},
        packer_hidden_size=options.packer,
    )
    packer, tables = LlavaSTPacker(config), LlavaSTCoordinateEmbeddings(config)
    for table in tables.parameters():
        torch.nn.init.normal_(table)
    patches = torch.randn(options.frames, options.grid, options.grid, options.hidden)
    with torch.no_grad():
        time_rows, place = language_aligned_positions(*tables(), tables.axis_sizes, options.grid)
        time_rows = sample_rows(time_rows, options.frames)
        inputs = (patches, packer, time_rows, place)
        for ours, loop in zip(pack_vectorised(*inputs), pack_in_a_loop(*inputs), strict=True):
            torch.testing.assert_close(ours, loop, atol=1e-3, rtol=1e-3)
        ratios = [
            seconds(lambda: pack_vectorised(*inputs)) / seconds(lambda: pack_in_a_loop(*inputs))
            for _ in range(options.repeats)
        ]
    print(
        f"LAPE and packer, {options.frames} frames of {options.grid}x{options.grid}, width {options.hidden}: "
        f"time ours / loop over regions = {statistics.median(ratios):.3f} "
        f"(min {min(ratios):.3f}, max {max(ratios):.3f}, {options.repeats} pairs)"
    )


if __name__ == "__main__":
    main()
