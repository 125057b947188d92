"""What has run on which hardware is read off the records."""

import importlib

import pytest

from alexnet_course import load_records
from alexnet_course.records.hardware import HARDWARE, runs_on

RECORD = load_records(pattern="alexnet-cifar-3x3.modern-*")[0]


def made_on(**environment: object) -> list[str]:
    now = RECORD.environment.model_copy(update=environment)
    record = RECORD.model_copy(update={"environment": now, "earlier_environments": None})
    return [hardware.name for hardware in HARDWARE if runs_on(hardware, [record])]


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({"device": "Intel(R) Xeon(R) Processor (cpu)", "precision": "fp32"}, ["CPU, fp32"]),
        ({"device": "Tesla T4", "precision": "fp16"}, ["GPU, fp16"]),
        ({"device": "NVIDIA H100", "precision": "bf16", "graph": True}, ["GPU, bf16", "GPU, a step as one graph"]),
        (
            {"device": "Tesla T4", "precision": "fp16", "half_weights": True, "epoch_at_once": True},
            ["GPU, fp16", "GPU, half weights", "GPU, an epoch at once"],
        ),
        ({"device": "x (cpu)", "precision": "bf16", "compiled_pools": True}, ["CPU, bf16"]),
        ({"device": "NVIDIA H100", "precision": "bf16", "processes": 2}, ["GPU, bf16", "several GPUs"]),
        ({"device": "Intel(R) Xeon(R) Processor (cpu)", "precision": "bf16", "processes": 2}, ["CPU, bf16"]),
        ({"device": "arm (mps)", "precision": "fp32"}, ["Apple's GPU"]),
    ],
    ids=str,
)
def test_a_record_s_environment_says_what_it_ran_on(environment, names):
    assert made_on(**environment) == names


def test_a_run_that_went_on_elsewhere_ran_on_both():
    before = RECORD.environment.model_copy(update={"device": "Tesla T4", "precision": "fp16"})
    both = RECORD.model_copy(update={"earlier_environments": (before,)})
    assert [hardware.name for hardware in HARDWARE if runs_on(hardware, [both])] == ["CPU, bf16", "GPU, fp16"]


@pytest.mark.parametrize("part", [part for hardware in HARDWARE for part in hardware.parts])
def test_every_part_that_is_named_is_there(part):
    module, _, name = part.rpartition(".")
    rooms = ["alexnet_course", "alexnet_course.training", "alexnet_course.models", "alexnet_course.data"]
    for path in [module] if module.startswith("torch.") else [f"{room}.{module}" for room in rooms]:
        try:
            assert hasattr(importlib.import_module(path), name)
            return
        except ModuleNotFoundError:
            continue
    pytest.fail(f"nothing is called {part}")
