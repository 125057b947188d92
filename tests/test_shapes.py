"""The size formula against torch, and the layer table against what layers really do."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from alexnet_course.errors import CourseError
from alexnet_course.shapes import conv_output_size, layer_output_size, layer_table, memory_format

COMPUTED = settings(deadline=None, max_examples=300, derandomize=True)


def size_or_none(compute):
    try:
        return compute()
    except (CourseError, RuntimeError):
        return None


# From one below what is allowed, so that torch and the formula have to agree on what is refused as well.
@COMPUTED
@given(st.integers(1, 40), st.integers(0, 12), st.integers(0, 5), st.integers(-1, 6), st.integers(0, 4))
def test_conv_output_size_is_torchs(size, kernel, stride, padding, dilation):
    torchs = size_or_none(
        lambda: F.conv1d(torch.zeros(1, 1, size), torch.zeros(1, 1, kernel), None, stride, padding, dilation).shape[-1]
    )
    assert size_or_none(lambda: conv_output_size(size, kernel, stride, padding, dilation)) == torchs


@COMPUTED
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.data())
def test_conv_output_size_is_torchs_for_pooling(size, kernel, stride, dilation, data):
    padding = data.draw(st.integers(0, kernel // 2))  # torch allows a pooling no more
    torchs = size_or_none(lambda: F.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, dilation).shape[-1])
    assert size_or_none(lambda: conv_output_size(size, kernel, stride, padding, dilation)) == torchs


def test_conv_output_size_by_hand():
    assert conv_output_size(227, kernel=11, stride=4) == 55
    assert conv_output_size(224, kernel=11, stride=4) == 54
    assert conv_output_size(224, kernel=11, stride=4, padding=2) == 55
    assert conv_output_size(np.int64(32), kernel=3, padding=1) == 32


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 6, "kernel": 11}, ["11 pixels", "into 6 pixels"]),
        ({"size": 5, "kernel": 3, "dilation": 3}, ["7 pixels (kernel 3, dilation 3)"]),
        ({"size": 0, "kernel": 3}, ["size is 0", "at least 1"]),
        ({"size": 8, "kernel": 3, "stride": 0}, ["stride is 0"]),
        ({"size": 8, "kernel": 3, "padding": -1}, ["padding is -1", "at least 0"]),
        ({"size": 8.0, "kernel": 3}, ["size is 8.0", "integer"]),
        ({"size": 8, "kernel": True}, ["kernel is True"]),
    ],
)
def test_conv_output_size_refuses(arguments, words):
    with pytest.raises(CourseError) as error:
        conv_output_size(**arguments)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 1, (3, 5), stride=(2, 1), padding=(0, 2), dilation=(2, 1)),
        nn.MaxPool2d(3, stride=2, padding=1, dilation=2),
        nn.MaxPool2d(2),
        nn.AvgPool2d((3, 2), padding=(1, 0)),
        nn.AdaptiveAvgPool2d((None, 4)),
        nn.AdaptiveMaxPool2d(5),
        nn.LocalResponseNorm(3),
    ],
    ids=lambda layer: str(layer),
)
def test_layer_output_size_is_torchs(layer):
    assert layer_output_size(layer, (17, 23)) == tuple(layer(torch.zeros(1, 1, 17, 23)).shape[2:])


# --- layer_table ------------------------------------------------------------------------------------------------------


def small_network():
    return nn.Sequential(
        nn.Conv2d(3, 4, kernel_size=5, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(16, 10, bias=False),
    )


def test_layer_table_by_hand():
    rows = layer_table(small_network(), (3, 21, 33))
    assert [(row.name, row.kind, row.output_shape) for row in rows] == [
        ("0", "Conv2d", (4, 10, 16)),
        ("1", "BatchNorm2d", (4, 10, 16)),
        ("2", "ReLU", (4, 10, 16)),
        ("3", "MaxPool2d", (4, 4, 7)),
        ("4", "AdaptiveAvgPool2d", (4, 2, 2)),
        ("5", "Flatten", (16,)),
        ("6", "Dropout", (16,)),
        ("7", "Linear", (10,)),
    ]
    assert [row.parameters for row in rows] == [3 * 25 * 4 + 4, 8, 0, 0, 0, 0, 0, 160]
    assert [row.mult_adds for row in rows] == [(3 * 25 * 4 + 4) * 10 * 16, 8, 0, 0, 0, 0, 0, 160]
    assert [row.activation_bytes for row in rows] == [2560, 2560, 2560, 448, 64, 64, 64, 40]
    assert [(row.receptive_field, row.jump) for row in rows] == [(5, 2)] * 3 + [(9, 4)] + [(None, None)] * 4


def test_an_adaptive_pool_that_changes_nothing_keeps_the_grid():
    rows = layer_table(nn.Sequential(nn.Conv2d(1, 1, 3), nn.AdaptiveAvgPool2d(6), nn.Conv2d(1, 1, 3)), (1, 8, 8))
    assert [(row.receptive_field, row.jump) for row in rows] == [(3, 1), (3, 1), (5, 1)]


@st.composite
def stacks(draw):
    layers = []
    for _ in range(draw(st.integers(1, 3))):
        kernel = draw(st.integers(1, 5))
        stride = draw(st.integers(1, 3))
        padding = draw(st.integers(0, kernel // 2))
        if draw(st.booleans()):
            layers.append(nn.Conv2d(1, 1, kernel, stride, padding, draw(st.integers(1, 2))))
        else:
            layers.append(nn.AvgPool2d(kernel, stride, padding))
    return nn.Sequential(*layers)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(stacks())
def test_receptive_field_and_jump_are_where_gradients_flow(stack):
    """With positive weights no gradient cancels: pixels that a unit sees are those whose gradient is not zero."""
    for parameter in stack.parameters():
        nn.init.constant_(parameter, 1.0)
    last = layer_table(stack, (1, 120, 120))[-1]
    side = 2 * last.receptive_field + 6 * last.jump  # leaves the units in the middle far from the borders
    x = torch.zeros(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    units = stack.double()(x)[0, 0]
    centre = units.shape[0] // 2

    def rows_seen(unit):
        (gradient,) = torch.autograd.grad(units[unit, centre], x, retain_graph=True)
        seen = gradient[0, 0].sum(dim=1).nonzero()
        return seen.min().item(), seen.max().item()

    first, end = rows_seen(centre)
    assert end - first + 1 == last.receptive_field
    assert rows_seen(centre + 1)[0] - first == last.jump


def test_layer_table_leaves_the_model_as_it_was():
    model = small_network().train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    layer_table(model, (3, 32, 32))
    with pytest.raises(RuntimeError):
        layer_table(model, (4, 32, 32))  # also when the pass fails half-way
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("wrong", [(32, 32), (1, 3, 32, 32), (3, 0, 32), (3, 32.0, 32)])
def test_layer_table_refuses(wrong):
    with pytest.raises(CourseError, match=r"input_size is .* three positive integers"):
        layer_table(small_network(), wrong)


def test_apple_s_gpus_alone_get_images_one_channel_after_the_other():
    assert memory_format("mps") is torch.contiguous_format
    assert {memory_format(device) for device in ("cpu", "cuda:1", torch.device("cuda"))} == {torch.channels_last}
