"""Teaches the tiny model to follow objects and to tell what they do, before the stages with clips.

    python recipes/tiny/pretrain_clips.py outputs/tiny/stage1 outputs/tiny/clips [--seed 0] [--steps 1000]

A pretrained video model brings both along. As `pretrain_grounding.py` does for images, some heads are shown what to
look at beside the usual loss; and the tokens of the fast stream are pulled to the embedding rows of the words for what
their object does. The questions are short: where an object is at one moment, when something happens, and what happens
in a span. In a tube each box follows from the last ones; here every box has to be looked up.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from clip_labels import WORDS_OF_EVENTS, ClipLabels, Question, Vocabulary, ask, find_looks
from pretrain_vision_tower import find_ids, find_rows
from torch import nn
from tqdm import tqdm

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.shapes.draws import Draws
from llava_st_hf.data.shapes.scenes import COLORS, SHAPES

BATCH_SIZE, NUM_STEPS = 8, 1000
STEPS_PER_BATCH_OF_IMAGES = 4
LEARNING_RATE = 8e-4
WARMUP_STEPS = 50
WEIGHTS = {"text": 1.0, "images": 1.0, "events": 1.0, "asking": 0.3, "finding": 0.3, "following": 0.1}
# Layer and head, both from 0: from an answer to the words that ask, and to the tokens of the clip that are asked for;
# from the tokens of an object to those of the same object, in their frame and three frames before. A head may serve
# twice, for different tokens look.
ASKING_HEAD, FINDING_HEAD = (1, 3), (2, 3)
FOLLOWING_HEADS = {0: (0, 3), 3: (1, 3)}
LAYER_OF_EVENTS = 2  # number of layers after which tokens say what their object does
BACKGROUND_WEIGHT = 0.1


class ClipLosses:
    """
    The losses of the model on clips, and on some images so that these are not forgotten.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model, with eager attention.
        processor (`LlavaSTProcessor`): Turns clips into pixels and words into tokens.
        num_steps (`int`): Steps of `BATCH_SIZE` clips.
        seed (`int`): Seed of the clips.
    """

    def __init__(self, model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, num_steps: int, seed: int):
        self.model, self.seed = model, seed
        self.collator = LlavaSTDataCollator(processor)
        size, num_frames = processor.image_processor.size["height"], processor.video_processor.num_frames
        options = {"num_samples": max(num_steps, 1) * BATCH_SIZE, "seed": seed, "size": size}
        self.clips = ShapesDataset(["svg"], num_frames=num_frames, difficulty={"easy": 1, "standard": 1}, **options)
        self.images = ShapesDataset(["rec", "rc"], num_questions=4, **options)
        config = model.config
        self.vocabulary = Vocabulary(
            find_ids(processor, (*COLORS, *SHAPES)),
            find_ids(processor, WORDS_OF_EVENTS),
            config.coordinate_token_offset,
            config.axis_sizes[0],
        )
        self.event_rows = find_rows(model, processor, WORDS_OF_EVENTS)
        stride = config.spatial_stride * config.fast_spatial_stride
        self.num_cells, self.cell_size = -(-config.patch_grid_size // stride), stride / config.patch_grid_size

    def compute(self, step: int) -> dict[str, torch.Tensor]:
        """Return the losses of a step by name, see `WEIGHTS`."""
        indices = range(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        losses = self.compute_clips(indices)
        if step % STEPS_PER_BATCH_OF_IMAGES == 0:
            images = self.collator([self.images[index] for index in indices])
            with torch.autocast("cpu", torch.bfloat16):
                losses["images"] = self.model(**images).loss
        return losses

    def compute_clips(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the losses of some clips; without tokens of the fast stream, as released, that of the text alone."""
        scenes = [self.clips.make_scene(index) for index in indices]
        questions = [
            ask(scene, Draws(self.seed, index, stream=10)) for index, scene in zip(indices, scenes, strict=True)
        ]
        batch = self.collator(
            [
                replace(self.clips[index], messages=tuple(message for each in asked for message in each.messages))
                for index, asked in zip(indices, questions, strict=True)
            ]
        )
        guided = self.model.config.splice_fast_tokens
        with torch.autocast("cpu", torch.bfloat16):
            output = self.model(**batch, output_attentions=guided, output_hidden_states=guided)
        if not guided:
            return {"text": output.loss}
        labels = [ClipLabels(scene, self.num_cells, self.cell_size) for scene in scenes]
        first_token = int((batch["input_ids"][0] == self.model.config.video_token_id).nonzero()[0, 0])
        tokens = slice(first_token, first_token + labels[0].owners.numel())
        asking, finding = self.mark_looks(batch, questions, labels, first_token)
        return {
            "text": output.loss,
            "asking": compute_attention_loss(output.attentions, ASKING_HEAD, asking),
            "finding": compute_attention_loss(output.attentions, FINDING_HEAD, finding),
            "following": compute_following_loss(output.attentions, labels, tokens),
            "events": compute_event_loss(output.hidden_states[LAYER_OF_EVENTS][:, tokens], labels, self.event_rows),
        }

    def mark_looks(
        self,
        batch: dict[str, torch.Tensor],
        questions: list[list[Question]],
        labels: list[ClipLabels],
        first_token: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return where tokens should look, at words and at tokens of the clip: (clips, tokens, tokens) each."""
        num_clips, num_tokens = batch["input_ids"].shape
        asking, finding = torch.zeros(2, num_clips, num_tokens, num_tokens, dtype=torch.bool)
        answered = batch["labels"] != -100
        for row, (asked, shown) in enumerate(zip(questions, labels, strict=True)):
            ids = batch["input_ids"][row]
            for looks in find_looks(ids, answered[row], asked, shown, self.vocabulary, first_token):
                asking[row, looks.answers[:, None], looks.words] = True
                finding[row, looks.answers[:, None], looks.tokens] = True
        return asking, finding


def compute_attention_loss(
    attentions: tuple[torch.Tensor, ...], head: tuple[int, int], wanted: torch.Tensor
) -> torch.Tensor:
    """
    Return the negative logarithm of the attention that falls where it should.

    Args:
        attentions (`tuple[torch.Tensor, ...]`): Of each layer: (clips, heads, tokens, tokens).
        head (`tuple[int, int]`): Layer and head.
        wanted (`torch.Tensor`): Where each token should look: (clips, tokens, tokens).

    Returns:
        `torch.Tensor`: The mean over all tokens that should look somewhere.
    """
    layer, number = head
    found = (attentions[layer][:, number].float() * wanted).sum(-1)[wanted.any(-1)]
    return -(found + 1e-6).log().mean()


def compute_following_loss(
    attentions: tuple[torch.Tensor, ...], labels: list[ClipLabels], tokens: slice
) -> torch.Tensor:
    """Return the loss of the attention of objects to themselves, in the frame of a token and before."""
    owners = torch.stack([label.owners.flatten() for label in labels])
    num_frames = labels[0].owners.shape[0]
    frames = torch.arange(num_frames).repeat_interleave(owners.shape[1] // num_frames)
    same = (owners[:, :, None] == owners[:, None]) & (owners >= 0)[:, :, None]
    rest = (tokens.start, attentions[0].shape[-1] - tokens.stop)
    losses = [
        compute_attention_loss(attentions, head, F.pad(same & (frames[:, None] - back == frames), rest * 2))
        for back, head in FOLLOWING_HEADS.items()
    ]
    return torch.stack(losses).sum()


def compute_event_loss(features: torch.Tensor, labels: list[ClipLabels], rows: torch.Tensor) -> torch.Tensor:
    """Return the squared error of the shares that rows (words, hidden) have in features (clips, tokens, hidden)."""
    shares = features.float() @ rows.T / rows.shape[1]  # 1: the word as it is, 0: nothing of it
    events = torch.stack([label.events for label in labels]).view_as(shares)
    owned = torch.stack([label.owners for label in labels]).flatten(1) >= 0
    known = torch.stack([label.known for label in labels]).flatten(1)
    weights = torch.where(owned, known.float(), BACKGROUND_WEIGHT)
    return ((shares - events).square().sum(-1) * weights).sum() / weights.sum()


def pretrain_clips(
    model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, num_steps: int, seed: int
) -> None:
    """
    Train the model in place on clips.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model, with eager attention.
        processor (`LlavaSTProcessor`): Turns clips into pixels and words into tokens.
        num_steps (`int`): Steps of `BATCH_SIZE` clips.
        seed (`int`): Seed of the clips.
    """
    losses_of_clips = ClipLosses(model, processor, num_steps, seed)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARMUP_STEPS, total_iters=WARMUP_STEPS)
    means: dict[str, float] = {}
    progress = tqdm(range(num_steps), desc="pretraining on clips", unit="step")
    for step in progress:
        losses = losses_of_clips.compute(step)
        optimizer.zero_grad()
        sum(WEIGHTS[name] * loss for name, loss in losses.items()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        for name, loss in losses.items():
            means[name] = 0.95 * means.get(name, loss.item()) + 0.05 * loss.item()
        progress.set_postfix({name: f"{loss:.2f}" for name, loss in means.items()})


def write_pretrained(start: Path, directory: Path, num_steps: int, seed: int) -> None:
    """Read a checkpoint, train it, and write it."""
    torch.manual_seed(seed)
    processor = LlavaSTProcessor.from_pretrained(start)
    model = LlavaSTForConditionalGeneration.from_pretrained(start, attn_implementation="eager").train()
    pretrain_clips(model, processor, num_steps, seed)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=NUM_STEPS)
    arguments = parser.parse_args()
    write_pretrained(arguments.start, arguments.directory, arguments.steps, arguments.seed)
