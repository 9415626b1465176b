"""Teaches the tiny model to look up what it is asked for: where an object is, when something happens.

    python recipes/tiny/pretrain_lookups.py outputs/tiny/events outputs/tiny/lookups [--seed 0] [--steps 2700]
        [--bf16 true]

A pretrained language model knows how to look things up in what it was given. One that starts from nothing finds out
late: its boxes get precise long before it heeds the question, for an answer about some object is worth something, and
half of a lookup is worth nothing. So some attention heads are shown what to look at here, beside the usual loss: from
the answer to the words that ask, and from the answer to the tokens of the picture that are asked for. Of a span, the
start is to look at the first frames of what happens, the end at the last ones. Tokens of clips go on saying the words
for events, as `pretrain_events.py` taught them.

A motion shows only one frame after it began, and an answer that is one frame late is as wrong as any other. So later
the tokens that say that an event starts learn to say when it did, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pretrain_events import (
    NUM_LAYERS,
    compute_attention_loss,
    compute_event_loss,
    count_cells,
    parse_arguments,
    write_pretrained,
)
from pretrain_vision_tower import find_ids, find_rows
from scene_labels import (
    DIFFICULTY,
    EVENT_WORDS,
    NAMES,
    START_WORD,
    TIME_CODE_SIZE,
    SceneLabels,
    label_scene,
    make_time_code_directions,
    read_codes,
)
from torch import nn
from tqdm import tqdm

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset

CLIPS_PER_STEP, IMAGES_PER_STEP = 8, 12
IMAGE_TASKS = {"rec": 3, "rc": 2}
NUM_QUESTIONS = 4
LEARNING_RATE = 1e-3
WARMUP_STEPS = 50
# Layer and head, both from 0: from an answer to the words that ask, and to what is asked for, where several share all
# that a token says: edges, names, events and time.
ASKING_HEADS, FINDING_HEADS = ((2, 3),), ((3, 2), (3, 3), (4, 3))
EVENT_WEIGHT, START_WEIGHT = 0.5, 1.0


@dataclass(frozen=True)
class Part:
    """
    A part of the training, which begins with a new optimizer.

    Args:
        num_steps (`int`): About how many steps of some clips and some images.
        clip_tasks (`Mapping[str, float]`): What is asked about clips.
        attention_weight (`float`): Weight of the losses of attention.
        with_starts (`bool`): Whether tokens that say that an event starts learn to say when it did.
    """

    num_steps: int
    clip_tasks: Mapping[str, float]
    attention_weight: float = 0.2
    with_starts: bool = False


# The tokens of a tube are so many that among them those of a span count for little: the last parts have none. The last
# one is the same once more, with a new optimizer and a new warm-up.
PARTS = (
    Part(1200, {"tvg": 4, "tr": 4, "svg": 1}),
    Part(500, {"tvg": 4, "tr": 4, "svg": 1}, with_starts=True),
    Part(500, {"tvg": 3, "tr": 2}, attention_weight=0.5, with_starts=True),
    Part(500, {"tvg": 3, "tr": 2}, attention_weight=0.5, with_starts=True),
)
NUM_STEPS = sum(part.num_steps for part in PARTS)


def pretrain_lookups(
    model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, num_steps: int, seed: int, bf16: bool
) -> None:
    """
    Train the model in place on questions about images and clips, in parts; its vision tower stays as it is.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model, with eager attention.
        processor (`LlavaSTProcessor`): Turns media into pixels and words into tokens.
        num_steps (`int`): About how many steps of some clips and some images.
        seed (`int`): Seed of both.
        bf16 (`bool`): Whether the model runs in bfloat16.
    """
    first_step = 0
    for part in PARTS:
        last_step = first_step + round(part.num_steps * num_steps / NUM_STEPS)
        pretrain_part(model, processor, part, range(first_step, last_step), seed, bf16)
        first_step = last_step


def pretrain_part(
    model: LlavaSTForConditionalGeneration,
    processor: LlavaSTProcessor,
    part: Part,
    steps: range,
    seed: int,
    bf16: bool,
) -> None:
    """Train with the samples of some steps, see `pretrain_lookups`."""
    size, num_frames = processor.image_processor.size["height"], processor.video_processor.num_frames
    options = {"seed": seed, "size": size, "difficulty": DIFFICULTY, "num_questions": NUM_QUESTIONS}
    grid_size = model.config.patch_grid_size
    clips = ShapesDataset(part.clip_tasks, 10**9, num_frames=num_frames, **options)
    images = ShapesDataset(IMAGE_TASKS, 10**9, **options)
    media = {"clips": (clips, CLIPS_PER_STEP, count_cells(model)), "images": (images, IMAGES_PER_STEP, grid_size)}
    collator = LlavaSTDataCollator(processor)
    reader = AnswerReader(model, processor)
    event_rows = find_rows(model, processor, (*EVENT_WORDS, START_WORD))
    model.model.vision_tower.requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARMUP_STEPS, total_iters=WARMUP_STEPS)
    directions = make_time_code_directions(event_rows.shape[1])
    progress = tqdm(steps, desc="pretraining lookups", unit="step", mininterval=5)
    means: dict[str, float] = {}
    for step in progress:
        optimizer.zero_grad()
        for kind, (dataset, count, num_cells) in media.items():
            indices = range(step * count, (step + 1) * count)
            batch = collator([dataset[index] for index in indices])
            labels = [label_scene(dataset.make_scene(index), num_cells) for index in indices]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                output = model(**batch, output_attentions=True, output_hidden_states=True)
            losses = {"text": output.loss}
            if dataset is clips:
                tokens = reader.find_media(batch["input_ids"][0], labels[0])
                hidden = output.hidden_states[NUM_LAYERS][:, tokens].float()
                losses["events"] = EVENT_WEIGHT * compute_event_loss(hidden, labels, event_rows)
                if part.with_starts:
                    losses["starts"] = START_WEIGHT * compute_start_loss(hidden, labels, directions)
            asking, finding = reader.mark(batch, labels)
            for name, heads, wanted in (("asking", ASKING_HEADS, asking), ("finding", FINDING_HEADS, finding)):
                found = [compute_attention_loss(output.attentions[layer][:, head], wanted) for layer, head in heads]
                losses[name] = part.attention_weight * torch.stack(found).mean()
            sum(losses.values()).backward()
            for name, loss in losses.items():
                means[f"{kind} {name}"] = 0.95 * means.get(f"{kind} {name}", loss.item()) + 0.05 * loss.item()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        progress.set_postfix({name: f"{mean:.2f}" for name, mean in means.items()}, refresh=False)
    model.requires_grad_(True)


def compute_start_loss(hidden: torch.Tensor, labels: list[SceneLabels], directions: torch.Tensor) -> torch.Tensor:
    """Return how far tokens (clips, tokens, hidden) that say `START_WORD` are from saying when: the mean over them."""
    starting = torch.stack([label.cell_events[..., -1].flatten() for label in labels]) > 0
    starts = torch.stack([label.cell_starts.flatten(0, 1) for label in labels])
    errors = nn.functional.smooth_l1_loss(
        read_codes(hidden, directions)[starting], starts[starting], beta=0.3, reduction="sum"
    )
    return errors / max(starting.sum() * TIME_CODE_SIZE, 1)


class AnswerReader:
    """
    Finds what the tokens of an answer have to look at.

    Args:
        model (`LlavaSTForConditionalGeneration`): For its config.
        processor (`LlavaSTProcessor`): For its tokenizer.
    """

    def __init__(self, model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor):
        config = model.config
        self.media_ids = torch.tensor([config.image_token_id, config.video_token_id])
        self.num_times = config.axis_sizes[0]
        self.first_time = config.coordinate_token_offset
        self.colors, self.shapes = (find_ids(processor, names) for names in NAMES)
        self.names = torch.cat([self.colors, self.shapes, find_ids(processor, ("shape",))])
        self.events = find_ids(processor, EVENT_WORDS)
        self.then = find_ids(processor, ("then",))

    def find_media(self, ids: torch.Tensor, labels: SceneLabels) -> slice:
        """Return which positions of a text (tokens,) hold the cells of a scene."""
        start = int(torch.isin(ids, self.media_ids).nonzero()[0, 0])
        return slice(start, start + labels.owners.numel())

    def mark(self, batch: dict[str, torch.Tensor], labels: Sequence[SceneLabels]) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Mark where tokens should look, at the words that ask and at tokens of the picture.

        Args:
            batch (`dict[str, torch.Tensor]`): Of the collator.
            labels (`Sequence[SceneLabels]`): What its samples show, in the cells that are tokens.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: (n, tokens, tokens) each, bool.
        """
        shape = (*batch["input_ids"].shape, batch["input_ids"].shape[1])
        asking, finding = torch.zeros(2, *shape, dtype=torch.bool)
        for row, shown in enumerate(labels):
            ids, answered = batch["input_ids"][row], batch["labels"][row] != -100
            edges = nn.functional.pad(answered.int(), (1, 1)).diff()
            starts, ends = ((edges == change).nonzero()[:, 0].tolist() for change in (1, -1))
            for start, end, last in zip(starts, ends, [0, *ends], strict=False):
                self._mark_turn(ids, last, start, end, shown, asking[row], finding[row])
        return asking, finding

    def _mark_turn(
        self,
        ids: torch.Tensor,
        begin: int,
        start: int,
        end: int,
        labels: SceneLabels,
        asking: torch.Tensor,
        finding: torch.Tensor,
    ) -> None:
        """Mark a question from `begin` and its answer from `start` to before `end`."""
        media = self.find_media(ids, labels).start
        times = (ids >= self.first_time) & (ids < self.first_time + self.num_times)
        places = ids >= self.first_time + self.num_times
        names, events = torch.isin(ids, self.names), torch.isin(ids, self.events)
        number = self._find_object(ids[begin:end], labels)

        def within(mask: torch.Tensor, low: int, high: int) -> torch.Tensor:
            return low + mask[low:high].nonzero()[:, 0]

        def find_frame(position: torch.Tensor) -> int:
            fraction = (ids[position] - self.first_time) / (self.num_times - 1)
            return round(fraction.item() * (len(labels.owners) - 1))

        def find_tokens(first: int, last: int) -> torch.Tensor:
            found = labels.owners == number
            found[: max(first, 0)] = found[last + 1 :] = False
            return media + found.flatten().nonzero()[:, 0]

        asked_times, asked_places = within(times, begin, start), within(places, begin, start)
        asked_names, asked_events = within(names, begin, start), within(events, begin, start)
        answer_times = within(times, start, end)
        # The span that is asked about, or for.
        span = [find_frame(time) for time in torch.cat([asked_times, answer_times])[:2]] or [0, 0]
        given = torch.cat([asked_times, asked_places])
        for target in range(start, end):
            looks = None
            if places[target]:
                last_time = within(times, start, target)[-1:]  # none in an image
                frame = find_frame(last_time) if last_time.numel() else 0
                looks = (torch.cat([last_time, asked_names[-1:]]), find_tokens(frame, frame))
            elif times[target] and len(answer_times) == 2 and asked_events.numel():  # tvg
                middle = within(torch.isin(ids, self.then), begin, start)
                boundary = int(middle[0]) if middle.numel() else start
                if target == answer_times[0]:
                    looks = (asked_events[asked_events < boundary], find_tokens(span[0], span[0] + 1))
                else:
                    last_clause = asked_events[asked_events > boundary] if middle.numel() else asked_events
                    looks = (last_clause, find_tokens(span[1] - 1, span[1]))
            elif names[target] or events[target]:
                looks = (given, find_tokens(span[0], span[-1]))
            if looks is not None:
                asking[target - 1, looks[0]] = True
                finding[target - 1, looks[1]] = True

    def _find_object(self, ids: torch.Tensor, labels: SceneLabels) -> int:
        """Return the object that a turn is about: it alone has all that is said of colour and shape."""
        said = [torch.isin(rows, ids).nonzero()[:, 0] for rows in (self.colors, self.shapes)]
        fits = torch.ones(len(labels.names), dtype=torch.bool)
        for kind, words in enumerate(said):
            if words.numel():
                fits &= labels.names[:, kind] == words[0]
        return int(fits.nonzero()[0, 0])


if __name__ == "__main__":
    arguments = parse_arguments(__doc__, NUM_STEPS)
    write_pretrained(pretrain_lookups, **vars(arguments))
