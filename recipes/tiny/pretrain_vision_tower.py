"""Pretrains the vision tower and the projector of the tiny model, as those of the published one are.

Every patch learns to point at the words for what it shows, colour and shape, among the rows of the language model's
embedding. Nothing is learned of places: where something is stays for the stages to learn.
"""

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.shapes.scenes import COLORS, SHAPES, Scene

BATCH_SIZE = 16
LEARNING_RATE = 2e-3
NAMES = (tuple(COLORS), tuple(SHAPES))
BACKGROUND = tuple(len(names) for names in NAMES)  # the last class of each


def pretrain_vision_tower(
    model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, num_steps: int, seed: int
) -> None:
    """
    Train the vision tower and the projector in place.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model; its embedding stays as it is.
        processor (`LlavaSTProcessor`): Turns images into pixels and words into tokens.
        num_steps (`int`): Steps of `BATCH_SIZE` images.
        seed (`int`): Seed of the images.
    """
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    layer, grid_size = model.config.vision_feature_layer, model.config.patch_grid_size
    images = ShapesDataset(
        ["rec"],
        max(num_steps, 1) * BATCH_SIZE,
        seed=seed,
        size=processor.image_processor.size["height"],
        difficulty={"easy": 1, "standard": 1},
    )
    collator = LlavaSTDataCollator(processor)
    words = [find_rows(model, processor, names) for names in NAMES]
    parameters = [*tower.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, max(num_steps, 1), pct_start=0.05)
    progress = tqdm(range(num_steps), desc="pretraining the vision tower", unit="step")
    for step in progress:
        indices = range(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        pixels = collator([images[index] for index in indices])["pixel_values"]
        labels = torch.stack([label_patches(images.make_scene(index), grid_size) for index in indices])
        with torch.autocast("cpu", torch.bfloat16):
            features = projector(tower(pixels, output_hidden_states=True).hidden_states[layer])
        loss = 0
        for kind, rows in enumerate(words):
            shares = features.float() @ rows.T / rows.shape[1]  # 1: the word as it is, 0: nothing of it
            truth = F.one_hot(labels[..., kind], len(rows) + 1)[..., :-1].to(shares.dtype)
            loss = loss + (shares - truth).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            shown = labels[..., 1] != BACKGROUND[1]
            right = (shares.argmax(-1) == labels[..., 1])[shown].float().mean()
            progress.set_postfix(loss=f"{loss.item():.2f}", patches_with_right_shape=f"{right.item():.2f}")


def find_rows(
    model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, names: tuple[str, ...]
) -> torch.Tensor:
    """Return the embedding rows of words, scaled to a mean square of 1: (words, hidden)."""
    rows = model.get_input_embeddings().weight.detach()[find_ids(processor, names)]
    return F.rms_norm(rows, rows.shape[-1:])


def find_ids(processor: LlavaSTProcessor, names: tuple[str, ...]) -> torch.Tensor:
    """Return the token ids of words inside a sentence: (words,)."""
    return torch.tensor([processor.tokenizer(f" {name}").input_ids[0] for name in names])


def label_patches(scene: Scene, grid_size: int) -> torch.Tensor:
    """Return the colour and the shape that each patch shows, see `NAMES` and `BACKGROUND`: (patches, 2)."""
    labels = torch.tensor(BACKGROUND).repeat(grid_size**2, 1)
    boxes = torch.tensor([scene.get_box(item) for item in scene.objects])
    for item, inside in zip(scene.objects, find_patches(boxes, grid_size), strict=True):
        labels[inside] = torch.tensor([NAMES[0].index(item.color), NAMES[1].index(item.shape)])
    return labels


def find_patches(boxes: torch.Tensor, grid_size: int) -> torch.Tensor:
    """Return which patches have their middle in each box of fractions x1, y1, x2, y2: (boxes, patches)."""
    left, top, right, bottom = boxes[..., None].unbind(1)
    middles = (torch.arange(grid_size) + 0.5) / grid_size
    columns, rows = (middles >= left) & (middles <= right), (middles >= top) & (middles <= bottom)
    return (rows[:, :, None] & columns[:, None]).flatten(1)
