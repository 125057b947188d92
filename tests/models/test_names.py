"""One name for a layer, wherever the course names one."""

import re
from pathlib import Path

from torch import nn

from alexnet_course import build_model, layer_table
from alexnet_course.models import layer_names
from alexnet_course.models.names import SHORT

EXPLORER = Path(__file__).resolve().parents[2] / "book" / "_static" / "explorer.js"


def test_layers_are_counted_by_kind():
    names = layer_names(layer_table(build_model("alexnet-cifar-3x3", width=0.125, hidden=8), (3, 32, 32)))
    assert [name for name in names if name.startswith(("conv", "pool", "fc"))] == [
        "conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool3", "fc6", "fc7", "fc8",
    ]  # fmt: skip
    assert names[:2] == ["conv1", "ReLU1"]


def test_layers_themselves_are_named_like_their_rows_and_a_special_case_like_its_kind():
    class Scaled(nn.Conv2d):
        pass

    class Odd(nn.Module):
        pass

    assert layer_names([Scaled(3, 3, 1), nn.Conv2d(3, 3, 1), Odd(), nn.Linear(3, 3)]) == [
        "conv1", "conv2", "Odd1", "fc3",
    ]  # fmt: skip


def test_the_shape_explorer_of_the_book_uses_the_same_names():
    kinds = dict(re.findall(r"^    (\w+): \{\s+short: \"(\w+)\"", EXPLORER.read_text(), re.MULTILINE))
    assert {kind: kinds[kind] for kind in SHORT} == SHORT
