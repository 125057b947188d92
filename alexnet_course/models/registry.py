"""All networks of the course by name."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alexnet_course.errors import CourseError, nearest
from alexnet_course.models import alexnet, vgg
from alexnet_course.models.cnn4 import CNN4
from alexnet_course.models.layers import INITIALISATIONS, initialise
from alexnet_course.models.lenet import LeNet5
from alexnet_course.models.network import Network


@dataclass(frozen=True)
class ModelSpec:
    """What is known about a network before it is built."""

    name: str
    build: Callable[..., Network]
    """Builds it, with ``num_classes``, ``in_channels`` and the network's own overrides as keyword arguments."""
    input_size: tuple[int, int, int]
    """(C, H, W) of the pictures that it was published for."""
    num_classes: int
    """Classes of the published network; ``parameters`` holds for this number."""
    parameters: int
    """Weights and biases, with ``input_size`` and ``num_classes``."""
    source: str
    """Who published it: S0 to S4 are the write-ups that the course rebuilds."""
    note: str
    """One line on what makes it different."""


_SPECS = (
    ModelSpec(
        "alexnet-cifar-3x3",
        alexnet.alexnet_cifar_3x3,
        (3, 32, 32),
        10,
        57_023_306,
        "S0",
        "first convolution 3×3, padding 2; adaptive pooling enlarges 3×3 to 6×6",
    ),
    ModelSpec(
        "alexnet-d2l",
        alexnet.D2LAlexNet,
        (3, 224, 224),
        10,
        46_787_978,
        "S1; S4 with in_channels=1",
        "d2l's network; trailing_relu=True adds S1's ReLU after the logits",
    ),
    ModelSpec(
        "alexnet-lrn",
        alexnet.alexnet_lrn,
        (3, 227, 227),
        10,
        58_322_314,
        "S2, first network",
        "the paper's network without groups",
    ),
    ModelSpec(
        "vgg-style",
        vgg.vgg_style,
        (3, 32, 32),
        10,
        15_920_714,
        "S2, second network",
        "every convolution a pair of 3×3",
    ),
    ModelSpec(
        "vgg-style-bn",
        vgg.vgg_style_bn,
        (3, 32, 32),
        10,
        20_648_266,
        "S2, third network",
        "2, 2, 2, 3 and 3 convolutions with batch norm",
    ),
    ModelSpec(
        "alexnet-cifar-5x5",
        alexnet.alexnet_cifar_5x5,
        (3, 32, 32),
        10,
        57_026_378,
        "S3",
        "first convolution 5×5, stride 1, no padding",
    ),
    ModelSpec(
        "alexnet-cifar-5x5-lrn",
        alexnet.alexnet_cifar_5x5_lrn,
        (3, 32, 32),
        10,
        58_294_666,
        "S3",
        "the paper's widths and LRN, adaptive max pooling",
    ),
    ModelSpec(
        "alexnet-2012",
        alexnet.alexnet_2012,
        (3, 227, 227),
        1000,
        60_965_224,
        "Krizhevsky et al. 2012",
        "two groups in convolutions 2, 4 and 5, LRN",
    ),
    ModelSpec(
        "alexnet-owt",
        alexnet.alexnet_owt,
        (3, 224, 224),
        1000,
        61_100_840,
        "Krizhevsky 2014, as in torchvision",
        "one tower, no LRN; takes torchvision's weights",
    ),
    ModelSpec(
        "lenet5",
        LeNet5,
        (1, 32, 32),
        10,
        61_706,
        "LeCun et al. 1998",
        "tanh and average pooling, as usually rebuilt",
    ),
    ModelSpec(
        "cnn4",
        CNN4,
        (3, 32, 32),
        10,
        89_578,
        "Krizhevsky et al. 2012, figure 1 and section 3.3",
        'the paper\'s four-layer CIFAR network; activation="relu" or "tanh", lrn=False or True',
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}


def list_models() -> list[str]:
    """The names that ``build_model`` knows."""
    return list(MODELS)


def build_model(name: str, num_classes: int = 10, **overrides: Any) -> Network:
    """Builds a network by name: N×C×H×W pictures in, N rows of ``num_classes`` logits out.

    ``overrides``: ``in_channels`` and ``init`` ("default", "paper" or "he") for every network, ``dropout`` (0 up to,
    not including, 1) where there is any, and what the network's class documents for experiments, such as ``hidden``,
    ``width`` (a factor on the channels) and ``batch_norm``.
    Raises CourseError for an unknown name or override and for a value out of range.
    """
    if name not in MODELS:
        raise CourseError(f"There is no network {name!r}; did you mean {nearest(str(name), MODELS)}?")
    spec = MODELS[name]
    defaults = {key: parameter.default for key, parameter in inspect.signature(spec.build).parameters.items()}
    allowed = [key for key in defaults if key != "num_classes"] + ["init"]
    for key, value in overrides.items():
        if key not in allowed:
            raise CourseError(f"{name} has no override {key!r} (= {value!r}); it takes {', '.join(allowed)}.")
    _check_values({"num_classes": num_classes, **overrides}, defaults)
    init = overrides.pop("init", "default")
    model = spec.build(num_classes=num_classes, **overrides)
    model.name = name
    if init != "default":  # building has drawn the default weights already
        initialise(model, init)
    return model


def _check_values(values: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Raises CourseError for the first value that no network takes; what only one takes, that network checks."""
    for key, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in ("num_classes", "in_channels") and not (number and isinstance(value, int) and value >= 1):
            raise CourseError(f"{key} is {value!r}, but must be a whole number of at least 1.")
        if key == "dropout" and not (number and 0 <= value < 1):
            raise CourseError(f"dropout is {value!r}, but must be a number from 0 up to, but not including, 1.")
        if isinstance(defaults.get(key), bool) and not isinstance(value, bool):
            raise CourseError(f"{key} is {value!r}, but must be True or False.")
        if key in ("hidden", "map_side") and not (number and isinstance(value, int) and 1 <= value <= 65_536):
            raise CourseError(f"{key} is {value!r}, but must be a whole number from 1 to 65536.")
        if key == "width" and not (number and 0 < value <= 8):
            raise CourseError(f"width is {value!r}, but must be a number above 0 and at most 8.")
        if key == "init" and value not in INITIALISATIONS:
            raise CourseError(f"init is {value!r}, but must be {' or '.join(INITIALISATIONS)}.")
