"""``alexnet-course evaluate``."""

from __future__ import annotations

import argparse

from alexnet_course.cli.common import (
    Commands,
    add_command,
    add_networks,
    add_trained,
    check_images_are_there,
    with_interval,
)
from alexnet_course.errors import CourseError


def add(commands: Commands) -> None:
    example = "evaluate runs/cnn4-seed0 --data folder:data/cifar10"
    sub = add_command(commands, "evaluate", evaluate_command, "evaluate the network of a finished run", example)
    add_trained(sub)
    sub.add_argument("--data", metavar="SPEC", help="data set with the test images (default: the run's own)")
    sub.add_argument("--device", default="auto", metavar="D")
    add_networks(sub)


def evaluate_command(options: argparse.Namespace) -> None:
    from alexnet_course.pretrained import load_trained
    from alexnet_course.results.verify import other_accuracy
    from alexnet_course.shapes import memory_format
    from alexnet_course.training import choose_device, evaluate
    from alexnet_course.training.device import resolve_precision

    model, record = load_trained(options.run)
    recipe, trained_on = record.recipe, record.dataset
    check_images_are_there(recipe.dataset, options.data)
    dataset = recipe.images("test", options.data, trained_on.side)
    if dataset.classes != trained_on.classes:
        raise CourseError(f"{dataset.name!r} has the classes {', '.join(dataset.classes)}, but the run was trained on "
                          f"{', '.join(trained_on.classes)}; give data with the same classes.")  # fmt: skip
    device = choose_device(options.device)
    result = evaluate(
        model.to(device).to(memory_format=memory_format(device)),
        dataset,
        mean=trained_on.mean,
        std=trained_on.std,
        input_size=recipe.image_size,
        cut=recipe.random_crop,
        side=trained_on.side,
        precision=resolve_precision(recipe.precision, device),
    )
    print(f"{dataset.name}: accuracy {with_interval(result.accuracy, result.interval)}, loss {result.loss:.4f}, "
          f"{result.count:,} images")  # fmt: skip
    width = max(map(len, result.per_class))
    for name, accuracy in result.per_class.items():
        print(f"  {name:<{width}}  {accuracy:7.2%}")
    problem = other_accuracy(record, dataset, result.accuracy)
    if problem is not None:
        raise CourseError(problem)
