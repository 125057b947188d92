"""Statistics of a network's activations and gradients during training, layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from alexnet_course.errors import CourseError
from alexnet_course.models import layer_names
from alexnet_course.shapes import watching

MEASURES = ("mean", "std", "zeros", "dead", "gradient", "weight")


class LayerStatistics:
    """Statistics of every layer of ``model`` that is followed by a ReLU, recorded after each training step.

    >>> from alexnet_course import Recipe, train
    >>> from alexnet_course.training import LayerStatistics
    >>> run = train(Recipe(model="cnn4", epochs=1, batch_size=50, train_size=100, validation_size=50))
    >>> with LayerStatistics(run.model) as statistics:
    ...     run.on_step = statistics.note
    ...     epochs = list(run)
    >>> statistics["std"].shape  # one row per step, one column per layer
    torch.Size([2, 3])

    The columns are called ``names``, which are those of ``layer_names``: conv1, …, conv5, fc6, … The measures are

    - ``mean`` and ``std`` of the ReLU's input. ``std`` is the root of each channel's variance over images and pixels,
      averaged over channels, so that constant channels with different values do not add to it;
    - ``zeros``: the fraction of the ReLU's input that is not positive, so that its output is 0;
    - ``dead``: the fraction of channels (units of a linear layer) whose ReLU outputs 0 everywhere in the batch, so that
      they pass on no signal and learn nothing from it;
    - ``gradient`` and ``weight``: the L2 norms of the loss's gradient with respect to the layer's weights, and of the
      weights; nan if there is no gradient. In fp16, the gradient in a step that is skipped is that of the scaled loss.

    If batch norm lies between the layer and its ReLU, the first four are for batch norm's output. With ``every``, only
    every that many steps are recorded, starting with the first. The run is bit-identical to one without statistics, and
    nothing is read back from the device until you ask for it. The statistics come from PyTorch hooks on the layers,
    which also cover the trainer's other view of the network (see ``pool_first``) and exist only inside the ``with``.
    """

    def __init__(self, model: nn.Module, every: int = 1) -> None:
        if every < 1:
            raise CourseError(f"every = {every} is not a number of steps; give 1 to record each of them.")
        self.layers = rectified_layers(model)
        if not self.layers:
            raise CourseError(f"{type(model).__name__} has no layer followed by a ReLU; give a network that has one.")
        self.names = list(self.layers)
        self.every = every
        self.steps: list[int] = []
        """The recorded steps, counted from 1."""
        self._step = 0
        self._forward: dict[str, Tensor] = {}  # of the current step
        self._rows: list[Tensor] = []  # on the device: measures × layers

    def __enter__(self) -> LayerStatistics:
        self._watching = watching({name: last for name, (_, last) in self.layers.items()}, self._look)
        self._watching.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._watching.__exit__(*error)

    def _look(self, name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        # Computed now, since an in-place ReLU will overwrite the output. Evaluation runs without gradients.
        if torch.is_grad_enabled() and self._step % self.every == 0:
            self._forward[name] = activation_figures(output.detach())

    def note(self) -> None:
        """Record the statistics of the step just taken. Use it as ``on_step`` of a run."""
        if self._step % self.every == 0:
            missing = [name for name in self.names if name not in self._forward]
            if missing:
                raise CourseError(f"No step has passed {missing[0]} since the last call; train inside the with, and "
                                  "call note once per step.")  # fmt: skip
            norms = [weight_norms(layer) for layer, _ in self.layers.values()]
            forward = torch.stack([self._forward[name] for name in self.names])
            self._rows.append(torch.cat([forward, torch.stack(norms)], dim=1).t())
            self.steps.append(self._step + 1)
            self._forward = {}
        self._step += 1

    def __getitem__(self, measure: str) -> Tensor:
        """Steps × layers, float32, on the CPU. ``CourseError`` for an unknown measure."""
        if measure not in MEASURES:
            raise CourseError(f"{measure!r} is not measured; ask for one of {', '.join(MEASURES)}.")
        if not self._rows:
            raise CourseError("No step has been recorded; train inside the with, with note as the run's on_step.")
        return torch.stack(self._rows)[:, MEASURES.index(measure)].cpu()


def rectified_layers(model: nn.Module) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Every layer with weights that is followed by a ReLU: its name → the layer, and the last one before the ReLU.

    The last one is the layer itself or the batch norm after it. The names are those of ``layer_names``.
    """
    found: dict[str, tuple[nn.Module, nn.Module]] = {}
    weighted = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    names: dict[nn.Module, str] = dict(zip(weighted, layer_names(weighted), strict=True))
    open_layers: list[nn.Module] = []  # layers since the last ReLU: one with weights, and its normalisation
    for module in model.modules():
        if module in names:
            open_layers = [module]
        elif isinstance(module, nn.BatchNorm2d) and open_layers:
            open_layers.append(module)
        elif isinstance(module, nn.ReLU) and open_layers:
            found[names[open_layers[0]]] = open_layers[0], open_layers[-1]
            open_layers = []
    return found


def activation_figures(x: Tensor) -> Tensor:
    """Mean, standard deviation, fraction of zeros after ReLU and of dead channels, for N×C or N×C×H×W values."""
    channels = x.float().transpose(0, 1).flatten(1)
    positive = channels > 0
    zeros, dead = 1 - positive.float().mean(), 1 - positive.any(1).float().mean()
    return torch.stack([channels.mean(), channels.var(1, correction=0).mean().sqrt(), zeros, dead])


def weight_norms(layer: nn.Module) -> Tensor:
    """The norms of the layer's gradient and of its weights."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    gradient = weight.new_tensor(float("nan")) if weight.grad is None else weight.grad.float().norm()
    return torch.stack([gradient, weight.detach().float().norm()])
