"""``alexnet-course models`` and ``summary``."""

from __future__ import annotations

import argparse

from alexnet_course.cli.common import Commands, add_command, add_networks
from alexnet_course.errors import CourseError

LARGEST = 10_000  # pixels per side of the input image


def add(commands: Commands) -> None:
    add_networks(add_command(commands, "models", models_command, "list the networks and their sizes", "models"))

    example = "summary alexnet-cifar-3x3 --input 3,32,32"
    sub = add_command(commands, "summary", summary_command, "print the layer table of a network", example)
    sub.add_argument("model", metavar="MODEL")
    sub.add_argument("--input", metavar="C,H,W", help="channels, height and width (default: the network's own)")
    sub.add_argument("--classes", type=int, metavar="N", help="number of classes (default: the published network's)")
    add_networks(sub)


def models_command(_: argparse.Namespace) -> None:
    from alexnet_course.models import MODELS

    width = max(map(len, MODELS))
    for name, spec in MODELS.items():
        size = "×".join(map(str, spec.input_size))
        print(f"{name:<{width}}  {size:>9}  {spec.parameters:>10,} parameters  {spec.source}")


def summary_command(options: argparse.Namespace) -> None:
    size = parse_size(options.input) if options.input else None  # before the import, which takes a while
    from alexnet_course.models import MODELS, build_model, summary
    from alexnet_course.models.registry import measured

    if options.model not in MODELS:
        build_model(options.model)  # raises, naming the nearest names
    spec = MODELS[options.model]
    channels, height, width = size or spec.input_size
    classes = spec.num_classes if options.classes is None else options.classes
    shape = (1, channels, height, width)
    table = measured(options.model, lambda model: summary(model, shape), num_classes=classes, in_channels=channels)
    print(table)


def parse_size(text: str) -> tuple[int, int, int]:
    try:
        channels, height, width = (int(part) for part in text.split(","))
    except ValueError:
        raise CourseError(f"--input {text!r} is not a size; give channels, height and width, as in 3,32,32.") from None
    if min(channels, height, width) < 1:
        raise CourseError(f"--input {text!r} has a number below 1; give channels, height and width, as in 3,32,32.")
    if max(height, width) > LARGEST:
        raise CourseError(f"--input {text!r} is larger than {LARGEST:,} pixels per side; give a smaller size.")
    return channels, height, width
