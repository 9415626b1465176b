"""The subcommands of `llava-st data`: look at training data, draw it, count it, convert it, publish it."""

import argparse
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .data.media_probe import probe_media
from .data.mixture import MixtureSpec
from .data.readers.base import Reader
from .data.readers.registry import FORMATS, guess_format, list_options, open_reader
from .data.samples import Sample
from .data.shapes import SHAPES_TASKS, ShapesDataset
from .data.skips import SkippedRecord, SkipReport, TooManySkipsError, format_skip_table, read_skip_report
from .data.tools.check import DECODE_LEVELS, CheckSummary, ChosenRecords, Records, check_records
from .data.tools.convert import convert_annotations
from .data.tools.publish import find_unlicensed, prepare_push, publish_dataset, push_dataset
from .data.tools.show import check_output, draw_record
from .data.tools.stats import collect_statistics, write_statistics
from .data.turns import Turn, read_turns
from .hub.cards import UNKNOWN_LICENSE, SourceFacts
from .processing.grounding_results_llava_st import Box, GroundingResult
from .processing.media_llava_st import InputError
from .processing.processing_llava_st import LlavaSTProcessor
from .processing.tasks_llava_st import TASKS

SHAPES = "st-shapes"
_DECIMALS = re.compile(r"(?<=[txy]=)\d*\.\d+")
_NUM_SHAPES = 1000  # of the built-in data set, for a look at it
_NUM_FRAMES = 100  # sampled of a clip whose truth is drawn
_MIXTURE_ENDINGS = (".yaml", ".yml")
_EXTRA_MODULES = {"datasets", "jinja2", "matplotlib", "pyarrow", "yaml"}
_AXES = {"t": "time", "x": "width", "y": "height"}
_INPUT_HELP = f"a mixture (.yaml), a file of annotations, a folder of Parquet files, or {SHAPES}"


def add_data(commands: argparse._SubParsersAction, epilog: str | None = None) -> None:
    """Add `llava-st data` with its subcommands."""
    data = commands.add_parser(
        "data",
        help="check, show, count, convert and publish training data",
        description="Check, show, count, convert and publish training data.",
        epilog=f"`llava-st data COMMAND --help` explains a command. {epilog or ''}",
    )
    subcommands = data.add_subparsers(required=True, metavar="COMMAND")
    data.set_defaults(commands=subcommands.choices)
    _add_check(subcommands, epilog)
    _add_show(subcommands, epilog)
    _add_stats(subcommands, epilog)
    _add_convert(subcommands, epilog)
    _add_publish(subcommands, epilog)


def _add_command(
    commands: argparse._SubParsersAction, name: str, text: str, examples: Sequence[str], epilog: str | None
) -> argparse.ArgumentParser:
    """Add a subcommand whose help begins with `text` and ends with examples."""
    lines = "\n".join(f"  llava-st data {name} {example}" for example in examples)
    return commands.add_parser(
        name,
        help=text[0].lower() + text[1:].rstrip("."),
        description=text,
        epilog=f"examples:\n{lines}\n\n{epilog or ''}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_input(command: argparse.ArgumentParser, name: str = "DATA", text: str = _INPUT_HELP) -> None:
    command.add_argument("path", metavar=name, help=text)
    command.add_argument(
        "--format",
        choices=sorted(FORMATS),
        metavar="FORMAT",
        help=f"of the file (guessed): {', '.join(FORMATS)}",
    )
    command.add_argument("--data-folder", type=Path, metavar="DIR", help="folder of the media (that of the file)")
    command.add_argument("--source", metavar="NAME", help="name of the data set (that of the file)")
    command.add_argument("--task", choices=sorted(TASKS), metavar="TASK", help="where the format leaves a choice")
    command.add_argument(
        "--num-frames", type=int, metavar="N", help="frames of a clip that annotations in seconds get boxes for (100)"
    )
    command.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _add_check(commands: argparse._SubParsersAction, epilog: str | None) -> None:
    check = _add_command(
        commands,
        "check",
        "Look at every record before a training does.",
        [
            "mixture.yaml --processor LLaVA-ST-Qwen2-7B --report skipped.jsonl",
            "train.jsonl --data-folder clips --decode full --workers 8",
        ],
        epilog,
    )
    _add_input(check)
    check.add_argument("--processor", metavar="DIR_OR_ID", help="count tokens as this processor writes them")
    check.add_argument("--workers", type=int, metavar="N", help="processes (one a core, up to 8)")
    check.add_argument(
        "--decode",
        choices=DECODE_LEVELS,
        default="header",
        help="media: that they exist (none), that they open (header), all that training reads of them (full)",
    )
    check.add_argument("--report", type=Path, metavar="FILE", help="write the records left out, as JSONL")
    check.add_argument("--max-skip-share", type=float, metavar="X", help="exit code 1 above this share (0.05)")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=_needs_extra(_run_check))


def _add_show(commands: argparse._SubParsersAction, epilog: str | None) -> None:
    show = _add_command(
        commands,
        "show",
        "Print one record and draw the truth onto its clip or image.",
        ["train.jsonl 12 --data-folder clips --output record.png", f"{SHAPES} 3 --output record.mp4"],
        epilog,
    )
    _add_input(show)
    show.add_argument(
        "record", metavar="RECORD", nargs="?", default="0", help="number from 0, else id; id=7 for an id of digits (0)"
    )
    show.add_argument(
        "--output", type=Path, metavar="FILE", help="draw it: .png or .jpg (of a clip a contact sheet), .mp4"
    )
    show.set_defaults(run=_needs_extra(_run_show))


def _add_stats(commands: argparse._SubParsersAction, epilog: str | None) -> None:
    stats = _add_command(
        commands,
        "stats",
        "Plot span lengths, box sizes, boxes per tube, tokens and records.",
        ["mixture.yaml --output-dir stats --processor LLaVA-ST-Qwen2-7B"],
        epilog,
    )
    _add_input(stats)
    stats.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="folder to write to")
    stats.add_argument("--max-records", type=int, default=20_000, metavar="N", help="read N at random (20000)")
    stats.add_argument("--processor", metavar="DIR_OR_ID", help="count tokens as this processor writes them")
    stats.add_argument("--json", action="store_true", help="print JSON")
    stats.set_defaults(run=_needs_extra(_run_stats))


def _add_convert(commands: argparse._SubParsersAction, epilog: str | None) -> None:
    convert = _add_command(
        commands,
        "convert",
        "Write annotations of any format as canonical JSONL.",
        ["refcoco_val.json refcoco_val.jsonl --data-folder train2014"],
        epilog,
    )
    _add_input(convert, "ANNOTATIONS", "a file of annotations")
    convert.add_argument("output", metavar="OUTPUT", type=Path, help="file to write, .jsonl")
    convert.add_argument("--report", type=Path, metavar="FILE", help="write the records left out, as JSONL")
    convert.add_argument("--max-skip-share", type=float, default=0.05, metavar="X", help="stop above it (0.05)")
    convert.set_defaults(run=_needs_extra(_run_convert))


def _add_publish(commands: argparse._SubParsersAction, epilog: str | None) -> None:
    publish = _add_command(
        commands,
        "publish",
        "Write Parquet shards with the media inside and a card, and send them to the Hub.",
        [
            "mixture.yaml --output-dir published",
            "train.jsonl --data-folder clips --output-dir published --license train=CC-BY-4.0 --push-to me/my-clips",
        ],
        epilog,
    )
    _add_input(publish)
    publish.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="folder to write: new or empty")
    publish.add_argument("--push-to", metavar="ORG/NAME", help="send it to this repository on the Hub")
    publish.add_argument("--private", action="store_true", help="make the repository private")
    publish.add_argument(
        "--license",
        action="append",
        default=[],
        metavar="SOURCE=SPDX",
        help="licence of a source: clips=CC-BY-4.0",
    )
    publish.add_argument("--title", metavar="TEXT", help="name of the data set, for the card (that of the folder)")
    publish.add_argument("--max-shard-size", default="500MB", metavar="SIZE", help="size of an output file (500MB)")
    publish.add_argument("--max-skip-share", type=float, metavar="X", help="stop above this share left out (0.05)")
    publish.set_defaults(run=_needs_extra(_run_publish))


def _needs_extra(run: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """Say how to install what the extra `data` brings, where a command finds that it is missing."""

    @functools.wraps(run)
    def guarded(options: argparse.Namespace) -> None:
        try:
            run(options)
        except ImportError as error:
            # huggingface_hub asks for Jinja2 in words.
            name = "jinja2" if "Jinja2" in str(error) else (error.name or "").partition(".")[0]
            if name not in _EXTRA_MODULES:
                raise
            raise InputError(f'{name} is not installed: pip install "llava-st-hf[data]".') from error

    return guarded


# What all of them do ---------------------------------------------------------------------------------------------


class _Opened:
    """
    The records of a command line, and what their mixture says of them.

    Args:
        options (`argparse.Namespace`): What `_add_input` added.
    """

    def __init__(self, options: argparse.Namespace):
        self.facts: dict[str, SourceFacts] = {}
        self.required_sources: frozenset[str] = frozenset()
        self.max_skip_share = 0.05
        self.records = self._open(options)

    def _open(self, options: argparse.Namespace) -> Records:
        given = [
            name
            for name in ("format", "data_folder", "source", "task", "num_frames")
            if getattr(options, name) is not None
        ]
        is_mixture = Path(options.path).suffix.lower() in _MIXTURE_ENDINGS
        if given and (is_mixture or options.path == SHAPES):
            flag = f"--{given[0].replace('_', '-')}"
            raise InputError(f"{flag} is given, but {options.path} says that itself: leave it out.")
        if options.path == SHAPES:
            return ShapesDataset(SHAPES_TASKS, num_samples=_NUM_SHAPES)
        if not Path(options.path).exists():
            raise InputError(f"{options.path}: no such file or folder; check the path.")
        if is_mixture:
            return self._open_mixture(options.path)
        return open_annotations(options)

    def _open_mixture(self, path: str) -> Records:
        spec = MixtureSpec.from_yaml(path)
        self.max_skip_share = spec.max_skip_share
        self.required_sources = frozenset(spec.required_sources)
        for source in spec.datasets:
            facts = SourceFacts(source.name, source.license or UNKNOWN_LICENSE, source.origin)
            if self.facts.setdefault(source.name, facts) != facts:
                raise InputError(
                    f"{path}: two entries are named {source.name!r}, and differ in license or origin: give each a "
                    "source of its own."
                )
        return ChosenRecords(spec)


def open_annotations(options: argparse.Namespace) -> Reader:
    """Open a file of annotations, which also names the data set unless the options say otherwise."""
    path, folder = Path(options.path), get_data_folder(options)
    if not folder.is_dir():
        raise InputError(f"--data-folder is {folder}: no such folder.")
    name = options.source or path.resolve().name.partition(".")[0] or "data"
    format = options.format or guess_format(path)
    # A published data set says of each record where it comes from.
    extra = {"keep_sources": options.source is None} if format == "canonical" else {}
    if options.num_frames is not None:
        if "num_frames" not in list_options(format):
            raise InputError(
                f"--num-frames is given, but {path} ({format}) says at which times its boxes are: leave it out."
            )
        extra["num_frames"] = options.num_frames
    return open_reader(format, path, name, folder, options.task, **extra)


def get_data_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the media: that of the annotations unless the options say otherwise."""
    path = Path(options.path)
    return options.data_folder or (path if path.is_dir() else path.parent)


def _load_processor(name: str | None) -> LlavaSTProcessor | None:
    if name is None:
        return None
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise InputError(f"--processor is {name}: no such folder.")
    try:
        return LlavaSTProcessor.from_pretrained(name)
    except InputError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"--processor {name} cannot be loaded: {' '.join(str(error).split())[:300]}") from error


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:  # NaN too
        raise InputError(f"--max-skip-share is {share}: give a share from 0 to 1.")


def _check_report(path: Path | None) -> None:
    """Refuse a report that could not be written, or would be mixed into a file of another kind."""
    if path is None:
        return
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise InputError(f"--report is {path}: give the name of a file in a folder that exists.")
    if path.is_file() and path.stat().st_size and not read_skip_report(path):
        raise InputError(f"--report is {path}, which is no report of skipped records: give another name.")


@contextmanager
def _progress(options: argparse.Namespace, text: str, total: int | None, unit: str = "record") -> Iterator[tqdm]:
    with tqdm(total=total, desc=text, unit=unit, disable=True if options.quiet else None, leave=False) as bar:
        yield bar


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.quiet:
        print(text, file=sys.stderr)


def format_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table in plain text; texts stand at the left of their columns, numbers at the right."""
    written = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *written, strict=True)]
    is_text = [all(not cell[:1].isdigit() for cell in column) for column in zip(*written, strict=True)]
    lines = [
        "  ".join(
            f"{cell:<{width}}" if left else f"{cell:>{width}}"
            for cell, width, left in zip(row, widths, is_text, strict=True)
        ).rstrip()
        for row in [header, *written]
    ]
    return "\n".join(lines)


def clean(text: str) -> str:
    """Return a text without the control characters that a terminal would obey; line breaks stay."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


# check -----------------------------------------------------------------------------------------------------------


def _run_check(options: argparse.Namespace) -> None:
    opened = _Opened(options)
    share = opened.max_skip_share if options.max_skip_share is None else options.max_skip_share
    _check_share(share)
    num_workers = min(os.cpu_count() or 1, 8) if options.workers is None else options.workers
    if num_workers < 0:
        raise InputError(f"--workers is {num_workers}: give 0, which does all in one process, or more.")
    processor = _load_processor(options.processor)
    _check_report(options.report)
    if options.report is not None:
        options.report.unlink(missing_ok=True)  # what an earlier check found may be corrected by now
    summary, total = CheckSummary(), len(opened.records)
    try:
        with _progress(options, "Checking", total) as bar:
            check_records(
                opened.records,
                SkipReport(options.report, max_skip_share=1),
                processor=processor,
                decode=options.decode,
                num_workers=num_workers if num_workers > 1 else 0,
                summary=summary,
                progress=bar.update,
            )
    except KeyboardInterrupt:
        _print_check(options, summary, total)
        raise
    _print_check(options, summary, total)
    if lost := sorted({source for source, _ in summary.skips} & opened.required_sources):
        raise TooManySkipsError(f"the required source {lost[0]!r} has records that cannot be used.")
    if summary.skip_share > share:
        raise TooManySkipsError(
            f"{summary.num_skipped} of {total} records cannot be used, more than the share of {share:g}."
        )
    if not total:
        raise InputError(f"{options.path} has no records.")


def _print_check(options: argparse.Namespace, summary: CheckSummary, total: int) -> None:
    num_seen = summary.num_used + summary.num_skipped
    if options.json:
        print(json.dumps({"num_records": total, "num_checked": num_seen, **summary.to_dict()}, indent=2))
        return
    parts = [] if num_seen == total else [f"interrupted after {num_seen:,} of {total:,} records"]
    if summary.counts:
        rows = [(clean(source), task, count) for (source, task), count in sorted(summary.counts.items())]
        parts.append(format_table(("source", "task", "records"), rows))
    facts = summary.to_dict()
    examples = [f"  {entry['reason']}: {entry['example']}" for entry in facts["skips"]]
    table = format_skip_table(summary.skips, num_seen, options.report)
    parts.append(clean("\n".join([table, *(["for example", *examples] if examples else [])])))
    if facts["tokens"]:
        rows = [(task, *lengths.values()) for task, lengths in facts["tokens"].items()]
        parts.append(format_table(("tokens of task", "min", "median", "95 %", "max"), rows))
    if facts["coordinates"]:
        rows = [
            (
                f"{_AXES[entry['axis']]} ({entry['unit']})",
                entry["count"],
                f"{entry['minimum']:.6g}",
                f"{entry['maximum']:.6g}",
                f"{entry['share_at_edges']:.1%}",
            )
            for entry in facts["coordinates"]
        ]
        parts.append(format_table(("coordinates", "count", "min", "max", "at an edge"), rows))
    if facts["warnings"]:
        rows = [(clean(entry["source"]), entry["kind"], entry["records"]) for entry in facts["warnings"]]
        examples = (f"  {entry['kind']}: {clean(entry['example'])}" for entry in facts["warnings"])
        parts.append("\n".join([format_table(("source", "warning", "records"), rows), "for example", *examples]))
    parts.append(f"next: {_advise(options, summary)}")
    print("\n\n".join(parts), flush=True)


def _advise(options: argparse.Namespace, summary: CheckSummary) -> str:
    if summary.num_skipped and options.report is None:
        return "list the records left out with --report skipped.jsonl, and fix them."
    if summary.num_skipped:
        return f"fix the records in {options.report}, or leave them out: training skips and reports them too."
    if options.processor is None:
        return "give --processor DIR_OR_ID, to see how long the records are."
    return f"see some of them: llava-st data show {options.path} 0 --output record.png"


# show ------------------------------------------------------------------------------------------------------------


def _run_show(options: argparse.Namespace) -> None:
    opened = _Opened(options)
    record = _find(opened.records, options)
    if isinstance(record, SkippedRecord):
        raise InputError(
            f"record {record.id!r} of {record.source!r} cannot be used ({record.reason}): {record.detail}"
        )
    if options.output is not None:
        check_output(record, options.output)
    turns = read_turns(record, probe_media(record, _NUM_FRAMES))
    print(clean(describe_record(record, turns)), flush=True)
    if options.output is None:
        if record.media:
            _say(options, "Draw it with --output record.png")
        return
    with _progress(options, "Drawing", None, "frame") as bar:

        def advance(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        draw_record(record, turns, options.output, progress=advance)
    _say(options, f"Wrote {options.output}")


def _find(records: Records, options: argparse.Namespace) -> Sample | SkippedRecord:
    """Return the record of a number or an id."""
    name = options.record
    if name.isascii() and name.isdigit():
        if int(name) >= len(records):
            raise InputError(f"RECORD is {name}: {options.path} has the records 0 to {len(records) - 1}.")
        return records[int(name)]
    wanted = name.removeprefix("id=")
    with _progress(options, "Searching", len(records)) as bar:
        for index in range(len(records)):
            record = records[index]
            if record.id == wanted:
                return record
            bar.update()
    raise InputError(f"RECORD is {name!r}: no record of {options.path} has that id; give its number, from 0.")


def describe_record(sample: Sample, turns: Sequence[Turn]) -> str:
    """Describe a record for a reader: what it is, the conversation, and what that means in seconds and pixels."""
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
    return _DECIMALS.sub(lambda match: f"{float(match[0]):.4f}".rstrip("0").rstrip("."), text)


def _list_groups(result: GroundingResult) -> list[str]:
    lines = [f"span: {span.start_seconds:.2f} s to {span.end_seconds:.2f} s" for span in result.spans]
    phrases = [(caption.text, box) for caption in result.captions for box in caption.boxes]
    named = {box for _, box in phrases}
    lines += [f"box: {_format_box(box)} {text}" for text, box in phrases]
    lines += [f"box: {_format_box(box)}" for box in result.boxes if box not in named]
    for tube in result.tubes:
        lines.append(f"tube: {len(tube.boxes)} boxes, {tube.start_seconds:.2f} s to {tube.end_seconds:.2f} s")
        shown = [*tube.boxes[:2], *tube.boxes[2:][-1:]]
        lines += [f"  at {moment.seconds:.2f} s: {_format_box(moment.box)}" for moment in shown]
    return lines


def _format_box(box: Box) -> str:
    return f"({box.x1:.0f}, {box.y1:.0f}) to ({box.x2:.0f}, {box.y2:.0f}) pixels"


# stats, convert --------------------------------------------------------------------------------------------------


def _run_stats(options: argparse.Namespace) -> None:
    opened = _Opened(options)
    processor = _load_processor(options.processor)
    with _progress(options, "Reading", min(len(opened.records), max(options.max_records, 0))) as bar:
        statistics = collect_statistics(opened.records, options.max_records, processor, progress=bar.update)
    if not statistics.counts:
        raise InputError(
            f"none of {statistics.num_read} records can be used: see `llava-st data check {options.path}`."
        )
    paths = write_statistics(statistics, options.output_dir)
    if options.json:
        print(json.dumps(statistics.to_dict(), indent=2))
        return
    if statistics.num_read < statistics.num_records:
        _say(options, f"Read {statistics.num_read:,} of {statistics.num_records:,} records, chosen at random.")
    if statistics.num_skipped:
        _say(options, f"{statistics.num_skipped:,} records cannot be used: see `llava-st data check {options.path}`.")
    print("\n".join(map(str, paths)))


class _Counted(Reader):
    """A reader that moves a bar."""

    def __init__(self, reader: Reader, bar: tqdm):
        self.source, self.reader, self.bar = reader.source, reader, bar

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, index: int) -> Sample:
        self.bar.update(index + 1 - self.bar.n)  # a conversion that goes on begins somewhere in between
        return self.reader.read(index)

    def get_id(self, index: int) -> str:
        return self.reader.get_id(index)


def _run_convert(options: argparse.Namespace) -> None:
    _check_share(options.max_skip_share)
    _check_report(options.report)
    if not Path(options.path).exists():
        raise InputError(f"{options.path}: no such file; check the path.")
    reader = open_annotations(options)
    report = SkipReport(options.report, options.max_skip_share)
    with _progress(options, "Converting", len(reader)) as bar:
        counts = convert_annotations(_Counted(reader, bar), options.output, report, get_data_folder(options))
    if counts.num_skipped:
        print(clean(report.format_table()), file=sys.stderr)
    print(f"{counts.num_written} records written to {options.output}")


# publish ---------------------------------------------------------------------------------------------------------


def _run_publish(options: argparse.Namespace) -> None:
    opened = _Opened(options)
    share = opened.max_skip_share if options.max_skip_share is None else options.max_skip_share
    _check_share(share)
    facts = {**opened.facts, **_read_licenses(options.license, opened.facts)}
    if options.private and options.push_to is None:
        raise InputError("--private is given without --push-to: nothing is sent, leave it out.")
    if options.push_to is not None:
        _refuse_unlicensed(opened.records.source_names, facts)
        prepare_push(options.push_to, options.private)
    try:
        published = publish_dataset(
            opened.records,
            options.output_dir,
            title=options.title,
            sources=facts,
            max_shard_size=options.max_shard_size,
            max_skip_share=share,
            required_sources=opened.required_sources,
            repository=options.push_to,
            quiet=options.quiet,
        )
    except KeyboardInterrupt:
        _say(options, "Stopped: run the same again, it goes on from here.")
        raise
    if published.skips:
        print(clean(format_skip_table(published.skips, len(opened.records))), file=sys.stderr)
    num_files, megabytes = len(published.shards), published.num_bytes / 1e6
    files = f"{num_files} Parquet file{'s' * (num_files != 1)}"
    _say(options, f"{published.num_records:,} records in {files}, {megabytes:,.1f} MB")
    if unused := sorted(set(_read_licenses(options.license, {})) - set(published.sources)):
        _say(options, f"--license names {unused[0]!r}, of which there is no record.")
    print(published.path)
    if options.push_to is not None:
        _refuse_unlicensed(published.sources, facts)  # now all of them are known
        print(push_dataset(published, options.push_to))
    elif unlicensed := find_unlicensed(published.sources, facts):
        _say(options, f"The licence of {', '.join(unlicensed)} is unknown: say it with --license SOURCE=SPDX.")


def _read_licenses(given: Sequence[str], known: dict[str, SourceFacts]) -> dict[str, SourceFacts]:
    facts = {}
    for text in given:
        source, separator, license = text.rpartition("=")
        if not separator or not source:
            raise InputError(f"--license is {text!r}: give SOURCE=SPDX, for example clips=CC-BY-4.0.")
        origin = known[source].origin if source in known else None
        facts[source] = SourceFacts(source, license, origin)
    return facts


def _refuse_unlicensed(names: Sequence[str], facts: dict[str, SourceFacts]) -> None:
    if unlicensed := find_unlicensed(names, facts):
        raise InputError(
            f"the licence of {unlicensed[0]!r} is not known, and nothing is sent without it: give "
            f"--license {unlicensed[0]}=SPDX, or license: in the mixture."
        )


__all__ = ["add_data"]
