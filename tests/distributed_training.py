"""One of the processes of `test_placement.py`: the loss and the gradients of its share of a batch."""

from pathlib import Path

import torch
import torch.distributed as dist
from small_inputs import make_inputs, make_labels
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from llava_st_hf import LlavaSTForConditionalGeneration

# The layers that FSDP2 gathers one at a time.
SHARDED = {
    "Embedding",
    "Linear",
    "LlavaSTCoordinateEmbeddings",
    "LlavaSTMultiModalProjector",
    "LlavaSTPointToRegionAttention",
    "Qwen2DecoderLayer",
    "SiglipEncoderLayer",
    "SiglipVisionEmbeddings",
}


def make_sample(model: LlavaSTForConditionalGeneration, index: int, with_text_only: bool) -> dict[str, torch.Tensor]:
    """Make one sample; the second one has fewer labels, and no video where that is asked for."""
    inputs = make_inputs(model, seed=index)
    inputs["labels"] = make_labels(inputs, supervised=7 - 3 * index)
    if with_text_only and index == 1:
        inputs = {name: value[:, -9:] for name, value in inputs.items() if name != "pixel_values_videos"}
    return inputs


def count_supervised(samples: list[dict[str, torch.Tensor]]) -> int:
    return sum(int((sample["labels"][:, 1:] != -100).sum()) for sample in samples)


def compute_share(model, samples: list[dict[str, torch.Tensor]], rank: int) -> torch.Tensor:
    """Run the sample of this rank; return the loss of all ranks together, as one process would give it."""
    # Gradients are averaged over ranks, so each loss is scaled up by their number.
    loss = model(**samples[rank], num_items_in_batch=count_supervised(samples) / dist.get_world_size()).loss
    loss.backward()
    total = loss.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def gather(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard(model: LlavaSTForConditionalGeneration) -> None:
    covered: set[torch.nn.Module] = set()
    for module in list(model.modules()):  # from the outside in: parts of a layer belong to the layer
        if type(module).__name__ in SHARDED and module not in covered:
            covered.update(module.modules())
            fully_shard(module)
    fully_shard(model)


def main(folder: Path, checkpoint: Path) -> None:
    """Go every way in turn; the first process writes a file for each."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    for way in ("ddp", "ddp_text_only", "fsdp2"):
        model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint).train()
        samples = [make_sample(model, index, way == "ddp_text_only") for index in range(world_size)]
        if way == "fsdp2":
            shard(model)
            loss = compute_share(model, samples, rank)
        else:
            # The last norm of the vision tower is never read; text alone reads neither the tower nor the packer.
            loss = compute_share(DistributedDataParallel(model, find_unused_parameters=True), samples, rank)
        gradients = {
            name: gather(parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None
        }
        if rank == 0:
            torch.save({"loss": loss, "gradients": gradients}, folder / f"{way}.pt")
    state_dict = {name: gather(value).detach() for name, value in model.state_dict().items()}
    if rank == 0:
        is_sharded = isinstance(model.model.coordinate_embeddings.input_table, DTensor)
        assert is_sharded and type(model).__name__.startswith("FSDP")
        model.save_pretrained(folder / "saved", state_dict=state_dict)
    dist.barrier()
    dist.destroy_process_group()
