"""Short names for the layers of a network, the same wherever the course names one."""

from collections import Counter
from collections.abc import Iterable

from torch import nn

from alexnet_course.shapes import Layer

SHORT = {"Conv2d": "conv", "MaxPool2d": "pool", "AvgPool2d": "pool", "Linear": "fc"}


def layer_names(layers: Iterable[Layer | nn.Module]) -> list[str]:
    """Names counted by kind: conv1, pool1, conv2 and so on; other kinds keep the name of their class.

    Fully connected layers are numbered on from the convolutions, as in the papers on AlexNet: after conv5 comes fc6.
    ``layers`` are rows of ``layer_table`` or layers themselves, from the input on.

    >>> from alexnet_course import build_model, layer_table
    >>> from alexnet_course.models import layer_names
    >>> table = layer_table(build_model("lenet5"), (1, 32, 32))
    >>> layer_names(layer for layer in table if layer.parameters)
    ['conv1', 'conv2', 'conv3', 'fc4', 'fc5']
    """
    counts: Counter[str] = Counter()
    names = []
    for layer in layers:
        kind = layer.kind if isinstance(layer, Layer) else _kind(layer)
        short = SHORT.get(kind, kind)
        counts[short] += 1
        number = counts[short] + (counts["conv"] if short == "fc" else 0)
        names.append(f"{short}{number}")
    return names


def _kind(layer: nn.Module) -> str:
    """The name of the layer's class, or of the one that has a short name and that this is a special case of."""
    bases = [base.__name__ for base in type(layer).__mro__]
    return next((name for name in bases if name in SHORT), bases[0])
