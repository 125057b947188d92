"""Tests on a GPU that is not there; see emulation/__init__.py."""

from collections.abc import Iterator

import pytest
import torch
from emulation import H100, P100, T4, emulated

from alexnet_course.data import Dataset


@pytest.fixture(autouse=True)
def no_gpu_of_its_own() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, of which no other one can be made")


@pytest.fixture
def h100() -> Iterator[None]:
    with emulated(H100):
        yield


@pytest.fixture
def t4() -> Iterator[None]:
    with emulated(T4):
        yield


@pytest.fixture
def p100() -> Iterator[None]:
    with emulated(P100):
        yield


@pytest.fixture(scope="module")
def images() -> dict[str, Dataset]:
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(120, (120, 3, 32, 32), dtype=torch.uint8, generator=draw)
    labels = torch.arange(120) % 2
    images[labels == 1, 0] += 100
    both = Dataset(images, labels, ("dark", "reddish"), "two-colours")
    return {"train_set": both.subset(range(100)), "test_set": both.subset(range(100, 120))}
