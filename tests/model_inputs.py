"""Inputs for the tiny model of tests/modeling/conftest.py: prompts with placeholders, images and videos."""

import torch
import torch.nn.functional as F

IMAGE, VIDEO = 38, 39
GRID = 8  # patches along one side
PACKED = 3  # 8 patches in squares of 3
FAST = 1  # 3 packed tokens in squares of 3
SLOW_TOKENS = PACKED * PACKED


def video_tokens(frames: int, fast: bool = True) -> int:
    return frames * FAST * FAST * fast + -(-frames // 5) * SLOW_TOKENS


def prompt(*parts: list[int] | int) -> torch.Tensor:
    ids = []
    for part in parts:
        ids += part if isinstance(part, list) else [part]
    return torch.tensor([ids])


def pixels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, 3, 34, 34, generator=torch.Generator().manual_seed(seed))


def video_inputs(frames: int, seed: int = 0) -> dict:
    return {
        "input_ids": prompt([2, 3], [VIDEO] * video_tokens(frames), [4, 40, 47, 5]),
        "pixel_values_videos": pixels(1, frames, seed=seed),
    }


def left_pad(samples: list[torch.Tensor], value: float) -> torch.Tensor:
    longest = max(sample.shape[-1] for sample in samples)
    return torch.cat([F.pad(sample, (longest - sample.shape[-1], 0), value=value) for sample in samples])
