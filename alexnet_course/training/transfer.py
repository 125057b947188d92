"""Fine-tuning: copy what one network has learned to another, and freeze parts of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from alexnet_course.errors import CourseError


def carry_features(source: nn.Module, target: nn.Module) -> None:
    """Copy all weights of ``source.features``, and batch norm's running statistics, into ``target.features``.

    The classifiers are unchanged, so the networks may have different classes and linear layers. torchvision's AlexNet
    can be the source for an ``alexnet-owt``. If the layers do not match one to one, raises ``CourseError`` and copies
    nothing. Call it before a run:

    >>> from alexnet_course import Recipe, build_model, train
    >>> from alexnet_course.training import carry_features, freeze
    >>> learned = build_model("cnn4")  # assume that it has been trained
    >>> run = train(Recipe(model="cnn4", epochs=1, train_size=100, validation_size=50))
    >>> carry_features(learned, run.model)
    >>> freeze(run.model.features)
    >>> epochs = list(run)
    >>> bool((learned.features[0].weight == run.model.features[0].weight).all())
    True
    """
    parts = []
    for role, model in (("source", source), ("target", target)):
        features = getattr(model, "features", None)
        if not isinstance(features, nn.Module):
            raise CourseError(f"The {role}, {type(model).__name__}, has no part called features; give a network of the "
                              "course, or one with the same structure.")  # fmt: skip
        parts.append(features.state_dict())
    theirs, ours = parts
    for name in [*theirs, *(name for name in ours if name not in theirs)]:
        shapes = [f"of shape {tuple(part[name].shape)}" if name in part else "missing" for part in parts]
        if shapes[0] != shapes[1]:
            raise CourseError(f"The features do not fit: features.{name} is {shapes[0]} in the source and {shapes[1]} "
                              "in the target; build both networks with the same model and options.")  # fmt: skip
    with torch.no_grad():
        for name, tensor in ours.items():
            tensor.copy_(theirs[name])


def freeze(module: nn.Module) -> None:
    """Freeze ``module``: training changes none of its weights or statistics until ``thaw``.

    Its weights get no gradients. Layers with running statistics, such as batch norm, keep working as in ``eval()``,
    with unchanged statistics. One call of ``eval()`` is not enough for this, because a trainer calls ``train()`` on the
    whole network at each epoch; so a hook puts each such layer back just before it is used. Dropout stays active.
    """
    for weight in module.parameters():
        weight.requires_grad = False
        weight.grad = None  # otherwise the optimiser would take one more step with it
    for layer in _with_statistics(module):
        layer.held_still = True  # type: ignore[assignment]
        layer.register_forward_pre_hook(_stay_in_evaluation)


def thaw(module: nn.Module) -> None:
    """Undo ``freeze``: ``module`` is trained again, and its batch norm updates its statistics."""
    for weight in module.parameters():
        weight.requires_grad = True
    for layer in _with_statistics(module):
        layer.held_still = False  # type: ignore[assignment]
        layer.train(module.training)


def _with_statistics(module: nn.Module) -> Iterator[nn.Module]:
    return (layer for layer in module.modules() if getattr(layer, "running_mean", None) is not None)


def _stay_in_evaluation(layer: nn.Module, _: Any) -> None:
    """A hook that checks itself whether it still applies, so it need not be removed, even in a copy of the network."""
    if layer.held_still and not any(weight.requires_grad for weight in layer.parameters()):
        layer.eval()
