"""A look inside a trained network: what its layers make of an image, which images excite a unit most, and where in a
image the evidence for a class lies."""

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
ENOUGH = 4  # positions along each side of a map that still says where


@dataclass(frozen=True)
class Response:
    """How strongly one unit answers to one image."""

    image: int
    """Index of the image in the loader's data set."""
    value: float
    """The largest activation of the unit's channel anywhere in the image."""
    box: Box
    """The patch that the unit sees there: top, left, height and width in pixels of what the network gets, cut off at
    the image's edge. The whole image where units have no window of their own (``Layer.receptive_field``)."""


def feature_maps(model: nn.Module, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """What the named ``layers`` of ``model`` put out for one ``image``: (C, H, W), or (features,) once flattened.

    ``image`` is normalised, C×H×W, on the model's device (``BatchLoader`` makes such images); ``layers`` are dotted
    paths as in ``layer_table``. The maps are those of evaluation mode, on the CPU, as float32. Raises ``CourseError``
    for an unknown layer.
    """
    kept: dict[str, Tensor] = {}

    def keep(name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        kept[name] = output[0].float().cpu().clone()  # the ReLU that follows may overwrite what a convolution puts out

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
    """For each unit of ``layer``, the ``count`` images of ``loader`` that excite it most, the strongest first.

    A unit here is a channel of a convolution or pooling, at the position where it answers most, or one output of a
    linear layer; the result has one list for each of them. In evaluation mode, every image once. Raises
    ``CourseError`` for an unknown layer and for a loader that shuffles. Source: Zeiler and Fergus 2014, without their
    deconvolution.
    """
    if loader.training:
        raise CourseError("The loader shuffles its images, so nobody could tell which was which; give one made with "
                          "training=False.")  # fmt: skip
    tops: list[tuple[Tensor, Tensor]] = []  # of each batch: largest values of all units, and their positions

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
    """A function that gives the box (see ``Response``) seen from a position of ``layer``, positions counted row by row.

    ``input_size`` is (C, H, W). Going up through the layers, each moves the first window to the left and up, by its
    padding times the jump of the layer below. Raises ``CourseError`` where ``layer`` is no row of ``layer_table``.
    Source: Araujo et al. 2019.
    """
    channels, height, width = input_size
    rows = layer_table(model, (channels, height, width))
    names = [row.name for row in rows]
    if layer not in names:
        raise CourseError(f"{layer!r} is not one layer of the network; nearest: {nearest(layer, names)}.")
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
    """Where in ``image`` the evidence for the class ``target`` lies: h×w numbers, none below 0, on the CPU.

    ``image`` is normalised, C×H×W, on the model's device; ``target`` is the index of a logit, by default of the
    largest; ``layer`` is a dotted path as in ``layer_table``, by default that of ``evidence_layer``. The map has the
    positions of that layer's output. The gradient of the logit with respect to a channel, averaged over its positions,
    is the weight of the channel; the weighted sum of all channels, where it is positive, is the evidence. Behind an
    average over all positions and one linear layer, it adds up to the logit without its bias, but for what was
    negative.

    Of the ways to explain a network's answer, this one needs no training and no layer of a special kind, one pass back
    instead of hundreds of passes forward (as when parts of the image are covered in turn), and it depends on what the
    network has learned: where weights are made random, its maps change, while those of some others hardly do (Adebayo
    et al. 2018). captum and pytorch-grad-cam have it too; here it is short enough to be read.

    Raises ``CourseError`` for an unknown layer, for one without a map, and for a network whose layers do not suffice.
    Source: Selvaraju et al. 2017.
    """
    channels, height, width = image.shape
    layer = layer or evidence_layer(model, (channels, height, width))
    kept: list[Tensor] = []

    def keep(name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        kept.append(output)

    # The gradient begins at the image, so that there is one through frozen weights as well.
    with watching(_named(model, [layer]), keep), evaluating(model), torch.enable_grad():
        logits = model(image[None].detach().requires_grad_())[0]
        score = logits.max() if target is None else logits[target]
        maps = kept[-1]
        if maps.dim() != 4:
            raise CourseError(f"{layer!r} puts out {tuple(maps.shape[1:])}, and no map of C×H×W; give a convolution.")
        (gradient,) = torch.autograd.grad(score, maps)
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * maps).sum(1)[0].detach().relu().float().cpu()


def evidence_layer(model: nn.Module, input_size: tuple[int, int, int]) -> str:
    """The layer whose map says most of what is where: the last convolution, with the norm and the ReLU behind it.

    ``input_size`` is (C, H, W). Where the last map is smaller than 4×4, as late in a network for small images, the
    last one that is not is taken, or else the largest. Raises ``CourseError`` where the network has no convolution, or
    none with a map of more than one position.
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
        raise CourseError(f"{type(model).__name__} has no convolution, so there is no map of where it saw what; "
                          "explain a network that has one.")  # fmt: skip
    large_enough = [row for row in found if min(row.output_shape[1:]) >= ENOUGH]
    best = large_enough[-1] if large_enough else max(found, key=lambda row: min(row.output_shape[1:]))
    if max(best.output_shape[1:]) == 1:
        raise CourseError(f"The convolutions of {type(model).__name__} make one position of an image of "
                          f"{'×'.join(map(str, input_size))}, so there is no map of where they saw what; explain a "
                          "network with larger maps.")  # fmt: skip
    return best.name


def _named(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The layers of these names; ``CourseError`` for one that the network does not have."""
    modules = {path: module for path, module in model.named_modules() if path}
    for name in names:
        if name not in modules:
            raise CourseError(f"The network has no layer {name!r}; nearest: {nearest(name, modules)}.")
    return {name: modules[name] for name in names}
