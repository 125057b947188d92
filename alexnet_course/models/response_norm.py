"""Local response normalisation where PyTorch's own does not repeat, overflows or is missing: on GPUs and in fp16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class LocalResponseNorm(nn.LocalResponseNorm):
    """PyTorch's layer; PyTorch's function on the CPU, ``response_norm`` elsewhere and in fp16."""

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type == "cpu" and input.dtype != torch.float16:
            return super().forward(input)
        return response_norm(input, self.size, self.alpha, self.beta, self.k)


def response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """``F.local_response_norm`` of N×C×… values: x / (k + α/size Σ x²)^β, over ``size`` neighbouring channels.

    PyTorch finds Σ with ``avg_pool3d``. On CUDA its backward is on the list of ``torch.use_deterministic_algorithms``
    of those that raise, and Apple's GPUs have had it only since PyTorch 2.9. Here and in the gradient there are only
    additions, products and powers of single values, in an order that is always the same; none is on that list.

    Squares, sums and powers are at least fp32, because fp16 overflows at the square of 256; the result has the type
    of ``x``.
    """
    result: Tensor = _ResponseNorm.apply(x, size, alpha / size, beta, k)
    return result


class _ResponseNorm(torch.autograd.Function):
    """y = x d^-β with d = k + share Σ x², whose gradient is g d^-β - 2 β share x Σ' (g x d^-(β+1)).

    Σ' runs over the channels whose Σ includes this one. Only x is stored; the backward pass recomputes d.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, share: float, beta: float, k: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.constants = size, share, beta, k
        wide = _wide(x)
        return (wide * _denominator(wide, size, share, k).pow_(-beta)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        size, share, beta, k = ctx.constants
        wide = _wide(x)
        denominator = _denominator(wide, size, share, k)
        direct = denominator.pow(-beta).mul_(gradient)
        shared = _sum_over_channels((wide * direct).div_(denominator), before=(size - 1) // 2, after=size // 2)
        return direct.addcmul_(wide, shared, value=-2 * beta * share).to(x.dtype), None, None, None, None


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _denominator(wide: Tensor, size: int, share: float, k: float) -> Tensor:
    """With an even ``size``, PyTorch takes one channel more before the middle than after it."""
    return _sum_over_channels(wide * wide, before=size // 2, after=(size - 1) // 2).mul_(share).add_(k)


def _sum_over_channels(values: Tensor, before: int, after: int) -> Tensor:
    """For each channel, the sum over itself, ``before`` channels before it and ``after`` after it, where they exist."""
    total = values.clone()
    for distance in range(1, before + 1):
        total[:, distance:] += values[:, :-distance]
    for distance in range(1, after + 1):
        total[:, :-distance] += values[:, distance:]
    return total
