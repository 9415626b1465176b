"""The questions and true answers of the tasks about a scene, in the published wording and answer forms.

Each answer is the only right one, so that an exact match means something: `write_messages` returns `None` for a scene
about which its question would have two right answers, and the scene is drawn again.

The rules behind the words:

- An event lasts until the object does something else. "The red circle moves left, then stops" lasts to the end of the
  stop, "the red circle appears" from the first frame that shows it until it does something.
- Spans hold whole segments of the timeline and are closed: from the first to the last frame.
- A description of a whole clip names what happens to each object that changes at all, in the order of the first
  change. Of the stops it names the last one, if the object is still there at the end.
- Objects of an image are listed from left to right.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from ...processing import Task, get_task
from ...processing.notation_llava_st import write_box, write_span, write_time, write_tube
from .random_stream import RandomStream
from .scenes import COLORS, EVENTS, SHAPES, Scene, SceneObject, Segment, are_alike, find_first_change

_NUMBERS = ("one", "two", "three", "four")
# Differences that can be seen: of the sides of two objects, and of their places as a share of the width.
_MIN_SIDE_RATIO = 1.25
_MIN_GAP = 0.08


class Turn(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


class Description(NamedTuple):
    """Words for a stretch of an object's timeline, without the object: "moves left, then stops"."""

    item: SceneObject
    words: str
    first_frame: int
    last_frame: int

    @property
    def sentence(self) -> str:
        """The words with the object, "the red circle moves left"."""
        return f"the {self.item.name} {self.words}"


def write_messages(task: str, scene: Scene, rng: RandomStream) -> tuple[dict[str, str], ...] | None:
    """
    Write the conversation of a task about a scene, which for a task about an image has one frame.

    `None` where the scene allows no question with one right answer.
    """
    turns = _WRITERS[task](scene, rng)
    if turns is None:
        return None
    messages = []
    for turn in turns:
        messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
    return tuple(messages)


def add_questions(
    messages: tuple[dict[str, str], ...], scene: Scene, tasks: Sequence[str], num_questions: int, rng: RandomStream
) -> tuple[dict[str, str], ...]:
    """
    Go on with a conversation, up to `num_questions`: each about objects that were not spoken of before.

    So no answer can be copied from what was said already; that is also why there may be fewer than asked for.
    """

    def find_objects(turns: Sequence[dict[str, str]]) -> set[str]:
        text = " ".join(turn["content"] for turn in turns)
        return {
            item.name
            for item in scene.objects
            if any(words in text for words in (item.name, f"{item.color} shape", f"the {item.shape}"))
        }

    spoken_of = find_objects(messages)
    for _ in range(2 * num_questions):
        if len(messages) >= 2 * num_questions or len(spoken_of) == len(scene.objects):
            break
        turns = write_messages(rng.choose(tasks), scene, rng)
        named = find_objects(turns) if turns is not None else set()
        if named and not named & spoken_of:
            messages += turns
            spoken_of |= named
    return messages


def list_descriptions(item: SceneObject) -> list[Description]:
    """Return the stretches of an object's timeline that can be named: single segments, and two in a row."""
    descriptions = [_describe(item, segment) for segment in item.named_segments]
    for segment, following in pairwise(item.segments):
        if segment.is_named and (following.is_event or following.name == "stops"):
            descriptions.append(_describe(item, segment, following))
    return descriptions


def _describe(item: SceneObject, *segments: Segment) -> Description:
    words = ", then ".join(segment.name for segment in segments)
    return Description(item, words, segments[0].first_frame, segments[-1].last_frame)


def shapes_vocabulary() -> tuple[str, ...]:
    """
    Return every word that questions and answers of ST-Shapes hold, sorted.

    Words are runs of letters, as written: "Describe" and "describe" are two. Coordinates, digits and punctuation are
    not among them.
    """
    tasks = [get_task(name) for name in SHAPES_TASKS]
    texts = [prompt for task in tasks for prompt in (*_list_prompts(task), task.question_prompt or "")]
    texts += [task.answer_format.template for task in tasks]
    texts += [*COLORS, *SHAPES, *SHAPES.values(), *_NUMBERS, _WORDS]
    texts += [words for event in EVENTS.values() for words in event[:3]]
    written = " ".join(re.sub(r"\{\w*\}", " ", text) for text in texts)
    return tuple(sorted(set(re.findall("[A-Za-z]+", written))))


# The words of this module, beside those of the published prompts, the events, the colours and the shapes.
_WORDS = (
    "When What Where Which Is How where when which there happens first many color shape shapes does do is are at "
    "the end a or of and larger left right it yes no appears then stops vanishes"
)


# ---------------------------------------------------------------------------------------------------------------------
# Parts of texts
# ---------------------------------------------------------------------------------------------------------------------
def _write_prompt(task: str, rng: RandomStream, **fields: str) -> str:
    return get_task(task).write_prompt(rng.integer(len(_list_prompts(get_task(task)))), **fields)


def _list_prompts(task: Task) -> tuple[str, ...]:
    """Return the wordings that ST-Shapes asks in; one of two tasks, so that a small model has fewer words to learn."""
    return task.prompts[:1] if task.name in ("stvg", "svg") else task.prompts


def _write_span(scene: Scene, stretch: Description | Segment) -> str:
    return write_span(scene.get_time(stretch.first_frame), scene.get_time(stretch.last_frame))


def _write_box(scene: Scene, item: SceneObject, frame: int = 0) -> str:
    return write_box(scene.get_box(item, frame))


def _write_tube(scene: Scene, asked: Description) -> str:
    frames = range(asked.first_frame, asked.last_frame + 1)
    return write_tube([(scene.get_time(frame), scene.get_box(asked.item, frame)) for frame in frames])


def _write_turn(name: str, scene: Scene, rng: RandomStream, asked: Description, query: str = "") -> list[Turn]:
    """Write a question about a stretch: given is what the task needs, answered what its answers have."""
    task = get_task(name)
    writers = {
        "query": lambda: query,
        "span": lambda: _write_span(scene, asked),
        "start": lambda: write_time(scene.get_time(asked.first_frame)),
        "end": lambda: write_time(scene.get_time(asked.last_frame)),
        "box": lambda: _write_box(scene, asked.item, asked.first_frame),
        "tube": lambda: _write_tube(scene, asked),
        "caption": lambda: f"{asked.sentence}.",
        "text": lambda: f"{asked.sentence}.",
    }
    question = _write_prompt(name, rng, **{need: writers[need]() for need in task.needs})
    return [Turn(question, task.answer_format.write(**{part: writers[part]() for part in task.answer_format.fields}))]


def _sort_by_place(scene: Scene, items: Sequence[SceneObject]) -> list[SceneObject] | None:
    """Return objects of an image from left to right, or `None` where two are too near each other to say."""
    ordered = sorted(items, key=_get_middle)
    gaps = (_get_middle(right) - _get_middle(left) for left, right in pairwise(ordered))
    return ordered if all(gap >= _MIN_GAP * scene.width for gap in gaps) else None


def _get_middle(item: SceneObject) -> float:
    """Return the x in pixels of the middle of the box at the first frame."""
    return float(item.boxes[0, 0] + item.boxes[0, 2]) / 2


def _choose_or_none(rng: RandomStream, items: Sequence) -> object | None:
    return rng.choose(items) if items else None


def _list_all_descriptions(scene: Scene) -> list[Description]:
    return [description for item in scene.objects for description in list_descriptions(item)]


def _list_simple(items: Sequence[SceneObject]) -> list[Description]:
    """Return the descriptions of one segment each."""
    return [_describe(item, segment) for item in items for segment in item.named_segments]


def _choose_description(scene: Scene, rng: RandomStream) -> Description:
    """Choose a stretch of one segment more often than one of two."""
    simple = rng.chance(0.7)
    return rng.choose(_list_simple(scene.objects) if simple else _list_all_descriptions(scene))


def _list_events(scene: Scene) -> list[tuple[SceneObject, Segment]]:
    return [(item, segment) for item in scene.objects for segment in item.events]


# ---------------------------------------------------------------------------------------------------------------------
# When and where in a clip
# ---------------------------------------------------------------------------------------------------------------------
def _write_tvg(scene: Scene, rng: RandomStream) -> list[Turn]:
    asked = _choose_description(scene, rng)
    return _write_turn("tvg", scene, rng, asked, asked.sentence)


def _write_stvg(scene: Scene, rng: RandomStream) -> list[Turn]:
    if rng.chance(0.25):
        item, segment = rng.choose(_list_events(scene))
        query = f"When and where does the {item.name} {EVENTS[segment.name].infinitive}?"
        return _write_turn("stvg", scene, rng, _describe(item, segment), query)
    asked = _choose_description(scene, rng)
    return _write_turn("stvg", scene, rng, asked, asked.sentence)


def _write_svg(scene: Scene, rng: RandomStream) -> list[Turn]:
    asked = _choose_description(scene, rng)
    name = f"the {asked.item.name}"
    query = f"where is {name}?" if rng.chance(0.25) else name
    return _write_turn("svg", scene, rng, asked, query)


def _write_elc(scene: Scene, rng: RandomStream) -> list[Turn]:
    # Its box names an object: objects hide too little of each other for two to have nearly the same.
    return _write_turn("elc", scene, rng, _describe(*rng.choose(_list_events(scene))))


def _write_tr(scene: Scene, rng: RandomStream) -> list[Turn] | None:
    asked = _choose_or_none(rng, [each for each in _list_all_descriptions(scene) if _is_alone(scene, each)])
    return asked and _write_turn("tr", scene, rng, asked)


def _is_alone(scene: Scene, description: Description) -> bool:
    """Return whether no other object does anything, appears or vanishes in a stretch."""
    for item in scene.objects:
        if item is description.item:
            continue
        for segment in item.segments:
            # Of a stretch of rest only its first frame is a change; before it lies an event or nothing.
            last = segment.last_frame if segment.is_event else segment.first_frame
            changes = segment.is_named or (segment.name == "absent" and last > 0)
            if changes and segment.first_frame <= description.last_frame and last >= description.first_frame:
                return False
    return True


def _write_dvc(scene: Scene, rng: RandomStream) -> list[Turn] | None:
    parts = sorted(_list_simple(scene.objects), key=lambda part: part.first_frame)
    starts = Counter(part.first_frame for part in parts)
    if max(starts.values()) > 1:
        return None
    return [Turn(_write_prompt("dvc", rng), _write_sentences(scene, parts))]


def _write_sentences(scene: Scene, parts: Sequence[Description]) -> str:
    return " ".join(f"{_write_span(scene, part)}, {part.sentence}." for part in parts)


def _write_tgc(scene: Scene, rng: RandomStream) -> list[Turn]:
    if rng.chance(0.3):
        item = rng.choose(scene.actors)
        question, parts = f"What does the {item.name} do, and when?", _list_simple([item])
    else:
        item, segment = rng.choose(_list_events(scene))
        question = f"When does the {item.name} {EVENTS[segment.name].infinitive}?"
        parts = [_describe(item, segment)]
    return [Turn(get_task("tgc").write_prompt(query=question), _write_sentences(scene, parts))]


# ---------------------------------------------------------------------------------------------------------------------
# What in a clip
# ---------------------------------------------------------------------------------------------------------------------
def _write_video_captioning(scene: Scene, rng: RandomStream) -> list[Turn] | None:
    sentences = [f"the {item.name} {_describe_whole(item)}." for item in scene.actors]
    if not _have_order(scene):
        return None
    return [Turn(_write_prompt("video_captioning", rng), " ".join(sentences))]


def _describe_whole(item: SceneObject) -> str:
    """Return all that happens to an object: "appears, then moves left, then stops"."""
    words = [segment.name for segment in item.named_segments]
    if item.vanishes:
        words.append("vanishes")
    elif item.segments[-1].name == "stops":
        words.append("stops")
    return ", then ".join(words)


def _have_order(scene: Scene) -> bool:
    """Return whether no two objects change for the first time at one frame or at the next."""
    starts = [find_first_change(item) for item in scene.actors]
    return all(later - earlier >= 2 for earlier, later in pairwise(starts))


def _write_classification(scene: Scene, rng: RandomStream) -> list[Turn]:
    ((_, segment),) = _list_events(scene)
    return [Turn(_write_prompt("classification", rng), f"{EVENTS[segment.name].gerund}.")]


def _write_video_qa(scene: Scene, rng: RandomStream) -> list[Turn] | None:
    turn = rng.choose((_ask_what_it_does, _ask_which_shape, _ask_whether_it_stays, _ask_what_is_first))(scene, rng)
    return turn and [Turn(get_task("video_qa").write_prompt(query=turn.question), turn.answer)]


def _ask_what_it_does(scene: Scene, rng: RandomStream) -> Turn | None:
    items = [item for item in scene.actors if len(item.events) == 1 and not item.appears and not item.vanishes]
    item = _choose_or_none(rng, items)
    return item and Turn(f"What does the {item.name} do?", f"it {item.events[0].name}.")


def _ask_which_shape(scene: Scene, rng: RandomStream) -> Turn | None:
    events = _list_events(scene)
    item, segment = rng.choose(events)
    if any(other is not item and are_alike(each.name, segment.name) for other, each in events):
        return None
    return Turn(f"Which shape {segment.name}?", f"the {item.name}.")


def _ask_whether_it_stays(scene: Scene, rng: RandomStream) -> Turn | None:
    stays = rng.chance(0.5)
    item = _choose_or_none(rng, [item for item in scene.actors if item.vanishes != stays])
    return item and Turn(f"Is the {item.name} there at the end?", "yes." if stays else "no.")


def _ask_what_is_first(scene: Scene, rng: RandomStream) -> Turn | None:
    pair = rng.shuffle([_describe(item, segment) for item, segment in _list_events(scene)])[:2]
    if len(pair) < 2 or abs(pair[0].first_frame - pair[1].first_frame) < scene.min_event_frames - 1:
        return None
    question = f"What happens first: {pair[0].sentence} or {pair[1].sentence}?"
    return Turn(question, f"{min(pair, key=lambda part: part.first_frame).sentence}.")


# ---------------------------------------------------------------------------------------------------------------------
# Images, and words about either
# ---------------------------------------------------------------------------------------------------------------------
def _write_rec(scene: Scene, rng: RandomStream) -> list[Turn]:
    item = rng.choose(scene.objects)
    names = [item.name, item.name]
    names += [f"{item.color} shape"] if _is_only(scene, color=item.color) else []
    names += [item.shape] if _is_only(scene, shape=item.shape) else []
    prompt = _write_prompt("rec", rng, query=f"the {rng.choose(names)}")
    return [Turn(prompt, _write_box(scene, item))]


def _is_only(scene: Scene, color: str | None = None, shape: str | None = None) -> bool:
    """Return whether one object alone has a colour, or a shape."""
    return sum(color in (None, item.color) and shape in (None, item.shape) for item in scene.objects) == 1


def _write_rc(scene: Scene, rng: RandomStream) -> list[Turn]:
    item = rng.choose(scene.objects)
    return [Turn(_write_prompt("rc", rng, box=_write_box(scene, item)), f"a {item.name}.")]


def _write_dgc(scene: Scene, rng: RandomStream) -> list[Turn] | None:
    items = _sort_by_place(scene, scene.objects)
    return items and [Turn(_write_prompt("dgc", rng), _write_boxed(scene, items, "a"))]


def _write_boxed(scene: Scene, items: Sequence[SceneObject], article: str) -> str:
    """Return objects with their boxes, "the red circle [box], the blue circle [box]."."""
    return ", ".join(f"{article} {item.name} {_write_box(scene, item)}" for item in items) + "."


def _write_igc(scene: Scene, rng: RandomStream) -> list[Turn] | None:
    groups = [(f"{color} shapes", [i for i in scene.objects if i.color == color]) for color in COLORS]
    groups += [(plural, [i for i in scene.objects if i.shape == shape]) for shape, plural in SHAPES.items()]
    groups = [(names, items) for names, items in groups if len(items) > 1]
    if groups and rng.chance(0.5):
        names, items = rng.choose(groups)
        items, question = _sort_by_place(scene, items), f"Where are the {names}?"
    else:
        items = [rng.choose(scene.objects)]
        question = f"Where is the {items[0].name}?"
    return items and [Turn(get_task("igc").write_prompt(query=question), _write_boxed(scene, items, "the"))]


def _write_conversation(scene: Scene, rng: RandomStream) -> list[Turn] | None:
    askers = [_ask_color, _ask_shape, _ask_whether_there]
    # What changes in a clip has no one size and place, and need not be there all the time.
    askers += [_ask_how_many, _ask_which_is_larger, _ask_left_or_right] if scene.num_frames == 1 else []
    asked = rng.shuffle(askers)[: 2 if rng.chance(0.4) else 1]
    turns = [ask(scene, rng) for ask in asked]
    prompt = get_task("conversation").write_prompt
    return None if None in turns else [Turn(prompt(query=turn.question), turn.answer) for turn in turns]


def _ask_color(scene: Scene, rng: RandomStream) -> Turn | None:
    item = _choose_or_none(rng, [item for item in scene.objects if _is_only(scene, shape=item.shape)])
    return item and Turn(f"What color is the {item.shape}?", f"{item.color}.")


def _ask_shape(scene: Scene, rng: RandomStream) -> Turn | None:
    item = _choose_or_none(rng, [item for item in scene.objects if _is_only(scene, color=item.color)])
    return item and Turn(f"What shape is {item.color}?", f"a {item.shape}.")


def _ask_whether_there(scene: Scene, rng: RandomStream) -> Turn:
    item = rng.choose(scene.objects)
    if rng.chance(0.5):
        return Turn(f"Is there a {item.name}?", "yes.")
    # An object that is not there, mostly with the colour or the shape of one that is.
    names = {other.name for other in scene.objects}
    near = [f"{item.color} {shape}" for shape in SHAPES] + [f"{color} {item.shape}" for color in COLORS]
    return Turn(f"Is there a {rng.choose([name for name in near if name not in names])}?", "no.")


def _ask_how_many(scene: Scene, rng: RandomStream) -> Turn:
    return Turn("How many shapes are there?", f"{_NUMBERS[len(scene.objects) - 1]}.")


def _ask_which_is_larger(scene: Scene, rng: RandomStream) -> Turn | None:
    pair = rng.shuffle(scene.objects)[:2]
    sides = [float(item.half_sides[0]) for item in pair]
    if len(pair) < 2 or max(sides) < _MIN_SIDE_RATIO * min(sides):
        return None
    larger = pair[sides.index(max(sides))]
    return Turn(f"Which is larger, the {pair[0].name} or the {pair[1].name}?", f"the {larger.name}.")


def _ask_left_or_right(scene: Scene, rng: RandomStream) -> Turn | None:
    pair = rng.shuffle(scene.objects)[:2]
    if len(pair) < 2 or (ordered := _sort_by_place(scene, pair)) is None:
        return None
    question = f"Is the {pair[0].name} left or right of the {pair[1].name}?"
    return Turn(question, "left." if ordered[0] is pair[0] else "right.")


_WRITERS: dict[str, Callable[[Scene, RandomStream], list[Turn] | None]] = {
    "video_captioning": _write_video_captioning,
    "tvg": _write_tvg,
    "dvc": _write_dvc,
    "tr": _write_tr,
    "rec": _write_rec,
    "dgc": _write_dgc,
    "rc": _write_rc,
    "tgc": _write_tgc,
    "igc": _write_igc,
    "stvg": _write_stvg,
    "elc": _write_elc,
    "svg": _write_svg,
    "conversation": _write_conversation,
    "video_qa": _write_video_qa,
    "classification": _write_classification,
}


SHAPES_TASKS = tuple(_WRITERS)
