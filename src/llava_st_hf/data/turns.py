"""What a record says in seconds and pixels: the spans, boxes and tubes of its questions and of its answers.

A record holds them as text. Here that text is read as an answer of the model would be, with the size and the time
line of the medium, so that a record can be drawn, counted and checked. `make_stand_in` gives a medium that serves
where only the form is of interest and no file is to be opened.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..processing import TASKS, GroundingResult, MediaInfo, parse_answer
from ..processing.notation_llava_st import NOTATION, Lexeme
from ..processing.prompt_coordinates_llava_st import compute_fraction
from .samples import MEDIA_PLACEHOLDER, Sample
from .skips import record_errors


@dataclass(frozen=True)
class Turn:
    """
    A question and its answer, read.
    """

    question: GroundingResult  # the spans, boxes and tubes that the question gives; nothing counts as missing
    # Those of the answer, its captions, and as `problems` what the form of the record's task asks for and the answer
    # lacks or has wrong.
    answer: GroundingResult
    index: int = 0  # which medium of the record they are about


def read_turns(sample: Sample, media: Sequence[MediaInfo]) -> list[Turn]:
    """
    Read the conversation of a record, whose media are as from `probe_media` or `make_stand_in`: a turn a question.

    A record without a medium has nothing to point at, and no turn. Seconds or pixels outside the medium raise
    `RecordError`.
    """
    if not media:
        return []
    marked = any(MEDIA_PLACEHOLDER.search(message["content"]) for message in sample.messages)
    preceding = 0 if marked else len(media)
    turns: list[Turn] = []
    question = None
    for index, message in enumerate(sample.messages):
        if message["role"] == "system":
            continue
        text = _write_fractions(f"messages[{index}].content", message["content"], media, preceding, marked)
        preceding += len(MEDIA_PLACEHOLDER.findall(text)) if marked else 0
        about = max(preceding, 1) - 1  # the last medium before it
        medium = media[about]
        if message["role"] == "user":
            start = next((each for each in NOTATION.find_coordinates(text) if each.kind == "t"), None)
            words = " ".join(NOTATION.remove_coordinates(MEDIA_PLACEHOLDER.sub(" ", text)).split())
            question = parse_answer(text, medium, answer_format="text", query=words)
            continue
        start_seconds = None
        if start is not None and medium.media_type == "video":
            start_seconds = medium.seconds_at(compute_fraction(start))
        answer = parse_answer(
            text,
            medium,
            answer_format=TASKS[sample.task].answer_format,
            start_seconds=start_seconds,
            task=sample.task,
            query=question.query,
        )
        turns.append(Turn(question, answer, about))
    return turns


def _write_fractions(name: str, text: str, media: Sequence[MediaInfo], preceding: int, marked: bool) -> str:
    """Write seconds and pixels as fractions; fractions and tokens stay as they are."""

    def write(coordinate: Lexeme) -> str:
        count = preceding + (len(MEDIA_PLACEHOLDER.findall(text, 0, coordinate.start)) if marked else 0)
        fraction = compute_fraction(coordinate, media, preceding=count)
        if coordinate.unit in ("seconds", "pixels"):
            return NOTATION.write_coordinate(coordinate.kind, fraction)
        return coordinate.text

    with record_errors(name):
        return NOTATION.replace_coordinates(text, write)


def find_units(sample: Sample) -> list[Lexeme]:
    """Return the seconds and pixels of a record, whose meaning only the file can tell."""
    return [each for found in sample.find_coordinates() for each in found if each.unit in ("seconds", "pixels")]


def make_stand_in(sample: Sample) -> tuple[MediaInfo, ...]:
    """
    Return media in which all seconds and pixels of a record lie inside, for a look at its form without its files.

    Sizes and times mean nothing beyond their order.
    """
    largest = {"t": 1.0, "x": 1.0, "y": 1.0}
    for coordinate in find_units(sample):
        largest[coordinate.kind] = max(largest[coordinate.kind], coordinate.value)
    width, height = (math.ceil(largest[axis]) for axis in "xy")
    if sample.media_type == "video":
        return (MediaInfo("video", width, height, (0, 10**9), (0.0, largest["t"])),)
    return tuple(MediaInfo("image", width, height) for _ in sample.media)
