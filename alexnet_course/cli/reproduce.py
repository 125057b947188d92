"""``alexnet-course reproduce``."""

from __future__ import annotations

import argparse

from alexnet_course.cli.common import Commands, add_command, add_networks, check_images_are_there, moved_images
from alexnet_course.files import expanded


def add(commands: Commands) -> None:
    text = "repeat a run from its record and compare the results"
    example = "reproduce cnn4.mine-seed0 --data folder:data/cifar10"
    sub = add_command(commands, "reproduce", reproduce_command, text, example)
    sub.add_argument("record", metavar="RECORD", help="a record's name or path, or the folder of a run")
    sub.add_argument("--data", metavar="SPEC", help="data set with its images (default: the recorded name)")
    sub.add_argument("--out", metavar="DIR", help="keep the new run there; resumes an interrupted one")
    sub.add_argument("--device", default="auto", metavar="D")
    sub.add_argument("--deterministic", action="store_true", help="on a GPU, use only deterministic kernels")
    add_networks(sub)


def reproduce_command(options: argparse.Namespace) -> None:
    from alexnet_course.results.reproduce import Reproduction, find_record, recorded_images, repetition
    from alexnet_course.watching import watch

    record = find_record(options.record)
    check_images_are_there(recorded_images(record), options.data)
    moved = moved_images(record.recipe, options.data)
    out = expanded(options.out) if options.out else None
    run = repetition(record, device=options.device, out=out, deterministic=options.deterministic, **moved)
    watch(run)
    assert run.record is not None  # a finished run has one
    print(Reproduction(record, run.record))
