"""``alexnet-course data``."""

from __future__ import annotations

import argparse

from alexnet_course.cli.common import Commands, add_command


def add(commands: Commands) -> None:
    example = "data folder:data/cifar10"
    sub = add_command(commands, "data", data_command, "load a data set and describe it", example)
    sub.add_argument("spec", metavar="SPEC", help="cifar10, cifar100, cifar10.1, doodles or folder:PATH")
    text = "side that images of a folder are resized to if their sizes differ (default: 224)"
    sub.add_argument("--size", type=int, default=224, metavar="N", help=text)
    sub.add_argument(
        "--resize", default="crop", metavar="HOW", help="crop: keep the centre; pad: keep all, with black edges"
    )


def data_command(options: argparse.Namespace) -> None:
    from alexnet_course.data import load_dataset, splits_of

    side = options.size
    for split in splits_of(options.spec):
        dataset = load_dataset(options.spec, split, size=side, resize=options.resize)
        side = dataset.side or side  # test images of different sizes come to that of the training images
        size = "×".join(map(str, dataset.images.shape[1:]))
        mean, std = dataset.channel_statistics()
        print(f"{dataset.name} {split}: {len(dataset):,} images of {size}, {len(dataset.classes)} classes")
        print(f"  mean {' '.join(f'{v:.4f}' for v in mean)}  std {' '.join(f'{v:.4f}' for v in std)}")
        print(f"  fingerprint {dataset.fingerprint}")
        counts = dataset.labels.bincount(minlength=len(dataset.classes)).tolist()
        if dataset.held_out is not None:
            print(f"  {len(dataset.held_out):,} of them are for validation")
        print("  " + ", ".join(f"{name} {number:,}" for name, number in zip(dataset.classes, counts, strict=True)))
