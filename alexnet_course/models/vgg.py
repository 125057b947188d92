"""S2's fine-tuned networks: AlexNet's five stages with every convolution replaced by two or three of 3×3."""

from collections.abc import Callable

from torch import nn

from alexnet_course.models.layers import hidden_and_output, scaled
from alexnet_course.models.network import Network

CHANNELS = (64, 128, 256, 512, 512)  # VGG's (Simonyan and Zisserman 2014, table 1); S2 does not name its own

# S2 gives "about 15.9 M" parameters and no width of the hidden layers. With the images reduced to 1×1, 2,304 units
# bring the total to 15,920,714, so this is the width that fits; AlexNet's 4,096 would give 28 M.
HIDDEN = 2304


class VGGStyle(Network):
    """Five stages of 3×3 convolutions with a pooling each, then two hidden layers; N×C×H×W in, N×num_classes out.

    ``depths`` counts the convolutions of each stage, ``pools`` gives the side of each stage's pooling window (stride
    2). As S2 lists its poolings, without padding, a 32×32 image goes 15, 7, 3, 1 and vanishes; padding of 1 on the
    3×3 windows makes it 16, 8, 4, 2, 1 and leaves all layers and all parameters as they are.

    For experiments: ``width`` multiplies the channels of the convolutions; ``hidden`` is the number of units in each
    hidden linear layer.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        pools: tuple[int, ...],
        batch_norm: bool,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.5,
        width: float = 1.0,
        hidden: int = HIDDEN,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = in_channels
        for published, depth, pool in zip(CHANNELS, depths, pools, strict=True):
            channels = scaled(published, width)
            for _ in range(depth):
                layers.append(nn.Conv2d(inputs, channels, kernel_size=3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(channels))
                layers.append(nn.ReLU(inplace=True))
                inputs = channels
            layers.append(nn.MaxPool2d(kernel_size=pool, stride=2, padding=1 if pool == 3 else 0))
        self.features = nn.Sequential(*layers)
        self.classifier = hidden_and_output(inputs, hidden, num_classes, dropout)
        self.measure_input()


def _variant(depths: tuple[int, ...], pools: tuple[int, ...], batch_norm: bool) -> Callable[..., VGGStyle]:
    """The builder of one of S2's networks; whether it has batch norm is only its default."""
    published = batch_norm

    def build(
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.5,
        batch_norm: bool = published,
        width: float = 1.0,
        hidden: int = HIDDEN,
    ) -> VGGStyle:
        return VGGStyle(depths, pools, batch_norm, num_classes, in_channels, dropout, width, hidden)

    return build


# S2's second network: pairs of 3×3 convolutions, the first pooling 3/2, the others 2/2, for 32×32 images.
vgg_style = _variant((2, 2, 2, 2, 2), (3, 2, 2, 2, 2), False)

# S2's third network: 2, 2, 2, 3 and 3 convolutions with batch norm, every pooling 3/2, for 32×32 images.
vgg_style_bn = _variant((2, 2, 2, 3, 3), (3, 3, 3, 3, 3), True)
