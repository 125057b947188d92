"""What a reader does on Colab: install the course as a chapter's first cell does, then run every chapter.

Runs in Colab's image (.github/workflows/colab.yml) or in any other environment with Jupyter; prints a report in
Markdown and exits with 1 where something is wrong. By hand, from outside the checkout, whose package is not meant:

    python3 /path/to/checkout/.github/colab.py [--package /path/to/checkout]
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

BOOK = Path(__file__).resolve().parents[1] / "book"
COLABS_OWN = ("torch", "torchvision", "numpy", "pandas", "matplotlib")
CELL_SECONDS = 1200


def versions() -> dict[str, str]:
    """The installed versions, read from the disk, so that an installation in another process counts."""
    return {name: metadata.version(name) for name in COLABS_OWN}


def install_commands(chapter: Path, package: str | None) -> list[list[str]]:
    """The commands of the chapter's first code cell; ``package`` replaces the release of the course in them."""
    notebook = nbformat.read(chapter, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    lines = [line.strip().removeprefix("%") for line in first.source.splitlines() if "%pip" in line]
    commands = [[sys.executable, "-m", *shlex.split(line)] for line in lines]
    if package:
        commands = [[package if "git+" in word else word for word in command] for command in commands]
    return commands


def run_chapter(chapter: Path, folder: str) -> str:
    """Runs the chapter in ``folder``, without the commands of its first cell; returns the error, or nothing."""
    notebook: Any = nbformat.read(chapter, as_version=4)
    next(cell for cell in notebook.cells if cell.cell_type == "code").source = "import sys"
    resources = {"metadata": {"path": folder}}
    client = NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", resources=resources)
    try:
        client.execute()
    except Exception as error:  # whatever it is, the other chapters are to be run as well
        return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or type(error).__name__  # without colours
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", metavar="PATH", help="install this instead of the release")
    options = parser.parse_args()
    chapters = sorted(BOOK.glob("*.ipynb"))
    before = versions()
    print("## The course on Colab\n")
    start = time.perf_counter()
    for command in install_commands(chapters[0], options.package):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"`{shlex.join(command[1:])}` failed:\n\n```\n{done.stdout}{done.stderr}```")
            return 1
    print(f"Installed in {time.perf_counter() - start:.0f} s.\n")
    after, failed = versions(), False
    for name in COLABS_OWN:
        changed = after[name] != before[name]
        failed |= changed
        print(f"- {name} {before[name]}" + (f" **became {after[name]}**" if changed else ""))
    print()
    for chapter in chapters:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            error = run_chapter(chapter, folder)
        failed |= bool(error)
        print(
            f"- {chapter.stem}: {'**failed**' if error else 'ran'} in {time.perf_counter() - start:.0f} s", flush=True
        )
        if error:
            print(f"\n```\n{error}\n```\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
