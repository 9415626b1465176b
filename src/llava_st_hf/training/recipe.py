"""A recipe is one YAML file and one run: what model, which data, how to train; the command line overrides it.

Its keys are the fields of `ModelArguments`, `DataArguments` and `LlavaSTTrainingConfig` (which has all of TRL's
`SFTConfig`). Relative paths in the file start from its folder, those on the command line from the working directory.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from transformers.integrations import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from trl import SFTConfig, TrlParser

from ..processing import InputError
from ..utils.checked_settings import check_keys, checked, read_yaml
from ..utils.regular_files import is_name
from .sft_settings import check_sft_settings
from .stages import STAGES, StagePlan, get_stage

_DATA_FILES = ("mixture", "eval_mixture")
LOSSES = ("loss", "error_bins")  # metrics with these beginnings are better when they are smaller
_DTYPES = ("auto", "float32", "bfloat16", "float16")
_TRACKERS = ("trackio", "tensorboard", "wandb")
_SHAPES_KEYS = ("st_shapes", "eval_st_shapes")
_PUSH_TIMES = ("end", "every_save", "checkpoint")
_ADVICE = "See `llava-st train --help`."


@checked
@dataclass
class ModelArguments:
    """
    What is trained.

    Args:
        model_name_or_path (`str`):
            Checkpoint to start from: a directory, or a repository on the Hub. A folder with the adapter of the stage
            before is merged into its base.
        stage (`str`): Who trains, one of `STAGES`.
        model_revision (`str`, *optional*): Branch, tag or commit on the Hub.
        dtype (`str`, *optional*, defaults to `"auto"`):
            Precision of frozen weights; what is trained is float32. `"auto"` is that of the checkpoint with `bf16`,
            float16 with `fp16`, and float32 where neither is on, as without a GPU.
        attn_implementation (`str`, *optional*): Attention of the model, such as `flash_attention_2`.
        lora_rank (`int`, *optional*): In place of the stage's.
        lora_alpha (`float`, *optional*): In place of twice the rank.
        lora_dropout (`float`, *optional*): In place of the stage's.
        learning_rates (`dict`, *optional*): Rate by module, in place of the stage's.
    """

    model_name_or_path: str = field(metadata={"help": "checkpoint to start from: directory, adapter, or Hub id"})
    stage: str = field(metadata={"help": f"who trains: {', '.join(STAGES)}"})
    model_revision: str | None = field(default=None, metadata={"help": "branch, tag or commit on the Hub"})
    dtype: str = field(
        default="auto", metadata={"help": "precision of frozen weights (auto: as it fits checkpoint and device)"}
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "e.g. sdpa or flash_attention_2"})
    lora_rank: int | None = field(default=None, metadata={"help": "rank of LoRA (the stage's)"})
    lora_alpha: float | None = field(default=None, metadata={"help": "scale of LoRA (twice the rank)"})
    lora_dropout: float | None = field(default=None, metadata={"help": "dropout of LoRA (the stage's)"})
    learning_rates: dict[str, Any] | str | None = field(
        default=None, metadata={"help": 'rate by module, e.g. {"packer": 1e-5} (the stage\'s)'}
    )

    def __post_init__(self):
        if self.dtype not in _DTYPES:
            raise InputError(f"dtype is {self.dtype!r}: choose one of {', '.join(_DTYPES)}.", field="dtype")
        rates = _read_mapping("learning_rates", self.learning_rates) or {}
        try:
            self.learning_rates = {str(module): float(rate) for module, rate in rates.items()}
        except (TypeError, ValueError) as error:
            raise InputError(f"learning_rates is {rates!r}: give a number for each module.") from error

    def make_plan(self, learning_rate: float | None = None) -> StagePlan:
        """
        Return the plan of the stage with what was asked for otherwise.

        Args:
            learning_rate (`float`, *optional*): Rate of all modules without one in `learning_rates`.

        Raises:
            `InputError`: For an unknown stage, or settings that do not fit it.
        """
        plan = get_stage(self.stage)
        settings = {
            name: getattr(self, name)
            for name in ("lora_rank", "lora_alpha", "lora_dropout")
            if getattr(self, name) is not None
        }
        if settings and plan.get_row("language_model").training != "lora":
            name, value = next(iter(settings.items()))
            raise InputError(f"{name} is {value}, but stage {self.stage!r} has no LoRA: leave it out.")
        return replace(plan, **settings).with_learning_rates(self.learning_rates, learning_rate)


@checked
@dataclass
class DataArguments:
    """
    What is trained on.

    Args:
        mixture (`str`, *optional*): YAML file of a `Mixture`. This or `st_shapes`.
        st_shapes (`dict`, *optional*): Arguments of `ShapesDataset`: clips of moving shapes that are made as it runs.
        eval_mixture (`str`, *optional*): Mixture that is held out.
        eval_st_shapes (`dict`, *optional*):
            What of `st_shapes` is otherwise in the clips held out: `num_samples`, and a `seed` of their own.
        grounding_clips (`int`, *optional*, defaults to 0):
            Records for each task that are answered and scored at each evaluation: the first ones of `eval_mixture` in
            its order, or ST-Shapes clips.
        num_frames (`int`, *optional*): Frames to sample of a clip; what the processor samples when left out.
        truncation (`bool`, *optional*, defaults to `False`):
            Whether a sample longer than `max_length` is cut at its end instead of skipped.
        max_skip_share (`float`, *optional*):
            Share of the records that may be skipped before the run stops; what the mixture says when left out.
    """

    mixture: str | None = field(default=None, metadata={"help": "YAML file of the mixture"})
    st_shapes: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "settings of ST-Shapes: task_weights, num_samples, seed, size, ..."},
    )
    eval_mixture: str | None = field(default=None, metadata={"help": "YAML file of a mixture that is held out"})
    eval_st_shapes: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "what differs from st_shapes in clips held out: num_samples and seed"}
    )
    grounding_clips: int = field(
        default=0, metadata={"help": "clips held out to answer and score at each evaluation, per task (0)"}
    )
    num_frames: int | None = field(default=None, metadata={"help": "frames to sample of a clip (the processor's)"})
    truncation: bool = field(default=False, metadata={"help": "cut samples that are too long instead of skipping"})
    max_skip_share: float | None = field(
        default=None, metadata={"help": "share of records that may be skipped (the mixture's, or 0.05)"}
    )

    def __post_init__(self):
        for name in _SHAPES_KEYS:
            setattr(self, name, _read_mapping(name, getattr(self, name)))
        if (self.mixture is None) == (self.st_shapes is None):
            raise InputError("give either mixture, the path of its YAML file, or st_shapes, its settings.")
        if self.eval_mixture is not None and self.eval_st_shapes is not None:
            raise InputError("eval_mixture and eval_st_shapes are both given: leave one out.")
        if self.eval_st_shapes is not None:
            held_out = (self.st_shapes or {}) | self.eval_st_shapes
            if self.st_shapes is not None and held_out.get("seed", 0) == self.st_shapes.get("seed", 0):
                raise InputError(
                    f"seed of eval_st_shapes is {held_out.get('seed', 0)}, which is that of st_shapes: give another, "
                    "or the clips held out are trained on."
                )
            self.eval_st_shapes = held_out


# Not `checked`: the fields of SFTConfig hold other types than they are declared with, once it has read them.
@dataclass
class LlavaSTTrainingConfig(SFTConfig):
    """
    TRL's `SFTConfig` with the defaults of this project: cosine schedule, warm-up over 3 %, no weight decay.

    `learning_rate` replaces the rates of the stage, of all modules without one in `learning_rates`. `max_length` is
    the number of tokens from which on a sample is skipped. Where neither is given, `bf16` is chosen on a GPU that
    has it, `fp16` on an older one, and neither without CUDA.
    `resume_from_checkpoint` is a checkpoint, or `true` for the last one if there is any. With `push_to_hub` the model
    goes to `hub_model_id` when it is done, or at each save where `hub_strategy` is `every_save`, and with all that the
    run goes on from where it is `checkpoint`: another machine then resumes from the Hub. An adapter of a model in a
    folder needs `hub_base_model`, where that model is on the Hub.
    """

    learning_rate: float | None = field(default=None, metadata={"help": "rate of all modules (the stage's rates)"})
    weight_decay: float = field(default=0.0, metadata={"help": "weight decay"})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "schedule of the learning rate"})
    warmup_steps: float = field(default=0.03, metadata={"help": "steps of warm-up, or below 1 their share"})
    max_length: int | None = field(default=32768, metadata={"help": "most tokens of a sample"})
    activation_checkpointing: bool | None = field(default=True, metadata={"help": "less memory, slower"})
    gradient_checkpointing: bool | None = field(default=None, metadata={"help": "alias of activation_checkpointing"})
    report_to: str | None = field(default="none", metadata={"help": "none, trackio, tensorboard or wandb"})
    save_total_limit: int | None = field(default=2, metadata={"help": "checkpoints that are kept"})
    hub_strategy: str = field(default="end", metadata={"help": "when to push: end, every_save, checkpoint"})
    hub_private_repo: bool | None = field(default=True, metadata={"help": "false: everybody may see what is pushed"})
    hub_base_model: str | None = field(default=None, metadata={"help": "Hub id of the base of an adapter"})
    hub_license: str | None = field(default=None, metadata={"help": "SPDX identifier, for the card"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "not used: records are no columns"})

    def __post_init__(self):
        check_sft_settings(self)
        for name in ("hub_base_model", "hub_license"):
            if getattr(self, name) is not None and not self.push_to_hub:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}, but push_to_hub is False: set that too, or leave it out.",
                    field=name,
                )
        if self.push_to_hub and self.hub_model_id is None:
            raise InputError("push_to_hub is true, but hub_model_id is not given: name the repository, ORG/NAME.")
        if getattr(self.hub_strategy, "value", self.hub_strategy) not in _PUSH_TIMES:
            raise InputError(f"hub_strategy is {self.hub_strategy!r}: choose {', '.join(_PUSH_TIMES)}.")
        has_gpu = torch.cuda.is_available() and not self.use_cpu
        self.dataset_kwargs = {"skip_prepare_dataset": True}  # the collator does all of it
        for name in ("fp16", "activation_offloading"):
            if getattr(self, name) and not has_gpu:
                raise InputError(f"{name} is True, which needs a GPU: leave it out.", field=name)
        if self.bf16 is None and not self.fp16:
            # A GPU before Ampere only emulates bfloat16, and its float16 is many times faster.
            self.bf16 = has_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
            self.fp16 = has_gpu and not self.bf16
        self.dataloader_pin_memory = self.dataloader_pin_memory and has_gpu
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = not self.metric_for_best_model.removeprefix("eval_").startswith(LOSSES)
        super().__post_init__()
        self._n_gpu = min(self._n_gpu, 1)  # of several the first: `accelerate launch` starts a process for each
        for name in self.report_to:
            if name not in INTEGRATION_TO_CALLBACK:
                raise InputError(
                    f"report_to is {name!r}: choose none, {', '.join(_TRACKERS)}, or another that transformers knows."
                )
            if name not in get_available_reporting_integrations():
                raise InputError(f"report_to is {name!r}, which is not installed: pip install {name}.")


@dataclass(frozen=True)
class Recipe:
    """
    One run.

    Args:
        model (`ModelArguments`): What is trained.
        data (`DataArguments`): What is trained on.
        training (`LlavaSTTrainingConfig`): How.

    Example:

    ```python
    >>> recipe = read_recipe("recipes/tiny/stage1/sft.yaml", ["--max_steps", "10"])
    >>> recipe.model.stage
    'full_finetuning'
    ```
    """

    model: ModelArguments
    data: DataArguments
    training: LlavaSTTrainingConfig

    @property
    def dtype(self) -> str:
        """Precision of frozen weights; `"auto"` stays where it is that of the checkpoint."""
        if self.model.dtype != "auto" or self.training.bf16:
            return self.model.dtype
        return "float16" if self.training.fp16 else "float32"

    @property
    def plan(self) -> StagePlan:
        """Who trains."""
        return self.model.make_plan(self.training.learning_rate)


def describe_keys() -> str:
    """Return the keys of the model and the data, a line each, for the help of a command."""
    parts = []
    for name, arguments in (("model", ModelArguments), ("data", DataArguments)):
        rows = [(f"--{key.name}", key.metadata["help"]) for key in fields(arguments)]
        width = max(len(key) for key, _ in rows)
        parts.append("\n".join([f"keys of the {name}:", *(f"  {key:<{width}}  {text}" for key, text in rows)]))
    return "\n\n".join(parts)


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """
    Read a recipe.

    Args:
        path (`str` or `Path`): The YAML file.
        overrides (`Sequence[str]`, *optional*): `--key value ...`, which replace values of the file.

    Returns:
        `Recipe`: What to do.

    Raises:
        `InputError`: For a file that cannot be read, an unknown key, a missing one, or a value that does not fit.
    """
    path = Path(path)
    content = read_yaml(path, "recipe")
    if isinstance(content, Mapping) and "datasets" in content:
        raise InputError(f"{path} is a mixture: write mixture: {path.name} into a recipe, and train that.")
    parser = _RecipeParser([ModelArguments, DataArguments, LlavaSTTrainingConfig], allow_abbrev=False)
    known = sorted(action.dest for action in parser._actions)
    check_keys(content, known, str(path), _ADVICE)
    parser.set_defaults_with_config(**_resolve_paths(content, path.parent.absolute()))
    try:
        *parts, unknown = parser.parse_args_into_dataclasses(list(overrides), return_remaining_strings=True)
    except (ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {error}") from error
    options = {word.partition("=")[0].lstrip("-").replace("-", "_"): word for word in unknown}
    check_keys(options, known, "the command line", _ADVICE)
    return Recipe(*parts)


class _RecipeParser(TrlParser):
    """Raises `InputError` where argparse would end the program."""

    def error(self, message: str):
        """Raise for arguments that cannot be parsed."""
        raise InputError(f"{message}: fix the recipe or the command line.")


def _resolve_paths(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Let relative paths start from the folder of the recipe."""
    resolved = dict(content)
    for name in (*_DATA_FILES, "output_dir"):
        if isinstance(given := resolved.get(name), str):
            if not is_name(given):
                raise InputError(f"{name} is {given!r}, which has characters that no name has: write it anew.")
            resolved[name] = os.path.normpath(folder / given)
    for name in ("model_name_or_path", "resume_from_checkpoint"):
        value = resolved.get(name)
        # A name on the Hub looks like a path, so one that starts with a dot or exists is a path.
        if isinstance(value, str) and (value.startswith(".") or (folder / value).exists()):
            resolved[name] = os.path.normpath(folder / value)
    if resolved.get("resume_from_checkpoint") is True:
        resolved["resume_from_checkpoint"] = "true"
    return resolved


def _read_mapping(name: str, value: Any) -> dict[str, Any] | None:
    """Return a mapping that was given in YAML, or as JSON on the command line."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InputError(f"{name} is {value!r}, which is no JSON: give an object such as {{...}}.") from error
    if value is not None and not isinstance(value, dict):
        raise InputError(f"{name} is {value!r}: give keys with values.")
    return value
