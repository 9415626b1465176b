"""The trainer: TRL's, with the model's own loss, a rate for each module, metrics by task, and whole checkpoints."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from huggingface_hub import HfApi
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import (
    PREFIX_CHECKPOINT_DIR,
    HubStrategy,
    TrainOutput,
    get_last_checkpoint,
    rotate_checkpoints,
)
from trl import SFTTrainer

from ..data.collator import LlavaSTDataCollator
from ..data.samples import Sample
from ..data.skips import SkippedRecord
from ..hub.contents import CardOptions, write_card
from ..hub.push import prepare_repository, push_folder
from ..modeling import LlavaSTForConditionalGeneration
from ..processing import InputError
from ..utils.atomic_files import move_whole
from .facts import collect_facts, name_base
from .metrics import TrainingMetrics
from .recipe import LlavaSTTrainingConfig
from .stages import StagePlan, find_module

logger = logging.getLogger(__name__)

# Of what is logged; a number of 0 skipped records is not shown either.
_NOT_SHOWN = ("epoch", "total_flos", "runtime", "steps_per_second", "samples_per_second", "clips_per_second")
_UNFINISHED = "unfinished"  # folder of the checkpoint that is being written
# Evaluates the model and returns metrics by name; the second argument is the step.
Evaluate = Callable[[nn.Module, int], dict[str, float]]


class _Evened(TorchDataset):
    """Records followed by as much filler as makes each process's last batch whole: none is trained on twice."""

    def __init__(self, records: Sequence[Sample | SkippedRecord], multiple: int):
        self.records = records
        self._length = -(-len(records) // multiple) * multiple

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample | SkippedRecord | None:
        return self.records[index] if index < len(self.records) else None


class _WithoutFiller:
    """Hands a collator the records of a batch only, and says how many there were; pickled to the workers."""

    def __init__(self, collator: LlavaSTDataCollator):
        self.collator = collator

    def __call__(self, examples: Sequence[Sample | SkippedRecord | None]) -> dict[str, torch.Tensor]:
        records = [example for example in examples if example is not None]
        return {**self.collator(records), "num_records": torch.tensor(len(records))}


class _LogLines(TrainerCallback):
    """Writes what is logged on standard error, a line each; all of it is in `trainer_state.json`."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a line."""
        if state.is_local_process_zero and logs:
            shown = {
                name: value
                for name, value in logs.items()
                if not name.endswith(_NOT_SHOWN) and value is not None and (value or "skipped" not in name)
            }
            numbers = ", ".join(
                f"{name} {value:.4g}" if isinstance(value, (int, float)) else f"{name} {value}"
                for name, value in shown.items()
            )
            tqdm.write(f"step {state.global_step} of {state.max_steps}: {numbers}", file=sys.stderr)


class _Bar(ProgressCallback):
    """The bar of a run, without the dictionaries that are logged."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Leave it to `_LogLines`."""


class LlavaSTTrainer(SFTTrainer):
    """
    TRL's `SFTTrainer` for LLaVA-ST.

    - The loss is the model's own. TRL's fused head scores text tokens only: with it a coordinate has no logit, and
      the loss is wrong without an error.
    - Records come in the order of the data set, which is that of a `Mixture`. A resumed run starts at its place and
      reads nothing before it.
    - Each module has the learning rate of the stage.
    - Logs hold the loss by task and by kind of token, coordinate errors in bins, throughput, and peak memory.
    - A checkpoint appears under its name when all of it is written.

    Args:
        model (`LlavaSTForConditionalGeneration` or `peft.PeftModel`): What `apply_stage` returned.
        args (`LlavaSTTrainingConfig`): Settings.
        plan (`StagePlan`): The stage, for the learning rates.
        data_collator (`LlavaSTDataCollator`): Makes batches; with `return_task_ids` the loss is logged by task.
        train_dataset (`Sequence`): Records by number, such as a `Mixture`.
        eval_dataset (`Sequence`, *optional*): Records held out.
        processing_class (`LlavaSTProcessor`, *optional*): Saved in each checkpoint; that of the collator by default.
        eval_data_collator (`LlavaSTDataCollator`, *optional*):
            Makes the batches of what is held out, with a report of skips of its own; by default `data_collator`.
        evaluate_grounding (`Callable`, *optional*):
            Called with the model and the step at each evaluation; its metrics are logged as `eval_...`, and one of
            them may be `metric_for_best_model`.
        callbacks (`list[TrainerCallback]`, *optional*): Further callbacks.

    Example:

    ```python
    >>> trainer = LlavaSTTrainer(model, args, STAGES["coordinate_alignment"], collator, mixture)
    >>> trainer.train(resume_from_checkpoint=find_last_checkpoint(args.output_dir))
    ```
    """

    _unfinished_dir: str | None = None
    is_resumed: bool = False
    _start_seconds: float | None = None
    _end_seconds: float | None = None

    def __init__(
        self,
        model: LlavaSTForConditionalGeneration,
        args: LlavaSTTrainingConfig,
        plan: StagePlan,
        data_collator: LlavaSTDataCollator,
        train_dataset: Sequence[Sample | SkippedRecord],
        eval_dataset: Sequence[Sample | SkippedRecord] | None = None,
        processing_class: Any | None = None,
        eval_data_collator: LlavaSTDataCollator | None = None,
        evaluate_grounding: Evaluate | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ):
        # TRL takes data sets of `datasets` only and reads the first row: it is shown one, never the records.
        stand_in = Dataset.from_dict({"record": [""]})
        super().__init__(
            model=model,
            args=args,
            data_collator=_WithoutFiller(data_collator),
            train_dataset=stand_in,
            eval_dataset=None if eval_dataset is None else stand_in,
            processing_class=processing_class or data_collator.processor,
            callbacks=callbacks,
        )
        for dictionaries in (PrinterCallback, ProgressCallback):
            self.remove_callback(dictionaries)
        if not self.args.disable_tqdm and sys.stderr.isatty():
            self.add_callback(_Bar)
        self.add_callback(_LogLines)
        self.eval_data_collator = _WithoutFiller(eval_data_collator or data_collator)
        self.plan = plan
        self.base = name_base(model)
        self.evaluate_grounding = evaluate_grounding
        world_size = self.args.world_size
        self.train_dataset = _Evened(train_dataset, self.args.train_batch_size * world_size)
        if eval_dataset is not None:
            self.eval_dataset = _Evened(eval_dataset, self.args.eval_batch_size * world_size)
        vocabulary = data_collator.processor.coordinates
        self._training_metrics = {name: TrainingMetrics(vocabulary) for name in ("train", "eval")}
        keep_in_step(model)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Load what is held out with its own collator; see `Trainer.get_eval_dataloader`."""
        collator, self.data_collator = self.data_collator, self.eval_data_collator
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = collator

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Return the loss of the model itself, and take note of its parts; see `Trainer.compute_loss`."""
        asked = {name: value for name, value in inputs.items() if name not in ("task_ids", "num_records")}
        asked |= {"use_cache": False, "output_token_losses": True}
        loss, outputs = Trainer.compute_loss(
            self, model, asked, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        metrics = self._training_metrics["train" if self.model.training else "eval"]
        metrics.add(inputs, outputs.token_losses, outputs.coordinate_errors)
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer with a group for each learning rate of the stage."""
        model = self.model if model is None else model
        if self.optimizer is not None:
            return self.optimizer
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                rate = self.plan.get_row(find_module(name)).learning_rate
                decay = self.args.weight_decay if name in decayed else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
        optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        self.optimizer = optimizer_class(
            [
                {"params": parameters, "lr": rate, "weight_decay": decay}
                # The highest rate first: it is the one that is logged.
                for (rate, decay), parameters in sorted(groups.items(), key=lambda item: item[0], reverse=True)
            ],
            **options,
        )
        return self.optimizer

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """
        Evaluate the loss on the records held out, and the grounding where there is a function for it.

        Raises:
            `InputError`: If none of the records could be used.
        """
        start_seconds = time.monotonic()
        self._training_metrics["eval"] = TrainingMetrics(self._training_metrics["eval"].vocabulary)
        metrics = super().evaluate(*args, **kwargs)
        self._training_metrics["train"].leave_out(time.monotonic() - start_seconds)
        return metrics

    def train(self, *args, **kwargs) -> TrainOutput:
        """
        Train; see `Trainer.train`.

        Raises:
            `InputError`: If none of the records could be used.
        """
        resumed_from = kwargs.get("resume_from_checkpoint", args[0] if args else None)
        self.is_resumed, self._start_seconds, self._end_seconds = bool(resumed_from), time.monotonic(), None
        if isinstance(resumed_from, str):  # a share of the steps is compared with the number that it was
            state = TrainerState.load_from_json(os.path.join(resumed_from, TRAINER_STATE_NAME))
            state.compute_steps(self.args, state.max_steps)
            for name in ("logging_steps", "eval_steps", "save_steps"):
                setattr(self.args, name, getattr(state, name))
        result = super().train(*args, **kwargs)
        self._end_seconds = time.monotonic()
        self._check_used()
        return result

    def _check_used(self) -> None:
        """Raise where not one record was learnt from, before a model is saved that learnt nothing."""
        metrics = self._training_metrics["train"]
        num_new = metrics.count_samples(lambda sums: self.accelerator.reduce(sums, "sum"))
        if not num_new and self.state.global_step and not any("loss_text" in log for log in self.state.log_history):
            where = self.data_collator.collator.skip_report.path
            raise InputError(
                f"none of the records could be used{'' if where is None else f', see {where}'}: fix them, "
                "`llava-st data check` looks at all of them."
            )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the metrics of this project; see `Trainer.log`."""
        prefix = "eval_" if any(name.startswith("eval_") for name in logs) else ""
        metrics = self._training_metrics["eval" if prefix else "train"].report(
            lambda sums: self.accelerator.reduce(sums, "sum"), with_speed=not prefix
        )
        if prefix and "loss" not in metrics:
            where = self.eval_data_collator.collator.skip_report.path
            raise InputError(
                f"eval_mixture: none of its records could be used{'' if where is None else f', see {where}'}: fix it."
            )
        if prefix and self.evaluate_grounding is not None:
            with self.accelerator.autocast():  # that of the trained model, which `generate` goes past
                metrics |= self.evaluate_grounding(self.accelerator.unwrap_model(self.model), self.state.global_step)
        if not prefix and metrics:
            metrics.pop("loss", None)  # that of the Trainer, the mean over steps, is in the logs already
            if (device := self.args.device).type == "cuda":
                metrics["peak_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        logs.update({prefix + name: value for name, value in metrics.items()})
        super().log(logs, start_time)

    def _get_output_dir(self, trial: Any) -> str:
        return self._unfinished_dir or super()._get_output_dir(trial)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        # A pickle, with the paths of this machine, that nothing reads: settings are in run.json.
        Path(output_dir or self.args.output_dir, TRAINING_ARGS_NAME).unlink(missing_ok=True)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint to a folder beside the others, move it there when it is whole, then delete old ones."""
        if self.state.global_step >= self.state.max_steps:
            self._check_used()
        run = Path(self.args.output_dir)
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        whole, unfinished = run / name, run / _UNFINISHED / name
        if self.args.should_save:
            shutil.rmtree(run / _UNFINISHED, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._unfinished_dir = str(run / _UNFINISHED)
        try:
            Trainer._save_checkpoint(self, model, trial)  # TRL's own only adds its card, and needs trackio for it
        finally:
            self._unfinished_dir = None
        if self.state.best_model_checkpoint == str(unfinished):
            self.state.best_model_checkpoint = str(whole)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(unfinished / TRAINER_STATE_NAME))
            self.describe(unfinished, self.state.global_step)
            move_whole(unfinished, whole)
            shutil.rmtree(run / _UNFINISHED)
            rotate_checkpoints(
                output_dir=str(run),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=False,  # by number: moving a folder may change its time
            )
        if self.args.push_to_hub and self.args.hub_strategy != HubStrategy.END and self.is_world_process_zero():
            try:
                with_state = self.args.hub_strategy == HubStrategy.CHECKPOINT
                self.push_saved(whole, f"Checkpoint of step {self.state.global_step}", with_state)
            except InputError as error:  # the network may be back when the next one is saved
                logger.warning("%s was not pushed: %s", name, error)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Leave it to `_save_checkpoint`: the folder is moved first."""

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository, or look at the one that is there; see `Trainer.init_hf_repo`."""
        args, private = self.args, self.args.hub_private_repo if private is None else private
        if args.hub_model_id is None:
            raise InputError("hub_model_id is not given: name the repository, ORG/NAME.", field="hub_model_id")
        if self.is_world_process_zero():
            api = HfApi(token=token or args.hub_token)
            prepare_repository(args.hub_model_id, "model", private is False, api)
        self.hub_model_id = args.hub_model_id

    def push_saved(self, folder: Path, message: str, with_state: bool = False, **card: Any) -> str:
        """Send a folder with a model or adapter of this run to the Hub; see `push_folder`."""
        card = {"base_model": self.args.hub_base_model, "license": self.args.hub_license} | card
        options = CardOptions(self.hub_model_id, **card)
        api = HfApi(token=self.args.hub_token)
        return push_folder(folder, options, self.args.hub_private_repo is False, message, api, with_state)

    @property
    def train_seconds(self) -> float:
        """Seconds that `train` took, or has taken so far; 0 before."""
        end_seconds = self._end_seconds or time.monotonic()
        return 0.0 if self._start_seconds is None else end_seconds - self._start_seconds

    def push_to_hub(self, commit_message: str | None = "End of training", **kwargs) -> str | None:
        """
        Send the model or adapter that was trained, with processor, code and card, as `llava-st push` does.

        Args:
            commit_message (`str`, *optional*): Message of the commit.
            kwargs (`dict`, *optional*): `license` and `base_model` for the card, see `CardOptions`.

        Returns:
            `str` or `None`: Address of the commit; `None` in all processes but the first.

        Raises:
            `InputError`: If the repository holds something else, or the Hub refuses.
        """
        if self.hub_model_id is None:
            self.init_hf_repo()
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card()
        return self.push_saved(Path(self.args.output_dir), commit_message, **kwargs)

    def create_model_card(self, *args, **kwargs) -> None:
        """Write the card of this run into its folder, whatever else is said; see `Trainer.create_model_card`."""
        if self.is_world_process_zero():
            self.describe(Path(self.args.output_dir))

    def describe(self, folder: Path, step: int | None = None) -> None:
        """Write what this run knows of itself, and the card of that, beside a model or adapter that was saved."""
        facts = collect_facts(self, step)
        facts.save(folder)
        run = Path(self.args.output_dir).resolve()
        write_card(folder, run.name, facts)
        if step is None:  # its own `push_to_hub` finds the card there
            self.accelerator.unwrap_model(self.model).name_or_path = str(run)


def keep_in_step(model: LlavaSTForConditionalGeneration | PeftModel) -> None:
    """
    Let every trained weight of what encodes media have a gradient, 0 where a batch has no such medium.

    Processes that share the weights of a model exchange the gradients of those that have one. With a clip in the batch
    of one process and none in that of another they would disagree about which these are, and hang or fail. It is done
    in a single process too, where the optimizer would else leave these weights out of such a step: the number of
    processes does not change a run.

    Args:
        model (`LlavaSTForConditionalGeneration` or `peft.PeftModel`): The model; its forward pass is hooked.
    """
    base = (model.get_base_model() if isinstance(model, PeftModel) else model).model
    encoders = (base.vision_tower, base.multi_modal_projector, base.packer)

    def add_zero(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        # Looked up at each call: splitting a model replaces its weights.
        trained = [weight for part in encoders for weight in part.parameters() if weight.requires_grad]
        if trained and torch.is_grad_enabled():
            embeds = kwargs["inputs_embeds"]
            kwargs["inputs_embeds"] = embeds + 0 * sum(weight.sum() for weight in trained).to(embeds)
        return args, kwargs

    base.language_model.register_forward_pre_hook(add_zero, with_kwargs=True)


def find_last_checkpoint(output_dir: str | os.PathLike) -> str | None:
    """Return the newest whole checkpoint in the folder of a run, `None` where there is none."""
    return get_last_checkpoint(output_dir) if os.path.isdir(output_dir) else None
