"""Pretrains the vision tower and the projector of the tiny model, as those of the published one are.

Every patch learns to say what it shows: the rows of the words for colour and shape in the embedding of the language
model, and where the edges of its object are in the frame.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from scene_labels import DIFFICULTY, NAMES, label_scene, make_code_directions, read_codes, read_shares
from torch import nn
from tqdm import tqdm
from transformers.hf_argparser import string_to_bool

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.shapes import ShapesDataset

CLIPS_PER_STEP, FRAMES_PER_CLIP, IMAGES_PER_STEP = 12, 4, 16
LEARNING_RATE = 3e-3


class Pictures:
    """
    Frames of clips and images, with the truth about their patches.

    Args:
        processor (`LlavaSTProcessor`): Says how large pictures are and how they are normalised.
        grid_size (`int`): Patches along a side.
        num_steps (`int`): Number of batches.
        seed (`int`): Seed of the pictures.
    """

    def __init__(self, processor: LlavaSTProcessor, grid_size: int, num_steps: int, seed: int):
        self.grid_size = grid_size
        self.image_processor = processor.image_processor
        options = {"seed": seed, "size": self.image_processor.size["height"], "difficulty": DIFFICULTY}
        self.clips = ShapesDataset(["svg"], max(num_steps, 1) * CLIPS_PER_STEP, **options)
        self.images = ShapesDataset(["rec"], max(num_steps, 1) * IMAGES_PER_STEP, **options)
        self.generator = np.random.default_rng(seed)

    def make_batch(self, step: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return pixels (pictures, 3, height, width); owners, names and codes of the patches, see `SceneLabels`."""
        frames, labels = [], []
        for dataset, count in ((self.clips, CLIPS_PER_STEP), (self.images, IMAGES_PER_STEP)):
            for index in range(step * count, (step + 1) * count):
                pixels, truth = dataset[index].media[0].frames, label_scene(dataset.make_scene(index), self.grid_size)
                chosen = [0]
                if dataset is self.clips:
                    chosen = np.sort(self.generator.choice(len(pixels), FRAMES_PER_CLIP, replace=False))
                frames.append(pixels[chosen] if dataset is self.clips else pixels[None])
                labels.append((truth.owners[chosen], truth.cell_names[chosen], truth.cell_codes[chosen]))
        pixels = torch.from_numpy(np.concatenate(frames)).permute(0, 3, 1, 2) / 255
        # The same for all channels.
        pixels = (pixels - self.image_processor.image_mean[0]) / self.image_processor.image_std[0]
        return pixels, [torch.cat(parts) for parts in zip(*labels, strict=True)]


def pretrain_vision_tower(
    model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, num_steps: int, seed: int, bf16: bool
) -> None:
    """
    Train the vision tower and the projector in place.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model; its embedding stays as it is.
        processor (`LlavaSTProcessor`): Turns images into pixels and words into tokens.
        num_steps (`int`): Steps of 64 pictures.
        seed (`int`): Seed of the pictures.
        bf16 (`bool`): Whether the model runs in bfloat16.
    """
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    layer = model.config.vision_feature_layer
    pictures = Pictures(processor, model.config.patch_grid_size, num_steps, seed)
    words = [find_rows(model, processor, names) for names in NAMES]
    directions = make_code_directions(words[0].shape[1])
    parameters = [*tower.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, max(num_steps, 1), pct_start=0.05)
    progress = tqdm(range(num_steps), desc="pretraining the vision tower", unit="step", mininterval=5)
    for step in progress:
        pixels, (owners, names, codes) = pictures.make_batch(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            features = projector(tower(pixels, output_hidden_states=True).hidden_states[layer])
        loss = compute_feature_loss(features.float(), words, directions, owners, names, codes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            shown = owners >= 0
            right = (read_shares(features.float(), words[1]).argmax(-1) == names[..., 1])[shown].float().mean()
            error = (read_codes(features.float(), directions) - codes)[shown][:, :4].abs().mean() / (2 * 3**0.5)
            progress.set_postfix(loss=f"{loss.item():.3f}", right_shape=f"{right:.2f}", error_of_edges=f"{error:.3f}")


def compute_feature_loss(
    features: torch.Tensor,
    words: list[torch.Tensor],
    directions: torch.Tensor,
    owners: torch.Tensor,
    names: torch.Tensor,
    codes: torch.Tensor,
) -> torch.Tensor:
    """
    Return how far features are from saying what their cell shows.

    Args:
        features (`torch.Tensor`): (..., hidden).
        words (`list[torch.Tensor]`): Rows of colours and of shapes: (words, hidden) each.
        directions (`torch.Tensor`): Of the code: (CODE_SIZE, hidden).
        owners (`torch.Tensor`): (...), -1 for background, which is to say no word.
        names (`torch.Tensor`): (..., 2).
        codes (`torch.Tensor`): (..., CODE_SIZE).
    """
    shown = owners >= 0
    loss = 2 * F.smooth_l1_loss(read_codes(features, directions)[shown], codes[shown], beta=0.3)
    for kind, rows in enumerate(words):
        truth = F.one_hot(names[..., kind], len(rows)) * shown[..., None]
        loss = loss + (read_shares(features, rows) - truth).square().sum(-1).mean()
    return loss


def add_training_arguments(parser: argparse.ArgumentParser, num_steps: int) -> None:
    """Add the options of the scripts before the stages."""
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=num_steps)
    add_precision_argument(parser)


def add_precision_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--bf16`."""
    parser.add_argument("--bf16", type=string_to_bool, default=True, help="false is faster on some CPUs (true)")


def find_rows(
    model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, names: tuple[str, ...]
) -> torch.Tensor:
    """Return the embedding rows of words, scaled to a mean square of 1: (words, hidden)."""
    rows = model.get_input_embeddings().weight.detach()[find_ids(processor, names)]
    return F.rms_norm(rows, rows.shape[-1:])


def find_ids(processor: LlavaSTProcessor, names: tuple[str, ...]) -> torch.Tensor:
    """Return the token ids of words inside a sentence, each of which has to be one token: (words,)."""
    ids = [processor.tokenizer(f" {name}").input_ids for name in names]
    if longer := [name for name, found in zip(names, ids, strict=True) if len(found) > 1]:
        raise ValueError(f"names: {', '.join(longer)} are not one token each: train the tokenizer on more texts.")
    return torch.tensor(ids).flatten()
