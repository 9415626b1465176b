"""Who trains in each stage: which modules, as LoRA or in full, at which learning rate and in which precision.

The published stages (arXiv 2501.08282, section 4.2, and the published code) are rows of a table here; so are LoRA on a
user's own data, training of all but the vision tower, and training from scratch. `apply_stage` puts a plan into
effect, `format_stage_table` shows what it did. Where the language model is not trained in full the model becomes a
PEFT model, so that a checkpoint holds only what was trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from ..modeling import LlavaSTForConditionalGeneration
from ..processing import InputError, LlavaSTProcessor
from ..processing.prompt_expansion_llava_st import RAW_FAST_TOKENS
from ..utils.tables import format_table
from .lora import make_lora_config

if TYPE_CHECKING:
    from peft import PeftModel

# The parts of the model, in the order of the data. The rows of the raw media tokens belong to the language model's
# embedding, and can be trained by themselves.
MODULES = (
    "vision_tower",
    "multi_modal_projector",
    "packer",
    "coordinate_embeddings",
    "media_token_embeddings",
    "language_model",
    "lm_head",
)
_TOKEN_ROWS = "media_token_embeddings"
_DTYPES = MappingProxyType({"float32": torch.float32, "bfloat16": torch.bfloat16})
# PEFT's own name for "no layer gets LoRA": modules trained in full and single token rows are all there is.
_NO_LORA = "dummy-target-modules"

Training = Literal["frozen", "lora", "full"]


@dataclass(frozen=True)
class ModulePlan:
    """
    How one part of the model is trained.

    Raises:
        `InputError`: For values that do not fit together.
    """

    module: str  # one of `MODULES`
    training: Training = "frozen"  # `"frozen"`, `"lora"` (the language model only) or `"full"`
    learning_rate: float | None = None  # of what is trained; above 0
    dtype: str = "float32"  # precision of the weights that are trained; frozen ones stay as they are

    def __post_init__(self):
        if self.module not in MODULES:
            raise InputError(f"module is {self.module!r}: choose one of {', '.join(MODULES)}.")
        if self.training not in ("frozen", "lora", "full"):
            raise InputError(f"training of {self.module} is {self.training!r}: choose frozen, lora or full.")
        if self.training == "lora" and self.module != "language_model":
            raise InputError(f"training of {self.module} is 'lora': only the language_model takes LoRA, choose full.")
        if self.dtype not in _DTYPES:
            raise InputError(f"dtype of {self.module} is {self.dtype!r}: choose one of {', '.join(_DTYPES)}.")
        if (self.training == "frozen") != (self.learning_rate is None):
            raise InputError(
                f"learning_rate of {self.module} is {self.learning_rate}, but its training is {self.training!r}: give "
                "one exactly where something is trained."
            )
        if self.learning_rate is not None and not 0 < self.learning_rate < 100:
            raise InputError(f"learning_rate of {self.module} is {self.learning_rate}: give a rate above 0.")


@dataclass(frozen=True)
class StagePlan:
    """
    Who trains in one stage; modules without a row are frozen.

    Args:
        name (`str`): Name of the stage.
        rows (`tuple[ModulePlan, ...]`): At most one for each module.
        lora_rank (`int`, *optional*, defaults to 128): Rank of LoRA, where there is any.
        lora_alpha (`float`, *optional*): The update is scaled by `lora_alpha / lora_rank`. Defaults to twice the rank.
        lora_dropout (`float`, *optional*, defaults to 0.05): Share of the inputs of the update that is dropped.

    Example:

    ```python
    >>> plan = STAGES["coordinate_alignment"].with_learning_rates({"packer": 1e-5})
    >>> plan.get_row("packer").learning_rate
    1e-05
    ```
    """

    name: str
    rows: tuple[ModulePlan, ...]
    lora_rank: int = 128
    lora_alpha: float | None = None
    lora_dropout: float = 0.05

    def __post_init__(self):
        names = [row.module for row in self.rows]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise InputError(
                f"rows of stage {self.name!r} name {', '.join(sorted(repeated))} twice: give one row each."
            )
        if all(row.training == "frozen" for row in self.rows):
            raise InputError(f"rows of stage {self.name!r} train nothing: give one module lora or full.")
        full = [row.module for row in self.rows if row.training == "full"]
        if _TOKEN_ROWS in full and "language_model" in full:
            raise InputError(f"rows of stage {self.name!r} train {_TOKEN_ROWS} twice: language_model has them.")

    def get_row(self, module: str) -> ModulePlan:
        """Return how a module is trained."""
        return next((row for row in self.rows if row.module == module), ModulePlan(module))

    @property
    def uses_peft(self) -> bool:
        """Whether only an adapter is trained and saved, or the language model itself."""
        return self.get_row("language_model").training != "full"

    @property
    def learning_rate(self) -> float:
        """The highest rate of the stage."""
        return max(row.learning_rate for row in self.rows if row.learning_rate is not None)

    def with_learning_rates(self, rates: Mapping[str, float], default: float | None = None) -> "StagePlan":
        """
        Return the plan with other learning rates.

        Args:
            rates (`Mapping[str, float]`): Rate by module.
            default (`float`, *optional*): Rate of the other modules that are trained; their own when left out.

        Raises:
            `InputError`: For a module that the stage does not train, or a rate that is none.
        """
        trained = [row.module for row in self.rows if row.training != "frozen"]
        for module in rates:
            if module not in trained:
                raise InputError(
                    f"learning_rates has {module!r}, which stage {self.name!r} does not train: choose from "
                    f"{', '.join(trained)}."
                )
        rows = tuple(
            replace(row, learning_rate=rates.get(row.module, default or row.learning_rate))
            if row.module in trained
            else row
            for row in self.rows
        )
        return replace(self, rows=rows)


def _full(learning_rate: float, *modules: str) -> tuple[ModulePlan, ...]:
    return tuple(ModulePlan(module, "full", learning_rate) for module in modules)


# Parity: the published code gives the coordinate tables and the rows of the media tokens the rate of the packer, and
# the table of the paper names only "2e-4" and "2e-5 for the packer".
_ALIGNED = (
    ModulePlan("language_model", "lora", 2e-4),
    *_full(2e-5, "packer", "coordinate_embeddings", _TOKEN_ROWS),
)

_ALL_BUT_TOWER = ("multi_modal_projector", "packer", "coordinate_embeddings", "language_model", "lm_head")

STAGES: Mapping[str, StagePlan] = MappingProxyType(
    {
        plan.name: plan
        for plan in (
            StagePlan("content_alignment", _full(1e-4, "packer", _TOKEN_ROWS)),
            StagePlan("coordinate_alignment", _ALIGNED),
            StagePlan("instruction_tuning", _ALIGNED),
            StagePlan("custom_grounding_lora", _ALIGNED, lora_rank=16),
            StagePlan("full_finetuning", _full(2e-5, *_ALL_BUT_TOWER)),
            StagePlan("from_scratch", _full(1e-3, "vision_tower", *_ALL_BUT_TOWER)),
        )
    }
)


def get_stage(name: str) -> StagePlan:
    """Return a built-in stage by its name; an unknown one raises `InputError` with all names."""
    if name not in STAGES:
        raise InputError(f"stage is {name!r}: choose one of {', '.join(STAGES)}.")
    return STAGES[name]


def get_media_token_ids(processor: LlavaSTProcessor) -> list[int]:
    """Return the ids of the raw tokens that stand for the fast stream: none where features are put in their place."""
    if processor.splice_fast_tokens:
        return []
    return processor.tokenizer.convert_tokens_to_ids(list(RAW_FAST_TOKENS))


def apply_stage(
    model: LlavaSTForConditionalGeneration, plan: StagePlan, media_token_ids: Sequence[int] = ()
) -> "LlavaSTForConditionalGeneration | PeftModel":
    """
    Freeze, adapt and cast the modules of a model as a stage requires it.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model; it is changed, with PEFT also wrapped.
        plan (`StagePlan`): Who trains.
        media_token_ids (`Sequence[int]`, *optional*):
            Rows of the embedding that `media_token_embeddings` trains, see `get_media_token_ids`. Without any there is
            nothing for it to train.

    Returns:
        `LlavaSTForConditionalGeneration` or `peft.PeftModel`: What to train.

    Example:

    ```python
    >>> model = apply_stage(model, STAGES["coordinate_alignment"], get_media_token_ids(processor))
    >>> print(format_stage_table(model, STAGES["coordinate_alignment"]))
    ```
    """
    full = [row.module for row in plan.rows if row.training == "full"]
    if plan.uses_peft:
        model = _add_adapter(model, plan, [name for name in full if name != _TOKEN_ROWS], media_token_ids)
    else:
        model.requires_grad_(False)
        for name in full:
            _get_module(model, name).requires_grad_(True)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            dtype = _DTYPES[plan.get_row(find_module(name)).dtype]
            parameter.data = parameter.data.to(dtype)
    return model


def _add_adapter(
    model: LlavaSTForConditionalGeneration, plan: StagePlan, full: list[str], media_token_ids: Sequence[int]
) -> "PeftModel":
    from peft import get_peft_model

    fields = {"modules_to_save": full or None}
    if plan.get_row("language_model").training == "frozen":
        fields["target_modules"] = _NO_LORA
    if media_token_ids and plan.get_row(_TOKEN_ROWS).training == "full":
        fields["trainable_token_indices"] = {"embed_tokens": list(media_token_ids)}
    config = make_lora_config(plan.lora_rank, plan.lora_alpha, plan.lora_dropout, **fields)
    return get_peft_model(model, config)


def _get_module(model: LlavaSTForConditionalGeneration, name: str) -> nn.Module:
    return model.lm_head if name == "lm_head" else model.model.get_submodule(name)


def find_module(parameter_name: str) -> str:
    """Return which of `MODULES` a parameter belongs to, with or without PEFT."""
    parts = parameter_name.split(".")
    if "token_adapter" in parts:
        return _TOKEN_ROWS
    for module in MODULES:
        if module in parts:
            return module
    raise InputError(f"parameter {parameter_name!r} belongs to none of {', '.join(MODULES)}.")


def format_stage_table(model: nn.Module, plan: StagePlan) -> str:
    """
    Show what is trained: one line for each module with its parameters, and a total.

    The precision is that of the trained weights, of a frozen module that of all its weights.
    """
    parameters: dict[str, list[nn.Parameter]] = {module: [] for module in MODULES}
    for name, parameter in model.named_parameters():
        # PEFT keeps the module it trains a copy of: counted once.
        if "original_module" not in name.split("."):
            parameters[find_module(name)].append(parameter)
    rows = []
    for module, members in parameters.items():
        if not members:
            continue
        trained = [parameter for parameter in members if parameter.requires_grad]
        row = plan.get_row(module)
        numbers = [sum(map(torch.numel, some)) for some in (members, trained)]
        dtypes = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in trained or members})
        training, rate = (row.training, row.learning_rate) if trained else ("frozen", None)
        rows.append((module, training, *numbers, rate, "/".join(dtypes)))
    total = ("total", None, sum(row[2] for row in rows), sum(row[3] for row in rows), None, None)
    header = ("module", "training", "parameters", "trained", "learning rate", "precision")
    return f"stage {plan.name}\n{format_table(header, [*rows, total])}"
