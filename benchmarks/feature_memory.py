"""Peak memory of the features of a clip, with and without the last state of the vision tower.

The sizes of the published model where they count: a vision tower 1,152 wide (one layer of it), 27x27 patches; a
language model 896 wide, of which nothing runs here. The peak is what the process holds above its level before (Linux:
VmHWM), also in units of the last state of all frames; a chunk of few frames needs little beside it.

    python benchmarks/feature_memory.py [--frames 60] [--hidden 896] [--chunk 4]
"""

import argparse

import torch
from loss_memory import peak_and_seconds

from llava_st_hf import LlavaSTConfig, LlavaSTModel

GRID, PATCH_SIZE, WIDTH = 27, 14, 1152


def make_model(hidden: int, chunk: int) -> LlavaSTModel:
    """Build the model with one layer in each tower and a small vocabulary."""
    config = LlavaSTConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": WIDTH,
            "intermediate_size": 4304,
            "num_hidden_layers": 1,
            "num_attention_heads": 16,
            "image_size": GRID * PATCH_SIZE,
            "patch_size": PATCH_SIZE,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": hidden,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 1000,
        },
        image_token_id=1,
        video_token_id=2,
        coordinate_token_offset=1000,
        vision_chunk_size=chunk,
    )
    return LlavaSTModel(config).eval()


def main() -> None:
    """Measure once without and once with the last state."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--hidden", type=int, default=896)
    parser.add_argument("--chunk", type=int, default=4)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = make_model(options.hidden, options.chunk)
    pixels = torch.randn(1, options.frames, 3, GRID * PATCH_SIZE, GRID * PATCH_SIZE)
    state_mib = options.frames * GRID**2 * WIDTH * 4 / 2**20
    print(f"{options.frames} frames of {GRID}x{GRID} patches, float32; their last state is {state_mib:.0f} MiB")
    with torch.no_grad():
        model.get_video_features(pixels[:, :1])  # what torch sets up once
        for is_kept in (False, True):
            peak, _ = peak_and_seconds(
                lambda is_kept=is_kept: model.get_video_features(pixels, output_last_hidden_state=is_kept)
            )
            print(f"last state {'kept' if is_kept else 'not kept'}: peak {peak / state_mib:.2f} ({peak:.0f} MiB)")


if __name__ == "__main__":
    main()
