"""The course on Colab: its first cell installs it beside Colab's own packages, and every chapter runs with those.

Two fresh environments stand for Colab, each with what Colab brings: one with the oldest versions that pyproject.toml
takes and with Colab's own old Jupyter, one with the newest of the registry. In both, `.github/colab.py`, which also
runs in Colab's image, runs the first cell as it is. git finds the release of this checkout where the cell names
GitHub's. Where the registry cannot be reached, or git or uv is missing, the tests are skipped.
"""

from __future__ import annotations

import builtins
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
FIRST_CELL = next(cell.source for cell in nbformat.read(CHAPTERS[0], 4).cells if cell.cell_type == "code")

COLABS_OWN = ("torch", "torchvision", "numpy", "pandas", "matplotlib")
COURSES_OWN = ("torchinfo",)  # which Colab does not have; all else that the course needs it has, and shall keep
ENVIRONMENTS = {
    # How uv chooses among the versions that pyproject.toml takes, and what there is of Jupyter: Colab's is years old.
    "older": ("lowest-direct", ["ipykernel==6.17.1", "ipython==7.34.0", "nbclient>=0.10", "pip==24.1.2"]),
    "newer": ("highest", ["ipykernel", "nbclient", "pip"]),
}
# What is set for the environment of this process shall not reach the others.
LEAKS = {"ALEXNET_COURSE_PROFILE", "JUPYTER_PATH", "MPLBACKEND", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"}
SLOWEST = 30.0  # seconds for the first cell

each_environment = pytest.mark.parametrize("name", ENVIRONMENTS)
each_chapter = pytest.mark.parametrize("chapter", [path.stem for path in CHAPTERS])


def load_per_core() -> float:
    """How many programs share a core of this machine, on the average of the last minute; at least one."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def uv(*arguments: object, text: str = "") -> str:
    """What uv prints; skips the tests where it cannot reach the registry."""
    program = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if program is None:
        pytest.skip("tests of Colab: uv is not installed; `make setup` installs it")
    # Outside of the checkout, whose pyproject.toml tells uv to take the newest of some packages whatever is asked for.
    outside = tempfile.gettempdir()
    done = subprocess.run([program, *map(str, arguments)], cwd=outside, input=text, capture_output=True, text=True)
    if re.search(r"Failed to fetch|Network connectivity is disabled", done.stderr):
        pytest.skip("tests of Colab: the package registry cannot be reached")
    assert done.returncode == 0, done.stderr
    return done.stdout


def publish(release: Path, tag: str) -> None:
    """Makes ``release`` a git repository with the files of this checkout, as they are now, under ``tag``."""
    checkout = ["--git-dir", release / ".git", "--work-tree", ROOT, "-c", "commit.gpgsign=false"]
    author = ["-c", "user.name=course", "-c", "user.email=course@localhost"]
    for command in (
        ["init", "--quiet", release],
        [*checkout, "add", "--all"],
        [*checkout, *author, "commit", "--quiet", "--message", "the release"],
        [*checkout, "tag", tag],
    ):
        subprocess.run(["git", *map(str, command)], check=True, capture_output=True)


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
        self.load = 0.0
        self.report: dict[str, Any] = {}

    def make(self) -> None:
        uv("venv", "--quiet", "--python", sys.executable, self.folder)
        exact = [f"{package}=={version}" for package, version in self.versions.items()]
        uv("pip", "install", "--quiet", "--no-deps", "--python", self.python, *exact)

    def start(self, variables: dict[str, str], jobs: int) -> subprocess.Popen[str]:
        command = [self.python, ROOT / ".github" / "colab.py", "--report", self.report_file, "--jobs", jobs]
        if not self.differs:
            command.append("--chapters")  # none of them
        return subprocess.Popen(
            list(map(str, command)), env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait(self, process: subprocess.Popen[str]) -> None:
        printed, _ = process.communicate()
        assert self.report_file.exists(), printed
        self.report = json.loads(self.report_file.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def colabs() -> Iterator[dict[str, Colab]]:
    """Both environments, after the first cell was run in them and after it every chapter."""
    if shutil.which("git") is None:
        pytest.skip("tests of Colab: git is not installed")
    address, tag = re.search(r"git\+(\S+?)@(\S+?)\"", FIRST_CELL).groups()
    (ROOT / "_build").mkdir(exist_ok=True)
    # Beside .venv, where uv links to the files in its cache; removed at once, since they may be copies of gigabytes.
    with tempfile.TemporaryDirectory(dir=ROOT / "_build", prefix="colab-") as scratch:
        release = Path(scratch, "release")
        publish(release, tag)
        variables = {
            **{key: value for key, value in os.environ.items() if key not in LEAKS},
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{release.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": address,
            "ALEXNET_COURSE_CACHE": str(Path(scratch, "cache")),
            "CUDA_VISIBLE_DEVICES": "",  # the quick profile is that without a GPU
            "OMP_NUM_THREADS": "1",
        }
        found = {name: Colab(name, Path(scratch, name)) for name in ENVIRONMENTS}
        for colab in found.values():
            colab.make()
        jobs = max(1, (os.cpu_count() or 1) // sum(colab.differs for colab in found.values()))
        load = load_per_core()
        processes = [colab.start(variables, jobs) for colab in found.values()]
        try:
            for colab, process in zip(found.values(), processes, strict=True):
                colab.wait(process)
                colab.load = max(load, load_per_core())
        finally:
            for process in processes:
                process.kill()
        yield found


@each_environment
class TestFirstCell:
    def test_finds_colabs_versions_and_not_ours(self, colabs, name, capsys):
        colab = colabs[name]
        before = colab.report["install"]["before"]
        assert [f"{package}=={version}" for package, (version, *_) in before.items()] == colab.own
        if name == "older":
            assert not any(re.search(rf"^{re.escape(own)}\b", LOCK, re.MULTILINE) for own in colab.own)
        nothing_newer = "" if colab.differs else " (the registry has nothing newer than requirements.lock)"
        with capsys.disabled():
            print(f"\nColab, {name}: {' '.join(colab.own)}{nothing_newer}")

    def test_installs_the_course_without_a_restart(self, colabs, name):
        install = colabs[name].report["install"]
        assert install["error"] == ""
        for file in install["course"]:  # imported in the kernel in which the first cell was run
            assert Path(file).is_relative_to(colabs[name].folder)

    def test_installs_it_quickly(self, colabs, name, capsys):
        """On a machine that does other things, too, as many times as long as programs share a core."""
        seconds = colabs[name].report["install"]["seconds"]
        with capsys.disabled():
            print(f"\nColab, {name}: installed in {seconds:.1f} s, with {colabs[name].load:.1f} programs a core")
        assert seconds < SLOWEST * colabs[name].load

    def test_leaves_what_colab_has_untouched(self, colabs, name):
        """Version, place and the very file: a package that was installed again would be another."""
        install = colabs[name].report["install"]
        assert install["after"] == install["before"]


@each_environment
@each_chapter
def test_chapter_runs_there_and_shows_nothing_red(colabs, name, chapter):
    if not colabs[name].differs:
        pytest.skip("tests of Colab: the newest versions are those of requirements.lock, with which nbval runs all")
    found = colabs[name].report["chapters"][chapter]
    assert found["error"] == ""
    assert found["red"] == []


@pytest.mark.parametrize("on_colab", [False, True])
def test_first_cell_does_nothing_elsewhere(monkeypatch, on_colab):
    """That of all chapters: ``tests/test_book.py`` looks whether they are the same."""
    if on_colab:
        monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    done: list[tuple[str, str]] = []
    shell = SimpleNamespace(run_line_magic=lambda *command: done.append(command))
    names: dict[str, Any] = {"__builtins__": {**vars(builtins), "get_ipython": lambda: shell}}
    exec(TransformerManager().transform_cell(FIRST_CELL), names)
    assert set(names) == {"__builtins__", "sys"}
    assert [magic for magic, _ in done] == (["pip", "pip"] if on_colab else [])
