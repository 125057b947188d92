"""A training step as a CUDA graph: the CPU launches one graph instead of several hundred kernels.

For a small network, a GPU needs less time to compute a step than the CPU needs to launch its kernels one by one. A CUDA
graph is a recording of these kernels. When it is replayed, each kernel reads and writes the same memory as before, so
everything that changes from step to step has to be there: the batch, the learning rates, the losses.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from alexnet_course.errors import first_line

WARM_UP = 3  # ordinary steps first: cuDNN chooses its kernels, the optimiser allocates its state

StepFunction: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


class StepGraph:
    """Calls ``step(images, labels)`` as a CUDA graph, with the same results, on batches of one fixed shape.

    ``step`` trains ``model`` with ``optimiser``, whose learning rates may change between steps, and never synchronises.
    After ``WARM_UP`` steps it is recorded, and recorded again if the step changes, for example because layers were
    frozen. While layers have PyTorch hooks, and if the step synchronises or the recording fails, which gives a warning,
    the step is run without a graph.
    """

    def __init__(self, step: StepFunction, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.step, self.model, self.optimiser = step, model, optimiser
        self.recorded = 0  # number of recordings
        self._failed = False
        self._stream: torch.cuda.Stream | None = None  # one for all recordings, since cuBLAS keeps memory for each
        self._forget()

    def _forget(self) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        self._results: tuple[Tensor, ...] = ()  # these are in the graph's memory and would keep it
        self._gradients: list[Tensor | None] = []
        self._rates: list[Tensor] = []
        self._steps = 0
        self._of: Hashable = None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        if self._failed or _listened_to(self.model):
            return self.step(images, labels)
        state = self._state(images, labels)
        if state != self._of:
            self._forget()
            self._of = state
            self._stream = self._stream or torch.cuda.Stream(images.device)
            self._images, self._labels = torch.empty_like(images), torch.empty_like(labels)
        self._images.copy_(images)
        self._labels.copy_(labels)
        if self._graph is None:
            if self._steps < WARM_UP:
                return self._warm_up()
            if not self._record():
                return self.step(images, labels)
        return self._replay()

    def _state(self, images: Tensor, labels: Tensor) -> Hashable:
        """What a recording depends on. The optimiser's state exists after the first step."""
        settings = [
            tuple((key, value) for key, value in group.items() if key not in ("params", "lr", "initial_lr"))
            for group in self.optimiser.param_groups
        ]
        memory = [
            tensor.data_ptr()
            for state in self.optimiser.state.values()
            for tensor in state.values()
            if isinstance(tensor, Tensor)
        ]
        return (
            (images.shape, images.stride(), labels.shape),
            tuple((weight.data_ptr(), weight.requires_grad) for weight in self.model.parameters()),
            tuple(buffer.data_ptr() for buffer in self.model.buffers()),
            tuple((id(layer), layer.training) for layer in self.model.modules()),
            tuple(settings),
            tuple(memory) if self._steps else None,
        )

    def _warm_up(self) -> tuple[Tensor, ...]:
        """An ordinary step, but on the recording's stream, because autograd remembers the stream it used."""
        assert self._stream is not None
        current = torch.cuda.current_stream(self._images.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), synchronisations() as waits:
            result = self.step(self._images, self._labels)
        current.wait_stream(self._stream)
        self._steps += 1
        if self._steps == WARM_UP and waits:  # found before the recording, which it would break
            self._give_up("it waits for the GPU, for example in .item()")
        self._of = self._state(self._images, self._labels)
        return result

    def _record(self) -> bool:
        """Record a step without running it; returns whether that succeeded."""
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        current = torch.cuda.current_stream(self._images.device)
        try:
            with (
                rates_on_the_device(self.optimiser, self._images.device) as self._rates,
                torch.cuda.graph(graph, pool, self._stream, capture_error_mode="thread_local"),
            ):
                self._results = self.step(self._images, self._labels)
        except RuntimeError as error:
            after_a_failed_recording(current, pool)
            self._give_up(first_line(error, "no reason given"))
            return False
        self._gradients = [weight.grad for weight in self.model.parameters()]
        self._graph = graph
        self.recorded += 1
        return True

    def _give_up(self, reason: str) -> None:
        self._failed = True
        warnings.warn(f"A step could not be recorded as a CUDA graph ({reason}); training continues without one.",
                      stacklevel=3)  # fmt: skip

    def _replay(self) -> tuple[Tensor, ...]:
        assert self._graph is not None
        for rate, group in zip(self._rates, self.optimiser.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._graph.replay()
        # Other code reads the gradients there, and an ordinary step in between may have replaced them.
        for weight, gradient in zip(self.model.parameters(), self._gradients, strict=True):
            weight.grad = gradient
        return tuple(result.clone() for result in self._results)  # the next step overwrites them


@contextmanager
def synchronisations() -> Iterator[list[str]]:
    """Collects PyTorch's warnings about operations that wait for the GPU; the list is complete at the end."""
    mode = torch.cuda.get_sync_debug_mode()
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    for warning in caught:
        text = str(warning.message)
        if "called a synchronizing" in text:
            found.append(text)
        elif "Synchronization debug mode" not in text:  # which PyTorch calls a prototype
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def after_a_failed_recording(stream: torch.cuda.Stream, pool: Any) -> None:
    """Undo what PyTorch before 2.12 leaves of a recording that failed: its stream, its memory pool, which the next
    ``empty_cache`` would stumble over, and a random generator that refuses to draw."""
    torch.cuda.set_stream(stream)
    with suppress(RuntimeError, AttributeError):  # a later PyTorch has done it, or calls it something else
        torch._C._cuda_endAllocateToPool(stream.device_index, pool)
    with suppress(RuntimeError, AttributeError):
        generator = torch.cuda.default_generators[stream.device_index]
        generator.graphsafe_set_state(generator.clone_state())  # the same state, outside of any recording


def _listened_to(model: nn.Module) -> bool:
    """Whether a layer has hooks, which are Python code and not part of a recording."""
    return any(
        layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
        for layer in model.modules()
    )


@contextmanager
def rates_on_the_device(optimiser: torch.optim.Optimizer, device: torch.device) -> Iterator[list[Tensor]]:
    """Inside, the learning rates are tensors on the device, one per group, as a recording needs them."""
    groups = optimiser.param_groups
    before = [(group["lr"], group.get("capturable")) for group in groups]
    on_device = [torch.full((), lr, dtype=torch.float32, device=device) for lr, _ in before]
    try:
        for group, rate in zip(groups, on_device, strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True  # required by Adam, although its fused form never synchronises
        yield on_device
    finally:
        for group, (lr, capturable) in zip(groups, before, strict=True):
            group["lr"] = lr
            if "capturable" in group:
                group["capturable"] = capturable
