"""The set-up: the three lists of dependencies agree, and the Makefile copes with the machines that it may meet."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

# A requirement with its hashes: "name==version [; marker]", then lines that begin with white space.
ENTRIES = [entry for entry in re.split(r"\n(?=\S)", LOCK.strip()) if not entry.startswith("#")]
LOCKED = [Requirement(entry.splitlines()[0].rstrip(" \\")) for entry in ENTRIES]
COURSE = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
EXTRAS = [Requirement(text) for texts in PROJECT["project"]["optional-dependencies"].values() for text in texts]
D2L = [Requirement(text) for text in PROJECT["dependency-groups"]["d2l"]]


def named(name: str) -> list[Requirement]:
    """The lock's entries for a package; several where the version depends on Python's."""
    return [entry for entry in LOCKED if canonicalize_name(entry.name) == canonicalize_name(name)]


def version(entry: Requirement) -> str:
    (exact,) = entry.specifier
    assert exact.operator == "==", entry
    return exact.version


def pip_lines() -> list[str]:
    (pip,) = [part["pip"] for part in ENVIRONMENT["dependencies"] if isinstance(part, dict)]
    return [line for line in pip if not line.startswith("-")]


class TestLock:
    def test_every_entry_is_exact_and_hashed(self):
        assert len(LOCKED) > 50
        for requirement, entry in zip(LOCKED, ENTRIES, strict=True):
            assert version(requirement)
            assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), requirement

    def test_names_no_registry(self):
        assert "://" not in LOCK
        assert "--index" not in LOCK

    @pytest.mark.parametrize("needed", [*COURSE, *EXTRAS, *D2L], ids=str)
    def test_holds_every_direct_dependency_within_its_bounds(self, needed):
        assert named(needed.name)
        for entry in named(needed.name):
            assert needed.specifier.contains(version(entry)), f"{entry} is outside {needed}"

    @pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
    def test_has_one_version_of_a_package_for_each_python(self, python):
        here = {**default_environment(), "python_version": python, "python_full_version": f"{python}.4"}
        names = [canonicalize_name(e.name) for e in LOCKED if e.marker is None or e.marker.evaluate(here)]
        assert len(names) == len(set(names))
        assert {canonicalize_name(needed.name) for needed in [*COURSE, *EXTRAS, *D2L]} <= set(names)


class TestD2l:
    def test_is_no_dependency_of_the_package(self):
        assert "d2l" not in {requirement.name for requirement in [*COURSE, *EXTRAS]}

    def test_drags_none_of_its_pins_into_the_lock(self):
        (d2l,) = named("d2l")
        pins = [Requirement(text) for text in metadata.requires("d2l") or []]
        dragged = [pin.name for pin in pins for entry in named(pin.name) if entry.specifier == pin.specifier]
        assert version(d2l)
        assert len(pins) > 3
        assert not dragged
        assert not named("gym")

    def test_is_not_in_the_conda_list_but_in_its_comment(self):
        (d2l,) = named("d2l")
        assert f"pip install --no-deps d2l=={version(d2l)}" in (ROOT / "environment.yml").read_text(encoding="utf-8")
        assert not any(Requirement(line).name == "d2l" for line in pip_lines())


class TestDeclarations:
    def test_conda_list_equals_the_lock(self):
        direct = {canonicalize_name(needed.name) for needed in [*COURSE, *EXTRAS, *D2L]} - {"d2l"}
        wanted = sorted(str(entry) for name in direct for entry in named(name))
        assert sorted(str(Requirement(line)) for line in pip_lines()) == wanted

    def test_conda_installs_the_package_itself(self):
        (pip,) = [part["pip"] for part in ENVIRONMENT["dependencies"] if isinstance(part, dict)]
        assert pip[-1] == "-e ."

    def test_package_has_lower_bounds_only(self):
        """Colab must be able to keep its own torch and numpy."""
        assert {part.operator for requirement in COURSE for part in requirement.specifier} == {">="}

    def test_python_is_the_same_everywhere(self):
        wanted = PROJECT["project"]["requires-python"]
        major, minor = re.fullmatch(r">=(\d+)\.(\d+)", wanted).groups()
        assert f"python{wanted}" in ENVIRONMENT["dependencies"]
        assert f"({major}, {minor})" in (ROOT / "Makefile").read_text(encoding="utf-8")
        assert PROJECT["tool"]["ruff"]["target-version"] == f"py{major}{minor}"
        assert PROJECT["tool"]["mypy"]["python_version"] == f"{major}.{minor}"


class TestDevcontainer:
    """What GitHub Codespaces and editors make a machine of."""

    CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))

    def test_has_a_python_that_is_tested(self):
        version = re.fullmatch(r"mcr\.microsoft\.com/devcontainers/python:(3\.\d+)", self.CONTAINER["image"])[1]
        assert f"Programming Language :: Python :: {version}" in PROJECT["project"]["classifiers"]

    def test_sets_the_course_up_and_uses_it(self, machine):
        add, make, _ = machine
        add("python3", GOOD_PYTHON)
        program, target = self.CONTAINER["postCreateCommand"].split()
        assert program == "make"
        assert "venv" in make("-n", target).stdout
        assert self.CONTAINER["customizations"]["vscode"]["settings"] == {
            "python.defaultInterpreterPath": ".venv/bin/python"
        }

    def test_shows_the_book_and_has_a_browser(self):
        (port,) = self.CONTAINER["forwardPorts"]
        assert f"http.server --bind 127.0.0.1 --directory $(BOOK) {port}" in (ROOT / "Makefile").read_text("utf-8")
        browser = self.CONTAINER["onCreateCommand"].split()[-1]
        assert f'"{browser}"' in (ROOT / "book" / "pdf.py").read_text("utf-8")  # among those that it looks for


@pytest.fixture
def machine(tmp_path):
    """An empty checkout on a machine whose PATH holds the basic tools and what a test adds; gives (add, make)."""
    checkout, programs = tmp_path / "a checkout", tmp_path / "bin"
    checkout.mkdir()
    programs.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    for tool in ("bash", "sh", "make", "awk", "find", "rm", "test", "cat", "touch", "uname"):
        if path := shutil.which(tool):
            (programs / tool).symlink_to(path)

    def add(name: str, script: str) -> None:
        (programs / name).write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        (programs / name).chmod(0o755)

    def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(programs), "HOME": str(tmp_path), **variables}
        return subprocess.run(
            ["make", *arguments],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return add, make, checkout


# Without pip, which takes seconds to unpack and is not used where there is a uv.
GOOD_PYTHON = f"""
[ "$2" = venv ] && exec {sys.executable} -m venv --without-pip "${{@:3}}"
exec {sys.executable} "$@"
"""
OLD_PYTHON = "exit 1"  # what it says when asked whether it will do
OLD_UV = '[[ "$*" == *--torch-backend* ]] && exit 2; echo uv 0.5'


class TestMakefile:
    def test_make_alone_prints_the_targets(self, machine):
        _, make, _ = machine
        done = make()
        assert done.returncode == 0
        for target in ("setup", "book", "serve", "test", "execute", "formulas", "lint", "lock", "clean"):
            assert re.search(rf"^make {target} +\w", done.stdout, re.MULTILINE), target

    def test_without_a_python_that_will_do_says_so_in_one_sentence(self, machine):
        add, make, checkout = machine
        add("python3", OLD_PYTHON)
        done = make("setup")
        assert done.returncode != 0
        sentences = [line for line in done.stderr.splitlines() if "Error" not in line]
        assert len(sentences) == 1
        assert "Python 3.11 or newer" in sentences[0]
        assert "python3-venv" in sentences[0]
        assert not (checkout / ".venv").exists()

    def test_an_old_python3_does_not_stand_in_the_way(self, machine):
        add, make, _ = machine
        add("python3", OLD_PYTHON)
        add("python3.12", GOOD_PYTHON)
        assert "python3.12 -m venv" in make("-n", "setup").stdout

    def test_variables_of_another_python_do_not_matter(self, machine):
        add, make, _ = machine
        add("python3", GOOD_PYTHON)
        done = make("-n", "setup", PYTHONHOME="/nowhere", PYTHONPATH="/nowhere", PYTHON="/nowhere/python")
        assert "python3 -m venv" in done.stdout

    @pytest.mark.parametrize(
        ("script", "used"),
        [(None, ".venv/bin/uv"), ("exit 127", ".venv/bin/uv"), (OLD_UV, ".venv/bin/uv"), ("echo uv 1.0", "uv")],
        ids=["absent", "broken", "too old", "there"],
    )
    def test_the_machines_own_uv_is_used_where_it_runs(self, machine, script, used):
        add, make, _ = machine
        add("python3", GOOD_PYTHON)
        if script:
            add("uv", script)
        assert re.search(rf"\s{re.escape(used)} pip install .*--require-hashes", make("-n", "setup").stdout)

    @pytest.mark.parametrize("cache", ["", "elsewhere", "later/elsewhere"])
    def test_uv_gets_a_cache_that_it_can_write_to(self, machine, tmp_path, cache):
        add, make, checkout = machine
        add("python3", GOOD_PYTHON)
        add("uv", 'echo "$UV_CACHE_DIR" > cache')
        (tmp_path / "no home").write_text("")
        variables = {"UV_CACHE_DIR": str(tmp_path / cache)} if cache else {}
        assert make("setup", HOME=str(tmp_path / "no home"), **variables).returncode == 0
        expected = tmp_path / cache if cache else checkout / ".uv"
        assert (checkout / "cache").read_text() == f"{expected}\n"
        (checkout / ".venv/.installed").unlink()
        assert make("setup").returncode == 0
        assert (checkout / "cache").read_text() == "\n"  # uv's own choice, below the home

    def test_what_was_left_half_made_is_made_anew(self, machine):
        """The install fails the first time, as if interrupted; nothing of it may be left the second time."""
        add, make, checkout = machine
        add("python3", GOOD_PYTHON)
        add("uv", '[[ "$*" == *--help ]] && exit 0; touch .venv/half; exit 1')
        assert make("setup").returncode != 0
        assert (checkout / ".venv" / "half").exists()
        add("uv", "exit 0")
        assert make("setup").returncode == 0
        assert not (checkout / ".venv" / "half").exists()
        assert make("-q", "setup").returncode == 0  # and now there is nothing to do

    def test_what_was_moved_is_made_anew(self, machine):
        """Its scripts name the folder where they were made."""
        add, make, checkout = machine
        add("python3", GOOD_PYTHON)
        add("uv", "exit 0")
        assert make("setup").returncode == 0
        (checkout / ".venv" / ".installed").write_text("/somewhere/else\n", encoding="utf-8")
        (checkout / ".venv" / "old").touch()
        assert make("setup").returncode == 0
        assert not (checkout / ".venv" / "old").exists()


# Writes down what it was told to install, and the lock that came by the standard input. GIVES: PyTorch's index answers.
INSTALLER = """
[[ "$*" == *--help ]] && exit 0
[[ "$*" == *"torch-backend cpu"* && -z "$GIVES" ]] && exit 1
[[ "$*" == *--dry-run* ]] && exit 0
echo "$@" >> installed
[[ "$*" == *"-r -"* ]] && cat > lock-of-stdin
exit 0
"""
GPU = "echo GPU 0"
NO_GPU = "exit 127"


def only_for_cuda() -> set[str]:
    """What the lock holds on Linux alone, and for torch alone, by its own comments on who needs what."""
    needed_by = {
        name.name: set(re.findall(r"^ +# +(?:via )?(\S+)", entry, re.MULTILINE)) - {"via"}
        for name, entry in zip(LOCKED, ENTRIES, strict=True)
        if "sys_platform == 'linux'" in str(name.marker).replace('"', "'")
    }
    found: set[str] = set()
    while more := {name for name, users in needed_by.items() if users <= found | {"torch"}} - found:
        found |= more
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is one build of PyTorch")
class TestBuildOfPyTorch:
    @pytest.fixture
    def setup(self, machine):
        """Gives what `make setup` printed, whether it went well, and how PyTorch was installed."""
        add, make, checkout = machine
        add("python3", GOOD_PYTHON)
        add("uv", INSTALLER)

        def setup(smi: str, torch: str = "", gives: str = "") -> tuple[str, bool, str]:
            add("nvidia-smi", smi)
            done = make("setup", *([f"TORCH={torch}"] if torch else []), GIVES=gives)
            (checkout / "installed").touch()
            return done.stdout + done.stderr, done.returncode == 0, (checkout / "installed").read_text(encoding="utf-8")

        return setup

    @pytest.mark.parametrize(
        ("smi", "torch", "gives", "cpu", "said"),
        [
            (NO_GPU, "", "yes", True, "without CUDA, because nvidia-smi shows no GPU (make setup TORCH=cuda"),
            (NO_GPU, "", "", False, "cannot be downloaded from PyTorch's own index; it is installed with CUDA"),
            (NO_GPU, "cpu", "yes", True, ""),
            (NO_GPU, "cuda", "yes", False, ""),
            (GPU, "", "yes", False, "with CUDA, because nvidia-smi shows a GPU (make setup TORCH=cpu"),
            (GPU, "cpu", "yes", True, ""),
        ],
        ids=["no GPU", "no GPU, no index", "cpu", "cuda", "GPU", "cpu in spite of a GPU"],
    )
    def test_is_what_was_asked_for_or_what_the_machine_has_a_use_for(self, setup, smi, torch, gives, cpu, said):
        printed, went_well, installed = setup(smi, torch, gives)
        assert went_well
        assert said in printed
        assert len(printed.splitlines()) == 1 + (not torch) + (not gives)
        hashed, *others = installed.splitlines()
        (torch_version,) = map(str, named("torch"))
        (torchvision_version,) = map(str, named("torchvision"))
        assert "--require-hashes" in hashed
        assert hashed.endswith(" -r -" if cpu else " -r requirements.lock")
        assert (f"--torch-backend cpu {torch_version} {torchvision_version}" in others[0]) == cpu
        assert others[-1].endswith("--editable .")

    def test_asked_for_and_not_to_be_had_stops_with_a_sentence(self, setup):
        printed, went_well, installed = setup(NO_GPU, "cpu")
        assert not went_well
        assert installed == ""
        assert "cannot be downloaded from PyTorch's own index; make setup TORCH=cuda installs it with CUDA." in printed

    def test_that_there_is_none_of_stops_before_anything_is_lost(self, setup, machine):
        assert setup(NO_GPU, "cuda")[1]
        printed, went_well, _ = setup(NO_GPU, "gpu")
        assert not went_well
        assert "TORCH is gpu, but must be cpu (PyTorch without CUDA) or cuda" in printed
        assert (machine[2] / ".venv" / ".installed").exists()

    def test_stays_what_it_is_until_another_is_asked_for(self, setup, machine):
        _, make, checkout = machine
        assert setup(NO_GPU, "cuda", "yes")[1]
        (checkout / ".venv" / "old").touch()
        assert make("-q", "setup").returncode == 0  # there is nothing to do
        os.utime(checkout / ".venv" / ".installed", (1, 1))  # as if the lock was newer
        assert "--torch-backend" not in setup(NO_GPU, "", "yes")[2]
        assert (checkout / ".venv" / "old").exists()
        assert "--torch-backend" in setup(NO_GPU, "cpu", "yes")[2]
        assert not (checkout / ".venv" / "old").exists()

    def test_without_cuda_leaves_out_what_only_cuda_needs(self, setup, machine):
        setup(NO_GPU, "cpu", "yes")
        kept = (machine[2] / "lock-of-stdin").read_text(encoding="utf-8").strip()
        left_out = set(ENTRIES) - set(re.split(r"\n(?=\S)", kept))
        names = {re.match(r"[\w.-]+", entry)[0] for entry in left_out}
        assert len(names) > 10
        assert names == only_for_cuda() | {"torch", "torchvision"}


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or torch.__version__.partition("+")[0] != version(named("torch")[0]),
    reason="the README says it of Linux with the locked versions",
)
def test_the_readme_says_how_large_the_set_up_is():
    """Of the build that is installed here; tools that one has beside may add a little."""
    files = {d.locate_file(file) for d in metadata.distributions() for file in d.files or []}
    size = sum(os.lstat(file).st_size for file in files if os.path.lexists(file))
    build = "with" if torch.version.cuda else "without"
    (said,) = re.findall(rf"^\| {build} CUDA \| \S+ GB \| (\S+) GB \|", README, re.MULTILINE)
    assert float(said) == pytest.approx(size / 1e9, rel=0.2)


def test_ci_runs_the_tests_and_renders_the_book():
    script = ROOT / ".ci" / "run"
    lines = script.read_text(encoding="utf-8").splitlines()
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in lines
    assert lines.index("make test") < lines.index("make book")
