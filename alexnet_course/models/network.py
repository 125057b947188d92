"""The base of all networks: it checks the image size and explains why an image does not fit."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from alexnet_course.errors import CourseError, first_line
from alexnet_course.shapes import evaluating, layer_output_size

NO_LIMIT = 10_000  # pixels; a network that takes images of this side takes larger ones too


def check_logits(model: nn.Module, images: torch.Tensor, num_classes: int, name: str) -> None:
    """Raises CourseError unless ``model``, in evaluation mode, makes N×``num_classes`` logits of ``images``
    (N×C×H×W). ``name`` is what the error calls the network."""
    shape = "×".join(map(str, images.shape[1:]))
    try:
        with evaluating(model), torch.no_grad():
            logits = model(images)
    except (CourseError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever someone's own network can run into
        reason = first_line(error, "without a word")
        raise CourseError(f"{name} cannot take an image of {shape} ({type(error).__name__}: {reason}); fix its "
                          "forward, or give images of another size.") from error  # fmt: skip
    wanted = (len(images), num_classes)
    if not isinstance(logits, torch.Tensor) or logits.shape != wanted:
        given = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise CourseError(f"{name} gives {given} for {len(images)}×{shape}, but must give {wanted}, a logit for each "
                          "class; fix its last layer.")  # fmt: skip


def check_weights(model: nn.Module, name: str) -> None:
    """Raises CourseError unless all that ``model`` stores are tensors of known shapes; only those can be saved."""
    for key, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise CourseError(f"{name} has a lazy layer in {key}, whose weights have no shape before the first batch; "
                              "give the layer its sizes.")  # fmt: skip
    for key, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise CourseError(f"{name} keeps {key} ({type(value).__name__}) with its weights, which must be tensors; "
                              "make it a buffer (register_buffer), or an option of its builder.")  # fmt: skip


class Obstacle(NamedTuple):
    """Where and why an image gets stuck, as a phrase, and whether a larger one does as well."""

    text: str
    too_large: bool


class Network(nn.Module):
    """Base of all networks: ``features``, flattened, go into the ``classifier``; N×C×H×W in, N×num_classes logits out.

    A subclass calls ``measure_input`` once its layers exist, and ``check_input`` where it has a forward of its own. Its
    layers must follow one another in the order in which they are defined, flattened before the first linear one.
    """

    features: nn.Module
    classifier: nn.Module
    name: str
    """The registry's name for the network; the class's name where it was built by hand."""
    in_channels: int
    """Colour channels of an image."""
    smallest: int
    """Side in pixels of the smallest square image that the network takes."""
    largest: int | None
    """Side in pixels of the largest one; None: no limit."""

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__name__

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N×C×H×W images to N×num_classes logits. Raises CourseError for images that do not fit."""
        self.check_input(x)
        x = self.features(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)

    def measure_input(self) -> None:
        """Finds out, with integers alone, which images the layers can take. Call it again if layers change.

        Raises CourseError if they can take no square image.
        """
        self.in_channels = next(layer for layer in self.modules() if isinstance(layer, nn.Conv2d)).in_channels
        # A larger image never makes a smaller map, so the sides that work lie next to each other.
        side = 1
        while (obstacle := self._obstacle((side, side))) is not None:
            if obstacle.too_large or side == NO_LIMIT:
                raise CourseError(f"{self.name} cannot take any square image: at {side}×{side} pixels, "
                                  f"{obstacle.text}; set that layer's in_features to what it receives.")  # fmt: skip
            side += 1
        self.smallest = side
        self.largest = None
        if self._obstacle((NO_LIMIT, NO_LIMIT)) is not None:
            while self._obstacle((side, side)) is None:
                side += 1
            self.largest = side - 1

    def check_input(self, x: torch.Tensor) -> None:
        """Raises CourseError, with the reason and the size that works, unless ``x`` is an N×C×H×W batch that fits.

        Four comparisons a step: cheap, and torch.compile turns them into guards.
        """
        if x.dim() == 4 and x.is_floating_point() and x.shape[1] == self.in_channels:
            low, high = self.smallest, self.largest
            height, width = x.shape[2], x.shape[3]
            if height >= low and width >= low and (high is None or (height <= high and width <= high)):
                return
        self._refuse(x)

    def _refuse(self, x: torch.Tensor) -> None:
        shape = "×".join(str(side) for side in x.shape)
        if x.dim() != 4:
            raise CourseError(
                f"{self.name} takes a batch of shape N×{self.in_channels}×H×W, but got one of shape {shape or '()'}; "
                "add the dimensions that are missing (x.unsqueeze(0) makes a batch of one image)."
            )
        if not x.is_floating_point():
            raise CourseError(
                f"{self.name} takes images of floating-point numbers, but got {x.dtype}; scale them first (x / 255)."
            )
        if x.shape[1] != self.in_channels:
            raise CourseError(
                f"{self.name} takes images with {self.in_channels} channel{'s' if self.in_channels > 1 else ''}, but "
                f"got {shape} (N×C×H×W); convert the images, or build it with in_channels={x.shape[1]}."
            )
        height, width = x.shape[2], x.shape[3]
        obstacle = self._obstacle((height, width))
        # No obstacle: the layers were changed after measure_input, and those that are there now can take the image.
        if obstacle is not None:
            limit = f" and the largest {self.largest}×{self.largest}" if self.largest else ""
            raise CourseError(
                f"{self.name} cannot take an image of {height}×{width}: {obstacle.text}; the smallest that works is "
                f"{self.smallest}×{self.smallest}{limit}."
            )

    def _obstacle(self, size: tuple[int, int]) -> Obstacle | None:
        """Where and why an image of ``size`` (H, W) gets stuck; None where it passes."""
        channels = self.in_channels
        for name, layer in self.named_modules():
            if any(layer.children()):
                continue
            if isinstance(layer, nn.Linear):
                values = channels * size[0] * size[1]
                if values == layer.in_features:
                    return None
                return Obstacle(
                    f"it reaches {name} (Linear) as {channels}×{size[0]}×{size[1]} = {values:,} values, where "
                    f"{layer.in_features:,} are expected",
                    values > layer.in_features,
                )
            try:
                size = layer_output_size(layer, size)
            except CourseError:
                kernel, stride = (
                    value[0] if isinstance(value, tuple) else value for value in (layer.kernel_size, layer.stride)
                )
                return Obstacle(
                    f"it vanishes at {name} ({type(layer).__name__} {kernel}/{stride}), where only {size[0]}×{size[1]} "
                    "of it is left",
                    False,
                )
            if isinstance(layer, nn.Conv2d):
                channels = layer.out_channels
        return None
