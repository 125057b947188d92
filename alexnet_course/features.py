"""Look inside a trained network: feature maps, the images that activate a unit most, and where in an image the evidence
for a class lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alexnet_course.data.batches import BatchLoader
from alexnet_course.errors import CourseError, nearest
from alexnet_course.shapes import Layer, evaluating, layer_table, watching

Box = tuple[int, int, int, int]
ENOUGH = 4  # positions along each side that a map needs to locate anything


@dataclass(frozen=True)
class Response:
    """How strongly one unit responds to one image."""

    image: int
    """Index of the image in the loader's data set."""
    value: float
    """The largest activation of the unit's channel anywhere in the image."""
    box: Box
    """The unit's receptive field there: top, left, height and width in pixels of the network's input, clipped at the
    image's edge. The whole image if the layer has no receptive field (``Layer.receptive_field``)."""


def feature_maps(model: nn.Module, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """The outputs of the named ``layers`` of ``model`` for one ``image``: (C, H, W), or (features,) once flattened.

    ``image`` is normalised, C×H×W, on the model's device (``BatchLoader`` makes such images); ``layers`` are dotted
    paths as in ``layer_table``. The outputs are those of evaluation mode, on the CPU, as float32. Raises
    ``CourseError`` for an unknown layer.
    """
    kept: dict[str, Tensor] = {}

    def keep(name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        kept[name] = output[0].float().cpu().clone()  # an in-place ReLU may overwrite the convolution's output

    with watching(_named(model, layers), keep), evaluating(model), torch.no_grad():
        model(image[None])
    return kept


def hidden_values(model: nn.Module, loader: BatchLoader) -> Tensor:
    """What the last linear layer of ``model`` reads for each image of ``loader``: N×features, on the CPU, as float32.

    In AlexNet these are the 4,096 values by which its paper searches for similar images (Figure 4). In evaluation mode.
    Raises ``CourseError`` for a network without a linear layer and for a loader that shuffles.
    """
    if loader.training:
        raise CourseError("The loader shuffles its images, so nobody could tell which was which; give one made with "
                          "training=False.")  # fmt: skip
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise CourseError(f"{type(model).__name__} has no linear layer; give a network that ends in one.")
    kept: list[Tensor] = []

    def keep(name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        kept.append(inputs[0].float().cpu())

    with watching(_named(model, linear[-1:]), keep), evaluating(model), torch.no_grad():
        for images, _ in loader:
            model(images)
    return torch.cat(kept)


def strongest(model: nn.Module, layer: str, loader: BatchLoader, count: int = 5) -> list[list[Response]]:
    """For each unit of ``layer``, the ``count`` images of ``loader`` that activate it most, the strongest first.

    A unit is a channel of a convolution or pooling layer, at the position of its largest activation, or one output of a
    linear layer; the result has one list for each unit. Every image is seen once, in evaluation mode. Raises
    ``CourseError`` for an unknown layer and for a loader that shuffles. Source: Zeiler and Fergus 2014, without their
    deconvolution.
    """
    if loader.training:
        raise CourseError("The loader shuffles its images, so their indices would be lost; give one made with "
                          "training=False.")  # fmt: skip
    tops: list[tuple[Tensor, Tensor]] = []  # for each batch: the largest value of every unit, and its position

    def keep(name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        flat = output.float().flatten(2) if output.dim() > 2 else output.float()[:, :, None]
        values, positions = flat.max(2)
        tops.append((values, positions))

    with watching(_named(model, [layer]), keep), evaluating(model), torch.no_grad():
        for images, _ in loader:
            model(images)
    values, positions = (torch.cat(part) for part in zip(*tops, strict=True))  # images × units
    best = values.topk(min(count, len(values)), dim=0)
    patches = patch_finder(model, layer, tuple(images.shape[1:]))
    order = loader.indices.tolist()
    return [
        [
            Response(order[index], value, patches(int(positions[index, unit])))
            for index, value in zip(best.indices[:, unit].tolist(), best.values[:, unit].tolist(), strict=True)
        ]
        for unit in range(values.shape[1])
    ]


def patch_finder(model: nn.Module, layer: str, input_size: tuple[int, ...]) -> Callable[[int], Box]:
    """A function from a position of ``layer``, counted row by row, to its receptive field as a box (see ``Response``).

    ``input_size`` is (C, H, W). Each layer shifts the first window left and up, by its padding times the jump of the
    layer below. Raises ``CourseError`` if ``layer`` is not a row of ``layer_table``.
    Source: Araujo et al. 2019.
    """
    channels, height, width = input_size
    rows = layer_table(model, (channels, height, width))
    names = [row.name for row in rows]
    if layer not in names:
        raise CourseError(f"{layer!r} is not a single layer of the network; nearest: {nearest(layer, names)}.")
    this = rows[names.index(layer)]
    if this.receptive_field is None or this.jump is None:
        return lambda position: (0, 0, height, width)
    start, jump = 0, 1
    for row in rows[: names.index(layer) + 1]:
        padding: Any = getattr(model.get_submodule(row.name), "padding", 0)
        start -= (padding[0] if isinstance(padding, tuple) else padding) * jump
        jump = row.jump or jump
    field, step, columns = this.receptive_field, this.jump, this.output_shape[2]

    def patch(position: int) -> Box:
        top, left = (start + step * index for index in divmod(position, columns))
        bottom, right = min(top + field, height), min(left + field, width)
        return max(top, 0), max(left, 0), bottom - max(top, 0), right - max(left, 0)

    return patch


def grad_cam(model: nn.Module, image: Tensor, target: int | None = None, layer: str | None = None) -> Tensor:
    """Where in ``image`` the evidence for the class ``target`` lies: h×w non-negative values, on the CPU.

    ``image`` is normalised, C×H×W, on the model's device; ``target`` is the index of a logit, by default of the
    largest; ``layer`` is a dotted path as in ``layer_table``, by default that of ``evidence_layer``. The result has the
    height and width of that layer's output. Each channel's weight is the gradient of the logit with respect to it,
    averaged over its positions; the evidence is the positive part of the weighted sum of the channels. If only global
    average pooling and one linear layer follow, the weighted sum over all positions is the logit without its bias.

    Grad-CAM needs no training and no special layer, and one backward pass instead of the hundreds of forward passes
    that occlusion takes. It also depends on what the network has learned: when weights are randomised its maps change,
    while those of some other methods hardly do (Adebayo et al. 2018). captum and pytorch-grad-cam have it too; this
    version is short enough to read.

    Raises ``CourseError`` for an unknown layer, for one without a map, and for a network without a suitable layer.
    Source: Selvaraju et al. 2017.
    """
    channels, height, width = image.shape
    layer = layer or evidence_layer(model, (channels, height, width))
    kept: list[Tensor] = []

    def keep(name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        kept.append(output)

    # The image requires a gradient, so that there is one through frozen weights too.
    with watching(_named(model, [layer]), keep), evaluating(model), torch.enable_grad():
        logits = model(image[None].detach().requires_grad_())[0]
        score = logits.max() if target is None else logits[target]
        maps = kept[-1]
        if maps.dim() != 4:
            raise CourseError(f"{layer!r} outputs {tuple(maps.shape[1:])}, not a C×H×W map; give a convolution.")
        (gradient,) = torch.autograd.grad(score, maps)
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * maps).sum(1)[0].detach().relu().float().cpu()


def evidence_layer(model: nn.Module, input_size: tuple[int, int, int]) -> str:
    """The layer to explain a prediction with: the last convolution, including the normalisation and ReLU after it.

    ``input_size`` is (C, H, W). If the last map is smaller than 4×4, as is common for small images, the last one of at
    least 4×4 is taken, or else the largest. Raises ``CourseError`` if the network has no convolution, or none with a
    map of more than one position.
    """
    rows = layer_table(model, input_size)
    found: list[Layer] = []
    for number, row in enumerate(rows):
        if isinstance(model.get_submodule(row.name), nn.Conv2d):
            found.append(row)
            for follower in rows[number + 1 :]:
                if follower.output_shape != row.output_shape or follower.kind == row.kind:
                    break
                found[-1] = follower
    if not found:
        raise CourseError(f"{type(model).__name__} has no convolution, so it has no map to explain with; "
                          "give a network that has one.")  # fmt: skip
    large_enough = [row for row in found if min(row.output_shape[1:]) >= ENOUGH]
    best = large_enough[-1] if large_enough else max(found, key=lambda row: min(row.output_shape[1:]))
    if max(best.output_shape[1:]) == 1:
        raise CourseError(f"The convolutions of {type(model).__name__} reduce an image of "
                          f"{'×'.join(map(str, input_size))} to one position, so it has no map to explain with; give a "
                          "network with larger maps.")  # fmt: skip
    return best.name


def _named(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The layers with these names; ``CourseError`` for a name that the network does not have."""
    modules = {path: module for path, module in model.named_modules() if path}
    for name in names:
        if name not in modules:
            raise CourseError(f"The network has no layer {name!r}; nearest: {nearest(name, modules)}.")
    return {name: modules[name] for name in names}
