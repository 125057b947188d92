"""The command-line parser, assembled from the modules of the commands."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from alexnet_course.cli import bench, data, evaluate, export, models, predict, reproduce, results, train
from alexnet_course.cli.common import is_main_process
from alexnet_course.terminal import say

COMMANDS = (models, data, train, evaluate, predict, export, results, reproduce, bench)  # in the order of the help text


class Parser(argparse.ArgumentParser):
    """argparse's parser, but a usage error prints one sentence instead of the whole usage text."""

    def error(self, message: str) -> NoReturn:
        if is_main_process():
            say(f"{self.prog}: {message}; see {self.prog} --help")
        sys.exit(2)


class Version(argparse.Action):
    """argparse's ``version``, but the text, which queries the GPU, is built only on request."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from alexnet_course.cli.version import version_text

        print(version_text())
        parser.exit()


def make_parser() -> Parser:
    parser = Parser(prog="alexnet-course", description="Inspect the course's networks and data, train, evaluate.")
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and the environment, and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add(commands)
    return parser
