"""The directive ``{shape-explorer} NETWORK``: an interactive layer table.

It puts an element on the page in which ``_static/explorer.js`` builds the
explorer. The element contains the layers of all registered networks; NETWORK
is selected first. The body of the directive is for readers without JavaScript.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from torch import nn

from alexnet_course.models import MODELS, ModelSpec, build_model
from alexnet_course.shapes import layer_table

PLAIN = (
    nn.BatchNorm2d,
    nn.Dropout,
    nn.Flatten,
    nn.LocalResponseNorm,
    nn.ReLU,
    nn.Tanh,
)
"""Layers without parameters that affect shapes."""


def networks() -> list[dict[str, Any]]:
    """The layers of every registered network, for explorer.js."""
    return [describe(spec) for spec in MODELS.values()]


def describe(spec: ModelSpec) -> dict[str, Any]:
    """One network: name, origin, (C, H, W) of its images and layers.

    The layers are those of ``layer_table``, in the order of execution, plus a
    Flatten if the network flattens its maps without a layer.
    """
    with torch.device("meta"):  # shapes without values
        network = build_model(spec.name, num_classes=spec.num_classes)
    layers: list[dict[str, Any]] = []
    is_list = False
    for row in layer_table(network, spec.input_size):
        becomes_list = not is_list and len(row.output_shape) == 1
        if becomes_list and row.kind != "Flatten":
            layers.append({"kind": "Flatten"})
        layers.append(describe_layer(network, row.name))
        is_list = is_list or becomes_list
    return {
        "name": spec.name,
        "note": f"{spec.source}: {spec.note}.",
        "input": list(spec.input_size),
        "layers": layers,
    }


def describe_layer(network: nn.Module, name: str) -> dict[str, Any]:
    """The kind of a layer and the parameters that determine its shapes."""
    layer = network.get_submodule(name)
    kind = {"kind": type(layer).__name__}
    if isinstance(layer, nn.Conv2d) and layer.bias is not None:
        return {
            **kind,
            "channels": layer.out_channels,
            **_window(name, layer, "dilation"),
            "groups": layer.groups,
        }
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        more = ["dilation"] if isinstance(layer, nn.MaxPool2d) else []
        rounding = {"ceil": True} if layer.ceil_mode else {}
        return {**kind, **_window(name, layer, *more), **rounding}
    if isinstance(layer, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
        return {**kind, "size": _side(name, layer.output_size)}
    if isinstance(layer, nn.Linear) and layer.bias is not None:
        return {
            **kind,
            "units": layer.out_features,
            "inputs": layer.in_features,  # as built; may differ
        }
    if isinstance(layer, PLAIN):
        return kind
    raise ExtensionError(
        f"The shape explorer does not know {name} ({layer}); add this kind "
        "of layer here and in _static/explorer.js."
    )


def _window(name: str, layer: nn.Module, *more: str) -> dict[str, int]:
    values = {
        "kernel": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,
        **{field: getattr(layer, field) for field in more},
    }
    return {field: _side(name, value) for field, value in values.items()}


def _side(name: str, value: Any) -> int:
    """A value that is the same for height and width."""
    sides = set(value) if isinstance(value, Sequence) else {value}
    if len(sides) == 1 and isinstance(side := sides.pop(), int):
        return side
    raise ExtensionError(
        f"The shape explorer draws squares, but {name} has {value!r}; give it "
        "the same integer for both sides."
    )


def as_json(start: str) -> str:
    """The explorer's data, escaped so that it cannot end a script element."""
    if start not in MODELS:
        raise ExtensionError(
            f"shape-explorer {start!r} is not one of {', '.join(MODELS)}."
        )
    data = {"start": start, "networks": networks()}
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


class ShapeExplorer(SphinxDirective):
    """``{shape-explorer} NETWORK``."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        self.env.note_reread()  # networks may change without the page
        data = as_json(self.arguments[0])
        before = '<div class="shape-explorer">'
        after = f'<script type="application/json">{data}</script></div>'
        return [
            nodes.raw("", before, format="html"),
            *self.parse_content_to_nodes(),
            nodes.raw("", after, format="html"),
        ]


def only_where_it_is(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """Load the script, which is large, only on a page with an explorer."""
    if 'class="shape-explorer"' not in context.get("body", ""):
        context["script_files"] = [
            script
            for script in context.get("script_files", [])
            if "explorer.js" not in str(getattr(script, "filename", script))
        ]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("shape-explorer", ShapeExplorer)
    app.connect("html-page-context", only_where_it_is, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
