import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

import alexnet_course
from alexnet_course.data.folder import KNOWN_FINGERPRINTS
from alexnet_course.errors import CourseError
from alexnet_course.models import build_model
from alexnet_course.optim import ends_early
from alexnet_course.recipe import Recipe
from alexnet_course.records import FOLDER, load_records, records_of
from alexnet_course.records.predictions import digest, load_predictions, pack
from alexnet_course.records.record import Environment, Record, dump_record, read_record, write_record
from alexnet_course.training import load_run, resume, train
from alexnet_course.training import run as run_module
from alexnet_course.training.division import image_count
from alexnet_course.training.finished import environment, save_weights
from alexnet_course.watching import fit
from benchmarks.campaign import plan


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    recipe = Recipe(model="cnn4", model_options={"lrn": True}, epochs=2, batch_size=32, validation_size=20)
    return fit(recipe, progress=False, out=tmp_path_factory.mktemp("runs") / "one", **data)


def test_a_finished_run_leaves_record_and_weights_and_nothing_else(run):
    assert sorted(path.name for path in run.out.iterdir()) == ["predictions.npy", "record.json", "weights.safetensors"]
    assert read_record(run.out / "record.json") == run.record


def test_the_record_says_what_was_run(run, data):
    record, dataset = run.record, run.record.dataset
    assert record.recipe == run.recipe
    assert record.as_dict()["recipe"] == run.recipe.as_dict()  # every key of it
    assert dataset.name == "two-colours"
    assert dataset.fingerprint == data["train_set"].fingerprint
    assert dataset.test_fingerprint == data["test_set"].fingerprint
    assert (dataset.training_images, dataset.validation_images) == (100, 20)
    assert record.seed == run.recipe.seed
    assert record.parameters == sum(weight.numel() for weight in run.model.parameters())
    assert record.environment.torch == torch.__version__
    assert record.environment.package == alexnet_course.__version__
    assert record.environment.threads == torch.get_num_threads()


def test_the_record_agrees_with_itself(run, data):
    agrees_with_itself(run.record)
    test = run.evaluate(data["test_set"])
    assert (test.accuracy, test.confusion) == (run.record.test_accuracy, run.record.confusion_matrix)


def test_the_predictions_lie_beside_the_record_in_an_order_of_the_images_themselves(run, data):
    predictions = load_predictions(run.out / "predictions.npy")
    assert predictions.dtype == "uint8"
    assert digest(predictions) == run.record.predictions
    turned = data["test_set"].subset(torch.arange(len(data["test_set"])).flip(0))
    for images in (data["test_set"], turned):
        assert pack(run.evaluate(images).predictions[images.ordered], 2).tolist() == predictions.tolist()
        labels = images.labels[images.ordered]
        counts = torch.bincount(labels * 2 + torch.tensor(predictions.tolist()), minlength=4).reshape(2, 2)
        assert counts.tolist() == run.record.confusion_matrix


@pytest.mark.parametrize(("classes", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "uint16")])
def test_predictions_take_no_more_bytes_than_their_classes_need(classes, dtype):
    packed = pack([0, classes - 1], classes)
    assert (packed.dtype, packed.tolist()) == (dtype, [0, classes - 1])


@pytest.mark.parametrize("content", [None, b"", b"no array", np.zeros(3), np.zeros((2, 2), "uint8"), np.array(["a"])])
def test_what_is_no_predictions_is_refused_by_its_name(content, tmp_path):
    path = tmp_path / "some.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(CourseError, match=r"^some\.npy "):
        load_predictions(path)


def agrees_with_itself(record):
    confusion = record.confusion_matrix
    correct = [row[i] for i, row in enumerate(confusion)]
    totals = [sum(row) for row in confusion]
    assert sum(totals) == record.dataset.test_images
    assert record.test_accuracy == sum(correct) / sum(totals)
    assert record.per_class_accuracy == {c: correct[i] / totals[i] for i, c in enumerate(record.dataset.classes)}
    low, high = record.test_accuracy_interval
    assert low <= record.test_accuracy <= high
    assert record.val_accuracy == record.history[-1].val_accuracy
    history = [asdict(entry) for entry in record.history]
    assert [entry["epoch"] for entry in history] == list(range(1, len(history) + 1))
    assert len(history) == record.recipe.epochs or ends_early(record.recipe, history)
    assert not ends_early(record.recipe, history[:-1], history[-1]["lr"])  # or it would have stopped before


def test_a_loaded_run_is_the_run(run):
    model, record = load_run(run.out)
    assert record == run.record
    pairs = zip(model.state_dict().items(), run.model.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in pairs)


def test_a_record_names_the_options_that_are_on():
    cpu = torch.device("cpu")
    assert "deterministic" not in environment(cpu, "fp32", {"deterministic": False, "compile": False})
    assert environment(cpu, "fp32", {"deterministic": True, "compile": False})["deterministic"] is True
    assert environment(cpu, "fp32", {"deterministic": False, "compile": True})["compile"] is True


def test_a_run_that_went_on_elsewhere_names_both_environments(data, tmp_path, monkeypatch):
    recipe = Recipe(model="lenet5", epochs=2, batch_size=32, validation_size=20, precision="fp32")
    first = train(recipe, out=tmp_path / "run", **data)
    next(first)
    first.close()
    here = environment(first.device, "fp32", {})
    monkeypatch.setattr(run_module, "environment", lambda *_: {**here, "threads": 99})
    with pytest.warns(UserWarning, match=r"is resumed in another environment \(threads was \d+\), so it will not be"):
        second = resume(tmp_path / "run", **data)
    list(second)
    assert second.record.environment == Environment(**{**here, "threads": 99})
    assert second.record.earlier_environments == (Environment(**here),)
    assert load_run(tmp_path / "run")[1] == second.record


def test_weights_that_the_disk_does_not_take_are_an_error_and_leave_the_old_ones(run, tmp_path, monkeypatch):
    save_weights(tmp_path, run.model)
    before = (tmp_path / "weights.safetensors").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_weights(tmp_path, run.model)
    assert (tmp_path / "weights.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda r: r.pop("history"), "history is missing."),
        (lambda r: r.update(history=[]), "history has 0 entries, but at least 1 are needed."),
        (
            lambda r: r.update(test_accuracy=80.05),
            "test_accuracy = 80.05 is out of range; it must be at least 0 and at most 1; the nearest that works is 1.",
        ),
        (lambda r: r.update(test_accuracy=True), "test_accuracy = True has the wrong type; give a finite number."),
        (lambda r: r.update(test_loss=float("nan")), "test_loss = nan has the wrong type; give a finite number."),
        (lambda r: r["history"][1].pop("lr"), "history/1/lr is missing."),
        (lambda r: r["history"][1].update(lrr=1), "'lrr' is not a key of history/1; nearest: lr."),
        (
            lambda r: r["history"][0].update(images_per_second=0),
            "history/0/images_per_second = 0 is out of range; it must be above 0.",
        ),
        (
            lambda r: r["history"][0].update(epoch="1"),
            "history/0/epoch = '1' has the wrong type; give an integer.",
        ),
        (lambda r: r["dataset"].update(name=""), "dataset/name = '' is empty; write something."),
        (lambda r: r["dataset"].update(fingerprint="?"), "dataset/fingerprint = '?' does not match ^[0-9a-f]{16,}$."),
        (lambda r: r["dataset"].update(classes=["a", "a"]), "dataset/classes = ['a', 'a'] names 'a' twice."),
        (lambda r: r.update(dataset=3), "dataset = 3 has the wrong type; give a table."),
        (lambda r: r.pop("budget"), "budget is missing."),
        (lambda r: r.update(budget="gpu"), "budget = 'gpu' is not a choice; nearest: cpu."),
        (lambda r: r.update(schema="other"), "schema = 'other' must be 'alexnet-course/record-1'."),
        (lambda r: r.update(extra=1), "'extra' is not a key of a record; nearest: "),
        (
            lambda r: r["confusion_matrix"][1].append(-1),
            "confusion_matrix/1/2 = -1 is out of range; it must be at least",
        ),
        (lambda r: r["per_class_accuracy"].update(red=2), "per_class_accuracy/red = 2 is out of range; it must be at"),
        (
            lambda r: r["recipe"].update(lr=5000),
            "recipe: lr = 5000 is out of range; it must be above 0 and at most 100",
        ),
        (lambda r: r["recipe"].pop("lr"), "recipe: lr is missing."),
        (lambda r: r.update(recipe=[]), "recipe = [] has the wrong type; give a table."),
        (
            lambda r: r["environment"].update(precision="int8"),
            "environment/precision = 'int8' is not a choice; nearest: ",
        ),
        (lambda r: r["environment"].pop("git_commit"), "environment/git_commit is missing."),
    ],
)
def test_a_record_of_another_form_is_refused_with_the_place(run, damage, sentence):
    values = run.record.as_dict()
    damage(values)
    with pytest.raises(CourseError) as caught:
        Record.from_dict(values)
    assert str(caught.value).startswith(f"the record is not a record of this course: {sentence}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [[], 3, None, "record"])
def test_what_is_no_table_is_no_record(values):
    with pytest.raises(CourseError, match=r"^the record is not a record of this course: .* is not a table\.$"):
        Record.from_dict(values)


def test_a_record_cannot_be_changed_but_copied_with_changes_that_are_checked(run):
    with pytest.raises(AttributeError, match="val_accuracy cannot be set; copy the Record"):
        run.record.val_accuracy = 0.5
    changed = run.record.replace(val_accuracy=0.5)
    assert changed != run.record
    assert changed.replace(val_accuracy=run.record.val_accuracy) == run.record
    with pytest.raises(CourseError, match="val_accuracy = 5 is out of range"):
        run.record.replace(val_accuracy=5)


def test_damaged_folders_are_refused_in_one_sentence(run, tmp_path):
    with pytest.raises(CourseError, match=r"has no record\.json; give the folder of a finished run"):
        load_run(tmp_path)
    weights = (run.out / "weights.safetensors").read_bytes()
    (tmp_path / "record.json").write_text((run.out / "record.json").read_text())
    (tmp_path / "weights.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CourseError, match="does not hold the weights of 'cnn4'"):
        load_run(tmp_path)
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(CourseError, match="not readable as JSON"):
        load_run(tmp_path)


def test_a_dumped_record_is_json_with_one_line_an_epoch(run):
    text = dump_record(run.record)
    assert json.loads(text) == run.record.as_dict()
    assert sum(line.startswith('  {"epoch"') for line in text.splitlines()) == 2


# The campaign goes on adding to them, so that there may be none yet.
RECORDED = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_record_of_the_package_fits_the_package_and_itself(path):
    record = read_record(path)
    assert dump_record(record) == path.read_text(encoding="utf-8")
    agrees_with_itself(record)
    recipe, dataset = record.recipe, record.dataset
    assert path.name == f"{recipe.run_name}.json"
    assert (record.budget, record.seed) == (recipe.budget, recipe.seed)
    assert (record.augmented_test_accuracy is not None) == recipe.augmented_test
    outputs = recipe.outputs or len(dataset.classes)
    with torch.device("meta"):
        model = build_model(recipe.model, outputs, in_channels=len(dataset.mean), **recipe.model_options)
    assert record.parameters == sum(weight.numel() for weight in model.parameters())
    assert KNOWN_FINGERPRINTS[dataset.fingerprint] == recipe.dataset == dataset.name
    assert KNOWN_FINGERPRINTS[dataset.test_fingerprint] == recipe.dataset
    held_out = image_count("validation_size", recipe.validation_size, 50_000)
    assert (dataset.validation_images, dataset.test_images) == (held_out, 10_000)
    rest = 50_000 - held_out
    used = rest if recipe.train_size == 1 else image_count("train_size", recipe.train_size, rest)
    assert dataset.training_images == used


# Those of the budget "cpu" stay until the evening's successor of each is recorded, and no recipe makes them any more.
PLANNED = [path for path in RECORDED if "-cpu-" not in path.stem]


@pytest.mark.slow
@pytest.mark.parametrize("path", PLANNED, ids=lambda path: path.stem)
def test_every_record_of_the_package_is_of_a_run_that_it_still_has(path):
    """A recipe that was changed after its run would have the course state what nobody can make again."""
    recipe = read_record(path).recipe
    (now,) = (one for one in plan("long", 1) if (one.name, one.budget) == (recipe.name, recipe.budget))
    assert recipe == now.replace(seed=recipe.seed)


def test_no_network_has_both_an_evening_and_what_it_replaces():
    names = {path.stem for path in RECORDED}
    assert not [name for name in names if "-cpu-" in name and name.replace("-cpu-", "-evening-") in names]


def test_load_records_names_the_file_that_is_damaged(run, tmp_path):
    (tmp_path / "good.json").write_text(dump_record(run.record))
    assert load_records(tmp_path) == [run.record]
    (tmp_path / "torn.json").write_text("{")
    with pytest.raises(CourseError, match=r"torn\.json is not readable"):
        load_records(tmp_path)


def test_our_alexnet_beats_the_published_one_on_real_cifar10():
    """S0 published 80.05 % for this network."""
    for record in records_of("alexnet-cifar-3x3.modern"):
        assert KNOWN_FINGERPRINTS[record.dataset.fingerprint] == "cifar10"
        assert record.parameters == 57_023_306
        assert record.test_accuracy > 0.8005


# --- The records of one recipe ---------------------------------------------------------------------------------------


@pytest.fixture
def recorded(run, tmp_path):
    """Writes records of made-up runs to a folder."""

    def write(name: str, budget: str, seed: int) -> Record:
        recipe = run.record.recipe.replace(name=name, budget=budget, seed=seed)
        record = run.record.replace(recipe=recipe, budget=budget, seed=seed)
        write_record(tmp_path / f"{recipe.run_name}.json", record)
        return record

    return write


def test_the_records_of_a_recipe_come_by_seed(recorded, tmp_path):
    for seed in (10, 2, 0):  # as file names, 10 comes before 2
        recorded("mine", "long", seed)
    recorded("mine.too", "long", 1)
    recorded("min", "long", 1)
    assert [record.seed for record in records_of("mine", tmp_path)] == [0, 2, 10]
    assert {record.recipe.name for record in records_of("mine", tmp_path)} == {"mine"}
    assert records_of("m", tmp_path) == []


def test_evening_runs_are_given_only_where_there_is_no_long_one(recorded, tmp_path):
    evening = [recorded("mine", "evening", seed) for seed in (0, 1)]
    recorded("other", "long", 0)
    assert records_of("mine", tmp_path) == evening
    long = recorded("mine", "long", 1)
    assert records_of("mine", tmp_path) == [long]


@pytest.mark.parametrize("budget", ["long", "evening"])
def test_a_record_says_its_budget(data, budget):
    recipe = Recipe(model="lenet5", epochs=1, batch_size=50, validation_size=20, precision="fp32", budget=budget)
    record = fit(recipe, progress=False, **data).record
    assert record.budget == record.recipe.budget == budget
