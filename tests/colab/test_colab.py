"""The course on Colab: its first cell installs it beside Colab's own packages, and chapters run with those."""

import builtins
import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from environments import CHAPTERS, ENVIRONMENTS, FIRST_CELL, LOCK
from IPython.core.inputtransformer2 import TransformerManager

SLOWEST = 30.0  # seconds for the first cell

each_environment = pytest.mark.parametrize("name", ENVIRONMENTS)


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
        """Version, path and the very file: a package that was installed again would be another."""
        install = colabs[name].report["install"]
        assert install["after"] == install["before"]


@each_environment
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs_there_and_shows_nothing_red(colabs, name, chapter):
    if not colabs[name].differs:
        pytest.skip("tests of Colab: the newest versions are those of requirements.lock, with which nbval runs all")
    if chapter not in colabs[name].chapters:
        pytest.skip("tests of Colab: test_full_profile.py runs it there")
    found = colabs[name].report["chapters"][chapter]
    assert found["error"] == ""
    assert found["red"] == []


@pytest.mark.parametrize("missing", [(), ("d2l",), ("alexnet_course", "d2l")], ids=len)
def test_first_cell_installs_what_is_missing_and_nothing_else(monkeypatch, missing):
    """That of all chapters: ``tests/test_book.py`` looks whether they are the same."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    done: list[tuple[str, str]] = []
    shell = SimpleNamespace(run_line_magic=lambda *command: done.append(command))
    names: dict[str, Any] = {"__builtins__": {**vars(builtins), "get_ipython": lambda: shell}}
    exec(TransformerManager().transform_cell(FIRST_CELL), names)
    assert set(names) == {"__builtins__", "importlib"}
    assert [magic for magic, _ in done] == ["pip"] * len(missing)
