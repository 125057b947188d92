"""Diagnose a failed step afterwards, so that successful steps cost nothing extra."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from alexnet_course.shapes import leaf_layers, watching

# PyTorch's messages on the CPU under Linux and macOS, under Windows, on any GPU ("CUDA error: …", "MPS backend …"), and
# on Apple's GPUs for a buffer that is too large; then cuBLAS's and cuDNN's, which allocate their own memory when the
# network has nearly filled a GPU.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Invalid buffer size",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)
# Messages that often mean too little memory, but not always: it depends on how much was left.
PERHAPS_OUT_OF_MEMORY = (
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "unable to find an engine to execute this computation",
)
# The last two are for GPUs without Triton, or too old for it.
COMPILER_FAILED = ("BackendCompilerFailed", "TritonMissing", "GPUTooOldForTriton")
LITTLE_MEMORY = 0.1  # fraction of a GPU's memory


class TrainingStopped(RuntimeError):
    """A run that had to stop; the message is one sentence. ``signal`` is the number of the signal that stopped it."""

    signal: int | None = None


def first_layer_to_leave(model: nn.Module, forward: Callable[[], object]) -> str | None:
    """The first layer, in the order of the computation, whose output is not finite when ``forward`` runs ``model``."""
    found: list[str] = []

    def look(name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        if not found and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
            found.append(f"{name} ({type(layer).__name__})")

    with watching(leaf_layers(model), look), torch.no_grad():
        forward()
    return found[0] if found else None


def cannot_compile(error: BaseException) -> bool:
    """Whether ``torch.compile`` has failed, for example without a C++ compiler."""
    # Compared by name, because importing the classes takes seconds, even for runs that compile nothing.
    return any(kind.__name__ in COMPILER_FAILED for kind in type(error).__mro__)


def is_out_of_memory(error: BaseException, device: torch.device | None = None) -> bool:
    """Whether ``error`` means that ``device`` ran out of memory; call it while the step's memory is still held."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    said = str(error)
    return any(words in said for words in OUT_OF_MEMORY) or (
        any(words in said for words in PERHAPS_OUT_OF_MEMORY) and _little_memory_left(device)
    )


def _little_memory_left(device: torch.device | None) -> bool:
    """Whether the GPU is nearly full; memory that PyTorch has reserved but does not use counts as free."""
    if not torch.cuda.is_available() or (device is not None and device.type != "cuda"):
        return False
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # the GPU has failed
        return False
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + unused < LITTLE_MEMORY * total


def largest_that_fits(
    batch_size: int, attempt: Callable[[int], object], device: torch.device | None = None
) -> int | None:
    """The first of half, a quarter, … of ``batch_size`` for which ``attempt(size)`` fits; None if not even 1 does."""
    while batch_size > 1:
        batch_size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(batch_size)
        except RuntimeError as error:
            if not is_out_of_memory(error, device):
                raise
        else:
            return batch_size
    return None
