"""What stands for Colab in these tests: fresh environments with what Colab brings, in other versions than ours.

One has the oldest versions that pyproject.toml takes and Colab's own old Jupyter, one the newest of the registry. In
both, `.github/colab.py`, which also runs in Colab's image, runs the first cell of a chapter, with the address of a
release of this checkout in place of GitHub's. Where the registry cannot be reached, or git or uv is missing, there are
none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import nbformat
from chapters import BOOK, LEAKS
from machine import load_per_core
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def code_cells(chapter: str) -> list[NotebookNode]:
    notebook = nbformat.read(BOOK / f"{chapter}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


CHAPTERS = sorted(path.stem for path in BOOK.glob("*.ipynb"))
FIRST_CELL = max((code_cells(name)[0].source for name in CHAPTERS), key=len)  # one installs d2l as well
# Those with two profiles; test_full_profile.py runs the longer one, nbval the other.
WITH_PROFILES = [name for name in CHAPTERS if any("profile()" in cell.source for cell in code_cells(name))]

COLABS_OWN = ("torch", "torchvision", "numpy", "pandas", "matplotlib")
COURSES_OWN = ("torchinfo",)  # which Colab does not have; all else that the course needs it has, and shall keep
ENVIRONMENTS = {
    # How uv chooses among the versions that pyproject.toml takes, and what there is of Jupyter: Colab's is years old.
    "older": ("lowest-direct", ["ipykernel==6.17.1", "ipython==7.34.0", "nbclient>=0.10", "pip==24.1.2"]),
    "newer": ("highest", ["ipykernel", "nbclient", "pip"]),
}


class NoColab(Exception):
    """Why there are no such environments."""


def uv(*arguments: object, text: str = "") -> str:
    """What uv prints. Raises ``NoColab`` where it cannot reach the registry."""
    program = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if program is None:
        raise NoColab("uv is not installed; `make setup` installs it")
    # Outside of the checkout, whose pyproject.toml tells uv to take the newest of some packages whatever is asked for.
    outside = tempfile.gettempdir()
    done = subprocess.run([program, *map(str, arguments)], cwd=outside, input=text, capture_output=True, text=True)
    if re.search(r"Failed to fetch|Network connectivity is disabled", done.stderr):
        raise NoColab("the package registry cannot be reached")
    assert done.returncode == 0, done.stderr
    return done.stdout


def publish(scratch: Path) -> Path:
    """The files of this checkout, as they are now, in an archive like GitHub's of a tag."""
    repository, archive = scratch / "repository", scratch / "release.tar.gz"
    checkout = ["--git-dir", repository / ".git", "--work-tree", ROOT]
    for command in (
        ["init", "--quiet", repository],
        [*checkout, "add", "--all"],
        [*checkout, "-c", "user.name=course", "-c", "user.email=course@localhost", "-c", "commit.gpgsign=false",
         "commit", "--quiet", "--message", "the release"],
        [*checkout, "archive", "--prefix", "the-course/", "--output", archive, "HEAD"],
    ):  # fmt: skip
        subprocess.run(["git", *map(str, command)], check=True, capture_output=True)
    return archive


class Colab:
    """An environment like Colab's in ``folder``, and the report of what a reader does in it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.python, self.report_file = folder / "bin" / "python", folder / "report.json"
        resolution, jupyter = ENVIRONMENTS[name]
        has = [need for need in PROJECT["dependencies"] if not need.startswith(COURSES_OWN)]
        self.versions = dict(
            line.split("==")
            for line in uv(
                *("pip", "compile", "-", "--quiet", "--no-header", "--no-annotate", "--python", sys.executable),
                *("--resolution", resolution, "--only-binary", ":all:"),
                text="\n".join([*has, "pandas>=2", "requests>=2.31", *jupyter]),
            ).split()
        )
        locked = set(re.findall(r"^[\w.-]+==[\w.+]+", LOCK, re.MULTILINE))
        self.own = [f"{package}=={self.versions[package]}" for package in COLABS_OWN]
        self.differs = not locked.issuperset(self.own)
        # What test_full_profile.py runs in the older one, the longer profile, need not be run there twice.
        skipped = WITH_PROFILES if name == "older" else []
        self.chapters = [chapter for chapter in CHAPTERS if self.differs and chapter not in skipped]
        self.load = 0.0
        self.report: dict[str, Any] = {}

    def make(self) -> None:
        uv("venv", "--quiet", "--python", sys.executable, self.folder)
        exact = [f"{package}=={version}" for package, version in self.versions.items()]
        uv("pip", "install", "--quiet", "--no-deps", "--python", self.python, *exact)

    def start(self, release: Path, variables: dict[str, str], jobs: int) -> subprocess.Popen[str]:
        command = [self.python, ROOT / ".github" / "colab.py", "--package", release]
        command += ["--report", self.report_file, "--jobs", jobs, "--chapters", *self.chapters]
        return subprocess.Popen(
            list(map(str, command)), env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait(self, process: subprocess.Popen[str]) -> None:
        printed, _ = process.communicate()
        assert self.report_file.exists(), printed
        self.report = json.loads(self.report_file.read_text(encoding="utf-8"))


def make_colabs(scratch: Path) -> dict[str, Colab]:
    """Both environments in ``scratch``, after the first cell and then chapters were run in them."""
    if shutil.which("git") is None:
        raise NoColab("git is not installed")
    release = publish(scratch)
    variables = {
        **{key: value for key, value in os.environ.items() if key not in LEAKS},
        "ALEXNET_COURSE_CACHE": str(scratch / "cache"),
        "CUDA_VISIBLE_DEVICES": "",  # the quick profile is that without a GPU
        "OMP_NUM_THREADS": "1",
    }
    found = {name: Colab(name, scratch / name) for name in ENVIRONMENTS}
    for colab in found.values():
        colab.make()
    jobs = max(1, (os.cpu_count() or 1) // sum(colab.differs for colab in found.values()))
    load = load_per_core()
    processes = [colab.start(release, variables, jobs) for colab in found.values()]
    try:
        for colab, process in zip(found.values(), processes, strict=True):
            colab.wait(process)
            colab.load = max(load, load_per_core())
    finally:
        for process in processes:
            process.kill()
    return found
