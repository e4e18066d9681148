"""What all processes have in one: tensors, with the gradient flowing back to each of them, and other things."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world() -> tuple[int, int]:
    """Give this process's rank and the number of processes; (0, 1) outside a distributed run."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather(tensor: Tensor) -> Tensor:
    """Stack the tensors [n, …] of all processes, in order of rank, to [num_processes * n, …].

    The gradient of a process's own part is the sum of what all processes' losses make of it. As DDP then averages
    parameter gradients, a loss that is a mean over the local rows trains as if one process had all rows.
    """
    return tensor if world()[1] == 1 else _Gather.apply(tensor)


@torch.no_grad()
def gather_detached(tensor: Tensor) -> Tensor:
    """Stack the tensors of all processes as :func:`gather` does, without gradient."""
    return gather(tensor.detach())


@torch.no_grad()
def sum_over_processes(tensor: Tensor) -> Tensor:
    """Add up the tensors of all processes (in place, without gradient)."""
    if world()[1] > 1:
        dist.all_reduce(tensor)
    return tensor


@torch.no_grad()
def copy_from_first(module: nn.Module) -> None:
    """Give a module the parameters and buffers that the first process has; batch statistics are each process's own."""
    if world()[1] > 1:
        for value in module.state_dict().values():
            dist.broadcast(value, src=0)


@torch.no_grad()
def share_buffers(module: nn.Module) -> None:
    """Give a module the buffers that the first process has; its parameters are equal everywhere as it is."""
    if world()[1] > 1:
        for value in module.buffers():
            dist.broadcast(value, src=0)


def gather_items(items: list[Any]) -> list[Any]:
    """Join the lists of all processes, in order of rank; what they hold must be picklable."""
    if world()[1] == 1:
        return items
    parts: list[Any] = [None] * world()[1]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(world()[1])]
        dist.all_gather(parts, tensor.contiguous())
        context.num_rows = len(tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Tensor:
        summed: Tensor = gradients[0].contiguous().clone()
        dist.all_reduce(summed)
        start = world()[0] * context.num_rows
        return summed[start : start + context.num_rows]
