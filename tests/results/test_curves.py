"""The published curves say what S3's logs say, and ours are compared with them epoch by epoch."""

import tomllib
from types import SimpleNamespace

import pytest
import torch

from alexnet_course.errors import CourseError
from alexnet_course.optim import ends_early, make_schedule
from alexnet_course.recipes import list_recipes, load_recipe
from alexnet_course.records.curves import CURVES, TOLERANCE, Curve, difference, drops, list_curves, published_curve
from alexnet_course.results.table import PUBLISHED_FILE

TOY = Curve("toy", "nowhere", (1, 2, 3), (0.5, 0.7, 0.7))


def record(*accuracies, name="toy", first=1):
    """A record of a run with these validation accuracies."""
    history = [SimpleNamespace(epoch=epoch, val_accuracy=value) for epoch, value in enumerate(accuracies, start=first)]
    return SimpleNamespace(recipe=SimpleNamespace(name=name), history=history)


def test_every_curve_is_that_of_a_recipe():
    assert len(list_curves()) == 9
    assert set(list_curves()) <= set(list_recipes())
    assert published_curve("alexnet-cifar-3x3.modern") is None
    assert published_curve(list_curves()[0], run=2) is None


def test_the_folder_says_where_its_figures_are_from():
    text = (CURVES / "SOURCES.md").read_text(encoding="utf-8")
    columns = {name for path in CURVES.glob("*.csv") for name in path.read_text("utf-8").splitlines()[1].split(",")}
    assert [name for name in columns if f"`{name}`" not in text] == []
    assert "github.com/jackwang0108/AlexNet" in text


@pytest.mark.parametrize("name", list_curves())
def test_the_figures_are_whole(name):
    curve = published_curve(name)
    assert curve.source.startswith("github.com/jackwang0108/AlexNet, branch v")
    assert curve.epochs == tuple(range(1, len(curve.epochs) + 1))
    first = "-v1." in name
    for values, there in ((curve.val_accuracy, True), (curve.test_accuracy, first), (curve.lr, not first)):
        assert len(values) == (len(curve.epochs) if there else 0)
        assert all(0 < value < 1 for value in values)


@pytest.mark.parametrize("name", [name for name in list_curves() if "-v1." not in name])
def test_the_best_is_what_the_table_of_published_results_says(name):
    figures = tomllib.loads(PUBLISHED_FILE.read_text(encoding="utf-8"))["recipes"]
    assert 100 * published_curve(name).best[1] == pytest.approx(figures[name]["accuracy"])


@pytest.mark.parametrize("name", list_curves())
def test_the_recipe_divides_the_rate_and_stops_when_the_published_run_did(name):
    """The rules of our recipe, applied to the accuracies that S3 measured."""
    curve = published_curve(name)
    epochs, rates = followed(load_recipe(name), curve.val_accuracy)
    assert epochs == len(curve.epochs)
    if curve.lr:
        assert rates == pytest.approx(curve.lr)


@pytest.mark.parametrize(
    ("name", "run", "epochs", "falls"),
    [
        # After the first fall, the first two epochs without a better accuracy, as S3's code does it.
        ("alexnet-cifar-5x5-v1.published-cifar100", 1, 95, [53, 66, 67]),
        ("alexnet-cifar-5x5-v1.published", 2, 169, [64, 90, 91]),  # the numbers of CIFAR-10 fit S3's other run
    ],
)
def test_the_first_version_divides_the_rate_again_at_once(name, run, epochs, falls):
    curve = published_curve("alexnet-cifar-5x5-v1.published-cifar100", run)
    found, rates = followed(load_recipe(name), curve.val_accuracy)
    assert found == epochs == len(curve.epochs)
    assert drops(curve.epochs, rates) == falls
    assert rates[-1] == pytest.approx(1e-5)


def followed(recipe, accuracies):
    """The epochs of a run with these validation accuracies, and the learning rate of each."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], recipe.lr)
    _, schedule = make_schedule(optimiser, recipe, 1)
    history = []
    for accuracy in accuracies:
        rate = optimiser.param_groups[0]["lr"]
        history.append({"lr": rate, "val_accuracy": accuracy, "train_accuracy": 0.0})
        if schedule:
            optimiser.step()
            schedule.step(accuracy)
        if len(history) == recipe.epochs or ends_early(recipe, history, optimiser.param_groups[0]["lr"]):
            break
    return len(history), [entry["lr"] for entry in history]


def test_of_two_runs_the_first_is_the_one_that_the_write_up_quotes():
    one, other = (published_curve("alexnet-cifar-5x5-v1.published-cifar100", run) for run in (1, 2))
    assert (one.val_accuracy[-1], one.test_accuracy[-1]) == (0.413, 0.4252)
    assert one.recipe == other.recipe
    assert one.source != other.source
    assert (one.best, other.best) == ((54, 0.4167), (68, 0.4334))
    assert 100 * (other.best[1] - one.best[1]) < TOLERANCE


def test_the_rate_falls_where_the_log_says():
    assert published_curve("alexnet-cifar-5x5-lrn.published-sgd-cifar100").drops == [148, 192]
    assert published_curve("alexnet-cifar-5x5.published-adam").drops == []
    assert published_curve("alexnet-cifar-5x5-v1.published-cifar100").drops == []  # not published
    assert drops([3, 4, 5, 6], [0.1, 0.09, 0.01, 0.001]) == [5, 6]


def test_of_equals_the_first_is_the_best():
    assert TOY.best == (2, 0.7)


def test_the_same_epochs_are_compared():
    found = difference(record(0.6, 0.65), TOY)
    assert found.epochs == ((1, 60, 50, 10), (2, 65, 70, -5))
    assert found.last.points == -5
    assert (found.ours, found.theirs, found.points) == (65, 70, -5)
    assert str(found) == "65.00 % against 70.00 %, −5.00 points: not reproduced"
    later = difference(record(0.6, 0.71, first=3), TOY)
    assert (later.last, later.ours) == ((3, 60, 70, -10), 71)  # the best may be an epoch that the other has not


@pytest.mark.parametrize(("best", "same"), [(0.68, True), (0.72, True), (0.6799, False), (0.7201, False), (0.7, True)])
def test_two_points_either_way_are_reproduced(best, same):
    assert difference(record(0.1, best), TOY).reproduces is same


def test_refuses_what_cannot_be_compared():
    with pytest.raises(CourseError, match="one of other, the curve one of toy"):
        difference(record(0.5, name="other"), TOY)
    with pytest.raises(CourseError, match="no epoch in common"):
        difference(record(0.5, first=4), TOY)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("", "IndexError"),
        ("epoch,val_accuracy\n", "IndexError"),
        ("epoch,lr\n1,0.1\n", "KeyError"),
        ("epoch,val_accuracy\n1,x\n", "ValueError"),
        ("epoch,val_accuracy\n2,0.5\n1,0.5\n", "its epochs do not rise"),
        ("epoch,val_accuracy\n1,0.5\n1,0.5\n", "its epochs do not rise"),
    ],
)
def test_a_damaged_file_is_named(rows, reason, tmp_path, monkeypatch):
    from alexnet_course.records import curves as module

    path = tmp_path / "toy.csv"
    path.write_text(f"# where from\n{rows}", encoding="utf-8")
    monkeypatch.setattr(module, "_files", lambda: {("toy", 1): path})
    with pytest.raises(CourseError, match=rf"toy\.csv is not readable as a learning curve \(.*{reason}"):
        published_curve("toy")
