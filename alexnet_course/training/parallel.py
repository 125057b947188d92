"""Several processes that train one network together, each on its own GPU, or on its share of the processors.

``torchrun --nproc-per-node N -m alexnet_course train …`` starts them. All of them do the same, from the same seed, with
three exceptions: each computes with its own part of every batch, the gradients of the parts are averaged before the
optimiser uses them, and process 0, the main one, is alone with the folder of the run and with what is printed.

So the run is that of one process, but for rounding and for two things that look at one part alone: dropout, which draws
other numbers for every part, and batch norm, which normalises a part with its own statistics. The running statistics of
batch norm are averaged, so that all processes have the same network after every step.
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
    """The ``size`` processes of a run, of which this one is number ``rank``, counted from 0.

    A process on its own is a group of one: nothing is sent, copied or rounded. In a larger group, each method but
    ``part`` has to be called by all its processes, in the same order, and waits for the others.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """Of a batch of N×…, the rows that this process computes with: N / ``size`` of them, rounded up or down."""
        if self.size == 1:
            return batch
        return batch[self.rank * len(batch) // self.size : (self.rank + 1) * len(batch) // self.size]

    def device(self, requested: str) -> torch.device:
        """``choose_device``, but a GPU for each process of this machine.

        Raises ``CourseError`` where there are too few, and for a device that processes cannot share.
        """
        if self.size == 1:
            return choose_device(requested)
        name = choose_device("auto").type if requested == "auto" else requested
        if name not in ("cuda", "cpu"):
            raise CourseError(f"device = {requested!r} is not one for {self.size} processes; give cuda, of which each "
                              "takes a GPU of its own, or cpu.")  # fmt: skip
        here, count = int(os.environ.get("LOCAL_WORLD_SIZE", self.size)), torch.cuda.device_count()
        if name == "cpu" or count == 0:
            return choose_device(name)
        if here > count:
            raise CourseError(f"{here} processes need {here} GPUs, and this machine has {count}; start no more with "
                              "--nproc-per-node, or give cpu.")  # fmt: skip
        device = self.together(lambda: choose_device(f"cuda:{_local_rank(self.rank)}"))
        torch.cuda.set_device(device)
        return device

    # --- Numbers -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor], share: float) -> None:
        """Replace each tensor by its weighted mean over the processes, in place; ``share`` is this one's weight.

        Sent as one piece, which is faster than one by one. To the bit the same on all processes.
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
        """The sum over the processes, of the same shape and type."""
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
            whole = tensor.detach().contiguous()  # a copy of what lies in memory in another order
            dist.broadcast(whole, 0)
            tensor.copy_(whole)

    # --- Words -------------------------------------------------------------------------------------------------------

    def any(self, here: bool) -> bool:
        """Whether it holds on any process. By way of the processors, so that no GPU has to be waited for."""
        if self.size == 1:
            return here
        flag = torch.tensor([here], dtype=torch.uint8)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, on each of them. What can be pickled."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def together(self, function: Callable[[], T]) -> T:
        """``function()`` on every process. Where it fails on one, all raise the error, and none waits for another."""
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
            del error  # or it and this frame would hold on to each other, and to the memory of what failed
        return result  # type: ignore[return-value]

    def on_main(self, function: Callable[[], T]) -> T:
        """``function()`` on the main process alone: all get what it returns, which can be pickled, or its error."""
        if self.size == 1:
            return function()
        result = self.together(lambda: function() if self.is_main else None)
        found = [result]
        dist.broadcast_object_list(found, 0)
        return found[0]  # type: ignore[return-value]

    def main_first(self, function: Callable[[], T]) -> T:
        """``function()`` on one process of each machine, and then on the others, which find what it downloaded."""
        if self.size == 1:
            return function()
        first = _local_rank(self.rank) == 0
        result = self.together(lambda: function() if first else None)
        return self.together(lambda: function() if result is None else result)


ALONE = Group()


def join_group() -> Group:
    """The group that ``torchrun`` started this process in, or that of ``torch.distributed`` where a program has
    already joined one (with gloo for processors: ``init_process_group("cpu:gloo,cuda:nccl")``); else a group of one.
    """
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        if not dist.is_torchelastic_launched() or os.environ.get("WORLD_SIZE", "1") == "1":
            return ALONE
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Group(dist.get_rank(), dist.get_world_size())


def leave_group() -> None:
    """After the last run of a program. After an error, ``torchrun`` ends the processes, and nobody should wait here."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Mean and variance of each batch norm that is learning them."""
    norms = (layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm))
    learning = [layer for layer in norms if layer.training and layer.track_running_stats]
    found = [tensor for layer in learning for tensor in (layer.running_mean, layer.running_var)]
    return [tensor for tensor in found if tensor is not None]


def _local_rank(rank: int) -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", rank))
