"""What went wrong in a step, found out afterwards, so that a step that goes well pays nothing for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from alexnet_course.shapes import leaf_layers, watching

# PyTorch's words on the processor of Linux and macOS, on that of Windows, on GPUs of any kind ("CUDA error: …", "MPS
# backend …") and on Apple's for more than their largest piece; then cuBLAS's and cuDNN's, which ask for memory of their
# own when the network's has nearly filled a GPU.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Invalid buffer size",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)
# What they say of other faults too, but often where they got no memory: it depends on how much there was.
PERHAPS_OUT_OF_MEMORY = (
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "unable to find an engine to execute this computation",
)
LITTLE_MEMORY = 0.1  # of a GPU's


class TrainingStopped(RuntimeError):
    """A run that cannot go on; the message is one sentence. ``signal`` is the number of the signal that stopped it."""

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
    """Whether ``torch.compile`` has failed: without a C++ compiler, say."""
    # By its name: to import the class takes seconds, also for those who compile nothing.
    return any(kind.__name__ == "BackendCompilerFailed" for kind in type(error).__mro__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a device had too little memory; to be asked while the memory of the step is held."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    said = str(error)
    return any(words in said for words in OUT_OF_MEMORY) or (
        any(words in said for words in PERHAPS_OUT_OF_MEMORY) and _little_memory_left()
    )


def _little_memory_left() -> bool:
    """Whether the GPU in use is nearly full; what PyTorch keeps for itself, but nothing is in, counts as free."""
    if not torch.cuda.is_available():
        return False
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:  # a GPU that has failed altogether
        return False
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated() < LITTLE_MEMORY * total


def largest_that_fits(batch_size: int, attempt: Callable[[int], object]) -> int | None:
    """The first half, quarter, … of ``batch_size`` for which ``attempt(size)`` has enough memory; None: not even 1."""
    while batch_size > 1:
        batch_size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(batch_size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            return batch_size
    return None
