"""Faster implementations of some functions in a training step; the results are the same up to rounding.

PyTorch's functions cover every case. Training on small images needs only a few cases, and for those each function here
was measured to be faster (``alexnet-course bench`` measures a step with and without them).
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from alexnet_course.errors import CourseError
from alexnet_course.models.response_norm import response_norm
from alexnet_course.training.speedups import compiled_pool

SMALL_MAP = 64  # pixels of a feature map (8×8), up to which the weight gradient is faster as one matrix product
TINY_MAP = 16  # pixels (4×4), up to which the convolution and its input gradient are, too
PATCHES_OF = 64  # images at a time, so that their patches fit in the cache
LARGE_PAGES = 4 * 2**30  # bytes; a step on a batch of 1,024 has about one gigabyte
VALUES = 2**18  # at a time in response normalisation, so that they fit in the cache


class FasterFunctions(TorchFunctionMode):
    """Inside ``with FasterFunctions(device, precision):`` a network runs with the functions of this file.

    The network itself is unchanged: PyTorch passes each function call to the mode, which replaces the functions below
    and forwards all others.

    - Dropout on a CPU draws 16 random bits per value, where PyTorch draws 64 and one value at a time.
    - Adaptive pooling that enlarges a map by an integer factor repeats values. It is replaced by ``F.interpolate``,
      whose gradient is faster, and deterministic on a GPU.
    - Local response normalisation in bf16 on a CPU sums over neighbouring channels by a matrix product; on a GPU, and
      in fp16, the package's layer replaces PyTorch's.
    - Convolutions in bf16 on a CPU compute the gradients of bias and weights as matrix products, and on the smallest
      maps the forward pass too; linear layers compute their gradients as products of matrices in the memory layout that
      suits the matrix unit.
    - A max pool, with ``compiled_pools``, is ``compiled_pool``.
    """

    def __init__(self, device: torch.device, precision: str, compiled_pools: bool = False) -> None:
        super().__init__()
        self.replacements: dict[Callable[..., Any], Callable[..., Any]] = {
            F.adaptive_avg_pool2d: repeat_or_pool(F.adaptive_avg_pool2d, device),
            F.adaptive_max_pool2d: repeat_or_pool(F.adaptive_max_pool2d, device),
        }
        if device.type == "cpu":
            self.replacements[F.dropout] = dropout
            if precision == "bf16":
                self.replacements[torch.conv2d] = conv2d
                self.replacements[F.linear] = linear
                self.replacements[F.local_response_norm] = local_response_norm
        if device.type != "cpu" or precision == "fp16":
            self.replacements[F.local_response_norm] = response_norm
        if compiled_pools:
            self.replacements[F.max_pool2d] = compiled_pool()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # Our functions take the first argument by position, as PyTorch's layers pass it.
        return (self.replacements.get(func, func) if args else func)(*args, **(kwargs or {}))


def right_functions(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """For evaluation: ``FasterFunctions`` if PyTorch's own overflow (LRN in fp16) or are wrong (pooling on Apple's
    GPUs); PyTorch's own on a CPU."""
    return nullcontext() if device.type == "cpu" and precision != "fp16" else FasterFunctions(device, precision)


def pool_first(model: nn.Module) -> nn.Module:
    """``model``, with the same layers, but with each max pooling before its ReLU: faster, with bit-identical results.

    ReLU and maximum can be exchanged: ReLU(max(x)) = max(ReLU(x)). ``model`` is not changed. Only for a ``Network``,
    whose layers run in sequence; other modules may call single layers of an ``nn.Sequential``.
    """
    view = copy(model)
    view._modules = dict(model._modules)
    for name, child in model.named_children():
        if type(child) is nn.Sequential:  # a subclass may override forward
            layers = list(child)
            for index in range(len(layers) - 1):
                if isinstance(layers[index], nn.ReLU) and isinstance(layers[index + 1], nn.MaxPool2d):
                    layers[index], layers[index + 1] = layers[index + 1], layers[index]
            view._modules[name] = nn.Sequential(*layers)
    return view


def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """``F.dropout``; ``p`` is rounded to a multiple of 1/65536."""
    dropped = round(65536 * p)
    if not training or not 0 < dropped < 65536:
        return F.dropout(x, p, training, inplace)
    count = x.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)  # all 64 bits
    draws = words.view(torch.int16)[:count].view(x.shape)
    kept = (draws >= dropped - 32768).to(x.dtype)
    return x * kept.mul_(65536 / (65536 - dropped))


def repeat_or_pool(pool: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """``pool``, but implemented by repetition if the output size is an integer multiple of the input size."""

    def pooled(x: Tensor, output_size: Any, *rest: Any, **options: Any) -> Any:
        size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        plain = x.dim() == 4 and not any(rest) and not any(options.values()) and None not in size
        if plain and all(wanted % side == 0 for wanted, side in zip(size, x.shape[2:], strict=True)):
            return F.interpolate(x, size=size, mode="nearest")
        if (
            device.type == "mps"
            and plain
            and any(side % wanted for wanted, side in zip(size, x.shape[2:], strict=True))
        ):
            # PyTorch's issue 190064: silently wrong values.
            raise CourseError(f"Apple's GPUs cannot pool {tuple(x.shape[2:])} to {size} in every version of PyTorch; "
                              "train on the CPU, or choose an image size whose map is a multiple.")  # fmt: skip
        if device.type == "cuda" and x.requires_grad and torch.are_deterministic_algorithms_enabled():
            raise CourseError(f"PyTorch cannot pool maps of {tuple(x.shape[-2:])} to {size} deterministically on a "
                              "GPU; leave deterministic out, or choose an image size whose map has that size, or "
                              "divides it.")  # fmt: skip
        return pool(x, output_size, *rest, **options)

    return pooled


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.conv2d`` in bf16, with the faster gradients if they apply and are needed."""
    plain = stride in (1, (1, 1)) and dilation in (1, (1, 1)) and groups == 1 and not isinstance(padding, str)
    if not plain or bias is None or x.dim() != 4 or not torch.is_grad_enabled():
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    padding = (padding, padding) if isinstance(padding, int) else tuple(padding)
    half = torch.bfloat16  # cast here, because autocast does not reach into a custom function
    result: Tensor = _Convolution.apply(x.to(half), weight.to(half), bias.to(half), padding)
    return result


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` in bf16, with the faster gradients if they apply and are needed."""
    if bias is None or x.dim() != 2 or not torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    half = torch.bfloat16
    result: Tensor = _Linear.apply(x.to(half), weight.to(half), bias.to(half))
    return result


def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """``F.local_response_norm`` of images in bf16; squares and their sums are rounded to bf16, k + α Σ is not."""
    if x.dim() != 4 or x.numel() == 0:
        return F.local_response_norm(x, size, alpha, beta, k)
    result: Tensor = _ResponseNorm.apply(x.to(torch.bfloat16), size, alpha, beta, k)
    return result


class _ResponseNorm(torch.autograd.Function):
    """Local response normalisation by pixel: a row of the pixel's channels, times a band matrix of ones.

    y = x d^-β with d = k + (α/size) x² B, so that its gradient is g d^-β - 2 (αβ/size) x ((g x d^-(β+1)) Bᵀ).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.constants = _band(x, size), alpha / size, beta, k
        result = torch.empty_like(x, memory_format=torch.channels_last)
        for some, target in zip(_pieces(x), _pieces(result), strict=True):
            target.copy_(some.float().mul_(_power(_denominator(some, *ctx.constants), beta)))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        band, share, beta, _ = ctx.constants
        result = torch.empty_like(x, memory_format=torch.channels_last)
        for some, their_gradient, target in zip(_pieces(x), _pieces(gradient), _pieces(result), strict=True):
            # Types are cast in steps of their own: an operation on mixed types takes several times as long.
            wide, denominator = some.float(), _denominator(some, *ctx.constants)
            direct = _power(denominator, beta).mul_(their_gradient.float())
            shared = (wide * direct).div_(denominator).to(some.dtype) @ band.t()
            target.copy_(direct.addcmul_(wide, shared.float(), value=-2 * share * beta))
        return result, None, None, None, None


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    """The rows of N×C×H×W images, ``VALUES`` values at a time."""
    return _rows(x).split(max(1, VALUES // x.shape[1]))


def _rows(x: Tensor) -> Tensor:
    """N×C×H×W to one row of C values per pixel; a view if the images are channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _band(x: Tensor, size: int) -> Tensor:
    """C×C: column i has ones for the ``size`` channels around i; for even sizes, one more before it, as in PyTorch."""
    ones = x.new_ones(x.shape[1], x.shape[1])
    return ones.triu(-((size - 1) // 2)).tril(size // 2)


def _denominator(rows: Tensor, band: Tensor, share: float, beta: float, k: float) -> Tensor:
    return ((rows * rows) @ band).float().mul_(share).add_(k)


def _power(denominator: Tensor, beta: float) -> Tensor:
    """denominator^-β; for the paper's β of 0.75 by two square roots, which are faster."""
    if beta == 0.75:
        root = denominator.rsqrt()
        return root.sqrt().mul_(root)
    return denominator.pow(-beta)


class _Convolution(torch.autograd.Function):
    """A stride-1 convolution with gradients of bias and weights, and on tiny maps everything, as matrix products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        if x.shape[2] * x.shape[3] <= TINY_MAP:
            return _as_product(x, weight, bias, padding)
        return torch.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])  # one per pixel of the output map
        pixels, wanted = gradient.shape[2] * gradient.shape[3], ctx.needs_input_grad[0]
        around = weight.shape[2] - 1 - ctx.padding[0], weight.shape[3] - 1 - ctx.padding[1]
        tiny, small = pixels <= TINY_MAP and min(around) >= 0, pixels <= SMALL_MAP
        for_x, for_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, (1, 1), ctx.padding, (1, 1), False, (0, 0), 1,
            (wanted and not tiny, not small, False),
        )  # fmt: skip
        if wanted and tiny:  # a convolution of the gradient with the kernels rotated by 180 degrees
            for_x = _as_product(gradient, weight.flip(2, 3).transpose(0, 1), None, around)
        if small:
            for_weight = _weight_gradient(x, weight, gradient, ctx.padding)
        return for_x, for_weight, _sum_of_rows(rows), None


class _Linear(torch.autograd.Function):
    """A linear layer whose gradients are products of row-major matrices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x = gradient @ weight if ctx.needs_input_grad[0] else None
        return for_x, gradient.t().contiguous() @ x, _sum_of_rows(gradient)


def _sum_of_rows(rows: Tensor) -> Tensor:
    """Sum by a matrix product, which is faster and accumulates in float32."""
    return (rows.new_ones(1, len(rows)) @ rows)[0]


def _patches(x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Iterator[Tensor]:
    """The input patches of a stride-1 convolution, some images at a time: one row of height × width × channels per
    output pixel."""
    height, width = weight.shape[2:]
    above, beside = padding
    images = F.pad(x.permute(0, 2, 3, 1), (0, 0, beside, beside, above, above)).contiguous()  # N×H×W×C
    of_image, of_row, of_pixel, _ = images.stride()
    rows, columns, channels = images.shape[1] - height + 1, images.shape[2] - width + 1, images.shape[3]
    for some in images.split(PATCHES_OF):
        # Overlapping views of the same memory: one row of a patch is contiguous, width × channels long.
        patches = some.as_strided(
            (len(some), rows, columns, height, width * channels), (of_image, of_row, of_pixel, of_row, 1)
        )
        yield patches.reshape(len(some) * rows * columns, -1)


def _as_product(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    """A stride-1 convolution as (patches of the input) · (kernels)."""
    outputs, _, height, width = weight.shape
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, outputs)
    start = weight.new_zeros(()) if bias is None else bias
    size = len(x), outputs, x.shape[2] + 2 * padding[0] - height + 1, x.shape[3] + 2 * padding[1] - width + 1
    # Not a view of a matrix: the ReLU after it is in-place, which autograd forbids on views returned by a function.
    result = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
    pieces = result.permute(0, 2, 3, 1).split(PATCHES_OF)
    for patches, piece in zip(_patches(x, weight, padding), pieces, strict=True):
        torch.addmm(start, patches, matrix, out=piece.view(-1, outputs))
    return result


def _weight_gradient(x: Tensor, weight: Tensor, gradient: Tensor, padding: tuple[int, int]) -> Tensor:
    """The weight gradient of a stride-1 convolution: (gradient of the output)ᵀ · (patches of the input)."""
    outputs, channels, height, width = weight.shape
    product = torch.zeros(outputs, height * width * channels)
    gradients = gradient.permute(0, 2, 3, 1).split(PATCHES_OF)
    for patches, their_gradient in zip(_patches(x, weight, padding), gradients, strict=True):
        product += their_gradient.reshape(-1, outputs).t().contiguous() @ patches
    return product.to(weight.dtype).view(outputs, height, width, channels).permute(0, 3, 1, 2)


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next step instead of returning it to the system.

    A step allocates and frees about a gigabyte in large blocks. Linux clears each page of new memory, which can take a
    quarter of the time of a step. From now on memory comes in large pages, if the system has them. Does nothing if the
    C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_max = -1, -4  # from malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, -1)  # never
    _use_large_pages()


@cache
def _use_large_pages() -> None:
    """Let the next ``LARGE_PAGES`` bytes that this process allocates come in pages of 2 MB, if Linux has them.

    The CPU caches the addresses of a few thousand pages. With pages of 4 KB these cover less than one layer's weights,
    so an operation on all weights, such as the optimiser's, waits for addresses more than for data. The memory is
    allocated and freed at once: the address range stays marked, and takes up memory only when it is used.
    """
    libc = ctypes.CDLL("libc.so.6")
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.free.argtypes = [ctypes.c_void_p]
    start = libc.malloc(LARGE_PAGES)
    if start is None:
        return  # there is less memory than that
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    libc.madvise(first, LARGE_PAGES - mmap.PAGESIZE, mmap.MADV_HUGEPAGE)  # if it fails, pages keep their size
    libc.free(start)
