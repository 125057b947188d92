"""What other programs rely on: names, and a cheap import."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

import alexnet_course
from alexnet_course import version
from alexnet_course.errors import CourseError, first_line, nearest
from alexnet_course.notebook import PROFILE_VARIABLE, attempt, glue, profile


def test_the_public_names_are_there():
    promised = {"build_model", "list_models", "layer_table", "load_dataset", "Recipe", "train", "fit", "evaluate"}
    assert promised | {"load_records"} <= set(alexnet_course.__all__)
    for name in alexnet_course.__all__:
        assert hasattr(alexnet_course, name)
        assert name in dir(alexnet_course)


def test_a_name_that_the_package_does_not_offer_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="module 'alexnet_course' has no attribute 'trian'"):
        _ = alexnet_course.trian
    with pytest.raises(ImportError, match="cannot import name 'trian' from 'alexnet_course'"):
        from alexnet_course import trian  # noqa: F401


@pytest.mark.slow
def test_the_names_come_without_being_imported_before_they_are_asked_for():
    code = "import sys, alexnet_course; print('torch' in sys.modules); print(alexnet_course.train.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "alexnet_course.training.run"]


@pytest.mark.slow
def test_all_that_the_package_offers_brings_in_nothing_heavy_besides_torch():
    heavy = {"matplotlib", "torchinfo", "pandas", "scipy", "IPython", "tqdm"}
    code = "import sys, torch; old = set(sys.modules); from alexnet_course import *; print(*(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "alexnet_course.training.loop" in loaded
    assert not heavy & loaded


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_the_commit_is_found_in_a_folder_whose_name_is_no_text(tmp_path, monkeypatch):
    root = tmp_path / os.fsdecode(b"gr\xf6\xdfe")
    (root / "alexnet_course").mkdir(parents=True)
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", root, *identity, *arguments], check=True, capture_output=True)
    monkeypatch.setattr(version, "__file__", str(root / "alexnet_course" / "version.py"))
    assert re.fullmatch("[0-9a-f]{40}", version.git_commit())


@pytest.mark.parametrize(
    ("text", "otherwise", "line"),
    [("one\ntwo", "", "one"), ("\n two", "", " two"), ("", "", "ValueError"), ("\n", "no reason", "no reason")],
)
def test_the_first_line_of_an_error_is_there_even_without_a_text(text, otherwise, line):
    assert first_line(ValueError(text), otherwise) == line


def test_profile(monkeypatch):
    monkeypatch.setenv(PROFILE_VARIABLE, "full")
    assert profile() == "full"
    monkeypatch.setenv(PROFILE_VARIABLE, "slow")
    with pytest.raises(CourseError, match="ALEXNET_COURSE_PROFILE = 'slow' is not a profile; set it to quick or full"):
        profile()
    monkeypatch.delenv(PROFILE_VARIABLE)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert profile() == "full"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert profile() == "quick"


@pytest.mark.parametrize("wanted", ["", "quick"])
@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("on_colab", [True, False])
def test_on_colab_it_is_said_where_a_gpu_is_switched_on(monkeypatch, capsys, wanted, gpu, on_colab):
    """Where nobody has asked for the quick profile and there is no GPU."""
    monkeypatch.setenv(PROFILE_VARIABLE, wanted)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    if on_colab:
        monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    assert profile() == ("full" if gpu and not wanted else "quick")
    printed = capsys.readouterr()
    assert ("Change runtime type → T4 GPU" in printed.out) == (on_colab and not gpu and not wanted)
    assert printed.err == ""


def test_glue_does_nothing_where_the_book_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "myst_nb", None)
    glue("answer", 42)


def test_nearest_names_what_is_close_and_everything_where_nothing_is():
    assert nearest("anything", []) == "none"
    assert nearest("epoch", ["epochs", "batch_size"]) == "epochs"
    assert nearest("zzz", ["a", "b", "c"]) == "a, b or c"
    many = [f"record-{number}" for number in range(50)]
    assert nearest("zzz", many).count("record-") == 3


def test_attempt_says_what_is_wrong_with_an_answer_and_goes_on(capsys):
    answer = None

    def check():
        assert answer is not None, "there is no answer\nyet"
        assert answer + 1 == 43

    attempt(check)
    answer = "a"
    attempt(check)
    answer = 41
    attempt(check)
    answer = 42
    attempt(check)
    first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert first == "not yet: there is no answer"
    assert second.startswith("not yet: can only concatenate str")
    assert third.startswith("not yet: assert")  # pytest's words; plain Python has none, and its name stands there
    assert fourth == "right"


def test_attempt_fits_on_a_page_of_the_book(capsys):
    def check():
        raise AssertionError("too " + "very " * 30 + "long")

    attempt(check)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) < 80


@pytest.mark.slow
def test_the_source_package_has_all_of_the_package_and_no_half_of_the_tests(tmp_path):
    root = Path(__file__).resolve().parents[1]
    files = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split("\n")
    for file in filter(None, files):
        if (root / file).is_file() and not file.startswith("book/"):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / file, tmp_path / file)
    code = "from setuptools import build_meta; print('built', build_meta.build_sdist('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    with tarfile.open(tmp_path / "dist" / done.stdout.split()[-1]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    ours = {file for file in files if file.startswith("alexnet_course/") and (root / file).is_file()}
    assert {"pyproject.toml", "README.md", "LICENSE"} <= packed
    assert ours - packed == set()
    assert [name for name in packed if name.startswith("tests/")] == []
