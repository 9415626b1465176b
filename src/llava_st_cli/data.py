"""`llava-st data`: look at training data, draw it, count it, convert it, publish it."""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import running
from .options import Overwrite, PrintJson, Quiet, ShardSize, argument, expand_dataclasses, flag, option, task_option
from .running import CommandError, say

if TYPE_CHECKING:
    from llava_st_hf import LlavaSTProcessor
    from llava_st_hf.data import SourceFacts
    from llava_st_hf.data.tools.check import CheckSummary, TokenCounter
    from llava_st_hf.data.tools.opening import OpenedRecords

_RECIPE_KEYS = {"stage", "model_name_or_path"}
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NUM_FRAMES = 100  # sampled of a clip whose truth is drawn

app = typer.Typer(cls=running.Group)
DataPath = Annotated[
    str,
    argument(
        "DATA",
        "a mixture or a recipe to check (.yaml), a file of annotations, a folder of Parquet files, or st-shapes",
    ),
]
ProcessorName = Annotated[str | None, option("DIR_OR_ID", "count tokens as this processor writes them")]
Report = Annotated[Path | None, option("FILE", "write the records left out, as JSONL")]
OutputFolder = Annotated[Path, option("DIR", "folder to write to")]
Share = Annotated[float | None, option("X", "exit code 1 above this share left out (the mixture's, or 0.05)")]


class DataCommand(running.Command):
    """A command that may need what the extra `data` brings."""

    extra = "data"


@dataclass(frozen=True)
class Remarks:
    """What is said about annotations, by the names of `open_annotations`; `None` is for what they say themselves."""

    format: Annotated[str | None, option("FORMAT", "of the file (guessed); a name that is none lists all")] = None
    data_folder: Annotated[Path | None, option("DIR", "folder of the media (that of the file)")] = None
    source: Annotated[str | None, option("NAME", "name of the data set (that of the file)")] = None
    task: Annotated[str | None, task_option("where the format leaves a choice")] = None
    num_frames: Annotated[
        int | None, option("N", "frames of a clip that annotations in seconds get boxes for (100)")
    ] = None
    box_format: Annotated[Literal["xyxy", "xywh"] | None, option(None, "of boxes of one's own (xyxy)")] = None
    unit: Annotated[
        Literal["pixels", "fraction", "thousandth"] | None, option(None, "of boxes of one's own (pixels)")
    ] = None


@app.callback(invoke_without_command=True, epilog="`llava-st data COMMAND --help` explains a command.")
def start(ctx: typer.Context) -> None:
    """Check, show, count, convert and publish training data."""
    running.show_help_without_command(ctx)


def open_data(
    path: str, remarks: Remarks, max_skip_share: float | None = None, sampled: int | None = None
) -> "OpenedRecords":
    """Open records; a share of them that may be skipped takes the place of the mixture's."""
    check_data(path)
    from llava_st_hf.data.skips import check_share
    from llava_st_hf.data.tools.opening import open_records

    opened = open_records(path, sampled, **vars(remarks))
    share = opened.max_skip_share if max_skip_share is None else max_skip_share
    check_share(share)
    return replace(opened, max_skip_share=share)


def check_data(path: str) -> None:
    """Refuse a name that is no file or folder, before anything is imported."""
    if path != "st-shapes":
        running.check_exists(path, "file or folder")


def open_counted(
    path: str, remarks: Remarks, max_skip_share: float | None, processor: str | None
) -> "tuple[OpenedRecords, TokenCounter | None]":
    """Open records for the frames that the processor samples, if one is named, and make what counts its tokens."""
    check_data(path)
    loaded = load_processor(processor)
    if loaded is None:
        return open_data(path, remarks, max_skip_share), None
    from llava_st_hf.data.tools.check import TokenCounter

    opened = open_data(path, remarks, max_skip_share, loaded.video_processor.num_frames)
    return opened, TokenCounter(loaded, opened.num_frames)


def load_processor(name: str | None) -> "LlavaSTProcessor | None":
    """Load the processor that is named, if one is."""
    if name is None:
        return None
    from llava_st_hf import LlavaSTProcessor

    with running.naming(f"--processor {name}"):
        return LlavaSTProcessor.from_pretrained(name, trust_remote_code=False)


@app.command(cls=DataCommand)
@expand_dataclasses
def check(
    data: DataPath,
    remarks: Remarks,
    processor: ProcessorName = None,
    workers: Annotated[int | None, option("N", "processes (one a core, up to 8)")] = None,
    decode: Annotated[
        Literal["none", "header", "full"],
        option(None, "media: that they exist (none), that they open (header), all that training reads of them (full)"),
    ] = "header",
    report: Report = None,
    max_skip_share: Share = None,
    print_json: PrintJson = False,
    quiet: Quiet = False,
) -> None:
    """
    Look at every record before a training does; of a recipe, at all that would end its run.

    \b
    examples:
      llava-st data check recipes/custom_grounding_lora/sft.yaml
      llava-st data check mixture.yaml --processor LLaVA-ST-Qwen2-7B --report skipped.jsonl
      llava-st data check train.jsonl --data-folder clips --decode full --workers 8
    """
    num_workers = min(os.cpu_count() or 1, 8) if workers is None else workers
    if num_workers < 0:
        raise CommandError(f"--workers is {num_workers}: give 0, which does all in one process, or more.")
    running.check_folder("--processor", processor)
    if is_recipe(data):
        said = {**vars(remarks), "processor": processor, "report": report, "max_skip_share": max_skip_share}
        check_recipe(data, [name for name, value in said.items() if value is not None])
        return
    opened, counter = open_counted(data, remarks, max_skip_share, processor)
    from llava_st_hf.data.skips import SkipReport, check_report
    from llava_st_hf.data.tools.check import CheckSummary, check_records
    from llava_st_hf.data.tools.describe import describe_check, describe_num_frames

    if report is not None:
        check_report(report)
        report.unlink(missing_ok=True)  # what an earlier check found may be corrected by now
    summary, total = CheckSummary(), len(opened.records)
    if not total:
        raise CommandError(f"{data} has no records.")

    def print_summary() -> None:
        num_seen = summary.num_used + summary.num_skipped
        if print_json:
            running.show(json.dumps({"num_records": total, "num_checked": num_seen, **summary.to_dict()}, indent=2))
            return
        stop = [] if num_seen == total else [f"interrupted after {num_seen:,} of {total:,} records"]
        frames = describe_num_frames(summary, opened.num_frames, counter)
        parts = [*stop, *describe_check(summary, report), *frames, f"next: {advise(summary, data, report, processor)}"]
        running.show("\n\n".join(parts))

    try:
        with running.show_progress("Checking", total, quiet=quiet) as bar:
            check_records(
                opened.records,
                SkipReport(report, max_skip_share=1),
                processor=counter,
                decode=decode,
                num_workers=num_workers if num_workers > 1 else 0,
                summary=summary,
                progress=bar.update,
            )
    except KeyboardInterrupt:
        print_summary()
        raise
    print_summary()
    refuse_too_many_skips(summary, opened)


def refuse_too_many_skips(summary: "CheckSummary", opened: "OpenedRecords") -> None:
    """End a check with an error where more records cannot be used than may be left out."""
    if lost := sorted({source for source, _ in summary.skips} & opened.required_sources):
        raise CommandError(f"the required source {lost[0]!r} has records that cannot be used.")
    if summary.skip_share > opened.max_skip_share:
        from llava_st_hf.processing.media_llava_st import format_count

        raise CommandError(
            f"{summary.num_skipped} of {format_count(len(opened.records), 'record')} cannot be used, more than the "
            f"share of {opened.max_skip_share:g}."
        )


def is_recipe(path: str) -> bool:
    """Tell a recipe from a mixture by its keys."""
    if Path(path).suffix.lower() not in (".yaml", ".yml") or not Path(path).is_file():
        return False
    from llava_st_hf.utils.checked_settings import read_yaml

    content = read_yaml(path, "mixture or recipe")
    return isinstance(content, dict) and "datasets" not in content and bool(_RECIPE_KEYS & content.keys())


def check_recipe(path: str, said: Sequence[str]) -> None:
    """Do what `llava-st train --dry-run` does; what a recipe says itself cannot be said beside it."""
    if said:
        raise CommandError(f"--{said[0].replace('_', '-')} is given, but {path} is a recipe, which says that itself.")
    running.check_model_of_recipe(path)
    from llava_st_hf.training import read_recipe, run_recipe

    run_recipe(read_recipe(path), report=running.show, dry_run=True)
    running.show(f"next: llava-st train {path}")


def advise(summary: "CheckSummary", data: str, report: Path | None, processor: str | None) -> str:
    """Return what to do after a check."""
    if summary.num_skipped and report is None:
        return "list the records left out with --report skipped.jsonl, and fix them."
    if summary.num_skipped:
        return f"fix the records in {report}, or leave them out: training skips and reports them too."
    if processor is None:
        return "give --processor DIR_OR_ID, to see how long the records are."
    return f"see some of them: llava-st data show {data} 0 --output record.png"


@app.command(cls=DataCommand)
@expand_dataclasses
def show(
    data: DataPath,
    remarks: Remarks,
    record: Annotated[str, argument("RECORD", "number from 0, else id; id=7 for an id of digits")] = "0",
    output: Annotated[Path | None, option("FILE", "draw it: .png or .jpg (of a clip a sheet), .mp4")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """
    Print one record and draw the truth onto its clip or image.

    \b
    examples:
      llava-st data show train.jsonl 12 --data-folder clips --output record.png
      llava-st data show st-shapes 3 --output record.mp4
    """
    records = open_data(data, remarks).records
    from llava_st_hf.data import probe_media
    from llava_st_hf.data.skips import SkippedRecord
    from llava_st_hf.data.tools.describe import describe_record, find_record
    from llava_st_hf.data.tools.show import check_output, draw_record
    from llava_st_hf.data.turns import read_turns

    with running.show_progress("Searching", len(records), quiet=quiet) as bar:
        found = find_record(records, record, bar.update)
    if isinstance(found, SkippedRecord):
        raise CommandError(f"record {found.id!r} of {found.source!r} cannot be used ({found.reason}): {found.detail}")
    if output is not None:
        check_output(found, output, overwrite)
    turns = read_turns(found, probe_media(found, _NUM_FRAMES))
    running.show(describe_record(found, turns))
    if output is not None:
        with running.show_drawing(quiet) as advance:
            draw_record(found, turns, output, advance, overwrite)
        say(f"Wrote {output}", quiet)
    elif found.media:
        say("Draw it with --output record.png", quiet)


@app.command(cls=DataCommand)
@expand_dataclasses
def stats(
    data: DataPath,
    remarks: Remarks,
    output_dir: OutputFolder,
    max_records: Annotated[int, option("N", "read N at random")] = 20_000,
    processor: ProcessorName = None,
    overwrite: Overwrite = False,
    print_json: PrintJson = False,
    quiet: Quiet = False,
) -> None:
    """
    Plot span lengths, box sizes, boxes per tube, tokens and records.

    \b
    examples:
      llava-st data stats mixture.yaml --output-dir stats --processor LLaVA-ST-Qwen2-7B
    """
    running.check_folder("--processor", processor)
    records = open_data(data, remarks).records
    from llava_st_hf.data.tools import collect_statistics, write_statistics
    from llava_st_hf.data.tools.stats import check_folder

    check_folder(output_dir, overwrite)
    counter = load_processor(processor)
    with running.show_progress("Reading", min(len(records), max(max_records, 0)), quiet=quiet) as bar:
        statistics = collect_statistics(records, max_records, counter, progress=bar.update)
    hint = f"see `llava-st data check {data}`."
    if not statistics.counts:
        raise CommandError(f"none of {statistics.num_read} records can be used: {hint}")
    paths = write_statistics(statistics, output_dir, overwrite)
    if print_json:
        running.show(json.dumps(statistics.to_dict(), indent=2))
        return
    if statistics.num_read < statistics.num_records:
        say(f"Read {statistics.num_read:,} of {statistics.num_records:,} records, chosen at random.", quiet)
    if statistics.num_skipped:
        say(f"{statistics.num_skipped:,} records cannot be used: {hint}", quiet)
    running.show("\n".join(map(str, paths)))


@app.command(cls=DataCommand)
@expand_dataclasses
def convert(
    annotations: Annotated[str, argument("ANNOTATIONS", "a file of annotations")],
    output: Annotated[Path, argument("OUTPUT", "file to write, .jsonl")],
    remarks: Remarks,
    report: Report = None,
    max_skip_share: Annotated[float, option("X", "stop above this share left out")] = 0.05,
    quiet: Quiet = False,
) -> None:
    """
    Write annotations of any format as canonical JSONL.

    \b
    examples:
      llava-st data convert refcoco_val.json refcoco_val.jsonl --data-folder train2014
    """
    running.check_exists(annotations, "file or folder")
    from llava_st_hf.data.skips import SkipReport, check_report
    from llava_st_hf.data.tools.convert import convert_annotations
    from llava_st_hf.data.tools.opening import get_media_folder, open_annotations

    skips = SkipReport(report, max_skip_share)
    if report is not None:
        check_report(report)
    reader = open_annotations(annotations, **vars(remarks))
    folder = get_media_folder(annotations, remarks.data_folder)
    with running.show_progress("Converting", len(reader), quiet=quiet) as bar:
        # One that goes on begins somewhere in between.
        counts = convert_annotations(reader, output, skips, folder, lambda done: bar.update(done - bar.n))
    if counts.num_skipped:
        say(skips.format_table())
    from llava_st_hf.processing.media_llava_st import format_count

    running.show(f"{format_count(counts.num_written, 'record')} written to {output}")


@app.command(cls=DataCommand)
@expand_dataclasses
def publish(
    data: DataPath,
    remarks: Remarks,
    output_dir: OutputFolder,
    push_to: Annotated[str | None, option("ORG/NAME", "send it to this repository on the Hub")] = None,
    public: Annotated[bool, flag("--public", "let everybody see the repository, which is private else")] = False,
    license: Annotated[list[str] | None, option("SOURCE=SPDX", "licence of a source: clips=CC-BY-4.0")] = None,
    title: Annotated[str | None, option("TEXT", "name of the data set, for the card (that of the folder)")] = None,
    benchmark: Annotated[bool, flag("--benchmark", "let the Hub take it for a benchmark (eval.yaml)")] = False,
    max_shard_size: ShardSize = "500MB",
    max_skip_share: Share = None,
    quiet: Quiet = False,
) -> None:
    """
    Write Parquet shards with media and a card, send them to the Hub.

    \b
    examples:
      llava-st data publish mixture.yaml --output-dir published
      llava-st data publish train.jsonl --data-folder clips --output-dir published --license train=CC-BY-4.0 \
--push-to me/my-clips
    """
    if public and push_to is None:
        raise CommandError("--public is given without --push-to: nothing is sent, leave it out.")
    opened = open_data(data, remarks, max_skip_share)
    from llava_st_hf.data.skips import format_skip_table
    from llava_st_hf.data.tools.publish import find_unlicensed, publish_dataset
    from llava_st_hf.hub import CardOptions, push_folder
    from llava_st_hf.hub.push import prepare_repository
    from llava_st_hf.processing.media_llava_st import format_count

    licensed = read_licenses(license or [], opened.facts)
    facts = {**opened.facts, **licensed}
    if push_to is not None:
        refuse_unlicensed(find_unlicensed(opened.records.source_names, facts))
        prepare_repository(push_to, "dataset", public)
    try:
        published = publish_dataset(
            opened.records,
            output_dir,
            title=title,
            sources=facts,
            max_shard_size=max_shard_size,
            max_skip_share=opened.max_skip_share,
            required_sources=opened.required_sources,
            repository=push_to,
            is_benchmark=benchmark,
            quiet=quiet,
        )
    except KeyboardInterrupt:
        say("Stopped: run the same again, it goes on from here.", quiet)
        raise
    if published.skips:
        say(format_skip_table(published.skips, len(opened.records)))
    files, megabytes = format_count(len(published.shards), "Parquet file"), published.num_bytes / 1e6
    say(f"{format_count(published.num_records, 'record')} in {files}, {megabytes:,.1f} MB", quiet)
    if unused := sorted(set(licensed) - set(published.sources)):
        say(f"--license names {unused[0]!r}, of which there is no record.", quiet)
    running.show(published.path)
    unlicensed = find_unlicensed(published.sources, facts)  # now all sources are known
    if push_to is not None:
        refuse_unlicensed(unlicensed)
        message = f"Publish {format_count(published.num_records, 'record')}"
        running.show(push_folder(published.path, CardOptions(push_to), public, message))
    elif unlicensed:
        say(f"The licence of {', '.join(unlicensed)} is unknown: say it with --license SOURCE=SPDX.", quiet)


@app.command(cls=DataCommand)
def prepare(
    dataset: Annotated[Literal["st-align"], argument(None, "st-align: what LLaVA-ST was trained on")],
    to: Annotated[
        str,
        option("DIR_OR_REPO", "folder to write to, shards by source and a mixture for each stage; or ORG/NAME"),
    ],
    media: Annotated[Path, option("DIR", "folder of the media that the sources have themselves")],
    release: Annotated[str | None, option("DIR_OR_ID", "the release of the annotations (that of the Hub)")] = None,
    stage: Annotated[list[int] | None, option("N", "1, 2 or 3; several times (all)")] = None,
    sources: Annotated[list[str] | None, option("NAME", "one of the sources; several times (all)")] = None,
    license: Annotated[list[str] | None, option("SOURCE=SPDX", "licence of a source: clips=CC-BY-4.0")] = None,
    max_shard_size: ShardSize = "500MB",
    public: Annotated[bool, flag("--public", "let everybody see the repository, which is private else")] = False,
    dry_run: Annotated[
        bool, flag("--dry-run", "count what is there, by source and by task, and write nothing")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """
    Make shards that stream into the recipes of the three stages.

    Source by source: what is there is published, what is missing is named, and the next run goes on. The exit code is
    1 while something is missing. ORG/NAME is a repository where there is no folder ORG: each source is sent to it when
    its shards are whole, and they stay in the folder NAME.

    \b
    examples:
      llava-st data prepare st-align --to st_align --media media --dry-run
      llava-st data prepare st-align --to me/st-align --media media --license charades=CC-BY-NC-4.0
      llava-st data prepare st-align --to st_align --media media --stage 2 --sources charades
      llava-st train recipes/stage2_coordinate_alignment/sft.yaml --mixture st_align/stage2.yaml
    """
    from llava_st_hf.data.tools.prepare import RELEASE, Preparation, fetch_release, format_sources, format_tasks

    licenses = {source: facts.license for source, facts in read_licenses(license or [], {}).items()}
    preparation = Preparation(fetch_release(release or RELEASE), media, stage, sources, licenses)
    owner, _, name = to.partition("/")
    repository = to if REPOSITORY.fullmatch(to) and not Path(owner).exists() else None
    more = {}
    if repository is not None and not dry_run:
        refuse_unlicensed(preparation.find_unlicensed())
        more = {"repository": repository, "send": make_sender(repository, public)}
    elif public and repository is None:
        raise CommandError(f"--public is given, but {to} is a folder: nothing is sent, leave it out.")
    with running.show_progress("Looking", None, quiet=quiet) as bar:
        found = list(
            preparation.survey(bar.update)
            if dry_run
            else preparation.prepare(name if repository else to, max_shard_size, bar.update, quiet=quiet, **more)
        )
    running.show(f"{format_sources(found)}\n\n{format_tasks(found)}")
    missing = [each for each in found if each.missing is not None]
    for each in missing:
        say(f"stage {each.stage}, {each.name}: {each.missing}")
    if missing and not dry_run:
        raise CommandError(
            f"{len(missing)} of {len(found)} sources are missing: run the same again when they are there."
        )


def make_sender(repository: str, public: bool) -> Callable[[dict[str, Path | bytes], str], str]:
    """Make the repository, or look at the one that is there, and return what sends files to it in one commit."""
    from llava_st_hf.hub import CardOptions
    from llava_st_hf.hub.contents import Contents
    from llava_st_hf.hub.push import check_occupant, prepare_repository, send_contents

    present = [file.rfilename for file in prepare_repository(repository, "dataset", public).siblings]
    check_occupant(Contents("dataset", {}), repository, present)

    def send(files: dict[str, Path | bytes], message: str) -> str:
        return send_contents(Contents("dataset", files, is_whole=False), CardOptions(repository), public, message)

    return send


def read_licenses(given: Sequence[str], known: "dict[str, SourceFacts]") -> "dict[str, SourceFacts]":
    """Return the sources that licences are given for."""
    from llava_st_hf.data import SourceFacts

    facts = {}
    for text in given:
        source, separator, license = text.rpartition("=")
        if not separator or not source:
            raise CommandError(f"--license is {text!r}: give SOURCE=SPDX, for example clips=CC-BY-4.0.")
        facts[source] = SourceFacts(source, license, known[source].origin if source in known else None)
    return facts


def refuse_unlicensed(names: Sequence[str]) -> None:
    """Refuse to send what has no known licence."""
    if names:
        raise CommandError(
            f"the licence of {names[0]!r} is not known, and nothing is sent without it: give "
            f"--license {names[0]}=SPDX, or license: in the mixture."
        )
