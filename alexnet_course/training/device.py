"""The device that a run uses, and the precision in which it computes there."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import takewhile
from typing import Any

import torch

from alexnet_course.errors import CourseError

# What Linux lists among the flags of a CPU that computes in bf16, the fastest first: x86's, then Arm's.
BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def choose_device(device: str = "auto") -> torch.device:
    """The device for ``device``: ``auto`` is cuda if the installed PyTorch supports the GPU, otherwise cpu; other
    values name a device. Raises ``CourseError`` if this machine does not have it.

    ``mps`` is used only if it is named, and with a warning: nobody has run the course on Apple's GPUs yet.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        if not available["cuda"]:
            return torch.device("cpu")
        reason = _without_code(torch.device("cuda", 0))
        if reason:
            warnings.warn(f"{reason}; the CPU is used instead.", stacklevel=2)
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
            raise CourseError(f"{reason}; install a PyTorch that has, or use the device cpu.")
    if wanted.type == "mps":
        warnings.warn(
            "The course has not been tested on Apple's GPUs; compare a first epoch on mps with one on cpu.",
            stacklevel=2,
        )
    return wanted


def _without_code(device: torch.device) -> str:
    """Why PyTorch cannot compute on this GPU, as the beginning of a sentence; empty if it can."""
    capability = torch.cuda.get_device_capability(device)
    if has_code_for(capability, torch.cuda.get_arch_list()):
        return ""
    return (f"PyTorch {torch.__version__} has no code for {torch.cuda.get_device_name(device)}, whose compute "
            f"capability is {capability[0]}.{capability[1]}")  # fmt: skip


def has_code_for(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Whether a PyTorch ``built_for`` these architectures (``torch.cuda.get_arch_list()``) runs on a GPU of
    ``capability``.

    Machine code (``sm_86``) runs on GPUs of the same major version and the same or a later minor version; with a letter
    at the end (``sm_90a``), on that version only. PTX (``compute_90``) is compiled for any later GPU.

    >>> from alexnet_course.training.device import has_code_for
    >>> has_code_for((6, 0), ["sm_75", "sm_80", "sm_90"])  # a P100 and a PyTorch that no longer supports it
    False
    """
    names = [name for name in built_for if name.startswith(("sm_", "compute_"))]  # AMD's are gfx90a, gfx1100, ...
    for name in names:
        kind, _, number = name.partition("_")
        version = divmod(int(number.rstrip("af")), 10)
        if kind == "compute" and capability >= version:
            return True
        if kind == "sm" and not number.isdigit() and capability == version:
            return True
        if kind == "sm" and number.isdigit() and capability[0] == version[0] and capability[1] >= version[1]:
            return True
    return not names  # a build that does not list its architectures, or is for AMD's GPUs


def choose_precision(
    requested: str, device_type: str, capability: tuple[int, int] | None = None, fast_bf16: bool = False
) -> str:
    """``bf16``, ``fp16`` or ``fp32``: the meaning of ``requested`` on such a device. A pure function.

    ``auto`` is bf16 if the device supports it natively (CUDA ``capability`` 8.0 and up; a CPU with ``fast_bf16``),
    fp16 with gradient scaling on GPUs with tensor cores but no bf16 (7.0 and 7.5: V100, Colab's T4), else fp32.
    """
    if requested != "auto":
        return requested
    if device_type == "cuda" and capability is not None:
        return "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "fp32"
    return "bf16" if device_type == "cpu" and fast_bf16 else "fp32"


@cache
def cpu_has_fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices clearly faster than fp32 ones, measured once."""
    return not cpu_lacks_bf16() and _gain_of_bf16(1024) > 1.5


@cache
def cpu_lacks_bf16() -> bool:
    """Whether this CPU has no instructions for bf16, so that PyTorch takes many times as long as in fp32.

    Measured once, with small matrices: the large ones, which show how much faster bf16 is where a CPU has the
    instructions, take seconds where it does not.
    """
    return _gain_of_bf16(128) < 0.2


def _gain_of_bf16(side: int) -> float:
    """How many times as long as in bf16 a product of two square matrices takes in fp32."""

    def seconds(matrix: torch.Tensor) -> float:
        times = []
        for _ in range(4):  # the first one includes set-up, so the best counts
            start = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - start)
        return min(times)

    wide = torch.ones(side, side)
    return seconds(wide) / seconds(wide.bfloat16())


def computes(device: torch.device, precision: str) -> bool:
    """Whether ``device`` computes in ``precision`` itself. A CPU that only imitates bf16 is many times slower in it."""
    return precision != "bf16" or device.type != "cpu" or not cpu_lacks_bf16()


def resolve_precision(requested: str, device: torch.device) -> str:
    """``choose_precision`` for this machine."""
    if requested != "auto":
        return requested
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return choose_precision(requested, device.type, capability, device.type == "cpu" and cpu_has_fast_bf16())


def let_cublas_repeat() -> None:
    """Make cuBLAS deterministic, by an environment variable that it reads before its first use."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def choice_of_kernels(device: torch.device, deterministic: bool, one_size: bool = True) -> Iterator[None]:
    """On a GPU, inside the ``with``, use deterministic kernels, or the fastest, and full fp32; restore the settings
    afterwards.

    The fastest are found by trying all, for every size of image. Without ``one_size``, cuDNN chooses by a rule instead.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark, torch.get_deterministic_debug_mode()
    torch.backends.cudnn.benchmark = one_size and not deterministic
    torch.set_deterministic_debug_mode("error" if deterministic else before[1])
    try:
        with fp32_in_full(device):
            yield
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.set_deterministic_debug_mode(before[1])


@contextmanager
def fp32_in_full(device: torch.device) -> Iterator[None]:
    """On a GPU, inside the ``with``, compute fp32 in full precision.

    GPUs since Ampere can multiply fp32 numbers with 10 of their 23 mantissa bits (TF32), which PyTorch uses for
    convolutions by default. For speed, train in bf16 instead.
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
    """PyTorch's settings that allow TF32 in convolutions and matrix products, and the value that disables it.

    PyTorch 2.9 and later have new settings, and raise an error if both the new and the old are used.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(cudnn, "conv"):
        return [(cudnn.conv, "fp32_precision"), (products, "fp32_precision")], "ieee"
    return [(cudnn, "allow_tf32"), (products, "allow_tf32")], False


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of the forward pass."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")


def device_name(device: torch.device) -> str:
    """The device's name for records: that of the GPU, or of the CPU if the system reports it.

    Cloud machines give CPUs with and without bf16 the same name, so Linux's flag for it is added, as in
    "AMD EPYC, avx512_bf16 (cpu)".
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    import platform

    facts: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in takewhile(str.strip, lines):  # an empty line ends the first core
                key, _, value = line.partition(":")
                facts[key.strip()] = value.strip()
    except OSError:
        pass  # not Linux
    name = facts.get("model name") or platform.processor() or platform.machine()
    flags = facts.get("flags", facts.get("Features", "")).split()
    bf16 = next((f", {flag}" for flag in BF16_FLAGS if flag in flags), "")
    return f"{name}{bf16} ({device.type})"
