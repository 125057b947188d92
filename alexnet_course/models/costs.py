"""What a network costs: its parameters, and its multiply-adds for one image.

Counting builds the network, which needs PyTorch. The counts of the course's recipes are therefore stored in
``costs.json``, which ``make results`` writes and a test recounts; all others are counted on demand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_course.models.registry import MODELS, OF_THE_COURSE, measured
from alexnet_course.models.specs import ModelSpec

if TYPE_CHECKING:
    from torch import nn

COSTS_FILE = Path(__file__).parent / "costs.json"

Options = tuple[tuple[str, Any], ...]


def parameters_of(name: str, options: Mapping[str, Any], channels: int, classes: int, again: bool = False) -> int:
    """Weights and biases of ``build_model(name, classes, in_channels=channels, **options)``.

    With ``again`` they are counted anew.
    """
    if name in OF_THE_COURSE and not again:
        found = _kept()[0].get(_key(name, options, channels, classes))
        if found is not None:
            return found
    return _count_parameters(MODELS[name], tuple(sorted(options.items())), channels, classes)


def mult_adds_of(name: str, options: Mapping[str, Any], channels: int, classes: int, side: int) -> int:
    """Multiply-adds of the same network for one image of ``side`` × ``side`` pixels, as ``layer_table`` has them."""
    if name in OF_THE_COURSE:
        found = _kept()[1].get(_key(name, options, channels, classes, side))
        if found is not None:
            return found
    return _count_mult_adds(MODELS[name], tuple(sorted(options.items())), channels, classes, side)


def counted(name: str, options: Mapping[str, Any], channels: int, classes: int, side: int) -> dict[str, Any]:
    """An entry of ``costs.json``, recounted."""
    model, sorted_options = MODELS[name], tuple(sorted(options.items()))
    return {
        "model": name,
        "options": dict(sorted_options),
        "channels": channels,
        "classes": classes,
        "side": side,
        "parameters": _count_parameters(model, sorted_options, channels, classes),
        "mult_adds": _count_mult_adds(model, sorted_options, channels, classes, side),
    }


def _key(name: str, options: Mapping[str, Any], *numbers: int) -> str:
    return json.dumps([name, dict(options), *numbers], sort_keys=True)  # as text, true and 1 differ


@cache
def _kept() -> tuple[dict[str, int], dict[str, int]]:
    """Parameters and multiply-adds of ``costs.json``."""
    parameters, mult_adds = {}, {}
    for entry in json.loads(COSTS_FILE.read_text(encoding="utf-8")) if COSTS_FILE.exists() else ():
        network = (entry["model"], entry["options"], entry["channels"], entry["classes"])
        parameters[_key(*network)] = entry["parameters"]
        mult_adds[_key(*network, entry["side"])] = entry["mult_adds"]
    return parameters, mult_adds


# The spec is an argument because a network of your own may be registered again, under the same name.
@cache
def _count_parameters(model: ModelSpec, options: Options, channels: int, classes: int) -> int:
    def count(network: nn.Module) -> int:
        return sum(weight.numel() for weight in network.parameters())

    return measured(model.name, count, num_classes=classes, in_channels=channels, **dict(options))


@cache
def _count_mult_adds(model: ModelSpec, options: Options, channels: int, classes: int, side: int) -> int:
    from alexnet_course.shapes import layer_table

    def count(network: nn.Module) -> int:
        return sum(layer.mult_adds for layer in layer_table(network, (channels, side, side)))

    return measured(model.name, count, num_classes=classes, in_channels=channels, **dict(options))
