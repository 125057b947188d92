"""A teacher's copy of the course gets its own address with one command."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from address import address

ROOT = Path(__file__).resolve().parents[1]
OLD = "/".join(address().owner_and_name)
NEW = "https://github.com/A-Teacher/deep.learning-2027"
# Those that compare addresses.
CHECKS = [f"tests/test_{name}.py" for name in ("book", "plain_notebooks", "workflows", "readme")]
ADDRESSES = (
    "(TestRepositoryAddress or TestFrontMatter or TestCheck or TestColab or first_cell or begins_with or readme)"
    " and not runs"
)


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("readdressing: this is no checkout of git")
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A checkout of the files of this one, as they are now."""
    folder = tmp_path_factory.mktemp("copy")
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    subprocess.run(["git", "-C", folder, "add", "--all"], check=True)
    return folder


def readdress(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, folder / "book" / "readdress.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(folder)})


def texts(folder: Path) -> dict[str, str]:
    found = {}
    for name in tracked():
        try:
            found[name] = (folder / name).read_bytes().decode()
        except UnicodeDecodeError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        "github.com/a/b",
        "https://gitlab.com/a/b",
        "https://github.com/a",
        "https://github.com/a/b/c",
        "https://github.com/a b/c",
        "",
    ],
)
def test_a_wrong_address_is_refused_and_nothing_changed(copy, wrong):
    before = texts(copy)
    done = readdress(copy, wrong)
    assert done.returncode == 1
    assert done.stderr == f"{wrong!r} is not a GitHub repository; write https://github.com/OWNER/NAME.\n"
    assert texts(copy) == before


@pytest.mark.slow
def test_the_old_address_and_none_at_all_are_refused(copy):
    assert "already has the address" in readdress(copy, address().repository).stderr
    assert readdress(copy).stderr.startswith("usage: ")


@pytest.mark.slow
def test_a_copy_has_its_address_everywhere_and_passes_the_tests_that_compare_them(copy):
    said = readdress(copy, NEW + ".git")
    assert said.returncode == 0, said.stderr
    now = texts(copy)
    old = re.compile(rf"{OLD}(?![\w-])|{re.escape(address().book)}|{OLD.split('/')[0]}\.github\.io", re.IGNORECASE)
    assert [name for name, text in now.items() if name != "CHANGELOG.md" and old.search(text)] == []
    changed = [name for name, text in texts(ROOT).items() if now[name] != text]
    assert said.stdout.startswith(f"{len(changed)} files now have the address {NEW}.")
    assert {"_config.yml", "pyproject.toml", "CITATION.cff", "README.md", "colab/01-paper.ipynb"} <= set(changed)
    assert "https://a-teacher.github.io/deep.learning-2027/01-paper.html" in now["colab/01-paper.ipynb"]
    assert "git clone https://github.com/A-Teacher/deep.learning-2027\ncd deep.learning-2027\n" in now["README.md"]

    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow",
        *CHECKS,
        "-k",
        ADDRESSES,
    ]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(copy)})
    assert done.returncode == 0, done.stdout[-3000:]
