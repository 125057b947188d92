"""LeNet-5, published fourteen years before AlexNet, as a measure of scale."""

from torch import nn

from alexnet_course.models.network import Network


class LeNet5(Network):
    """LeNet-5 as it is usually rebuilt: N×in_channels×32×32 in, N×num_classes logits out.

    Source: LeCun et al. 1998, section II.B. Three things are simpler than there: the second convolution sees all six
    maps, the poolings have no weights of their own, and the output is linear instead of radial basis functions.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, kernel_size=5),
            nn.Tanh(),
            nn.AvgPool2d(kernel_size=2, stride=2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.Tanh(),
            nn.AvgPool2d(kernel_size=2, stride=2),
            nn.Conv2d(16, 120, kernel_size=5),
            nn.Tanh(),
        )
        self.classifier = nn.Sequential(nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, num_classes))
        self.measure_input()
