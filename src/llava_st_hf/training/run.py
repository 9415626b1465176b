"""One run, from a recipe to a checkpoint that ships; read it from top to bottom."""

import hashlib
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerState, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput

from ..data.collator import LlavaSTDataCollator
from ..data.mixture import Mixture
from ..data.mixture_spec import MixtureSpec
from ..data.samples import Sample
from ..data.shapes import ShapesDataset
from ..data.skips import SkippedRecord, SkipReport, count_notes, describe_notes, read_skip_report
from ..evaluation.benchmarks.base import Benchmark
from ..evaluation.benchmarks.held_out_records import HeldOutRecords
from ..evaluation.benchmarks.st_shapes import StShapes
from ..evaluation.protocols import PROTOCOLS
from ..evaluation.runner import Processes, evaluate
from ..inference.loading import find_model_folder, load_model, prepare_base
from ..processing import InputError, LlavaSTProcessor
from ..processing.media_llava_st import format_count
from ..utils.atomic_files import move_whole
from ..utils.folder_locks import locking_folder
from ..utils.public_names import get_public_name
from ..utils.run_manifest import RunManifest
from ..utils.tables import format_table
from .preflight import check_run, make_counter
from .pushing import check_push, fetch_pushed_checkpoint
from .recipe import LOSSES, DataArguments, LlavaSTTrainingConfig, Recipe
from .stages import StagePlan, apply_stage, format_stage_table, get_media_token_ids
from .trainer import LlavaSTTrainer, find_last_checkpoint

logger = logging.getLogger(__name__)

Records = Sequence[Sample | SkippedRecord]
_SKIPPED = "skipped.jsonl"
_SKIPPED_HELD_OUT = "skipped_held_out.jsonl"
_SETTINGS = "run.json"
_GROUNDING = "grounding"
_STAGING = "unfinished_model"
# What decides which records come when, and which weights there are: a run can only be resumed with the same.
_DECISIVE = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "dataloader_num_workers",
    "world_size",
    "seed",
    "max_steps",
    "num_train_epochs",
    "max_length",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
)


def run_recipe(
    recipe: Recipe, report: Callable[[str], None] = logger.info, dry_run: bool = False
) -> TrainOutput | None:
    """
    Train as a recipe says, and save the model or adapter with its processor in `output_dir`.

    Args:
        recipe (`Recipe`): What to do.
        report (`Callable[[str], None]`, *optional*): Shows a text of some lines; logs it by default.
        dry_run (`bool`, *optional*, defaults to `False`):
            Whether to stop before any weight is read, when all that would end the run has been looked at.

    Returns:
        `TrainOutput` or `None`: Steps, loss and speed; `None` after a dry run, or of a run that was done before.

    Raises:
        `InputError`: For a recipe that does not fit its model, its data or its machine.
        `TooManySkipsError`: If more records than allowed cannot be used.
    """
    args = recipe.training
    is_alone = dry_run or args.process_index
    with nullcontext() if is_alone else locking_folder(args.output_dir, "trains a model"):
        return _run_recipe(recipe, report, dry_run)


def _run_recipe(recipe: Recipe, report: Callable[[str], None], dry_run: bool) -> TrainOutput | None:
    args, plan = recipe.training, recipe.plan
    show = report if args.process_index == 0 else logger.debug
    args.learning_rate = plan.learning_rate

    # 1. What is trained on.
    settle_num_frames(recipe)
    checks = [partial(check_settings, recipe), partial(check_push, recipe, plan)]
    try:
        train_records, eval_records = open_records(recipe.data, args)
        show(describe_records(train_records, eval_records))
        benchmark = open_benchmark(recipe.data, args, eval_records)
        check_best_metric(args, benchmark)
    except InputError as error:
        check_run(recipe, plan, {}, show, [partial(_raise, error), *checks])  # with what else would end it
    if benchmark is not None:
        show(describe_benchmark(benchmark))

    # 2. What would end the run.
    records = name_records(recipe.data, train_records, eval_records)
    check_run(recipe, plan, records, show, checks, all_records=dry_run)
    if dry_run:
        return None
    fetch_pushed_checkpoint(args)
    checkpoint = choose_checkpoint(args)
    if checkpoint is None and str(args.resume_from_checkpoint).lower() == "true":
        show(f"{args.output_dir} has no checkpoint yet: the run begins anew.")
    if checkpoint is not None and not args.push_to_hub and is_done(checkpoint, args.output_dir):
        show(f"all steps of the run in {args.output_dir} are done: nothing is left to go on with.")
        return None
    prepare_folder(recipe, resumes=checkpoint is not None)

    # 3. What is trained.
    set_seed(args.seed)
    model, processor = load_trained(recipe, plan)
    show(format_stage_table(model, plan))

    # 4. How it is trained.
    folder = Path(args.output_dir)
    report = make_skip_report(train_records, folder / _SKIPPED, recipe.data.max_skip_share)
    collator = make_collator(recipe, processor, report)
    trainer = LlavaSTTrainer(
        model,
        args,
        plan,
        collator,
        train_records,
        eval_records,
        eval_data_collator=replace(collator, skip_report=make_skip_report(eval_records, folder / _SKIPPED_HELD_OUT)),
        evaluate_grounding=make_grounding_evaluation(recipe, processor, benchmark),
    )
    with saying_what_is_kept(folder, show):
        result = trainer.train(resume_from_checkpoint=checkpoint)

    # 5. What ships.
    trainer.save_state()
    save_whole(trainer, folder)
    push_whole(trainer, folder, show)
    show(describe_skips(folder / _SKIPPED))
    return result


def _raise(error: InputError) -> None:
    raise error


def name_records(data: DataArguments, train_records: Records, eval_records: Records | None) -> dict[str, Records]:
    """Return what is trained on and held out by the keys of the recipe that name it."""
    named = {"mixture" if data.mixture else "st_shapes": train_records}
    if eval_records is not None:
        named["eval_mixture" if data.eval_mixture else "eval_st_shapes"] = eval_records
    return named


def settle_num_frames(recipe: Recipe) -> None:
    """Let annotations in seconds have boxes for the frames that the processor samples, where the recipe says none."""
    paths = [path for path in (recipe.data.mixture, recipe.data.eval_mixture) if path is not None]
    if recipe.data.num_frames is None and recipe.data.mixture is not None:
        with suppress(InputError):  # a model or a mixture that cannot be loaded is reported with all else
            if any(MixtureSpec.from_yaml(path).num_frames is not None for path in paths):
                return
            recipe.data.num_frames = make_counter(recipe).processor.video_processor.num_frames


def open_records(data: DataArguments, args: LlavaSTTrainingConfig) -> tuple[Records, Records | None]:
    """Open what is trained on, and what is held out; a mixture holds all of its epochs, which then count as one."""
    num_readers = args.world_size * max(args.dataloader_num_workers, 1)
    mixture, eval_mixture = read_mixtures(data)
    if mixture is not None:
        num_epochs = max(round(args.num_train_epochs), 1)
        records = Mixture(mixture, num_epochs, args.train_batch_size, num_readers)
        args.num_train_epochs = 1
    else:
        records = make_shapes("st_shapes", data.st_shapes)
    held_out = None
    if eval_mixture is not None:
        try:
            held_out = Mixture(eval_mixture)
        except InputError as error:
            raise InputError(f"eval_mixture is {data.eval_mixture}: {error}") from error
        shared = held_out.count_shared(records) if isinstance(records, Mixture) else {}
        for place, count in shared.items():
            raise InputError(
                f"eval_mixture is {data.eval_mixture}, but {count} of its records of {place} are trained on, too: "
                "choose others, such as end:10 where first:190 of 200 are trained on."
            )
    elif data.eval_st_shapes is not None:
        held_out = make_shapes("eval_st_shapes", data.eval_st_shapes)
    if eval_mixture is not None and args.eval_strategy == "no":
        raise InputError(
            f"eval_mixture is {data.eval_mixture}, but eval_strategy is 'no', and nothing is evaluated: set it to "
            "steps."
        )
    for name in ("eval_strategy", "save_strategy"):
        if mixture is not None and num_epochs > 1 and getattr(args, name) == "epoch":
            raise InputError(
                f"{name} is 'epoch', but the order of a mixture holds all {num_epochs} epochs as one: set it to steps."
            )
    if held_out is None and args.eval_strategy != "no":
        raise InputError(
            f"eval_strategy is {str(args.eval_strategy.value)!r}, but nothing is held out: give eval_mixture or "
            "eval_st_shapes."
        )
    return records, held_out


def read_mixtures(data: DataArguments) -> list[MixtureSpec | None]:
    """
    Read what is trained on and what is held out; annotations in seconds get boxes for the frames that are sampled.

    Raises:
        `InputError`: If the mixtures and the recipe say otherwise of the number of frames.
    """
    paths = (data.mixture, data.eval_mixture)
    specs = []
    for name, path in zip(("mixture", "eval_mixture"), paths, strict=True):
        try:
            specs.append(None if path is None else MixtureSpec.from_yaml(path))
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    said_in = "the recipe"
    for path, spec in zip(paths, specs, strict=True):
        if spec is None or spec.num_frames is None:
            continue
        if data.num_frames is None:
            data.num_frames, said_in = spec.num_frames, path
        if data.num_frames != spec.num_frames:
            raise InputError(
                f"num_frames is {data.num_frames} in {said_in}, but {spec.num_frames} in {path}: let all say the same."
            )
    return [None if spec is None else replace(spec, num_frames=data.num_frames) for spec in specs]


def load_trained(recipe: Recipe, plan: StagePlan) -> tuple[nn.Module, LlavaSTProcessor]:
    """Load the model as its stage trains it, and its processor."""
    args, source, revision = recipe.training, recipe.model, recipe.model.model_revision
    with args.main_process_first(desc="merge the adapter of the stage before"):
        base = prepare_base(source.model_name_or_path, args.output_dir, args.process_index == 0, revision)
    processor = LlavaSTProcessor.from_pretrained(base, revision=revision, trust_remote_code=False)
    model = load_model(base, recipe.dtype, source.attn_implementation, revision)
    return apply_stage(model, plan, get_media_token_ids(processor)), processor


def make_collator(recipe: Recipe, processor: LlavaSTProcessor, report: SkipReport) -> LlavaSTDataCollator:
    """Make what turns records into batches, as the recipe has it."""
    return LlavaSTDataCollator(
        processor,
        report,
        max_length=recipe.training.max_length,
        truncation=recipe.data.truncation,
        num_frames=recipe.data.num_frames,
        return_task_ids=True,
    )


def make_shapes(name: str, settings: dict[str, Any]) -> ShapesDataset:
    """Make the data set of a block of the recipe; its name is for messages."""
    try:
        return ShapesDataset(**settings)
    except (InputError, TypeError) as error:
        raise InputError(f"{name}: {str(error).removeprefix('ShapesDataset.__init__() ')}") from error


def describe_records(train_records: Records, eval_records: Records | None) -> str:
    """Return the counts of what is trained on and held out."""
    lines = []
    for name, records in (("train", train_records), ("held out", eval_records)):
        if isinstance(records, Mixture):
            passes = f" in {records.num_epochs} epochs" if records.num_epochs > 1 else ""
            lines += [f"{name}: {format_count(len(records), 'record')}{passes}", records.format_table()]
        elif isinstance(records, ShapesDataset):
            weights = ", ".join(f"{task} {weight:g}" for task, weight in records.task_weights.items())
            lines.append(
                f"{name}: {format_count(len(records), 'sample')} of ST-Shapes, seed {records.seed}: {weights}"
            )
        elif records is not None:
            lines.append(f"{name}: {format_count(len(records), 'record')}")
    return "\n".join(lines)


def choose_checkpoint(args: LlavaSTTrainingConfig) -> str | None:
    """
    Return the checkpoint to go on from.

    Raises:
        `InputError`: If the folder holds a run that nobody asked to go on with, or the checkpoint does not exist.
    """
    asked, last = args.resume_from_checkpoint, find_last_checkpoint(args.output_dir)
    if asked is None or str(asked).lower() == "false":
        if last is not None:
            raise InputError(
                f"output_dir is {args.output_dir!r}, which holds {Path(last).name} of a run: give "
                "--resume_from_checkpoint true to go on with it, or another output_dir."
            )
        return None
    if str(asked).lower() == "true":
        return last
    if not os.path.isdir(asked):
        raise InputError(f"resume_from_checkpoint is {asked!r}, which is no folder: give a checkpoint, or true.")
    return str(asked)


def is_done(checkpoint: str, output_dir: str) -> bool:
    """Tell whether a checkpoint is that of the last step, and the model or adapter was saved after it."""
    state = TrainerState.load_from_json(os.path.join(checkpoint, TRAINER_STATE_NAME))
    return state.global_step >= state.max_steps and find_model_folder(output_dir) == output_dir


def describe_settings(recipe: Recipe) -> RunManifest:
    """Return the manifest of a run: what decides the weights that come out of it, kept beside the checkpoints."""
    settings = {name: getattr(recipe.training, name) for name in _DECISIVE} | vars(recipe.model) | vars(recipe.data)
    settings["model_name_or_path"] = get_public_name(recipe.model.model_name_or_path)
    for name in ("mixture", "eval_mixture"):
        if (path := settings[name]) is not None:  # by its content, for its folder is nobody else's
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
            settings |= {name: get_public_name(path), f"{name}_digest": digest}
    return RunManifest(Path(recipe.training.output_dir) / _SETTINGS, settings)


def check_settings(recipe: Recipe) -> None:
    """Raise `InputError` for a folder with another run, or one to go on with that began with other settings."""
    if choose_checkpoint(recipe.training) is not None:
        describe_settings(recipe).load()


def prepare_folder(recipe: Recipe, resumes: bool) -> None:
    """Write the manifest of a run; what one that failed before its first checkpoint left is removed."""
    manifest = describe_settings(recipe)
    if recipe.training.process_index > 0 or (resumes and manifest.load()):
        return
    if manifest.path.exists():
        folder = manifest.path.parent
        for name in (_SKIPPED, _SKIPPED_HELD_OUT):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / _GROUNDING, ignore_errors=True)  # answers of another model
    manifest.save()


@contextmanager
def saying_what_is_kept(folder: Path, show: Callable[[str], None]) -> Iterator[None]:
    """Say how to go on with a run that is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if (last := find_last_checkpoint(folder)) is not None:
            show(f"{last} is kept: --resume_from_checkpoint true goes on with it.")
        raise


def save_whole(trainer: LlavaSTTrainer, folder: Path) -> None:
    """Save model or adapter, processor and card, first beside; the config, which makes a model of it, comes last."""
    staging = folder / _STAGING
    if trainer.args.should_save:
        shutil.rmtree(staging, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(staging), _internal_call=True)  # else the Hub would get the folder as it is now
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        trainer.describe(staging)
        for path in sorted(staging.iterdir(), key=lambda path: (path.name.endswith("config.json"), path.name)):
            move_whole(path, folder / path.name)
        staging.rmdir()


def push_whole(trainer: LlavaSTTrainer, folder: Path, show: Callable[[str], None]) -> None:
    """Send what was saved to the Hub, where the recipe says so."""
    if trainer.args.push_to_hub and trainer.args.process_index == 0:
        show(f"pushed: {trainer.push_saved(folder, 'End of training')}")


def make_skip_report(records: Records | None, path: Path, max_skip_share: float | None = None) -> SkipReport:
    """Make the report of records that cannot be used, as the recipe or else the mixture has it."""
    report = records.make_skip_report(path) if isinstance(records, Mixture) else SkipReport(path)
    return report if max_skip_share is None else SkipReport(path, max_skip_share, report.required_sources)


def describe_skips(path: Path) -> str:
    """Return what was skipped in all processes and workers, by source and reason."""
    skipped, notes = read_skip_report(path), describe_notes(count_notes(path))
    if not skipped:
        return "\n".join(["no record was skipped", *notes])
    counts = Counter((note.source, note.reason) for note in skipped)
    rows = [(source, reason, count) for (source, reason), count in sorted(counts.items())]
    table = format_table(("source", "reason", "records"), rows)
    return "\n".join([table, f"{format_count(len(skipped), 'record')} skipped; see {path}", *notes])


def open_benchmark(data: DataArguments, args: LlavaSTTrainingConfig, eval_records: Records | None) -> Benchmark | None:
    """
    Open what is answered and scored at each evaluation; `None` where nothing is, or another process does it.

    Raises:
        `InputError`: For a run that could not do it.
    """
    if data.grounding_clips == 0:
        return None
    if data.grounding_clips < 0:
        raise InputError(f"grounding_clips is {data.grounding_clips}: give how many for each task, or 0 for none.")
    if args.eval_strategy == "no":
        raise InputError(
            f"grounding_clips is {data.grounding_clips}, but eval_strategy is 'no', so nothing would be answered: set "
            "it to steps."
        )
    if args.fsdp or args.deepspeed:
        raise InputError(
            f"grounding_clips is {data.grounding_clips}, but a model that is split over processes cannot answer "
            "during training: set it to 0 and use `llava-st evaluate` on the checkpoints."
        )
    if args.process_index > 0:
        return None
    if isinstance(eval_records, Mixture):
        try:
            return HeldOutRecords(eval_records, data.grounding_clips)
        except InputError as error:
            raise InputError(f"eval_mixture is {data.eval_mixture}: {error} Or set grounding_clips to 0.") from error
    # Clips of its own, of one question each.
    shapes = data.eval_st_shapes or data.st_shapes or {}
    settings = {name: shapes[name] for name in ("num_frames", "size", "difficulty") if name in shapes}
    tasks = [task for task in shapes.get("task_weights", ()) if task in StShapes.scored_tasks]
    return StShapes(data.grounding_clips, tasks or None, **settings)


def describe_benchmark(benchmark: Benchmark) -> str:
    """Return how many clips of each task are answered at each evaluation."""
    counts = Counter(benchmark.get_task(index) for index in range(len(benchmark)))
    return f"answered at each evaluation: {', '.join(f'{count} {task}' for task, count in counts.items())}"


def check_best_metric(args: LlavaSTTrainingConfig, benchmark: Benchmark | None) -> None:
    """Raise `InputError` where the best checkpoint is to be told by a metric that no evaluation has."""
    name = (args.metric_for_best_model or "loss").removeprefix("eval_")
    if args.process_index > 0 or name.startswith(LOSSES):
        return
    tasks = {benchmark.get_task(index) for index in range(len(benchmark))} if benchmark is not None else set()
    known = [f"{task}_{metric}" for task in sorted(tasks) for metric in PROTOCOLS["default"].get_headline(task)]
    if name not in known:
        choices = ", ".join(["loss", *known])
        more = "" if known else " (with grounding_clips there are others)"
        raise InputError(f"metric_for_best_model is {name!r}, which no evaluation has: choose {choices}{more}.")


def make_grounding_evaluation(
    recipe: Recipe, processor: LlavaSTProcessor, benchmark: Benchmark | None
) -> Callable[[nn.Module, int], dict[str, float]] | None:
    """Return what answers and scores a benchmark at each evaluation; `None` where none is asked for."""
    data, args = recipe.data, recipe.training
    if not data.grounding_clips:
        return None

    def evaluate_grounding(model: nn.Module, step: int) -> dict[str, float]:
        metrics = [None]
        if benchmark is not None:
            metrics = [
                evaluate(
                    model,
                    processor,
                    benchmark,
                    Path(args.output_dir) / _GROUNDING / f"step-{step}",
                    model_name=f"{args.output_dir} at step {step}",
                    batch_size=args.per_device_eval_batch_size,
                    num_frames=data.num_frames,
                    quiet=True,
                    processes=Processes(),
                )
            ]
        if args.world_size > 1:
            torch.distributed.broadcast_object_list(metrics)
        return {
            f"{task}_{name}": found["metrics"][name]
            for task, found in metrics[0]["tasks"].items()
            for name in found["headline"]
        }

    return evaluate_grounding
