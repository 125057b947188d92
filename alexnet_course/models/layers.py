"""Layers and initial weights that several networks share."""

from torch import nn

from alexnet_course.errors import CourseError
from alexnet_course.models.response_norm import LocalResponseNorm
from alexnet_course.models.specs import INITIALISATIONS as INITIALISATIONS


def scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, as a multiple of 8 where that is not 1 (matrix units like it), and at least 8."""
    return channels if width == 1 else max(8, 8 * round(channels * width / 8))


def local_response_norm(size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> nn.LocalResponseNorm:
    """Local response normalisation as the paper writes it: b_i = a_i / (k + α Σ a_j²)^β.

    The sum runs over those of the ``size`` channels i − size/2 … i + size/2 that exist, at the same pixel; N×C×H×W in,
    the same out.
    PyTorch divides α by ``size`` and the paper does not, so α is multiplied by it here.
    Source: Krizhevsky et al. 2012, section 3.3 (its α, n, β and k are the defaults).
    """
    return LocalResponseNorm(size, alpha=alpha * size, beta=beta, k=k)


def hidden_and_output(
    inputs: int, hidden: int, num_classes: int, dropout: float, dropout_first: bool = False
) -> nn.Sequential:
    """The head of the AlexNet family: two hidden linear layers with ReLU and dropout, then the logits.

    N×``inputs`` in, N×``num_classes`` out. Dropout follows each ReLU (Krizhevsky et al. 2012, section 4.2), or precedes
    each hidden layer with ``dropout_first`` (torchvision's order, which drops the features of the last pooling too).
    """
    layers: list[nn.Module] = []
    for width in (inputs, hidden):
        block = [nn.Linear(width, hidden), nn.ReLU(inplace=True)]
        layers += [nn.Dropout(dropout), *block] if dropout_first else [*block, nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden, num_classes))


def initialise(model: nn.Module, init: str = "default") -> None:
    """Draws new starting weights for ``model``, in place.

    ``default``: PyTorch's own. ``paper``: weights from N(0, 0.01²); biases 1 in the second, fourth and fifth
    convolution and in every linear layer but the last, 0 elsewhere (Krizhevsky et al. 2012, section 5). The paper gives
    this for AlexNet; other networks get it by position. ``he``: weights from N(0, 2 / inputs), which keeps the size of
    activations from layer to layer under ReLU, biases 0 (He et al. 2015). Batch norm keeps PyTorch's start. Raises
    CourseError for an unknown ``init``.
    """
    if init not in INITIALISATIONS:
        raise CourseError(f"init is {init!r}, but must be {' or '.join(INITIALISATIONS)}.")
    if init == "default":
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                module.reset_parameters()
        return
    if init == "he":
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        return
    convolutions: list[nn.Conv2d | nn.Linear] = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    linears: list[nn.Conv2d | nn.Linear] = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    # The ones give the ReLUs after them positive inputs, which speeds up the first steps (section 5).
    ones = {*convolutions[1:2], *convolutions[3:5], *linears[:-1]}
    for layer in convolutions + linears:
        nn.init.normal_(layer.weight, std=0.01)
        if layer.bias is not None:
            nn.init.constant_(layer.bias, 1.0 if layer in ones else 0.0)
