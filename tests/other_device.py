"""
A device that only pretends to be another: its tensors live in this process's memory, and an operation that mixes them
with tensors elsewhere fails, as it would on a GPU.

As a program (`python other_device.py FOLDER`) it trains and evaluates the shipped model on that device, lets it answer
a question, and prints what it saw as JSON. It changes torch for the whole process.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map_only
from training_runs import make_shapes, make_trainer

from llava_st_hf import GroundingSession, LlavaSTForConditionalGeneration
from llava_st_hf.demo import SHIPPED_CHECKPOINT
from llava_st_hf.training.stages import STAGES

NAME = "pretend"
# Operations that take tensors of the CPU beside their own on a GPU too: places to look at, and copies.
_MAY_MIX = ("index", "index_put", "index_put_", "copy_")
make_tensor = torch.tensor


class OtherTensor(torch.Tensor):
    """A tensor there; `held` are its values."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OtherTensor":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, held.size(), device=f"{NAME}:0", **layout)

    def __init__(self, held: torch.Tensor):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None) -> Any:
        return calculate(operation, *args, **(kwargs or {}))

    __torch_function__ = torch._C._disabled_torch_function_impl

    # What torch does without an operation, for a tensor whose memory it can see.
    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"OtherTensor({self.held})"

    def __format__(self, form: str) -> str:
        return format(self.held, form)

    def new_tensor(self, data: Any, **_: Any) -> torch.Tensor:
        return make_tensor(data, dtype=self.dtype).to(self.device)

    def __getitem__(self, index: Any) -> torch.Tensor:
        return super().__getitem__(_make_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_make_index(index), value)


def _make_index(index: Any) -> tuple:
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(make_tensor(part) if isinstance(part, list) else part for part in parts)


def calculate(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Calculate on the values that tensors hold; what is made on the device is held again."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, OtherTensor)]
    if there and operation.overloadpacket.__name__ not in _MAY_MIX:
        elsewhere = [tuple(one.shape) for one in tensors if not isinstance(one, OtherTensor) and one.dim()]
        if elsewhere:
            raise RuntimeError(f"{operation} has tensors of {NAME} and of the CPU, of shape {elsewhere}")
    device = kwargs.get("device")
    if device is not None:
        kwargs["device"] = "cpu"
    held_args, held_kwargs = tree_map_only(OtherTensor, lambda tensor: tensor.held, (args, kwargs))
    result = operation(*held_args, **held_kwargs)
    if operation._schema.name.endswith("_"):
        return args[0]
    is_there = bool(there) if device is None else torch.device(device).type == NAME
    return tree_map_only(torch.Tensor, OtherTensor, result) if is_there else result


def register() -> torch.library.Library:
    """Let torch know the device; it is there as long as what is returned."""
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("_", "IMPL")
    library.fallback(calculate, "PrivateUse1")
    torch.tensor = lambda data, *, device=None, **options: (
        make_tensor(data, **options) if device is None else make_tensor(data, **options).to(device)
    )
    torch.ones(1).to(NAME).requires_grad_().sum().backward()  # starts the threads of the device, else it is too late
    return library


def main(folder: Path) -> None:
    """Train, evaluate and answer there."""
    os.environ["ACCELERATE_TORCH_DEVICE"] = NAME
    model = LlavaSTForConditionalGeneration.from_pretrained(SHIPPED_CHECKPOINT)
    library = register()
    records = [*make_shapes(2, {"stvg": 1}), *make_shapes(2, {"rec": 1})]
    answers = []

    def answer(model: torch.nn.Module, step: int) -> dict[str, float]:
        session = GroundingSession(model, trainer.processing_class, video=records[0].media[0].frames, video_fps=25.0)
        answers.append(session.ask("stvg", query="the red circle moves", max_new_tokens=64).text)
        return {"asked": 1.0}

    trainer = make_trainer(
        SHIPPED_CHECKPOINT,
        folder,
        records,
        STAGES["custom_grounding_lora"],
        model,
        eval_records=make_shapes(2, seed=9),
        evaluate_grounding=answer,
        max_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        optim="adamw_torch",
        bf16=False,
        dataloader_num_workers=1,
    )
    trainer.train()
    devices = sorted({tensor.device.type for tensor in (*model.parameters(), *model.buffers())})
    sys.stdout.write(json.dumps({"devices": devices, "log": trainer.state.log_history, "answers": answers}) + "\n")
    del library


if __name__ == "__main__":
    main(Path(sys.argv[1]))
