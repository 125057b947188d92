"""The command line as its users meet it: in a process of its own."""

import json
import shlex
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from PIL import Image

from alexnet_course import __version__, build_model, list_models, summary
from alexnet_course.cli import main
from alexnet_course.training.record import kept_epoch

COMMAND = [sys.executable, "-m", "alexnet_course.cli"]
SMALL = ["--epochs", "1", "--device", "cpu", "--precision", "fp32", "--set", "validation_size=0.25"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A small image folder: 24 training and 8 test pictures of two colours."""
    root = tmp_path_factory.mktemp("tree")
    for split, count in (("train", 12), ("test", 4)):
        for name, colour in (("blue", (20, 20, 200)), ("red", (200, 20, 20))):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (32, 32), (colour[0], colour[1] + number, colour[2])).save(folder / f"{number}.png")
    return root


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / "cache"))


def test_models_lists_every_network(capsys):
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == list_models()
    assert "57,023,306 parameters" in out


def test_summary_prints_the_table_and_nothing_else(capsys):
    assert main(["summary", "lenet5"]) == 0
    assert capsys.readouterr() == (summary(build_model("lenet5"), (1, 1, 32, 32)) + "\n", "")
    assert main(["summary", "cnn4", "--input", "1,32,32", "--classes", "3"]) == 0
    assert capsys.readouterr().out == summary(build_model("cnn4", num_classes=3, in_channels=1), (1, 1, 32, 32)) + "\n"


def test_data_describes_both_splits(tree, capsys):
    assert main(["data", f"folder:{tree}"]) == 0
    out = capsys.readouterr().out
    assert "train: 24 pictures of 3×32×32, 2 classes" in out
    assert "test: 8 pictures" in out
    assert "blue 12, red 12" in out


def test_train_leaves_a_record_that_evaluate_confirms(tree, tmp_path, capsys):
    options = ["--batch-size", "9", "--lr", "0.01", "--seed", "5", "--set", "flip=false", "--set", "optimiser=adam"]
    assert main(["train", "cnn4", "--data", f"folder:{tree}", "--out", "run", *SMALL, *options]) == 0
    out, err = capsys.readouterr()
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert out.count("\n") == 1
    assert out.startswith(f"test accuracy {record['test_accuracy']:.2%}")
    assert "step" in err  # the progress bar
    recipe = record["recipe"]
    assert (recipe["epochs"], recipe["batch_size"], recipe["lr"], recipe["seed"]) == (1, 9, 0.01, 5)
    assert (recipe["flip"], recipe["optimiser"], recipe["precision"]) == (False, "adam", "fp32")
    assert main(["evaluate", "run"]) == 0
    out = capsys.readouterr().out
    assert f"accuracy {record['test_accuracy']:.2%}" in out
    assert f"loss {record['test_loss']:.4f}" in out
    assert "red" in out
    assert main(["evaluate", "run", "--data", "doodles"]) == 2
    assert "classes" in capsys.readouterr().err


def test_runs_get_their_own_folders(tree, tmp_path):
    for _ in range(2):
        assert main(["train", "lenet5", "--data", f"folder:{tree}", *SMALL]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["lenet5-seed0", "lenet5-seed0-2"]
    before = (tmp_path / "runs" / "lenet5-seed0" / "record.json").read_bytes()
    assert main(["train", "lenet5", "--data", f"folder:{tree}", *SMALL, "--out", "runs/lenet5-seed0"]) == 2
    assert (tmp_path / "runs" / "lenet5-seed0" / "record.json").read_bytes() == before


def test_a_run_that_cannot_start_leaves_no_folder(tree, tmp_path):
    assert main(["train", "alexnet-lrn", "--data", f"folder:{tree}", *SMALL, "--set", "input_size=32"]) == 2
    assert not list(tmp_path.glob("runs/*"))


def test_train_takes_a_toml_file(tree, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text('model = "lenet5"\nbatch_size = 4\n')
    assert main(["train", "mine.toml", "--data", f"folder:{tree}", *SMALL]) == 0
    assert "runs/mine-seed0/record.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "alexnet-course: the following arguments are required: COMMAND; see alexnet-course --help"),
        (["trian"], "invalid choice: 'trian'"),
        (["summary", "alexnet-cifar"], "There is no network 'alexnet-cifar'; did you mean"),
        (["summary", "cnn4", "--input", "32x32"], "--input '32x32' is not a size; give channels, height and width"),
        (["summary", "cnn4", "--input", "3,0,32"], "--input '3,0,32' has a number below 1"),
        (["summary", "alexnet-lrn", "--input", "3,32,32"], "vanishes at"),
        (["data", "cifar-10"], "Unknown data set 'cifar-10'"),
        (["data", "folder:nowhere"], "nowhere"),
        (["train", "alexnet"], "'alexnet' is neither a recipe nor a network nor a TOML file; nearest:"),
        (["train", "cnn4", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["train", "cnn4", "--epochs", "0"], "epochs = 0 is out of range"),
        (["train", "cnn4", "--set", "colour=3"], "'colour' is not a key of a recipe; nearest: colour_pca"),
        (["train", "cnn4", "--set", "crop"], "--set 'crop' has no value; write KEY=VALUE"),
        (["train", "cnn4", "--device", "gpu"], "device = 'gpu' is not a device"),
        (["evaluate", "nowhere"], "'nowhere' has no record.json; give the folder of a finished run"),
    ],
)
def test_wrong_use_exits_2_with_one_sentence(arguments, sentence, capsys):
    try:
        status = main(arguments)
    except SystemExit as stop:  # argparse's way
        status = stop.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert err.startswith("alexnet-course")


@pytest.mark.parametrize("command", ["models", "summary", "data", "train", "evaluate"])
def test_every_command_s_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"example:\n  alexnet-course {command}" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"alexnet-course {__version__}\n"


def test_the_installed_command_is_this_one():
    (script,) = entry_points(group="console_scripts", name="alexnet-course")
    assert script.load() is main


def test_a_reader_that_goes_away_is_no_error():
    command = " ".join(map(shlex.quote, COMMAND))
    pipe = f"set -o pipefail; {command} summary cnn4 | true"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_exits_130_and_says_what_was_kept(tree, tmp_path):
    run = tmp_path / "run"
    command = [*COMMAND, "train", "cnn4", "--data", f"folder:{tree}", "--out", str(run), *SMALL, "--epochs", "10000"]

    def hear_ctrl_c() -> None:
        """A shell lets what it starts in the background ignore Ctrl-C, and this test may run in one."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=hear_ctrl_c) as process:
        try:
            until = time.monotonic() + 120
            while not (run / "weights.safetensors").exists():
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "")
    epoch = kept_epoch(run)
    assert err.splitlines()[-1] == (
        f"alexnet-course: stopped; the weights after epoch {epoch} and the history so far are in {run}"
    )
    assert len(json.loads((run / "history.json").read_text())) - epoch in (0, 1)
    assert not list(run.glob("*.part"))
    assert "Traceback" not in err


def test_a_run_that_diverges_exits_1_with_one_sentence(tree, capsys):
    wild = ["--lr", "100", "--epochs", "30", "--set", "schedule=constant", "--set", "momentum=0.99"]
    assert main(["train", "cnn4", "--data", f"folder:{tree}", *SMALL, *wild, "--set", "validation_size=0.2"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("alexnet-course: The loss became")
