"""What is known about the course's networks before they are built: nothing here waits for PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

INITIALISATIONS = ("default", "paper", "he")


@dataclass(frozen=True)
class ModelSpec:
    """What is known about a network before it is built."""

    name: str
    builder: Callable[..., torch.nn.Module] | str
    """What ``build`` gives, or where in this package it is, ``file:name``, so that only building imports it."""
    input_size: tuple[int, int, int]
    """(C, H, W) of the images that it was published for."""
    num_classes: int
    """Classes of the published network; ``parameters`` holds for this number."""
    parameters: int
    """Weights and biases, with ``input_size`` and ``num_classes``."""
    source: str
    """Who published it: S0 to S4 are the write-ups that the course rebuilds."""
    note: str
    """One line on what makes it different."""

    @property
    def build(self) -> Callable[..., torch.nn.Module]:
        """Builds it, with ``num_classes``, ``in_channels`` and the network's own overrides as keyword arguments."""
        if not isinstance(self.builder, str):
            return self.builder
        file, _, name = self.builder.partition(":")
        build: Callable[..., torch.nn.Module] = getattr(import_module(f"alexnet_course.models.{file}"), name)
        return build


SPECS = (
    ModelSpec(
        "alexnet-cifar-3x3",
        "alexnet:alexnet_cifar_3x3",
        (3, 32, 32),
        10,
        57_023_306,
        "S0",
        "first convolution 3×3, padding 2; adaptive pooling enlarges 3×3 to 6×6",
    ),
    ModelSpec(
        "alexnet-d2l",
        "alexnet:D2LAlexNet",
        (3, 224, 224),
        10,
        46_787_978,
        "S1; S4 with in_channels=1",
        "d2l's network; trailing_relu=True adds S1's ReLU after the logits",
    ),
    ModelSpec(
        "alexnet-lrn",
        "alexnet:alexnet_lrn",
        (3, 227, 227),
        10,
        58_322_314,
        "S2, first network",
        "the paper's network without groups",
    ),
    ModelSpec(
        "vgg-style",
        "vgg:vgg_style",
        (3, 32, 32),
        10,
        15_920_714,
        "S2, second network",
        "every convolution a pair of 3×3",
    ),
    ModelSpec(
        "vgg-style-bn",
        "vgg:vgg_style_bn",
        (3, 32, 32),
        10,
        20_648_266,
        "S2, third network",
        "2, 2, 2, 3 and 3 convolutions with batch norm",
    ),
    ModelSpec(
        "alexnet-cifar-5x5-v1",
        "alexnet:alexnet_cifar_5x5_v1",
        (3, 32, 32),
        10,
        24_740_234,
        "S3, first version",
        "the paper's widths, LRN after convolutions 1, 2 and 5; the head sees the 2×2 map as it is",
    ),
    ModelSpec(
        "alexnet-cifar-5x5",
        "alexnet:alexnet_cifar_5x5",
        (3, 32, 32),
        10,
        57_026_378,
        "S3, second version",
        "first convolution 5×5, stride 1, no padding; dropout after each hidden ReLU",
    ),
    ModelSpec(
        "alexnet-cifar-5x5-lrn",
        "alexnet:alexnet_cifar_5x5_lrn",
        (3, 32, 32),
        10,
        58_294_666,
        "S3, second version",
        "the paper's widths, LRN after convolutions 1, 2 and 5, adaptive max pooling",
    ),
    ModelSpec(
        "alexnet-2012",
        "alexnet:alexnet_2012",
        (3, 227, 227),
        1000,
        60_965_224,
        "Krizhevsky et al. 2012",
        "two groups in convolutions 2, 4 and 5, LRN",
    ),
    ModelSpec(
        "alexnet-owt",
        "alexnet:alexnet_owt",
        (3, 224, 224),
        1000,
        61_100_840,
        "Krizhevsky 2014, as in torchvision",
        "one tower, no LRN; takes torchvision's weights",
    ),
    ModelSpec(
        "lenet5",
        "lenet:LeNet5",
        (1, 32, 32),
        10,
        61_706,
        "LeCun et al. 1998",
        "tanh and average pooling, as usually rebuilt",
    ),
    ModelSpec(
        "cnn4",
        "cnn4:CNN4",
        (3, 32, 32),
        10,
        89_578,
        "cuda-convnet, layers-18pct; like those of Krizhevsky et al. 2012, figure 1 and section 3.3",
        'a four-layer CIFAR network from cuda-convnet; activation="relu" or "tanh", lrn=False or True',
    ),
)
