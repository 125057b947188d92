"""``--networks FILE``: the command line takes networks of one's own."""

import json
from pathlib import Path

import pytest
from PIL import Image

from alexnet_course.cli import main
from alexnet_course.models import MODELS
from alexnet_course.training.folder import PLAN, RunFolder

NETWORK = """
from torch import nn
from alexnet_course import register_model

class Own(nn.Module):
    def __init__(self, num_classes=10, in_channels=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, 4, 3, stride=4), nn.ReLU(), nn.Flatten())
        self.out = nn.Linear(4 * 8 * 8, num_classes)

    def forward(self, x):
        return self.out(self.layers(x))

register_model("own-net", Own, source="the tests")
"""
SMALL = ["--epochs", "2", "--device", "cpu", "--precision", "fp32", "--set", "validation_size=4", "--batch-size", "6"]
OWN = ["--networks", "own.py"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder but for ``own.py`` and some images; the networks are those of the course again afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.py").write_text(NETWORK)
    for split, count in (("train", 8), ("test", 3)):
        for name, colour in (("blue", (20, 20, 200)), ("red", (200, 20, 20))):
            kind = tmp_path / "tree" / split / name
            kind.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (32, 32), (colour[0], colour[1] + number, colour[2])).save(kind / f"{number}.png")
    before = dict(MODELS)
    yield tmp_path
    forget(before)


def forget(before: dict) -> None:
    MODELS.clear()
    MODELS.update(before)


def test_every_command_takes_it(folder, capsys):
    of_the_course = dict(MODELS)

    def command(*arguments: str) -> str:
        """As in a process of its own, which knows the course's networks alone."""
        assert main([*arguments, *OWN]) == 0, capsys.readouterr().err
        forget(of_the_course)
        return capsys.readouterr().out

    assert command("models").splitlines()[-1].split() == ["own-net", "3×32×32", "2,682", "parameters", "the", "tests"]
    assert "Own" in command("summary", "own-net", "--classes", "3")
    assert command("train", "own-net", "--data", "folder:tree", "--out", "runs/own", *SMALL).startswith("test accuracy")
    record = json.loads((folder / "runs" / "own" / "record.json").read_text())
    assert f"accuracy {record['test_accuracy']:.2%}" in command("evaluate", "runs/own")
    (line,) = (line for line in command("results", "--add", "runs").splitlines() if line.startswith("own-net"))
    assert line.split()[1] == "folder:tree"
    assert command("results", "verify", "--records", "runs").startswith("1 records fit")
    assert command("results", "verify", "--records", "runs/own").startswith("1 records fit")
    assert "bit-identical" in command("reproduce", "runs/own", "--device", "cpu")


def test_home_is_expanded(folder, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(folder))
    assert main(["models", "--networks=~/own.py"]) == 0
    assert "own-net" in capsys.readouterr().out


def test_an_interrupted_run_goes_on(folder, capsys, monkeypatch):
    """The process is stopped before the record; the plan and a checkpoint are left."""
    with monkeypatch.context() as broken:
        broken.setattr("alexnet_course.training.run.save_weights", lambda *_: (_ for _ in ()).throw(OSError("full")))
        assert main(["train", "own-net", "--data", "folder:tree", "--out", "run", *SMALL, *OWN]) == 1
    assert (folder / "run" / PLAN).exists()
    assert RunFolder(folder / "run").checkpoints()
    assert main(["resume", "run", "--device", "cpu", *OWN]) == 0
    assert (folder / "run" / "record.json").exists()


def test_what_was_changed_in_a_run_of_one_s_own_is_found(folder, capsys):
    assert main(["train", "own-net", "--data", "folder:tree", "--out", "runs/own", *SMALL, *OWN]) == 0
    path = folder / "runs" / "own" / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "test_accuracy": 0.99}))
    assert main(["results", "verify", "--records", "runs"]) == 2
    assert "own/record.json: test_accuracy is 0.99, but the other figures give" in capsys.readouterr().out
    path.write_text(json.dumps(record))
    (path.parent / "predictions.npy").unlink()
    assert main(["results", "verify", "--records", "runs"]) == 2
    assert "predictions.npy cannot be read as predictions" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["train", "own-net"], ["summary", "own-net"]])
def test_without_its_file_a_network_is_unknown_and_the_error_says_what_to_do(command, capsys):
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'own-net'" in line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["models", "--networks", "lost.py"],
            "There is no file 'lost.py'; give a Python file that registers networks.",
        ),
        (
            ["results", "verify", "--records", "lost"],
            "'lost' cannot be read as a folder of records (No such file or directory); give the folder",
        ),
        (["models", "--networks", "empty.py"], "'empty.py' registers no network; call register_model in it."),
        (["models", "--networks", "bad.py"], "'bad.py' stopped in line 2 (ZeroDivisionError: division by zero); fix"),
    ],
)
def test_wrong_use_is_one_sentence(folder, capsys, arguments, sentence):
    (folder / "empty.py").write_text("")
    (folder / "bad.py").write_text("\n1 / 0\n")
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"alexnet-course: {sentence}")
