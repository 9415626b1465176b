"""The loss in bounded memory: the logits of a few supervised positions exist at a time, in either direction."""

from collections.abc import Callable, Sequence

import torch


class _ChunkedSum(torch.autograd.Function):
    """
    Sum a loss over chunks of positions; the backward pass computes each chunk again.

    `torch.utils.checkpoint` for each chunk would do the same with three buffers of the head's gradient at a time: the
    sum so far, that of the chunk, and their sum. Here the sum grows in place.
    """

    @staticmethod
    def forward(ctx, compute, size, autocast, hidden, labels, offsets, table, *parameters):
        ctx.compute, ctx.size, ctx.autocast = compute, size, autocast
        ctx.save_for_backward(hidden, labels, offsets, table, *parameters)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        found = []
        for start in range(0, hidden.shape[0], size):
            found.append(compute(*_slice(start, size, hidden, labels, offsets), table))
            total += found[-1][0].sum()
        losses, errors = (torch.cat(parts) for parts in zip(*found, strict=True))
        ctx.mark_non_differentiable(losses, errors)
        return total, losses, errors

    @staticmethod
    def backward(ctx, grad_total, *_):
        hidden, labels, offsets, table, *parameters = ctx.saved_tensors
        needs_hidden, _, _, needs_table, *needs_parameters = ctx.needs_input_grad[3:]
        leaf_table = table.detach().requires_grad_(needs_table)
        required = [leaf_table] if needs_table else []
        required += [value for value, is_needed in zip(parameters, needs_parameters, strict=True) if is_needed]
        sums = [torch.zeros_like(value) for value in required]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        for start in range(0, hidden.shape[0], ctx.size):
            chunk, *targets = _slice(start, ctx.size, hidden, labels, offsets)
            chunk = chunk.detach().requires_grad_(needs_hidden)
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                loss = ctx.compute(chunk, *targets, leaf_table)[0].sum()
            inputs = [chunk] * needs_hidden + required
            gradients = list(torch.autograd.grad(loss, inputs, grad_total.to(loss.dtype)))
            if needs_hidden:
                grad_hidden[start : start + ctx.size] = gradients.pop(0)
            for total in sums:
                total += gradients.pop(0)
        grad_table = sums.pop(0) if needs_table else None
        grad_parameters = [sums.pop(0) if is_needed else None for is_needed in needs_parameters]
        return None, None, None, grad_hidden, None, None, grad_table, *grad_parameters


def _slice(start: int, size: int, *tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    return [None if tensor is None else tensor[start : start + size] for tensor in tensors]


def sum_in_chunks(
    compute: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    size: int,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    offsets: torch.Tensor | None,
    table: torch.Tensor,
    parameters: Sequence[torch.nn.Parameter],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Sum a loss over positions, `size` of them at a time.

    Args:
        compute (`Callable`):
            Gives the loss and the coordinate error, each `(positions,)`, of `(hidden, labels, offsets, table)` of some
            positions.
        size (`int`): Positions at a time.
        hidden (`torch.Tensor` of shape `(positions, hidden)`): Hidden states.
        labels (`torch.Tensor` of shape `(positions,)`): Targets.
        offsets (`torch.Tensor` of shape `(positions,)`, *optional*): Offsets of the targets below their bins.
        table (`torch.Tensor` of shape `(coordinates, hidden)`): Output rows of the coordinates.
        parameters (`Sequence[torch.nn.Parameter]`): What `compute` uses besides, and may need gradients.

    Returns:
        `tuple[torch.Tensor, torch.Tensor, torch.Tensor]`: The sum, float32; and without a gradient the loss and the
        coordinate error of each position.
    """
    if hidden.shape[0] <= size or not torch.is_grad_enabled():
        # An empty batch is one empty chunk: its sum keeps the graph.
        chunks = [
            compute(*_slice(start, size, hidden, labels, offsets), table)
            for start in range(0, max(hidden.shape[0], 1), size)
        ]
        losses, errors = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        return losses.sum(), losses.detach(), errors
    device_type = hidden.device.type
    autocast = {
        "device_type": device_type,
        "dtype": torch.get_autocast_dtype(device_type),
        "enabled": torch.is_autocast_enabled(device_type),
    }
    return _ChunkedSum.apply(compute, size, autocast, hidden, labels, offsets, table, *parameters)
