"""Teaches the start of the tiny model to look where a phrase points: from the words to the patches that show what they
name, and from the box to be written back to the words.

A pretrained language model knows how to look things up in what it was given. One that starts from nothing finds out
late: its boxes get precise long before it heeds the question, for an answer about some object is worth something, and
half of a lookup is worth nothing. So two attention heads are shown what to look at here, beside the usual loss.
"""

import torch
from pretrain_vision_tower import find_ids, find_patches
from torch import nn
from tqdm import tqdm

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.shapes.scenes import COLORS, SHAPES

BATCH_SIZE = 8
LEARNING_RATE = 1e-3
WARMUP_STEPS = 100
ATTENTION_WEIGHT = 0.3
# Layer and head: of the last word of a phrase, and of the bracket that opens a box.
WORD_HEAD, BRACKET_HEAD = (1, 0), (2, 0)


def pretrain_grounding(
    model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, num_steps: int, seed: int
) -> None:
    """
    Train the model in place on referring expressions.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model, with eager attention.
        processor (`LlavaSTProcessor`): Turns images into pixels and words into tokens.
        num_steps (`int`): Steps of `BATCH_SIZE` images, with up to 4 questions each.
        seed (`int`): Seed of the images.
    """
    size = processor.image_processor.size["height"]
    images = ShapesDataset(["rec"], max(num_steps, 1) * BATCH_SIZE, seed=seed, size=size, num_questions=4)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARMUP_STEPS, total_iters=WARMUP_STEPS)
    collator = LlavaSTDataCollator(processor)
    progress = tqdm(range(num_steps), desc="pretraining grounding", unit="step")
    for step in progress:
        batch = collator([images[index] for index in range(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)])
        with torch.autocast("cpu", torch.bfloat16):
            output = model(**batch, output_attentions=True)
        looking = compute_attention_loss(model, processor, batch["input_ids"], output.attentions)
        optimizer.zero_grad()
        (output.loss + ATTENTION_WEIGHT * looking).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{output.loss.item():.2f}", attention=f"{looking.item():.2f}")


def compute_attention_loss(
    model: LlavaSTForConditionalGeneration,
    processor: LlavaSTProcessor,
    input_ids: torch.Tensor,
    attentions: tuple[torch.Tensor, ...],
) -> torch.Tensor:
    """
    Return the negative logarithm of the attention that falls where it should, summed over both heads.

    Args:
        model (`LlavaSTForConditionalGeneration`): For its config.
        processor (`LlavaSTProcessor`): For its tokenizer.
        input_ids (`torch.Tensor`): Images and answers with one box each: (n, tokens).
        attentions (`tuple[torch.Tensor, ...]`): Of each layer: (n, heads, tokens, tokens).

    Returns:
        `torch.Tensor`: The mean over all boxes with a patch whose middle lies inside.
    """
    words = find_ids(processor, (*COLORS, *SHAPES, "shape"))
    num_patches = model.config.patch_grid_size**2
    losses = []
    for row, ids in enumerate(input_ids):
        brackets, patches = find_boxes(model, ids)
        spoken = torch.isin(ids, words).nonzero()[:, 0]
        last_words = spoken[torch.searchsorted(spoken, brackets) - 1]
        first_patch = (ids == model.config.image_token_id).nonzero()[0, 0]
        layer, head = WORD_HEAD
        looks = attentions[layer][row, head, last_words, first_patch : first_patch + num_patches]
        seen = (looks * patches).sum(-1)
        layer, head = BRACKET_HEAD
        heeded = attentions[layer][row, head, brackets, last_words]
        losses.append(-(torch.stack([seen, heeded]).float() + 1e-6).log().sum(0)[patches.any(-1)])
    return torch.cat(losses).mean()


def find_boxes(model: LlavaSTForConditionalGeneration, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the position of the bracket of each box in a text, and which patches lie in the box."""
    temporal, height, width = model.config.axis_sizes
    positions = (ids >= model.config.coordinate_token_offset).nonzero()[:, 0].view(-1, 4)
    first_bins = model.config.coordinate_token_offset + temporal + torch.tensor([height, 0, height, 0])
    bins = ids[positions] - first_bins
    sizes = torch.tensor([width, height, width, height])
    return positions[:, 0] - 1, find_patches(bins / (sizes - 1), model.config.patch_grid_size)
