import pytest
import torch

from alexnet_course.errors import CourseError
from alexnet_course.training.precision import autocast, choose_device, choose_precision, cpu_has_fast_bf16


@pytest.mark.parametrize(
    ("device", "capability", "fast_bf16", "expected"),
    [
        ("cuda", (6, 0), False, "fp32"),
        ("cuda", (6, 1), False, "fp32"),
        ("cuda", (7, 0), False, "fp16"),  # V100
        ("cuda", (7, 5), False, "fp16"),  # T4: Colab's free GPU
        ("cuda", (8, 0), False, "bf16"),
        ("cuda", (8, 9), False, "bf16"),
        ("cuda", (9, 0), False, "bf16"),
        ("mps", None, False, "fp32"),
        ("cpu", None, True, "bf16"),
        ("cpu", None, False, "fp32"),
    ],
)
def test_auto_takes_what_the_device_computes_natively(device, capability, fast_bf16, expected):
    assert choose_precision("auto", device, capability, fast_bf16) == expected


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_a_named_precision_is_taken_as_it_is(precision):
    assert choose_precision(precision, "cuda", (6, 0)) == precision


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_autocast_computes_in_the_precision_asked_for(precision, dtype):
    layer = torch.nn.Linear(4, 4)
    with autocast(torch.device("cpu"), precision):
        assert layer(torch.ones(2, 4)).dtype == dtype


def test_the_cpu_is_measured_once():
    assert cpu_has_fast_bf16() is cpu_has_fast_bf16()
    assert cpu_has_fast_bf16.cache_info().misses == 1


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cuda", "mps", "cpu")
    with pytest.raises(CourseError, match=r"^device = 'gpu' is not a device; give one of auto, cuda, mps, cpu\.$"):
        choose_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_the_machine_lacks():
    with pytest.raises(CourseError, match=r"^device = 'cuda' is not available on this machine, which has .*cpu"):
        choose_device("cuda")
