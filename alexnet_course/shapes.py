"""Layer shapes: the output-size formula, and a table of every layer's output shape, parameters and cost.

Nothing here depends on a particular network; ``models`` uses the integer formulas to explain inputs that do not fit.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from alexnet_course.errors import CourseError

FP32_BYTES = 4


@dataclass(frozen=True)
class Layer:
    """One row of ``layer_table``: one call of a leaf layer, for one image."""

    name: str
    """Dotted path in the network, such as ``features.0``."""
    kind: str
    """Class name, such as ``Conv2d``."""
    output_shape: tuple[int, ...]
    """Shape of the output without the batch, (C, H, W), or (features,) once flattened."""
    parameters: int
    """Number of weights and biases (not bytes)."""
    mult_adds: int
    """Multiply-adds as torchinfo counts them: a convolution's parameters once per output position, the parameters of
    any other layer once. Layers without parameters (pooling, ReLU, LRN) therefore count as 0."""
    activation_bytes: int
    """Memory of the output in fp32, in bytes."""
    receptive_field: int | None
    """Side in pixels of the square of input pixels that one unit sees, padding included, so it may exceed the image.
    ``None`` if units no longer have equal windows on a regular grid: from adaptive pooling to another size onwards, and
    from flattening onwards, where every unit sees the whole image."""
    jump: int | None
    """Distance in input pixels between the windows of neighbouring units. ``None`` if ``receptive_field`` is."""


def memory_format(device: torch.device | str) -> torch.memory_format:
    """The memory format for images and kernels on a device: channels-last, which suits matrix units.

    Apple's GPUs are an exception: with channels-last, PyTorch's gradients of pooling and batch normalisation are wrong
    there, or abort (its issues 175189 and 175190).
    """
    return torch.contiguous_format if torch.device(device).type == "mps" else torch.channels_last


def conv_output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Output pixels along one side of a convolution or pooling layer.

    ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1

    All arguments are integers, in pixels along that side; ``padding`` is added at both ends.
    Raises CourseError if the result would be less than 1 or an argument is out of range.
    Source: the documentation of ``torch.nn.Conv2d``.

    >>> from alexnet_course import conv_output_size
    >>> conv_output_size(227, kernel=11, stride=4)  # the paper's first layer
    55
    """
    limits = {"size": (size, 1), "kernel": (kernel, 1), "stride": (stride, 1), "padding": (padding, 0)}
    for name, (value, least) in {**limits, "dilation": (dilation, 1)}.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise CourseError(f"{name} is {value!r}, but must be an integer of at least {least}.")
    span = dilation * (kernel - 1) + 1
    if span > size + 2 * padding:
        raise CourseError(
            f"A window of {span} pixels (kernel {kernel}, dilation {dilation}) does not fit into {size} pixels with "
            f"padding {padding}; use a larger input, more padding or a smaller kernel."
        )
    return int((size + 2 * padding - span) // stride + 1)


def layer_output_size(layer: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Output height and width of ``layer`` in pixels for an input of ``size``; computed with integers, not tensors.

    Handles convolution, max and average pooling (without ``ceil_mode``) and adaptive pooling; assumes that every other
    layer keeps the size. Raises CourseError if the layer's window does not fit.
    """
    if isinstance(layer, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
        height, width = _pair(layer.output_size)
        return (size[0] if height is None else height, size[1] if width is None else width)
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride, padding, dilation = _window(layer)
        height, width = (conv_output_size(size[i], kernel[i], stride[i], padding[i], dilation[i]) for i in (0, 1))
        return height, width
    return size


def layer_table(model: nn.Module, input_size: tuple[int, int, int]) -> list[Layer]:
    """Output shape, parameters and cost of every layer of ``model`` for one image of ``input_size`` (C, H, W).

    Rows are in the order of execution. Runs one forward pass with zeros, in evaluation mode and without gradients, on
    the model's device. The modes of the model's layers, its gradients and the random state are left unchanged.
    Receptive fields follow the standard recursion ``r += (k − 1)·dilation·jump; jump *= stride`` (Dumoulin and Visin
    2016; Araujo et al. 2019), along the height, for layers in a chain. Raises CourseError if ``input_size`` is not
    three positive integers or the network cannot take it.

    >>> from alexnet_course import build_model, layer_table
    >>> for layer in layer_table(build_model("lenet5"), (1, 32, 32))[:3]:
    ...     print(layer.kind, layer.output_shape, layer.parameters)
    Conv2d (6, 28, 28) 156
    Tanh (6, 28, 28) 0
    AvgPool2d (6, 14, 14) 0
    """
    sizes = tuple(input_size)
    if len(sizes) != 3 or not all(isinstance(value, int) and value >= 1 for value in sizes):
        raise CourseError(f"input_size is {input_size!r}, but must be three positive integers (C, H, W).")
    rows: list[Layer] = []
    grid: tuple[int, int] | None = (1, 1)  # receptive field and jump of the previous layer; a pixel sees itself

    def add_row(name: str, layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        nonlocal grid
        output = output[0] if isinstance(output, tuple) else output  # as from a recurrent layer
        grid = _next_grid(layer, grid, inputs[0].shape if inputs else output.shape, output.shape)
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        positions = output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
        rows.append(
            Layer(
                name=name,
                kind=type(layer).__name__,
                output_shape=tuple(output.shape[1:]),
                parameters=parameters,
                mult_adds=parameters * positions,
                activation_bytes=output.numel() * FP32_BYTES,
                receptive_field=grid[0] if grid else None,
                jump=grid[1] if grid else None,
            )
        )

    with watching(leaf_layers(model), add_row), evaluating(model), torch.no_grad():
        model(zeros_like_input(model, (1, *sizes)))
    return rows


def leaf_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of ``model`` without child layers, by their dotted paths."""
    return {name: layer for name, layer in model.named_modules() if not any(layer.children())}


@contextmanager
def watching(
    layers: Mapping[str, nn.Module], look: Callable[[str, nn.Module, tuple[Any, ...], Any], None]
) -> Iterator[None]:
    """Call ``look(name, layer, inputs, output)`` after each forward pass of each of the named ``layers``.

    The output is not a copy, so an in-place ReLU after the layer will overwrite it.
    """
    hooks: list[RemovableHandle] = []
    try:
        for name, layer in layers.items():
            hooks.append(layer.register_forward_hook(partial(look, name)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode, and restore the mode of each of its modules afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def zeros_like_input(model: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of zeros with the device and dtype of the model's weights (draws no random numbers)."""
    weight = next(model.parameters(), torch.empty(0))
    return torch.zeros(shape, device=weight.device, dtype=weight.dtype)


def _next_grid(
    layer: nn.Module, grid: tuple[int, int] | None, before: torch.Size, after: torch.Size
) -> tuple[int, int] | None:
    """Receptive field and jump after ``layer``, or None if the windows no longer form a regular grid."""
    if grid is None:
        return None
    receptive_field, jump = grid
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride, _, dilation = _window(layer)
        return receptive_field + (kernel[0] - 1) * dilation[0] * jump, jump * stride[0]
    keeps_positions = len(before) == len(after) == 4 and before[2:] == after[2:]
    return grid if keeps_positions else None


def _window(layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> tuple[Any, Any, Any, Any]:
    """Kernel, stride, padding and dilation of a layer, each as (vertical, horizontal)."""
    dilation = 1 if isinstance(layer, nn.AvgPool2d) else layer.dilation
    return _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding), _pair(dilation)


def _pair(value: Any) -> Any:
    return value if isinstance(value, tuple) else (value, value)
