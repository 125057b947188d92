"""Optional speed-ups of a training step, which help only on some hardware.

They do not change what is computed. A GPU takes a few microseconds to launch even the smallest kernel, and moves data
more slowly than it computes: each of these saves launches or memory traffic. ``alexnet-course bench`` measures a step
with and without them. A third, ``epoch_at_once``, is in the loader.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


class HalfWeights:
    """``network``, but with the weights that autocast would cast one by one all cast to ``dtype`` at once.

    These are the weights of convolutions and linear layers; batch norm's stay in float32, as under autocast. The
    network's own weights, which the optimiser updates, and their gradients remain in float32.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.network, self.dtype = network, dtype
        cast = {
            weight
            for layer in network.modules()
            if isinstance(layer, (nn.Linear, nn.Conv2d))
            for weight in layer.parameters(recurse=False)
        }
        self.weights = {name: weight for name, weight in network.named_parameters() if weight in cast}

    def __call__(self, images: Tensor) -> Any:
        if not self.weights:
            return self.network(images)
        copies = _AtOnce.apply(self.dtype, *self.weights.values())
        return functional_call(self.network, dict(zip(self.weights, copies, strict=True)), (images,))


class _AtOnce(torch.autograd.Function):
    """Cast many tensors to ``dtype``; in the backward pass, cast their gradients back to the tensors' own dtypes."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.dtypes = [weight.dtype for weight in weights]
        copies = [torch.empty_like(weight, dtype=dtype) for weight in weights]
        torch._foreach_copy_(copies, list(weights))
        frozen = [copy for copy, wanted in zip(copies, ctx.needs_input_grad[1:], strict=True) if not wanted]
        ctx.mark_non_differentiable(*frozen)
        ctx.set_materialize_grads(False)  # a weight that the network did not use has no gradient
        return tuple(copies)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        results: list[Tensor | None] = [None] * len(gradients)
        sources, targets = [], []
        for place, (gradient, dtype) in enumerate(zip(gradients, ctx.dtypes, strict=True)):
            if gradient is not None:
                sources.append(gradient)
                targets.append(torch.empty_like(gradient, dtype=dtype))
                results[place] = targets[-1]
        torch._foreach_copy_(targets, sources)
        return None, *results


def compiled_pool() -> Any:
    """``F.max_pool2d`` through ``torch.compile``, which stores a maximum's position in its window in one byte.

    PyTorch's own max pooling stores its position in the map in eight bytes, next to values of two bytes.
    """

    def pool(*arguments: Any, **options: Any) -> Tensor:
        return F.max_pool2d(*arguments, **options)

    return torch.compile(pool)
