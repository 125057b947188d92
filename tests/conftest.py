"""What holds for all tests: they give the same result each time, and they do not reach into the network.

And a data set that a network learns in a second: two colours, with noise.
"""

import socket
from typing import Any

import pytest
import torch
from hypothesis import settings

from alexnet_course.data import Dataset

settings.register_profile("same-examples-each-time", derandomize=True, deadline=None)
settings.load_profile("same-examples-each-time")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine's own servers can be reached, so that a test which needs more fails everywhere."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("localhost", "127.0.0.1", "::1"):
            raise OSError(f"A test wants to connect to {address[0]!r}; tests do without the network.")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


def two_colours(count: int, seed: int, size: int = 32) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 120, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    images[labels == 0, 0] += 100  # reddish
    images[labels == 1, 2] += 100  # bluish
    return Dataset(images, labels, ("red", "blue"), "two-colours")


@pytest.fixture(scope="session")
def data() -> dict[str, Any]:
    """Options of ``train``: the images, the CPU, where a run can be repeated to the bit, and a checkpoint after every
    epoch, however long it takes to save."""
    images = {"train_set": two_colours(120, seed=1), "test_set": two_colours(50, seed=2)}
    return {**images, "device": "cpu", "checkpoint_seconds": 0}


@pytest.fixture(scope="session")
def few(data) -> dict[str, Any]:
    """The same with 12 images each, for what takes long."""
    return {**data, "train_set": data["train_set"].subset(range(12)), "test_set": data["test_set"].subset(range(12))}
