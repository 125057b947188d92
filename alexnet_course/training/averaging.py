"""A moving average of the weights, which is evaluated in their place."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from alexnet_course.training.hooks import Hook
from alexnet_course.training.trainer import Trainer

EVERY = 5  # steps from one update to the next: an update reads and writes every weight, as a step of the optimiser does


class WeightAverage(Hook):
    """Keep an exponential moving average of the weights, and let it be what is evaluated and what the run ends with.

    ``decay`` is the share of the average so far that a step leaves; the first steps leave less, so that the first
    weights are soon forgotten. Batch norm's running statistics are averaged like weights. Source: Polyak and Juditsky
    1992, in the form of Tan and Le 2019.
    """

    def __init__(self, trainer: Trainer, decay: float) -> None:
        self.decay = decay
        self.model = deepcopy(trainer.model)
        trainer.evaluated = self.model

    def on_epoch_start(self, trainer: Trainer) -> None:
        if trainer.steps_done == 0:  # whatever somebody has done to the first weights
            self.model.load_state_dict(trainer.model.state_dict())

    @torch.no_grad()
    def on_step(self, trainer: Trainer) -> None:
        steps = trainer.steps_done
        if steps % EVERY:
            return
        decay = min(self.decay, (1 + steps) / (10 + steps)) ** EVERY
        averages, weights = _tensors(self.model), _tensors(trainer.model)
        for average, weight in zip(averages, weights, strict=True):
            if not weight.is_floating_point():  # batch norm counts its batches
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
