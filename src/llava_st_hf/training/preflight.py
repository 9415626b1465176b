"""What would end a run, found before any weight is read: model, precision, disk, and the records themselves."""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from ..data.mixture import Mixture
from ..data.sample_writing import DEFAULT_NUM_FRAMES
from ..data.samples import Sample
from ..data.skips import SkippedRecord, SkipReport
from ..data.tools.check import CheckSummary, ChosenRecords, TokenCounter, check_records
from ..data.tools.describe import describe_check
from ..inference.loading import find_model_folder, find_source, make_meta_model
from ..processing import InputError, LlavaSTProcessor
from ..processing.media_llava_st import format_count
from ..utils.checked_settings import input_errors
from ..utils.sizes import check_space
from .recipe import DataArguments, LlavaSTTrainingConfig, Recipe
from .stages import StagePlan, apply_stage, format_stage_table

Records = Sequence[Sample | SkippedRecord]
_MAX_SHAPES = 8  # clips of ST-Shapes are alike: a few are looked at
_MAX_TRIED = 100  # records, of which one has to be usable before a run begins
_SHARE_COUNTS_FROM = 100  # records, as in `SkipReport`


def check_run(
    recipe: Recipe,
    plan: StagePlan,
    records: dict[str, Records],
    show: Callable[[str], None],
    checks: Sequence[Callable[[], object]] = (),
    all_records: bool = False,
) -> None:
    """
    Find what would end a run; an `InputError` says all of it on one line.

    `records` are what is trained on and held out, by the field of the recipe that names it. With `all_records` numbers
    and headers of all of them are read, else a few are tried until one is usable. `show` takes the table of the stage,
    and what was found in all records.
    """
    problems: list[InputError] = []
    counter = None

    @contextmanager
    def noting():
        try:
            yield
        except InputError as error:
            problems.append(error)

    for check in (partial(check_folder, Path(recipe.training.output_dir)), *checks):
        with noting():
            check()
    with noting():
        model = apply_stage(make_planned_model(recipe), plan)
        if all_records:
            show(format_stage_table(model, plan))
        with noting():
            check_precision(model, recipe.training)
        with noting():
            check_space(recipe.training.output_dir, count_disk_bytes(model, recipe, plan))
        counter = make_counter(recipe)
        check_num_frames(recipe.data, counter.processor)
    for name, some in records.items():
        with noting():
            if all_records:
                _check_all(name, some, counter, recipe.data.max_skip_share, show)
            else:
                _check_some(name, some, counter)
    if all_records and not problems:
        disk_bytes = count_disk_bytes(model, recipe, plan)
        show(describe_plan(recipe, len(next(iter(records.values()))), len(records) > 1, disk_bytes))
    if len(problems) == 1:
        raise problems[0]
    if problems:
        numbered = [f"({number}) {problem}" for number, problem in enumerate(problems, 1)]
        raise InputError(f"{len(problems)} things would end this run: {' '.join(numbered)}")


def describe_plan(recipe: Recipe, num_records: int, holds_out: bool, disk_bytes: int) -> str:
    """Say in one line that all is well, and what a run would do; how long it takes, only its first steps tell."""
    args = recipe.training
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    num_steps = args.max_steps if args.max_steps > 0 else math.ceil(num_records * args.num_train_epochs / batch)
    parts = [f"{format_count(num_steps, 'step')} of {format_count(batch, 'record')}"]
    if holds_out:
        every = num_steps if args.eval_strategy == "epoch" else args.eval_steps or args.logging_steps
        every = math.ceil(every * num_steps) if every < 1 else every
        parts.append(f"evaluated {format_count(int(num_steps // every), 'time')}")
    return f"All is well: {', '.join(parts)}, up to {disk_bytes / 1e6:,.0f} MB in {args.output_dir}."


def make_planned_model(recipe: Recipe) -> nn.Module:
    """Make the model of a recipe without weights; raises `InputError` where it could not be loaded."""
    name = recipe.model.model_name_or_path
    if name.startswith((".", "/", "~")) and not Path(name).exists():
        raise InputError(
            f"model_name_or_path is {name}: there is no such folder; name a checkpoint, or train the stage before "
            "first.",
            field="model_name_or_path",
        )
    with input_errors(f"model_name_or_path is {name}: {{}}"):
        return make_meta_model(name, recipe.model.model_revision, recipe.dtype, recipe.model.attn_implementation)


def make_counter(recipe: Recipe) -> TokenCounter:
    """Make what counts the tokens of records as the run will write them."""
    name, revision = find_model_folder(recipe.model.model_name_or_path), recipe.model.model_revision
    with input_errors(f"the processor of {name} cannot be loaded ({{}}): give a whole checkpoint."):
        processor = LlavaSTProcessor.from_pretrained(name, revision=revision)
    return TokenCounter(processor, recipe.data.num_frames, recipe.training.max_length, recipe.data.truncation)


def check_precision(model: nn.Module, args: LlavaSTTrainingConfig) -> None:
    """Raise `InputError` where float32 weights would meet half-precision ones without autocast, or it another kind."""
    dtypes = {str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()}
    names, half = ", ".join(sorted(dtypes)), {"bf16": "bfloat16", "fp16": "float16"}
    mixed = next((name for name in half if getattr(args, name)), None)
    if mixed is None and len(dtypes) > 1:
        raise InputError(
            f"the weights are {names}, and neither bf16 nor fp16 is on: set dtype to auto or float32, or, on a GPU, "
            "bf16 to true."
        )
    if mixed is not None and dtypes - {"float32", half[mixed]}:
        raise InputError(f"the weights are {names}, and {mixed} is on: set dtype to {half[mixed]} or float32.")


def check_num_frames(data: DataArguments, processor: LlavaSTProcessor) -> None:
    """Raise `InputError` where boxes would be for other frames than the processor samples."""
    sampled = processor.video_processor.num_frames
    if (data.mixture or data.eval_mixture) and data.num_frames is None and sampled != DEFAULT_NUM_FRAMES:
        raise InputError(
            f"num_frames is not given, so annotations in seconds have boxes for {DEFAULT_NUM_FRAMES} frames, but the "
            f"processor samples {sampled}: set num_frames, in the recipe or in the mixture."
        )


def check_folder(folder: Path) -> None:
    """Raise `InputError` where a run cannot make its folder, or write into it."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        problem = "cannot be written to" if existing.is_dir() else "is a file"
        raise InputError(f"output_dir is {folder}, but {existing} {problem}: name another.", field="output_dir")


def count_disk_bytes(model: nn.Module, recipe: Recipe, plan: StagePlan) -> int:
    """Return how many bytes the checkpoints of a run take on the disk at most."""
    args = recipe.training
    sizes = {"trained": 0, "all": 0}
    for parameter in model.parameters():
        num_bytes = parameter.numel() * parameter.element_size()
        sizes["all"] += num_bytes
        sizes["trained"] += num_bytes * parameter.requires_grad
    saved = sizes["trained" if plan.uses_peft else "all"]
    checkpoint = saved + (0 if args.save_only_model else 2 * sizes["trained"])  # Adam keeps two numbers for each
    saves = args.save_strategy != "no"
    num_bytes = saved + saves * checkpoint * ((args.save_total_limit or 1) + 1)  # the next before the oldest goes
    if find_source(recipe.model.model_name_or_path, recipe.model.model_revision).adapter is not None:
        num_bytes += sizes["all"]  # merged into its base first
    return num_bytes


def _check_all(
    name: str, records: Records, counter: TokenCounter | None, share: float | None, show: Callable[[str], None]
) -> None:
    """Read numbers and headers of all records, and show what was found."""
    chosen = ChosenRecords(records.spec) if isinstance(records, Mixture) else _take(records, _MAX_SHAPES)
    report = records.make_skip_report() if isinstance(records, Mixture) else SkipReport()
    share = report.max_skip_share if share is None else share
    summary = check_records(chosen, SkipReport(max_skip_share=1), processor=counter)
    show("\n".join([f"{name}: what is in its records", *describe_check(summary)]))
    _check_usable(name, summary)
    if lost := sorted({source for source, _ in summary.skips} & report.required_sources):
        example = next(text for (source, _), text in summary.examples.items() if source == lost[0])
        raise InputError(f"{name}: the required source {lost[0]!r} has records that cannot be used, as {example}")
    if len(chosen) >= _SHARE_COUNTS_FROM and summary.skip_share > share:
        raise InputError(
            f"{name}: {summary.num_skipped} of {len(chosen)} records cannot be used, more than max_skip_share="
            f"{share:g}: fix them, or raise it."
        )


def _check_some(name: str, records: Records, counter: TokenCounter | None) -> None:
    """Look for one usable record."""
    summary = CheckSummary()
    for record in _take(records, _MAX_TRIED):
        check_records([record], SkipReport(max_skip_share=1), processor=counter, summary=summary)
        if summary.num_used:
            return
    _check_usable(name, summary)


def _check_usable(name: str, summary: CheckSummary) -> None:
    if not summary.num_used:
        key = next(iter(summary.skips))
        raise InputError(
            f"{name}: none of {format_count(summary.num_skipped, 'record')} can be used; the first is left out "
            f"({key[1]}): {summary.examples[key]}"
        )


def _take(records: Records, count: int) -> list[Sample | SkippedRecord]:
    """Return so many records, evenly from all of one epoch."""
    length = records.epoch_length if isinstance(records, Mixture) else len(records)
    places = np.linspace(0, length - 1, min(count, length)).astype(int)
    return [records[int(place)] for place in places]
