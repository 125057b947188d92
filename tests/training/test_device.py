import io
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch

from alexnet_course.errors import CourseError
from alexnet_course.training import device as module
from alexnet_course.training.device import (
    autocast,
    choice_of_kernels,
    choose_device,
    choose_precision,
    computes,
    cpu_has_fast_bf16,
    cpu_lacks_bf16,
    device_name,
    fp32_in_full,
    has_code_for,
    resolve_precision,
)


@pytest.mark.parametrize(
    ("device", "capability", "fast_bf16", "expected"),
    [
        ("cuda", (6, 0), False, "fp32"),
        ("cuda", (6, 1), False, "fp32"),
        ("cuda", (6, 2), False, "fp32"),
        ("cuda", (7, 0), False, "fp16"),  # V100
        ("cuda", (7, 2), False, "fp16"),
        ("cuda", (7, 5), False, "fp16"),  # T4: Colab's free GPU
        ("cuda", (8, 0), False, "bf16"),  # A100
        ("cuda", (8, 6), False, "bf16"),
        ("cuda", (8, 7), False, "bf16"),
        ("cuda", (8, 9), False, "bf16"),  # L4
        ("cuda", (9, 0), False, "bf16"),  # H100
        ("cuda", (10, 0), False, "bf16"),
        ("cuda", (6, 0), True, "fp32"),  # what the processor can do does not matter on a GPU
        ("cuda", (7, 5), True, "fp16"),
        ("mps", None, False, "fp32"),
        ("mps", None, True, "fp32"),
        ("cpu", None, True, "bf16"),
        ("cpu", None, False, "fp32"),
    ],
)
def test_auto_takes_what_the_device_computes_natively(device, capability, fast_bf16, expected):
    assert choose_precision("auto", device, capability, fast_bf16) == expected


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("device", [("cuda", (6, 0)), ("cuda", (9, 0)), ("mps", None), ("cpu", None)])
def test_a_named_precision_is_taken_as_it_is(precision, device):
    assert choose_precision(precision, *device) == precision


@pytest.mark.parametrize(("fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_the_processor_is_measured_where_it_matters_and_only_there(monkeypatch, fast, expected):
    measured = []
    monkeypatch.setattr(module, "cpu_has_fast_bf16", lambda: measured.append(1) or fast)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert resolve_precision("auto", torch.device("cuda:0")) == "fp16"
    assert resolve_precision("auto", torch.device("mps")) == "fp32"
    assert resolve_precision("fp32", torch.device("cpu")) == "fp32"
    assert not measured
    assert resolve_precision("auto", torch.device("cpu")) == expected
    assert measured == [1]


@pytest.mark.parametrize(
    ("factor", "fast", "sides"),
    [(1.0, False, {128, 1024}), (1.2, False, {128, 1024}), (0.1, False, {128}), (3.0, True, {128, 1024})],
)
def test_bf16_is_fast_where_it_is_clearly_faster_than_fp32(monkeypatch, factor, fast, sides):
    """On a clock that shows a product of fp32 matrices as taking ``factor`` times as long as one of bf16.

    Where bf16 is only imitated, no large product is computed: it would take seconds.
    """
    clock, multiplied = [0.0], set()
    product = torch.Tensor.__matmul__

    def timed(matrix: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        multiplied.add(len(matrix))
        clock[0] += factor if matrix.dtype == torch.float32 else 1.0
        return product(matrix[:1, :1], other[:1, :1])

    monkeypatch.setattr(torch.Tensor, "__matmul__", timed)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(module, "cpu_lacks_bf16", cpu_lacks_bf16.__wrapped__)
    assert cpu_has_fast_bf16.__wrapped__() is fast
    assert multiplied == sides


@pytest.mark.parametrize("lacks", [True, False])
def test_only_a_cpu_can_lack_bf16(monkeypatch, lacks):
    monkeypatch.setattr(module, "cpu_lacks_bf16", lambda: lacks)
    assert computes(torch.device("cpu"), "bf16") is not lacks
    assert computes(torch.device("cuda"), "bf16")
    assert computes(torch.device("cpu"), "fp32")


def kernels() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark


def test_on_the_processor_there_are_no_kernels_to_choose():
    before = kernels()
    with choice_of_kernels(torch.device("cpu"), True):
        assert kernels() == before


@pytest.mark.parametrize("deterministic", [True, False])
def test_on_a_gpu_the_choice_of_kernels_ends_with_the_run_that_made_it(deterministic):
    """Or the next run of the process would fail where its network has a kernel that does not repeat."""
    before = kernels()
    with suppress(ZeroDivisionError), choice_of_kernels(torch.device("cuda"), deterministic):
        assert kernels() == (deterministic, not deterministic)
        raise ZeroDivisionError
    assert kernels() == before


def test_whoever_wants_all_of_a_program_to_repeat_still_gets_it():
    torch.use_deterministic_algorithms(True)
    try:
        with choice_of_kernels(torch.device("cuda"), False):
            assert kernels() == (True, True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_whoever_wants_only_warnings_gets_warnings_again():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        for deterministic, inside in ((False, True), (True, False)):
            with choice_of_kernels(torch.device("cuda"), deterministic):
                assert torch.is_deterministic_algorithms_warn_only_enabled() == inside
            assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_cudnn_does_not_try_all_kernels_again_for_every_size():
    with choice_of_kernels(torch.device("cuda"), False, one_size=False):
        assert kernels() == (False, False)


# --- fp32 in full ----------------------------------------------------------------------------------------------------

CUDA = torch.device("cuda")
has_new_switches = pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="PyTorch before 2.9")


def tf32() -> tuple[object, ...]:
    """Whether convolutions and products may use TF32, by all the ways in which this PyTorch can be asked."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    told: list[object] = [torch.get_float32_matmul_precision()]
    if hasattr(cudnn, "conv"):
        told += [cudnn.conv.fp32_precision, products.fp32_precision]
    for owner in (cudnn, products):
        try:
            told.append(owner.allow_tf32)
        except RuntimeError:  # of somebody who uses the new switches
            told.append("mixed")
    return tuple(told)


@pytest.fixture(params=["as it comes", "products too", "none", "by its older name"])
def told(request) -> Iterator[tuple[object, ...]]:
    """A PyTorch that somebody has told about TF32 before, by the old switches."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    if request.param == "products too":
        torch.backends.cuda.matmul.allow_tf32 = True
    if request.param == "none":
        torch.backends.cudnn.allow_tf32 = False
    if request.param == "by its older name":
        torch.set_float32_matmul_precision("medium")
    yield tf32()
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])


@has_new_switches
def test_inside_a_run_on_a_gpu_fp32_has_all_of_its_digits_and_afterwards_what_it_had_before(told):
    for inside in (fp32_in_full(CUDA), choice_of_kernels(CUDA, False), choice_of_kernels(CUDA, True)):
        with suppress(ZeroDivisionError), inside:
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            raise ZeroDivisionError
        assert tf32() == told


@has_new_switches
def test_whoever_uses_the_new_switches_gets_them_back():
    """The old ones would raise here."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.conv.fp32_precision, products.fp32_precision
    cudnn.conv.fp32_precision, products.fp32_precision = "ieee", "tf32"
    try:
        with fp32_in_full(CUDA):
            assert (cudnn.conv.fp32_precision, products.fp32_precision) == ("ieee", "ieee")
        assert (cudnn.conv.fp32_precision, products.fp32_precision) == ("ieee", "tf32")
    finally:
        cudnn.conv.fp32_precision, products.fp32_precision = before


def test_a_pytorch_that_has_only_the_old_switches(monkeypatch):
    cudnn = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with fp32_in_full(CUDA):
            assert (cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (False, False)
        assert (cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (True, True)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_without_a_gpu_of_nvidias_nothing_is_switched(device, told):
    with fp32_in_full(torch.device(device)):
        assert tf32() == told


def test_the_name_of_the_processor_says_that_it_is_one():
    assert device_name(torch.device("cpu")).endswith(" (cpu)")


@pytest.mark.parametrize(
    ("listing", "name"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx2\n", "AMD EPYC (cpu)"),
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx512_bf16 avx2\n", "AMD EPYC, avx512_bf16 (cpu)"),
        ("flags\t\t: avx512_bf16 amx_bf16 amx_tile\nmodel name\t: Xeon: a CPU\n", "Xeon: a CPU, amx_bf16 (cpu)"),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", "abacus, bf16 (cpu)"),  # Arm's give no name
        ("model name\t: one\n\nmodel name\t: two\nflags\t\t: amx_bf16\n", "one (cpu)"),
        ("", "abacus (cpu)"),
    ],
)
def test_the_name_of_a_cpu_says_what_it_has_for_bf16(monkeypatch, listing, name):
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    monkeypatch.setattr("builtins.open", lambda path, **_: io.StringIO(listing))
    assert device_name(torch.device("cpu")) == name


def test_where_the_system_does_not_tell_its_name_it_is_that_of_its_kind(monkeypatch):
    """As on Windows and macOS."""

    def missing(path: str, **_: object) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    monkeypatch.setattr("builtins.open", missing)
    assert device_name(torch.device("cpu")) == "abacus (cpu)"


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_autocast_computes_in_the_precision_asked_for(precision, dtype):
    layer = torch.nn.Linear(4, 4)
    with autocast(torch.device("cpu"), precision):
        assert layer(torch.ones(2, 4)).dtype == dtype


@pytest.mark.parametrize("measurement", [cpu_has_fast_bf16, cpu_lacks_bf16])
def test_the_cpu_is_measured_once(measurement):
    assert measurement() is measurement()
    assert measurement.cache_info().misses == 1


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cuda", "cpu")
    with pytest.raises(CourseError, match=r"^device = 'gpu' is not a device; give one of auto, cuda, mps, cpu\.$"):
        choose_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_the_machine_lacks():
    with pytest.raises(CourseError, match=r"^device = 'cuda' is not available on this machine, which has .*cpu"):
        choose_device("cuda")


@pytest.fixture
def gpu(monkeypatch):
    """``gpu(capability, built_for)``: a machine with a GPU of that kind and one of Apple's."""

    def arrange(capability: tuple[int, int], built_for: list[str]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Tesla P100")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    return arrange


def test_auto_takes_no_gpu_that_it_has_no_code_for(gpu):
    gpu((6, 0), ["sm_75", "sm_90"])
    said = r"^PyTorch \S+ has no code for Tesla P100, whose compute capability is 6\.0; the CPU is used instead\.$"
    with pytest.warns(UserWarning, match=said):
        assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(
        CourseError, match=r"has no code for Tesla P100.*; install a PyTorch that has, or use the device"
    ):
        choose_device("cuda")
    gpu((9, 0), ["sm_75", "sm_90"])
    assert choose_device("auto") == torch.device("cuda")


def test_apple_s_gpus_are_used_only_where_they_are_named(gpu, monkeypatch):
    gpu((9, 0), ["sm_90"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.warns(UserWarning, match=r"^The course has not been tested on Apple's GPUs; compare a first epoch"):
        assert choose_device("mps") == torch.device("mps")


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((7, 5), ["sm_75"], True),
        ((8, 9), ["sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80", "sm_86"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90a"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((7, 0), ["compute_75"], False),
        ((12, 1), ["sm_120"], True),
        ((6, 0), [], True),
        ((9, 0), ["gfx900", "gfx90a", "gfx1100"], True),  # AMD's
    ],
)
def test_which_gpus_a_build_has_code_for(capability, built_for, runs):
    assert has_code_for(capability, built_for) is runs
