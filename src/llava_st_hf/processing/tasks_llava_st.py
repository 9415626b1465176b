"""The tasks of LLaVA-ST: all that the rest of the library has to know of a task stands here, in one entry.

Prompts, answers, records and scores follow from the entry of a task. Another task that is answered in one of
`ANSWER_FORMATS` is one more entry of `TASKS`.

The wording and the spaces are those the published weights were trained with. In the published pipeline a span in a
prompt gets a space on both sides, a box one before it and a start time one on both sides and one before "Starts in":
the double spaces below are therefore meant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from .answer_formats_llava_st import ANSWER_FORMATS, AnswerFormat
from .grounding_results_llava_st import Box, Span
from .media_llava_st import PromptError, show
from .notation_llava_st import NOTATION
from .question_wordings_llava_st import (
    BOXES,
    END_CAPTION_BOXES,
    EVENT_QUESTIONS,
    LOCATION_REQUEST,
    LONE_REQUEST,
    PLACE_QUESTIONS,
    SPAN_OPENERS,
    TIME_REQUEST,
    TIMES_AND_BOXES,
    normalize_event,
)

# What a prompt may hold and how it is written into the text, see `Task.needs`.
TASK_FIELDS = ("query", "span", "box", "start")
# The field of a record that gives what a prompt or an answer holds; the order is that in which fields are named.
_RECORD_FIELDS = {
    "query": "query",
    "span": "span_seconds",
    "start": "span_seconds",
    "end": "span_seconds",
    "tube": "boxes",
    "box": "box",
    "caption": "answer",
    "text": "answer",
}


@dataclass(frozen=True)
class Task:
    """
    One kind of question that the model was trained on.

    Args:
        name (`str`): Short name, as in `build_messages(name, ...)`.
        title (`str`): Name in words.
        description (`str`): What goes in and what comes out, one sentence.
        media_type (`str`): `"video"`, `"image"` or `"any"`.
        needs (`tuple[str, ...]`):
            What the prompt must be given, out of `"query"`, `"span"` (a start and an end time), `"box"` and
            `"start"` (a start time).
        prompts (`tuple[str, ...]`):
            Templates with a field for each need; the first is the default, the others are published variants.
        answer_format (`AnswerFormat`): Form of the answer, one of `ANSWER_FORMATS`.
        example_answer (`str`): An answer in the model's own notation.
        question_prompt (`str`, *optional*):
            Template for a query that is already a whole question (it holds a question mark) and not the name of an
            event or of an object.
        subject_prompts (`tuple[str, ...]`, *optional*, defaults to `()`):
            Templates for a query that asks who or what takes part in an event ("who rides the bicycle?"), as those of
            VidSTG do: when and where is asked behind it.
        measures (`tuple[str, ...]`, *optional*, defaults to `()`):
            What an evaluation measures of an answer, names out of `llava_st_hf.evaluation.protocols.MEASURES`; a task
            without any is not scored.
        headline (`tuple[str, ...]`, *optional*, defaults to `()`):
            The metrics that stand in a report, out of those that `measures` give.

    Example:

    ```python
    >>> get_task("rec").write_prompt(query="the dog")
    'Where can I find the dog in this image?'
    ```
    """

    name: str
    title: str
    description: str
    media_type: str
    needs: tuple[str, ...]
    prompts: tuple[str, ...]
    answer_format: AnswerFormat
    example_answer: str
    question_prompt: str | None = None
    subject_prompts: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    headline: tuple[str, ...] = ()

    @property
    def record_fields(self) -> tuple[str, ...]:
        """
        What a record of the task has beside its medium, by the names of one's own JSONL: `query`, `span_seconds`,
        `boxes` by second, `box` and `answer`.
        """
        given = {_RECORD_FIELDS[name] for name in (*self.needs, *self.answer_format.fields)}
        if "boxes" in given:
            given.discard("box")  # that of the prompt is the first of the tube
        return tuple(name for name in dict.fromkeys(_RECORD_FIELDS.values()) if name in given)

    def list_prompts(self, asks_subject: bool = False) -> tuple[str, ...]:
        """Return the published wordings, or those for a query that asks who or what takes part in an event."""
        return (asks_subject and self.subject_prompts) or self.prompts

    def name_query(self, query: str) -> str:
        """
        Return a query in one's own words as the published questions have it.

        An event or an object that is named inside a sentence is in lower case and without a full stop, a question
        that is whole stays as it is. Queries of published files go without this: their pipeline writes some as they
        are, full stop included, and was trained so.
        """
        is_named = any("{query}" in prompt and not prompt.startswith("{query}") for prompt in self.prompts)
        if not is_named or (self.question_prompt is not None and "?" in query):
            return query
        return normalize_event(query) or query

    def write_prompt(self, variant: int = 0, asks_subject: bool = False, **fields: str | None) -> str:
        """
        Write the prompt of the task, without the placeholder of the media.

        Args:
            variant (`int`, *optional*, defaults to 0): Which of `prompts`, or of `subject_prompts`.
            asks_subject (`bool`, *optional*, defaults to `False`):
                Whether the query asks who or what takes part in an event, and not when or where.
            fields (`str`, *optional*): `query`, `span`, `box` and `start` as text; what is missing is `None` or "".

        Returns:
            `str`: The prompt.

        Raises:
            `PromptError`: For a missing or a superfluous field, one that is no text, or an unknown variant.
        """
        for name, value in fields.items():
            if not isinstance(value, (str, type(None))):
                raise PromptError(f"{name} is {show(value)}: give it as text.", field=name)
        given = {name for name, value in fields.items() if value is not None and value.strip()}
        for name in self.needs:
            if name not in given:
                written = fields.get(name)
                raise PromptError(
                    f"{name} is {written!r}: task {self.name!r} ({self.title}) needs a {name}: give "
                    f"{'start_seconds' if name == 'start' else name}=...",
                    field=name,
                )
        if surplus := sorted(given - set(self.needs)):
            raise PromptError(
                f"{surplus[0]} is given, but task {self.name!r} ({self.title}) takes {self._list_needs()}: leave it "
                "out or choose another task.",
                field=surplus[0],
            )
        prompts = self.list_prompts(asks_subject)
        if not isinstance(variant, Integral) or not 0 <= variant < len(prompts):
            raise PromptError(
                f"variant is {show(variant)}: task {self.name!r} has the prompts 0 to {len(prompts) - 1}, 0 is the "
                "default.",
                field="variant",
            )
        template, values = prompts[variant], {name: fields[name] for name in self.needs}
        if prompts is self.prompts and self.question_prompt is not None and "?" in values["query"]:
            template = self.question_prompt
        elif prompts is self.subject_prompts and template.startswith("{query}"):
            values["query"] = values["query"][:1].upper() + values["query"][1:]
        return template.format(**values)

    def _list_needs(self) -> str:
        return "no " + " and no ".join(TASK_FIELDS) if not self.needs else "only " + " and ".join(self.needs)


_TASKS = (
    Task(
        name="video_captioning",
        title="video captioning",
        description="Describe a whole video in words.",
        media_type="video",
        needs=(),
        prompts=("Describe the video.", "What was going on in the video?"),
        answer_format=ANSWER_FORMATS["text"],
        example_answer="A child in a red hat swings a bat on the lawn.",
    ),
    Task(
        name="tvg",
        title="temporal video grounding",
        description="Find when the described event happens: a query in, a start and an end time out.",
        media_type="video",
        needs=("query",),
        prompts=(
            "Give you a textual query: '{query}'. When does the described content occur in the video? Please return "
            "the start and end timestamps.",
        ),
        subject_prompts=(TIME_REQUEST,),
        answer_format=ANSWER_FORMATS["span"],
        example_answer="{<t_12><t_47>}",
        measures=("temporal_recall",),
        headline=("R@0.5", "m_tIoU"),
    ),
    Task(
        name="dvc",
        title="dense video captioning",
        description="List the events of a video, each with its start, its end and a sentence.",
        media_type="video",
        needs=(),
        prompts=(
            "Localize a series of activity events in the video, output the start and end timestamps of each event, "
            "and describe each event with a sentence.",
        ),
        answer_format=ANSWER_FORMATS["sentences_with_spans"],
        example_answer="{<t_0><t_31>}, a man opens the door. {<t_32><t_99>}, he walks into the kitchen.",
        measures=("event_f1", "story", "dense_captions"),
        headline=("SODA_c", "EtF1", "CIDEr", "METEOR"),
    ),
    Task(
        name="tr",
        title="temporal referring",
        description="Say what happens between two times.",
        media_type="video",
        needs=("span",),
        prompts=(
            "Describe what took place during the period  {span}  in the video.",
            "What was going on within the time frame of  {span}  in the video?",
        ),
        answer_format=ANSWER_FORMATS["text"],
        example_answer="The man puts on a jacket.",
        measures=("exact_match",),
        headline=("exact_match",),
    ),
    Task(
        name="rec",
        title="referring expression comprehension",
        description="Find the described object in an image: a phrase in, a box out.",
        media_type="image",
        needs=("query",),
        prompts=(
            "Where can I find {query} in this image?",
            "What part of this image contains {query}?",
            "Where does {query} appear in this image?",
            "Where is {query} situated within this image?",
        ),
        answer_format=ANSWER_FORMATS["box"],
        example_answer="[<x_10><y_22><x_54><y_80>]",
        measures=("box_iou",),
        headline=("acc@0.5",),
    ),
    Task(
        name="dgc",
        title="dense grounded captioning",
        description="Describe an image in detail, with a box after each object that is named.",
        media_type="image",
        needs=(),
        prompts=(
            "Please describe in detail the contents of the image. Please respond with interleaved bounding boxes for "
            "the corresponding parts of the answer.",
            "Can you provide a thorough description of this image? Please output with interleaved bounding boxes for "
            "the corresponding phrases.",
            "Could you give me an elaborate explanation of this picture? Please respond with interleaved bounding "
            "boxes for the corresponding phrases.",
        ),
        answer_format=ANSWER_FORMATS["phrases_with_boxes"],
        example_answer="A woman [<x_10><y_5><x_40><y_90>] rides a horse [<x_5><y_40><x_70><y_98>].",
    ),
    Task(
        name="rc",
        title="region caption",
        description="Say what is inside a box of an image.",
        media_type="image",
        needs=("box",),
        prompts=(
            "What object can be observed within the region  {box} in the image?",
            "What is the primary object within the region  {box}?",
        ),
        answer_format=ANSWER_FORMATS["text"],
        example_answer="A bowl of carrots.",
        measures=("exact_match",),
        headline=("exact_match",),
    ),
    Task(
        name="tgc",
        title="temporal grounded conversation",
        description="Talk about a video; the answer names the times it speaks of.",
        media_type="video",
        needs=("query",),
        prompts=("{query}",),
        answer_format=ANSWER_FORMATS["sentences_with_spans"],
        example_answer="{<t_12><t_47>}, she cuts the carrots.",
    ),
    Task(
        name="igc",
        title="image grounded conversation",
        description="Talk about an image; the answer has a box after each object that is named.",
        media_type="image",
        needs=("query",),
        prompts=("{query}",),
        answer_format=ANSWER_FORMATS["phrases_with_boxes"],
        example_answer="The dog [<x_10><y_22><x_54><y_80>] waits for its owner.",
    ),
    Task(
        name="stvg",
        title="spatial-temporal video grounding",
        description="Find when and where the described event happens: a query in, a span and a box per time out.",
        media_type="video",
        needs=("query",),
        prompts=(
            *(f"{event} {place}{TIMES_AND_BOXES}" for event in EVENT_QUESTIONS for place in PLACE_QUESTIONS),
            LONE_REQUEST + TIMES_AND_BOXES,
        ),
        question_prompt="{query}" + TIMES_AND_BOXES,
        subject_prompts=tuple(f"{TIME_REQUEST} {place}{TIMES_AND_BOXES}" for place in PLACE_QUESTIONS),
        answer_format=ANSWER_FORMATS["span_and_tube"],
        example_answer="{<t_10><t_12>} <t_10>:[<x_1><y_2><x_30><y_40>], <t_12>:[<x_3><y_2><x_32><y_40>]",
        measures=("temporal_iou", "spatial_iou", "volume_iou"),
        headline=("m_tIoU", "m_sIoU", "m_vIoU"),
    ),
    Task(
        name="elc",
        title="event localization and captioning",
        description="Follow the object of a box from a start time: its end, a caption and a box per time out.",
        media_type="video",
        needs=("start", "box"),
        prompts=(
            " Starts in {start} , what happened about the subject/object within the specified region  {box}? Where is "
            "the corresponding subject/object located?" + END_CAPTION_BOXES,
            " Starts in {start} , describe the event about subject/object located within the region  {box}."
            + LOCATION_REQUEST
            + END_CAPTION_BOXES,
        ),
        answer_format=ANSWER_FORMATS["end_caption_and_tube"],
        example_answer=(
            "Ends in <t_81>, the adult plays the guitar. Object bounding box: "
            "<t_33>:[<x_35><y_44><x_50><y_82>], <t_81>:[<x_36><y_44><x_51><y_82>]"
        ),
        measures=("temporal_iou", "spatial_iou", "volume_iou", "caption_match", "captions"),
        headline=("m_tIoU", "caption_exact_match"),
    ),
    Task(
        name="svg",
        title="spatial video grounding",
        description="Follow the described object between two times: a query and a span in, a box per time out.",
        media_type="video",
        needs=("query", "span"),
        prompts=tuple(f"{opener}  {{span}} , where is {{query}}?{LOCATION_REQUEST}{BOXES}" for opener in SPAN_OPENERS),
        question_prompt="Between  {span} , {query}" + BOXES,
        subject_prompts=tuple(
            f"{opener}  {{span}} , {{query}} {place}{BOXES}" for opener in SPAN_OPENERS for place in PLACE_QUESTIONS
        ),
        answer_format=ANSWER_FORMATS["tube"],
        example_answer="<t_10>:[<x_1><y_2><x_30><y_40>], <t_12>:[<x_3><y_2><x_32><y_40>]",
        measures=("spatial_iou", "volume_iou"),
        headline=("m_sIoU",),
    ),
    Task(
        name="conversation",
        title="conversation",
        description="Talk about a video or an image in words.",
        media_type="any",
        needs=("query",),
        prompts=("{query}",),
        answer_format=ANSWER_FORMATS["text"],
        example_answer="The two children share an umbrella because it rains.",
    ),
    Task(
        name="video_qa",
        title="video question answering",
        description="Answer a question about a video in a few words.",
        media_type="video",
        needs=("query",),
        prompts=("{query}",),
        answer_format=ANSWER_FORMATS["text"],
        example_answer="In the kitchen.",
        measures=("common_words", "captions"),
        headline=("ROUGE_L", "CIDEr"),
    ),
    Task(
        name="classification",
        title="video classification",
        description="Name the action of a video.",
        media_type="video",
        needs=(),
        prompts=("What action is being performed in the video?",),
        answer_format=ANSWER_FORMATS["text"],
        example_answer="Playing the guitar.",
    ),
    Task(
        name="tvg_several",
        title="temporal video grounding of several moments",
        description="Find each time that the described event happens: a query in, one span or more out.",
        media_type="video",
        needs=("query",),
        prompts=(
            "Give you a textual query: '{query}'. When does the described content occur in the video? Please return "
            "the start and end timestamps of each time that it occurs.",
        ),
        answer_format=ANSWER_FORMATS["spans"],
        example_answer="{<t_12><t_47>}, {<t_60><t_71>}",
        measures=(
            "all_spans_recall",
            "first_span_recall",
            "span_precision",
            "span_precision_half",
            "span_precision_high",
            "event_f1",
        ),
        headline=("R@0.5", "m_tIoU", "R1@0.5", "mAP", "EtF1"),
    ),
    Task(
        name="stvg_several",
        title="spatial-temporal video grounding of several moments",
        description="Find each time that the described event happens, and where: spans and a tube for each out.",
        media_type="video",
        needs=("query",),
        prompts=(
            "At which time intervals in the video can we see {query} occurring?" + LOCATION_REQUEST + TIMES_AND_BOXES,
        ),
        question_prompt="{query}" + TIMES_AND_BOXES,
        answer_format=ANSWER_FORMATS["spans_and_tubes"],
        example_answer=(
            "{<t_10><t_12>}, {<t_40><t_41>} <t_10>:[<x_1><y_2><x_30><y_40>], <t_12>:[<x_3><y_2><x_32><y_40>]; "
            "another: <t_40>:[<x_5><y_2><x_34><y_40>]"
        ),
        measures=("all_spans_iou", "event_f1", "all_tubes_spatial_iou", "all_tubes_volume_iou"),
        headline=("m_tIoU", "m_sIoU", "m_vIoU", "EtF1"),
    ),
    Task(
        name="multiple_choice",
        title="multiple choice",
        description="Choose one of several answers to a question about a video, by its letter.",
        media_type="video",
        needs=("query",),
        prompts=("{query}",),
        answer_format=ANSWER_FORMATS["text"],
        example_answer="(B) the door",
        measures=("choice_match",),
        headline=("accuracy",),
    ),
)

_TASKS_BY_NAME = {task.name: task for task in _TASKS}
TASKS: Mapping[str, Task] = MappingProxyType(_TASKS_BY_NAME)


def get_task(name: str) -> Task:
    """Return a task by its name; an unknown one raises `PromptError` with all names."""
    if not isinstance(name, str) or name not in TASKS:
        order = "the task comes before the query, " if isinstance(name, str) and " " in name else ""
        raise PromptError(f"task is {show(name)}: {order}choose one of {', '.join(TASKS)}.", field="task")
    return TASKS[name]


def describe_tasks() -> str:
    """Return a table of all tasks, one per line, for the help of a command."""
    width = max(map(len, TASKS))
    return "\n".join(f"{task.name:<{width}}  {task.media_type:<5}  {task.description}" for task in TASKS.values())


def choose_medium(task: Task, video: Any, image: Any) -> tuple[str, Any]:
    """Return the type of the medium and the medium; anything but the one that the task needs is a `PromptError`."""
    given = {name: medium for name, medium in (("video", video), ("image", image)) if medium is not None}
    allowed = ("video", "image") if task.media_type == "any" else (task.media_type,)
    if len(given) != 1 or next(iter(given)) not in allowed:
        raise PromptError(
            f"{' and '.join(given) or 'no medium'} given: task {task.name!r} ({task.title}) needs "
            f"{' or '.join(f'{name}=...' for name in allowed)} and no other medium."
        )
    return next(iter(given.items()))


def write_values(
    name: str, axes: str, values: "Span | Box | Sequence[float] | None", fractions: Sequence[float] | None
) -> str | None:
    """
    Write a span, a box or a time, of seconds or pixels or of fractions, into a prompt: `"{<t=1.5s><t=4.0s>}"`.

    `None` when neither is given. Both, or not as many numbers as axes, are a `PromptError` that calls it `name`.
    """
    units = {"t": "seconds", "x": "pixels", "y": "pixels"}
    if values is not None and fractions is not None:
        raise PromptError(f"{name} is given both in units and in fractions: give one of them.", field=name)
    if values is None and fractions is None:
        return None
    given = unpack_units(values) if fractions is None else fractions
    numbers = _list_numbers(given)
    if numbers is None or len(numbers) != len(axes):
        unit = None if fractions is not None else units[axes[0]]
        raise PromptError(_describe_wrong_values(name, axes, given, unit), field=name)
    return NOTATION.write_values(axes, numbers, units[axes[0]] if fractions is None else "fraction")


def unpack_units(values: Any) -> Any:
    """Return the seconds of a `Span` or the pixels of a `Box` as a tuple, anything else as it is."""
    # By attribute: as remote code this module has its own Span, and the user may hold the package's.
    if hasattr(values, "start_seconds"):
        return values.start_seconds, values.end_seconds
    return values.xyxy if hasattr(values, "xyxy") else values


def _list_numbers(values: Any) -> list[float] | None:
    """Return the numbers of a sequence or an array, `None` for anything else."""
    if hasattr(values, "tolist"):  # an array or a tensor
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes, bytearray, memoryview)):
        return None
    numbers = [value.tolist() if hasattr(value, "tolist") else value for value in values]
    if not all(isinstance(value, Real) and not isinstance(value, bool) for value in numbers):
        return None
    try:
        return [float(value) for value in numbers]
    except OverflowError:  # of a whole number with hundreds of digits
        return None


def _describe_wrong_values(name: str, axes: str, given: Any, unit: str | None) -> str:
    """Say what is wrong, by the names of the arguments of `build_messages`; no unit means fractions."""
    if axes == "t":  # one number, which comes in a list
        field, required = ("start_fraction" if unit is None else "start_seconds"), "a number"
        given = given[0] if isinstance(given, list) and len(given) == 1 else given
    else:
        field, required = (f"{name}_fractions" if unit is None else name), f"{len(axes)} numbers"
    return f"{field} is {show(given)}: give {required} {f'in {unit}' if unit else 'from 0 to 1'}."


__all__ = [
    "TASKS",
    "TASK_FIELDS",
    "Task",
    "choose_medium",
    "describe_tasks",
    "get_task",
    "unpack_units",
    "write_values",
]
