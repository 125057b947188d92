"""Puts the emulation in the place of ``torch.cuda``, and takes it away again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from emulation import transfers
from emulation.cards import BUILT_FOR, Card
from emulation.generators import CUDA, Generator
from emulation.graphs import OPEN_POOLS, RECORDING, CUDAGraph, empty_cache, end_pool, recording
from emulation.tensors import DEFAULT, CudaTensor, Everywhere, is_pinned, pin
from emulation.transfers import WAIT, note


@contextmanager
def emulated(card: Card) -> Iterator[None]:
    """Inside, this machine has ``card``."""
    torch._C._ensureCUDADeviceGuardSet()  # one that does nothing, in C++, where there is no GPU
    with ExitStack() as stack:

        def put(owner: Any, name: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(owner, name, value))

        for name, answer in answers(card).items():
            put(torch.cuda, name, answer)
        for owner, name in ((torch.cuda, "make_graphed_callables"), (torch, "compile")):
            put(owner, name, refuse(f"{owner.__name__}.{name}"))
        put(torch, "Generator", Generator)
        stack.enter_context(mock.patch.object(torch._C, "_cuda_endAllocateToPool", end_pool, create=True))
        stack.callback(OPEN_POOLS.clear)
        DEFAULT.left_by_a_recording = False
        put(torch.nn.Module, "_apply", swapping(torch.nn.Module._apply))
        put(torch.optim.Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(by_device_and_dtype))
        put(torch.Tensor, "pin_memory", lambda tensor, *_: pin(tensor.clone()))
        put(torch.Tensor, "is_pinned", lambda tensor, *_: is_pinned(tensor))
        autocast = autocast_on_the_processor(torch.autocast)
        for owner in (torch, torch.amp, torch.amp.autocast_mode):
            put(owner, "autocast", autocast)
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device="cuda") is made here and copied
        stack.callback(torch._C._set_only_lift_cpu_tensors, False)
        DEFAULT.manual_seed(0)
        stack.enter_context(Everywhere())
        yield


def answers(card: Card) -> dict[str, Callable[..., Any]]:
    """The functions of ``torch.cuda``, for a machine with one such card."""
    major, minor = card.capability
    properties = SimpleNamespace(
        name=card.name, major=major, minor=minor, total_memory=card.memory, multi_processor_count=40
    )
    return {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: card.name,
        "get_device_capability": lambda device=None: card.capability,
        "get_device_properties": lambda device=None: properties,
        "get_arch_list": lambda: list(BUILT_FOR),
        "is_bf16_supported": lambda including_emulation=True: including_emulation or card.capability >= (8, 0),
        "mem_get_info": lambda device=None: (card.memory, card.memory),
        "memory_allocated": lambda device=None: 0,
        "memory_reserved": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
        "max_memory_reserved": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "empty_cache": empty_cache,
        "synchronize": lambda device=None: note(WAIT, "synchronize"),
        "is_current_stream_capturing": lambda: bool(RECORDING),
        "get_sync_debug_mode": lambda: transfers.debug_mode,
        "set_sync_debug_mode": transfers.set_debug_mode,
        "set_stream": lambda stream: None,
        "graph_pool_handle": lambda: (0, 1),
        "default_generators": (DEFAULT,),
        "CUDAGraph": CUDAGraph,
        "graph": recording,
        "current_stream": lambda device=None: Stream(),
        "Stream": Stream,
        "Event": Event,
        "stream": lambda stream: stream,
        "manual_seed": lambda seed: DEFAULT.manual_seed(seed),
        "manual_seed_all": lambda seed: DEFAULT.manual_seed(seed),
        "initial_seed": lambda: DEFAULT.initial_seed(),
        "get_rng_state": lambda device="cuda": DEFAULT.get_state(),
        "get_rng_state_all": lambda: [DEFAULT.get_state()],
        "set_rng_state": lambda state, device="cuda": DEFAULT.set_state(state),
        "set_rng_state_all": lambda states: DEFAULT.set_state(*states),
    }


class Stream:
    """All that was asked for is done."""

    device_index = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        self.device = CUDA

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        note(WAIT, "synchronize a stream")

    def wait_stream(self, other: Stream) -> None:
        pass

    def wait_event(self, event: Event) -> None:
        pass

    def record_event(self, event: Event | None = None) -> Event:
        return event or Event()

    def query(self) -> bool:
        return True


class Event:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def record(self, stream: Stream | None = None) -> None:
        pass

    def wait(self, stream: Stream | None = None) -> None:
        pass

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        note(WAIT, "synchronize an event")

    def elapsed_time(self, end: Event) -> float:
        return 0.0


def refuse(name: str) -> Callable[..., Any]:
    def refused(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"{name} is not emulated.")

    return refused


def swapping(apply: Callable[..., Any]) -> Callable[..., Any]:
    """``Module._apply``, so that a parameter which moves to the other device is the same object afterwards."""

    def swapped(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            return apply(module, *args, **kwargs)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)

    return swapped


group = torch.optim.Optimizer._group_tensors_by_device_and_dtype


def by_device_and_dtype(lists: Any, with_indices: bool = False) -> dict[Any, Any]:
    """The optimiser's groups by the devices that Python sees; C++ sees the processor's alone."""
    found = group(lists, with_indices)
    return {
        (CUDA if any(isinstance(tensor, CudaTensor) for tensors in groups[0] for tensor in tensors) else device, dtype):
        groups
        for (device, dtype), groups in found.items()
    }  # fmt: skip


def autocast_on_the_processor(real: type) -> type:
    class autocast(real):  # type: ignore[misc,valid-type]
        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    return autocast
