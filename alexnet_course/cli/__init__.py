"""``alexnet-course``: inspect networks and data, train, evaluate.

Standard output has only the result; progress and errors go to standard error. The exit status is 2 for wrong usage, 1
for a run that had to stop and for what could not be read or written, 130 after Ctrl-C, 128 and the signal's number for
a run that another signal stopped, as the system's own commands do, and 141 if the reader of the output has exited.
PyTorch takes more than a second to import, so each command imports it inside the function that runs it: help, errors in
the arguments, and the lists of networks and results appear at once.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

from alexnet_course import terminal
from alexnet_course.cli.common import is_main_process
from alexnet_course.cli.parser import make_parser
from alexnet_course.errors import CourseError


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit status."""
    terminal.open_lost_streams()
    terminal.print_anything()
    try:
        return run(arguments)
    finally:
        terminal.flush_or_drop()


def run(arguments: list[str] | None) -> int:
    options = make_parser().parse_args(arguments)
    warnings.showwarning = show_warning
    try:
        load_own_networks(getattr(options, "networks", []))
        options.command(options)
        if sys.stdout is not None:  # as after >&-
            sys.stdout.flush()
    except CourseError as error:
        say(f"alexnet-course: {error}")
        return 2
    except KeyboardInterrupt:
        say("\nalexnet-course: stopped")
        return 130
    except BrokenPipeError:  # the reader, such as head, has exited
        return 128 + 13  # SIGPIPE's number, which Windows does not have
    except OSError as error:  # such as standard output on a full disk
        say(f"alexnet-course: {error}")
        return 1
    except RuntimeError as error:
        from alexnet_course.training import TrainingStopped

        if not isinstance(error, TrainingStopped):
            raise
        say(f"alexnet-course: {error}")
        return 1 if error.signal is None else 128 + error.signal
    return 0


def load_own_networks(files: list[str]) -> None:
    if files:
        from alexnet_course.models import load_networks

        for file in files:
            load_networks(file)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one sentence, like an error, without file and line."""
    say(f"\nalexnet-course: {message}")


def say(text: str) -> None:
    """Print to standard error, once even if several processes train together."""
    if is_main_process():
        terminal.say(text)
