"""Training with TRL: who trains in each stage, the trainer, recipes, and one run from recipe to checkpoint.

The stages and the adapter's description need neither TRL nor PEFT, so a name is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .lora import make_lora_config
    from .recipe import LlavaSTTrainingConfig, Recipe, read_recipe
    from .run import run_recipe
    from .stages import STAGES, StagePlan, apply_stage, get_stage
    from .trainer import LlavaSTTrainer

_MODULES = {
    "STAGES": "stages",
    "LlavaSTTrainer": "trainer",
    "LlavaSTTrainingConfig": "recipe",
    "Recipe": "recipe",
    "StagePlan": "stages",
    "apply_stage": "stages",
    "get_stage": "stages",
    "make_lora_config": "lora",
    "read_recipe": "recipe",
    "run_recipe": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


__all__ = [
    "STAGES",
    "LlavaSTTrainer",
    "LlavaSTTrainingConfig",
    "Recipe",
    "StagePlan",
    "apply_stage",
    "get_stage",
    "make_lora_config",
    "read_recipe",
    "run_recipe",
]
