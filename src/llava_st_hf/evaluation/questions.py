"""From a record to a question for the processor, and back from its answer to the truth."""

from dataclasses import dataclass, replace
from typing import Any

from ..data.media_loading import LoadedMedia
from ..data.samples import Sample
from ..data.turns import read_turns
from ..processing import GroundingContext, GroundingResult, InputError, MediaInfo, get_task
from ..processing.notation_llava_st import NOTATION, CoordinateVocabulary
from ..processing.prompt_coordinates_llava_st import compute_fraction
from .protocols import find_failure


@dataclass(frozen=True)
class Question:
    """
    What a record asks, as fractions of its medium.

    Args:
        task (`str`): The task.
        text (`str`): The last message of the user.
        start (`float`, *optional*): Start of the event where the question gives it (ELC).
        span (`tuple[float, float]`, *optional*): Start and end where it gives both (SVG, TR).
        box (`tuple[float, float, float, float]`, *optional*): Left, top, right, bottom where it gives them (ELC, RC).

    Example:

    ```python
    >>> Question("svg", "Between {<t=0.1><t=0.5>}, where is the ring?", start=0.1, span=(0.1, 0.5)).span
    (0.1, 0.5)
    ```
    """

    task: str
    text: str
    start: float | None = None
    span: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None


def read_question(sample: Sample, media: tuple[MediaInfo, ...], vocabulary: CoordinateVocabulary) -> Question:
    """
    Read the last question of a record; a coordinate outside its medium is an `InputError`.

    The media turn seconds and pixels into fractions, the vocabulary what is written as a token.
    """
    text = sample.messages[-2]["content"]
    fractions = [
        (coordinate.kind, compute_fraction(coordinate, media, vocabulary))
        for coordinate in NOTATION.find_coordinates(text)
    ]
    # Of another task they are words of the query, as in "what follows <t=0.5>", which bound no answer.
    needs = get_task(sample.task).needs
    times = [fraction for axis, fraction in fractions if axis == "t" and {"start", "span"} & set(needs)]
    edges = [fraction for axis, fraction in fractions if axis != "t" and "box" in needs]
    return Question(
        sample.task,
        text,
        start=times[0] if times else None,
        span=(times[0], times[1]) if len(times) > 1 else None,
        box=tuple(edges[:4]) if len(edges) > 3 else None,
    )


def write_messages(sample: Sample, loaded: LoadedMedia, vocabulary: CoordinateVocabulary) -> list[dict[str, Any]]:
    """
    Write the chat messages of a record without its last answer, for `LlavaSTProcessor.apply_chat_template`.

    They end with the question, with the note for `post_process_grounding`; its media are decoded and sampled. A
    coordinate outside its medium is an `InputError`.
    """
    # The clip is cut and sampled already.
    messages = replace(sample, frame_range=None).to_messages(loaded.blocks)[:-1]
    media = tuple(metadata.to_media_info() for metadata in loaded.video_metadata)
    question = read_question(sample, media, vocabulary) if media else None
    context = GroundingContext(
        sample.task,
        start_fraction=question.start if question else None,
        span_fractions=question.span if question else None,
        # The choices, of which an answer may have the words.
        query=sample.messages[-2]["content"] if "choice_match" in get_task(sample.task).measures else None,
    )
    return [*messages[:-1], {**messages[-1], **context.to_entry()}]


def read_truth(sample: Sample, media: tuple[MediaInfo, ...]) -> GroundingResult:
    """
    Read the truth of a record: its last answer, in seconds and pixels of its media as the model saw them.

    One that lacks what the task asks for is an `InputError`.
    """
    truth = read_turns(sample, media)[-1].answer
    if (failure := find_failure(sample.task, truth)) is not None:
        raise InputError(
            f"the truth of item {sample.id!r} of {sample.source!r} cannot be scored ({failure}): "
            f"{truth.text[:80]!r}; fix the record."
        )
    return truth
