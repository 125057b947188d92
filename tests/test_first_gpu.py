"""The first minutes on a GPU: one part that fails or hangs costs only itself, and what came out is on the disk."""

import json
import sys
import time
from argparse import Namespace
from pathlib import Path

import full_profile
import nbformat
import pytest
import torch
from torch import nn

from alexnet_course import bench, register_model
from alexnet_course.models import MODELS
from alexnet_course.recipes import list_recipes
from benchmarks import first_gpu
from benchmarks.first_gpu import NETWORKS, OWN, Board, Part, main, parts_alone, parts_together

FOREVER = 1e9


def lines(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def summary(out: Path) -> dict[str, int | None]:
    return {part["name"]: part["status"] for part in json.loads((out / "summary.json").read_text())}


@pytest.mark.slow
def test_what_fails_or_hangs_costs_only_itself(tmp_path):
    board = Board(tmp_path, FOREVER)
    for part in (
        Part("good", lines("print('done')")),
        Part("bad", lines("raise SystemExit(3)")),
        Part("late", lines("import time; print('begun', flush=True); time.sleep(60)")),
    ):
        board.start(part)
    board.wait(time.monotonic() + 3)
    assert summary(tmp_path) == {"good": 0, "bad": 3, "late": None}
    assert (tmp_path / "good.log").read_text() == "done\n"
    assert (tmp_path / "late.log").read_text() == "begun\n"


@pytest.mark.slow
def test_the_deadline_holds_for_every_part(tmp_path):
    board = Board(tmp_path, time.monotonic() + 1)
    board.start(Part("late", lines("import time; time.sleep(60)")))
    began = time.monotonic()
    board.wait()
    assert time.monotonic() - began < 10
    assert summary(tmp_path) == {"late": None}


@pytest.mark.slow
def test_timed_parts_run_alone_and_the_others_together(tmp_path, monkeypatch, capsys):
    note = "import sys, time; open({0!r}, 'a').write('<'); time.sleep(0.5); open({0!r}, 'a').write('>')"
    diary = lines(note.format(str(tmp_path / "diary")))
    monkeypatch.setattr(first_gpu, "TIMED", {"one": 60.0, "two": 60.0})
    monkeypatch.setattr(first_gpu, "parts_alone", lambda *_: [Part("one", diary), Part("two", diary)])
    monkeypatch.setattr(first_gpu, "parts_together", lambda *_: [Part("three", diary), Part("four", lines("1 / 0"))])
    assert main([str(tmp_path / "out"), "--minutes", "1"]) == 1
    assert (tmp_path / "diary").read_text() == "<><><>"
    assert "four: exit status 1" in capsys.readouterr().out


def options(**changes: object) -> Namespace:
    values = {"data": ["cifar10=folder:x"], "group": None, "device": "cuda", "processes": 2, "only": ["*"], "kills": 20}
    return Namespace(**{**values, "chapters": [], **changes})


def test_every_part_is_a_command_that_there_is(tmp_path):
    parts = [*parts_alone(tmp_path, options()), *parts_together(tmp_path, options(), 1.0)]
    assert [part.name for part in parts] == ["bench", "speed", "repeat", "kill", "chapters", "campaign-1", "campaign-2"]
    for part in parts:
        assert list(part.command[:2]) == [sys.executable, "-m"]
        assert part.command[2].partition(".")[0] in ("alexnet_course", "benchmarks")
        if "--part" in part.command:
            assert part.command[part.command.index("--part") + 1] in OWN


def test_the_bench_is_done_before_the_clock_stops_it(tmp_path):
    """A turn that is not counted, five tries of the tuned loop, and a process for each contender, try and profile."""
    command = parts_alone(tmp_path, options())[0].command
    repeats, seconds = (float(command[command.index(name) + 1]) for name in ("--repeats", "--seconds"))
    contenders = 5 + len(bench.WAYS)
    starts = (contenders + 5 + 2) * 8.0  # PyTorch, torchvision and a GPU
    compiling = 2 * 20.0
    assert starts + compiling + contenders * (repeats + 1) * seconds + 5 * 2 * seconds <= first_gpu.TIMED["bench"]
    assert sum(first_gpu.TIMED.values()) <= 60 * 9.5  # in one command of at most ten minutes


def test_a_folder_of_images_is_found_from_a_chapter_s_folder_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ["cifar10=folder:data/cifar10", "cifar100=doodles", f"cifar10.1=folder:{tmp_path}/new"]
    found = first_gpu.specs(options(data=data))
    assert found["cifar10"] == f"folder:{tmp_path / 'data' / 'cifar10'}"
    assert (found["cifar100"], found["cifar10.1"]) == ("doodles", f"folder:{tmp_path}/new")
    chapters = next(part for part in parts_together(tmp_path, options(data=data), 1.0) if part.name == "chapters")
    assert f"cifar10=folder:{tmp_path / 'data' / 'cifar10'}" in chapters.command


@pytest.mark.parametrize(("group", "names"), [("alone", ["one"]), ("together", ["two"])])
def test_one_group_of_parts_can_be_run_by_itself(tmp_path, monkeypatch, group, names):
    monkeypatch.setattr(first_gpu, "TIMED", {"one": 60.0})
    monkeypatch.setattr(first_gpu, "parts_alone", lambda *_: [Part("one", lines("pass"))])
    monkeypatch.setattr(first_gpu, "parts_together", lambda *_: [Part("two", lines("pass"))])
    assert main([str(tmp_path), "--group", group, "--minutes", "1"]) == 0
    assert list(summary(tmp_path)) == names


def test_every_network_has_the_recipe_that_is_measured():
    assert {f"{name}.modern" for name in NETWORKS} <= set(list_recipes())


@pytest.mark.slow
def test_repeats_are_compared_on_this_machine(tmp_path, monkeypatch):
    """Where every run can be repeated to the bit; the second network draws its dropout's random numbers."""

    def build(num_classes: int, in_channels: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(in_channels * 32 * 32, num_classes))

    register_model("tiny-dropout", build)
    monkeypatch.setattr(first_gpu, "REPEATED", ("cnn4", "tiny-dropout"))
    assert main([str(tmp_path), "--device", "cpu", "--part", "repeat"]) == 0
    result = json.loads((tmp_path / "repeat.json").read_text())
    assert len(result) == 4
    assert all(result.values())
    del MODELS["tiny-dropout"]


@pytest.mark.slow
def test_chapters_take_their_images_from_where_they_are(tmp_path, monkeypatch):
    """And one that fails does not cost the others."""
    cells = {
        "good": "from alexnet_course import load_dataset; assert len(load_dataset('cifar10', 'test')) == 1000",
        "bad": "raise SystemError('oh')",
    }
    for name, source in cells.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(first_gpu, "BOOK", tmp_path)
    assert main([str(tmp_path), "--data", "cifar10=doodles", "--part", "chapters"]) == 0
    result = json.loads((tmp_path / "chapters.json").read_text())
    assert isinstance(result["good"], float)
    assert "SystemError" in result["bad"]
    assert main([str(tmp_path), "--data", "cifar10=doodles", "--part", "chapters", "--chapters", "good"]) == 0
    assert set(json.loads((tmp_path / "chapters.json").read_text())) == {"good"}

    monkeypatch.setenv("ALEXNET_COURSE_PROFILE", "quick")  # and what it was comes back
    assert main([str(tmp_path), "--data", "cifar10=doodles", "--part", "times", "--chapters", "good"]) == 0
    said = full_profile.cost(tmp_path, "good")
    assert said.startswith(
        "All cells together, with CIFAR-10: less than a minute and up to 0 GB of its memory, measured "
    )
    assert said.endswith(f"with PyTorch {torch.__version__}.")
