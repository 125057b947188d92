"""Optimisers and schedules by name. To add one, add an entry here; recipes can then name it.

Recipes need only the names, so PyTorch is imported inside the functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim.lr_scheduler import LRScheduler as Scheduler


class Settings(Protocol):
    """The fields of a recipe that are used here; see ``Recipe``."""

    @property
    def optimiser(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def body_lr(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def decay(self) -> str: ...
    @property
    def schedule(self) -> str: ...
    @property
    def epochs(self) -> int: ...
    @property
    def warmup(self) -> float: ...
    @property
    def lr_steps(self) -> tuple[int, ...]: ...
    @property
    def lr_factor(self) -> float: ...
    @property
    def patience(self) -> int: ...
    @property
    def max_drops(self) -> int: ...
    @property
    def keep_dropping(self) -> bool: ...
    @property
    def equal_is_better(self) -> bool: ...
    @property
    def stop_after(self) -> int: ...
    @property
    def stop_at(self) -> float: ...
    @property
    def drop_restarts(self) -> bool: ...


@dataclass(frozen=True)
class OptimiserSpec:
    """An optimiser: ``make(groups, recipe, fused)`` builds it for parameter groups, as in ``torch.optim``.

    A ``fused`` optimiser updates all weights in one kernel, which skips the update if ``optimiser.found_inf`` is 1
    without synchronising with the CPU. For an optimiser that cannot be fused, the trainer checks before each step.
    ``can_be_recorded``: as a part of a CUDA graph.
    """

    make: Callable[[list[dict[str, Any]], Settings, bool], torch.optim.Optimizer]
    can_be_fused: bool = True
    can_be_recorded: bool = True

    def heeds_found_inf(self, device: torch.device) -> bool:
        return self.can_be_fused and device.type in ("cuda", "cpu")


def _sgd(groups: list[dict[str, Any]], recipe: Settings, fused: bool) -> torch.optim.Optimizer:
    import torch

    sgd = torch.optim.SGD(groups, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=fused)
    if recipe.momentum:
        # If fp16's scaler skips the first step, the fused kernel would leave this buffer uninitialised.
        for weight in (weight for group in groups for weight in group["params"]):
            sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return sgd


def _adam(groups: list[dict[str, Any]], recipe: Settings, fused: bool) -> torch.optim.Optimizer:
    import torch

    return torch.optim.Adam(groups, recipe.lr, weight_decay=recipe.weight_decay, fused=fused)


def _adamw(groups: list[dict[str, Any]], recipe: Settings, fused: bool) -> torch.optim.Optimizer:
    import torch

    return torch.optim.AdamW(groups, recipe.lr, weight_decay=recipe.weight_decay, fused=fused)


def _muon(groups: list[dict[str, Any]], recipe: Settings, fused: bool) -> torch.optim.Optimizer:
    from alexnet_course.muon import MuonWithAdamW

    return MuonWithAdamW(groups, recipe.lr, recipe.weight_decay, recipe.momentum)


OPTIMISERS = {
    "sgd": OptimiserSpec(_sgd),
    "adam": OptimiserSpec(_adam),
    "adamw": OptimiserSpec(_adamw),
    "muon": OptimiserSpec(_muon, can_be_recorded=False),
}


def make_optimiser(
    model: nn.Module, recipe: Settings, device: torch.device, body: Collection[str] = ()
) -> torch.optim.Optimizer:
    """The recipe's optimiser for all weights of ``model``.

    With ``decay = "weights"``, biases and the scales and shifts of batch norm have no weight decay. The parameters
    named in ``body`` have ``body_lr`` times the learning rate of the others, the head. The head's groups come first, so
    the history records their learning rate.
    """
    groups: list[dict[str, Any]] = []
    for part, factor in ((False, 1.0), (True, recipe.body_lr)):
        weights = [weight for name, weight in model.named_parameters() if (name in body) == part]
        decayed = [weight for weight in weights if recipe.decay == "all" or weight.dim() > 1]
        others = [weight for weight in weights if recipe.decay != "all" and weight.dim() <= 1]
        rate = {} if factor == 1 else {"lr": recipe.lr * factor}
        groups += [{"params": decayed, **rate}] if decayed else []
        groups += [{"params": others, "weight_decay": 0.0, **rate}] if others else []
    spec = OPTIMISERS[recipe.optimiser]
    return spec.make(groups, recipe, spec.heeds_found_inf(device))


# The scheduler to step after every optimiser step, and the one to step after every epoch.
Schedulers: TypeAlias = "tuple[Scheduler | None, Scheduler | None]"


def _constant(optimiser: torch.optim.Optimizer, recipe: Settings, steps_per_epoch: int) -> Schedulers:
    return None, None


def _step(optimiser: torch.optim.Optimizer, recipe: Settings, steps_per_epoch: int) -> Schedulers:
    from torch.optim import lr_scheduler

    return None, lr_scheduler.MultiStepLR(optimiser, list(recipe.lr_steps), recipe.lr_factor)


def _plateau(optimiser: torch.optim.Optimizer, recipe: Settings, steps_per_epoch: int) -> Schedulers:
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    class Plateau(ReduceLROnPlateau):
        def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
            before = self.optimizer.param_groups[0]["lr"]
            super().step(metrics)
            if recipe.keep_dropping and self.optimizer.param_groups[0]["lr"] < before:
                self.num_bad_epochs = self.patience  # instead of 0, so that the next one is too many again

    share = recipe.lr_factor**recipe.max_drops if recipe.max_drops else 0.0
    lowest = [group["lr"] * share for group in optimiser.param_groups]
    # By how much an accuracy has to be better: by anything, as where weights are kept and runs stopped.
    margin = -1e-9 if recipe.equal_is_better else 0.0
    return None, Plateau(
        optimiser, "max", recipe.lr_factor, recipe.patience, margin, threshold_mode="abs", min_lr=lowest
    )


def _one_cycle(optimiser: torch.optim.Optimizer, recipe: Settings, steps_per_epoch: int) -> Schedulers:
    from torch.optim import lr_scheduler

    total = recipe.epochs * steps_per_epoch
    return lr_scheduler.LambdaLR(optimiser, lambda step: one_cycle(step, total, recipe.warmup)), None


SCHEDULES = {"constant": _constant, "step": _step, "plateau": _plateau, "one-cycle": _one_cycle}


def make_schedule(optimiser: torch.optim.Optimizer, recipe: Settings, steps_per_epoch: int) -> Schedulers:
    """PyTorch schedulers: the one to step after every optimiser step, and the one to step after every epoch."""
    return SCHEDULES[recipe.schedule](optimiser, recipe, steps_per_epoch)


def one_cycle(step: int, total: int, warmup: float) -> float:
    """The learning rate at ``step`` (from 0) of ``total``, as a fraction of the maximum.

    A linear warm-up over the fraction ``warmup`` of all steps, then half a cosine down towards 0. Source: Smith 2018,
    with the cosine of Loshchilov and Hutter 2017.
    """
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise + 1) / (total - rise + 1))) / 2


def epochs_without_progress(
    accuracies: Sequence[float], rates: Sequence[float] = (), *, equal_is_better: bool = False
) -> int:
    """The number of epochs since the best validation accuracy, counted from the first of equal ones.

    With ``equal_is_better``, from the last of them. With ``rates``, the learning rates of these epochs and of the next
    one, the count begins anew whenever the rate falls, as in S3's second version.

    >>> from alexnet_course.optim import epochs_without_progress
    >>> epochs_without_progress([0.5, 0.7, 0.6, 0.7])
    2
    >>> epochs_without_progress([0.5, 0.7, 0.6, 0.6, 0.6], [0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
    2
    """
    if not accuracies:
        return 0
    best = [epoch for epoch, accuracy in enumerate(accuracies) if accuracy == max(accuracies)]
    begins = [best[-1] if equal_is_better else best[0]]
    begins += [epoch for epoch, (rate, following) in enumerate(pairwise(rates)) if following < rate]
    return len(accuracies) - 1 - max(begins)


def ends_early(recipe: Settings, history: Sequence[Mapping[str, Any]], next_rate: float | None = None) -> bool:
    """Whether ``stop_after`` or ``stop_at`` ends a run with this history, whose next learning rate is ``next_rate``.

    An entry of the history has the keys of ``EpochResult``.
    """
    if not history:
        return False
    rates = [entry["lr"] for entry in history] if recipe.drop_restarts else []
    if rates and next_rate is not None:
        rates.append(next_rate)
    accuracies = [entry["val_accuracy"] for entry in history]
    without = epochs_without_progress(accuracies, rates, equal_is_better=recipe.equal_is_better)
    return 0 < recipe.stop_after <= without or 0 < recipe.stop_at <= history[-1]["train_accuracy"]
