"""Makes the tiny model and pretrains it, in three steps, up to where the stages begin.

    python recipes/tiny/pretrain.py start     # the model; its vision tower learns to tell what it sees and where
    python recipes/tiny/pretrain.py events    # packer and first layers learn to follow objects and tell what they do
    python recipes/tiny/pretrain.py lookups   # all but the tower learns to look up what a question asks for

Options: [--output-dir outputs/tiny] [--seed 0] [--steps N] [--bf16 true]. A step reads what the one before it wrote.
What the published stages start from brings all this along; README.md says why each step is needed.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from make_model import IMAGE_SIZE, NUM_FRAMES, PACKED_SIDE, PATCH_SIDE, PIXELS, make_model, set_language_heads
from scene_labels import EVENT_WORDS, NAMES, OBJECT_CODE, START_WORD, TIME_CODE, SceneLabels, label_scene, read_shares
from torch import nn
from torch.optim.lr_scheduler import LinearLR, LRScheduler, OneCycleLR
from tqdm import tqdm
from transformers.hf_argparser import string_to_bool

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset

OUTPUTS = Path(__file__).parents[2] / "outputs" / "tiny"
DIFFICULTY = {"easy": 1, "standard": 2}

# The tower. Here and below: how many clips and images a step takes.
TOWER_CLIPS, TOWER_IMAGES, FRAMES_PER_CLIP = 12, 16, 4
TOWER_LEARNING_RATE = 3e-3

# Events.
EVENT_CLIPS = 16
EVENT_LEARNING_RATE = 2e-3
# Layer and head, both from 0: how many frames back it looks at the same object.
FOLLOWING_HEADS = {(0, 2): 1, (0, 3): 2, (1, 3): 3}
NUM_LAYERS = 2  # after which tokens say what their object does
FOLLOWING_WEIGHT = 0.1
# Weights of squared errors of the share of a word: where it is to be said, and in the background.
SAID_WEIGHT, BACKGROUND_WEIGHT = 4.0, 0.1

# Lookups.
LOOKUP_CLIPS, LOOKUP_IMAGES = 8, 12
IMAGE_TASKS = {"rec": 3, "rc": 2}
NUM_QUESTIONS = 4
LOOKUP_LEARNING_RATE, WARMUP_STEPS = 1e-3, 50
# Layer and head, both from 0: from an answer to the words that ask, and to what is asked for, where several share all
# that a token says: edges, names, events and time.
ASKING_HEADS, FINDING_HEADS = ((2, 3),), ((3, 2), (3, 3), (4, 3))
EVENT_WEIGHT, START_WEIGHT = 0.5, 1.0


class Part(NamedTuple):
    """A part of the lookups, which begins with a new optimizer."""

    num_steps: int
    clip_tasks: Mapping[str, float]
    attention_weight: float = 0.2
    with_starts: bool = False  # whether tokens that say that an event starts learn to say when it did


# The tokens of a tube are so many that among them those of a span count for little: the last parts have none. The last
# one is the same once more, with a new optimizer and a new warm-up.
PARTS = (
    Part(1200, {"tvg": 4, "tr": 4, "svg": 1}),
    Part(500, {"tvg": 4, "tr": 4, "svg": 1}, with_starts=True),
    Part(500, {"tvg": 3, "tr": 2}, attention_weight=0.5, with_starts=True),
    Part(500, {"tvg": 3, "tr": 2}, attention_weight=0.5, with_starts=True),
)
NUM_STEPS = {"start": 3500, "events": 1200, "lookups": sum(part.num_steps for part in PARTS)}

Losses = dict[str, torch.Tensor]


class Pretraining:
    """Trains a model in place, which has eager attention where that is trained; `seed` is that of the samples."""

    def __init__(self, model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, seed: int, bf16: bool):
        self.model, self.processor, self.seed = model, processor, seed
        self.collator = LlavaSTDataCollator(processor)
        self.precision = torch.autocast("cpu", torch.bfloat16, enabled=bf16)

    def train(
        self,
        name: str,
        modules: Sequence[nn.Module],
        steps: range,
        learning_rate: float,
        make_schedule: Callable[[torch.optim.Optimizer], LRScheduler],
        compute_losses: Callable[[int], Iterator[Losses]],
    ) -> None:
        """Train some modules; `compute_losses` of a step yields the losses of one batch after another."""
        # What features learn to say stays as it is now, even where the embedding is trained.
        self.words = [self.find_rows(names) for names in NAMES]
        self.event_rows = self.find_rows((*EVENT_WORDS, START_WORD))
        self.model.requires_grad_(False)
        for module in modules:
            module.requires_grad_(True)
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        schedule = make_schedule(optimizer)
        means: dict[str, float] = {}
        progress = tqdm(steps, desc=f"pretraining {name}", unit="step", mininterval=5)
        for step in progress:
            optimizer.zero_grad()
            for losses in compute_losses(step):
                sum(losses.values()).backward()
                for key, loss in losses.items():
                    means[key] = 0.95 * means.get(key, loss.item()) + 0.05 * loss.item()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            progress.set_postfix({key: f"{mean:.3f}" for key, mean in means.items()}, refresh=False)
        self.model.requires_grad_(True)

    def make_dataset(self, tasks: Sequence[str] | Mapping[str, float], num_questions: int = 1) -> ShapesDataset:
        """Make samples of some tasks, without an end."""
        options = {"difficulty": DIFFICULTY, "num_questions": num_questions}
        return ShapesDataset(tasks, 10**9, self.seed, NUM_FRAMES, IMAGE_SIZE, **options)

    def make_batch(
        self, dataset: ShapesDataset, step: int, size: int, grid_size: int
    ) -> tuple[dict[str, torch.Tensor], list[SceneLabels]]:
        """Return the samples of a step, and the truth about the cells of their frames."""
        indices = range(step * size, (step + 1) * size)
        batch = self.collator([dataset[index] for index in indices])
        return batch, [label_scene(dataset.make_scene(index), grid_size) for index in indices]

    def find_rows(self, names: Sequence[str]) -> torch.Tensor:
        """Return the embedding rows of words, scaled to a mean square of 1: (words, hidden)."""
        rows = self.model.get_input_embeddings().weight.detach()[find_ids(self.processor, names)]
        return F.rms_norm(rows, rows.shape[-1:])

    def compute_feature_losses(
        self, features: torch.Tensor, owners: torch.Tensor, names: torch.Tensor, codes: torch.Tensor
    ) -> Losses:
        """Return how far features (..., hidden) are from saying what their cells show, see `SceneLabels`."""
        shown = owners >= 0
        losses = {"edges": 2 * F.smooth_l1_loss(OBJECT_CODE.read(features)[shown], codes[shown], beta=0.3)}
        for kind, name in enumerate(("color", "shape")):
            truth = F.one_hot(names[..., kind], len(NAMES[kind])) * shown[..., None]  # no word for background
            losses[name] = (read_shares(features, self.words[kind]) - truth).square().sum(-1).mean()
        return losses

    def compute_event_loss(self, hidden: torch.Tensor, labels: Sequence[SceneLabels]) -> torch.Tensor:
        """Return the squared error of the shares that words for events have in tokens (clips, tokens, hidden)."""
        events, known = join(labels, "events"), join(labels, "known")
        weights = torch.where(join(labels, "owners") >= 0, known.float(), BACKGROUND_WEIGHT)[..., None]
        weights = weights * (1 + (SAID_WEIGHT - 1) * events)
        errors = (read_shares(hidden, self.event_rows) - events).square()
        return (errors * weights).sum(-1).sum() / weights[..., 0].sum()


def join(labels: Sequence[SceneLabels], name: str) -> torch.Tensor:
    """Return what the cells of some scenes show, frame after frame: (scenes, tokens, ...)."""
    return torch.stack([getattr(each, name).flatten(0, 1) for each in labels])


def find_ids(processor: LlavaSTProcessor, names: Sequence[str]) -> torch.Tensor:
    """Return the token ids of words inside a sentence, each of which has to be one token: (words,)."""
    ids = [processor.tokenizer(f" {name}").input_ids for name in names]
    if longer := [name for name, found in zip(names, ids, strict=True) if len(found) > 1]:
        raise ValueError(f"names: {', '.join(longer)} are not one token each: train the tokenizer on more texts.")
    return torch.tensor(ids).flatten()


def compute_attention_loss(attention: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean negative logarithm of attention that falls where it should, both (n, tokens, tokens)."""
    found = (attention.float() * targets).sum(-1)[targets.any(-1)]
    return -(found + 1e-6).log().sum() / max(len(found), 1)


def pretrain_tower(pretraining: Pretraining, num_steps: int) -> None:
    """Train the vision tower and the projector on single frames."""
    clips, images = pretraining.make_dataset(["svg"]), pretraining.make_dataset(["rec"])
    rng = np.random.default_rng(pretraining.seed)
    base = pretraining.model.model
    modules = (base.vision_tower, base.multi_modal_projector)

    def compute_losses(step: int) -> Iterator[Losses]:
        shown = []
        for dataset, size in ((clips, TOWER_CLIPS), (images, TOWER_IMAGES)):
            for index in range(step * size, (step + 1) * size):
                frames, truth = dataset[index].media[0].frames, label_scene(dataset.make_scene(index), PATCH_SIDE)
                frames = torch.from_numpy(frames).view(-1, IMAGE_SIZE, IMAGE_SIZE, 3)
                chosen = [0] if dataset is images else np.sort(rng.choice(len(frames), FRAMES_PER_CLIP, replace=False))
                shown.append([part[chosen] for part in (frames, truth.owners, truth.names, truth.codes)])
        pixels, *truths = (torch.cat(parts) for parts in zip(*shown, strict=True))
        pixels = (pixels.permute(0, 3, 1, 2) / 255 - PIXELS["image_mean"][0]) / PIXELS["image_std"][0]
        with pretraining.precision:
            hidden_states = base.vision_tower(pixels, output_hidden_states=True).hidden_states
            features = base.multi_modal_projector(hidden_states[base.config.vision_feature_layer])
        yield pretraining.compute_feature_losses(features.float(), *truths)

    schedule = partial(OneCycleLR, max_lr=TOWER_LEARNING_RATE, total_steps=max(num_steps, 1), pct_start=0.05)
    pretraining.train("the tower", modules, range(num_steps), TOWER_LEARNING_RATE, schedule, compute_losses)


def pretrain_events(pretraining: Pretraining, num_steps: int) -> None:
    """Train the packer and the first layers of the language model on clips."""
    clips = pretraining.make_dataset(["svg"])
    base = pretraining.model.model
    modules = (base.packer, *base.language_model.layers[:NUM_LAYERS])

    def compute_losses(step: int) -> Iterator[Losses]:
        batch, labels = pretraining.make_batch(clips, step, EVENT_CLIPS, PACKED_SIDE)
        with pretraining.precision:
            tokens, hidden, attentions = run_fast_stream(pretraining.model, batch)
        truths = [join(labels, name) for name in ("owners", "names", "codes")]
        yield pretraining.compute_feature_losses(tokens.float(), *truths) | {
            "following": FOLLOWING_WEIGHT * compute_following_loss(attentions, labels),
            "events": pretraining.compute_event_loss(hidden.float(), labels),
        }

    schedule = partial(OneCycleLR, max_lr=EVENT_LEARNING_RATE, total_steps=max(num_steps, 1), pct_start=0.05)
    schedule = partial(schedule, anneal_strategy="linear")
    pretraining.train("events", modules, range(num_steps), EVENT_LEARNING_RATE, schedule, compute_losses)


def run_fast_stream(
    model: LlavaSTForConditionalGeneration, batch: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """
    Run packer and first layers of the language model over clips, behind the text that stands before a clip.

    Returns the tokens of the fast stream and what they are behind the layers, (clips, tokens, hidden) each, and for
    each layer the attention among them, (clips, heads, tokens, tokens).
    """
    base, language_model = model.model, model.model.language_model
    num_tokens = batch["pixel_values_videos"].shape[1] * PACKED_SIDE**2
    features = base.get_video_features(batch["pixel_values_videos"], return_dict=True).pooler_output
    tokens = torch.stack(list(features))[:, :num_tokens].float()
    start = int((batch["input_ids"][0] == model.config.video_token_id).nonzero()[0, 0])
    hidden = torch.cat([base.embed_ids(batch["input_ids"][:, :start], None), tokens], 1)
    rotary = language_model.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])
    future = torch.full((hidden.shape[1],) * 2, torch.finfo(hidden.dtype).min).triu(1)[None, None]
    attentions = []
    for layer in language_model.layers[:NUM_LAYERS]:
        residual, hidden = hidden, layer.input_layernorm(hidden)
        hidden, attention = layer.self_attn(hidden, position_embeddings=rotary, attention_mask=future)
        hidden = residual + hidden
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        attentions.append(attention[:, :, start:, start:])
    return tokens, hidden[:, start:], attentions


def compute_following_loss(attentions: Sequence[torch.Tensor], labels: Sequence[SceneLabels]) -> torch.Tensor:
    """Return the loss of the attention of objects to themselves some frames before, see `FOLLOWING_HEADS`."""
    owners = join(labels, "owners")
    num_frames, num_cells = labels[0].owners.shape
    frames = torch.arange(num_frames).repeat_interleave(num_cells)
    same = (owners[:, :, None] == owners[:, None]) & (owners >= 0)[:, :, None]
    return sum(
        compute_attention_loss(attentions[layer][:, head], same & (frames[:, None] - back == frames))
        for (layer, head), back in FOLLOWING_HEADS.items()
    )


def pretrain_lookups(pretraining: Pretraining, num_steps: int) -> None:
    """Train all but the vision tower on questions about images and clips, in parts."""
    ends = [*accumulate(round(part.num_steps * num_steps / NUM_STEPS["lookups"]) for part in PARTS)]
    for part, first_step, last_step in zip(PARTS, [0, *ends], ends, strict=False):
        pretrain_part(pretraining, part, range(first_step, last_step))


def pretrain_part(pretraining: Pretraining, part: Part, steps: range) -> None:
    """Train on the questions of some steps."""
    model = pretraining.model
    reader = AnswerReader(model, pretraining.processor)
    clips = pretraining.make_dataset(part.clip_tasks, NUM_QUESTIONS)
    images = pretraining.make_dataset(IMAGE_TASKS, NUM_QUESTIONS)
    kinds = (("clips", clips, LOOKUP_CLIPS, PACKED_SIDE), ("images", images, LOOKUP_IMAGES, PATCH_SIDE))
    modules = [each for each in (*model.model.children(), model.lm_head) if each is not model.model.vision_tower]

    def compute_losses(step: int) -> Iterator[Losses]:
        for kind, dataset, size, grid_size in kinds:
            batch, labels = pretraining.make_batch(dataset, step, size, grid_size)
            with pretraining.precision:
                output = model(**batch, output_attentions=True, output_hidden_states=True)
            losses = {"text": output.loss}
            if dataset is clips:
                tokens = reader.find_media(batch["input_ids"][0], labels[0])
                hidden = output.hidden_states[NUM_LAYERS][:, tokens].float()
                losses["events"] = EVENT_WEIGHT * pretraining.compute_event_loss(hidden, labels)
                if part.with_starts:
                    losses["starts"] = START_WEIGHT * compute_start_loss(hidden, labels)
            asking, finding = reader.mark(batch, labels)
            for name, heads, targets in (("asking", ASKING_HEADS, asking), ("finding", FINDING_HEADS, finding)):
                found = [compute_attention_loss(output.attentions[layer][:, head], targets) for layer, head in heads]
                losses[name] = part.attention_weight * torch.stack(found).mean()
            yield {f"{kind} {name}": loss for name, loss in losses.items()}

    schedule = partial(LinearLR, start_factor=1 / WARMUP_STEPS, total_iters=WARMUP_STEPS)
    pretraining.train("lookups", modules, steps, LOOKUP_LEARNING_RATE, schedule, compute_losses)


def compute_start_loss(hidden: torch.Tensor, labels: Sequence[SceneLabels]) -> torch.Tensor:
    """Return how far tokens (clips, tokens, hidden) that say `START_WORD` are from saying when: the mean over them."""
    starting, starts = join(labels, "events")[..., -1] > 0, join(labels, "starts")
    errors = F.smooth_l1_loss(TIME_CODE.read(hidden)[starting], starts[starting], beta=0.3, reduction="sum")
    return errors / max(starting.sum() * starts.shape[-1], 1)


class AnswerReader:
    """Finds what the tokens of an answer should look at, by the ids of a model and its processor."""

    def __init__(self, model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor):
        config = model.config
        self.media_ids = torch.tensor([config.image_token_id, config.video_token_id])
        self.num_times, self.first_time = config.axis_sizes[0], config.coordinate_token_offset
        self.colors, self.shapes = (find_ids(processor, names) for names in NAMES)
        self.names = torch.cat([self.colors, self.shapes, find_ids(processor, ("shape",))])
        self.events, self.then = find_ids(processor, EVENT_WORDS), find_ids(processor, ("then",))

    def find_media(self, ids: torch.Tensor, labels: SceneLabels) -> slice:
        """Return which positions of a text (tokens,) hold the cells of a scene."""
        start = int(torch.isin(ids, self.media_ids).nonzero()[0, 0])
        return slice(start, start + labels.owners.numel())

    def mark(
        self, batch: Mapping[str, torch.Tensor], labels: Sequence[SceneLabels]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mark where tokens should look, at the words that ask and in the picture: (n, tokens, tokens) each, bool."""
        shape = (*batch["input_ids"].shape, batch["input_ids"].shape[1])
        asking, finding = torch.zeros(2, *shape, dtype=torch.bool)
        for row, shown in enumerate(labels):
            edges = F.pad((batch["labels"][row] != -100).int(), (1, 1)).diff()
            starts, ends = ((edges == change).nonzero()[:, 0].tolist() for change in (1, -1))
            for turn in zip([0, *ends], starts, ends, strict=False):
                for token, words, cells in self._read_turn(batch["input_ids"][row], *turn, shown):
                    asking[row, token - 1, words] = True
                    finding[row, token - 1, cells] = True
        return asking, finding

    def _read_turn(
        self, ids: torch.Tensor, begin: int, start: int, end: int, labels: SceneLabels
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Read a question from `begin` and its answer from `start` to before `end`: tokens and what they look up."""
        times = (ids >= self.first_time) & (ids < self.first_time + self.num_times)
        places = ids >= self.first_time + self.num_times
        names, events = torch.isin(ids, self.names), torch.isin(ids, self.events)
        owned = labels.owners == self._find_object(ids[begin:end], labels)
        first_cell = self.find_media(ids, labels).start

        def within(mask: torch.Tensor, low: int, high: int) -> torch.Tensor:
            return low + mask[low:high].nonzero()[:, 0]

        def find_frame(position: torch.Tensor) -> int:
            fraction = (ids[position] - self.first_time) / (self.num_times - 1)
            return round(fraction.item() * (len(owned) - 1))

        def find_cells(first: int, last: int) -> torch.Tensor:
            found = owned.clone()
            found[: max(first, 0)] = found[last + 1 :] = False
            return first_cell + found.flatten().nonzero()[:, 0]

        asked_times, asked_places, asked_names, asked_events = (
            within(mask, begin, start) for mask in (times, places, names, events)
        )
        answer_times = within(times, start, end)
        # The span that is asked about, or for.
        span = [find_frame(time) for time in torch.cat([asked_times, answer_times])[:2]] or [0, 0]
        for token in range(start, end):
            if places[token]:
                last_time = within(times, start, token)[-1:]  # none in an image
                frame = find_frame(last_time) if last_time.numel() else 0
                yield token, torch.cat([last_time, asked_names[-1:]]), find_cells(frame, frame)
            elif times[token] and len(answer_times) == 2 and asked_events.numel():  # tvg
                middle = within(torch.isin(ids, self.then), begin, start)
                boundary = int(middle[0]) if middle.numel() else start
                if token == answer_times[0]:
                    yield token, asked_events[asked_events < boundary], find_cells(span[0], span[0] + 1)
                else:
                    last_clause = asked_events[asked_events > boundary] if middle.numel() else asked_events
                    yield token, last_clause, find_cells(span[1] - 1, span[1])
            elif names[token] or events[token]:
                yield token, torch.cat([asked_times, asked_places]), find_cells(span[0], span[-1])

    def _find_object(self, ids: torch.Tensor, labels: SceneLabels) -> int:
        """Return the object that a turn is about: it alone has all that is said of colour and shape."""
        fits = torch.ones(len(labels.object_names), dtype=torch.bool)
        for kind, rows in enumerate((self.colors, self.shapes)):
            said = torch.isin(rows, ids).nonzero()[:, 0]
            if said.numel():
                fits &= labels.object_names[:, kind] == said[0]
        return int(fits.nonzero()[0, 0])


def run_step(step: str, output_dir: Path, num_steps: int, seed: int, bf16: bool) -> None:
    """Run a step; it reads what the one before it wrote, and writes to the folder of its name in `output_dir`."""
    if step == "start":
        model, processor = make_model(seed)
        pretraining = Pretraining(model, processor, seed, bf16)
        pretrain_tower(pretraining, num_steps)
        set_language_heads(model, torch.cat([pretraining.find_rows(names) for names in NAMES]))
    else:
        before, pretrain = {"events": ("start", pretrain_events), "lookups": ("events", pretrain_lookups)}[step]
        if not (output_dir / before).is_dir():
            raise ValueError(f"{output_dir / before} is not there: run the step {before} first.")
        torch.manual_seed(seed)
        model, processor = load_step(output_dir / before)
        pretrain(Pretraining(model, processor, seed, bf16), num_steps)
    model.save_pretrained(output_dir / step)
    processor.save_pretrained(output_dir / step)
    print(f"{output_dir / step}: {model.num_parameters() / 1e6:.2f} M parameters, {len(processor.tokenizer)} tokens")


def load_step(folder: Path) -> tuple[LlavaSTForConditionalGeneration, LlavaSTProcessor]:
    """Read what a step wrote; eager attention of the language model returns what it looks at."""
    implementation = {"text_config": "eager", "vision_config": "sdpa"}
    model = LlavaSTForConditionalGeneration.from_pretrained(folder, attn_implementation=implementation)
    return model.train(), LlavaSTProcessor.from_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=list(NUM_STEPS))
    parser.add_argument("--output-dir", type=Path, default=OUTPUTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help=f"of training ({NUM_STEPS})")
    parser.add_argument("--bf16", type=string_to_bool, default=True, help="false is faster on some CPUs (true)")
    options = parser.parse_args()
    num_steps = NUM_STEPS[options.step] if options.steps is None else options.steps
    run_step(options.step, options.output_dir, num_steps, options.seed, options.bf16)
