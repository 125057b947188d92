"""``alexnet-course data``."""

from __future__ import annotations

import argparse

from alexnet_course.cli.common import Commands, add_command


def add(commands: Commands) -> None:
    example = "data folder:data/cifar10"
    sub = add_command(commands, "data", data_command, "load a data set and describe it", example)
    sub.add_argument("spec", metavar="SPEC", help="cifar10, cifar100, cifar10.1, doodles or folder:PATH")


def data_command(options: argparse.Namespace) -> None:
    from alexnet_course.data import load_dataset, splits_of

    for split in splits_of(options.spec):
        dataset = load_dataset(options.spec, split)
        size = "×".join(map(str, dataset.images.shape[1:]))
        mean, std = dataset.channel_statistics()
        print(f"{dataset.name} {split}: {len(dataset):,} pictures of {size}, {len(dataset.classes)} classes")
        print(f"  mean {' '.join(f'{v:.4f}' for v in mean)}  std {' '.join(f'{v:.4f}' for v in std)}")
        print(f"  fingerprint {dataset.fingerprint}")
        counts = dataset.labels.bincount(minlength=len(dataset.classes)).tolist()
        print("  " + ", ".join(f"{name} {number:,}" for name, number in zip(dataset.classes, counts, strict=True)))
