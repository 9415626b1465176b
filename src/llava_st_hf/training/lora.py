"""LoRA as the published stages use it: on the language model, with the packer and the coordinate tables in full."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import LoraConfig

# "all-linear" would reach into the vision tower, and bare names would too: SigLIP also has a q_proj.
LORA_TARGET_MODULES = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
# The coordinate tables are no linear layer that LoRA could be put on; they are small, and new to the language model.
FULLY_TRAINED_MODULES = ("coordinate_embeddings", "packer")


def make_lora_config(rank: int = 128, alpha: float | None = None, dropout: float = 0.05, **kwargs) -> "LoraConfig":
    """
    Describe the adapter of the published stages 2 and 3; the defaults are theirs.

    Args:
        rank (`int`, *optional*, defaults to 128): Rank of the update of each linear layer of the language model.
        alpha (`float`, *optional*): The update is scaled by `alpha / rank`. Defaults to twice the rank.
        dropout (`float`, *optional*, defaults to 0.05): Share of the inputs of the update that is dropped.
        kwargs (`dict`, *optional*):
            Further fields of `peft.LoraConfig`; `target_modules` and `modules_to_save` replace the ones set here.

    Returns:
        `peft.LoraConfig`: For `peft.get_peft_model(model, config)` or `model.add_adapter(config)`.

    Raises:
        `ImportError`: When peft is not installed.
        `ValueError`: When the rank is below 1.

    Example:

    ```python
    >>> from peft import get_peft_model
    >>> model = get_peft_model(model, make_lora_config(rank=16))
    >>> model.save_pretrained("adapter")
    ```
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ImportError("LoRA needs peft: run `pip install peft`.") from error
    if rank < 1:
        raise ValueError(f"rank is {rank}: it must be at least 1.")
    fields = {
        "r": rank,
        "lora_alpha": 2 * rank if alpha is None else alpha,
        "lora_dropout": dropout,
        "target_modules": LORA_TARGET_MODULES,
        "modules_to_save": list(FULLY_TRAINED_MODULES),
    }
    return LoraConfig(**{**fields, **kwargs})
