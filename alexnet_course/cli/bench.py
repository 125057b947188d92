"""``alexnet-course bench``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from alexnet_course.cli.common import Commands, add_command, add_networks, free_file
from alexnet_course.files import check_target, expanded, refuse_existing, write_text


def add(commands: Commands) -> None:
    text = "benchmark the trainer against a typical training loop"
    sub = add_command(commands, "bench", bench_command, text, "bench")
    sub.add_argument("--model", default="alexnet-cifar-3x3", metavar="MODEL")
    sub.add_argument("--data", default="doodles", metavar="SPEC")
    sub.add_argument("--device", default="auto", metavar="D")
    sub.add_argument("--batch-size", type=int, metavar="N", help="of the trainer and of the tuned loop")
    sub.add_argument("--repeats", type=int, default=5, metavar="N", help="turns of each contender (default: 5)")
    sub.add_argument("--seconds", type=float, default=3.0, metavar="S", help="length of a turn (default: 3)")
    sub.add_argument("--compile", action="store_true", help="measure torch.compile as well")
    sub.add_argument("--ways", action="store_true", help="measure the optional speed-ups too (always on a GPU)")
    sub.add_argument("--json", metavar="FILE", help="a new file for all measurements (default: bench.json)")
    add_networks(sub)


def bench_command(options: argparse.Namespace) -> None:
    target = expanded(options.json) if options.json is not None else free_file(Path("bench.json"))
    check_target(target)  # before the minutes that it takes
    refuse_existing(target)
    from alexnet_course import bench

    def keep(result: dict[str, Any]) -> None:
        write_text(target, json.dumps(result, indent=1) + "\n")

    result = bench.bench(
        options.model,
        options.data,
        device=options.device,
        batch_size=options.batch_size,
        repeats=options.repeats,
        seconds=options.seconds,
        compile=options.compile,
        ways=options.ways,
        networks=options.networks,
        progress=lambda text: print(text, file=sys.stderr),
        keep=keep,
    )
    keep(result)
    print(bench.table(result))
    print(f"all measurements are in {target}")
