"""Ways to make a step faster that a run has to ask for, because they pay only on some hardware, if at all.

They do not change what is computed. A GPU launches a kernel in some microseconds, however little there is to do, and
moves numbers more slowly than it calculates with them: each of these spares it one or the other. ``alexnet-course
bench`` measures a step with and without them. A third, ``epoch_at_once``, is in the loader.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


class HalfWeights:
    """``network``, but with the weights that autocast would cast, one by one, all cast to ``dtype`` at once.

    Those of convolutions and linear layers: batch norm's stay in float32, as under autocast. The network's own weights,
    with which the optimiser works, remain in float32, and so do their gradients.
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
    """A cast of many tensors to ``dtype``; on the way back, of all their gradients to the tensors' own."""

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
    """``F.max_pool2d`` through ``torch.compile``, which notes in one byte where in its window a maximum was.

    PyTorch's own notes in eight where in the map it was, beside values of two bytes.
    """

    def pool(*arguments: Any, **options: Any) -> Tensor:
        return F.max_pool2d(*arguments, **options)

    return torch.compile(pool)
