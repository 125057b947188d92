"""The optimiser and the learning rate's course, from a recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from alexnet_course.training.recipe import Recipe

Scheduler = torch.optim.lr_scheduler.LRScheduler


def make_optimiser(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """torch's own optimiser for all weights of ``model``. With ``decay = "weights"``, what is not a kernel or a matrix,
    that is biases and batch norm's scales and shifts, is not pulled towards 0."""
    decayed = [weight for weight in model.parameters() if recipe.decay == "all" or weight.dim() > 1]
    others = [weight for weight in model.parameters() if recipe.decay != "all" and weight.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    fused = device.type in ("cuda", "cpu")  # one kernel for all weights; also keeps fp16's overflow check on the device
    if recipe.optimiser == "sgd":
        sgd = torch.optim.SGD(groups, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=fused)
        if recipe.momentum:
            # Where fp16's scaler skips the first step, the fused kernel would leave this memory as it found it.
            for weight in model.parameters():
                sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        return sgd
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser]
    return kind(groups, recipe.lr, weight_decay=recipe.weight_decay, fused=fused)


def make_schedule(
    optimiser: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int
) -> tuple[Scheduler | None, Scheduler | None]:
    """torch's own schedulers: the one to step after every step, and the one to step after every epoch."""
    schedules = torch.optim.lr_scheduler
    if recipe.schedule == "one-cycle":
        total = recipe.epochs * steps_per_epoch
        return schedules.LambdaLR(optimiser, lambda step: one_cycle(step, total, recipe.warmup)), None
    if recipe.schedule == "step":
        return None, schedules.MultiStepLR(optimiser, list(recipe.lr_steps), recipe.lr_factor)
    if recipe.schedule == "plateau":
        lowest = recipe.lr * recipe.lr_factor**recipe.max_drops if recipe.max_drops else 0.0
        return None, schedules.ReduceLROnPlateau(optimiser, "max", recipe.lr_factor, recipe.patience, min_lr=lowest)
    return None, None


def one_cycle(step: int, total: int, warmup: float) -> float:
    """The share of the highest learning rate at ``step`` (from 0) of ``total``.

    A straight rise over the share ``warmup`` of all steps, then half a cosine down towards 0. Source: Smith 2018, with
    the cosine of Loshchilov and Hutter 2017.
    """
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise + 1) / (total - rise + 1))) / 2


def epochs_without_progress(accuracies: Sequence[float]) -> int:
    """How many epochs have gone by since the best validation accuracy, the first where several are the best.

    >>> from alexnet_course.training.schedule import epochs_without_progress
    >>> epochs_without_progress([0.5, 0.7, 0.6, 0.7])
    2
    """
    return len(accuracies) - 1 - accuracies.index(max(accuracies)) if accuracies else 0
