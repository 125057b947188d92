"""The paper's split over two GPUs: one network, divided by channels, on two processes.

Each process has a *tower*: half of the kernels of every convolution and half of the neurons of every linear layer. A
convolution with two groups takes only the maps of its own tower. A convolution with one group (conv3) and the linear
layers take both, so the processes exchange activations before these layers and nowhere else (Krizhevsky et al. 2012,
sections 3.2 and 3.5), and once more at the end, since softmax needs all logits.

Local response normalisation sums over neighbouring channels, and at the border between the towers some neighbours are
in the other tower. To match the whole network without an exchange that the paper does not have, conv1 also computes
those few maps of the other tower, since both towers see the whole image; the neighbours that layer 2 lacks are sent
together with the input of conv3.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from alexnet_course.errors import CourseError
from alexnet_course.models.alexnet import AlexNet
from alexnet_course.models.network import Network
from alexnet_course.shapes import evaluating, layer_table
from alexnet_course.training.parallel import Group, join_group, leave_group

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


class Tower(nn.Module):
    """This process's half of ``whole``, an ``alexnet-2012``; ``group`` is the group of the two processes.

    ``whole`` has to be the same network on both; its weights are copied. The parameters of the tower have the same
    names as the whole network's, and half of its rows: process 0 has the first half, process 1 the second. Conv1 also
    holds the few kernels of the other tower that LRN needs; the gradients of kernels held twice are summed over the two
    processes, so that the copies stay equal.

    A step on both processes, with the same images and labels, is a step of the whole network, except for dropout, which
    each process draws for its own neurons: give the processes different seeds.

    Raises ``CourseError`` for a group that does not have two processes, and for a network without two towers.
    """

    def __init__(self, whole: Network, group: Group) -> None:
        super().__init__()
        if group.size != 2:
            raise CourseError(f"A network has 2 towers, and the number of processes here is {group.size}; start two "
                              "(torchrun --nproc-per-node 2).")  # fmt: skip
        check_towers(whole)
        self.group = group
        self.reach = _reach(whole)
        self.sent: dict[str, int] = {}
        """Values that this process sent per image in the last forward pass, by the layer that needed them."""
        conv1 = _weighted(whole)[0]
        half = len(conv1.weight) // 2
        first = _rows(conv1, slice(0, half + self.reach) if group.is_main else slice(half - self.reach, None))
        for parameter in first.parameters():
            parameter.register_hook(self._add_copies)
        self.features = nn.Sequential(first, *map(self._half, list(whole.features.children())[1:]))
        self.classifier = nn.Sequential(*map(self._half, whole.classifier.children()))

    def forward(self, images: Tensor) -> Tensor:
        """N×C×H×W images, the same on both processes, to N×num_classes logits: all of them, on both.

        For correct gradients, both processes have to compute the loss of these logits.
        """
        convolutions = [index for index, layer in enumerate(self.features) if isinstance(layer, nn.Conv2d)]
        one, two, *others = (self.features[a:b] for a, b in pairwise([*convolutions, len(self.features)]))

        x = self._layer_1(one, images)
        x = self._layer_2(two, x)  # conv2 takes its own tower's maps; the result has those of both, for conv3
        for block in others:  # conv4 and conv5 take their own tower's maps
            x = block(x)

        x = torch.flatten(x, 1)
        names = iter(LAYERS[5:])
        for layer in self.classifier:
            if isinstance(layer, nn.Linear):
                x = torch.cat(self._exchange(x, next(names)), 1)
            x = layer(x)
        # Both compute the loss from all logits, so each has the full gradient of its own, and none is sent back.
        self.sent["softmax"] = len(x[0])
        theirs = swap(x.detach())
        return torch.cat((x, theirs) if self.group.is_main else (theirs, x), 1)

    def _layer_1(self, layer: nn.Sequential, images: Tensor) -> Tensor:
        """This tower's maps, normalised and pooled; the other tower's were only needed as neighbours."""
        maps = layer(images)
        return maps[:, : len(maps[0]) - self.reach] if self.group.is_main else maps[:, self.reach :]

    def _layer_2(self, layer: nn.Sequential, x: Tensor) -> Tensor:
        """Conv2's maps of both towers, normalised and pooled: the input of conv3.

        Maps next to the border are sent unnormalised, together with their neighbours, and both processes normalise and
        pool them.
        """
        convolution, finish = layer[:2], layer[2:]
        maps, reach = convolution(x), self.reach
        if self.group.is_main:
            inner, border = finish(maps)[:, : len(maps[0]) - reach], maps[:, len(maps[0]) - 2 * reach :]
        else:
            inner, border = finish(maps)[:, reach:], maps[:, : 2 * reach]
        message = torch.cat([inner.flatten(1), border.flatten(1)], 1)
        parts = [part.split([inner[0].numel(), border[0].numel()], 1) for part in self._exchange(message, "conv3")]
        (left, left_border), (right, right_border) = parts
        borders = torch.cat([part.view(len(x), *border.shape[1:]) for part in (left_border, right_border)], 1)
        middle = finish(borders)[:, reach : 3 * reach] if reach else inner[:, :0]
        return torch.cat([left.view(inner.shape), middle, right.view(inner.shape)], 1)

    def _exchange(self, mine: Tensor, layer: str) -> tuple[Tensor, Tensor]:
        """The two towers' inputs for ``layer``, N×values each: the first tower's, then the second's."""
        self.sent[layer] = len(mine[0])
        return _Exchange.apply(mine, self.group.rank)

    def _half(self, layer: nn.Module) -> nn.Module:
        """This tower's half of a convolution or a linear layer; a copy of any other layer, which has no weights."""
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            return deepcopy(layer)
        half = len(layer.weight) // 2
        return _rows(layer, slice(0, half) if self.group.is_main else slice(half, None))

    def _add_copies(self, gradient: Tensor) -> Tensor:
        """The gradient of conv1's weights or biases, summed over the processes for kernels that both hold."""
        if not self.reach:
            return gradient
        held_twice = slice(-2 * self.reach, None) if self.group.is_main else slice(0, 2 * self.reach)
        gradient = gradient.clone()
        gradient[held_twice] = self.group.total(gradient[held_twice])
        return gradient


class _Exchange(torch.autograd.Function):
    """The inputs of both processes, in order. Both processes use both, so the gradient of an input is a sum of two."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        ctx.rank = rank
        theirs = swap(mine)
        return (theirs, mine.clone()) if rank else (mine.clone(), theirs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[ctx.rank] + swap(gradients[1 - ctx.rank]), None


def swap(mine: Tensor) -> Tensor:
    """Exchange tensors of the same shape with the other process, without gradients; waits for the other."""
    mine = mine.contiguous()
    both = [torch.empty_like(mine) for _ in range(2)]
    dist.all_gather(both, mine)
    return both[1 - dist.get_rank()]


def check_towers(whole: nn.Module) -> None:
    """Raise ``CourseError`` unless ``whole`` is an ``alexnet-2012`` that can be halved."""
    if isinstance(whole, AlexNet) and whole.avgpool is None:
        layers = _weighted(whole)
        groups = [layer.groups for layer in layers if isinstance(layer, nn.Conv2d)]
        if groups == [1, 2, 1, 2, 2] and not any(isinstance(layer, nn.BatchNorm2d) for layer in whole.modules()):
            for name, layer in zip(LAYERS, layers, strict=True):
                if len(layer.weight) % 2:
                    raise CourseError(f"{name} has {len(layer.weight)} neurons, which cannot be halved; give an even "
                                      "number of classes and of hidden units.")  # fmt: skip
            return
    name = getattr(whole, "name", type(whole).__name__)
    raise CourseError(f"{name} does not have two towers (conv2, conv4 and conv5 with two groups, no batch norm); give "
                      "an alexnet-2012.")  # fmt: skip


def values_sent(whole: Network, input_size: tuple[int, int, int] = (3, 227, 227)) -> dict[str, int]:
    """Values (not bytes) that each of two processes sends to the other per image, by the layer that needs them.

    For a two-tower AlexNet and images of ``input_size`` (C, H, W), computed from shapes only. A convolution with one
    group needs the other tower's maps, except conv1, whose input is the image; so does each linear layer, and softmax
    needs the logits. ``alexnet-2012`` has the paper's groups; ``alexnet-lrn``, which has none, would exchange before
    every layer. These are the values of the forward pass; the backward pass sends as many gradients, except for those
    of the logits.

    >>> import torch
    >>> from alexnet_course import build_model
    >>> from alexnet_course.training.towers import values_sent
    >>> with torch.device("meta"):  # shapes are enough
    ...     values_sent(build_model("alexnet-2012", num_classes=1000))
    {'conv3': 24210, 'fc6': 4608, 'fc7': 2048, 'fc8': 2048, 'softmax': 500}
    """
    rows = layer_table(whole, input_size)
    weighted = [index for index, row in enumerate(rows) if row.kind in ("Conv2d", "Linear")]
    sent: dict[str, int] = {}
    for name, layer, index in list(zip(LAYERS, _weighted(whole), weighted, strict=True))[1:]:
        if isinstance(layer, nn.Linear) or layer.groups == 1:
            sent[name] = prod(rows[index - 1].output_shape) // 2
    reach, pooled, unpooled = _reach(whole), rows[weighted[2] - 1].output_shape, rows[weighted[1]].output_shape
    # At the border, maps are sent before normalisation and pooling, with their neighbours.
    sent["conv3"] += 2 * reach * prod(unpooled[1:]) - reach * prod(pooled[1:])
    return {**sent, "softmax": rows[-1].output_shape[0] // 2}


@dataclass(frozen=True)
class TowerRun:
    """The result of one of the two processes of ``run_towers``."""

    logits: Tensor
    """N×num_classes, of the whole network."""
    parameters: int
    """Number of parameters of its tower."""
    sent: dict[str, int]
    """Values that it sent per image, by the layer that needed them."""


def run_towers(whole: Network, images: Tensor) -> list[TowerRun]:
    """Run ``whole``, split into its two towers, on ``images`` (N×C×H×W): one forward pass without dropout.

    Starts two processes on this machine's CPU (gloo), whatever device the network is on, and waits for them, which
    takes a few seconds, mostly to start Python. A program that calls it needs the usual
    ``if __name__ == "__main__":``. Raises ``CourseError`` for a network without towers, and for images that do not fit.
    """
    check_towers(whole)
    whole.check_input(images)
    return in_two_processes(_forward, (whole, images))


def in_two_processes(work: Callable[[Group, Any], Any], given: Any) -> list[Any]:
    """The results of ``work(group, given)`` in each of two gloo processes on this machine's CPU.

    ``work`` is imported by name, so it has to be defined in a module. ``given`` and the results must be picklable.
    """
    with TemporaryDirectory() as folder:
        # Through a file, since shared memory may be scarce (64 MB in a container) and the network has 244 MB.
        torch.save(given, Path(folder, "given.pt"))
        torch.multiprocessing.spawn(_start, (Path(folder), work), nprocs=2)
        return [torch.load(Path(folder, f"found-{rank}.pt"), weights_only=False) for rank in (0, 1)]


def _start(rank: int, folder: Path, work: Callable[[Group, Any], Any]) -> None:
    """The main function of process ``rank`` of two."""
    with Path(folder, f"log-{rank}.txt").open("w") as log:  # gloo prints a greeting, which would mix with other output
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    rendezvous = Path(folder, "rendezvous").as_uri()
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    try:
        given = torch.load(Path(folder, "given.pt"), map_location="cpu", weights_only=False, mmap=True)
        torch.save(work(join_group(), given), Path(folder, f"found-{rank}.pt"))
    finally:
        leave_group()


def _forward(group: Group, given: tuple[Network, Tensor]) -> TowerRun:
    whole, images = given
    tower = Tower(whole, group)
    with evaluating(tower), torch.no_grad():
        logits = tower(images)
    return TowerRun(logits, sum(parameter.numel() for parameter in tower.parameters()), tower.sent)


def _reach(whole: Network) -> int:
    """How many channels to each side local response normalisation sums over; 0 if there is none."""
    norm = next((layer for layer in whole.modules() if isinstance(layer, nn.LocalResponseNorm)), None)
    return norm.size // 2 if norm else 0


def _weighted(whole: Network) -> list[nn.Conv2d | nn.Linear]:
    """The convolutions and linear layers, in order."""
    return [layer for layer in whole.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def _rows(layer: nn.Conv2d | nn.Linear, rows: slice) -> nn.Conv2d | nn.Linear:
    """A separate layer that computes these output channels of ``layer``, which lie in one group."""
    part = deepcopy(layer)
    for name, parameter in layer.named_parameters():
        setattr(part, name, nn.Parameter(parameter.detach()[rows].clone()))
    if isinstance(part, nn.Conv2d):
        part.in_channels, part.groups, part.out_channels = part.in_channels // part.groups, 1, len(part.weight)
    else:
        part.out_features = len(part.weight)
    return part
