"""Which parts of the trainer have run on which hardware, by the records, and how the tests emulate the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alexnet_course.records.record import Environment, Record

APPLE, PROCESSOR = "(mps)", "(cpu)"  # ends of a device's name in a record; the name of a CUDA GPU has neither


@dataclass(frozen=True)
class Hardware:
    """A kind of hardware: the parts of the trainer that only it uses, how the tests run them without it, and a function
    that recognises its environments."""

    name: str
    parts: tuple[str, ...]
    in_tests: str
    has: Callable[[Environment], bool]


def _on_gpu(environment: Environment) -> bool:
    return not environment.device.endswith((APPLE, PROCESSOR))


HARDWARE = (
    Hardware("CPU, fp32", (), "on real hardware", lambda it: it.device.endswith(PROCESSOR) and it.precision == "fp32"),
    Hardware(
        "CPU, bf16",
        ("kernels.conv2d", "kernels.linear", "kernels.local_response_norm"),
        "on real hardware",
        lambda it: it.device.endswith(PROCESSOR) and it.precision == "bf16",
    ),
    Hardware(
        "GPU, bf16",
        ("saving.HostCopy", "device.choice_of_kernels", "response_norm.response_norm"),
        "on an emulated H100",
        lambda it: _on_gpu(it) and it.precision == "bf16",
    ),
    Hardware(
        "GPU, fp16",
        ("torch.amp.GradScaler",),
        "on an emulated T4",
        lambda it: _on_gpu(it) and it.precision == "fp16",
    ),
    Hardware("GPU, a step as one graph", ("step_graph.StepGraph",), "on both emulated GPUs", lambda it: it.graph),
    Hardware(
        "GPU, half weights",
        ("speedups.HalfWeights",),
        "on both emulated GPUs",
        lambda it: _on_gpu(it) and it.half_weights,
    ),
    Hardware(
        "GPU, an epoch at once",
        ("batches.BatchLoader",),
        "on both emulated GPUs",
        lambda it: _on_gpu(it) and it.epoch_at_once,
    ),
    Hardware(
        "GPU, compiled pools",
        ("speedups.compiled_pool",),
        "on a CPU",
        lambda it: _on_gpu(it) and it.compiled_pools,
    ),
    Hardware(
        "several GPUs",
        ("parallel.Group",),
        "with CPUs in their place",
        lambda it: _on_gpu(it) and (it.processes or 1) > 1,
    ),
    Hardware(
        "Apple's GPU",
        ("shapes.memory_format", "kernels.repeat_or_pool"),
        "with a CPU in its place",
        lambda it: it.device.endswith(APPLE),
    ),
)


def runs_on(hardware: Hardware, records: Sequence[Record]) -> list[Record]:
    """The ``records`` that were made, at least in part, on this hardware.

    >>> from alexnet_course import load_records
    >>> from alexnet_course.records.hardware import HARDWARE, runs_on
    >>> cpu = HARDWARE[1]
    >>> cpu.name, len(runs_on(cpu, load_records())) > 0
    ('CPU, bf16', True)
    """
    return [record for record in records if any(map(hardware.has, record.environments))]
