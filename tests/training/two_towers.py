"""What ``test_towers.py`` lets each of two processes do: a step of training, forward and back."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alexnet_course.training.parallel import Group
from alexnet_course.training.towers import Tower

LABELS = torch.tensor([1, 7])


def step(network: nn.Module, images: Tensor) -> dict[str, Any]:
    """Logits of ``images``, and the gradient of every parameter."""
    logits = network(images)
    nn.functional.cross_entropy(logits, LABELS).backward()
    return {"logits": logits.detach(), "gradients": {name: p.grad for name, p in network.named_parameters()}}


def in_tower(group: Group, given: tuple[list[nn.Module], Tensor]) -> list[dict[str, Any]]:
    """A step with each of the networks, and how many values all messages of it hold, forward and back."""
    networks, images = given
    messages: list[int] = []
    gather, add = dist.all_gather, dist.all_reduce

    def counted_gather(both: list[Tensor], mine: Tensor) -> None:
        messages.append(mine.numel())
        gather(both, mine)

    def counted_add(tensor: Tensor) -> None:
        messages.append(tensor.numel())
        add(tensor)

    dist.all_gather, dist.all_reduce = counted_gather, counted_add
    found = []
    for whole in networks:
        messages.clear()
        tower = Tower(whole, group)
        found.append({**step(tower, images), "sent": tower.sent, "messages": list(messages)})
    return found
