"""A network as a list of layers with 8-bit weights, in the form that ``engine.js`` reads.

The weights of convolutions and linear layers are integers from -127 to 127 with one scale for each output channel
(symmetric, per channel: Krishnamoorthi 2018, section 2.3). Biases and the four vectors of batch norm stay in fp32; they
are few.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from alexnet_course.errors import CourseError
from alexnet_course.records.record import Record
from alexnet_course.shapes import evaluating, watching

LARGEST = 127
SIDE, CHANNELS = 32, 3  # of the images that the page shows
CLOSE = 1e-4  # of a logit, or of the largest where that is above 1: what rearranging a network's layers may change


@dataclass(frozen=True)
class Step:
    """One layer of a network that is a plain stack: its name, the layer, and the size of its output without N."""

    name: str
    layer: nn.Module
    size: tuple[int, ...]


def stack_of(model: nn.Module, input_size: tuple[int, int, int]) -> list[Step]:
    """The layers of ``model`` in the order of execution, for C×H×W images of ``input_size``.

    Where a feature map becomes a vector without a layer of its own, there is a ``Flatten``. Raises ``CourseError``,
    with the layer's name, for a layer that runs twice, and for a network that is not one layer after the other.
    """
    leaves = {name: layer for name, layer in model.named_modules() if not list(layer.children())}
    steps: list[Step] = []

    def note(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if any(step.name == name for step in steps):
            raise CourseError(f"The layer {name} runs twice, and a page shows each layer once; write it down twice.")
        if inputs[0].dim() == 2 and (not steps or len(steps[-1].size) == 3):
            steps.append(Step("flatten", nn.Flatten(), tuple(inputs[0].shape[1:])))
        steps.append(Step(name, layer, tuple(output.shape[1:])))

    images = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0))
    device = next(model.parameters()).device
    with torch.no_grad(), evaluating(model):
        with watching(leaves, note):
            expected = model(images.to(device)).cpu()
        found = images.to(device)
        try:
            for step in steps:
                found = step.layer(found)
        except RuntimeError:
            found = torch.empty(0)
    if found.shape != expected.shape or not torch.allclose(found.cpu(), expected, rtol=CLOSE, atol=CLOSE):
        raise CourseError("The network is not one layer after the other: something happens between its layers, which a "
                          "page cannot show; give a network whose forward() only calls them in turn.")  # fmt: skip
    return steps


@dataclass
class Numbers:
    """Integers and floats of all layers, one after the other."""

    integers: list[Tensor] = field(default_factory=list)
    floats: list[Tensor] = field(default_factory=list)

    def add_integers(self, values: Tensor) -> int:
        return _append(self.integers, values.to(torch.int8))

    def add_floats(self, values: Tensor) -> int:
        return _append(self.floats, values.float())


def _append(parts: list[Tensor], values: Tensor) -> int:
    """Appends ``values``; returns where they begin."""
    start = sum(part.numel() for part in parts)
    parts.append(values.detach().cpu().flatten())
    return start


def describe(model: nn.Module, record: Record, accuracy: dict[str, float] | None = None) -> dict[str, Any]:
    """Everything that a page needs of a trained network, ready for JSON.

    ``layers`` has one entry for each step of ``stack_of``; ``integers`` and ``floats`` are base64 of int8 and of
    little-endian fp32, into which the layers point. ``accuracy`` is that on the test images, in fp32 and in 8 bits,
    where it was measured. Raises ``CourseError`` for a layer that the page does not know, and for other images than
    coloured ones of 32×32 pixels.
    """
    dataset, recipe = record.dataset, record.recipe
    size = (len(dataset.mean), recipe.image_size, recipe.image_size)
    if size != (CHANNELS, SIDE, SIDE):
        raise CourseError(f"The page shows images of {CHANNELS}×{SIDE}×{SIDE}, and {recipe.run_name} takes "
                          f"{'×'.join(map(str, size))}; train on such images, or take another format.")  # fmt: skip
    numbers = Numbers()
    layers = [
        {"name": step.name, "size": list(step.size), **_describe_layer(step, numbers)} for step in stack_of(model, size)
    ]
    return {
        "name": recipe.name,
        "input": list(size),
        "classes": list(dataset.classes),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "dataset": dataset.name,
        "parameters": record.parameters,
        "accuracy": accuracy,
        "layers": layers,
        "integers": _base64(torch.cat(numbers.integers)),
        "floats": _base64(torch.cat(numbers.floats)),
    }


def _base64(values: Tensor) -> str:
    array = values.numpy()
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers of the shape of ``weight``, and a scale for each of its first dimension; their product is close to it.

    >>> import torch
    >>> from alexnet_course.web.quantise import quantised
    >>> integers, scale = quantised(torch.tensor([[0.5, -1.27], [0.0, 0.0]]))
    >>> integers.tolist(), [round(value, 4) for value in scale.tolist()]
    ([[50, -127], [0, 0]], [0.01, 1.0])
    """
    flat = weight.detach().float().flatten(1)
    largest = flat.abs().amax(1)
    scale = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    return (flat / scale[:, None]).round().to(torch.int8).reshape(weight.shape), scale


def dequantised(model: nn.Module) -> nn.Module:
    """A copy of ``model`` with the weights that a page computes with: rounded to 8 bits and scaled again."""
    rounded = copy.deepcopy(model)
    for layer in rounded.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            integers, scale = quantised(layer.weight)
            with torch.no_grad():
                layer.weight.copy_(integers * scale.reshape(-1, *[1] * (integers.dim() - 1)))
    return rounded


# --- The kinds of layers ----------------------------------------------------------------------------------------------


def _describe_layer(step: Step, numbers: Numbers) -> dict[str, Any]:
    for kind, describe_kind in KINDS.items():
        if isinstance(step.layer, kind):
            return describe_kind(step, numbers)
    known = ", ".join(kind.__name__ for kind in KINDS)
    raise CourseError(f"The page does not know the layer {step.name} ({type(step.layer).__name__}); it knows {known}.")


def _matrix(layer: nn.Conv2d | nn.Linear, numbers: Numbers) -> dict[str, Any]:
    integers, scale = quantised(layer.weight)
    bias = torch.zeros(len(scale)) if layer.bias is None else layer.bias
    return {
        "weight": numbers.add_integers(integers),
        "scale": numbers.add_floats(scale),
        "bias": numbers.add_floats(bias),
    }


def _conv(step: Step, numbers: Numbers) -> dict[str, Any]:
    layer = step.layer
    assert isinstance(layer, nn.Conv2d)
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str) or _square(step, "dilation") != 1:
        raise CourseError(f"The page pads with zeros and knows no dilation, and {step.name} is otherwise ({layer}).")
    return {
        "kind": "conv",
        "kernel": _square(step, "kernel_size"),
        "stride": _square(step, "stride"),
        "padding": _square(step, "padding"),
        "groups": layer.groups,
        **_matrix(layer, numbers),
    }


def _linear(step: Step, numbers: Numbers) -> dict[str, Any]:
    assert isinstance(step.layer, nn.Linear)
    return {"kind": "linear", **_matrix(step.layer, numbers)}


def _batch_norm(step: Step, numbers: Numbers) -> dict[str, Any]:
    layer = step.layer
    assert isinstance(layer, nn.BatchNorm2d)
    if layer.running_mean is None or layer.running_var is None:
        raise CourseError(f"The page normalises with stored statistics, and {step.name} keeps none; give a network "
                          "with track_running_stats=True.")  # fmt: skip
    gain = torch.ones(layer.num_features) if layer.weight is None else layer.weight
    offset = torch.zeros(layer.num_features) if layer.bias is None else layer.bias
    return {
        "kind": "batchNorm",
        "eps": layer.eps,
        "mean": numbers.add_floats(layer.running_mean),
        "variance": numbers.add_floats(layer.running_var),
        "gain": numbers.add_floats(gain),
        "offset": numbers.add_floats(offset),
    }


def _max_pool(step: Step, _: Numbers) -> dict[str, Any]:
    layer = step.layer
    assert isinstance(layer, nn.MaxPool2d)
    if _square(step, "dilation") != 1 or layer.return_indices:
        raise CourseError(f"The page knows max pooling without dilation and indices, and {step.name} is {layer}.")
    return {"kind": "maxPool", **_window(step)}


def _average_pool(step: Step, _: Numbers) -> dict[str, Any]:
    layer = step.layer
    assert isinstance(layer, nn.AvgPool2d)
    if layer.ceil_mode or layer.divisor_override is not None:
        raise CourseError(
            f"The page knows average pooling that is rounded down, and {step.name} is otherwise ({layer})."
        )
    return {"kind": "averagePool", "countsPadding": layer.count_include_pad, **_window(step)}


def _window(step: Step) -> dict[str, int]:
    return {
        "kernel": _square(step, "kernel_size"),
        "stride": _square(step, "stride"),
        "padding": _square(step, "padding"),
    }


def _square(step: Step, key: str) -> int:
    value = getattr(step.layer, key)
    first, *rest = value if isinstance(value, tuple) else (value,)
    if any(other != first for other in rest):
        raise CourseError(f"The page draws squares, and {step.name} has {key} = {value}; give it the same along both "
                          "sides.")  # fmt: skip
    return int(first)


def _response_norm(step: Step, _: Numbers) -> dict[str, Any]:
    layer = step.layer
    assert isinstance(layer, nn.LocalResponseNorm)
    return {"kind": "responseNorm", "width": layer.size, "alpha": layer.alpha, "beta": layer.beta, "k": layer.k}


def _plain(kind: str) -> Callable[[Step, Numbers], dict[str, Any]]:
    return lambda step, numbers: {"kind": kind}


KINDS: dict[type[nn.Module], Callable[[Step, Numbers], dict[str, Any]]] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: _plain("relu"),
    nn.Tanh: _plain("tanh"),
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _plain("adaptiveAverage"),
    nn.AdaptiveMaxPool2d: _plain("adaptiveMax"),
    nn.LocalResponseNorm: _response_norm,
    nn.Dropout: _plain("dropout"),
    nn.Flatten: _plain("flatten"),
    nn.Identity: _plain("identity"),
}


# --- Back again -------------------------------------------------------------------------------------------------------


def restored(network: dict[str, Any]) -> nn.Sequential:
    """The network of ``describe`` in PyTorch, with the weights that a page computes with: what is written is tested
    by it.
    """
    integers = torch.frombuffer(bytearray(base64.b64decode(network["integers"])), dtype=torch.int8)
    floats = torch.frombuffer(bytearray(base64.b64decode(network["floats"])), dtype=torch.float32)
    layers, before = [], network["input"]
    for described in network["layers"]:
        layers.append(_restored_layer(described, before, integers, floats))
        before = described["size"]
    return nn.Sequential(*layers).eval()


def _restored_layer(described: dict[str, Any], before: list[int], integers: Tensor, floats: Tensor) -> nn.Module:
    kind, outputs = described["kind"], described["size"][0]
    kernel, stride, padding = (described.get(key, 0) for key in ("kernel", "stride", "padding"))

    def vector(key: str) -> Tensor:
        return floats[described[key] :][:outputs]

    if kind in ("conv", "linear"):
        layer: Any = nn.Linear(before[0], outputs)
        if kind == "conv":
            layer = nn.Conv2d(before[0], outputs, kernel, stride, padding, groups=described["groups"])
        weight = integers[described["weight"] :][: layer.weight.numel()].float().reshape(layer.weight.shape)
        with torch.no_grad():
            layer.weight.copy_(weight * vector("scale").reshape(-1, *[1] * (weight.dim() - 1)))
            layer.bias.copy_(vector("bias"))
        return layer.requires_grad_(False)
    if kind == "batchNorm":
        layer = nn.BatchNorm2d(outputs, eps=described["eps"])
        keys = {"running_mean": "mean", "running_var": "variance", "weight": "gain", "bias": "offset"}
        layer.load_state_dict({key: vector(name) for key, name in keys.items()}, strict=False)
        return layer.requires_grad_(False)
    if kind == "responseNorm":
        return nn.LocalResponseNorm(described["width"], described["alpha"], described["beta"], described["k"])
    if kind == "maxPool":  # its windows may reach over the edge, by ceil_mode
        rounded_up = described["size"][1] > (before[1] + 2 * padding - kernel) // stride + 1
        return nn.MaxPool2d(kernel, stride, padding, ceil_mode=rounded_up)
    others: dict[str, Callable[[], nn.Module]] = {
        "averagePool": lambda: nn.AvgPool2d(kernel, stride, padding, count_include_pad=described["countsPadding"]),
        "adaptiveMax": lambda: nn.AdaptiveMaxPool2d(described["size"][1:]),
        "adaptiveAverage": lambda: nn.AdaptiveAvgPool2d(described["size"][1:]),
        "relu": nn.ReLU,
        "tanh": nn.Tanh,
        "flatten": nn.Flatten,
    }
    return others.get(kind, nn.Identity)()
