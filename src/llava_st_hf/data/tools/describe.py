"""What a record says, and what a check found, in words for a reader."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ...processing import TASKS, GroundingResult, InputError
from ...processing.grounding_summary_llava_st import describe_box, describe_span, describe_tube
from ...processing.notation_llava_st import AXIS_NAMES, NOTATION, Lexeme
from ...utils.tables import format_table
from ..sample_writing import DEFAULT_NUM_FRAMES
from ..samples import Sample
from ..skips import SkippedRecord, format_skip_table
from ..turns import Turn
from .check import CheckSummary, Records, TokenCounter


def find_record(records: Records, name: str, progress: Callable[[int], None] | None = None) -> Sample | SkippedRecord:
    """
    Return the record of a number from 0, or of an id (`id=7` for one of digits alone); none is an `InputError`.

    `progress` takes how many more records were looked at.
    """
    if not len(records):
        raise InputError("there is no record to show: the file holds none.")
    if name.isascii() and name.isdigit():
        if int(name) >= len(records):
            raise InputError(f"the record is {name}: there are the records 0 to {len(records) - 1}.", field="record")
        return records[int(name)]
    for index in range(len(records)):
        record = records[index]
        if record.id == name.removeprefix("id="):
            return record
        if progress is not None:
            progress(1)
    raise InputError(f"the record is {name!r}: none has that id; give its number, from 0.", field="record")


def describe_record(sample: Sample, turns: Sequence[Turn]) -> str:
    """Describe a record in lines: what it is, the conversation, and what that means in seconds and pixels."""
    names = [item.path or ("an array" if item.content is None else "bytes") for item in sample.media]
    lines = [f"id: {sample.id}", f"source: {sample.source}", f"task: {sample.task}", f"medium: {sample.media_type}"]
    lines += [f"  {name}" for name in names[:3]] + ([f"  and {len(names) - 3} more"] if len(names) > 3 else [])
    if sample.frame_range is not None:
        lines.append(f"frames: {sample.frame_range[0]} to {sample.frame_range[1]}")
    lines += [f"{message['role']}: {_shorten(message['content'])}" for message in sample.messages]
    for turn in turns:
        lines += [f"question {line}" for line in _list_groups(turn.question)]
        lines += [f"answer {line}" for line in _list_groups(turn.answer)]
        lines += [f"answer {problem.kind}: {problem.message}" for problem in turn.answer.problems]
    if turns:
        lines += [f"media problem: {problem}" for problem in turns[0].answer.media.problems]
    return "\n".join(lines)


def _shorten(text: str) -> str:
    """Return a text whose coordinates have four decimals at most; the record has more."""

    def write(coordinate: Lexeme) -> str:
        kind, value, unit = coordinate[:3]
        short = round(value, 4)
        return coordinate.text if short == value else NOTATION.write_coordinate(kind, short, unit)

    return NOTATION.replace_coordinates(text, write)


def _list_groups(result: GroundingResult) -> list[str]:
    lines = [f"span: {describe_span(span)}" for span in result.spans]
    phrases = [(caption.text, box) for caption in result.captions for box in caption.boxes]
    named = {box for _, box in phrases}
    lines += [f"box: {describe_box(box)} {text}" for text, box in phrases]
    lines += [f"box: {describe_box(box)}" for box in result.boxes if box not in named]
    for tube in result.tubes:
        lines.append(f"tube: {describe_tube(tube)}")
        shown = [*tube.boxes[:2], *tube.boxes[2:][-1:]]
        lines += [f"  at {moment.seconds:.2f} s: {describe_box(moment.box)}" for moment in shown]
    return lines


def describe_check(summary: CheckSummary, report: Path | None = None) -> list[str]:
    """Describe what a check found in tables, with an example of each fault; `report` lists the records left out."""
    tables, facts = [], summary.to_dict()
    if facts["records"]:
        tables.append(format_table(("source", "task", "records"), [tuple(row.values()) for row in facts["records"]]))
    examples = [f"  {entry['reason']}: {entry['example']}" for entry in facts["skips"]]
    skips = format_skip_table(summary.skips, summary.num_used + summary.num_skipped, report)
    tables.append("\n".join([skips, *(["for example", *examples] if examples else [])]))
    if facts["tokens"]:
        rows = [(task, *lengths.values()) for task, lengths in facts["tokens"].items()]
        tables.append(format_table(("tokens of task", "min", "median", "95 %", "max"), rows))
    if facts["coordinates"]:
        rows = [
            (
                f"{AXIS_NAMES[entry['axis']]} ({entry['unit']})",
                entry["count"],
                f"{entry['minimum']:.6g}",
                f"{entry['maximum']:.6g}",
                f"{entry['share_at_edges']:.1%}",
            )
            for entry in facts["coordinates"]
        ]
        tables.append(format_table(("coordinates", "count", "min", "max", "at an edge"), rows))
    if facts["warnings"]:
        rows = [(entry["source"], entry["kind"], entry["records"]) for entry in facts["warnings"]]
        examples = [f"  {entry['kind']}: {entry['example']}" for entry in facts["warnings"]]
        tables.append("\n".join([format_table(("source", "warning", "records"), rows), "for example", *examples]))
    return tables


def describe_num_frames(summary: CheckSummary, said: int | None, counter: TokenCounter | None) -> list[str]:
    """
    Say how many frames of a clip were counted with, in one line; none for records without tubes that no `counter`
    counted tokens of.

    `said` is the number that the mixture or who asked has.
    """
    tasks = [TASKS[task] for _, task in summary.counts if task in TASKS and TASKS[task].media_type != "image"]
    if not any("tube" in task.answer_format.fields or summary.num_tokens for task in tasks):
        return []
    sampled = None if counter is None else counter.processor.video_processor.num_frames
    number = said or sampled or DEFAULT_NUM_FRAMES
    why = "as is said" if said else "as the processor samples"
    if not said and not sampled:
        why = "the default: a model that samples another number gets others, see --processor, or check its recipe"
    return [f"frames of a clip that boxes and tokens are counted for: {number} ({why})"]
