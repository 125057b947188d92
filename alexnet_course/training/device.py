"""Which device a run uses, and in which number format it computes there."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from alexnet_course.errors import CourseError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def choose_device(device: str = "auto") -> torch.device:
    """``auto``: cuda where there is a GPU that the installed PyTorch has code for, otherwise cpu. Otherwise the device
    named; ``CourseError`` where this machine lacks it.

    ``mps`` is taken only where it is named, and with a warning: nobody has run the course on Apple's GPUs yet.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        if not available["cuda"]:
            return torch.device("cpu")
        reason = _without_code(torch.device("cuda", 0))
        if reason:
            warnings.warn(f"{reason}; the processor is used instead.", stacklevel=2)
        return torch.device("cpu" if reason else "cuda")
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise CourseError(f"device = {device!r} is not a device; give one of auto, {', '.join(available)}.") from None
    if not available.get(wanted.type, False):
        names = ", ".join(name for name, there in available.items() if there)
        raise CourseError(f"device = {device!r} is not available on this machine, which has {names}; "
                          "leave the device out to use the best one.")  # fmt: skip
    if wanted.type == "cuda":
        if (wanted.index or 0) >= torch.cuda.device_count():
            raise CourseError(f"device = {device!r} does not exist; this machine has {torch.cuda.device_count()} "
                              "GPU(s), counted from cuda:0.")  # fmt: skip
        reason = _without_code(wanted)
        if reason:
            raise CourseError(f"{reason}; install one that has, or use the device cpu.")
    if wanted.type == "mps":
        warnings.warn(
            "Nobody has run the course on Apple's GPUs yet; compare a first epoch on mps with one on cpu.", stacklevel=2
        )
    return wanted


def _without_code(device: torch.device) -> str:
    """Why PyTorch cannot compute on this GPU, as the beginning of a sentence; empty where it can."""
    capability = torch.cuda.get_device_capability(device)
    if has_code_for(capability, torch.cuda.get_arch_list()):
        return ""
    return (f"PyTorch {torch.__version__} has no code for {torch.cuda.get_device_name(device)}, whose compute "
            f"capability is {capability[0]}.{capability[1]}")  # fmt: skip


def has_code_for(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Whether a PyTorch that was ``built_for`` these (``torch.cuda.get_arch_list()``) runs on a GPU of ``capability``.

    Machine code (``sm_86``) runs on GPUs of the same major version from its own minor version on, or, where it ends in
    a letter (``sm_90a``), on its own only; PTX (``compute_90``) is compiled for any later GPU.

    >>> from alexnet_course.training.device import has_code_for
    >>> has_code_for((6, 0), ["sm_75", "sm_80", "sm_90"])  # a P100 and a PyTorch that no longer knows it
    False
    """
    for name in built_for:
        kind, _, number = name.partition("_")
        version = divmod(int(number.rstrip("af")), 10)
        if kind == "compute" and capability >= version:
            return True
        if kind == "sm" and not number.isdigit() and capability == version:
            return True
        if kind == "sm" and number.isdigit() and capability[0] == version[0] and capability[1] >= version[1]:
            return True
    return not built_for  # a build that does not say


def choose_precision(
    requested: str, device_type: str, capability: tuple[int, int] | None = None, fast_bf16: bool = False
) -> str:
    """``bf16``, ``fp16`` or ``fp32``: what ``requested`` means on such a device. A pure function.

    ``auto`` is bf16 where the device computes it natively (CUDA ``capability`` 8.0 and up; a CPU with ``fast_bf16``),
    fp16 with gradient scaling on GPUs with tensor cores but no bf16 (7.0 and 7.5: V100, Colab's T4), else fp32.
    """
    if requested != "auto":
        return requested
    if device_type == "cuda" and capability is not None:
        return "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "fp32"
    return "bf16" if device_type == "cpu" and fast_bf16 else "fp32"


@cache
def cpu_has_fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices clearly faster than fp32 ones: measured once, not read off its name."""
    wide = torch.ones(1024, 1024)

    def seconds(matrix: torch.Tensor) -> float:
        times = []
        for _ in range(4):  # the first one pays for set-up, so the best counts
            start = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - start)
        return min(times)

    return seconds(wide) > 1.5 * seconds(wide.bfloat16())


def resolve_precision(requested: str, device: torch.device) -> str:
    """``choose_precision`` with the facts of this machine."""
    if requested != "auto":
        return requested
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return choose_precision(requested, device.type, capability, device.type == "cpu" and cpu_has_fast_bf16())


def let_cublas_repeat() -> None:
    """cuBLAS wants to be told before it is first used, in an environment variable, that its results should repeat."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def choice_of_kernels(device: torch.device, deterministic: bool) -> Iterator[None]:
    """On a GPU, inside the ``with``, kernels that repeat to the bit, or the fastest, and fp32 in full; afterwards as it
    was before."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.benchmark = not deterministic
    torch.use_deterministic_algorithms(deterministic or before[1])
    try:
        with fp32_in_full(device):
            yield
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.use_deterministic_algorithms(before[1])


@contextmanager
def fp32_in_full(device: torch.device) -> Iterator[None]:
    """On a GPU, inside the ``with``, fp32 has all of its digits.

    GPUs from Ampere on can multiply numbers of fp32 with 10 of their 23 binary digits (TF32), and unless it is told
    otherwise, PyTorch lets convolutions do so. Whoever wants them fast trains in bf16.
    """
    if device.type != "cuda":
        yield
        return
    switches, full = _tf32_switches()
    before = [getattr(owner, name) for owner, name in switches]
    for owner, name in switches:
        setattr(owner, name, full)
    try:
        yield
    finally:
        for (owner, name), setting in zip(switches, before, strict=True):
            setattr(owner, name, setting)


def _tf32_switches() -> tuple[list[tuple[Any, str]], Any]:
    """Where PyTorch keeps whether convolutions and products may use TF32, and what is to be there where they may not.

    From 2.9 on it has new switches, and raises where somebody uses both the new and the old.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(cudnn, "conv"):
        return [(cudnn.conv, "fp32_precision"), (products, "fp32_precision")], "ieee"
    return [(cudnn, "allow_tf32"), (products, "allow_tf32")], False


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which the forward pass runs."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")


def device_name(device: torch.device) -> str:
    """The device's own name, for records: the GPU's, or the processor's where the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    import platform

    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux
    return f"{name} ({device.type})"
