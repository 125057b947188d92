"""The command line as its users meet it: in a process of its own."""

import json
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from alexnet_course import __version__, build_model, list_models, summary
from alexnet_course.cli import main
from alexnet_course.cli.common import moved_images
from alexnet_course.cli.train import under_its_own_name
from alexnet_course.cli.version import installed_version
from alexnet_course.data import load_dataset
from alexnet_course.data.fingerprints import KNOWN_FINGERPRINTS
from alexnet_course.data.photos import FOLDER as PHOTOS
from alexnet_course.recipes import load_recipe
from alexnet_course.results import verify
from alexnet_course.training import Trainer, load_run
from alexnet_course.training.folder import RunFolder
from alexnet_course.watching import fit

COMMAND = [sys.executable, "-m", "alexnet_course"]
SMALL_NETWORK = "vgg-style-bn.small"  # of the package
SMALL = ["--epochs", "1", "--device", "cpu", "--precision", "fp32", "--set", "validation_size=0.25"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A small image folder: 24 training and 8 test images of two colours."""
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
    (tmp_path / "cache").mkdir()


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
    assert "train: 24 images of 3×32×32, 2 classes" in out
    assert "test: 8 images" in out
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


class TestPredict:
    CAT, HORSE = (str(PHOTOS / f"{name}.png") for name in ("cat", "horse"))

    def test_prints_the_most_probable_classes_of_each_image(self, capsys):
        assert main(["predict", SMALL_NETWORK, self.CAT, self.HORSE, "--top", "2"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        said = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
        assert [line[0] for line in said] == [self.CAT, "cat", "dog", self.HORSE, "horse", "dog"]
        shares = [line[1] for line in said if len(line) > 1]
        assert all(re.fullmatch(r"\d+\.\d\d%", share) for share in shares)
        lines = [line for line in out.splitlines() if line.endswith("%")]
        assert len({len(line) for line in lines}) == 1  # aligned
        assert main(["predict", SMALL_NETWORK, self.CAT, "--top", "99"]) == 0
        assert capsys.readouterr().out.count("%") == 10

    def test_prints_one_json_document_with_all_probabilities(self, capsys):
        assert main(["predict", SMALL_NETWORK, self.CAT, self.HORSE, "--json", "--top", "1"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["network"] == "vgg-style-bn.small-cpu-seed0"
        assert [answer["image"] for answer in said["images"]] == [self.CAT, self.HORSE]
        for answer, expected in zip(said["images"], ("cat", "horse"), strict=True):
            assert len(answer["probabilities"]) == 10
            assert next(iter(answer["probabilities"])) == expected
            assert sum(answer["probabilities"].values()) == pytest.approx(1)

    def test_prints_each_answer_as_it_comes(self, capsys, monkeypatch):
        monkeypatch.setattr("alexnet_course.prediction.BATCH", 1)
        Path("notes.txt").write_text("no image")
        assert main(["predict", SMALL_NETWORK, self.CAT, "notes.txt", "--top", "1"]) == 2
        out, err = capsys.readouterr()
        assert out.splitlines()[0] == self.CAT
        assert "'notes.txt' cannot be read as an image" in err

    def test_says_before_the_work_where_no_figure_can_be_drawn(self, capsys, monkeypatch):
        Path("figures").mkdir()
        Path("figures", "horse.png").write_text("mine")
        monkeypatch.setattr("alexnet_course.prediction.read_image", None)
        for target, reason in (
            ("figures", "'figures/horse.png' already exists"),
            ("/proc", "'/proc/cat.png' cannot be written to"),
        ):
            assert main(["predict", SMALL_NETWORK, self.CAT, self.HORSE, "--explain", target]) == 2
            assert reason in capsys.readouterr().err

    @pytest.mark.parametrize("target", [[], ["new"]])
    def test_leaves_no_folder_of_figures_where_there_is_no_image(self, target, capsys):
        Path("notes.txt").write_text("no image")
        before = sorted(Path().iterdir())
        assert main(["predict", SMALL_NETWORK, "notes.txt", "--explain", *target]) == 2
        assert sorted(Path().iterdir()) == before

    def test_takes_a_run_of_yours_and_a_folder(self, tree, capsys):
        assert main(["train", "lenet5", "--data", f"folder:{tree}", "--out", "run", *SMALL]) == 0
        (tree / "test" / "notes.txt").write_text("no image")
        capsys.readouterr()
        assert main(["predict", "run", str(tree / "test")]) == 0
        out, err = capsys.readouterr()
        assert out.count("%") == 16  # two classes of eight images
        assert "alexnet-course: One file is skipped: " in err
        (tree / "test" / "notes.txt").unlink()

    def test_explains_with_a_figure_beside_each_image(self, tmp_path, capsys):
        shutil.copy(self.CAT, "CAT.png")
        for folder in ("explained", "explained-2"):  # the second time, too, nothing is overwritten
            assert main(["predict", SMALL_NETWORK, self.CAT, "CAT.png", "--explain"]) == 0
            assert sorted(path.name for path in Path(folder).iterdir()) == ["CAT-2.png", "cat.png"]
            assert f"2 explained in {folder}" in capsys.readouterr().err
        assert (
            main(["predict", "alexnet-cifar-5x5-lrn.small", self.HORSE, "--explain", "one.png"]) == 0
        )  # the other one
        assert main(["predict", SMALL_NETWORK, self.HORSE, "--explain", "explained"]) == 0  # beside the others
        for file in ("one.png", "explained/horse.png"):
            with Image.open(file) as figure:
                assert figure.width > 1.5 * figure.height  # two panels

    @pytest.mark.parametrize(
        ("target", "sentence"),
        [
            (["cat.png"], "'cat.png' already exists and is not overwritten"),
            (["."], "'horse.png' already exists and is not overwritten"),
            (["notes.txt"], "--explain 'notes.txt' is not a folder and cannot be created (File exists)"),
            (["two.png", "--json"], "--explain 'two.png' is one file for 2 images; give a folder"),
        ],
    )
    def test_never_overwrites_a_file(self, target, sentence, capsys):
        """An image that comes behind --explain, for one, is taken for the figure."""
        for name in ("cat.png", "horse.png"):
            shutil.copy(PHOTOS / name, name)
        Path("notes.txt").write_text("mine")
        before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
        images = ["horse.png", "cat.png"]
        assert main(["predict", SMALL_NETWORK, *images, "--explain", *target]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert sentence in err
        assert err.count("\n") == 1
        assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def test_runs_get_their_own_folders(tree, tmp_path):
    for _ in range(2):
        assert main(["train", "lenet5", "--data", f"folder:{tree}", *SMALL]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["lenet5-seed0", "lenet5-seed0-2"]
    before = (tmp_path / "runs" / "lenet5-seed0" / "record.json").read_bytes()
    again = ["train", "lenet5", "--data", f"folder:{tree}", *SMALL, "--out", "runs/lenet5-seed0", "--lr", "0.001"]
    assert main(again) == 2
    assert (tmp_path / "runs" / "lenet5-seed0" / "record.json").read_bytes() == before


def test_a_run_that_cannot_start_leaves_no_folder(tree, tmp_path):
    assert main(["train", "alexnet-lrn", "--data", f"folder:{tree}", *SMALL, "--set", "input_size=32"]) == 2
    assert not list(tmp_path.glob("runs/*"))


def test_train_takes_a_toml_file(tree, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text('model = "lenet5"\nbatch_size = 4\n')
    assert main(["train", "mine.toml", "--data", f"folder:{tree}", *SMALL]) == 0
    assert "runs/mine-seed0/record.json" in capsys.readouterr().out


def test_train_for_an_evening_is_as_the_recipe_s_table_says(tree, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text(
        'model = "lenet5"\nbatch_size = 4\nlr = 0.1\n[evening]\nlr = 0.01\ntrain_size = 8\n'
    )
    command = ["train", "mine.toml", "--data", f"folder:{tree}", *SMALL]
    for budget, folder, images, lr in (("evening", "mine-evening-seed0", 8, 0.01), ("long", "mine-seed0", 18, 0.1)):
        assert main([*command, "--budget", budget]) == 0
        assert f"runs/{folder}/record.json" in capsys.readouterr().out
        record = json.loads((tmp_path / "runs" / folder / "record.json").read_text())
        assert (record["budget"], record["dataset"]["training_images"], record["recipe"]["lr"]) == (budget, images, lr)
    assert (
        main([*command, "--budget", "evening", "--lr", "0.5", "--set", "train_size=9"]) == 0
    )  # what is given still counts
    record = json.loads((tmp_path / "runs" / "mine-evening-seed0-2" / "record.json").read_text())
    assert (record["dataset"]["training_images"], record["recipe"]["lr"]) == (9, 0.5)


def test_a_budget_that_a_recipe_does_not_have_is_refused(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text('model = "lenet5"\n')
    for budget, sentence in (("evening", "mine.toml has no table [evening]"), ("cpu", "budget = 'cpu' is not a")):
        assert main(["train", "mine.toml", "--budget", budget]) == 2
        assert capsys.readouterr().err.startswith(f"alexnet-course: {sentence}")
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "alexnet-course: the following arguments are required: COMMAND; see alexnet-course --help"),
        (["trian"], "invalid choice: 'trian'"),
        (["summary", "alexnet-cifar"], "There is no network 'alexnet-cifar'; did you mean"),
        (["summary", "cnn4", "--input", "32x32"], "--input '32x32' is not a size; give channels, height and width"),
        (["summary", "cnn4", "--input", "3,0,32"], "--input '3,0,32' has a number below 1"),
        (["summary", "cnn4", "--input", "3,32,100000"], "--input '3,32,100000' is larger than 10,000 pixels per side"),
        (["summary", "cnn4", "--input", "3,9999999999999999999,5"], "is larger than 10,000 pixels per side"),
        (["summary", "cnn4", "--input", "99999999,32,32"], "in_channels is 99999999, but must be an integer from"),
        (["summary", "cnn4", "--classes", "10" * 20], "but must be an integer from 1 to 65536"),
        (["summary", "alexnet-lrn", "--input", "3,32,32"], "vanishes at"),
        (["data", "cifar-10"], "Unknown data set 'cifar-10'"),
        (["data", "folder:nowhere"], "nowhere"),
        (["train", "alexnet"], "'alexnet' is neither a recipe, a network nor a TOML file; nearest:"),
        (["train", "cnn4", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["train", "cnn4", "--epochs", "0"], "epochs = 0 is out of range"),
        (["train", "cnn4", "--set", "colour=3"], "'colour' is not a key of a recipe; nearest: colour_pca"),
        (["train", "cnn4", "--set", "crop"], "--set 'crop' has no value; write KEY=VALUE"),
        (["train", "cnn4", "--device", "gpu"], "device = 'gpu' is not a device"),
        (["train", "cnn4", "--checkpoint-steps", "often"], "argument --checkpoint-steps: invalid int value: 'often'"),
        (["resume", "run", "--checkpoint-seconds", "?"], "argument --checkpoint-seconds: invalid float value: '?'"),
        (["resume"], "the following arguments are required: RUN; see alexnet-course resume --help"),
        (
            ["resume", "nowhere"],
            "There is no folder 'nowhere', so there is nothing to resume; give the folder of the run",
        ),
        (
            ["bench", "--json", "missing/x"],
            "'missing/x' cannot be written to (No such file or directory); give the path",
        ),
        (["bench", "--batch-size", "0"], "batch_size = 0 is too small; give at least 1, or leave it out"),
        (["bench", "--json", "cache"], "'cache' cannot be written to (not a file); give the path of a file"),
        (["bench", "--json", "/dev/null"], "'/dev/null' cannot be written to (not a file); give the path of a file"),
        (["evaluate", "nowhere"], "'nowhere' is neither the folder of a finished run nor the name of"),
        (["export", "nowhere", "--format", "onnx"], "'nowhere' is neither the folder of a finished run nor the name"),
        (["export", "vgg-style-bn.small"], "the following arguments are required: --format"),
        (["export", "vgg-style-bn.small", "--format", "tflite"], "argument --format: invalid choice: 'tflite'"),
        (["export", "vgg-style-bn.small", "--format", "onnx", "-o", "cache"], "'cache' already exists and is not"),
        (
            ["predict", "nowhere", "cache"],
            "'nowhere' is neither the folder of a finished run nor the name of pretrained",
        ),
        (["predict", "vgg-style-bn.small"], "the following arguments are required: IMAGE"),
        (["predict", "vgg-style-bn.small", "nowhere.png"], "There is no image 'nowhere.png'; give the path of a"),
        (["predict", "vgg-style-bn.small", "cache"], "There is no image in 'cache'; give files, or folders with"),
        (["predict", "vgg-style-bn.small", "/dev/null"], "'/dev/null' cannot be read as an image"),
        (["predict", "vgg-style-bn.small", "x", "--top", "0"], "--top 0 shows nothing; give a number of at least 1"),
        (["predict", "vgg-style-bn.small", "x", "--explain", "missing/x.png"], "'missing/x.png' cannot be written to"),
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


@pytest.mark.parametrize(
    "command",
    ["models", "summary", "data", "train", "resume", "evaluate", "predict", "export", "results", "reproduce", "bench"],
)
def test_every_command_s_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"example:\n  alexnet-course {command}" in capsys.readouterr().out


def test_version_comes_with_the_environment_that_an_issue_should_name(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    first, *lines = capsys.readouterr().out.splitlines()
    said = dict(line.split(maxsplit=1) for line in lines)
    assert (stop.value.code, first) == (0, f"alexnet-course {__version__}")
    assert list(said) == ["commit", "Python", "torch", "torchvision", "numpy", "device", "platform"]
    assert said["Python"] == platform.python_version()
    assert said["torch"] == torch.__version__  # with what it was built for, +cu130 say
    assert said["numpy"] == numpy.__version__
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|none: installed, not a checkout", said["commit"])
    assert platform.system() in said["platform"]


def test_version_says_what_is_not_installed():
    assert installed_version("no-such-package") == "not installed"


def test_the_installed_command_is_this_one():
    (script,) = entry_points(group="console_scripts", name="alexnet-course")
    assert script.load() is main


def test_the_module_is_the_command_too():
    done = subprocess.run([*COMMAND, "models"], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list_models()
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("alexnet-course: the following arguments are required: COMMAND")


LARGE_PACKAGES = """
import sys

from alexnet_course.cli import main

try:
    status = main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
print(status, *sorted({"torch", "numpy", "matplotlib", "pydantic"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("--help", 0),
        ("train --help", 0),
        ("", 2),
        ("trian", 2),
        ("train cnn4 --epochs many", 2),
        ("train cnn4 --set crop", 2),
        ("summary cnn4 --input 32x32", 2),
        ("results --format pdf", 2),
        ("results --add nowhere", 2),
        ("predict nowhere x --top 0", 2),
        ("models", 0),
        ("summary alexnet-cifar", 2),
    ],
)
def test_help_names_and_what_is_wrong_with_the_arguments_do_not_wait_for_large_packages(command, status):
    assert large_packages(command) == [str(status)]


@pytest.mark.parametrize(
    "command",
    [
        "train alexnet",
        "train cnn4 --epochs 0",
        "train cnn4 --set colour=3",
        "train cnn4 --set optimiser=nadam",
        "train cnn4 --budget cpu",
    ],
)
def test_a_recipe_is_checked_without_torch(command):
    assert large_packages(command) == ["2", "pydantic"]


@pytest.mark.parametrize("more", ["", " --all", " --all --format csv", " --format markdown"])
def test_the_results_do_not_wait_for_torch(more):
    assert large_packages(f"results{more}") == ["0", "pydantic"]  # every record is checked


def large_packages(command: str) -> list[str]:
    """The status of the command, and which of the large packages it imported."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE_PACKAGES, *command.split()], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].split()


@pytest.mark.slow
def test_a_reader_that_goes_away_is_told_by_the_status_alone():
    command = " ".join(map(shlex.quote, COMMAND))
    pipe = f"set -o pipefail; {command} summary cnn4 | true"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


# --- A recipe that is changed ----------------------------------------------------------------------------------------


@pytest.fixture
def published(tree, monkeypatch) -> Callable[..., None]:
    """Makes parts of ``tree`` the published CIFAR-10, as far as their fingerprints can tell."""

    def publish(*splits: str) -> None:
        for split in splits:
            monkeypatch.setitem(KNOWN_FINGERPRINTS, load_dataset(f"folder:{tree}", split).fingerprint, "cifar10")

    return publish


@pytest.mark.parametrize(
    ("changes", "known", "name", "keys"),
    [
        ({"epochs": 1}, "", "vgg-style-bn.small-changed", "epochs"),
        ({"dataset": "folder:TREE"}, "", "vgg-style-bn.small-changed", "dataset"),
        (
            {"dataset": "folder:TREE", "lr": 0.1, "train_size": 8},
            "",
            "vgg-style-bn.small-changed",
            "dataset, lr, train",
        ),
        ({"dataset": "folder:TREE"}, "train", "vgg-style-bn.small-changed", "dataset"),
        ({"dataset": "folder:TREE"}, "test", "vgg-style-bn.small-changed", "dataset"),
        ({"precision": "fp32"}, "", "vgg-style-bn.small-changed", "precision"),
        ({"model_options": {"hidden": 32}, "seed": 1}, "", "vgg-style-bn.small-changed", "model_options"),
        # The package's still, or somebody's own from the beginning.
        ({"seed": 3}, "", SMALL_NETWORK, ""),
        ({"dataset": "folder:TREE"}, "train test", SMALL_NETWORK, ""),
        ({"name": "mine", "epochs": 1}, "", "mine", ""),
        ({"name": "vgg-style-bn", "epochs": 1}, "", "vgg-style-bn", ""),  # a network, and no recipe
    ],
)
@pytest.mark.parametrize("budget", ["long", "evening"])
def test_a_recipe_that_was_changed_is_called_otherwise(tree, published, capsys, changes, known, name, keys, budget):
    published(*known.split())
    if "dataset" in changes:
        changes = {**changes, "dataset": changes["dataset"].replace("TREE", str(tree))}
    recipe, _ = under_its_own_name(load_recipe(SMALL_NETWORK, budget).replace(**changes))
    assert recipe == load_recipe(SMALL_NETWORK, budget).replace(**{**changes, "name": name})
    said = f"this recipe differs from the package's {SMALL_NETWORK} in {keys}" if keys else ""
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert bool(err) == bool(keys)


SHORT = ["--device", "cpu", "--epochs", "1", "--set", "validation_size=0.25", "--set", "crop=0"]


@pytest.mark.parametrize(
    ("arguments", "run_name"),
    [
        ([SMALL_NETWORK, "--set", "train_size=8"], "vgg-style-bn.small-changed-seed0"),
        (["vgg-style-bn.small.toml", "--seed", "2"], "vgg-style-bn.small-changed-seed2"),  # that of somebody
        ([SMALL_NETWORK, "--budget", "evening", "--precision", "fp32"], "vgg-style-bn.small-changed-evening-seed0"),
        (["lenet5"], "lenet5-seed0"),
    ],
)
def test_what_train_makes_all_other_commands_take(tree, tmp_path, capsys, arguments, run_name):
    data = f"folder:{tree}"
    (tmp_path / "vgg-style-bn.small.toml").write_text('model = "lenet5"\n')
    assert main(["train", *arguments, "--data", data, *SHORT]) == 0
    out, err = capsys.readouterr()
    assert f"record in runs/{run_name}/record.json" in out
    assert ("so the run is called vgg-style-bn.small-changed" in err) == ("changed" in run_name)
    name = json.loads((tmp_path / "runs" / run_name / "record.json").read_text())["recipe"]["name"]
    for command in (
        ["results", "--add", "runs"],
        ["results", "verify", "--records", "runs"],
        ["evaluate", f"runs/{run_name}", "--device", "cpu"],
        ["reproduce", run_name, "--data", data, "--device", "cpu", "--out", "again"],
        ["reproduce", run_name, "--device", "cpu"],  # the images are where they were
        ["results", "--add", "again"],
        ["train", *arguments, "--data", data, *SHORT, "--out", f"runs/{run_name}"],
    ):
        assert main(command) == 0, capsys.readouterr().err
        out = capsys.readouterr().out
        assert name in out or command[0] != "results" or "1 records fit" in out


@pytest.mark.parametrize("known", ["train", "test", "train test"])
def test_published_images_are_known_wherever_they_lie(tree, published, monkeypatch, capsys, known):
    """The recipe of the package on its images in a folder, and on those of which a part is somebody's own."""
    published(*known.split())
    recipe = load_recipe("lenet5").replace(name="known", dataset="cifar10", epochs=1, validation_size=0.25)
    monkeypatch.setattr("alexnet_course.recipes._by_name", lambda budget: {"known": recipe})
    Path("known.toml").write_text('model = "lenet5"\ndataset = "cifar10"\nepochs = 1\nvalidation_size = 0.25\n')
    assert main(["train", "known.toml", "--data", f"folder:{tree}", "--device", "cpu", "--out", "run"]) == 0
    _, record = load_run("run")
    whole = known == "train test"
    assert record.recipe.name == ("known" if whole else "known-changed")
    assert record.recipe.dataset == f"folder:{tree}"  # where they are, for evaluate
    monkeypatch.setattr(verify, "CIFAR_TRAINING_IMAGES", len(load_dataset(f"folder:{tree}", "train")))
    names = {"train": f"cifar10 / folder:{tree.name}", "test": f"folder:{tree.name} / cifar10", "train test": "cifar10"}
    assert record.dataset.name == names[known]
    for command in (["results", "--add", "run"], ["evaluate", "run"], ["results", "verify", "--records", "run"]):
        assert main(command) == 0, capsys.readouterr().err


def test_a_repetition_on_the_cpu_counts_as_the_recipe_of_the_package(tree, published, monkeypatch, capsys):
    """Its precision is auto as well, and it computes in the one that auto chose for the run that it repeats."""
    published("train", "test")
    recipe = load_recipe("lenet5").replace(name="known", dataset="cifar10", epochs=1, validation_size=0.25)
    monkeypatch.setattr("alexnet_course.recipes._by_name", lambda budget: {"known": recipe})
    images = moved_images(recipe, f"folder:{tree}")
    fit(recipe, progress=False, device="cpu", out="run", **images)
    assert main(["reproduce", "run", "--data", f"folder:{tree}", "--device", "cpu", "--out", "again"]) == 0
    assert load_run("again")[1].recipe == load_run("run")[1].recipe
    assert main(["results", "--add", "again"]) == 0, capsys.readouterr().err


# --- Runs that stop and go on ----------------------------------------------------------------------------------------


@pytest.fixture
def stop(monkeypatch):
    """Lets a signal arrive in step ``number`` of a run, once."""

    def arrange(number: int, kind: signal.Signals = signal.SIGINT) -> None:
        take_step = Trainer.step
        steps = []

        def step(trainer: Trainer, *batch: object) -> None:
            take_step(trainer, *batch)
            steps.append(1)
            if len(steps) == number:
                signal.raise_signal(kind)

        monkeypatch.setattr(Trainer, "step", step)

    before = {kind: signal.signal(kind, signal.default_int_handler) for kind in (signal.SIGINT, signal.SIGTERM)}
    yield arrange  # in a shell's background job Ctrl-C would be ignored
    for kind, handler in before.items():
        signal.signal(kind, handler)


def three_epochs(tree: Path, *more: str) -> list[str]:
    """18 of 24 images, 4 at a time: 4 steps an epoch, after each of which the run is saved."""
    return ["train", "lenet5", "--data", f"folder:{tree}", "--out", "run", *SMALL, "--epochs", "3", "--batch-size", "4",
            "--checkpoint-seconds", "0", *more]  # fmt: skip


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_says_so_in_one_sentence_and_can_be_resumed(tree, stop, capsys, kind, status):
    stop(6, kind)
    assert main(three_epochs(tree)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == (
        f"alexnet-course: Stopped by {kind.name} at step 6 of 12; the run is in run, resume it to go on."
    )
    assert main(["resume", "run", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[0] == "resuming run at step 6 of 12"
    record = json.loads(Path("run", "record.json").read_text())
    assert out.startswith(f"test accuracy {record['test_accuracy']:.2%}")
    assert len(record["history"]) == 3
    assert main(["resume", "run", "--device", "cpu"]) == 2
    assert "'run' holds a finished run, so there is nothing to resume" in capsys.readouterr().err


def test_the_same_command_again_goes_on_and_then_prints_the_result_again(tree, stop, capsys):
    stop(6)
    assert main(three_epochs(tree)) == 130
    capsys.readouterr()
    assert main(three_epochs(tree)) == 0
    result, err = capsys.readouterr()
    assert "resuming run at step 6 of 12" in err
    weights, record = Path("run", "weights.safetensors").read_bytes(), Path("run", "record.json").read_bytes()
    assert main(three_epochs(tree)) == 0
    again, err = capsys.readouterr()
    assert again == result
    assert "run already holds this run, finished" in err
    assert Path("run", "weights.safetensors").read_bytes() == weights
    assert Path("run", "record.json").read_bytes() == record


def test_a_run_whose_images_were_moved_can_be_resumed(tree, tmp_path, stop, capsys):
    stop(6)
    shutil.copytree(tree, tmp_path / "before")
    assert main(three_epochs(tmp_path / "before")) == 130
    (tmp_path / "before").rename(tmp_path / "after")
    assert main(["resume", "run", "--device", "cpu"]) == 2  # they are not where they were
    assert "before" in capsys.readouterr().err.splitlines()[-1]
    assert main(["resume", "run", "--device", "cpu", "--data", f"folder:{tmp_path / 'after'}"]) == 0
    assert capsys.readouterr().out.startswith("test accuracy ")


def test_a_run_can_be_resumed_without_its_speed_ups(tree, stop, monkeypatch, capsys):
    stop(6)
    assert main(three_epochs(tree, "--compiled-pools")) == 130
    monkeypatch.setattr(torch, "compile", None)  # as on a machine without a compiler
    assert main(["resume", "run", "--device", "cpu", "--plain"]) == 0
    assert "compiled_pools was True" in capsys.readouterr().err
    assert json.loads(Path("run", "record.json").read_text())["environment"].get("compiled_pools") is None


def test_a_run_on_a_relative_path_says_from_elsewhere_where_to_give_it(tree, tmp_path, stop, monkeypatch, capsys):
    shutil.copytree(tree, "images")
    for out in ("done", "run"):
        if out == "run":
            stop(6)
        main([*three_epochs(Path("images")), "--out", out])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    capsys.readouterr()
    for command in (["resume", "../run"], ["evaluate", "../done"], ["reproduce", "../done"]):
        assert main([*command, "--device", "cpu"]) == 2
        assert capsys.readouterr().err == (
            "alexnet-course: There is no folder 'images' here, where the images should be; say where they are now with "
            "--data, as in --data folder:PATH.\n"
        )
        assert main([*command, "--device", "cpu", "--data", "folder:nowhere"]) == 2
        assert "check the path after 'folder:'" in capsys.readouterr().err
    assert main(["evaluate", "../done", "--data", "folder:../images"]) == 0


def test_home_is_expanded_wherever_a_run_or_a_recipe_is_named(tree, tmp_path, monkeypatch, stop, capsys):
    """bash leaves it to us in --out=~/run."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mine.toml").write_text('model = "lenet5"\n')
    stop(6)
    command = [argument for argument in three_epochs(tree) if argument not in ("--out", "run", "lenet5")]
    assert main([*command, "~/mine.toml", "--out=~/run"]) == 130
    assert main(["resume", "~/run", "--device", "cpu"]) == 0
    assert "record in home/run/record.json" in capsys.readouterr().out
    assert main(["evaluate", "~/run"]) == 0
    assert main(["reproduce", "~/run", "--device", "cpu", "--out=~/again"]) == 0
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["again", "mine.toml", "run"]
    assert not Path("~").exists()


def test_checkpoints_come_every_so_many_steps_if_asked_for(tree, monkeypatch, stop):
    saved = []
    save = RunFolder.save
    monkeypatch.setattr(RunFolder, "save", lambda folder, state, step: saved.append(step) or save(folder, state, step))
    stop(7)
    assert main(three_epochs(tree, "--checkpoint-steps", "3")) == 130
    assert saved == [3, 4, 7, 7]  # in the epoch, at its end, in the next one, and because of the signal
    saved.clear()
    every = ["--checkpoint-steps", "2", "--checkpoint-seconds", "0"]
    assert main(["resume", "run", "--device", "cpu", *every]) == 0
    assert saved == [8, 8, 10, 12, 12]


def test_the_curves_are_written_for_tensorboard_if_asked_for(tree):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed; run pip install tensorboard")
    assert main(three_epochs(tree, "--tensorboard")) == 0
    (events,) = Path("run", "tensorboard").iterdir()
    assert b"val_accuracy" in events.read_bytes()
    assert load_run("run")[1].recipe.epochs == 3


def test_a_warning_is_one_sentence_without_the_place_in_the_code(tree, monkeypatch, capsys):
    save = RunFolder.save

    def full_for_a_while(folder: RunFolder, state: dict[str, object], step: int) -> None:
        if step < 12:
            raise OSError(28, "No space left on device")
        save(folder, state, step)

    monkeypatch.setattr(RunFolder, "save", full_for_a_while)
    assert main(three_epochs(tree)) == 0
    err = capsys.readouterr().err
    said = [line for line in err.splitlines() if "could not be saved" in line]
    assert said == [
        f"alexnet-course: The checkpoint of step {step} could not be saved in run ([Errno 28] No space left on "
        "device); training continues, so free some space before it ends."
        for step in (4, 8)
    ]
    assert "UserWarning" not in err
    assert ".py" not in err


def test_a_run_that_diverges_exits_1_with_one_sentence(tree, capsys):
    wild = ["--lr", "100", "--epochs", "30", "--set", "schedule=constant", "--set", "momentum=0.99"]
    assert main(["train", "cnn4", "--data", f"folder:{tree}", *SMALL, *wild, "--set", "validation_size=0.2"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("alexnet-course: The loss became")
