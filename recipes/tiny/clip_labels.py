"""What the tokens of a clip show, and where those of an answer have to look: the truth for `pretrain_clips.py`."""

from dataclasses import dataclass

import torch

from llava_st_hf.data.shapes.draws import Draws
from llava_st_hf.data.shapes.questions import write_messages
from llava_st_hf.data.shapes.scenes import Scene
from llava_st_hf.processing.grounding_text_llava_st import format_span, format_tube

NUM_LOOKUPS = 3
MIN_COVER = 0.3  # of the region of a token by the box of an object
WORDS_OF_EVENTS = ("left", "right", "up", "down", "grows", "shrinks", "bounces", "flashes", "stops", "appears")


class ClipLabels:
    """
    What the tokens of the fast stream show of a clip of square frames.

    Args:
        scene (`Scene`): The clip.
        num_cells (`int`): Tokens along a side of a frame.
        cell_size (`float`): Side of the region of a token as a share of the frame; the last region may be smaller.

    Attributes:
        owners (`torch.Tensor`): Index into `scene.objects` of the object whose box covers most, even where another one
            hides it, or -1 for background: (frames, cells, cells).
        events (`torch.Tensor`): 1 for each of `WORDS_OF_EVENTS` that says what the object does, otherwise 0:
            (frames, cells, cells, words).
        known (`torch.Tensor`): False at the first frame of what an object does, where no motion can be seen yet:
            (frames, cells, cells).
    """

    def __init__(self, scene: Scene, num_cells: int, cell_size: float):
        grid = (scene.num_frames, num_cells, num_cells)
        low = torch.arange(num_cells) * cell_size
        high = (low + cell_size).clamp(max=1)
        covers = [torch.full(grid, MIN_COVER)]
        for item in scene.objects:
            left, top, right, bottom = (torch.tensor(item.boxes) / scene.width).float().T[..., None]
            columns, rows = (
                (torch.minimum(high, end) - torch.maximum(low, start)).clamp(min=0) / (high - low)
                for start, end in ((left, right), (top, bottom))
            )
            covers.append(rows[:, :, None] * columns[:, None] * torch.tensor(item.visible)[:, None, None])
        self.owners = torch.stack(covers).argmax(0) - 1
        self.events = torch.zeros(*grid, len(WORDS_OF_EVENTS))
        self.known = torch.ones(grid, dtype=torch.bool)
        for number, item in enumerate(scene.objects):
            owned = self.owners == number
            for segment in item.segments:
                frames = slice(segment.first_frame, segment.last_frame + 1)
                words = [WORDS_OF_EVENTS.index(word) for word in segment.name.split() if word in WORDS_OF_EVENTS]
                for word in words:
                    self.events[frames, ..., word] += owned[frames]
                if words:
                    self.known[segment.first_frame] &= ~owned[segment.first_frame]

    def find_tokens(self, number: int, first_frame: int, last_frame: int) -> torch.Tensor:
        """Return the numbers of the tokens that show an object within a span of frames: (found,)."""
        found = self.owners == number
        found[:first_frame] = found[last_frame + 1 :] = False
        return found.flatten().nonzero()[:, 0]


@dataclass
class Question:
    """
    A question about one object of a clip.

    Args:
        task (`str`): `"lookup"`, a box at one frame; `"tvg"`, a span from words; or `"tr"`, words from a span.
        number (`int`): Index of the object.
        messages (`tuple[dict[str, str], ...]`): The question and its answer.
    """

    task: str
    number: int
    messages: tuple[dict[str, str], ...]


def ask(scene: Scene, draws: Draws) -> list[Question]:
    """Write the questions about a clip: boxes at single frames, a span from words, words from a span if possible."""
    questions = []
    while len(questions) < NUM_LOOKUPS:
        item, frame = draws.choose(scene.objects), draws.integer(scene.num_frames)
        if item.visible[frame]:
            time = scene.get_time(frame)
            query = f"Between  {format_span(time, time)} , where is the {item.name}?"
            answer = format_tube([(time, scene.get_box(item, frame))])
            messages = ({"role": "user", "content": query}, {"role": "assistant", "content": answer})
            questions.append(Question("lookup", scene.objects.index(item), messages))
    for task in ("tvg", "tr"):
        messages = write_messages(task, scene, draws)
        if messages is None:
            task, messages = "tvg", write_messages("tvg", scene, draws)
        text = " ".join(message["content"] for message in messages)
        (number,) = (number for number, item in enumerate(scene.objects) if item.name in text)
        questions.append(Question(task, number, messages))
    return draws.shuffle(questions)


@dataclass
class Vocabulary:
    """
    Ids by which the parts of questions and answers are found.

    Args:
        names (`torch.Tensor`): Of colours and shapes.
        events (`torch.Tensor`): Of `WORDS_OF_EVENTS`.
        first_time (`int`): First id of the times.
        num_times (`int`): Number of times; the ids of places follow.
    """

    names: torch.Tensor
    events: torch.Tensor
    first_time: int
    num_times: int


@dataclass
class Looks:
    """Positions in a text: of tokens that should look, and of the words and tokens of the clip they should see."""

    answers: torch.Tensor
    words: torch.Tensor
    tokens: torch.Tensor


def find_looks(
    ids: torch.Tensor,
    answered: torch.Tensor,
    questions: list[Question],
    labels: ClipLabels,
    vocabulary: Vocabulary,
    first_token: int,
) -> list[Looks]:
    """
    Find what the answers of a text should look at.

    Args:
        ids (`torch.Tensor`): The text: (tokens,).
        answered (`torch.Tensor`): Where the answers are: (tokens,).
        questions (`list[Question]`): What is asked in the text, in its order.
        labels (`ClipLabels`): What the clip shows.
        vocabulary (`Vocabulary`): Ids of times, places and words.
        first_token (`int`): Position of the first token of the fast stream.

    Returns:
        `list[Looks]`: One for each question.
    """
    edges = answered.int().diff(append=torch.zeros(1, dtype=torch.int))
    starts, ends = ((edges == step).nonzero()[:, 0] + 1 for step in (1, -1))
    is_place = ids >= vocabulary.first_time + vocabulary.num_times
    is_time = (ids >= vocabulary.first_time) & ~is_place
    looks = []
    for question, start, end in zip(questions, starts.tolist(), ends.tolist(), strict=True):
        if question.task == "lookup":
            answers = start - 1 + is_place[start:end].nonzero()[:, 0]
            words, times = find_last(torch.isin(ids[:start], vocabulary.names), 1), find_last(is_time[:start], 1)
        elif question.task == "tvg":
            times = start + is_time[start:end].nonzero()[:, 0]
            answers, words = times - 1, find_last(torch.isin(ids[:start], vocabulary.events), 1)
        else:
            times = words = find_last(is_time[:start], 2)
            answers = torch.arange(start, end - 1)
        last_frame = labels.owners.shape[0] - 1
        frames = (ids[times] - vocabulary.first_time) / (vocabulary.num_times - 1) * last_frame
        first, last = frames.round().int()[[0, -1]].tolist()
        looks.append(Looks(answers, words, first_token + labels.find_tokens(question.number, first, last)))
    return looks


def find_last(mask: torch.Tensor, count: int) -> torch.Tensor:
    """Return the last positions at which a mask (tokens,) is true: (count,)."""
    return mask.nonzero()[-count:, 0]
