"""A data set that a network learns in a second: two colours, with noise."""

import pytest
import torch

from alexnet_course.data import Dataset


def two_colours(count: int, seed: int, size: int = 32) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 120, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    images[labels == 0, 0] += 100  # reddish
    images[labels == 1, 2] += 100  # bluish
    return Dataset(images, labels, ("red", "blue"), "two-colours")


@pytest.fixture(scope="session")
def data() -> dict[str, Dataset]:
    return {"train_set": two_colours(120, seed=1), "test_set": two_colours(50, seed=2)}
