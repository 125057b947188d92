"""What happens inside a network while it trains: figures of its activations and gradients, layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from alexnet_course.errors import CourseError
from alexnet_course.models import layer_names
from alexnet_course.shapes import watching

MEASURES = ("mean", "std", "zeros", "dead", "gradient", "weight")


class LayerStatistics:
    """Figures of every layer of ``model`` that a ReLU follows, noted after each step of its training.

    >>> from alexnet_course import Recipe, train
    >>> from alexnet_course.training import LayerStatistics
    >>> run = train(Recipe(model="cnn4", epochs=1, batch_size=50, train_size=100, validation_size=50))
    >>> with LayerStatistics(run.model) as statistics:
    ...     run.on_step = statistics.note
    ...     epochs = list(run)
    >>> statistics["std"].shape  # one row a step, one column a layer
    torch.Size([2, 3])

    The columns are called ``names``, which are those of ``layer_names``: conv1, …, conv5, fc6, … The measures are

    - ``mean`` of what goes into the ReLU, and ``std``, the root of its mean variance: the variance over images and
      pixels, the mean over channels, so that channels that differ from each other and say nothing do not count;
    - ``zeros``: the share of it that is not positive, so that the ReLU makes it 0;
    - ``dead``: the share of channels (units of a linear layer) that the ReLU makes 0 everywhere in the batch, so that
      they neither say nor learn anything from it;
    - ``gradient`` and ``weight``: the L2 norms of the layer's weights and of the loss's gradient with respect to them;
      nan where there is none. In fp16 the gradient is that of the scaled loss.

    Where batch norm stands between the layer and its ReLU, the first four are those of batch norm's output. ``every``
    notes only every so many steps, from the first on. Nothing is changed, and nothing is read back from the device
    before you ask: the run is to the bit the same as without. Hooks on the layers do it, so the trainer's other view of
    the network (see ``pool_first``) is watched as well; they are there inside the ``with`` only.
    """

    def __init__(self, model: nn.Module, every: int = 1) -> None:
        if every < 1:
            raise CourseError(f"every = {every} is not a number of steps; give 1 to note each of them.")
        self.layers = rectified_layers(model)
        if not self.layers:
            raise CourseError(f"{type(model).__name__} has no layer that a ReLU follows; give a network that has one.")
        self.names = list(self.layers)
        self.every = every
        self.steps: list[int] = []
        """The steps that were noted, counted from 1."""
        self._step = 0
        self._forward: dict[str, Tensor] = {}  # of the step under way
        self._rows: list[Tensor] = []  # on the device: measures × layers

    def __enter__(self) -> LayerStatistics:
        self._watching = watching({name: last for name, (_, last) in self.layers.items()}, self._look)
        self._watching.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._watching.__exit__(*error)

    def _look(self, name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        # Now, since an in-place ReLU is about to overwrite the output. Evaluation runs without gradients.
        if torch.is_grad_enabled() and self._step % self.every == 0:
            self._forward[name] = activation_figures(output.detach())

    def note(self) -> None:
        """Keep the figures of the step that has just been taken. Made to be ``on_step`` of a run."""
        if self._step % self.every == 0:
            missing = [name for name in self.names if name not in self._forward]
            if missing:
                raise CourseError(f"No step has passed {missing[0]} since the one before; train inside the with, and "
                                  "call note once a step.")  # fmt: skip
            norms = [weight_norms(layer) for layer, _ in self.layers.values()]
            forward = torch.stack([self._forward[name] for name in self.names])
            self._rows.append(torch.cat([forward, torch.stack(norms)], dim=1).t())
            self.steps.append(self._step + 1)
            self._forward = {}
        self._step += 1

    def __getitem__(self, measure: str) -> Tensor:
        """Steps × layers, float32, on the processor. ``CourseError`` for what is not measured."""
        if measure not in MEASURES:
            raise CourseError(f"{measure!r} is not measured; ask for one of {', '.join(MEASURES)}.")
        if not self._rows:
            raise CourseError("No step has been noted; train inside the with, with note as the run's on_step.")
        return torch.stack(self._rows)[:, MEASURES.index(measure)].cpu()


def rectified_layers(model: nn.Module) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Every layer with weights that a ReLU follows: its name → the layer, and the last one in front of the ReLU.

    The last one is the layer itself or the batch norm behind it. The names are those of ``layer_names``.
    """
    found: dict[str, tuple[nn.Module, nn.Module]] = {}
    weighted = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    names: dict[nn.Module, str] = dict(zip(weighted, layer_names(weighted), strict=True))
    open_layers: list[nn.Module] = []  # those since the last ReLU: one with weights, and what normalises it
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
    """Mean, standard deviation, share of zeros after ReLU and share of dead channels of N×C or N×C×H×W values."""
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
