"""AlexNet and its relatives: five convolutions, three poolings, three linear layers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from alexnet_course.errors import CourseError
from alexnet_course.models.layers import hidden_and_output, local_response_norm, scaled
from alexnet_course.models.network import Network
from alexnet_course.shapes import conv_output_size

Builder = Callable[..., "AlexNet"]

PAPER_CHANNELS = (96, 256, 384, 384, 256)  # Krizhevsky et al. 2012, figure 2, both GPUs together
ONE_TOWER_CHANNELS = (64, 192, 384, 256, 256)  # Krizhevsky 2014, "One weird trick", as torchvision builds it


class AlexNet(Network):
    """Every AlexNet but d2l's; N×in_channels×H×W in, N×num_classes logits out.

    The networks differ in the first convolution (``kernel``, ``stride``, ``padding``), in the ``channels`` of the five
    convolutions, in ``groups`` of convolutions 2, 4 and 5 (2: the paper's two GPUs, each seeing half of the channels),
    in local response normalisation with ``lrn_alpha`` after convolutions 1 and 2 (``lrn``) and, in those of S3, after
    convolution 5 too (``last_lrn``), in what brings the last map to ``map_side`` × ``map_side`` (``pool``; None: the
    image must be of the right size) and in place of dropout. The last map is 6×6, but 2×2 in S3's first version.
    Structure and parameter names are torchvision's, so ``alexnet-owt`` loads its weights.

    For experiments: ``hidden`` units in each hidden linear layer, another ``map_side`` where there is a ``pool``,
    poolings of 3×3 that overlap or of 2×2 that do not (``overlap``; paper, section 3.4), and batch norm before
    every ReLU of the convolutions (``batch_norm``).
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int, int],
        kernel: int,
        stride: int,
        padding: int,
        *,
        groups: int = 1,
        lrn: bool = False,
        last_lrn: bool = False,
        lrn_alpha: float = 1e-4,
        pool: Callable[[tuple[int, int]], nn.Module] | None = None,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.5,
        dropout_first: bool = True,
        hidden: int = 4096,
        map_side: int = 6,
        overlap: bool = True,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        one, two, three, four, five = channels
        window = 3 if overlap else 2

        def norm(width: int) -> list[nn.Module]:
            return [nn.BatchNorm2d(width)] if batch_norm else []

        def response_norm(wanted: bool) -> list[nn.Module]:
            return [local_response_norm(alpha=lrn_alpha)] if wanted else []

        self.features = nn.Sequential(
            nn.Conv2d(in_channels, one, kernel, stride, padding),
            *norm(one),
            nn.ReLU(inplace=True),
            *response_norm(lrn),
            nn.MaxPool2d(kernel_size=window, stride=2),
            nn.Conv2d(one, two, kernel_size=5, padding=2, groups=groups),
            *norm(two),
            nn.ReLU(inplace=True),
            *response_norm(lrn),
            nn.MaxPool2d(kernel_size=window, stride=2),
            nn.Conv2d(two, three, kernel_size=3, padding=1),
            *norm(three),
            nn.ReLU(inplace=True),
            nn.Conv2d(three, four, kernel_size=3, padding=1, groups=groups),
            *norm(four),
            nn.ReLU(inplace=True),
            nn.Conv2d(four, five, kernel_size=3, padding=1, groups=groups),
            *norm(five),
            nn.ReLU(inplace=True),
            *response_norm(lrn and last_lrn),
            nn.MaxPool2d(kernel_size=window, stride=2),
        )
        # torchvision's name for it, also where it takes the maximum
        self.avgpool = pool((map_side, map_side)) if pool is not None else None
        self.classifier = hidden_and_output(five * map_side**2, hidden, num_classes, dropout, dropout_first)
        self.measure_input()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N×C×H×W images to N×num_classes logits. Raises CourseError for images that do not fit."""
        self.check_input(x)
        x = self.features(x)
        if self.avgpool is not None:
            x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


class D2LAlexNet(Network):
    """The AlexNet of "Dive into Deep Learning": one chain of layers; N×in_channels×H×W in, N×num_classes logits out.

    The first convolution has padding 1, so that 224×224 gives 54×54; the last map is 5×5 and goes straight into the
    head. Layers and parameter names are those of d2l's ``AlexNet`` (S1; S4 with ``in_channels=1``). ``trailing_relu``
    adds S1's mistake: a ReLU after the logits, which forbids negative ones and stops the gradient of every class that
    it sets to zero.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, dropout: float = 0.5, trailing_relu: bool = False
    ) -> None:
        super().__init__()
        one, two, three, four, five = PAPER_CHANNELS
        self.net = nn.Sequential(
            nn.Conv2d(in_channels, one, kernel_size=11, stride=4, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(one, two, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(two, three, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(three, four, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(four, five, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Flatten(),
            *hidden_and_output(five * 5 * 5, 4096, num_classes, dropout),
            *([nn.ReLU()] if trailing_relu else []),
        )
        self.measure_input()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N×C×H×W images to N×num_classes logits. Raises CourseError for images that do not fit."""
        self.check_input(x)
        return self.net(x)


def _variant(
    channels: tuple[int, int, int, int, int],
    *,
    kernel: int,
    stride: int,
    padding: int,
    lrn: bool = False,
    pool: Callable[[tuple[int, int]], nn.Module] | None = None,
    image: int = 0,
    **layers: Any,
) -> Builder:
    """The builder of one AlexNet, which ``channels``, ``lrn`` and the further arguments of the class describe.

    Without a ``pool`` the head is made for the last map of images of side ``image``. ``width`` multiplies the
    channels of the convolutions.
    """

    def last_side(overlap: bool) -> int:
        side = conv_output_size(image, kernel, stride, padding)
        for _ in range(3):  # the poolings; the other convolutions keep the size
            side = conv_output_size(side, 3 if overlap else 2, stride=2)
        return side

    published_side = last_side(overlap=True) if pool is None else 6
    published = lrn  # as the default of an override, it must have another name

    def build(
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.5,
        lrn: bool = published,
        hidden: int = 4096,
        map_side: int = published_side,
        overlap: bool = True,
        batch_norm: bool = False,
        width: float = 1.0,
    ) -> AlexNet:
        if pool is None:
            if map_side != published_side:
                raise CourseError(f"map_side is {map_side}, but this network has no adaptive pool to change its last "
                                  f"map with; leave map_side at {published_side}.")  # fmt: skip
            map_side = last_side(overlap)
        one, two, three, four, five = (scaled(number, width) for number in channels)
        return AlexNet(
            (one, two, three, four, five),
            kernel=kernel,
            stride=stride,
            padding=padding,
            lrn=lrn,
            pool=pool,
            num_classes=num_classes,
            in_channels=in_channels,
            dropout=dropout,
            hidden=hidden,
            map_side=map_side,
            overlap=overlap,
            batch_norm=batch_norm,
            **layers,
        )

    return build


# The paper's own network (Krizhevsky et al. 2012, sections 3 and 4.2). Its images of 224×224 give its 55×55 after the
# first convolution where sizes are rounded up, as in the authors' code (layer.py, released in 2025). PyTorch rounds
# down, so here they are 227×227.
alexnet_2012 = _variant(
    PAPER_CHANNELS, kernel=11, stride=4, padding=0, groups=2, lrn=True, image=227, dropout_first=False
)

# S2's first network: the paper's on one GPU, that is without groups.
alexnet_lrn = _variant(PAPER_CHANNELS, kernel=11, stride=4, padding=0, lrn=True, image=227, dropout_first=False)

# torchvision's, after Krizhevsky 2014; adaptive pooling lets it take any image that survives the layers before.
alexnet_owt = _variant(ONE_TOWER_CHANNELS, pool=nn.AdaptiveAvgPool2d, kernel=11, stride=4, padding=2)

# S0: torchvision's with another first convolution, for 32×32 images.
alexnet_cifar_3x3 = _variant(ONE_TOWER_CHANNELS, pool=nn.AdaptiveAvgPool2d, kernel=3, stride=1, padding=2)

# S3's networks, as its repository has them: PyTorch's normalisation with alpha=1e-4, which is a fifth of the paper's α,
# a third time after convolution 5, and dropout after each hidden ReLU. First version: the head sees 256 maps of 2×2.
_S3_NORMALISATION: dict[str, Any] = {"lrn": True, "last_lrn": True, "lrn_alpha": 1e-4 / 5}
alexnet_cifar_5x5_v1 = _variant(
    PAPER_CHANNELS, kernel=5, stride=1, padding=0, image=32, dropout_first=False, **_S3_NORMALISATION
)

# S3's second version: adaptive pools to 6×6, the average of torchvision's widths and the maximum of the paper's.
alexnet_cifar_5x5 = _variant(
    ONE_TOWER_CHANNELS, pool=nn.AdaptiveAvgPool2d, kernel=5, stride=1, padding=0, dropout_first=False
)
alexnet_cifar_5x5_lrn = _variant(
    PAPER_CHANNELS,
    pool=nn.AdaptiveMaxPool2d,
    kernel=5,
    stride=1,
    padding=0,
    dropout_first=False,
    **_S3_NORMALISATION,
)
