"""The shape explorer's directive: the layers that it gives to the page (which tests/browser/test_explorer.py runs)."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from alexnet_course.models import MODELS, build_model

BOOK = Path(__file__).resolve().parents[1] / "book"


@pytest.fixture(scope="module")
def explorer() -> ModuleType:
    pytest.importorskip("sphinx", reason="the book's tools are not installed")
    spec = importlib.util.spec_from_file_location("shape_explorer", BOOK / "_ext" / "shape_explorer.py")
    module = sys.modules["shape_explorer"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_network_of_the_registry_is_there(explorer):
    found = json.loads(explorer.as_json("lenet5"))
    assert found["start"] == "lenet5"
    assert [network["name"] for network in found["networks"]] == list(MODELS)
    for network in found["networks"]:
        spec = MODELS[network["name"]]
        assert tuple(network["input"]) == spec.input_size
        assert network["note"] == f"{spec.source}: {spec.note}."


def test_layers_are_those_of_the_network(explorer):
    layers = {network["name"]: network["layers"] for network in explorer.networks()}
    assert layers["alexnet-2012"][0] == {
        "kind": "Conv2d", "channels": 96, "kernel": 11, "stride": 4, "padding": 0, "dilation": 1, "groups": 1,
    }  # fmt: skip
    assert [layer["kind"] for layer in layers["alexnet-2012"][:5]] == [
        "Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d", "Conv2d",
    ]  # fmt: skip
    assert layers["alexnet-2012"][4]["groups"] == 2
    assert layers["alexnet-2012"][-1] == {"kind": "Linear", "units": 1000, "inputs": 4096}
    assert {"kind": "AdaptiveMaxPool2d", "size": 6} in layers["alexnet-cifar-5x5-lrn"]
    assert {"kind": "AvgPool2d", "kernel": 3, "stride": 2, "padding": 1} in layers["cnn4"]
    for name in MODELS:
        with torch.device("meta"):
            network = build_model(name)
        built = [type(layer).__name__ for layer in network.modules() if not any(layer.children())]
        kinds = [layer["kind"] for layer in layers[name]]
        assert kinds.count("Flatten") == 1  # a layer in one network, a line of the forward pass in the others
        assert [kind for kind in kinds if kind != "Flatten"] == [kind for kind in built if kind != "Flatten"]


def test_a_pooling_that_rounds_up_says_so(explorer):
    pools = nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, ceil_mode=True))
    assert [explorer.describe_layer(pools, name) for name in "01"] == [
        {"kind": "MaxPool2d", "kernel": 3, "stride": 2, "padding": 0, "dilation": 1, "ceil": True},
        {"kind": "AvgPool2d", "kernel": 2, "stride": 2, "padding": 0, "ceil": True},
    ]


def test_nothing_can_end_the_script_element(explorer, monkeypatch):
    monkeypatch.setattr(explorer, "networks", lambda: [{"note": "</script><b>"}])
    text = explorer.as_json("lenet5")
    assert "<" not in text
    assert json.loads(text)["networks"] == [{"note": "</script><b>"}]


def test_an_unknown_network_is_refused(explorer):
    with pytest.raises(Exception, match=r"shape-explorer 'lenet' is not one of alexnet-cifar-3x3, alexnet-d2l, "):
        explorer.as_json("lenet")


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (nn.Conv2d(1, 1, (3, 5)), r"draws squares, but 0 has \(3, 5\)"),
        (nn.Conv2d(1, 1, 3, padding="same"), "draws squares, but 0 has 'same'"),
        (nn.AdaptiveAvgPool2d((None, 2)), r"draws squares, but 0 has \(None, 2\)"),
        (nn.Conv2d(1, 1, 3, bias=False), r"does not know 0 \(Conv2d"),
        (nn.LPPool2d(2, 2), r"does not know 0 \(LPPool2d"),
        (nn.GroupNorm(1, 1), r"does not know 0 \(GroupNorm"),
    ],
)
def test_layers_that_it_would_count_wrongly_are_refused(explorer, layer, complaint):
    with pytest.raises(Exception, match=complaint):
        explorer.describe_layer(nn.Sequential(layer), "0")


def test_the_chapter_has_one_with_a_sentence_for_those_without_javascript():
    cells = json.loads((BOOK / "02-shapes.ipynb").read_text(encoding="utf-8"))["cells"]
    (text,) = ("".join(cell["source"]) for cell in cells if "{shape-explorer}" in "".join(cell["source"]))
    directive = text.split("```{shape-explorer} ")[1]
    name, sentence = directive.removesuffix("```").split("\n", 1)
    assert name in MODELS
    assert "JavaScript" in sentence
