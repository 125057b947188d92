"""CUDA graphs: while one is recorded, operations are noted and not done; ``replay`` does them again in the same memory.

As on CUDA, a recording may not wait for the device, draws from the device's own generator and from no other, and what
it computes is there after the first replay only. Until then this memory is filled with what is no number. A recording
that fails leaves what it leaves in PyTorch before 2.12: a pool of memory, and a generator that does not draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from emulation.generators import Generator

RECORDING: list[CUDAGraph] = []  # the one that is being recorded, if any
OPEN_POOLS: list[Any] = []  # memory that a recording which failed has not given back
FORBIDDEN = "operation not permitted when stream is capturing"


class CUDAGraph:
    """Takes the place of ``torch.cuda.CUDAGraph``."""

    def __init__(self) -> None:
        self._again: list[Callable[[], None]] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}  # what was in memory that is older than the recording
        self._made: dict[int, Tensor] = {}  # memory of the recording

    def note_inputs(self, tensors: list[Tensor]) -> None:
        """Before an operation: keep what it might change."""
        for tensor in tensors:
            memory = tensor.untyped_storage()
            if memory.data_ptr() not in self._made and memory.data_ptr() not in self._before:
                whole = torch.empty(0, dtype=torch.uint8).set_(memory)
                self._before[memory.data_ptr()] = whole, whole.clone()

    def note(self, inputs: list[Tensor], results: list[Tensor], again: Callable[[], list[Tensor]]) -> None:
        """After an operation: ``again`` does it and gives new ``results``, which go where the first ones lie."""
        older = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        new = [result.untyped_storage().data_ptr() not in older for result in results]
        for result, is_new in zip(results, new, strict=True):
            if is_new:
                self._made[result.untyped_storage().data_ptr()] = result

        def do() -> None:
            for result, value, is_new in zip(results, again(), new, strict=True):
                if is_new:
                    result.copy_(value)

        self._again.append(do)

    def end(self) -> None:
        """Nothing has happened."""
        for memory, content in self._before.values():
            memory.copy_(content)
        for result in self._made.values():
            if result.dtype.is_floating_point:
                result.fill_(torch.nan)
        self._before.clear()

    def replay(self) -> None:
        if not self._again:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        with torch._C._DisableTorchDispatch(), torch.no_grad():
            for do in self._again:
                do()


@contextmanager
def recording(
    graph: CUDAGraph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global"
) -> Iterator[None]:
    """Takes the place of ``torch.cuda.graph``."""
    from emulation.tensors import DEFAULT

    if RECORDING:
        raise RuntimeError("a graph is being captured already")
    state = DEFAULT.get_state()
    RECORDING.append(graph)
    try:
        yield
    except BaseException:
        graph._again.clear()
        OPEN_POOLS.append(pool)
        DEFAULT.left_by_a_recording = True
        raise
    finally:
        RECORDING.clear()
        with torch._C._DisableTorchDispatch(), torch.no_grad():
            graph.end()
        DEFAULT.set_state(state)


def end_pool(device: int, pool: Any) -> None:
    """Takes the place of ``torch._C._cuda_endAllocateToPool``."""
    OPEN_POOLS.remove(pool)


def empty_cache() -> None:
    """Takes the place of ``torch.cuda.empty_cache``."""
    if OPEN_POOLS:
        raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")


def check_generator(generator: Generator | None, default: Generator) -> None:
    if RECORDING and generator is not None and generator is not default:
        raise RuntimeError("a generator that is not registered with the graph is used while it is captured")
