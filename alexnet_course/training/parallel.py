"""Data-parallel training: several processes train one network together, each on its own GPU or some of the CPU cores.

``torchrun --nproc-per-node N -m alexnet_course train …`` starts them. All do the same from the same seed, with three
exceptions: each computes its own part of every batch, the gradients of the parts are averaged before the optimiser
step, and only process 0, the main one, writes to the folder of the run and prints.

The run is therefore equivalent to that of one process except for rounding, dropout, which draws different numbers for
each part, and batch norm, which normalises each part with its own statistics. The running statistics of batch norm are
averaged, so that all processes have the same network after every step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alexnet_course.errors import CourseError
from alexnet_course.training.device import choose_device

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """The ``size`` processes of a run; this one has number ``rank``, counted from 0.

    A single process is a group of one: nothing is sent, copied or rounded. In a larger group, each method except
    ``part`` has to be called by all processes, in the same order, and waits for the others.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """The rows of a batch of N×… for this process: N / ``size`` of them, rounded up or down."""
        if self.size == 1:
            return batch
        return batch[self.rank * len(batch) // self.size : (self.rank + 1) * len(batch) // self.size]

    def device(self, requested: str) -> torch.device:
        """``choose_device``, but with a separate GPU for each process of this machine.

        Raises ``CourseError`` if there are too few, and for a device that processes cannot share.
        """
        if self.size == 1:
            return choose_device(requested)
        name = choose_device("auto").type if requested == "auto" else requested
        if name not in ("cuda", "cpu"):
            raise CourseError(f"device = {requested!r} cannot be used by {self.size} processes; give cuda, so that "
                              "each uses a GPU of its own, or cpu.")  # fmt: skip
        here, count = int(os.environ.get("LOCAL_WORLD_SIZE", self.size)), torch.cuda.device_count()
        if name == "cpu" or count == 0:
            return choose_device(name)
        if here > count:
            raise CourseError(f"{here} processes need {here} GPUs, and this machine has {count}; start no more than "
                              "that with --nproc-per-node, or give cpu.")  # fmt: skip
        device = self.together(lambda: choose_device(f"cuda:{_local_rank(self.rank)}"))
        torch.cuda.set_device(device)
        return device

    # --- Numbers -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor], share: float) -> None:
        """Replace each tensor by its weighted mean over the processes, in place; ``share`` is this process's weight.

        The tensors are sent together, which is faster. The results are bit-identical on all processes.
        """
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).mul_(share)
        dist.all_reduce(flat)
        pieces = flat.split([tensor.numel() for tensor in tensors])
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view(tensor.shape))

    @torch.no_grad()
    def total(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, of the same shape and dtype."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @torch.no_grad()
    def copy_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of the main process, in place."""
        if self.size == 1:
            return
        for tensor in tensors:
            whole = tensor.detach().contiguous()  # a copy if the memory layout differs
            dist.broadcast(whole, 0)
            tensor.copy_(whole)

    # --- Objects -----------------------------------------------------------------------------------------------------

    def any(self, here: bool) -> bool:
        """Whether ``here`` is true on any process. Exchanged by the CPUs, so that no GPU is synchronised."""
        if self.size == 1:
            return here
        flag = torch.tensor([here], dtype=torch.uint8)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, on each of them; they must be picklable."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def together(self, function: Callable[[], T]) -> T:
        """``function()`` on every process. If it fails on one, all raise the error, and none waits for another."""
        if self.size == 1:
            return function()
        result, error = None, None
        try:
            result = function()
        except Exception as raised:
            error = raised
        try:
            if self.any(error is not None):
                errors = self.gather(error)
                raise error or next(other for other in errors if other is not None)
        finally:
            del error  # otherwise it and this frame would keep each other, and the memory of the failed call, alive
        return result  # type: ignore[return-value]

    def told(self, error: Exception) -> Exception:
        """``error``, which happened on this process alone, after the others were told: their next ``together`` raises
        it."""
        if self.size > 1:
            self.any(True)
            self.gather(error)
        return error

    def on_main(self, function: Callable[[], T]) -> T:
        """``function()`` on the main process only: all get its result, which must be picklable, or its error."""
        if self.size == 1:
            return function()
        result = self.together(lambda: function() if self.is_main else None)
        found = [result]
        dist.broadcast_object_list(found, 0)
        return found[0]  # type: ignore[return-value]

    def main_first(self, function: Callable[[], T]) -> T:
        """``function()`` on one process of each machine, then on the others, which use what it has downloaded."""
        if self.size == 1:
            return function()
        first = _local_rank(self.rank) == 0
        result = self.together(lambda: function() if first else None)
        return self.together(lambda: function() if result is None else result)


ALONE = Group()


def join_group() -> Group:
    """The group in which ``torchrun`` started this process, or that of ``torch.distributed`` if the program has already
    joined one (with gloo for CPUs: ``init_process_group("cpu:gloo,cuda:nccl")``); otherwise a group of one.
    """
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        if not dist.is_torchelastic_launched() or os.environ.get("WORLD_SIZE", "1") == "1":
            return ALONE
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Group(dist.get_rank(), dist.get_world_size())


def leave_group() -> None:
    """Leave the group after the last run of a program, not after an error: then ``torchrun`` ends the processes."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def running_statistics(model: nn.Module) -> list[Tensor]:
    """The running mean and variance of each batch norm layer that updates them."""
    norms = (layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm))
    learning = [layer for layer in norms if layer.training and layer.track_running_stats]
    found = [tensor for layer in learning for tensor in (layer.running_mean, layer.running_var)]
    return [tensor for tensor in found if tensor is not None]


def _local_rank(rank: int) -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", rank))
