"""Teaches the tiny model to follow objects from frame to frame and to tell what they do, before it is asked anything.

    python recipes/tiny/pretrain_events.py outputs/tiny/init outputs/tiny/events [--seed 0] [--steps 1200]
        [--bf16 true]

A pretrained video model brings this along. Only the packer and the first layers of the language model are trained, on
the tokens of the fast stream alone, without a text: three heads look back at the same object, one, two and three
frames, and behind the layers the tokens of an object say the words for what it does, and where that starts.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pretrain_vision_tower import add_training_arguments, compute_feature_loss, find_rows
from scene_labels import (
    DIFFICULTY,
    EVENT_WORDS,
    NAMES,
    START_WORD,
    SceneLabels,
    label_scene,
    make_code_directions,
    read_shares,
)
from torch import nn
from tqdm import tqdm

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset

BATCH_SIZE, NUM_STEPS = 16, 1200
LEARNING_RATE = 2e-3
# Layer and head, both from 0: how many frames back it looks at the same object.
FOLLOWING_HEADS = {(0, 2): 1, (0, 3): 2, (1, 3): 3}
NUM_LAYERS = 2  # after which tokens say what their object does
FOLLOWING_WEIGHT = 0.1
# Weights of squared errors of the share of a word: where it is to be said, and in the background.
SAID_WEIGHT, BACKGROUND_WEIGHT = 4.0, 0.1


def pretrain_events(
    model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, num_steps: int, seed: int, bf16: bool
) -> None:
    """
    Train the packer and the first layers of the language model in place.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model, with eager attention.
        processor (`LlavaSTProcessor`): Turns clips into pixels and words into tokens.
        num_steps (`int`): Steps of `BATCH_SIZE` clips.
        seed (`int`): Seed of the clips.
        bf16 (`bool`): Whether the model runs in bfloat16.
    """
    size, num_frames = processor.image_processor.size["height"], processor.video_processor.num_frames
    clips = ShapesDataset(
        ["svg"], max(num_steps, 1) * BATCH_SIZE, seed, num_frames=num_frames, size=size, difficulty=DIFFICULTY
    )
    collator = LlavaSTDataCollator(processor)
    words = [find_rows(model, processor, names) for names in NAMES]
    event_rows = find_rows(model, processor, (*EVENT_WORDS, START_WORD))
    directions = make_code_directions(event_rows.shape[1])
    stream = FastStream(model)
    optimizer = torch.optim.AdamW(stream.parameters, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, max(num_steps, 1), pct_start=0.05, anneal_strategy="linear"
    )
    progress = tqdm(range(num_steps), desc="pretraining events", unit="step", mininterval=5)
    means: dict[str, float] = {}
    for step in progress:
        indices = range(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        batch = collator([clips[index] for index in indices])
        labels = [label_scene(clips.make_scene(index), stream.num_cells) for index in indices]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            tokens, hidden, attentions = stream.run(batch)
        owners, names, codes = (
            torch.stack([getattr(label, name).flatten(0, 1) for label in labels])
            for name in ("owners", "cell_names", "cell_codes")
        )
        losses = {
            "features": compute_feature_loss(tokens.float(), words, directions, owners, names, codes),
            "following": FOLLOWING_WEIGHT * compute_following_loss(attentions, labels),
            "events": compute_event_loss(hidden.float(), labels, event_rows),
        }
        optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(stream.parameters, 1.0)
        optimizer.step()
        schedule.step()
        for name, loss in losses.items():
            means[name] = 0.95 * means.get(name, loss.item()) + 0.05 * loss.item()
        progress.set_postfix({name: f"{loss:.3f}" for name, loss in means.items()}, refresh=False)
    model.requires_grad_(True)


class FastStream:
    """
    The part of a model that is trained here: packer and first layers of the language model, over the fast stream.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model; vision tower and projector stay as they are.
    """

    def __init__(self, model: LlavaSTForConditionalGeneration):
        self.model = model
        self.layers = model.model.language_model.layers[:NUM_LAYERS]
        model.requires_grad_(False)
        self.parameters = [
            weight.requires_grad_() for part in (model.model.packer, *self.layers) for weight in part.parameters()
        ]
        self.num_cells = count_cells(model)

    def run(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """
        Run clips, behind the text that stands before a clip.

        Returns:
            The tokens of the fast stream and what they are behind the layers, (clips, tokens, hidden) each, and for
            each layer the attention among them: (clips, heads, tokens, tokens).
        """
        base = self.model.model
        language_model = base.language_model
        num_tokens = batch["pixel_values_videos"].shape[1] * self.num_cells**2
        features = base.get_video_features(batch["pixel_values_videos"], return_dict=True).pooler_output
        tokens = torch.stack(list(features))[:, :num_tokens].float()
        start = int((batch["input_ids"][0] == self.model.config.video_token_id).nonzero()[0, 0])
        prefix = base.embed_ids(batch["input_ids"][:, :start], None)
        hidden = torch.cat([prefix, tokens], 1)
        positions = torch.arange(hidden.shape[1])[None]
        rotary = language_model.rotary_emb(hidden, positions)
        future = torch.full((hidden.shape[1],) * 2, torch.finfo(hidden.dtype).min).triu(1)[None, None]
        attentions = []
        for layer in self.layers:
            residual, hidden = hidden, layer.input_layernorm(hidden)
            hidden, attention = layer.self_attn(hidden, position_embeddings=rotary, attention_mask=future)
            hidden = residual + hidden
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
            attentions.append(attention[:, :, start:, start:])
        return tokens, hidden[:, start:], attentions


def count_cells(model: LlavaSTForConditionalGeneration) -> int:
    """Return how many tokens of the fast stream lie along a side of a frame."""
    stride = model.config.spatial_stride * model.config.fast_spatial_stride
    return -(-model.config.patch_grid_size // stride)


def compute_following_loss(attentions: Sequence[torch.Tensor], labels: list[SceneLabels]) -> torch.Tensor:
    """Return the loss of the attention of objects to themselves some frames before, see `FOLLOWING_HEADS`."""
    owners = torch.stack([label.owners.flatten() for label in labels])
    num_frames = len(labels[0].owners)
    frames = torch.arange(num_frames).repeat_interleave(owners.shape[1] // num_frames)
    same = (owners[:, :, None] == owners[:, None]) & (owners >= 0)[:, :, None]
    return sum(
        compute_attention_loss(attentions[layer][:, head], same & (frames[:, None] - back == frames))
        for (layer, head), back in FOLLOWING_HEADS.items()
    )


def compute_attention_loss(attention: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """
    Return the negative logarithm of the attention that falls where it should.

    Args:
        attention (`torch.Tensor`): Of one head: (n, tokens, tokens).
        wanted (`torch.Tensor`): Where each token should look: (n, tokens, tokens).

    Returns:
        `torch.Tensor`: The mean over all tokens that should look somewhere; 0 where none should.
    """
    found = (attention.float() * wanted).sum(-1)[wanted.any(-1)]
    return -(found + 1e-6).log().sum() / max(len(found), 1)


def compute_event_loss(hidden: torch.Tensor, labels: list[SceneLabels], rows: torch.Tensor) -> torch.Tensor:
    """Return the squared error of the shares that words (words, hidden) have in tokens (clips, tokens, hidden)."""
    events = torch.stack([label.cell_events.flatten(0, 1) for label in labels])
    known = torch.stack([label.cell_known.flatten() for label in labels])
    owned = torch.stack([label.owners.flatten() for label in labels]) >= 0
    weights = torch.where(owned, known.float(), BACKGROUND_WEIGHT)[..., None] * (1 + (SAID_WEIGHT - 1) * events)
    errors = (read_shares(hidden, rows) - events).square()
    return (errors * weights).sum(-1).sum() / weights[..., 0].sum()


def write_pretrained(
    pretrain: Callable[[LlavaSTForConditionalGeneration, LlavaSTProcessor, int, int, bool], None],
    start: Path,
    directory: Path,
    steps: int,
    seed: int,
    bf16: bool,
) -> None:
    """Read a checkpoint, train it with `pretrain(model, processor, steps, seed, bf16)`, and write it."""
    torch.manual_seed(seed)
    processor = LlavaSTProcessor.from_pretrained(start)
    # Eager attention of the language model returns what it looks at.
    implementation = {"text_config": "eager", "vision_config": "sdpa"}
    model = LlavaSTForConditionalGeneration.from_pretrained(start, attn_implementation=implementation).train()
    pretrain(model, processor, steps, seed, bf16)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)


def parse_arguments(description: str, num_steps: int) -> argparse.Namespace:
    """Parse the command line of a script that trains a checkpoint."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path)
    parser.add_argument("directory", type=Path)
    add_training_arguments(parser, num_steps)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments(__doc__, NUM_STEPS)
    write_pretrained(pretrain_events, **vars(arguments))
