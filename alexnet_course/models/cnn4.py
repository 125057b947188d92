"""A network of four layers for CIFAR-10, like those on which the AlexNet paper tests ReLU against tanh, and LRN."""

from torch import nn

from alexnet_course.errors import CourseError
from alexnet_course.models.layers import local_response_norm
from alexnet_course.models.network import Network

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class CNN4(Network):
    """Three convolutions and one linear layer: N×in_channels×32×32 in, N×num_classes logits out.

    Source: ``layers-18pct`` among the examples of Krizhevsky's cuda-convnet. The paper does not describe the network of
    its figure 1; for that of section 3.3 it refers to cuda-convnet, whose ``layers-conv-local-13pct`` and ``-11pct``
    have its error rates, 64 kernels in two convolutions, and two locally connected layers.
    ``activation`` is ``relu`` or ``tanh``; ``lrn`` normalises after the first two poolings. cuda-convnet lets the last
    window of its 3/2 poolings hang over the edge, 32 → 16 → 8 → 4; padding 1 gives the same sizes, and averages count
    only the pixels that exist. Without ``overlap`` the poolings are 2/2 and give the same sizes (section 3.4).
    ``groups`` are those of the second convolution. With 2 the network begins as two towers, which meet in the third
    convolution, as AlexNet's do on its two GPUs (section 3.5).
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        activation: str = "relu",
        lrn: bool = False,
        overlap: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise CourseError(f"activation is {activation!r}, but must be {' or '.join(ACTIVATIONS)}.")
        activate = ACTIVATIONS[activation]
        window, padding = (3, 1) if overlap else (2, 0)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 32, kernel_size=5, padding=2),
            activate(),
            nn.MaxPool2d(window, stride=2, padding=padding),
            *([local_response_norm()] if lrn else []),
            nn.Conv2d(32, 32, kernel_size=5, padding=2, groups=groups),
            activate(),
            nn.AvgPool2d(window, stride=2, padding=padding, count_include_pad=False),
            *([local_response_norm()] if lrn else []),
            nn.Conv2d(32, 64, kernel_size=5, padding=2),
            activate(),
            nn.AvgPool2d(window, stride=2, padding=padding, count_include_pad=False),
        )
        self.classifier = nn.Sequential(nn.Linear(64 * 4 * 4, num_classes))
        self.measure_input()
