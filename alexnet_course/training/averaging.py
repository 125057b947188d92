"""A moving average of the weights, which is evaluated instead of them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from alexnet_course.training.hooks import Hook
from alexnet_course.training.trainer import Trainer

EVERY = 5  # steps between updates: like a step of the optimiser, an update reads and writes every weight


class WeightAverage(Hook):
    """Keep an exponential moving average of the weights, which is evaluated, and becomes the run's final weights.

    ``decay`` is the fraction of the average that each step keeps; it is smaller in the first steps, so that the initial
    weights are soon forgotten. Batch norm's running statistics are averaged like weights. Source: Polyak and Juditsky
    1992, in the form of Tan and Le 2019.
    """

    def __init__(self, trainer: Trainer, decay: float) -> None:
        self.decay = decay
        self.model = deepcopy(trainer.model)
        trainer.evaluated = self.model

    def on_epoch_start(self, trainer: Trainer) -> None:
        if trainer.steps_done == 0:  # includes changes that a user made to the initial weights
            self.model.load_state_dict(trainer.model.state_dict())

    @torch.no_grad()
    def on_step(self, trainer: Trainer) -> None:
        steps = trainer.steps_done
        every = min(EVERY, len(trainer.train_loader))  # or a run of fewer steps would keep its initial weights
        if steps % every:
            return
        decay = min(self.decay, (1 + steps) / (10 + steps)) ** every
        averages, weights = _tensors(self.model), _tensors(trainer.model)
        for average, weight in zip(averages, weights, strict=True):
            if not weight.is_floating_point():  # batch norm's count of batches
                average.copy_(weight)
        floats = [pair for pair in zip(averages, weights, strict=True) if pair[1].is_floating_point()]
        get_ema_multi_avg_fn(decay)([average for average, _ in floats], [weight for _, weight in floats], None)

    def on_end(self, trainer: Trainer) -> None:
        trainer.model.load_state_dict(self.model.state_dict())
        trainer.evaluated = trainer.model

    def state_dict(self) -> dict[str, Any]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
