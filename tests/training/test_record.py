import copy
import json

import pytest
import torch
from safetensors import SafetensorError

import alexnet_course
from alexnet_course.errors import CourseError
from alexnet_course.models import MODELS
from alexnet_course.records import check_record, load_records
from alexnet_course.training import Recipe, fit, load_run, loop, resume, train
from alexnet_course.training.record import dump_record, environment, save_weights


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    recipe = Recipe(model="cnn4", model_options={"lrn": True}, epochs=2, batch_size=32, validation_size=20)
    return fit(recipe, progress=False, out=tmp_path_factory.mktemp("runs") / "one", **data)


def test_a_finished_run_leaves_record_and_weights_and_nothing_else(run):
    assert sorted(path.name for path in run.out.iterdir()) == ["record.json", "weights.safetensors"]
    assert json.loads((run.out / "record.json").read_text()) == run.record


def test_the_record_says_what_was_run(run, data):
    record = run.record
    assert record["recipe"] == run.recipe.as_dict()
    assert Recipe.from_dict(record["recipe"]) == run.recipe
    assert record["dataset"]["name"] == "two-colours"
    assert record["dataset"]["fingerprint"] == data["train_set"].fingerprint
    assert record["dataset"]["test_fingerprint"] == data["test_set"].fingerprint
    assert (record["dataset"]["training_images"], record["dataset"]["validation_images"]) == (100, 20)
    assert record["seed"] == run.recipe.seed
    assert record["parameters"] == sum(weight.numel() for weight in run.model.parameters())
    assert record["environment"]["torch"] == torch.__version__
    assert record["environment"]["package"] == alexnet_course.__version__
    assert record["environment"]["threads"] == torch.get_num_threads()


def test_the_record_agrees_with_itself(run, data):
    agrees_with_itself(run.record)
    test = run.evaluate(data["test_set"])
    assert (test.accuracy, test.confusion) == (run.record["test_accuracy"], run.record["confusion_matrix"])


def agrees_with_itself(record):
    confusion = record["confusion_matrix"]
    correct = [row[i] for i, row in enumerate(confusion)]
    totals = [sum(row) for row in confusion]
    assert sum(totals) == record["dataset"]["test_images"]
    assert record["test_accuracy"] == sum(correct) / sum(totals)
    classes = record["dataset"]["classes"]
    assert record["per_class_accuracy"] == {c: correct[i] / totals[i] for i, c in enumerate(classes)}
    low, high = record["test_accuracy_interval"]
    assert low <= record["test_accuracy"] <= high
    assert record["val_accuracy"] == record["history"][-1]["val_accuracy"]
    assert [entry["epoch"] for entry in record["history"]] == list(range(1, record["recipe"]["epochs"] + 1))


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
    monkeypatch.setattr(loop, "environment", lambda *_: {**here, "threads": 99})
    with pytest.warns(UserWarning, match=r"goes on in another environment \(threads was \d+\), so it will not be the"):
        second = resume(tmp_path / "run", **data)
    list(second)
    assert second.record["environment"] == {**here, "threads": 99}
    assert second.record["earlier_environments"] == [here]
    assert load_run(tmp_path / "run")[1] == second.record


def test_weights_that_the_disk_does_not_take_are_an_error_and_leave_the_old_ones(run, tmp_path, monkeypatch):
    save_weights(tmp_path, run.model)
    before = (tmp_path / "weights.safetensors").read_bytes()

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_weights(tmp_path, run.model)
    assert (tmp_path / "weights.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: r.pop("history"), "at its top level, 'history' is a required property"),
        (lambda r: r.update(test_accuracy=80.05), "at test_accuracy, 80.05 is greater than the maximum of 1"),
        (lambda r: r["history"][1].pop("lr"), "at history/1, 'lr' is a required property"),
        (lambda r: r["dataset"].update(fingerprint="?"), "at dataset/fingerprint, '\\?' does not match"),
        (lambda r: r.update(schema="other"), "at schema, 'alexnet-course/record-1' was expected"),
        (lambda r: r.update(extra=1), r"at its top level, Additional properties .*'extra' was unexpected"),
    ],
)
def test_a_record_of_another_form_is_refused_with_the_place(run, damage, message):
    record = copy.deepcopy(run.record)
    damage(record)
    with pytest.raises(CourseError, match=message):
        check_record(record)


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
    assert json.loads(text) == run.record
    assert sum(line.startswith('  {"epoch"') for line in text.splitlines()) == 2


def test_the_package_s_records_fit_the_package_and_themselves():
    records = load_records()
    assert records, "the course has results"
    for record in records:
        agrees_with_itself(record)
        recipe = Recipe.from_dict(record["recipe"])
        if not recipe.model_options:
            assert record["parameters"] == MODELS[recipe.model].parameters
        assert record["dataset"]["validation_images"] == 5000


def test_load_records_names_the_file_that_is_damaged(run, tmp_path):
    (tmp_path / "good.json").write_text(dump_record(run.record))
    assert load_records(tmp_path) == [run.record]
    (tmp_path / "torn.json").write_text("{")
    with pytest.raises(CourseError, match=r"torn\.json is not readable"):
        load_records(tmp_path)


def test_our_alexnet_beats_the_published_one_on_real_cifar10():
    """S0 published 80.05 % for this network; the fingerprint proves that the run saw the real pictures."""
    from alexnet_course.data.folder import KNOWN_FINGERPRINTS

    runs = [
        r for r in load_records() if r["recipe"]["model"] == "alexnet-cifar-3x3" and r["dataset"]["name"] == "cifar10"
    ]
    assert runs
    for record in runs:
        assert KNOWN_FINGERPRINTS[record["dataset"]["fingerprint"]] == "cifar10"
        assert KNOWN_FINGERPRINTS[record["dataset"]["test_fingerprint"]] == "cifar10"
        assert record["parameters"] == 57_023_306
        assert record["test_accuracy"] > 0.8005
