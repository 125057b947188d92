"""The page 'Adding your own result' as a newcomer follows it: its files and its commands alone, in an empty folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "book" / "your-result.ipynb"
SOURCES = [
    "".join(cell["source"])
    for cell in json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "code"
]
RUN = "runs/pocket-net.first-evening-seed0"
FILLED_IN = {"{BUDGET}": "evening", "{mine}": RUN}  # by the page itself, in the quick profile

# Each command in a child of a process that has imported the package, so that it knows no more than a new one would.
SHELL = """
import os, shlex, sys
import alexnet_course.cli
from alexnet_course import *  # now, and not in each child
for command in sys.stdin.read().splitlines():
    print("$", command, flush=True)
    if (child := os.fork()) == 0:
        sys.exit(alexnet_course.cli.main(shlex.split(command)))
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
"""


def files() -> dict[str, str]:
    """What ``%%writefile`` writes on the page: name → text."""
    found = (re.fullmatch(r"%%writefile (\S+)\n(.*)", source, re.DOTALL) for source in SOURCES)
    return {match[1]: match[2] + "\n" for match in found if match}


def commands() -> list[str]:
    """What follows ``!alexnet-course`` on the page."""
    found = []
    for source in SOURCES:
        for command in re.findall(r"!alexnet-course (.*)", source):
            for name, value in FILLED_IN.items():
                command = command.replace(name, value)
            found.append(command.partition(" 2> ")[0])
    return found


def test_the_page_fills_in_what_is_filled_in_here():
    lines = [line for source in SOURCES for line in source.splitlines()]
    assert 'BUDGET = "evening" if profile() == "quick" else "long"' in lines
    assert 'mine, theirs = (Path("runs", plan.run_name) for plan in (recipe, rival))' in lines


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_newcomer_gets_to_a_row_that_is_checked_and_repeated(tmp_path):
    for name, text in files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    given = commands()
    assert [command.split()[0] for command in given] == ["train", "results", "results", "reproduce"]
    done = subprocess.run(
        [sys.executable, "-c", SHELL], input="\n".join(given), cwd=tmp_path, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, trained, table, verified, repeated = re.split(r"^\$ .*\n", done.stdout, flags=re.MULTILINE)
    record = json.loads((tmp_path / RUN / "record.json").read_text())
    assert trained.startswith(f"test accuracy {record['test_accuracy']:.2%}")
    assert record["test_accuracy"] > 0.2  # twice what guessing gets
    (row,) = (line.split() for line in table.splitlines() if line.startswith("pocket-net.first"))
    assert row[1:5] == ["doodles", f"{100 * record['test_accuracy']:.2f}", "–", "3"]
    assert verified.startswith("1 records fit")
    assert repeated.splitlines()[-1] == "bit-identical: every loss, accuracy and prediction"
